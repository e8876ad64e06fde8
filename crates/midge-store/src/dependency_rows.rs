//! Rows of dependencies: which pending job waits for which others, and who is to be told of an end.

use midge_core::{DependencyEnd, Job};
use midge_protocol::JobId;

use crate::StoreError;

/// Rows of dependencies. There is one for each job that a pending job waits for, as long as it is pending and waits for it.
///
/// [`JobRows`](crate::JobRows) keeps them: a job that is pending no more waits for nothing, and of one that
/// [has dependents](midge_core::Links::has_dependents) and ends, or of any that is deleted, it is written that those are to
/// be told that wait for it by then.
pub trait DependencyRows {
    /// Writes that a pending job waits for others.
    fn put_dependencies(&mut self, job: JobId, on: &[JobId]) -> Result<(), StoreError>;

    /// Returns how many jobs one waits for, and the first `limit` of them, in the order in which they were written.
    fn dependencies(&mut self, job: JobId, limit: usize) -> Result<(u64, Vec<JobId>), StoreError>;

    /// Deletes a dependency that was found: its job does not wait for the one that ended any more.
    fn delete_dependency(&mut self, of: &UntoldEnd, dependent: &Dependent) -> Result<(), StoreError>;

    /// Returns the oldest end of which somebody is still to be told. Fast enough for every round.
    fn next_untold_end(&mut self) -> Result<Option<UntoldEnd>, StoreError>;

    /// Finds at most `limit` jobs that are still to be told of an end, in the order in which they began to wait for it.
    /// Those that cannot be read are left out, and, in a transaction that writes,
    /// [discarded](midge_core::UnreadableJob::discarded).
    fn dependents(&mut self, of: &UntoldEnd, limit: usize) -> Result<Vec<Dependent>, StoreError>;

    /// Writes that all are told of an end whose dependencies have numbers up to `told`.
    fn put_told(&mut self, of: &UntoldEnd, told: u64) -> Result<(), StoreError>;

    /// Deletes an end of which all are told.
    fn delete_untold_end(&mut self, of: &UntoldEnd) -> Result<(), StoreError>;
}

/// The end of a job, of which those are to be told that waited for it then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UntoldEnd {
    /// Numbers ends, in the order in which they are told.
    pub row: u64,
    /// The job that ended or was deleted.
    pub job: JobId,
    /// How it ended.
    pub end: DependencyEnd,
    /// All are told whose dependencies have numbers up to this.
    pub told: u64,
    /// Those began to wait later whose dependencies have larger numbers: they wait for another end of it.
    pub until: u64,
}

/// A job that waits for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependent {
    /// The number of the dependency. Numbers rise, and are never used again.
    pub row: u64,
    /// The job that waits.
    pub job: Job,
    /// Whether it waits for others beside this one.
    pub waits_for_others: bool,
}
