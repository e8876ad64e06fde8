//! How often the Machines API may be called: Fly's published limits, as arithmetic without a clock.
//!
//! Fly's limits hold for each action on each Machine, or on each app for what is no Machine's: a call a second with
//! bursts of three, and for a look at one Machine five a second with bursts of ten
//! (<https://fly.io/docs/machines/api/working-with-machines-api/#rate-limits>).

use std::time::Duration;

/// How often one action may be called on one Machine or app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallLimit {
    /// The time for which each call counts.
    pub every: Duration,
    /// How many calls may come at once after a pause.
    pub burst: u32,
}

impl CallLimit {
    /// The limit of a look at one Machine.
    pub const GET: CallLimit = CallLimit { every: Duration::from_millis(200), burst: 10 };
    /// The limit of every other action.
    pub const OTHER: CallLimit = CallLimit { every: Duration::from_secs(1), burst: 3 };

    /// Returns the limit of an API on which time passes so many times faster than on Fly; nothing where the factor is
    /// not above zero.
    pub fn faster(self, speed: f64) -> Option<CallLimit> {
        let every = Duration::try_from_secs_f64(self.every.as_secs_f64() / speed).ok()?;
        (speed > 0.0).then_some(CallLimit { every, ..self })
    }
}

/// The calls of one action on one Machine or app. Times are those since any moment that stays the same.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bucket {
    /// When the calls that were let through have all been paid for (the "theoretical arrival time" of GCRA).
    paid: Duration,
    /// No call before this: the API said so.
    held: Duration,
}

impl Bucket {
    /// Lets a call through, or says how long it has to wait.
    ///
    /// # Errors
    /// The time until a call may come. Another may take its turn by then.
    pub fn take(&mut self, limit: CallLimit, now: Duration) -> Result<(), Duration> {
        let ahead = limit.every.saturating_mul(limit.burst.saturating_sub(1));
        let may = self.paid.saturating_sub(ahead).max(self.held);
        if may > now {
            return Err(may - now);
        }
        self.paid = self.paid.max(now).saturating_add(limit.every);
        Ok(())
    }

    /// Lets no call through before a time, as an answer with `Retry-After` asks.
    pub fn hold(&mut self, until: Duration) {
        self.held = self.held.max(until);
    }

    /// Makes what the calls so far cost so many times as much, since the limit has changed.
    pub fn rescale(&mut self, factor: f64, now: Duration) {
        let owed = self.paid.saturating_sub(now).as_secs_f64() * factor;
        self.paid = now + Duration::try_from_secs_f64(owed).unwrap_or_default();
    }

    /// Returns whether it is as if it had never been used.
    pub fn is_full(&self, now: Duration) -> bool {
        self.paid.max(self.held) <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_is_let_through_and_then_one_call_for_each_span() {
        let mut bucket = Bucket::default();
        let now = ms(10_000);
        for _ in 0..3 {
            assert_eq!(bucket.take(CallLimit::OTHER, now), Ok(()));
        }
        assert_eq!(bucket.take(CallLimit::OTHER, now), Err(ms(1000)));
        assert_eq!(bucket.take(CallLimit::OTHER, now + ms(999)), Err(ms(1)));
        assert_eq!(bucket.take(CallLimit::OTHER, now + ms(1000)), Ok(()));
        assert_eq!(bucket.take(CallLimit::OTHER, now + ms(1000)), Err(ms(1000)));
    }

    #[test]
    fn over_any_span_no_more_are_let_through_than_the_limit_allows() {
        for limit in [CallLimit::OTHER, CallLimit::GET] {
            let mut bucket = Bucket::default();
            let mut let_through = Vec::new();
            for now in (0..20_000).step_by(7).map(ms) {
                let_through.extend(bucket.take(limit, now).map(|()| now));
            }
            for (number, from) in let_through.iter().enumerate() {
                for (more, to) in let_through[number..].iter().enumerate() {
                    let allowed =
                        u128::from(limit.burst) + (*to - *from).as_millis() / limit.every.as_millis();
                    assert!(more < usize::try_from(allowed).unwrap() + 1, "{more} after {from:?} by {to:?}");
                }
            }
        }
    }

    #[test]
    fn a_pause_fills_it_to_one_burst_and_no_more() {
        let mut bucket = Bucket::default();
        assert!(bucket.is_full(Duration::ZERO));
        bucket.take(CallLimit::OTHER, ms(0)).unwrap();
        assert!(!bucket.is_full(ms(999)) && bucket.is_full(ms(1000)));
        let hour = ms(3_600_000);
        assert_eq!((0..10).filter(|_| bucket.take(CallLimit::OTHER, hour).is_ok()).count(), 3);
    }

    #[test]
    fn what_the_api_asks_for_is_waited_for_even_where_there_is_a_burst_left() {
        let mut bucket = Bucket::default();
        bucket.hold(ms(5000));
        bucket.hold(ms(3000));
        assert_eq!(bucket.take(CallLimit::OTHER, ms(1000)), Err(ms(4000)));
        assert_eq!(bucket.take(CallLimit::OTHER, ms(5000)), Ok(()));
    }

    #[test]
    fn what_calls_have_cost_changes_with_the_limit() {
        let mut bucket = Bucket::default();
        for _ in 0..3 {
            bucket.take(CallLimit::OTHER, ms(0)).unwrap();
        }
        bucket.rescale(0.1, ms(0));
        let faster = CallLimit::OTHER.faster(10.0).unwrap();
        assert_eq!(bucket.take(faster, ms(0)), Err(ms(100)));
        bucket.rescale(0.0, ms(0));
        assert!(bucket.is_full(ms(0)));
    }

    #[test]
    fn a_faster_api_has_the_same_bursts_and_one_without_limits_has_none() {
        assert_eq!(CallLimit::OTHER.faster(20.0), Some(CallLimit { every: ms(50), burst: 3 }));
        for none in [0.0, -1.0, f64::NAN] {
            assert_eq!(CallLimit::OTHER.faster(none), None);
        }
    }
}
