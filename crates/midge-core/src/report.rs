//! What is kept of what a host reports: every part of it has a bound, whoever the host is.

use std::time::Duration;

use midge_protocol::exchange::Outcome;
use midge_protocol::job::{Cause, Failure, Usage};
use midge_protocol::{AttemptNumber, AttemptRange, limits};

/// Returns what is kept of an outcome. A result that is too large is none: the attempt has failed.
pub(crate) fn bounded(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Completed { result } if result.len() > limits::RESULT_BYTES_MAX => {
            let (bytes, max) = (result.len(), limits::RESULT_BYTES_MAX);
            let message = format!("the result is {bytes} bytes, and at most {max} are kept");
            Outcome::Failed(Failure::new(Cause::OverOutput, message))
        }
        Outcome::Failed(failure) => Outcome::Failed(failure.bounded()),
        Outcome::Snoozed { after_ms } => {
            let (least, most) =
                (limits::SNOOZE_MIN.as_millis() as u64, limits::PUT_OFF_MAX.as_millis() as u64);
            Outcome::Snoozed { after_ms: after_ms.clamp(least, most) }
        }
        outcome => outcome,
    }
}

/// Leases are written down to the millisecond.
const LEASED_TO: Duration = Duration::from_millis(1);

/// Returns what is kept of what an attempt used that was leased for so long. Its share of the Machine's time is no more than it
/// ran, and no more than it was leased.
pub(crate) fn bounded_usage(usage: Usage, leased: Duration) -> Usage {
    let leased_us = u64::try_from(leased.saturating_add(LEASED_TO).as_micros()).unwrap_or(u64::MAX);
    Usage { share_us: usage.share_us.min(usage.ran_us).min(leased_us), ..usage }
}

/// Returns what is kept of a piece of a log that begins at `offset`: a log ends at [`limits::LOG_BYTES_MAX`].
pub fn kept_of_log(offset: u64, piece: &[u8]) -> &[u8] {
    let room = (limits::LOG_BYTES_MAX as u64).saturating_sub(offset);
    &piece[..piece.len().min(usize::try_from(room).unwrap_or(usize::MAX))]
}

/// Returns the attempts of a job that are not kept, nor their logs, where `last` is the last that ended: all between the
/// first [`limits::ATTEMPTS_KEPT_FIRST`] and the last [`limits::ATTEMPTS_KEPT_LAST`].
pub(crate) fn forgotten_attempts(last: AttemptNumber) -> Option<AttemptRange> {
    let first = limits::ATTEMPTS_KEPT_FIRST + 1;
    let last = last.0.saturating_sub(limits::ATTEMPTS_KEPT_LAST);
    (first <= last).then_some(AttemptRange { first: AttemptNumber(first), last: AttemptNumber(last) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_attempts_and_the_last_are_kept() {
        let kept = limits::ATTEMPTS_KEPT_FIRST + limits::ATTEMPTS_KEPT_LAST;
        let forgotten =
            |last| forgotten_attempts(AttemptNumber(last)).map(|range| (range.first.0, range.last.0));
        assert_eq!([0, 1, kept].map(forgotten), [None; 3]);
        assert_eq!([kept + 1, kept + 2].map(forgotten), [Some((11, 11)), Some((11, 12))]);
        for last in [kept + 1, 100_000, u32::MAX] {
            let (first, forgotten) = forgotten(last).unwrap();
            assert_eq!(last - (forgotten - first + 1), kept, "{last}");
        }
    }

    #[test]
    fn no_share_is_longer_than_the_attempt_or_its_lease() {
        let share = |ran_us, share_us, leased_ms| {
            let usage = Usage { ran_us, share_us, ..Usage::default() };
            bounded_usage(usage, Duration::from_millis(leased_ms)).share_us
        };
        assert_eq!(share(5_000, 2_000, 5), 2_000);
        assert_eq!(share(300, 300, 0), 300, "it began and ended within a millisecond");
        assert_eq!(share(5_000, 6_000, 10), 5_000);
        assert_eq!(share(u64::MAX, u64::MAX, 5), 6_000);
        assert_eq!(share(u64::MAX, u64::MAX, u64::MAX), u64::MAX);
    }

    #[test]
    fn a_log_ends_at_its_bound() {
        let most = limits::LOG_BYTES_MAX as u64;
        assert_eq!(kept_of_log(0, b"abc"), b"abc");
        assert_eq!(kept_of_log(most - 2, b"abc"), b"ab");
        assert_eq!(kept_of_log(most, b"abc"), b"");
        assert_eq!(kept_of_log(u64::MAX, b"abc"), b"");
        assert_eq!(kept_of_log(0, &vec![0; limits::LOG_BYTES_MAX + 1]).len(), limits::LOG_BYTES_MAX);
    }
}
