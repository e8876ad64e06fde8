//! A job as the API shows it.

use midge_protocol::Timestamp;
use midge_protocol::job::{Failed, JobView};

use super::{Ending, Job, JobEvent, JobState};

impl Job {
    /// Returns the job as the API shows it at a time. Why it waits is not known to it: [`crate::Outlook::why`] says so.
    pub fn view(&self, now: Timestamp) -> JobView {
        JobView {
            id: self.id,
            module: self.module.clone(),
            queue: self.queue.clone(),
            priority: self.priority,
            key: self.key.clone(),
            labels: self.labels.clone(),
            after_failed: self.links.after_failed,
            batch: self.links.batch,
            parent: self.links.parent,
            callback_of: self.links.callback.map(|callback| callback.batch),
            schedule: self.links.schedule.clone(),
            state: self.state_at(now),
            waits: None,
            attempt: self.attempt,
            spent: self.spent,
            max_attempts: self.retry.max_attempts,
            backoff: Some(self.retry.backoff.clone()),
            jitter_percent: self.retry.jitter_percent,
            backoff_by_cause: self.retry.backoff_by_cause.clone(),
            retry_until: self.retry_until,
            expires_at: self.expires_at,
            time_limit_ms: self.has_own_time_limit.then_some(self.limits.time_ms),
            unique: self
                .unique
                .as_ref()
                .map(|hold| hold.view())
                .filter(|view| view.until.is_none_or(|until| until > now)),
            enqueued_at: self.enqueued_at,
            scheduled_at: self.due(),
            started_at: self.started_at,
            ended_at: self.ended_at(),
            machine: self.lease().map(|lease| lease.machine.clone()),
            cancelling: self.is_cancelling(),
            may_cancel: self.is_changed_by(JobEvent::CancelAsked, now),
            may_retry: self.is_changed_by(JobEvent::RetryAsked, now),
            progress: self.progress.clone(),
            suspicion: self.suspicion(),
            failure: self.failure.clone(),
            failed: self.failed_at().map(|at| Failed { at, fingerprint: self.fingerprint() }),
            result_bytes: match self.state {
                JobState::Ended { how: Ending::Completed { result_bytes }, .. } => Some(result_bytes),
                _ => None,
            },
            unreadable: None,
        }
    }

    /// Returns whether an event applies to the job and makes another of it.
    fn is_changed_by(&self, event: JobEvent, now: Timestamp) -> bool {
        self.apply(event, now).is_ok_and(|change| change.job != *self)
    }
}
