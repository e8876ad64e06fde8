//! Rows of failures that are alike, and of sweeps.

use midge_core::Sweep;
use midge_protocol::api::{FailureGroup, FailuresCursor, JobCount};
use midge_protocol::{Fingerprint, ModuleName, Timestamp};

use crate::StoreError;

/// Rows of groups of failures. One whose row cannot be read is not found.
pub trait FailureRows {
    /// Finds the group of a fingerprint.
    fn failure_group(&mut self, fingerprint: Fingerprint) -> Result<Option<FailureGroup>, StoreError>;

    /// Finds at most `limit` groups, of a module or of all, that come after a point, the one that was seen last first.
    fn failure_groups(
        &mut self,
        module: Option<&ModuleName>,
        before: Option<FailuresCursor>,
        limit: usize,
    ) -> Result<Vec<FailureGroup>, StoreError>;

    /// Counts the jobs whose last failure has a fingerprint, as far as [`midge_core::FAILURE_OPEN_MAX`].
    fn failure_open(&mut self, fingerprint: Fingerprint) -> Result<JobCount, StoreError>;

    /// Writes a group: a new one, or over the one of the same fingerprint. A new one for which there is no room takes the
    /// place of the one that was seen longest ago: there are at most [`midge_core::FAILURE_GROUPS_MAX`].
    fn put_failure_group(&mut self, group: &FailureGroup) -> Result<(), StoreError>;

    /// Deletes at most `limit` groups that were last seen before a time, those seen longest ago first. Returns how many.
    fn delete_failure_groups(&mut self, before: Timestamp, limit: usize) -> Result<usize, StoreError>;
}

/// Rows of sweeps: a hundred at most, since whoever adds one deletes those that are over.
pub trait SweepRows {
    /// Finds a sweep by its number.
    fn sweep(&mut self, id: u64) -> Result<Option<Sweep>, StoreError>;

    /// Finds all sweeps, by number. Those that cannot be read are left out, and, in a transaction that writes, deleted.
    fn sweeps(&mut self) -> Result<Vec<Sweep>, StoreError>;

    /// Writes a sweep: a new one, or over the one of the same number.
    fn put_sweep(&mut self, sweep: &Sweep) -> Result<(), StoreError>;

    /// Deletes the row of a sweep, if there is one.
    fn delete_sweep(&mut self, id: u64) -> Result<(), StoreError>;
}
