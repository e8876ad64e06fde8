//! Rows in memory, for simulations and tests, and for servers whose jobs may be forgotten.
//!
//! Invariant: no thread, no clock, no chance. Work runs inside the poll of the call, so a simulation repeats
//! exactly under one seed.

mod batches;
mod costs;
mod dependencies;
mod failures;
mod rows;
mod tables;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use self::rows::MemoryRows;
use self::tables::Tables;
use crate::work::{self, Access};
use crate::{ReadWork, Store, StoreError, WriteWork};

/// A store that is gone when it is dropped.
#[derive(Debug, Default)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
    changes: AtomicU64,
}

impl MemoryStore {
    /// Makes an empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// Returns how many transactions have written anything: where it is the same as before, the rows are.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        // A panic in work is caught inside, and what it did is undone: the tables are whole.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, work: WriteWork, access: Access) -> Result<(), StoreError> {
        let mut tables = self.lock();
        let mut rows = MemoryRows::new(&mut tables, access);
        let outcome = work::run(work, &mut rows);
        match &outcome {
            Ok(()) if rows.has_written() => {
                self.changes.fetch_add(1, Ordering::Relaxed);
            }
            Ok(()) => {}
            Err(_) => rows.undo(),
        }
        outcome
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn write_boxed(&self, work: WriteWork) -> Result<(), StoreError> {
        self.run(work, Access::Write)
    }

    async fn read_boxed(&self, work: ReadWork) -> Result<(), StoreError> {
        self.run(work, Access::Read)
    }

    fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
