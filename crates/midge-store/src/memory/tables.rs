//! The tables of the in-memory store, and the indexes that follow the jobs.

// BTreeMap, not HashMap: a simulation must repeat exactly under one seed.
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use midge_core::{
    Batch, CostKey, CostSums, Job, Lane, Machine, ModuleRow, Phase, QueueRow, Schedule, Sweep, Turn,
    UniqueKey,
};
use midge_protocol::api::FailureGroup;
use midge_protocol::job::AttemptView;
use midge_protocol::{
    AttemptNumber, BatchId, Fingerprint, JobId, JobKey, MachineName, ModuleName, QueueName, ScheduleName,
    Timestamp,
};

use crate::{Content, UntoldEnd};

/// All rows.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) jobs: BTreeMap<JobId, Arc<Job>>,
    /// The jobs of each module that are held.
    pub(super) held: BTreeMap<ModuleName, BTreeSet<(QueueName, JobId)>>,
    /// The jobs of each queue that wait in line.
    pub(super) waiting: BTreeMap<QueueName, BTreeSet<Waiting>>,
    /// The jobs that wait and will not be started from a time on, soonest first.
    pub(super) expiring: BTreeSet<(Timestamp, JobId)>,
    /// The same, by key and priority: those of each are in the order in which they are claimed.
    pub(super) lines: BTreeMap<(QueueName, Option<JobKey>, i8), BTreeSet<Waiting>>,
    /// The job that is the only one of each key.
    pub(super) unique: BTreeMap<UniqueKey, JobId>,
    pub(super) lanes: BTreeMap<(QueueName, JobKey), Lane>,
    /// Those of `lanes` that have a turn and are not full, by queue.
    pub(super) turns: BTreeMap<QueueName, BTreeSet<(Turn, JobKey)>>,
    pub(super) queues: BTreeMap<QueueName, QueueRow>,
    pub(super) modules: BTreeMap<ModuleName, ModuleRow>,
    /// The jobs that are leased to each Machine.
    pub(super) leased: BTreeMap<MachineName, BTreeSet<JobId>>,
    /// The jobs of each queue that ended in each phase, longest ago first.
    pub(super) ended: BTreeMap<(QueueName, Phase), BTreeSet<(Timestamp, JobId)>>,
    /// The jobs whose last failures are alike.
    pub(super) alike: BTreeSet<(Fingerprint, JobId)>,
    /// How many jobs of each queue are in each phase. What would be 0 is not there.
    pub(super) counts: BTreeMap<QueueName, BTreeMap<Phase, u64>>,
    pub(super) batches: BTreeMap<BatchId, Batch>,
    /// The jobs of each batch.
    pub(super) of_batch: BTreeSet<(BatchId, JobId)>,
    /// The number of each dependency, by the job that waits and the one that it waits for.
    pub(super) dependencies: BTreeMap<(JobId, JobId), u64>,
    /// The jobs that wait for a job, by the numbers of their dependencies.
    pub(super) dependents: BTreeMap<(JobId, u64), JobId>,
    /// Ends of which somebody is to be told, by their numbers.
    pub(super) untold_ends: BTreeMap<u64, UntoldEnd>,
    /// The last number that a dependency or such an end was given.
    pub(super) numbered: u64,
    pub(super) contents: BTreeMap<(JobId, Content), Bytes>,
    pub(super) logs: BTreeMap<(JobId, AttemptNumber), Vec<u8>>,
    pub(super) attempts: BTreeMap<(JobId, AttemptNumber), AttemptView>,
    pub(super) machines: BTreeMap<MachineName, Machine>,
    pub(super) schedules: BTreeMap<ScheduleName, Schedule>,
    pub(super) failures: BTreeMap<Fingerprint, FailureGroup>,
    pub(super) sweeps: BTreeMap<u64, Sweep>,
    pub(super) costs: BTreeMap<CostKey, CostSums>,
    pub(super) settings: BTreeMap<String, String>,
}

/// A job that waits. They sort by when they are due, then by id.
#[derive(Debug)]
pub(super) struct Waiting(pub(super) Arc<Job>);

impl Ord for Waiting {
    fn cmp(&self, other: &Waiting) -> Ordering {
        (self.0.due(), self.0.id).cmp(&(other.0.due(), other.0.id))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Waiting) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Waiting) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Waiting {}

