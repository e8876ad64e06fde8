//! Batches: groups of jobs, what is run when they have ended, and why none of that can wait for itself.
//!
//! A callback of a batch is a job that is pending until its time has come. So other jobs can be after it, in other batches
//! too, and it is run once, as any job.
//!
//! No circle can be made of that. Batches are numbered as they are made. Each pending job says the number of the newest batch
//! that it waits for, itself or through others ([`Links::behind`](crate::Links)), which is fixed when it is enqueued: a
//! callback's is that of its batch, another's the largest of those that it is after. A job of a batch waits only for batches
//! that are older than its own ([`Batch::takes`]). So whoever walks from a batch to what it waits for comes to an older one.

use std::collections::BTreeMap;

use midge_protocol::api::{BatchCounts, BatchEvent, BatchState, BatchView};
use midge_protocol::{BatchId, JobId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Job, JobEvent, Phase};

/// A group of jobs: its row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The id of the batch.
    pub id: BatchId,
    /// A number that rises with each batch.
    pub number: u64,
    /// What it is, for people.
    pub name: String,
    /// A hash of all that was asked for: to make the same id with another hash is refused.
    pub content_hash: u64,
    /// The time at which it was made.
    pub created_at: Timestamp,
    /// The time from which no job can be added.
    pub closed_at: Option<Timestamp>,
    /// That its jobs are cancelled, and how far that is.
    pub cancel: Option<CancelJobs>,
    /// The time at which the first of its jobs was discarded.
    pub failed_at: Option<Timestamp>,
    /// The time at which all of its jobs had ended.
    pub ended_at: Option<Timestamp>,
    /// The jobs that are its callbacks.
    pub callbacks: BTreeMap<BatchEvent, JobId>,
    /// How many of its jobs are in which state. Stores keep it, by [`Batch::count`].
    pub counts: BatchCounts,
}

/// How far a batch's jobs are cancelled, which are cancelled a few at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CancelJobs {
    /// Those that sort after this one are still to be; all, where there is none.
    After(Option<JobId>),
    /// All are.
    Done,
}

/// The batch that a pending job is a callback of, and when it is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Callback {
    /// The batch.
    pub batch: BatchId,
    /// When the job is run.
    pub when: BatchEvent,
}

/// Why something that is asked of a batch is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchRefused {
    /// No job can be added any more.
    #[error("batch {0} is {1}: no job can be added")]
    Closed(BatchId, BatchState),
    /// All of its jobs have ended.
    #[error("batch {0} has ended already")]
    Ended(BatchId),
    /// A job waits for a batch that is no older than its own.
    #[error(
        "a job of batch {0} may wait only for batches that were made before it, and this one waits for a callback of it or of \
         a newer one: make the batches in the order in which they wait for each other"
    )]
    Circle(BatchId),
}

impl Batch {
    /// Makes a batch that is open and has no job. `number` is larger than that of any batch there is.
    pub fn new(id: BatchId, number: u64, name: String, content_hash: u64, now: Timestamp) -> Batch {
        Batch {
            id,
            number,
            name,
            content_hash,
            created_at: now,
            closed_at: None,
            cancel: None,
            failed_at: None,
            ended_at: None,
            callbacks: BTreeMap::new(),
            counts: BatchCounts::default(),
        }
    }

    /// Returns whether jobs can be added, and whether it is over.
    pub const fn state(&self) -> BatchState {
        match (self.ended_at, self.closed_at) {
            (Some(_), _) => BatchState::Ended,
            (None, Some(_)) => BatchState::Closed,
            (None, None) => BatchState::Open,
        }
    }

    /// Checks that a new job may be added. `parent` is the job whose attempt enqueues it: one of the batch has not ended before,
    /// so that neither had the batch, and may add to it also where nobody else may.
    ///
    /// # Errors
    /// [`BatchRefused::Closed`], and [`BatchRefused::Circle`] where the job waits for what waits for the batch.
    pub fn takes(&self, job: &Job, parent: Option<&Job>) -> Result<(), BatchRefused> {
        let of_it = parent.is_some_and(|parent| parent.links.batch == Some(self.id));
        let is_open = self.closed_at.is_none() || of_it && self.ended_at.is_none() && self.cancel.is_none();
        if !is_open {
            return Err(BatchRefused::Closed(self.id, self.state()));
        }
        let waits = job.phase() == Phase::Pending && job.links.behind >= self.number;
        if waits { Err(BatchRefused::Circle(self.id)) } else { Ok(()) }
    }

