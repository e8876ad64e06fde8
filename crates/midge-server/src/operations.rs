//! What can be asked of a server, apart from HTTP: each file adds methods to [`crate::Midge`].

pub(crate) mod batches;
pub(crate) mod enqueue;
mod jobs;
mod machines;
mod modules;
mod queues;
mod schedules;

pub use jobs::JobContent;
