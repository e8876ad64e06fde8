//! What can be asked of a server, apart from HTTP: each file adds methods to [`crate::Midge`].

pub(crate) mod batches;
mod costs;
pub(crate) mod enqueue;
mod failures;
mod follow;
mod jobs;
pub(crate) mod live;
mod machines;
mod modules;
mod queues;
mod recorded;
mod schedules;
mod sweeps;

pub use follow::Follower;
pub use jobs::JobContent;
