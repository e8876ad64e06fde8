//! Whether and when a job is tried again, by its policy or by hand.

use std::time::Duration;

use midge_protocol::Timestamp;
use midge_protocol::job::{Cause, Failure};

use super::{Change, Job, JobRefused, JobState};
use crate::backoff;

impl Job {
    /// Returns when the next attempt is due after one that failed; nothing where it was the last.
    ///
    /// A guest may ask for another wait than its policy has, and not for another attempt.
    pub(super) fn tried_again(&self, failure: &Failure, jitter: f64, now: Timestamp) -> Option<Timestamp> {
        let spent = self.spent.saturating_add(1);
        if failure.cause == Cause::Refused || spent >= self.retry.max_attempts {
            return None;
        }
        let wait = backoff(&self.retry, &failure.cause, spent, jitter)?;
        let due = now.after(failure.retry_after_ms.map_or(wait, Duration::from_millis));
        self.retry_until.is_none_or(|until| due <= until).then_some(due)
    }

    pub(super) fn retry_asked(&self, now: Timestamp) -> Result<Change, JobRefused> {
        match self.state {
            JobState::Running { .. } => Err(JobRefused::Running),
            JobState::Waiting { .. } => {
                Ok(Change { job: self.clone(), attempt: None }.waiting(now.min(self.due())))
            }
            JobState::Ended { .. } => {
                // A fresh allowance, but numbers go on: reports of old attempts stay fenced.
                // It stays a suspect: nobody has shown that its neighbours are safe.
                let (spent, not_begun) = (0, 0);
                let job = Job { spent, not_begun, machine_losses: 0, unexplained_losses: 0, ..self.clone() };
                Ok(Change { job, attempt: None }.waiting(now))
            }
        }
    }
}
