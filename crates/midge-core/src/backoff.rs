//! How long a job waits before it is tried again.

use std::time::Duration;

use midge_protocol::job::{Backoff, Cause, RetryPolicy};
use midge_protocol::limits;

/// Returns the wait after an attempt that failed for a cause and was the `failures`-th to be spent, counted from 1;
/// nothing where the policy has none, so that the job is discarded. `jitter` is at least 0 and less than 1.
///
/// No attempt number overflows it: a wait is at most [`limits::BACKOFF_WAIT_MAX`] and what chance adds, or a century on
/// Sidekiq's curve.
pub fn backoff(policy: &RetryPolicy, cause: &Cause, failures: u32, jitter: f64) -> Option<Duration> {
    let n = u64::from(failures.saturating_sub(1));
    let (wait, usual_spread) = match policy.backoff_by_cause.get(cause).unwrap_or(&policy.backoff) {
        Backoff::None => return None,
        Backoff::Sidekiq => {
            let seconds = n.saturating_pow(4).saturating_add(15).min(SIDEKIQ_SECONDS_MAX);
            (seconds * 1_000, 10_000.0 * (n as f64 + 1.0))
        }
        Backoff::Exponential { base_ms, cap_ms } => {
            // n is 63 at most, so that the power is there.
            let doubled = base_ms.saturating_mul(1 << n.min(63));
            usual(doubled.min(*cap_ms))
        }
        Backoff::Fixed { wait_ms } => usual(*wait_ms),
        Backoff::List { waits_ms } => {
            let nth = usize::try_from(n).ok().and_then(|n| waits_ms.get(n));
            usual(nth.or(waits_ms.last()).copied().unwrap_or(0))
        }
    };
    let spread = match policy.jitter_percent {
        Some(percent) => wait as f64 * f64::from(percent.min(100)) / 100.0,
        None => usual_spread,
    };
    // A number that is none becomes 0, and one that is too large the largest.
    Some(Duration::from_millis(wait.saturating_add((spread * jitter.clamp(0.0, 1.0)) as u64)))
}

/// A century is as good as for ever, and cannot overflow what is added to it.
const SIDEKIQ_SECONDS_MAX: u64 = 3_000_000_000;

/// Returns a wait within its bound, with the tenth of it that chance may add.
fn usual(millis: u64) -> (u64, f64) {
    let millis = millis.min(limits::BACKOFF_WAIT_MAX.as_millis() as u64);
    (millis, millis as f64 * 0.1)
}

/// The longest wait of a job whose attempts end through no doing of its own. It is never discarded for that.
const IN_VAIN_WAIT_MAX: Duration = Duration::from_secs(60);

/// Returns the wait of a job after so many attempts in a row that ended through no doing of its own: hosts could not begin
/// them or had to stop, or left with them. One is nothing unusual, so the next is due at once; then it is 1, 2, 4 seconds
/// and so on, up to a minute.
pub fn in_vain_wait(times: u32) -> Duration {
    let Some(doublings) = times.checked_sub(2) else { return Duration::ZERO };
    Duration::from_secs(1u64.checked_shl(doublings).unwrap_or(u64::MAX)).min(IN_VAIN_WAIT_MAX)
}

#[cfg(test)]
mod tests {
    use midge_protocol::Timestamp;

    use super::*;

    fn policy(backoff: &str) -> RetryPolicy {
        RetryPolicy { backoff: backoff.parse().unwrap(), ..RetryPolicy::default() }
    }

    fn waits(policy: &RetryPolicy, failures: impl Iterator<Item = u32>, jitter: f64) -> Vec<u64> {
        let wait = |n| backoff(policy, &Cause::Exit, n, jitter).unwrap().as_millis() as u64;
        failures.map(wait).collect()
    }

