//! Batches in the simulated world, and what must always be true of them: each ends once, its numbers are those of its jobs,
//! and its callbacks run when they may.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use midge_core::{Batch, Callback, Job, NewJob, Phase};
use midge_protocol::api::{BatchCounts, BatchEvent};
use midge_protocol::job::Cause;
use midge_protocol::{BatchId, JobId, QueueName, Timestamp};
use midge_store::{Content, StoreError};

use super::after::Asked;
use super::ledger::{Broken, ensure};
use super::people::args_of;
use super::room;
use super::world::{Event, World};

/// Batches of a run.
const BATCHES_MAX: u64 = 3;

/// A batch that somebody asks for.
#[derive(Debug, Clone)]
pub(super) struct AskedBatch {
    id: BatchId,
    callbacks: Vec<(BatchEvent, NewJob)>,
}

/// What is remembered of batches.
#[derive(Default)]
pub(super) struct Batches {
    rows: BTreeMap<BatchId, Batch>,
    /// Their jobs that were deleted, each as it ended.
    deleted: BTreeMap<BatchId, Vec<Phase>>,
    /// Those that were deleted, or never made.
    gone: BTreeSet<BatchId>,
    ended: u64,
    failed: u64,
    /// Callbacks that went on, not by hand.
    ran: u64,
}

impl Batches {
    pub(super) fn is_there(&self, id: BatchId) -> bool {
        self.rows.contains_key(&id)
    }

    /// Returns whether a batch will never be there again.
    pub(super) fn is_gone(&self, id: BatchId) -> bool {
        self.gone.contains(&id)
    }

    /// A job was deleted: one that had not ended counts as cancelled.
    pub(super) fn job_deleted(&mut self, job: &Job) {
        if let Some(batch) = job.links.batch {
            let phase = if job.ended_at().is_some() { job.phase() } else { Phase::Cancelled };
            self.deleted.entry(batch).or_default().push(phase);
        }
    }

    /// Checks a batch against what it was before, and against all of its jobs as they are now.
    fn check(&mut self, batch: Batch, counts: BatchCounts) -> Result<(), Broken> {
        ensure(batch.counts == counts, || format!("{batch:?} has jobs that come to {counts:?}"))?;
        let ended_now = |before: &Batch| before.ended_at.is_none() && batch.ended_at.is_some();
        if let Some(before) = self.rows.get(&batch.id) {
            let kept = |before: Option<Timestamp>, now| before.is_none() || before == now;
            let stands = kept(before.ended_at, batch.ended_at)
                && kept(before.failed_at, batch.failed_at)
                && kept(before.closed_at, batch.closed_at);
            ensure(stands, || format!("a batch ended or failed twice: {before:?} -> {batch:?}"))?;
            let early = ended_now(before) && (batch.closed_at.is_none() || counts.unended() > 0);
            ensure(!early, || format!("it ended before its jobs had: {batch:?}"))?;
        }
        let before = self.rows.get(&batch.id);
        self.ended +=
            u64::from(before.is_none_or(|before| before.ended_at.is_none()) && batch.ended_at.is_some());
        self.failed +=
            u64::from(before.is_none_or(|before| before.failed_at.is_none()) && batch.failed_at.is_some());
        self.rows.insert(batch.id, batch);
        Ok(())
    }

    /// Checks that a callback goes on when it may. The batches are those after the transaction.
    pub(super) fn check_callback(
        &mut self,
        before: Option<&Job>,
        job: &Job,
        by_hand: bool,
        now: &BTreeMap<BatchId, Batch>,
    ) -> Result<(), Broken> {
        let Some(Callback { batch, when }) = job.links.callback else { return Ok(()) };
        let waited = before.is_none_or(|before| before.phase() == Phase::Pending);
        if by_hand || !waited || job.phase() == Phase::Pending {
            return Ok(());
        }
        let Some(batch) = now.get(&batch) else {
            return Err(Broken(format!("a callback goes on, and its batch is deleted: {job:?}")));
        };
        let unmet = job.failure.as_ref().is_some_and(|failure| failure.cause == Cause::Unmet);
        if job.ended_at().is_some() && !unmet {
            return Ok(());
        }
        self.ran += u64::from(!unmet);
        let all = batch.counts.completed == batch.counts.total();
        let right = match (when, unmet) {
            (BatchEvent::Completed, false) => batch.ended_at.is_some() && all,
            (BatchEvent::Completed, true) => batch.ended_at.is_some() && !all,
            (BatchEvent::Ended, false) => batch.ended_at.is_some(),
            (BatchEvent::Ended, true) => false,
            (BatchEvent::Failure, false) => batch.failed_at.is_some(),
            (BatchEvent::Failure, true) => batch.ended_at.is_some() && batch.failed_at.is_none(),
        };
        ensure(right, || format!("a callback went on as it should not: {job:?} of {batch:?}"))
    }
}

