//! Runs a caller's work so that its panic is an error like any other, and not the end of a store.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{Rows, StoreError, WriteWork};

/// Whether a transaction may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

impl Access {
    /// Refuses to write in a transaction that only reads.
    pub(crate) fn to_write(self) -> Result<(), StoreError> {
        match self {
            Access::Write => Ok(()),
            Access::Read => Err(StoreError::Failed("this work only reads: it cannot write".to_owned())),
        }
    }
}

/// Runs work. Whatever it wrote must be undone where this is an error.
pub(crate) fn run(work: WriteWork, rows: &mut dyn Rows) -> Result<(), StoreError> {
    // Unwind safe: what the work left half done in `rows` is undone with its transaction.
    catch_unwind(AssertUnwindSafe(|| work(rows))).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<&str>().copied();
        let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Err(StoreError::Failed(format!("the work panicked: {}", said.unwrap_or("it did not say why"))))
    })
}
