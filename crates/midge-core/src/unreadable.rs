//! A job whose row cannot be read: a damaged database, or the row of a newer midge. What is still known of it is shown.

use std::collections::BTreeMap;

use midge_protocol::job::{AfterFailed, JobView, State};
use midge_protocol::{AttemptNumber, JobId, Labels, ModuleName, QueueName, Timestamp};

use crate::Phase;

/// A job whose row cannot be read, with what the store found it by. It runs no more and can only be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableJob {
    /// The id of the job.
    pub id: JobId,
    /// The module it was to run.
    pub module: ModuleName,
    /// The queue it is in.
    pub queue: QueueName,
    /// Whether it waits, runs or has ended.
    pub phase: Phase,
    /// The time from which it is due, or was last.
    pub due: Timestamp,
    /// The time at which it ended; nothing before that.
    pub ended_at: Option<Timestamp>,
    /// Why its row cannot be read, for people.
    pub why: String,
}

impl UnreadableJob {
    /// Returns the job as it is once somebody would have run it: discarded, since nobody knows what it was to do. So no
    /// Machine is started for it again.
    #[must_use]
    pub fn discarded(self, now: Timestamp) -> UnreadableJob {
        UnreadableJob { phase: Phase::Discarded, ended_at: Some(now), ..self }
    }

    /// Returns the job as the API shows it at a time. What is not known is 0.
    pub fn view(&self, now: Timestamp) -> JobView {
        JobView {
            id: self.id,
            module: self.module.clone(),
            queue: self.queue.clone(),
            priority: 0,
            key: None,
            labels: Labels::default(),
            after_failed: AfterFailed::default(),
            batch: None,
            parent: None,
            callback_of: None,
            schedule: None,
            state: self.state_at(now),
            attempt: AttemptNumber(0),
            spent: 0,
            max_attempts: 0,
            backoff: None,
            jitter_percent: None,
            backoff_by_cause: BTreeMap::new(),
            retry_until: None,
            expires_at: None,
            time_limit_ms: None,
            unique: None,
            enqueued_at: self.due,
            scheduled_at: self.due,
            started_at: None,
            ended_at: self.ended_at,
            machine: None,
            cancelling: false,
            waits: None,
            may_cancel: false,
            may_retry: false,
            progress: None,
            suspicion: None,
            failure: None,
            failed: None,
            result_bytes: None,
            unreadable: Some(self.why.clone()),
        }
    }

    fn state_at(&self, now: Timestamp) -> State {
        self.phase.state(self.due, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_can_run_ends_discarded_and_is_shown_as_unreadable() {
        let now = Timestamp::from_millis(1_000_000);
        let job = UnreadableJob {
            id: JobId::from_bytes([7; 16]),
            module: ModuleName::new("hello").unwrap(),
            queue: QueueName::default_queue(),
            phase: Phase::Fresh,
            due: now,
            ended_at: None,
            why: "it is no JSON".to_owned(),
        };
        assert_eq!(job.view(now).state, State::Available);
        let view = job.discarded(now).view(now);
        assert_eq!((view.state, view.ended_at), (State::Discarded, Some(now)));
        assert_eq!(view.unreadable.as_deref(), Some("it is no JSON"));
    }
}
