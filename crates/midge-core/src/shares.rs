//! How a Machine's time is shared among the attempts that run side by side.

use std::time::Duration;

/// A clock that goes the slower the more attempts run: one of two has had half of the time that it ran beside the other. So the
/// shares of all attempts come to the time in which any ran, to the nanosecond. Its times are of any clock that never runs
/// backwards.
#[derive(Debug, Default)]
pub struct ShareClock {
    /// The time at which an attempt began or ended last.
    at_ns: u64,
    /// How many run since then.
    running: u32,
    /// What each attempt would have had that ran all the while.
    reading_ns: u64,
    /// What has passed and could not be divided yet: less than the attempts that ran.
    left_ns: u64,
}

/// The reading of a [`ShareClock`] at which an attempt began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareBegun(u64);

impl ShareClock {
    /// Takes note that an attempt begins. It is to end once.
    pub fn begin(&mut self, now: Duration) -> ShareBegun {
        self.advance(now);
        self.running = self.running.saturating_add(1);
        ShareBegun(self.reading_ns)
    }

    /// Takes note that an attempt ends, and returns its share of the time.
    pub fn end(&mut self, begun: ShareBegun, now: Duration) -> Duration {
        self.advance(now);
        self.running = self.running.saturating_sub(1);
        Duration::from_nanos(self.reading_ns.saturating_sub(begun.0))
    }

    fn advance(&mut self, now: Duration) {
        // 584 years.
        let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let passed_ns = now_ns.saturating_sub(self.at_ns);
        self.at_ns = self.at_ns.max(now_ns);
        if let Some(shares) = std::num::NonZeroU64::new(self.running.into()) {
            let to_share = passed_ns.saturating_add(self.left_ns);
            self.reading_ns = self.reading_ns.saturating_add(to_share / shares);
            self.left_ns = to_share % shares;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn who_runs_alone_has_all_of_the_time_and_two_have_half_each() {
        let mut clock = ShareClock::default();
        let alone = clock.begin(ms(10));
        assert_eq!(clock.end(alone, ms(110)), ms(100));
        let first = clock.begin(ms(200));
        let second = clock.begin(ms(300));
        assert_eq!(clock.end(first, ms(400)), ms(150), "100 alone, and half of 100");
        assert_eq!(clock.end(second, ms(500)), ms(150));
    }

    #[test]
    fn the_time_in_which_nothing_runs_is_nobodys() {
        let mut clock = ShareClock::default();
        let first = clock.begin(ms(0));
        clock.end(first, ms(1));
        let second = clock.begin(ms(1_000_000));
        assert_eq!(clock.end(second, ms(1_000_001)), ms(1));
    }

    #[test]
    fn times_that_go_back_or_have_no_end_count_for_nothing() {
        let mut clock = ShareClock::default();
        let first = clock.begin(ms(100));
        assert_eq!(clock.end(first, ms(50)), Duration::ZERO);
        let second = clock.begin(Duration::MAX);
        assert_eq!(clock.end(second, Duration::MAX), Duration::ZERO);
    }

    /// Whatever begins and ends when: all shares together are the time in which any ran, and none is longer than its attempt.
    #[test]
    fn shares_come_to_the_time_in_which_any_ran() {
        for seed in 1..=200u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut chance = move |most: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % most
            };
            let mut clock = ShareClock::default();
            let (mut now, mut busy, mut shared) = (0, 0, 0);
            let mut running: Vec<(ShareBegun, u64)> = Vec::new();
            for step in 0..400 {
                let passed = chance(1_000_003);
                now += passed;
                busy += if running.is_empty() { 0 } else { passed };
                let ends = step >= 300 || running.len() == 16 || chance(2) == 0;
                if ends && !running.is_empty() {
                    let (begun, at) = running.swap_remove(chance(running.len() as u64) as usize);
                    let share = clock.end(begun, Duration::from_nanos(now)).as_nanos() as u64;
                    // What was left over when it began may be divided among fewer.
                    assert!(share <= now - at + 16, "seed {seed}: {share} of {}", now - at);
                    shared += share;
                } else if step < 300 {
                    running.push((clock.begin(Duration::from_nanos(now)), now));
                }
            }
            assert!(running.is_empty(), "seed {seed}");
            assert_eq!(shared + clock.left_ns, busy, "seed {seed}");
            assert!(clock.left_ns < 16, "seed {seed}");
        }
    }
}
