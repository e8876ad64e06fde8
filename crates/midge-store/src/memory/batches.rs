//! A transaction on the in-memory store: batches.

use std::ops::Bound;

use midge_core::{Batch, Job};
use midge_protocol::{BatchId, JobId, Timestamp};

use super::rows::MemoryRows;
use crate::{BatchRows, StoreError};

impl BatchRows for MemoryRows<'_> {
    fn batch(&mut self, id: BatchId) -> Result<Option<Batch>, StoreError> {
        Ok(self.tables.batches.get(&id).cloned())
    }

    fn batches_listed(&mut self, before: Option<BatchId>, limit: usize) -> Result<Vec<Batch>, StoreError> {
        let before = before.map_or(Bound::Unbounded, Bound::Excluded);
        let batches = self.tables.batches.range((Bound::Unbounded, before));
        Ok(batches.rev().take(limit).map(|(_, batch)| batch.clone()).collect())
    }

    fn put_batch(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.access.to_write()?;
        let counts = self.tables.batches.get(&batch.id).map_or(batch.counts, |there| there.counts);
        self.set(|tables| &mut tables.batches, batch.id, Some(Batch { counts, ..batch.clone() }));
        Ok(())
    }

    fn last_batch_number(&mut self) -> Result<u64, StoreError> {
        Ok(self.tables.batches.values().map(|batch| batch.number).max().unwrap_or(0))
    }

    fn batches_unended(&mut self) -> Result<u64, StoreError> {
        Ok(self.tables.batches.values().filter(|batch| batch.ended_at.is_none()).count() as u64)
    }

    fn batch_to_act(&mut self) -> Result<Option<Batch>, StoreError> {
        Ok(self.tables.batches.values().find(|batch| batch.has_to_act()).cloned())
    }

    fn jobs_of_batch(
        &mut self,
        id: BatchId,
        after: Option<JobId>,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError> {
        let first = (id, after.unwrap_or(JobId::from_bytes([0; 16])));
        let last = (id, JobId::from_bytes([0xff; 16]));
        let jobs =
            self.tables.of_batch.range(first..=last).filter(|(_, job)| after != Some(*job)).take(limit);
        Ok(jobs.filter_map(|(_, id)| self.tables.jobs.get(id)).map(|job| Job::clone(job)).collect())
    }

    fn delete_batches(&mut self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.access.to_write()?;
        let (first, last) = (JobId::from_bytes([0; 16]), JobId::from_bytes([0xff; 16]));
        let over = |batch: &Batch| {
            let has_jobs = self.tables.of_batch.range((batch.id, first)..=(batch.id, last)).next().is_some();
            batch.ended_at.filter(|at| *at < before && !has_jobs).map(|at| (at, batch.id))
        };
        let mut over: Vec<(Timestamp, BatchId)> = self.tables.batches.values().filter_map(over).collect();
        over.sort_unstable();
        over.truncate(limit);
        for (_, id) in &over {
            self.set(|tables| &mut tables.batches, *id, None);
        }
        Ok(over.len())
    }
}

impl MemoryRows<'_> {
    /// Counts what became of a job in its batch, if it has one.
    pub(super) fn count_in_batch(&mut self, before: Option<&Job>, after: Option<&Job>) {
        let phases = (before.map(Job::phase), after.map(Job::phase));
        let Some(id) = after.or(before).and_then(|job| job.links.batch).filter(|_| phases.0 != phases.1)
        else {
            return;
        };
        let Some(mut batch) = self.tables.batches.get(&id).cloned() else { return };
        batch.count(phases.0, phases.1);
        self.set(|tables| &mut tables.batches, id, Some(batch));
    }
}
