//! What time it is: nothing else in a server asks the system for it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use midge_core::WallClock;
use midge_protocol::Timestamp;

/// Tells the time. A simulation has its own.
pub trait Clock: Send + Sync {
    /// Returns the time now. It runs backwards only where it was set.
    fn now(&self) -> Timestamp;

    /// Returns since when it was not set, where it can be: no lease is counted that began before.
    fn even_since(&self) -> Option<Timestamp> {
        None
    }
}

/// The system's clock, as [`WallClock`] reads it: a clock that is set does not expire leases.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
    clock: Mutex<WallClock>,
}

impl SystemClock {
    /// Begins with what the wall says now.
    pub fn new() -> SystemClock {
        SystemClock { start: Instant::now(), clock: Mutex::new(WallClock::new(wall(), Duration::ZERO)) }
    }

    fn clock(&self) -> std::sync::MutexGuard<'_, WallClock> {
        // It is whole, whoever panicked.
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wall() -> Timestamp {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp::default().after(wall)
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // Read under the lock, so that of two readings the later one is the newer one.
        let (now, step) = {
            let mut clock = self.clock();
            clock.read(wall(), self.start.elapsed())
        };
        if let Some(step) = step {
            tracing::warn!(from = %step.from, to = %step.to, "the system's clock was set, or the computer slept: Machines get a fresh lease, and what waits for a time goes by the new one");
        }
        now
    }

    fn even_since(&self) -> Option<Timestamp> {
        Some(self.clock().even_since())
    }
}
