//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// How long a condition may take where it comes about at once on an idle machine. Generous: a test is not a benchmark.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks, where nothing announces the change.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Returns what `look` finds, as soon as it finds something.
///
/// # Panics
/// Where it has found nothing by [`DEADLINE`].
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    eventually_within(DEADLINE, what, look)
}

/// Returns what `look` finds, as soon as it finds something.
///
/// # Panics
/// Where it has found nothing by the deadline.
pub fn eventually_within<T>(deadline: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < deadline, "waited {deadline:?} in vain: {what}");
        std::thread::park_timeout(LOOK_EVERY);
    }
}
