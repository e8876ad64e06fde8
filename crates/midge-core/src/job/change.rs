//! How the job of a change goes on: it waits, or has ended.

use midge_protocol::Timestamp;

use super::{Change, Ending, JobState};

impl Change {
    /// An attempt ended by itself, and its Machine stands.
    pub(super) fn cleared(mut self) -> Change {
        self.job.is_cleared();
        self.job.in_vain = 0;
        self
    }

    pub(super) fn waiting(mut self, due: Timestamp) -> Change {
        self.job.state = JobState::Waiting { due };
        self
    }

    pub(super) fn ended(mut self, how: Ending, now: Timestamp) -> Change {
        self.job.state = JobState::Ended { how, due: self.job.due(), at: now };
        self
    }

    pub(super) fn cancelled_or_waiting(self, cancel: bool, due: Timestamp, now: Timestamp) -> Change {
        if cancel { self.ended(Ending::Cancelled, now) } else { self.waiting(due) }
    }
}
