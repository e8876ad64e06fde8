//! What a Machine is asked to be, and what it is seen to be.

use std::collections::BTreeMap;
use std::fmt;

use midge_protocol::manifest::MachineSize;
use midge_protocol::{MachineId, MachineName, Timestamp};

/// What a Machine is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineSpec {
    /// Its name, unique in the app: what makes a repeated create find the Machine of the first.
    pub name: MachineName,
    /// Where, in Fly's words: a region, or several in order such as `iad,us,any`. Near the API where missing.
    pub region: Option<String>,
    /// The image, as a full reference.
    pub image: String,
    /// The program and its arguments, instead of the image's own.
    pub exec: Vec<String>,
    /// Its env. It stands in the Machine's config for all to read who can read that.
    pub env: BTreeMap<String, String>,
    /// CPUs and memory.
    pub size: MachineSize,
    /// Labels, to find it by. Keys that begin with `fly_` are refused: a deploy would take the Machine over.
    pub metadata: BTreeMap<String, String>,
}

/// Whether a new Machine is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launch {
    /// At once.
    Now,
    /// Not yet: it is prepared, and rests stopped until it is started.
    Later,
}

/// One entry of a Machine's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
}

impl Label {
    /// Makes a label.
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Label {
        Label { key: key.into(), value: value.into() }
    }
}

/// A Machine as the API last saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its id.
    pub id: MachineId,
    /// Its name, which is not ours where somebody else made the Machine.
    pub name: String,
    /// Its state.
    pub state: SeenState,
    /// How its last run ended, where that is over and known.
    pub exit: Option<SeenExit>,
    /// Its labels. Guests cannot change them, but whoever is root in the Machine can.
    pub metadata: BTreeMap<String, String>,
    /// Whether its server host answers. Where it does not, state and metadata may be old or missing.
    pub reachable: bool,
    /// The region it is in.
    pub region: String,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// When it last changed.
    pub updated_at: Option<Timestamp>,
}

/// How a Machine's program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenExit {
    /// Its exit code; 128 and the signal's number where a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether the Machine ran out of memory.
    pub oom_killed: bool,
    /// Whether it was asked to stop.
    pub requested_stop: bool,
    /// Why it could not be run, where it was not.
    pub error: Option<String>,
    /// When.
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
    /// Reads Fly's word for a state. One that is not known is kept as it is.
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
