//! Where jobs live: rows in SQLite or in memory, read and written in transactions.
//!
//! Invariant: it finds, locks and writes rows and decides nothing. A rule about jobs is never SQL: the caller's
//! closure gets the rows, asks `midge-core`, and writes what it says, so no two backends can disagree.

mod batch_rows;
#[cfg(feature = "conformance")]
pub mod conformance;
mod cost_rows;
mod dependency_rows;
mod memory;
mod rows;
mod sqlite;
mod work;

pub use batch_rows::BatchRows;
pub use cost_rows::CostRows;
pub use dependency_rows::{DependencyRows, Dependent, UntoldEnd};
pub use memory::MemoryStore;
pub use rows::{
    Content, ContentRows, FailureRows, FoundJobs, JobRows, JobSearch, LaneRows, LanesCome, MachineRows, Rows,
    ScheduleRows, StoreError, SweepRows, read, write,
};
pub use rows::{ReadJob, ReadWork, Store, WriteWork};
pub use sqlite::{SqliteSettings, SqliteStore};
