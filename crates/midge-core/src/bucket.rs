//! A token bucket, by which a rate is kept.

use midge_protocol::Timestamp;
use midge_protocol::manifest::Rate;
use serde::{Deserialize, Serialize};

/// A token bucket: attempts take tokens, and time brings them back.
///
/// All that is kept is when the bucket will be full (the generic cell rate algorithm, ITU-T I.371): so it is never filled
/// twice, and there is nothing to be done while nobody asks. In microseconds, since a rate may be a thousand a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bucket {
    /// The microsecond since 1970 at which it is full, or was.
    pub full_at_us: i64,
}

impl Bucket {
    /// Returns how many tokens it holds at a time.
    pub fn tokens(self, rate: Rate, now: Timestamp) -> u64 {
        let now = micros(now);
        let missing = self.full_at_us.saturating_sub(now).max(0);
        (span(rate).saturating_sub(missing).max(0) / interval(rate)) as u64
    }

    /// Returns the bucket without some tokens of those that it holds.
    #[must_use]
    pub fn take(self, rate: Rate, tokens: u64, now: Timestamp) -> Bucket {
        let tokens = i64::try_from(tokens).unwrap_or(i64::MAX);
        let taken = interval(rate).saturating_mul(tokens);
        Bucket { full_at_us: self.full_at_us.max(micros(now)).saturating_add(taken) }
    }

    /// Returns the bucket as it may be under a rate: no emptier than one that was emptied at that time. One that was
    /// filled by a slower rate, or while the clock was ahead, would stay empty for as long.
    #[must_use]
    pub fn within(self, rate: Rate, now: Timestamp) -> Bucket {
        Bucket { full_at_us: self.full_at_us.min(micros(now).saturating_add(span(rate))) }
    }

    /// Returns when it holds a token at the latest, if none is taken meanwhile.
    pub fn next(self, rate: Rate) -> Timestamp {
        let at = self.full_at_us.saturating_sub(span(rate)).saturating_add(interval(rate));
        // Up, so that it is there when somebody looks.
        Timestamp::from_millis(at.saturating_add(999).div_euclid(1_000))
    }

    /// Returns whether it is full at a time, and so like one from which nothing was ever taken.
    pub fn is_full(self, now: Timestamp) -> bool {
        self.full_at_us <= micros(now)
    }

    /// Returns the time at which it is full.
    pub fn full_at(self) -> Timestamp {
        Timestamp::from_millis(self.full_at_us.saturating_add(999).div_euclid(1_000))
    }
}

/// The microseconds in which a token comes: rounded up, so that never more come than may.
fn interval(rate: Rate) -> i64 {
    let micros = rate.per_ms.saturating_mul(1_000).div_ceil(u64::from(rate.jobs.max(1)));
    i64::try_from(micros).unwrap_or(i64::MAX).max(1)
}

/// The microseconds in which an empty bucket is full.
fn span(rate: Rate) -> i64 {
    interval(rate).saturating_mul(i64::from(rate.burst.max(1)))
}

fn micros(at: Timestamp) -> i64 {
    at.as_millis().saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn later(millis: i64) -> Timestamp {
        Timestamp::from_millis(NOW.as_millis() + millis)
    }

    #[test]
    fn a_bucket_holds_its_burst_and_is_filled_evenly() {
        let rate = Rate { jobs: 10, per_ms: 1_000, burst: 3 };
        let full = Bucket::default();
        assert_eq!(full.tokens(rate, NOW), 3);
        let empty = full.take(rate, 3, NOW);
        let tokens: Vec<u64> =
            [0, 99, 100, 199, 200, 300, 9_999].map(|ms| empty.tokens(rate, later(ms))).into();
        assert_eq!(tokens, [0, 0, 1, 1, 2, 3, 3]);
        assert_eq!(empty.next(rate), later(100));
        assert!(!empty.is_full(later(299)) && empty.is_full(later(300)));
    }

    #[test]
    fn in_no_stretch_of_time_do_more_begin_than_the_burst_and_what_the_time_brings() {
        for rate in [Rate::new(3, 1_000), Rate::new(1_000, 1_000), Rate { jobs: 7, per_ms: 60_000, burst: 4 }]
        {
            let (mut bucket, mut begun) = (Bucket::default(), Vec::new());
            for ms in (0..20_000).step_by(7) {
                let tokens = bucket.tokens(rate, later(ms));
                bucket = bucket.take(rate, tokens, later(ms));
                begun.push((ms, tokens));
            }
            for (first, (from, _)) in begun.iter().enumerate().step_by(97) {
                let mut sum = 0;
                for (until, tokens) in &begun[first..] {
                    sum += tokens;
                    let brought = (until - from) as u64 * u64::from(rate.jobs) / rate.per_ms;
                    assert!(
                        sum <= u64::from(rate.burst) + brought + 1,
                        "{sum} of {rate:?} in {from}..{until}"
                    );
                }
            }
            let (all, most) = (begun.iter().map(|(_, tokens)| tokens).sum::<u64>(), 20 * rate.jobs as u64);
            assert!(all * rate.per_ms / 1_000 >= most * 95 / 100, "{all}: the rate is reached");
        }
    }

    #[test]
    fn a_bucket_is_no_emptier_than_the_rate_of_now_and_the_clock_allow() {
        let (slow, fast) = (Rate::new(1, 3_600_000), Rate { jobs: 1_000, per_ms: 1_000, burst: 5 });
        let emptied = Bucket::default().take(slow, 1, NOW);
        assert_eq!(emptied.tokens(fast, later(1_000)), 0, "as it was written");
        let under = emptied.within(fast, NOW);
        assert_eq!([0, 1, 5, 99].map(|ms| under.tokens(fast, later(ms))), [0, 1, 5, 5]);
        assert_eq!(emptied.within(slow, NOW), emptied, "what the rate itself asks for stays");
        let ahead = Bucket::default().take(fast, 5, later(86_400_000));
        assert_eq!(ahead.within(fast, NOW).tokens(fast, later(5)), 5, "the clock was put back a day");
        let extreme = Bucket { full_at_us: i64::MAX }.within(fast, Timestamp::LATEST);
        assert_eq!(extreme.tokens(fast, Timestamp::LATEST), 0);
    }

    #[test]
    fn no_rate_and_no_time_is_too_large_for_it() {
        let extremes = [
            Rate { jobs: 1, per_ms: u64::MAX, burst: u32::MAX },
            Rate { jobs: u32::MAX, per_ms: 1, burst: u32::MAX },
            Rate { jobs: 0, per_ms: 0, burst: 0 },
        ];
        for rate in extremes {
            for now in [Timestamp::EARLIEST, NOW, Timestamp::LATEST] {
                let bucket = Bucket::default().take(rate, u64::MAX, now);
                assert!(bucket.tokens(rate, now) <= Bucket::default().tokens(rate, now));
                assert!((Timestamp::EARLIEST..=Timestamp::LATEST).contains(&bucket.next(rate)));
            }
        }
    }
}
