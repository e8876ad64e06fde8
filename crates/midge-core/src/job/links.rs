//! What ties a job to others: the jobs that it is to run after, those that are to run after it, and the one that enqueued it.
//!
//! A job's dependencies are fixed when it is enqueued, and each of them is there before: so no job waits for itself,
//! however long the way. Which jobs a pending job still waits for is in rows of the store, and no number of its own.

use std::time::Duration;

use midge_protocol::api::BatchEvent;
use midge_protocol::job::{AfterFailed, Cause, Failure, OfSchedule};
use midge_protocol::{BatchId, JobId, Timestamp, limits};
use serde::{Deserialize, Serialize};

use super::{Change, Ending, Job, JobRefused, JobState, Phase};
use crate::{Batch, Callback};

/// What ties a job to others, and to what enqueued it. Most jobs have nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Links {
    /// What becomes of it where a job that it is to run after does not complete.
    #[serde(skip_serializing_if = "AfterFailed::is_default")]
    pub after_failed: AfterFailed,
    /// Whether others were enqueued to run after it: they are told how it ends.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub has_dependents: bool,
    /// The batch that it is one of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchId>,
    /// The job whose attempt enqueued it. That one may have been deleted since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<JobId>,
    /// How many jobs before it enqueued each the next one, without a rest between them.
    #[serde(skip_serializing_if = "is_none_yet")]
    pub depth: u32,
    /// The batch that it is a callback of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callback: Option<Callback>,
    /// The schedule that enqueued it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<OfSchedule>,
    /// The number of the newest batch that it waits for while it is pending, itself or through others; 0 for none.
    #[serde(skip_serializing_if = "is_zero")]
    pub behind: u64,
}

/// The error of a job that would be one too many in a row of which each enqueued the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it would be one of more than {max} jobs in a row of which each enqueued the next at once: delay it by a second or more \
     (`in_ms`), or have a schedule enqueue it",
    max = limits::FOLLOW_UP_DEPTH_MAX
)]
pub struct TooDeep;

fn is_none_yet(depth: &u32) -> bool {
    *depth == 0
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Links {
    /// Returns whether it ties the job to nothing.
    pub fn is_default(&self) -> bool {
        *self == Links::default()
    }

    /// Returns whether its end is news: for jobs that are to run after it, or for its batch.
    pub const fn is_watched(&self) -> bool {
        self.has_dependents || self.batch.is_some()
    }

    /// Returns the number of the newest batch that a job waits for which is to run after others.
    pub fn behind<'a>(others: impl IntoIterator<Item = &'a Job>) -> u64 {
        // What is not pending waits for nothing any more.
        let pending = others.into_iter().filter(|job| job.phase() == Phase::Pending);
        pending.map(|job| job.links.behind).max().unwrap_or(0)
    }

    /// Returns what the end of a job means for one that is to run after it.
    pub const fn dependency(&self, end: DependencyEnd) -> Dependency {
        match (end, self.after_failed) {
            (DependencyEnd::Completed, _) | (_, AfterFailed::GoOn) => Dependency::Met,
            // Nobody can retry what is not there any more.
            (_, AfterFailed::Cancel) | (DependencyEnd::Deleted, AfterFailed::Wait) => Dependency::Failed,
            (_, AfterFailed::Wait) => Dependency::Open,
        }
    }
}

/// How a job ended, as those hear it that are to run after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum DependencyEnd {
    /// It completed.
    Completed = 0,
    /// It was cancelled.
    Cancelled = 1,
    /// It was discarded.
    Discarded = 2,
    /// It was deleted before it completed.
    Deleted = 3,
}

/// What the end of a job means for one that is to run after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dependency {
    /// It waits for that job no more.
    Met,
    /// It is not to run.
    Failed,
    /// It goes on waiting for that job.
    Open,
}

impl DependencyEnd {
    /// All of them, each at the index that is its number.
    pub const ALL: [DependencyEnd; 4] = [
        DependencyEnd::Completed,
        DependencyEnd::Cancelled,
        DependencyEnd::Discarded,
        DependencyEnd::Deleted,
    ];

    /// Returns how a job in a phase ended; nothing where it has not.
    pub const fn of(phase: Phase) -> Option<DependencyEnd> {
        match phase {
            Phase::Completed => Some(DependencyEnd::Completed),
            Phase::Cancelled => Some(DependencyEnd::Cancelled),
            Phase::Discarded => Some(DependencyEnd::Discarded),
            Phase::Fresh | Phase::Retrying | Phase::Running | Phase::Held | Phase::Pending => None,
        }
    }

    /// Returns why a job does not run that was to run after one that ended so.
    pub fn why(self, on: JobId) -> String {
        let how = match self {
            DependencyEnd::Completed => "completed",
            DependencyEnd::Cancelled => "was cancelled",
            DependencyEnd::Discarded => "was discarded",
            DependencyEnd::Deleted => "was deleted before it completed",
        };
        format!("it was to run after job {on}, which {how}")
    }
}

impl Job {
    /// Returns the depth of a job that this one enqueues at a time, and that is due at another.
    ///
    /// # Errors
    /// [`TooDeep`] where there are more in a row than may be.
    pub fn depth_of_next(&self, due: Timestamp, now: Timestamp) -> Result<u32, TooDeep> {
        if due.since(now) >= limits::FOLLOW_UP_REST {
            return Ok(0);
        }
        let depth = self.links.depth.saturating_add(1);
        if depth > limits::FOLLOW_UP_DEPTH_MAX { Err(TooDeep) } else { Ok(depth) }
    }

    /// Returns the job as one that waits for others.
    #[must_use]
    pub fn pending(self) -> Job {
        Job { state: JobState::Pending { due: self.due() }, ..self }
    }

    /// Returns the job as one that a batch runs.
    #[must_use]
    pub fn called_by(mut self, batch: &Batch, when: BatchEvent) -> Job {
        self.links.callback = Some(Callback { batch: batch.id, when });
        self.links.behind = batch.number;
        self.pending()
    }

    /// Returns the job as one that others are to run after.
    #[must_use]
    pub fn with_dependents(mut self) -> Job {
        self.links.has_dependents = true;
        self
    }

    /// All that it waited for has happened. It is due from now on, as it could not run before.
    pub(super) fn met(&self, now: Timestamp) -> Result<Change, JobRefused> {
        let JobState::Pending { due } = self.state else { return Err(JobRefused::NotPending) };
        Ok(self.starts(due.max(now)))
    }

    /// It waits for others no more, and is due at a time, from which on it is tried again for as long as was asked for.
    pub(super) fn starts(&self, due: Timestamp) -> Change {
        let mut job = self.clone();
        if let Some(millis) = job.retry.retry_for_ms.take() {
            job.retry_until = job.retry_until.or(Some(due.after(Duration::from_millis(millis))));
        }
        Change { job, attempt: None }.waiting(due)
    }

    /// What it was to run after did not happen.
    pub(super) fn unmet(&self, why: String, now: Timestamp) -> Result<Change, JobRefused> {
        let JobState::Pending { .. } = self.state else { return Err(JobRefused::NotPending) };
        let mut job = self.clone();
        job.fails(Some(Failure::new(Cause::Unmet, why)), now);
        Ok(Change { job, attempt: None }.ended(Ending::Cancelled, now))
    }
}
