//! Time, and the server's clock, which goes by it until somebody sets it.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use midge_core::{Job, WallClock};
use midge_protocol::{JobId, Timestamp};
use midge_server::Clock;

use super::chance::Chance;
use super::world::{Event, World};

/// No job waits for a time that is further off, where nobody sets the clock.
const CLOCK_AHEAD: Duration = Duration::from_secs(3_600);

/// The clock of the computer that the server runs on, as the server goes by it.
pub(super) struct SimClock(Mutex<Inner>);

struct Inner {
    now: Timestamp,
    /// How many milliseconds the computer's clock is ahead of the time.
    ahead_ms: i64,
    /// When the server's process began.
    begun: Timestamp,
    server: WallClock,
}

impl Inner {
    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(self.now.as_millis() + self.ahead_ms)
    }
}

impl SimClock {
    pub(super) fn new(now: Timestamp) -> SimClock {
        let server = WallClock::new(now, Duration::ZERO);
        SimClock(Mutex::new(Inner { now, ahead_ms: 0, begun: now, server }))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("nobody panics with it in hand")
    }

    /// Time goes on.
    pub(super) fn goes_on(&self, now: Timestamp) {
        self.inner().now = now;
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let mut clock = self.inner();
        let (wall, ran) = (clock.wall(), clock.now.since(clock.begun));
        clock.server.read(wall, ran).0
    }

    fn even_since(&self) -> Option<Timestamp> {
        Some(self.inner().server.even_since())
    }
}

/// Draws how far a clock is set, in milliseconds: by little as often as by much. Back by more than a run takes: what waits for
/// the clock to be there again then waits in vain.
fn draw_step(chance: &mut Chance) -> i64 {
    let (is_back, how_far) = (chance.below(2) == 0, chance.below(3) as usize);
    let most = [4_000, 300_000, if is_back { 24 * 3_600_000 } else { 300_000 }][how_far];
    let by = 1 + chance.below(most) as i64;
    if is_back { -by } else { by }
}

impl World {
    /// Returns what time the server says that it is. Hosts and the Machines API have clocks that nobody sets.
    pub(super) fn told(&self) -> Timestamp {
        self.clock.now()
    }

    /// Somebody sets the clock of the server's computer.
    pub(super) fn clock_is_set(&mut self) {
        let by = draw_step(&mut self.chance);
        self.change_clock(|clock| clock.ahead_ms += by);
        self.trace.say(self.now, format_args!("the server's clock is set by {by} ms"));
        self.trace.count(match (by > 0, self.server.is_some()) {
            (true, true) => "clocks put forward",
            (true, false) => "clocks put forward while no server was there",
            (false, true) => "clocks put back",
            (false, false) => "clocks put back while no server was there",
        });
    }

    /// The server's process begins. It knows nothing of what the clock showed before.
    pub(super) fn server_s_clock_starts(&mut self) {
        if self.chance.permille(self.faults.clock_set_at_start) {
            self.clock_is_set();
        }
        self.change_clock(|clock| {
            clock.begun = clock.now;
            clock.server = WallClock::new(clock.wall(), Duration::ZERO);
        });
    }

    /// Somebody has those jobs run now that were given a time while the clock was ahead.
    pub(super) fn hurry_what_waits_for_the_clock(&mut self) {
        let far = self.told().after(CLOCK_AHEAD);
        let waits = |job: &&Job| job.phase().is_in_line() && job.due() > far;
        let ids: Vec<JobId> = self.ledger.jobs().filter(waits).map(|job| job.id).collect();
        for id in ids {
            self.after(Duration::ZERO, Event::Ask { job: id, retry: true });
        }
    }

    fn change_clock(&mut self, change: impl FnOnce(&mut Inner)) {
        let before = self.told();
        change(&mut self.clock.inner());
        if self.told() < before {
            self.ledger.clock_was_put_back();
        }
    }

    /// Puts on the agenda that somebody sets the server's clock.
    pub(super) fn plan_clock(&mut self, until: u64) {
        for _ in 0..self.faults.clock_sets {
            let at = self.chance.millis(0, until);
            self.after(at, Event::ClockIsSet);
        }
    }
}
