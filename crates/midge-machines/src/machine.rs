//! What a Machine is asked to be, and what it is seen to be.

use std::collections::BTreeMap;
use std::fmt;

use midge_protocol::manifest::MachineSize;
use midge_protocol::{MachineId, MachineName, Timestamp};

/// What a Machine is to be made from. Some of what Fly would take is refused, as said at the fields, since it would
/// not do what the caller thinks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineSpec {
    /// Its name, unique in the app: what makes a repeated create find the Machine of the first.
    pub name: MachineName,
    /// Where it is made, in Fly's words: a region, or several in the order of preference such as `iad,us,any`.
    /// Without one it is near the API.
    pub region: Option<String>,
    /// The full reference of the image, such as `registry.fly.io/my-app@sha256:...`.
    pub image: String,
    /// The program and its arguments, instead of the image's own. None is refused.
    pub exec: Vec<String>,
    /// The program's env. Whoever can read the Machine's config can read it. Names that begin with `FLY_` are
    /// refused: the platform sets them.
    pub env: BTreeMap<String, String>,
    /// Whether it has the secrets of its app: all of them, whatever they are for.
    pub has_secrets: bool,
    /// Its CPUs and memory. A size that Fly does not sell is refused by the API.
    pub size: MachineSize,
    /// The labels that it can be found by. Keys that begin with `fly_` are refused: a deploy would take the Machine
    /// over.
    pub metadata: BTreeMap<String, String>,
}

/// Whether a new Machine is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launch {
    /// It is started as soon as it is made.
    Now,
    /// It is prepared, and rests stopped until it is started.
    Later,
}

/// One entry of a Machine's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The key, such as `midge_queue`.
    pub key: String,
    /// The value. A Machine carries the label only if its value is exactly this.
    pub value: String,
}

impl Label {
    /// Makes a label of a key and a value.
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Label {
        Label { key: key.into(), value: value.into() }
    }
}

/// A Machine as the API last saw it. Another look may see more, or see less.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The id that the API gave the Machine.
    pub id: MachineId,
    /// Its name in the app. It follows no rule of ours where somebody else made the Machine.
    pub name: String,
    /// Its state when the API looked.
    pub state: SeenState,
    /// How its last run ended, where that is over and the API tells.
    pub exit: Option<SeenExit>,
    /// Its labels. Guests cannot change them, but whoever is root in the Machine can.
    pub metadata: BTreeMap<String, String>,
    /// Whether its server host answers. Where it does not, state and metadata may be old or missing.
    pub reachable: bool,
    /// The region that it is in, such as `iad`.
    pub region: String,
    /// The time when it was made, where the API tells it in a form that is understood.
    pub created_at: Option<Timestamp>,
    /// The time of its last change, where the API tells it in a form that is understood.
    pub updated_at: Option<Timestamp>,
}

/// How a Machine's program ended, as read from Fly's [`ExitEvent`](crate::wire::ExitEvent).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenExit {
    /// The program's exit code; 128 and the signal's number where a signal ended it.
    pub code: Option<i32>,
    /// The number of the signal that ended the program, where one did.
    pub signal: Option<i32>,
    /// Whether the kernel ended the program because memory had run out.
    pub oom_killed: bool,
    /// Whether the Machine had been asked to stop.
    pub requested_stop: bool,
    /// Why the program could not be run, where it was not.
    pub error: Option<String>,
    /// The time of its end, where the API tells.
    pub at: Option<Timestamp>,
}

/// A Machine's state, in Fly's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeenState {
    /// It is there, and cannot be started yet.
    Created,
    /// It is being made.
    Creating,
    /// Its program is about to run.
    Starting,
    /// Its program runs.
    Started,
    /// Its program was asked to stop.
    Stopping,
    /// Its program ended. It can be started.
    Stopped,
    /// Its program ended and is about to run again.
    Restarting,
    /// Its memory is being written away.
    Suspending,
    /// Its memory was written away. It can be started.
    Suspended,
    /// It is given a new config.
    Updating,
    /// It is given a new config by being made anew.
    Replacing,
    /// This version of it was replaced.
    Replaced,
    /// It was moved to another server host.
    Migrated,
    /// It is going away.
    Destroying,
    /// It is gone.
    Destroyed,
    /// It could not be started.
    Failed,
    /// It could not be started the first time, and is going away.
    LaunchFailed,
    /// A word that this release does not know.
    Other(String),
}

/// Each state that has a name, with Fly's word for it.
const WORDS: [(SeenState, &str); 17] = [
    (SeenState::Created, "created"),
    (SeenState::Creating, "creating"),
    (SeenState::Starting, "starting"),
    (SeenState::Started, "started"),
    (SeenState::Stopping, "stopping"),
    (SeenState::Stopped, "stopped"),
    (SeenState::Restarting, "restarting"),
    (SeenState::Suspending, "suspending"),
    (SeenState::Suspended, "suspended"),
    (SeenState::Updating, "updating"),
    (SeenState::Replacing, "replacing"),
    (SeenState::Replaced, "replaced"),
    (SeenState::Migrated, "migrated"),
    (SeenState::Destroying, "destroying"),
    (SeenState::Destroyed, "destroyed"),
    (SeenState::Failed, "failed"),
    (SeenState::LaunchFailed, "launch_failed"),
];

impl SeenState {
    /// Reads Fly's word for a state. A word that is not known becomes [`SeenState::Other`].
    pub fn from_word(word: &str) -> SeenState {
        match WORDS.iter().find(|(_, known)| *known == word) {
            Some((state, _)) => state.clone(),
            None => SeenState::Other(word.to_owned()),
        }
    }

    /// Returns Fly's word for the state.
    pub fn as_str(&self) -> &str {
        match self {
            SeenState::Other(word) => word,
            known => {
                let word = WORDS.iter().find(|(state, _)| state == known);
                word.expect("every state but Other is in WORDS").1
            }
        }
    }

    /// Returns whether the Machine is gone or on its way to be, and will never run again.
    pub fn is_gone(&self) -> bool {
        matches!(self, SeenState::Destroying | SeenState::Destroyed | SeenState::LaunchFailed)
    }
}

impl fmt::Display for SeenState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_reads_as_it_is_written_and_unknown_words_survive() {
        for (state, word) in WORDS {
            assert_eq!(state.as_str(), word);
            assert_eq!(SeenState::from_word(word), state);
        }
        assert_eq!(SeenState::from_word("hatching").to_string(), "hatching");
    }
}
