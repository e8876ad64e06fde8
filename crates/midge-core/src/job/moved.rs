//! What somebody may change about a job that waits: its priority and its queue.

use midge_protocol::{QueueName, Timestamp};

use super::{Change, Job, JobRefused, JobState};

impl Job {
    pub(super) fn priority_asked(&self, priority: i8, now: Timestamp) -> Result<Change, JobRefused> {
        self.waits(now)?;
        Ok(Change { job: Job { priority, ..self.clone() }, attempt: None })
    }

    pub(super) fn move_asked(&self, queue: QueueName, now: Timestamp) -> Result<Change, JobRefused> {
        self.waits(now)?;
        Ok(Change { job: Job { queue, ..self.clone() }, attempt: None })
    }

    fn waits(&self, now: Timestamp) -> Result<(), JobRefused> {
        match self.state {
            JobState::Waiting { .. } | JobState::Held { .. } | JobState::Pending { .. } => Ok(()),
            JobState::Running { .. } => Err(JobRefused::Running),
            JobState::Ended { .. } => Err(JobRefused::Ended(self.state_at(now))),
        }
    }
}
