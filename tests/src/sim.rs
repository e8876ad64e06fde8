//! The whole system in one thread, under a seed and in virtual time: the server's own functions, on the in-memory
//! store, among Machines, hosts, messages and people that fail as they may.
//!
//! Invariant: no system clock, no system randomness, no thread, and no order that depends on a hash: a seed always
//! makes the same run. Nothing here decides what the server decides; `exchange` and `round` are called, not copied.

mod api;
mod calls;
mod chance;
mod finale;
mod fleet;
mod host;
mod ledger;
mod messages;
mod people;
mod server;
mod store;
mod trace;
mod world;

pub use trace::{Summary, Violation};

/// Whether late reports are fenced off by their attempt numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// As it is.
    Standing,
    /// Late reports are rewritten to carry the lease that the job has now, as if nobody checked attempt numbers.
    TakenOut,
}

/// Runs one seed to its end.
pub fn run(seed: u64, fence: Fence) -> Result<Summary, Violation> {
    world::World::new(seed, fence).run()
}