    /// Returns the batch as one to which no job can be added. One that is closed already is as it was.
    #[must_use]
    pub fn closed(&self, now: Timestamp) -> Batch {
        Batch { closed_at: self.closed_at.or(Some(now)), ..self.clone() }
    }

    /// Returns the batch as one whose jobs are to be cancelled.
    ///
    /// # Errors
    /// [`BatchRefused::Ended`] where all have ended.
    pub fn cancelled(&self, now: Timestamp) -> Result<Batch, BatchRefused> {
        if self.ended_at.is_some() {
            return Err(BatchRefused::Ended(self.id));
        }
        // Asked again, it begins anew: somebody may have retried some.
        Ok(Batch { cancel: Some(CancelJobs::After(None)), ..self.closed(now) })
    }

    /// Counts what became of one of its jobs: nothing before it was there, and nothing after it is gone.
    pub fn count(&mut self, before: Option<Phase>, after: Option<Phase>) {
        let was_ended = before.is_some_and(|phase| in_phase(&mut BatchCounts::default(), phase).1);
        if after.is_none() && was_ended {
            return;
        }
        if let Some(phase) = before {
            let number = in_phase(&mut self.counts, phase).0;
            *number = number.saturating_sub(1);
        }
        // One that was deleted before it ended is not missing: it was cancelled.
        *in_phase(&mut self.counts, after.unwrap_or(Phase::Cancelled)).0 += 1;
    }

    /// Returns whether there is something to do about it: [`Batch::act`], or jobs that are to be cancelled.
    pub fn has_to_act(&self) -> bool {
        matches!(self.cancel, Some(CancelJobs::After(_))) || self.fails() || self.ends()
    }

    fn fails(&self) -> bool {
        self.failed_at.is_none() && self.ended_at.is_none() && self.counts.discarded > 0
    }

    fn ends(&self) -> bool {
        self.ended_at.is_none() && self.closed_at.is_some() && self.counts.unended() == 0
    }

    /// Returns the batch as it is once what has happened in it is dealt with, and what that means for its callbacks.
    #[must_use]
    pub fn act(&self, now: Timestamp) -> (Batch, Vec<(JobId, JobEvent)>) {
        let mut after = self.clone();
        let mut events = Vec::new();
        if self.fails() {
            after.failed_at = Some(now);
            events.extend(self.callback(BatchEvent::Failure, || None));
        }
        if self.ends() {
            after.ended_at = Some(now);
            events.extend(self.callback(BatchEvent::Completed, || self.not_completed()));
            events.extend(self.callback(BatchEvent::Ended, || None));
            if after.failed_at.is_none() {
                let why = format!("batch {} has ended, and none of its jobs was discarded", self.id);
                events.extend(self.callback(BatchEvent::Failure, || Some(why)));
            }
        }
        (after, events)
    }

    /// Returns why not all of its jobs have completed, where they have not.
    fn not_completed(&self) -> Option<String> {
        let BatchCounts { cancelled, discarded, .. } = self.counts;
        let total = self.counts.total();
        (cancelled + discarded > 0).then(|| {
            format!(
                "of the {total} jobs of batch {}, {discarded} were discarded and {cancelled} cancelled",
                self.id
            )
        })
    }

    fn callback(
        &self,
        when: BatchEvent,
        unmet: impl FnOnce() -> Option<String>,
    ) -> Option<(JobId, JobEvent)> {
        let job = self.callbacks.get(&when)?;
        Some((*job, unmet().map_or(JobEvent::Met, |why| JobEvent::Unmet { why })))
    }

    /// Returns the batch as the API shows it.
    pub fn view(&self) -> BatchView {
        BatchView {
            id: self.id,
            name: self.name.clone(),
            state: self.state(),
            cancelled: self.cancel.is_some(),
            jobs: self.counts,
            total: self.counts.total(),
            created_at: self.created_at,
            closed_at: self.closed_at,
            failed_at: self.failed_at,
            ended_at: self.ended_at,
            callbacks: self.callbacks.clone(),
        }
    }
}

/// Returns the number of a phase, to be changed, and whether jobs in it have ended.
fn in_phase(counts: &mut BatchCounts, phase: Phase) -> (&mut u64, bool) {
    match phase {
        Phase::Pending => (&mut counts.pending, false),
        Phase::Fresh | Phase::Retrying | Phase::Held => (&mut counts.waiting, false),
        Phase::Running => (&mut counts.running, false),
        Phase::Completed => (&mut counts.completed, true),
        Phase::Cancelled => (&mut counts.cancelled, true),
        Phase::Discarded => (&mut counts.discarded, true),
    }
}

#[cfg(test)]
mod tests;
