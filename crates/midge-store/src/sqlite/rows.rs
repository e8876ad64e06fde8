//! The rows that one work finds and writes, and how its writes are undone where it fails.
//!
//! What can be done with them is in the files beside this one: jobs, contents, Machines.

use std::collections::BTreeMap;

use midge_core::Job;
use midge_protocol::JobId;
use rusqlite::Connection;

use super::counts::Counts;
use crate::StoreError;
use crate::work::Access;

/// One work's part of a transaction.
pub(super) struct SqliteRows<'a> {
    pub(super) connection: &'a Connection,
    pub(super) access: Access,
    guard: Guard,
    /// Loaded when they are first needed.
    counts: &'a mut Option<Counts>,
    /// Jobs that this work has read and not written since, with their rows.
    pub(super) read: BTreeMap<JobId, (i64, Box<Job>)>,
    /// How the first write failed that did: the work has failed then, even if it returns that all is well.
    broken: Option<StoreError>,
}

/// What to undo where a work fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    /// Nothing: nobody has written in the transaction yet, so that the first write needs no savepoint.
    Transaction,
    /// The transaction: nobody but this work has written in it.
    TransactionUsed,
    /// Nothing: this work has not written yet. Others have, so that its first write makes a savepoint.
    Savepoint,
    /// All since the savepoint.
    SavepointMade,
}

impl<'a> SqliteRows<'a> {
    pub(super) fn to_read(connection: &'a Connection, counts: &'a mut Option<Counts>) -> SqliteRows<'a> {
        let (access, guard) = (Access::Read, Guard::Transaction);
        SqliteRows { connection, access, guard, counts, read: BTreeMap::new(), broken: None }
    }

    pub(super) fn to_write(
        connection: &'a Connection,
        counts: &'a mut Option<Counts>,
        guard: Guard,
    ) -> SqliteRows<'a> {
        SqliteRows { connection, access: Access::Write, guard, counts, read: BTreeMap::new(), broken: None }
    }

    /// Returns what to undo where the work failed, and whether it did. `outcome` is what the work itself returned.
    pub(super) fn end(self, outcome: Result<(), StoreError>) -> (Guard, Result<(), StoreError>) {
        (self.guard, self.broken.map_or(outcome, Err))
    }

    /// Returns the numbers of the database as the transaction sees them.
    pub(super) fn counts(&mut self) -> Result<&mut Counts, StoreError> {
        match self.counts {
            Some(counts) => Ok(counts),
            None => Ok(self.counts.insert(Counts::load(self.connection)?)),
        }
    }

    /// Does a write, after it has made sure that it can be undone. Refused in a transaction that only reads.
    pub(super) fn writing<T>(
        &mut self,
        write: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.access.to_write()?;
        self.guard = match self.guard {
            Guard::Savepoint => {
                self.connection.prepare_cached("SAVEPOINT work")?.execute([])?;
                Guard::SavepointMade
            }
            Guard::Transaction => Guard::TransactionUsed,
            used => used,
        };
        let outcome = write(self);
        if let Err(error) = &outcome {
            self.broken.get_or_insert_with(|| error.for_another());
        }
        outcome
    }
}
