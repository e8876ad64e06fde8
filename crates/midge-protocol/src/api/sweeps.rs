//! What the API takes and gives about sweeps: one thing that is done to all jobs that fit a filter.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{JobCount, JobFilter};
use crate::job::JobView;
use crate::object::{objects, or_default};
use crate::{JobId, QueueName, Timestamp};

objects!(Action, SweepRequest, PriorityRequest, MoveRequest);

/// What a sweep does to each job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case")]
pub enum Action {
    /// Runs ended jobs again, and waiting ones now. Completed and pending ones are left alone unless the filter names their
    /// state, and so are callbacks of batches whose time did not come.
    Retry,
    /// Cancels jobs that wait or run.
    Cancel,
    /// Deletes jobs that do not run.
    Delete,
    /// Gives waiting jobs another priority.
    Priority(i8),
    /// Puts waiting jobs into another queue.
    Move(QueueName),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Retry => f.write_str("retry"),
            Action::Cancel => f.write_str("cancel"),
            Action::Delete => f.write_str("delete"),
            Action::Priority(priority) => write!(f, "priority {priority}"),
            Action::Move(queue) => write!(f, "move to {queue}"),
        }
    }
}

/// `POST /v1/sweeps`: does one thing to all jobs that fit a filter, in steps, beside everything else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct SweepRequest {
    /// What is done to each job: `"retry"`, `"cancel"`, `"delete"`, `{"priority": -5}` or `{"move": "mail"}`.
    pub action: Action,
    /// Which jobs are meant. Its `sort`, `before` and `limit` are of pages, and must not be set.
    #[serde(default, deserialize_with = "or_default")]
    pub filter: JobFilter,
    /// Whether nothing is to be done but to say how many jobs it would be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not", deserialize_with = "or_default")]
    pub dry_run: bool,
    /// Whether a filter that means every job is meant so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not", deserialize_with = "or_default")]
    pub all: bool,
}

/// The answer to a sweep with `dry_run`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DryRun {
    /// The number of jobs to which it would be done.
    pub would: JobCount,
    /// The first of them.
    pub first: Vec<JobView>,
    /// The number of jobs to which it could not be done, of those that were looked at.
    #[serde(default)]
    pub could_not: u64,
    /// The first of those.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first_not: Vec<NotDone>,
}

/// A job to which something was to be done, and was not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotDone {
    /// The id of the job.
    pub job: JobId,
    /// Why, for people.
    pub why: String,
}

/// A sweep, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepView {
    /// The number of the sweep.
    pub id: u64,
    /// What is done to each job.
    pub action: Action,
    /// Which jobs are meant.
    pub filter: JobFilter,
    /// The number of jobs that fitted the filter when it began and were in a state that the action is for, as far as they
    /// were counted.
    pub fitted: JobCount,
    /// The number of jobs that were found so far, those among them that were left as they were.
    pub found: u64,
    /// The number of jobs to which it was done.
    pub done: u64,
    /// Of those, the number of jobs that ran and were asked to stop. They end when their hosts have heard of it, and may complete
    /// before.
    #[serde(default)]
    pub asked: u64,
    /// The number of jobs to which it could not be done.
    pub could_not: u64,
    /// The first of those.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first_not: Vec<NotDone>,
    /// The time at which it was asked for. Jobs that were enqueued later are left alone.
    pub started_at: Timestamp,
    /// The time at which it ended; nothing while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Whether it ended because somebody asked for it. What was done by then stays done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelled: bool,
}

impl SweepView {
    /// Returns how it stands with the sweep, in words for people.
    pub fn state(&self) -> &'static str {
        match self.ended_at {
            None => "going on",
            Some(_) if self.cancelled => "cancelled",
            Some(_) => "ended",
        }
    }
}

/// The answer of `GET /v1/sweeps`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweeps {
    /// Sweeps that go on, and the last that ended; newest first.
    pub sweeps: Vec<SweepView>,
}

/// `POST /v1/jobs/{id}/priority`: gives a waiting job another priority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct PriorityRequest {
    /// The new priority: [`crate::limits::PRIORITIES`], smaller first.
    pub priority: i8,
}

/// `POST /v1/jobs/{id}/move`: puts a waiting job into another queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct MoveRequest {
    /// The queue to wait in.
    pub queue: QueueName,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_a_word_or_a_word_with_what_it_needs() {
        let read = |json: &str| serde_json::from_str::<Action>(json);
        assert_eq!(read("\"retry\"").unwrap(), Action::Retry);
        assert_eq!(read(r#"{"priority": -5}"#).unwrap(), Action::Priority(-5));
        assert_eq!(read(r#"{"move": "mail"}"#).unwrap(), Action::Move("mail".parse().unwrap()));
        for wrong in [
            "\"priority\"",
            "\"restart\"",
            r#"{"priority": 128}"#,
            r#"{"move": "../x"}"#,
            "null",
            "[]",
            r#"{"cancel": null}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_sweep_needs_an_action_and_is_no_list() {
        let read = |json: &str| serde_json::from_str::<SweepRequest>(json);
        assert!(read(r#"{"action": "cancel", "filter": {"tag": "a"}}"#).is_ok());
        for wrong in [
            "{}",
            "[\"cancel\"]",
            r#"{"action": "cancel", "filter": []}"#,
            r#"{"action": "cancel", "al": true}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
