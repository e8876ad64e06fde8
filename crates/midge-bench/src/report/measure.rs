//! Figures as they are compared with another run's: each with how sure it is and which way is better.

use serde::{Deserialize, Serialize};

use super::Spread;

/// What was timed once is taken to be known to this part of it: repeated runs on a quiet computer differ by less.
const ONCE_UNSURE: f64 = 0.1;

/// One figure of a row, as it is compared with an earlier run's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Measure {
    /// What tells it from the row's others.
    pub(crate) name: &'static str,
    pub(crate) unit: Unit,
    pub(crate) better: Better,
    /// The figure, in that unit.
    #[serde(flatten)]
    pub(crate) interval: Interval,
}

/// A figure, and where it is expected to lie if it is measured again.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Interval {
    pub(crate) low: f64,
    pub(crate) middle: f64,
    pub(crate) high: f64,
}

/// The unit of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    /// Microseconds.
    Micros,
    /// Times of the floor in the same run: the computer's own speed cancels out.
    Floors,
    /// Jobs a second.
    PerSecond,
    Bytes,
}

/// Whether a figure is better when it is lower, or when it is higher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Better {
    Lower,
    Higher,
}

impl Measure {
    /// Makes a figure of the median of many durations.
    pub(crate) fn median(name: &'static str, spread: Spread) -> Measure {
        Measure { name, unit: Unit::Micros, better: Better::Lower, interval: spread.median() }
    }

    /// Makes a figure of a ratio to the floor.
    pub(crate) fn floors(name: &'static str, interval: Interval) -> Measure {
        Measure { name, unit: Unit::Floors, better: Better::Lower, interval }
    }

    /// Makes a figure of what was timed once, which is known to a tenth.
    pub(crate) fn once(name: &'static str, unit: Unit, better: Better, value: f64) -> Measure {
        let interval = Interval::once(value);
        Measure { name, unit, better, interval }
    }

    /// Makes a figure of the bytes by which `more` is larger than `less`, for each of `among`. Both were looked at
    /// once, so the difference is as unsure as both, however little is left of them.
    pub(crate) fn difference(name: &'static str, more: u64, less: u64, among: u64) -> Measure {
        let (more, less, among) = (Interval::once(more as f64), Interval::once(less as f64), among as f64);
        let interval = Interval {
            low: (more.low - less.high) / among,
            middle: (more.middle - less.middle) / among,
            high: (more.high - less.low) / among,
        };
        Measure { name, unit: Unit::Bytes, better: Better::Lower, interval }
    }

    /// Makes a figure of a size in bytes, which is the same whenever it is looked at.
    pub(crate) fn size(name: &'static str, bytes: u64) -> Measure {
        let value = bytes as f64;
        let interval = Interval { low: value, middle: value, high: value };
        Measure { name, unit: Unit::Bytes, better: Better::Lower, interval }
    }
}

impl Interval {
    /// Returns the interval of what was looked at once: a tenth up and down.
    fn once(value: f64) -> Interval {
        let unsure = value.abs() * ONCE_UNSURE;
        Interval { low: value - unsure, middle: value, high: value + unsure }
    }

    /// Returns the ratio of this to a floor. Its ends are as far apart as those of the two together allow.
    pub(crate) fn over(self, floor: Interval) -> Interval {
        Interval {
            low: self.low / floor.high,
            middle: self.middle / floor.middle,
            high: self.high / floor.low,
        }
    }
}

impl Unit {
    /// Returns a value in this unit for people, with the unit's name.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Unit::Micros => format!("{} ms", super::millis(value)),
            Unit::Floors if value < 0.1 => format!("{value:.4} x floor"),
            Unit::Floors => format!("{value:.2} x floor"),
            Unit::PerSecond => format!("{value:.0}/s"),
            Unit::Bytes => midge_cli::words::bytes(value.max(0.0) as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_as_unsure_as_both_of_its_parts() {
        let ours = Interval { low: 190.0, middle: 200.0, high: 220.0 };
        let floor = Interval { low: 95.0, middle: 100.0, high: 110.0 };
        let ratio = ours.over(floor);
        assert_eq!(ratio.middle, 2.0);
        assert_eq!([ratio.low, ratio.high], [190.0 / 110.0, 220.0 / 95.0]);
    }

    #[test]
    fn a_small_difference_of_large_sizes_is_hardly_known() {
        let interval = Measure::difference("size", 1_010, 1_000, 2).interval;
        assert_eq!(interval.middle, 5.0);
        assert!(interval.low < -90.0 && interval.high > 100.0, "{interval:?}");
    }

    #[test]
    fn what_was_timed_once_is_not_known_well() {
        let measure = Measure::once("rate", Unit::PerSecond, Better::Higher, 1000.0);
        assert_eq!([measure.interval.low, measure.interval.high], [900.0, 1100.0]);
        let size = Measure::size("file", 10).interval;
        assert_eq!([size.low, size.high], [10.0, 10.0]);
    }
}
