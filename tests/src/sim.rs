//! The whole system in one thread, under a seed and in virtual time: the server's own functions, on the in-memory
//! store, among Machines, hosts, messages and people that fail as they may.
//!
//! Invariant: no system clock, no system randomness, no thread, and no order that depends on a hash: a seed always
//! makes the same run. Nothing here decides what the server decides; `exchange` and `round` are called, not copied.

mod after;
mod api;
mod batches;
mod calls;
mod chance;
mod checkpoints;
mod clock;
mod deletes;
mod faults;
mod finale;
mod fleet;
mod follow_ups;
mod host;
mod ledger;
mod messages;
mod people;
mod room;
mod schedules;
mod server;
mod settings;
mod sleep;
mod store;
mod sweeps;
mod trace;
mod turns;
mod unique;
mod world;

pub use faults::Fault;
pub use trace::{Summary, Violation};

/// Runs one seed to its end, with something wrong with the server or as it is.
pub fn run(seed: u64, fault: Option<Fault>) -> Result<Summary, Violation> {
    world::World::new(seed, fault).run()
}
