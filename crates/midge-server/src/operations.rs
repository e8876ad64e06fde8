//! What can be asked of a server, apart from HTTP: each file adds methods to [`crate::Midge`].

pub(crate) mod enqueue;
mod follow;
mod jobs;
mod machines;
mod modules;
mod queues;
mod schedules;

pub use follow::Follower;
pub use jobs::JobContent;
