//! A job is held while its module starts none: out of its line, and back in it.

use midge_protocol::Timestamp;

use super::{Change, Job, JobRefused, JobState};

impl Job {
    pub(super) fn held(&self, now: Timestamp) -> Result<Change, JobRefused> {
        let state = JobState::Held { due: self.in_line(now)? };
        Ok(Change { job: Job { state, ..self.clone() }, attempt: None })
    }

    pub(super) fn released(&self) -> Result<Change, JobRefused> {
        let JobState::Held { due } = self.state else { return Err(JobRefused::NotHeld) };
        Ok(Change { job: self.clone(), attempt: None }.waiting(due))
    }
}
