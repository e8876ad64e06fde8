//! What can be asked of a server, apart from HTTP: each file adds methods to [`crate::Midge`].

mod enqueue;
mod jobs;
mod machines;
mod modules;
mod queues;

pub use jobs::JobContent;
