//! Rows of batches.

use midge_core::{Batch, Job};
use midge_protocol::{BatchId, JobId, Timestamp};

use crate::StoreError;

/// Rows of batches. One whose row cannot be read is not found.
///
/// [`JobRows`](crate::JobRows) keeps the numbers of their jobs, by [`Batch::count`].
pub trait BatchRows {
    /// Finds a batch.
    fn batch(&mut self, id: BatchId) -> Result<Option<Batch>, StoreError>;

    /// Finds at most `limit` batches whose ids sort before one, or any, the highest first.
    fn batches_listed(&mut self, before: Option<BatchId>, limit: usize) -> Result<Vec<Batch>, StoreError>;

    /// Writes a batch: a new one, or over the one of the same id, of whose jobs it leaves the numbers.
    fn put_batch(&mut self, batch: &Batch) -> Result<(), StoreError>;

    /// Returns the largest number that a batch has; 0 where there is none.
    fn last_batch_number(&mut self) -> Result<u64, StoreError>;

    /// Returns how many batches have not ended.
    fn batches_unended(&mut self) -> Result<u64, StoreError>;

    /// Finds a batch that [has to act](Batch::has_to_act). Fast enough for every round.
    fn batch_to_act(&mut self) -> Result<Option<Batch>, StoreError>;

    /// Finds at most `limit` jobs of a batch whose ids sort after one, or any, the lowest first. Those that cannot be read
    /// are left out, and, in a transaction that writes, [discarded](midge_core::UnreadableJob::discarded).
    fn jobs_of_batch(
        &mut self,
        id: BatchId,
        after: Option<JobId>,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError>;

    /// Deletes at most `limit` batches that ended before a time and of which no job is there any more, those that ended first
    /// first. Returns how many.
    fn delete_batches(&mut self, before: Timestamp, limit: usize) -> Result<usize, StoreError>;
}