impl Tables {
    /// Writes or deletes a job, and everything that is found by it. Returns the job that was there.
    pub(super) fn set_job(&mut self, id: JobId, job: Option<Arc<Job>>) -> Option<Arc<Job>> {
        let before = self.jobs.remove(&id);
        if let Some(before) = &before {
            self.unindex(before);
        }
        if let Some(job) = job {
            self.index(&job);
            self.jobs.insert(id, job);
        }
        before
    }

    /// Writes or deletes a lane. Returns the one that was there.
    pub(super) fn set_lane(&mut self, key: (QueueName, JobKey), lane: Option<Lane>) -> Option<Lane> {
        let before = self.lanes.remove(&key);
        let comes = |lane: &Lane| lane.turn.filter(|_| !lane.full).map(|turn| (turn, lane.key.clone()));
        if let Some(turn) = before.as_ref().and_then(comes) {
            take(&mut self.turns, &key.0, |turns| {
                turns.remove(&turn);
                turns.is_empty()
            });
        }
        if let Some(lane) = lane {
            if let Some(turn) = comes(&lane) {
                self.turns.entry(key.0.clone()).or_default().insert(turn);
            }
            self.lanes.insert(key, lane);
        }
        before
    }

    fn index(&mut self, job: &Arc<Job>) {
        *self.counts.entry(job.queue.clone()).or_default().entry(job.phase()).or_default() += 1;
        self.expiring.extend(job.expiry().map(|at| (at, job.id)));
        self.unique.extend(job.unique.as_ref().map(|hold| (hold.key, job.id)));
        self.of_batch.extend(job.links.batch.map(|batch| (batch, job.id)));
        self.alike.extend(job.fingerprint().map(|fingerprint| (fingerprint, job.id)));
        match job.phase() {
            Phase::Fresh | Phase::Retrying => {
                self.waiting.entry(job.queue.clone()).or_default().insert(Waiting(job.clone()));
                self.lines.entry(line(job)).or_default().insert(Waiting(job.clone()));
            }
            Phase::Held => {
                let line = (job.queue.clone(), job.id);
                self.held.entry(job.module.clone()).or_default().insert(line);
            }
            Phase::Pending => {}
            Phase::Running => {
                if let Some(lease) = job.lease() {
                    self.leased.entry(lease.machine.clone()).or_default().insert(job.id);
                }
            }
            phase @ (Phase::Completed | Phase::Cancelled | Phase::Discarded) => {
                if let Some(at) = job.ended_at() {
                    self.ended.entry((job.queue.clone(), phase)).or_default().insert((at, job.id));
                }
            }
        }
    }

    fn unindex(&mut self, job: &Arc<Job>) {
        let phase = job.phase();
        take(&mut self.counts, &job.queue, |phases| {
            if let Some(count) = phases.get_mut(&phase) {
                *count -= 1;
                if *count == 0 {
                    phases.remove(&phase);
                }
            }
            phases.is_empty()
        });
        if let Some(batch) = job.links.batch {
            self.of_batch.remove(&(batch, job.id));
        }
        if let Some(fingerprint) = job.fingerprint() {
            self.alike.remove(&(fingerprint, job.id));
        }
        if let Some(at) = job.expiry() {
            self.expiring.remove(&(at, job.id));
        }
        if let Some(hold) = &job.unique {
            self.unique.remove(&hold.key);
        }
        if phase == Phase::Held {
            take(&mut self.held, &job.module, |held| {
                held.remove(&(job.queue.clone(), job.id));
                held.is_empty()
            });
        }
        if phase.is_in_line() {
            take(&mut self.waiting, &job.queue, |waiting| {
                waiting.remove(&Waiting(job.clone()));
                waiting.is_empty()
            });
            take(&mut self.lines, &line(job), |waiting| {
                waiting.remove(&Waiting(job.clone()));
                waiting.is_empty()
            });
        }
        if let Some(lease) = job.lease() {
            take(&mut self.leased, &lease.machine, |ids| {
                ids.remove(&job.id);
                ids.is_empty()
            });
        }
        if let Some(at) = job.ended_at() {
            take(&mut self.ended, &(job.queue.clone(), phase), |ended| {
                ended.remove(&(at, job.id));
                ended.is_empty()
            });
        }
    }
}

fn line(job: &Job) -> (QueueName, Option<JobKey>, i8) {
    (job.queue.clone(), job.key.clone(), job.priority)
}

/// Changes the value of a key, and removes it where `change` returns that it is empty now.
fn take<K: Ord, V>(parts: &mut BTreeMap<K, V>, key: &K, change: impl FnOnce(&mut V) -> bool) {
    if parts.get_mut(key).is_some_and(change) {
        parts.remove(key);
    }
}
