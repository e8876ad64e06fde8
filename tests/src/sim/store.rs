//! The in-memory store, which fails a transaction now and then.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use midge_store::{MemoryStore, ReadWork, Rows, Store, StoreError, WriteWork};

use super::chance::Chance;
use super::server::at_once;

pub(super) struct FlakyStore {
    rows: MemoryStore,
    chance: Mutex<Chance>,
    fails: AtomicU32,
}

impl FlakyStore {
    pub(super) fn new(seed: u64) -> FlakyStore {
        FlakyStore {
            rows: MemoryStore::new(),
            chance: Mutex::new(Chance::new(seed)),
            fails: AtomicU32::new(0),
        }
    }

    /// Sets how many of a thousand transactions fail.
    pub(super) fn set_fails(&self, permille: u32) {
        self.fails.store(permille, Ordering::Relaxed);
    }

    /// Returns how many transactions have written anything.
    pub(super) fn changes(&self) -> u64 {
        self.rows.changes()
    }

    /// Reads rows as an observer, who never fails.
    pub(super) fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Rows) -> Result<T, StoreError> + Send + 'static,
    ) -> T {
        at_once(midge_store::read(&self.rows, work)).expect("rows in memory can be read")
    }

    /// Changes rows as a fault that is put in does. It is no transaction of anybody's.
    pub(super) fn tamper(&self, work: impl FnOnce(&mut dyn Rows) -> Result<(), StoreError> + Send + 'static) {
        at_once(midge_store::write(&self.rows, work)).expect("rows in memory can be written");
    }

    fn may_fail(&self) -> Result<(), StoreError> {
        let fails = self.fails.load(Ordering::Relaxed);
        let mut chance = self.chance.lock().expect("nobody panics with it in hand");
        if chance.permille(fails) {
            return Err(StoreError::Failed("the simulation says so".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl Store for FlakyStore {
    async fn write_boxed(&self, work: WriteWork) -> Result<(), StoreError> {
        self.may_fail()?;
        self.rows.write_boxed(work).await
    }

    async fn read_boxed(&self, work: ReadWork) -> Result<(), StoreError> {
        self.may_fail()?;
        self.rows.read_boxed(work).await
    }

    fn check(&self) -> Result<(), StoreError> {
        self.rows.check()
    }
}
