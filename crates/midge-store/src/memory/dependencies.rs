//! A transaction on the in-memory store: dependencies.

use std::ops::Bound;

use midge_core::{DependencyEnd, Job, Phase};
use midge_protocol::JobId;

use super::rows::MemoryRows;
use crate::{DependencyRows, Dependent, StoreError, UntoldEnd};

impl DependencyRows for MemoryRows<'_> {
    fn put_dependencies(&mut self, job: JobId, on: &[JobId]) -> Result<(), StoreError> {
        self.access.to_write()?;
        for on in on {
            let row = self.number();
            self.set(|tables| &mut tables.dependencies, (job, *on), Some(row));
            self.set(|tables| &mut tables.dependents, (*on, row), Some(job));
        }
        Ok(())
    }

    fn dependencies(&mut self, job: JobId, limit: usize) -> Result<(u64, Vec<JobId>), StoreError> {
        let mut on = self.waits_for(job);
        on.sort_unstable();
        Ok((on.len() as u64, on.into_iter().take(limit).map(|(_, on)| on).collect()))
    }

    fn delete_dependency(&mut self, of: &UntoldEnd, dependent: &Dependent) -> Result<(), StoreError> {
        self.access.to_write()?;
        self.remove_dependency(dependent.job.id, of.job, dependent.row);
        Ok(())
    }

    fn next_untold_end(&mut self) -> Result<Option<UntoldEnd>, StoreError> {
        Ok(self.tables.untold_ends.values().next().copied())
    }

    fn dependents(&mut self, of: &UntoldEnd, limit: usize) -> Result<Vec<Dependent>, StoreError> {
        if of.told >= of.until {
            return Ok(Vec::new());
        }
        let still = (Bound::Excluded((of.job, of.told)), Bound::Included((of.job, of.until)));
        let still = self.tables.dependents.range(still).take(limit);
        let found = still.filter_map(|((_, row), id)| {
            let job = Job::clone(self.tables.jobs.get(id)?);
            Some(Dependent { row: *row, waits_for_others: self.waits_for(*id).len() > 1, job })
        });
        Ok(found.collect())
    }

    fn put_told(&mut self, of: &UntoldEnd, told: u64) -> Result<(), StoreError> {
        self.access.to_write()?;
        self.set(|tables| &mut tables.untold_ends, of.row, Some(UntoldEnd { told, ..*of }));
        Ok(())
    }

    fn delete_untold_end(&mut self, of: &UntoldEnd) -> Result<(), StoreError> {
        self.access.to_write()?;
        self.set(|tables| &mut tables.untold_ends, of.row, None);
        Ok(())
    }
}

impl MemoryRows<'_> {
    /// Follows what became of a job: one that is pending no more waits for nothing, and those that wait for one that ended
    /// or is gone are to be told.
    pub(super) fn follow_dependencies(&mut self, id: JobId, before: Option<&Job>, after: Option<&Job>) {
        let phase = |job: Option<&Job>| job.map(Job::phase);
        if phase(before) == Some(Phase::Pending) && phase(after) != Some(Phase::Pending) {
            for (row, on) in self.waits_for(id) {
                self.remove_dependency(id, on, row);
            }
        }
        let end = match after {
            None => Some(DependencyEnd::Deleted),
            Some(job) if job.links.has_dependents => DependencyEnd::of(job.phase()),
            Some(_) => None,
        };
        let had_ended = before.is_some_and(|job| job.ended_at().is_some()) && after.is_some();
        if let Some(end) = end.filter(|_| !had_ended) {
            self.is_to_be_told(id, end);
        }
    }

    /// Writes that all that wait for a job are to be told of its end, if any do.
    fn is_to_be_told(&mut self, job: JobId, end: DependencyEnd) {
        let last = self.tables.dependents.range((job, 0)..=(job, u64::MAX)).next_back();
        let Some(until) = last.map(|((_, row), _)| *row) else { return };
        let row = self.number();
        self.set(|tables| &mut tables.untold_ends, row, Some(UntoldEnd { row, job, end, told: 0, until }));
    }

    /// What a job waits for, each with the number of the dependency.
    fn waits_for(&self, job: JobId) -> Vec<(u64, JobId)> {
        let (first, last) = (JobId::from_bytes([0; 16]), JobId::from_bytes([0xff; 16]));
        let all = self.tables.dependencies.range((job, first)..=(job, last));
        all.map(|((_, on), row)| (*row, *on)).collect()
    }

    fn remove_dependency(&mut self, job: JobId, on: JobId, row: u64) {
        self.set(|tables| &mut tables.dependencies, (job, on), None);
        self.set(|tables| &mut tables.dependents, (on, row), None);
    }

    /// Returns a number that was never given before. One that was given in a transaction that failed is not given again.
    fn number(&mut self) -> u64 {
        self.tables.numbered += 1;
        self.tables.numbered
    }
}
