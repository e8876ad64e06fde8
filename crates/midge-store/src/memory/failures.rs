//! A transaction on the in-memory store: jobs that people mean, groups of failures, and sweeps.

use std::sync::Arc;

use midge_core::{FAILURE_GROUPS_MAX, FAILURE_OPEN_MAX, Job, Sweep};
use midge_protocol::api::{Cursor, FailureGroup, FailuresCursor, JobCount};
use midge_protocol::{Fingerprint, JobId, ModuleName, Timestamp};

use super::rows::MemoryRows;
use crate::rows::{JOBS_LOOKED_AT_MAX, counted};
use crate::{Content, ContentRows, FailureRows, FoundJobs, JobSearch, StoreError, SweepRows};

impl MemoryRows<'_> {
    /// Finds at most `limit` jobs, in the order of the search.
    pub(super) fn find(&mut self, search: &JobSearch, limit: usize) -> Result<FoundJobs, StoreError> {
        let mut found = FoundJobs::default();
        let mut looked_at = 0;
        let narrowest = search.narrowest();
        for job in self.in_order(search).into_iter().filter(|job| narrowest.matches(job)) {
            if found.jobs.len() == limit {
                break;
            }
            looked_at += 1;
            if search.matches(&job) && self.fits_args(search, &job)? {
                found.jobs.push(Ok(Job::clone(&job)));
            }
            // As a store does that has the jobs on a disk.
            if looked_at == JOBS_LOOKED_AT_MAX && found.jobs.len() < limit && !search.is_plain() {
                found.stopped_at = Some(search.point_of(&job));
                break;
            }
        }
        Ok(found)
    }

    /// Counts all jobs that fit.
    pub(super) fn count(&mut self, search: &JobSearch) -> Result<JobCount, StoreError> {
        let search = search.to_count();
        let mut jobs = 0;
        for job in self.in_order(&search) {
            jobs += u64::from(search.matches(&job) && self.fits_args(&search, &job)?);
        }
        Ok(JobCount { jobs, exact: true })
    }

    /// Returns the jobs that come after the point of a search, in its order.
    fn in_order(&self, search: &JobSearch) -> Vec<Arc<Job>> {
        let jobs = &self.tables().jobs;
        let jobs: Vec<Arc<Job>> = match search.before {
            Some(Cursor::Id(id)) => jobs.range(..id).map(|(_, job)| job.clone()).collect(),
            _ => jobs.values().cloned().collect(),
        };
        if !search.by_failure {
            return jobs.into_iter().rev().collect();
        }
        let after = |point: Option<(Timestamp, _)>| match (search.before, point) {
            (_, None) => false,
            (Some(Cursor::Failed { at, id }), Some(point)) => point < (at, id),
            _ => true,
        };
        let point = |job: &Arc<Job>| job.failed_at().map(|at| (at, job.id));
        let mut failed: Vec<Arc<Job>> = jobs.into_iter().filter(|job| after(point(job))).collect();
        failed.sort_by_key(|job| std::cmp::Reverse(point(job)));
        failed
    }

    fn fits_args(&mut self, search: &JobSearch, job: &Job) -> Result<bool, StoreError> {
        if search.args.is_none() {
            return Ok(true);
        }
        Ok(search.matches_args(&self.content(job.id, Content::Args)?.unwrap_or_default()))
    }
}

impl FailureRows for MemoryRows<'_> {
    fn failure_group(&mut self, fingerprint: Fingerprint) -> Result<Option<FailureGroup>, StoreError> {
        Ok(self.tables().failures.get(&fingerprint).cloned())
    }

    fn failure_groups(
        &mut self,
        module: Option<&ModuleName>,
        before: Option<FailuresCursor>,
        limit: usize,
    ) -> Result<Vec<FailureGroup>, StoreError> {
        // As numbers with a sign, by which another store sorts them.
        let point = |at: Timestamp, fingerprint: Fingerprint| (at, fingerprint.0 as i64);
        let place = |group: &FailureGroup| point(group.last_seen, group.fingerprint);
        let before = before.map(|before| point(before.at, before.fingerprint));
        let is_meant = |group: &&FailureGroup| {
            module.is_none_or(|module| group.module == *module)
                && before.is_none_or(|before| place(group) < before)
        };
        let mut groups: Vec<FailureGroup> =
            self.tables().failures.values().filter(is_meant).cloned().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(place(group)));
        groups.truncate(limit);
        Ok(groups)
    }

    fn failure_open(&mut self, fingerprint: Fingerprint) -> Result<JobCount, StoreError> {
        let all = (fingerprint, JobId::from_bytes([0; 16]))..=(fingerprint, JobId::from_bytes([0xff; 16]));
        Ok(counted(self.tables().alike.range(all).take(FAILURE_OPEN_MAX as usize + 1).count() as u64))
    }

    fn put_failure_group(&mut self, group: &FailureGroup) -> Result<(), StoreError> {
        self.to_write()?;
        let failures = &self.tables().failures;
        if !failures.contains_key(&group.fingerprint) && failures.len() >= FAILURE_GROUPS_MAX {
            let oldest = failures.values().min_by_key(|group| (group.last_seen, group.fingerprint.0 as i64));
            if let Some(oldest) = oldest.map(|oldest| oldest.fingerprint) {
                self.set(|tables| &mut tables.failures, oldest, None);
            }
        }
        self.set(|tables| &mut tables.failures, group.fingerprint, Some(group.clone()));
        Ok(())
    }

    fn delete_failure_groups(&mut self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.to_write()?;
        let over = self.tables().failures.values().filter(|group| group.last_seen < before);
        let mut over: Vec<(Timestamp, Fingerprint)> =
            over.map(|group| (group.last_seen, group.fingerprint)).collect();
        over.sort_unstable_by_key(|(last_seen, fingerprint)| (*last_seen, fingerprint.0 as i64));
        over.truncate(limit);
        for (_, fingerprint) in &over {
            self.set(|tables| &mut tables.failures, *fingerprint, None);
        }
        Ok(over.len())
    }
}

impl SweepRows for MemoryRows<'_> {
    fn sweep(&mut self, id: u64) -> Result<Option<Sweep>, StoreError> {
        Ok(self.tables().sweeps.get(&id).cloned())
    }

    fn sweeps(&mut self) -> Result<Vec<Sweep>, StoreError> {
        Ok(self.tables().sweeps.values().cloned().collect())
    }

    fn put_sweep(&mut self, sweep: &Sweep) -> Result<(), StoreError> {
        self.to_write()?;
        self.set(|tables| &mut tables.sweeps, sweep.view.id, Some(sweep.clone()));
        Ok(())
    }

    fn delete_sweep(&mut self, id: u64) -> Result<(), StoreError> {
        self.to_write()?;
        self.set(|tables| &mut tables.sweeps, id, None);
        Ok(())
    }
}
