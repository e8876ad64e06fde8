//! One exchange in its transaction: the Machine, the jobs that are leased to it, and what is written of both.

use std::collections::{BTreeMap, BTreeSet};

use midge_core::exchange::Carried;
use midge_core::{CostBook, Job, JobEvent, Machine, MachineState, running_cost};
use midge_protocol::exchange::AttemptRef;
use midge_protocol::job::AttemptView;
use midge_protocol::{JobId, Lease, QueueName, Timestamp};
use midge_store::{Rows, StoreError};

use super::{Context, Exchanged};
use crate::pass_on::{AT_ONCE, pass_on};

pub(super) struct Session<'a> {
    pub(super) rows: &'a mut dyn Rows,
    pub(super) context: &'a Context,
    pub(super) now: Timestamp,
    /// The Machine as its row has it.
    row: Machine,
    /// The Machine as it is now.
    pub(super) machine: Machine,
    /// Jobs that are leased to it.
    pub(super) leased: BTreeMap<JobId, Job>,
    /// What the answer carries so far.
    pub(super) carried: Carried,
    /// The queues of which an attempt ended: its job may have stood in the way of others, where the queue has a limit.
    slots_freed: BTreeSet<QueueName>,
    /// What is added to the sums of time.
    costs: CostBook,
    /// How many of the jobs that ended are dealt with by [`Session::pass_on`].
    passed_on: usize,
    pub(super) done: Exchanged,
}

impl<'a> Session<'a> {
    pub(super) fn begin(
        rows: &'a mut dyn Rows,
        row: Machine,
        machine: Machine,
        context: &'a Context,
        now: Timestamp,
    ) -> Result<Session<'a>, StoreError> {
        let leased = rows.jobs_leased(&machine.name)?.into_iter().map(|job| (job.id, job)).collect();
        Ok(Session {
            rows,
            context,
            now,
            row,
            machine,
            leased,
            carried: Carried::default(),
            slots_freed: BTreeSet::new(),
            costs: CostBook::default(),
            passed_on: 0,
            done: Exchanged::default(),
        })
    }

    /// Applies an event to a leased job and writes what changed. Returns the job as it is then, where the event applied.
    pub(super) fn apply(&mut self, id: JobId, event: JobEvent) -> Result<Option<Job>, StoreError> {
        let Some(job) = self.leased.get(&id) else { return Ok(None) };
        let Ok(mut change) = job.apply(event, self.now) else { return Ok(None) };
        if let Some(attempt) = &mut change.attempt {
            self.costs.add_attempt(&self.machine, &change.job, attempt);
            self.price(attempt);
        }
        self.rows.put_change(&change, &self.machine.generation)?;
        self.done.news.push(id);
        let job = change.job;
        if job.lease().is_some() {
            self.leased.insert(id, job.clone());
        } else {
            self.leased.remove(&id);
            self.slots_freed.insert(job.queue.clone());
            match job.ended_at() {
                Some(_) => self.done.ended.push(job.clone()),
                None => self.done.changed = true,
            }
        }
        Ok(Some(job))
    }

    /// Says what an attempt cost, where its host knows how much of the Machine's time was its.
    fn price(&self, attempt: &mut AttemptView) {
        let Machine { size, region, .. } = &self.machine;
        let prices = &self.context.catalog.manifest.prices;
        let share_us = attempt.usage.map_or(0, |usage| usage.share_us);
        attempt.cost = (share_us > 0).then(|| running_cost(prices, size, region.as_ref(), share_us));
    }

    /// Tells a few of those that wait for jobs that ended, before the claim: this Machine may take them.
    pub(super) fn pass_on(&mut self) -> Result<(), StoreError> {
        if has_watched(&self.done.ended) {
            let passed_on = pass_on(self.rows, AT_ONCE, self.now)?;
            // The dispatcher tells the others, and counts those that are due now.
            self.done.changed |= passed_on.more || !passed_on.queues.is_empty();
            self.done.ended.extend(passed_on.ended);
            self.done.news.extend(passed_on.news);
            self.done.returned.extend(passed_on.queues);
            self.done.tell.extend(passed_on.tell);
        }
        self.passed_on = self.done.ended.len();
        Ok(())
    }

    /// Returns the right to report on an attempt that this Machine would have, if the attempt is leased to it.
    pub(super) fn lease(&self, attempt: AttemptRef) -> Lease {
        Lease { machine: self.machine.name.clone(), attempt: attempt.attempt }
    }

    /// Returns whether the Machine was being made or started, until this exchange.
    pub(super) fn has_just_come(&self) -> bool {
        matches!(self.row.state, MachineState::Creating | MachineState::Starting)
    }

    pub(super) fn is_leased(&self, attempt: AttemptRef) -> bool {
        self.leased.get(&attempt.job).is_some_and(|job| job.is_leased_as(&self.machine.name, attempt))
    }

    /// Writes the Machine, and returns what came of it all.
    pub(super) fn finish(mut self) -> Result<Exchanged, StoreError> {
        // A parked request that looks again and finds nothing writes nothing: then there is nothing to make durable.
        if self.machine.is_news_to(&self.row) {
            self.rows.put_machine(&self.machine)?;
            self.costs.add_change(&self.row, &self.machine, self.now);
        }
        if !self.costs.is_empty() {
            self.rows.add_costs(&self.costs)?;
        }
        let mut done = self.done;
        done.unblocked |= self.slots_freed.iter().any(|queue| {
            let policy = self.context.catalog.policy(queue);
            policy.max_running.is_some() || policy.max_running_per_key.is_some()
        });
        // Of what ended since, the dispatcher tells.
        done.changed |= has_watched(&done.ended[self.passed_on..]);
        done.answer.drain = self.machine.is_to_drain();
        done.queue = Some(self.machine.queue);
        Ok(done)
    }
}

/// Returns whether a job is among them whose end others wait for.
fn has_watched(ended: &[Job]) -> bool {
    ended.iter().any(|job| job.links.is_watched())
}