    #[test]
    fn a_job_that_is_run_in_vain_waits_ever_longer_and_never_longer_than_a_minute() {
        let waits: Vec<u64> = (0..=9).map(|times| in_vain_wait(times).as_secs()).collect();
        assert_eq!(waits, [0, 0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(in_vain_wait(u32::MAX), IN_VAIN_WAIT_MAX);
    }

    #[test]
    fn twenty_five_retries_on_sidekiqs_curve_take_about_three_weeks() {
        let total: u64 = waits(&policy("sidekiq"), 1..=25, 0.5).iter().sum();
        let days = total / 86_400_000;
        assert!((19..=22).contains(&days), "{days} days");
    }

    #[test]
    fn the_doubling_curve_doubles_up_to_its_cap() {
        assert_eq!(waits(&policy("200ms"), 1..=4, 0.0), [200, 400, 800, 1600]);
        assert_eq!(waits(&policy("200ms"), [u32::MAX].into_iter(), 0.0), [3_600_000]);
        assert_eq!(waits(&policy("200ms..1s"), 1..=5, 0.0), [200, 400, 800, 1_000, 1_000]);
    }

    #[test]
    fn a_fixed_wait_is_the_same_each_time_and_a_list_repeats_its_last() {
        assert_eq!(waits(&policy("fixed 30s"), 1..=3, 0.0), [30_000; 3]);
        assert_eq!(waits(&policy("1s, 10s, 5s"), 1..=5, 0.0), [1_000, 10_000, 5_000, 5_000, 5_000]);
    }

    #[test]
    fn a_cause_may_have_a_backoff_of_its_own_and_none_is_no_other_attempt() {
        let mut policy = policy("fixed 30s");
        policy.backoff_by_cause.insert(Cause::Trap, Backoff::None);
        policy.backoff_by_cause.insert(Cause::OverTime, "fixed 1h".parse().unwrap());
        let wait = |cause| backoff(&policy, &cause, 1, 0.0).map(|wait| wait.as_secs());
        let causes = [Cause::Trap, Cause::OverTime, Cause::Exit, Cause::from("over_sockets")];
        assert_eq!(causes.map(wait), [None, Some(3_600), Some(30), Some(30)]);
    }

    #[test]
    fn jitter_only_adds_and_is_as_usual_where_nobody_says_how_much() {
        for text in ["sidekiq", "1s", "fixed 10s", "1s, 10s"] {
            for n in 1..30 {
                let of = |jitter| waits(&policy(text), [n].into_iter(), jitter)[0];
                assert!(of(0.99) >= of(0.0));
            }
        }
        let half = |text, jitter_percent| {
            let policy = RetryPolicy { jitter_percent, ..policy(text) };
            waits(&policy, [2].into_iter(), 0.5)[0]
        };
        assert_eq!((half("sidekiq", None), half("sidekiq", Some(0))), (26_000, 16_000));
        assert_eq!((half("fixed 10s", None), half("fixed 10s", Some(100))), (10_500, 15_000));
    }

    #[test]
    fn no_policy_and_no_attempt_number_overflows_and_every_time_can_be_shown() {
        let extremes = [0, 1, 2, 999, 1 << 20, 1 << 32, 1 << 53, 1 << 63, u64::MAX - 1, u64::MAX];
        let mut curves = vec![Backoff::Sidekiq, Backoff::List { waits_ms: Vec::new() }];
        for a in extremes {
            curves.push(Backoff::Fixed { wait_ms: a });
            curves.push(Backoff::List { waits_ms: extremes.into_iter().chain([a]).collect() });
            curves.extend(extremes.map(|b| Backoff::Exponential { base_ms: a, cap_ms: b }));
        }
        // Every bit of an attempt number, and its neighbours.
        let numbers = (0..32).flat_map(|bit| [(1u32 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        let numbers: Vec<u32> = numbers.chain([u32::MAX - 1, u32::MAX]).collect();
        for curve in curves {
            for jitter_percent in [None, Some(0), Some(100), Some(u32::MAX)] {
                let policy = RetryPolicy { backoff: curve.clone(), jitter_percent, ..RetryPolicy::default() };
                for n in &numbers {
                    for jitter in [0.0, 0.5, 1.0 - f64::EPSILON, f64::MAX, f64::NAN] {
                        let wait = backoff(&policy, &Cause::Exit, *n, jitter).unwrap();
                        for now in [Timestamp::EARLIEST, Timestamp::from_millis(0), Timestamp::LATEST] {
                            let due = now.after(wait);
                            assert!(due >= now && due <= Timestamp::LATEST, "{policy:?} {n}");
                        }
                        let due = Timestamp::from_millis(0).after(wait);
                        assert_eq!(Timestamp::from_millis(due.as_millis()), due);
                    }
                }
            }
        }
    }
}
