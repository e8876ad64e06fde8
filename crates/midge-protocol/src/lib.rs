//! What crosses a process in midge: ids, times, job requests and answers, the exchange, the module manifest.
//!
//! Invariant: types, their checks and their wire formats only. Nothing here opens a socket or a file.

pub mod api;
mod cause;
pub mod exchange;
pub mod exit;
mod id;
pub mod job;
pub mod limits;
pub mod manifest;
mod nearest;
mod retry;
pub mod shown;
mod time;

pub use id::{
    AttemptNumber, AttemptRange, BootId, InvalidName, JobId, JobKey, Lease, MachineId, MachineName,
    ModuleName, QueueName, Secret,
};
pub use nearest::nearest;
pub use time::{InvalidTime, Timestamp};
