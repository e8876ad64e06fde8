//! The tables of the in-memory store, and the indexes that follow the jobs.

// BTreeMap, not HashMap: a simulation must repeat exactly under one seed.
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use midge_core::{Job, Machine, Phase};
use midge_protocol::job::AttemptView;
use midge_protocol::{AttemptNumber, JobId, MachineName, QueueName, Timestamp};

use crate::Content;

/// All rows.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) jobs: BTreeMap<JobId, Job>,
    /// Jobs that wait, longest due first.
    pub(super) waiting: BTreeMap<QueueName, BTreeMap<(Timestamp, JobId), Phase>>,
    /// Jobs that run.
    pub(super) leased: BTreeMap<MachineName, BTreeSet<JobId>>,
    /// Jobs that ended, longest ago first.
    pub(super) ended: BTreeMap<Phase, BTreeSet<(Timestamp, JobId)>>,
    /// How many jobs of a queue are in a phase. Never 0.
    pub(super) counts: BTreeMap<QueueName, BTreeMap<Phase, u64>>,
    pub(super) contents: BTreeMap<(JobId, Content), Bytes>,
    pub(super) logs: BTreeMap<(JobId, AttemptNumber), Vec<u8>>,
    pub(super) attempts: BTreeMap<(JobId, AttemptNumber), AttemptView>,
    pub(super) machines: BTreeMap<MachineName, Machine>,
    pub(super) settings: BTreeMap<String, String>,
}

impl Tables {
    /// Writes or deletes a job, and everything that is found by it. Returns the job that was there.
    pub(super) fn set_job(&mut self, id: JobId, job: Option<Job>) -> Option<Job> {
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

    fn index(&mut self, job: &Job) {
        *self.counts.entry(job.queue.clone()).or_default().entry(job.phase()).or_default() += 1;
        match job.phase() {
            phase @ (Phase::Fresh | Phase::Retrying) => {
                let waiting = self.waiting.entry(job.queue.clone()).or_default();
                waiting.insert((job.due(), job.id), phase);
            }
            Phase::Running => {
                if let Some(lease) = job.lease() {
                    self.leased.entry(lease.machine.clone()).or_default().insert(job.id);
                }
            }
            phase @ (Phase::Completed | Phase::Cancelled | Phase::Discarded) => {
                if let Some(at) = job.ended_at() {
                    self.ended.entry(phase).or_default().insert((at, job.id));
                }
            }
        }
    }

    fn unindex(&mut self, job: &Job) {
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
        take(&mut self.waiting, &job.queue, |waiting| {
            waiting.remove(&(job.due(), job.id));
            waiting.is_empty()
        });
        if let Some(lease) = job.lease() {
            take(&mut self.leased, &lease.machine, |ids| {
                ids.remove(&job.id);
                ids.is_empty()
            });
        }
        if let Some(at) = job.ended_at() {
            take(&mut self.ended, &phase, |ended| {
                ended.remove(&(at, job.id));
                ended.is_empty()
            });
        }
    }
}

/// Changes a part, and removes it where `change` says that it is empty.
fn take<K: Ord, V>(parts: &mut BTreeMap<K, V>, key: &K, change: impl FnOnce(&mut V) -> bool) {
    if parts.get_mut(key).is_some_and(change) {
        parts.remove(key);
    }
}
