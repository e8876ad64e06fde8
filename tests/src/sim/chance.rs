//! Chance under a seed, and which faults a run has.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

/// The only source of chance in a run.
pub(super) struct Chance(StdRng);

impl Chance {
    pub(super) fn new(seed: u64) -> Chance {
        Chance(StdRng::seed_from_u64(seed))
    }

    /// Returns true in so many of a thousand cases.
    pub(super) fn permille(&mut self, permille: u32) -> bool {
        self.below(1000) < u64::from(permille)
    }

    /// Returns a number below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0.random_range(0..end)
    }

    /// Returns a number of milliseconds from `least` to `most`.
    pub(super) fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.0.random_range(least..=most))
    }

    /// Returns at least 0 and less than 1.
    pub(super) fn fraction(&mut self) -> f64 {
        self.0.random_range(0.0..1.0)
    }

    pub(super) fn number(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// What goes wrong in a run, and how often: in so many of a thousand cases.
#[derive(Debug, Clone, Default)]
pub(super) struct Faults {
    /// A message between host and server is lost.
    pub(super) message_lost: u32,
    /// A request comes twice.
    pub(super) message_doubled: u32,
    /// A message takes up to a minute.
    pub(super) message_late: u32,
    /// A wake-up inside the server is lost.
    pub(super) hint_lost: u32,
    /// The Machines API refuses a call.
    pub(super) call_refused: u32,
    /// A call does not arrive, or its answer does not.
    pub(super) call_lost: u32,
    /// A call takes up to half a minute.
    pub(super) call_late: u32,
    /// How old a list may be, in milliseconds.
    pub(super) list_lag_ms: u64,
    /// The API denies, or cannot see, a Machine that is there.
    pub(super) sight_wrong: u32,
    /// A Machine does not boot.
    pub(super) boot_fails: u32,
    /// A host has no thread for an attempt that it was given.
    pub(super) begin_fails: u32,
    /// A host that may leave hangs instead.
    pub(super) exit_hangs: u32,
    /// A job takes its Machine down.
    pub(super) poison: u32,
    /// A Machine dies, and no job is to blame.
    pub(super) machine_dies: u32,
    /// A Machine is told to stop by somebody else.
    pub(super) machine_told_to_stop: u32,
    /// A Machine is cut off from the server for a while.
    pub(super) machine_cut_off: u32,
    /// The server crashes at one of its own steps.
    pub(super) crash_at_step: u32,
    /// The store fails a transaction.
    pub(super) store_fails: u32,
    /// How often the server crashes at a random time.
    pub(super) crashes: u64,
    /// How often another generation is deployed.
    pub(super) deploys: u64,
    /// How often the server's clock is set.
    pub(super) clock_sets: u64,
    /// The server's clock was set while it was away.
    pub(super) clock_set_at_start: u32,
}

impl Faults {
    /// Draws the faults of a run. Each is left out of every other run, so that none can hide what another shows.
    pub(super) fn draw(chance: &mut Chance) -> Faults {
        let mut some = |most: u64| if chance.below(2) == 0 { 0 } else { 1 + chance.below(most) as u32 };
        Faults {
            message_lost: some(200),
            message_doubled: some(200),
            message_late: some(100),
            hint_lost: some(500),
            call_refused: some(300),
            call_lost: some(150),
            call_late: some(150),
            list_lag_ms: u64::from(some(5_000)),
            sight_wrong: some(50),
            boot_fails: some(300),
            begin_fails: some(100),
            exit_hangs: some(200),
            poison: some(300),
            machine_dies: some(400),
            machine_told_to_stop: some(300),
            machine_cut_off: some(300),
            crash_at_step: some(30),
            store_fails: some(30),
            crashes: u64::from(some(6)),
            deploys: u64::from(some(4)),
            clock_sets: u64::from(some(3)),
            clock_set_at_start: some(400),
        }
    }

    /// Returns what is left when faults stop.
    pub(super) fn none() -> Faults {
        Faults::default()
    }
}
