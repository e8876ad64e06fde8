//! How long a job waits before it is tried again.

use std::time::Duration;

use midge_protocol::job::Backoff;
use midge_protocol::limits;

/// Returns the wait after the `failures`-th spent attempt, counted from 1. `jitter` is at least 0 and less than 1.
pub fn backoff(curve: Backoff, failures: u32, jitter: f64) -> Duration {
    let n = u64::from(failures.saturating_sub(1));
    match curve {
        Backoff::Sidekiq => {
            let seconds = n.saturating_pow(4).saturating_add(15);
            let spread = jitter * 10.0 * (n as f64 + 1.0);
            // A century is as good as for ever, and cannot overflow what is added to it.
            Duration::from_millis((seconds.min(3_000_000_000) as f64 * 1000.0 + spread * 1000.0) as u64)
        }
        Backoff::Exponential { first_ms } => {
            let doubled = first_ms.saturating_mul(1u64.checked_shl(n.min(63) as u32).unwrap_or(u64::MAX));
            let millis = doubled.min(limits::BACKOFF_MAX.as_millis() as u64);
            Duration::from_millis(millis + (millis as f64 * 0.1 * jitter) as u64)
        }
    }
}

/// The longest wait of a job that no host can begin. It is never discarded for that.
const NOT_BEGUN_WAIT_MAX: Duration = Duration::from_secs(60);

/// Returns the wait of a job that hosts could not begin so many times in a row. The first may have been unlucky, so the
/// next tries at once; then it is 1, 2, 4 seconds and so on, up to a minute.
pub fn not_begun_wait(times: u32) -> Duration {
    let Some(doublings) = times.checked_sub(2) else { return Duration::ZERO };
    Duration::from_secs(1u64.checked_shl(doublings).unwrap_or(u64::MAX)).min(NOT_BEGUN_WAIT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_no_host_can_begin_waits_ever_longer_and_never_longer_than_a_minute() {
        let waits: Vec<u64> = (0..=9).map(|times| not_begun_wait(times).as_secs()).collect();
        assert_eq!(waits, [0, 0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(not_begun_wait(u32::MAX), NOT_BEGUN_WAIT_MAX);
    }

    #[test]
    fn twenty_five_retries_on_sidekiqs_curve_take_about_three_weeks() {
        let total: Duration = (1..=25).map(|n| backoff(Backoff::Sidekiq, n, 0.5)).sum();
        let days = total.as_secs() / 86_400;
        assert!((19..=22).contains(&days), "{days} days");
    }

    #[test]
    fn the_doubling_curve_doubles_up_to_an_hour() {
        let curve = Backoff::Exponential { first_ms: 200 };
        let waits: Vec<u64> = (1..=4).map(|n| backoff(curve, n, 0.0).as_millis() as u64).collect();
        assert_eq!(waits, [200, 400, 800, 1600]);
        assert_eq!(backoff(curve, u32::MAX, 0.0), Duration::from_secs(3600));
    }

    #[test]
    fn jitter_only_adds() {
        for curve in [Backoff::Sidekiq, Backoff::Exponential { first_ms: 1000 }] {
            for n in 1..30 {
                assert!(backoff(curve, n, 0.99) >= backoff(curve, n, 0.0));
            }
        }
    }
}
