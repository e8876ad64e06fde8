//! Whether and when a job is tried again, by its policy or by hand, and by when it has to be started.

use std::time::Duration;

use midge_protocol::job::{Cause, Failure};
use midge_protocol::{AttemptNumber, Timestamp, limits};

use super::{Change, Ending, Job, JobRefused, JobState};
use crate::backoff;

/// What a failure says besides, before a time, where it is only for the time that there is no other attempt.
pub(crate) const NOT_TRIED_AGAIN: &str = "; not tried again: the next attempt would be due after ";

impl Job {
    /// Returns when the next attempt is due after one that failed; nothing where it was the last.
    ///
    /// A guest may ask for another wait than its policy has, and not for another attempt. Where it is only for the time that
    /// there is no other, the failure says so.
    pub(super) fn tried_again(
        &self,
        failure: &mut Failure,
        jitter: f64,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let spent = self.spent.saturating_add(1);
        if failure.cause.is_final() || spent >= self.retry.max_attempts {
            return None;
        }
        let wait = backoff(&self.retry, &failure.cause, spent, jitter)?;
        let due = now.after(failure.retry_after_ms.map_or(wait, Duration::from_millis));
        let Some(until) = self.retry_until.filter(|until| due > *until) else { return Some(due) };
        let why = format!("{NOT_TRIED_AGAIN}{until}");
        let room = limits::MESSAGE_BYTES_MAX.saturating_sub(why.len());
        failure.message.truncate(failure.message.floor_char_boundary(room));
        failure.message.push_str(&why);
        None
    }

    pub(super) fn retry_asked(&self, now: Timestamp) -> Result<Change, JobRefused> {
        match self.state {
            JobState::Running { .. } => Err(JobRefused::Running),
            JobState::Waiting { .. } => {
                Ok(Change { job: self.clone(), attempt: None }.waiting(now.min(self.due())))
            }
            // It is due already, and nobody's wish starts it.
            JobState::Held { .. } => Ok(Change { job: self.clone(), attempt: None }),
            // It waits for others no more: somebody knows that it can run without them.
            JobState::Pending { .. } => Ok(self.starts(now)),
            JobState::Ended { .. } => {
                // A fresh allowance, but numbers go on: reports of old attempts stay fenced.
                // It stays a suspect: nobody has shown that its neighbours are safe.
                let (spent, in_vain) = (0, 0);
                // Who asks for it knows how late it is.
                let expires_at = None;
                let job = Job {
                    spent,
                    in_vain,
                    machine_losses: 0,
                    unexplained_losses: 0,
                    expires_at,
                    ..self.clone()
                };
                Ok(Change { job, attempt: None }.waiting(now))
            }
        }
    }

    pub(super) fn expired(&self, now: Timestamp) -> Result<Change, JobRefused> {
        let at = self.expiry().filter(|at| *at <= now).ok_or(JobRefused::NotExpired)?;
        let failure = Failure::new(Cause::Expired, format!("it was to be started by {at}, and was not"));
        let mut job = self.clone();
        job.fails(Some(failure), now);
        Ok(Change { job, attempt: None }.ended(Ending::Discarded, now))
    }

    /// Returns the time from which a job that waits does not start any more; nothing where it does not wait, may start
    /// at any time, or was started before. An attempt that its host gave back was a start; so a retry never expires.
    pub fn expiry(&self) -> Option<Timestamp> {
        match self.state {
            JobState::Running { .. } | JobState::Ended { .. } => None,
            _ if self.attempt == AttemptNumber(0) => self.expires_at,
            _ => None,
        }
    }

    /// Returns whether the job waits, and the time has come by which it was to be started.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expiry().is_some_and(|at| at <= now)
    }
}