impl World {
    /// Puts on the agenda what people do with batches. Returns those that jobs may be of.
    pub(super) fn plan_batches(
        &mut self,
        most: u64,
        queues: &[QueueName],
        drawn: &mut Vec<JobId>,
    ) -> Vec<BatchId> {
        let number = if self.chance.below(2) == 0 { 0 } else { 1 + self.chance.below(BATCHES_MAX) };
        let mut ids = Vec::new();
        for _ in 0..number {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&self.chance.number().to_be_bytes());
            let id = BatchId::from_bytes(bytes);
            let at = self.chance.millis(0, most / 4);
            let mut callbacks = Vec::new();
            for when in BatchEvent::ALL {
                if self.chance.below(3) > 0 {
                    let queue = queues[self.chance.below(queues.len() as u64) as usize].clone();
                    let job = self.draw_job(queue, self.now.after(at));
                    drawn.push(job.id);
                    // What waits for a batch has no time by which it must start: that may be any time.
                    callbacks
                        .push((when, NewJob { expires_at: None, retry_until: None, unique: None, ..job }));
                }
            }
            self.after(at, Event::MakeBatch(Box::new(AskedBatch { id, callbacks })));
            let closed = at + self.chance.millis(0, most / 2);
            self.after(closed, Event::AskBatch { id, cancel: false });
            if self.chance.below(4) == 0 {
                let cancelled = at + self.chance.millis(0, most / 2);
                self.after(cancelled, Event::AskBatch { id, cancel: true });
            }
            ids.push(id);
        }
        ids
    }

    /// Draws the batch that a job is of.
    pub(super) fn draw_batch(&mut self, mut asked: Asked, batches: &[BatchId]) -> Asked {
        if !batches.is_empty() && self.chance.below(2) == 0 {
            asked.job.links.batch = Some(batches[self.chance.below(batches.len() as u64) as usize]);
        }
        asked
    }

    /// Somebody makes a batch, as the API does it. Without an answer, it is repeated.
    pub(super) fn make_batch(&mut self, asked: AskedBatch) -> Result<(), Broken> {
        let (now, new, policies) = (self.told(), asked.clone(), self.policies.clone());
        let done = self.ask_for(move |rows| {
            if rows.batch(new.id)?.is_some() {
                return Ok(());
            }
            let mut batch = Batch::new(new.id, rows.last_batch_number()? + 1, String::new(), 0, now);
            let mut brings: BTreeMap<&QueueName, u64> = BTreeMap::new();
            for (_, job) in &new.callbacks {
                *brings.entry(&job.queue).or_default() += 1;
            }
            for (queue, callbacks) in brings {
                room::check(rows, &policies, queue, callbacks)?;
            }
            for (when, job) in new.callbacks {
                let job = Job::new(job, now).called_by(&batch, when);
                rows.put_content(job.id, Content::Args, args_of(job.id).as_bytes())?;
                rows.put_jobs(std::slice::from_ref(&job))?;
                batch.callbacks.insert(when, job.id);
            }
            Ok(rows.put_batch(&batch)?)
        })?;
        let refused = self.refused(&done)?;
        match done.and_then(Result::ok) {
            Some(()) => {
                self.trace.say(self.now, format_args!("batch {} is made", asked.id));
                asked.callbacks.iter().for_each(|(_, job)| self.ledger.enqueued(job.id));
            }
            None if self.gives_up(refused) => {
                self.ledger.batches.gone.insert(asked.id);
                asked.callbacks.iter().for_each(|(_, job)| self.ledger.deletions.is_never(job.id));
            }
            None => self.after(Duration::from_secs(3), Event::MakeBatch(Box::new(asked))),
        }
        Ok(())
    }

    /// Somebody closes or cancels a batch. It is repeated until it is there.
    pub(super) fn ask_of_batch(&mut self, id: BatchId, cancel: bool) -> Result<(), Broken> {
        let now = self.told();
        let done = self.ask(move |rows| {
            let batch = rows.batch(id)?.ok_or_else(|| StoreError::Failed("not yet".to_owned()))?;
            match if cancel { batch.cancelled(now) } else { Ok(batch.closed(now)) } {
                Ok(changed) => rows.put_batch(&changed).map(|()| true),
                Err(_) => Ok(false),
            }
        })?;
        match done {
            Some(done) => {
                self.trace.say(
                    self.now,
                    format_args!("batch {id} is {}", if cancel { "cancelled" } else { "closed" }),
                );
                if done && cancel {
                    self.trace.count("batches cancelled");
                }
            }
            None if self.ledger.batches.is_gone(id) => {}
            None => self.after(Duration::from_secs(3), Event::AskBatch { id, cancel }),
        }
        Ok(())
    }

    /// Reads all batches.
    pub(super) fn batches(&self) -> BTreeMap<BatchId, Batch> {
        let batches = self.store.look(|rows| rows.batches_listed(None, usize::MAX));
        batches.into_iter().map(|batch| (batch.id, batch)).collect()
    }

    /// Checks batches, after all of their jobs.
    pub(super) fn check_batches(&mut self, batches: BTreeMap<BatchId, Batch>) -> Result<(), Broken> {
        let over: Vec<Batch> = self
            .ledger
            .batches
            .rows
            .values()
            .filter(|batch| !batches.contains_key(&batch.id))
            .cloned()
            .collect();
        for batch in over {
            self.check_batch_is_over(&batch)?;
            self.ledger.batches.rows.remove(&batch.id);
            self.ledger.batches.gone.insert(batch.id);
            self.trace.count("batches pruned");
        }
        for (id, batch) in batches {
            let mut counted = Batch::new(id, 0, String::new(), 0, self.now);
            for phase in self.ledger.batches.deleted.get(&id).into_iter().flatten() {
                counted.count(None, Some(*phase));
            }
            for job in self.ledger.jobs().filter(|job| job.links.batch == Some(id)) {
                counted.count(None, Some(job.phase()));
            }
            self.ledger.batches.check(batch, counted.counts)?;
        }
        Ok(())
    }

    /// At the end, every batch has ended.
    pub(super) fn check_batches_at_the_end(&mut self) -> Result<(), Broken> {
        let batches = &self.ledger.batches;
        let open = batches.rows.values().find(|batch| batch.ended_at.is_none());
        ensure(open.is_none(), || format!("{open:?} never ends"))?;
        for (what, number) in [
            ("batches that ended", batches.ended),
            ("batches that failed", batches.failed),
            ("callbacks that ran", batches.ran),
        ] {
            for _ in 0..number {
                self.trace.count(what);
            }
        }
        Ok(())
    }
}
