//! What time it is: nothing else in a server asks the system for it.

use std::time::{Duration, Instant, SystemTime};

use midge_protocol::Timestamp;

/// Tells the time. A simulation has its own.
pub trait Clock: Send + Sync {
    /// Returns the time now. It never runs backwards.
    fn now(&self) -> Timestamp;
}

/// Wall time at the start of the process, and monotonic time since: a clock that is set does not expire leases.
#[derive(Debug)]
pub struct SystemClock {
    wall_at_start: Timestamp,
    start: Instant,
}

impl SystemClock {
    /// Anchors the clock to what the wall says now.
    pub fn new() -> SystemClock {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        SystemClock { wall_at_start: Timestamp::default().after(wall), start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.wall_at_start.after(self.start.elapsed())
    }
}
