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
mod faults;
mod finale;
mod fleet;
mod host;
mod ledger;
mod messages;
mod people;
mod schedules;
mod server;
mod store;
mod sweeps;
mod trace;
mod unique;
mod world;

pub use faults::Fault;
pub use trace::{Summary, Violation};

/// Whether late reports are fenced off by their attempt numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// As it is.
    Standing,
    /// Late reports are rewritten to carry the lease that the job has now, as if nobody checked attempt numbers.
    TakenOut,
}

/// What is wrong with the ticks of schedules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TickFault {
    /// Nothing: as it is.
    None,
    /// The state of a schedule is taken back now and then, as if it were not written with the tick's job.
    StateLost,
    /// So it is, and the job gets another id, as if that were no function of schedule and tick.
    IdAndStateLost,
}

/// Runs one seed to its end.
pub fn run(seed: u64, fence: Fence) -> Result<Summary, Violation> {
    world::World::new(seed, fence, TickFault::None).run()
}

/// Runs one seed to its end, with something wrong with the ticks of schedules.
pub fn run_with_tick_fault(seed: u64, fault: TickFault) -> Result<Summary, Violation> {
    world::World::new(seed, Fence::Standing, fault).run()
}

/// Runs one seed to its end, with something wrong with the server.
pub fn run_with_fault(seed: u64, fault: Fault) -> Result<Summary, Violation> {
    let mut world = world::World::new(seed, Fence::Standing, TickFault::None);
    world.fault = Some(fault);
    world.run()
}
