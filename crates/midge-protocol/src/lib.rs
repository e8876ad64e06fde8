//! What crosses a process in midge: ids, times, job requests and answers, the exchange, the module manifest.
//!
//! Invariant: types, their checks and their wire formats only. Nothing here opens a socket or a file.

pub mod api;
mod cause;
mod cron;
mod day;
pub mod exchange;
pub mod exit;
mod fingerprint;
mod id;
pub mod job;
mod labels;
pub mod limits;
pub mod line;
pub mod manifest;
mod money;
mod nearest;
pub mod news;
mod object;
pub mod recording;
mod retry;
mod secret;
pub mod shown;
mod time;
pub mod units;
pub mod wrong;
#[cfg(feature = "zones")]
mod zone;

pub use cron::{Cron, InvalidCron};
pub use day::{Day, InvalidDay};
pub use fingerprint::Fingerprint;
pub use id::{
    AttemptNumber, AttemptRange, BatchId, BootId, InvalidName, JobId, JobKey, Lease, MachineId, MachineName,
    ModuleName, QueueName, RegionName, ScheduleName, Secret, SecretName, Tag, UnseenCharacter,
};
pub use labels::{InvalidLabels, Labels};
pub use money::{Dollars, InvalidDollars};
pub use nearest::nearest;
pub use secret::{InvalidSecret, secret_value};
pub use time::{InvalidTime, Timestamp};
#[cfg(feature = "zones")]
pub use zone::{UnknownZone, zone};
