//! How a Machine ended, and whether one of its jobs may have brought it down.

use midge_protocol::exit;

/// What the end of a Machine means for its jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Whether one of them may have taken it down.
    pub end: MachineEnd,
    /// What is known of its end, for people.
    pub note: String,
}

/// Whether a job may have brought its Machine down, by how that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MachineEnd {
    /// It was the Machine's own, and no job's doing: it was told to stop, left in good order, was destroyed, or its server
    /// host failed.
    Own,
    /// It was seen to crash: its host exited with a failure, or its memory was used up.
    Crashed,
    /// Nobody can say why: its host was killed from outside, or was not heard of for a lease.
    Unexplained,
}

/// How a Machine's program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The program's exit code, where the Machines API tells one.
    pub code: Option<i32>,
    /// Whether the program was killed because the Machine's memory was used up.
    pub oom_killed: bool,
    /// Whether the Machine was told to stop.
    pub requested: bool,
}

impl Exit {
    /// Returns whether the Machine's own work may have brought it down.
    pub fn end(&self) -> MachineEnd {
        match self.code {
            // Out of memory it would not have lived long, whatever it was told.
            _ if self.oom_killed => MachineEnd::Crashed,
            _ if self.requested => MachineEnd::Own,
            Some(code) if exit::is_orderly(code) => MachineEnd::Own,
            None | Some(exit::SIGKILL | exit::KILLED) => MachineEnd::Unexplained,
            Some(_) => MachineEnd::Crashed,
        }
    }

    /// Returns whether the Machine may be started again: it left, or was told to stop.
    pub(super) fn is_clean(&self) -> bool {
        !self.oom_killed && (self.requested || self.code == Some(exit::LEFT))
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.oom_killed, self.code) {
            (true, _) => f.write_str("its Machine ran out of memory"),
            (false, Some(exit::SIGKILL)) => f.write_str("its Machine's host was killed"),
            (false, Some(code)) => write!(f, "its Machine's host exited with {code}"),
            (false, None) => f.write_str("its Machine stopped"),
        }
    }
}
