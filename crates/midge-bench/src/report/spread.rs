//! How many durations of the same thing spread, and how sure their median is.

use std::time::Duration;

use serde::Serialize;

use super::Interval;

/// The chance that the true median lies outside its interval, half of it on each side.
const UNSURE: f64 = 0.01;

/// How the durations of many runs of one thing spread, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    runs: usize,
    pub(crate) p10_us: f64,
    pub(crate) p50_us: f64,
    pub(crate) p95_us: f64,
    pub(crate) p99_us: f64,
    /// The lower end of the interval that the median lies in, with 99 % confidence.
    p50_low_us: f64,
    /// The upper end of that interval.
    p50_high_us: f64,
}

impl Spread {
    /// Returns how durations spread; nothing where there are none.
    pub(crate) fn of(mut durations: Vec<Duration>) -> Option<Spread> {
        durations.sort_unstable();
        let runs = durations.len();
        // The nearest rank: a figure that was really seen.
        let rank = |percent: usize| (runs * percent).div_ceil(100).clamp(1, runs);
        let micros = |rank: usize| durations.get(rank - 1).map(|duration| duration.as_secs_f64() * 1e6);
        if durations.is_empty() {
            return None;
        }
        let (low, high) = median_ranks(runs);
        Some(Spread {
            runs,
            p10_us: micros(rank(10))?,
            p50_us: micros(rank(50))?,
            p95_us: micros(rank(95))?,
            p99_us: micros(rank(99))?,
            p50_low_us: micros(low)?,
            p50_high_us: micros(high)?,
        })
    }

    /// Returns how durations spread that were taken in blocks, some time apart. Those of one block are alike, whatever
    /// the computer did then, so the median is only known as well as the blocks' own medians agree.
    pub(crate) fn of_blocks(blocks: &[Vec<Duration>]) -> Option<Spread> {
        let all = Spread::of(blocks.concat())?;
        let medians = blocks.iter().filter_map(|block| Some(Spread::of(block.clone())?.p50_us));
        let medians = Spread::of(medians.map(|micros| Duration::from_secs_f64(micros / 1e6)).collect())?;
        let p50_low_us = medians.p50_low_us.min(all.p50_us);
        Some(Spread { p50_low_us, p50_high_us: medians.p50_high_us.max(all.p50_us), ..all })
    }

    /// Returns the 95th percentile in microseconds; nothing where so few were measured that it would be the largest.
    pub(crate) fn p95(self) -> Option<f64> {
        (self.runs >= 20).then_some(self.p95_us)
    }

    /// Returns the 99th percentile in microseconds; nothing where so few were measured that it would be the largest.
    pub(crate) fn p99(self) -> Option<f64> {
        (self.runs >= 100).then_some(self.p99_us)
    }

    /// Returns the median, with the interval that it lies in with 99 % confidence, in microseconds.
    pub(crate) fn median(self) -> Interval {
        Interval { low: self.p50_low_us, middle: self.p50_us, high: self.p50_high_us }
    }
}

/// Returns the ranks, from 1, of the two sorted samples between which the median of what they are taken from lies.
///
/// Whatever the distribution, the number of samples below its median is binomial (n, 1/2): H. A. David and
/// H. N. Nagaraja, Order Statistics, third edition, 7.1. Fewer than 8 samples are not enough to be so sure; then it is
/// all of them.
fn median_ranks(samples: usize) -> (usize, usize) {
    // Logarithms, since 2^-n is too small for a float.
    let mut ln_chance = -(samples as f64) * std::f64::consts::LN_2;
    let mut outside = 0.0;
    let mut low = 0;
    while low < samples / 2 {
        outside += ln_chance.exp();
        if outside > UNSURE / 2.0 {
            break;
        }
        ln_chance += ((samples - low) as f64 / (low + 1) as f64).ln();
        low += 1;
    }
    let low = low.max(1);
    (low, samples + 1 - low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_figure_that_was_seen() {
        let spread = Spread::of((1..=100).rev().map(Duration::from_micros).collect()).unwrap();
        assert_eq!([spread.p10_us, spread.p50_us, spread.p95_us, spread.p99_us], [10.0, 50.0, 95.0, 99.0]);
        let one = Spread::of(vec![Duration::from_micros(7)]).unwrap();
        assert_eq!([one.p10_us, one.p50_us, one.p99_us, one.p50_low_us, one.p50_high_us], [7.0; 5]);
        assert_eq!(Spread::of(Vec::new()), None);
    }

    /// Those of 8, 20 and 100 stand in printed tables of the interval for the median.
    #[test]
    fn the_median_lies_between_the_ranks_that_the_tables_give() {
        let known = [(1, 1, 1), (2, 1, 2), (7, 1, 7), (8, 1, 8), (20, 4, 17), (100, 37, 64)];
        for (samples, low, high) in known {
            assert_eq!(median_ranks(samples), (low, high), "{samples}");
        }
        // For many, half the samples less z / 2 times the root of their number.
        let (low, high) = median_ranks(100_000);
        assert_eq!(low + high, 100_001);
        assert!((low as f64 - (50_000.0 - 2.576 / 2.0 * 100_000f64.sqrt())).abs() < 3.0, "{low}");
    }

    #[test]
    fn a_median_is_known_as_well_as_its_blocks_agree() {
        let block = |micros| vec![Duration::from_micros(micros); 100];
        let spread = Spread::of_blocks(&[block(10), block(11), block(14)]).unwrap();
        assert_eq!(spread.median(), Interval { low: 10.0, middle: 11.0, high: 14.0 });
        assert_eq!(spread.runs, 300);
        assert_eq!(Spread::of_blocks(&[]), None);
    }

    #[test]
    fn the_interval_of_a_median_holds_the_median() {
        for samples in 1..50 {
            let spread = Spread::of((1..=samples).map(Duration::from_micros).collect()).unwrap();
            let Interval { low, middle, high } = spread.median();
            assert!(low <= middle && middle <= high, "{samples}: {low} {middle} {high}");
        }
    }
}
