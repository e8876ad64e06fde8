//! What SQL may search and count jobs by.

use midge_protocol::Timestamp;
use midge_protocol::job::State;

/// What SQL may search and count by: a job's public state without the part that depends on the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Waiting, and has not failed: scheduled or available.
    Fresh = 0,
    /// Waiting after a failure or a snooze: retryable or available.
    Retrying = 1,
    /// Running.
    Running = 2,
    /// Completed.
    Completed = 3,
    /// Cancelled.
    Cancelled = 4,
    /// Discarded.
    Discarded = 5,
    /// Waiting, due, and out of its line until its module starts jobs again: available.
    Held = 6,
    /// Waiting for other jobs, in no line.
    Pending = 7,
}

impl Phase {
    /// All phases, each at the index that is its number.
    pub const ALL: [Phase; 8] = [
        Phase::Fresh,
        Phase::Retrying,
        Phase::Running,
        Phase::Completed,
        Phase::Cancelled,
        Phase::Discarded,
        Phase::Held,
        Phase::Pending,
    ];

    /// Returns whether a job in it waits, due or not.
    pub const fn is_waiting(self) -> bool {
        matches!(self, Phase::Fresh | Phase::Retrying | Phase::Held | Phase::Pending)
    }

    /// Returns whether a job in it waits to be claimed, now or when it is due.
    pub const fn is_in_line(self) -> bool {
        matches!(self, Phase::Fresh | Phase::Retrying)
    }

    /// Returns the public state, at a time, of a job in this phase that is due, or was last, at another.
    pub fn state(self, due: Timestamp, now: Timestamp) -> State {
        match self {
            Phase::Fresh | Phase::Retrying if due <= now => State::Available,
            Phase::Fresh => State::Scheduled,
            Phase::Retrying => State::Retryable,
            // Only what is due is held.
            Phase::Held => State::Available,
            Phase::Pending => State::Pending,
            Phase::Running => State::Running,
            Phase::Completed => State::Completed,
            Phase::Cancelled => State::Cancelled,
            Phase::Discarded => State::Discarded,
        }
    }
}
