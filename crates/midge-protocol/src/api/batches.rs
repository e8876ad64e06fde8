//! What the API takes and gives about batches.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::EnqueueRequest;
use crate::object::{objects, or_default};
use crate::{BatchId, JobId, Timestamp};

objects!(BatchRequest);

/// `POST /v1/batches`: a group of jobs, and what is run when they have ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct BatchRequest {
    /// The batch's id, by default a new one. Who sets it can repeat the request: the same id and content is the same batch.
    #[serde(default = "BatchId::generate", deserialize_with = "id_or_new")]
    pub id: BatchId,
    /// What it is, for people; at most [`crate::limits::BATCH_NAME_BYTES_MAX`] bytes.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "or_default")]
    pub name: String,
    /// A job that is run when all of its jobs have completed. It is pending until then, as are the other two, and names
    /// neither a batch nor jobs to run after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_completed: Option<Box<EnqueueRequest>>,
    /// A job that is run when all of its jobs have ended, whatever became of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_ended: Option<Box<EnqueueRequest>>,
    /// A job that is run when the first of its jobs is discarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<Box<EnqueueRequest>>,
}

fn id_or_new<'de, D: Deserializer<'de>>(id: D) -> Result<BatchId, D::Error> {
    Ok(Option::deserialize(id)?.unwrap_or_else(BatchId::generate))
}

impl BatchRequest {
    /// Makes a request under a new id, for a batch with a name and without callbacks.
    pub fn new(name: impl Into<String>) -> BatchRequest {
        let (on_completed, on_ended, on_failure) = (None, None, None);
        BatchRequest { id: BatchId::generate(), name: name.into(), on_completed, on_ended, on_failure }
    }

    /// Has a job run at a time in the batch's life.
    #[must_use]
    pub fn on(mut self, when: BatchEvent, job: EnqueueRequest) -> BatchRequest {
        let callback = match when {
            BatchEvent::Completed => &mut self.on_completed,
            BatchEvent::Ended => &mut self.on_ended,
            BatchEvent::Failure => &mut self.on_failure,
        };
        *callback = Some(Box::new(job));
        self
    }
}

/// When a callback of a batch is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchEvent {
    /// All of its jobs have completed.
    Completed,
    /// All of its jobs have ended.
    Ended,
    /// A job of it was discarded, for the first time.
    Failure,
}

impl BatchEvent {
    /// All of them.
    pub const ALL: [BatchEvent; 3] = [BatchEvent::Completed, BatchEvent::Ended, BatchEvent::Failure];

    /// Returns the field of a request that has its callback.
    pub const fn field(self) -> &'static str {
        match self {
            BatchEvent::Completed => "on_completed",
            BatchEvent::Ended => "on_ended",
            BatchEvent::Failure => "on_failure",
        }
    }
}

/// The answer to a request for a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchMade {
    /// The id of the batch.
    pub id: BatchId,
    /// Whether it was made now; false where the same batch was already there.
    pub new: bool,
    /// The jobs that are its callbacks, by when they are run.
    pub callbacks: BTreeMap<BatchEvent, JobId>,
}

/// Whether jobs can be added to a batch, and whether it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchState {
    /// Jobs can be added, and it ends no sooner than it is closed.
    Open,
    /// No job can be added; it ends when all of its jobs have.
    Closed,
    /// All of its jobs had ended, and its callbacks were run.
    Ended,
}

impl BatchState {
    /// Returns the word used in API, command and dashboard.
    pub const fn as_str(self) -> &'static str {
        match self {
            BatchState::Open => "open",
            BatchState::Closed => "closed",
            BatchState::Ended => "ended",
        }
    }
}

impl std::fmt::Display for BatchState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// How many jobs of a batch are in which state. Those that were deleted are counted as they ended; one that was deleted
/// before it ended, as cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BatchCounts {
    /// Those that wait for other jobs.
    pub pending: u64,
    /// Those that wait to be run, whether they are due or not.
    pub waiting: u64,
    /// Those that run.
    pub running: u64,
    /// Those that completed.
    pub completed: u64,
    /// Those that were cancelled.
    pub cancelled: u64,
    /// Those that were discarded.
    pub discarded: u64,
}

impl BatchCounts {
    /// Returns how many jobs it has had in all.
    pub const fn total(&self) -> u64 {
        self.unended() + self.completed + self.cancelled + self.discarded
    }

    /// Returns how many have not ended.
    pub const fn unended(&self) -> u64 {
        self.pending + self.waiting + self.running
    }
}

/// A batch as `GET /v1/batches/{id}` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchView {
    /// The id of the batch.
    pub id: BatchId,
    /// What it is, for people, as whoever made it said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Whether jobs can be added, and whether it is over.
    pub state: BatchState,
    /// Whether somebody asked for its jobs to be cancelled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelled: bool,
    /// How many of its jobs are in which state.
    pub jobs: BatchCounts,
    /// How many jobs it has had in all.
    pub total: u64,
    /// The time at which it was made.
    pub created_at: Timestamp,
    /// The time from which no job can be added; nothing before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Timestamp>,
    /// The time at which the first of its jobs was discarded; nothing where none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Timestamp>,
    /// The time at which all of its jobs had ended; nothing before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// The jobs that are its callbacks, by when they are run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub callbacks: BTreeMap<BatchEvent, JobId>,
}

/// The query of `GET /v1/batches`: by id, the highest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchFilter {
    /// Only batches whose id sorts before this one: the last of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<BatchId>,
    /// The number of batches in the page, 1 to [`super::PAGE_JOBS_MAX`]: [`super::PAGE_JOBS_DEFAULT`] where this is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A page of batches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchPage {
    /// The batches of this page, by id, the highest first.
    pub batches: Vec<BatchView>,
    /// What to pass as `before` for the next page; nothing at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<BatchId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_needs_nothing_and_takes_no_field_that_it_does_not_know() {
        let request: BatchRequest = serde_json::from_str("{}").unwrap();
        assert!(request.name.is_empty() && request.on_ended.is_none());
        let error = serde_json::from_str::<BatchRequest>(r#"{"on_complete": {}}"#).unwrap_err();
        assert!(error.to_string().contains("on_complete"), "{error}");
        assert!(serde_json::from_str::<BatchRequest>("[]").is_err());
    }

    #[test]
    fn callbacks_survive_json_and_are_called_as_their_fields() {
        let job = EnqueueRequest::new("hello".parse().unwrap());
        for when in BatchEvent::ALL {
            let request = BatchRequest::new("n").on(when, job.clone());
            let json = serde_json::to_value(&request).unwrap();
            assert_eq!(json[when.field()]["module"], "hello", "{json}");
            let again: BatchRequest = serde_json::from_value(json).unwrap();
            assert_eq!(again.on_failure.is_some(), when == BatchEvent::Failure);
        }
    }
}
