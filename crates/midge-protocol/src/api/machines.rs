//! What the API gives about Machines.

use serde::{Deserialize, Serialize};

use crate::{MachineId, MachineName, QueueName, Timestamp};

/// A Machine as `GET /v1/machines` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineView {
    /// midge's name for it.
    pub name: MachineName,
    /// The Machines API's id, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<MachineId>,
    /// The queue that it serves.
    pub queue: QueueName,
    /// The Machine's state in a word, such as `up`.
    pub state: String,
    /// Whether it rests suspended, and goes on where it was once it is started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
    /// The time from which it has been in that state, or of the last answer to a call about it.
    pub since: Timestamp,
    /// The time at which its host was last heard of, to about a second; nothing before the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_at: Option<Timestamp>,
    /// The number of jobs that run in the Machine.
    pub running: u32,
    /// The number of attempts that the Machine was given in all.
    pub attempts: u64,
    /// The generation it was made from.
    pub generation: String,
    /// Why it went away or failed, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl MachineView {
    /// Returns its state as people are shown it.
    pub fn state_in_words(&self) -> String {
        if self.suspended { format!("{}, suspended", self.state) } else { self.state.clone() }
    }

    /// Returns whether the Machine is destroyed, and shown only so that people see what became of it.
    pub fn is_gone(&self) -> bool {
        self.state == "gone"
    }
}

/// The answer of `GET /v1/machines`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machines {
    /// All Machines, newest first, with those that went away in the last minutes.
    pub machines: Vec<MachineView>,
}
