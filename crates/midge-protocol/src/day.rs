//! A day, by which what Machines cost is summed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Timestamp, shown};

const MILLIS: i64 = 24 * 60 * 60 * 1_000;
/// The length of a day as text, such as `2030-01-31`.
const LENGTH: usize = "2030-01-31".len();

/// A day in UTC. In JSON it is a text such as `2030-01-31`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(i32);

impl Day {
    /// Returns the day of a time.
    pub fn of(time: Timestamp) -> Day {
        // A time is within ten thousand years.
        Day(i32::try_from(time.as_millis().div_euclid(MILLIS)).unwrap_or(i32::MAX))
    }

    /// Makes a day from the number of days since 1970-01-01, negative before. What is out of the bounds of times becomes the
    /// nearest day there is.
    pub fn from_number(number: i64) -> Day {
        Day::of(Timestamp::from_millis(number.saturating_mul(MILLIS)))
    }

    /// Returns the number of days since 1970-01-01.
    pub const fn number(self) -> i64 {
        self.0 as i64
    }

    /// Returns the day so many days earlier, or the first there is.
    #[must_use]
    pub fn before(self, days: u32) -> Day {
        Day::from_number(self.number() - i64::from(days))
    }

    /// Returns the time at which the day begins.
    pub fn begins(self) -> Timestamp {
        Timestamp::from_millis(self.number() * MILLIS)
    }

    /// Returns the time at which the day is over, and the next begins.
    pub fn ends(self) -> Timestamp {
        self.begins().after(Duration::from_millis(MILLIS as u64))
    }

    /// Returns the first day of the month of this day.
    #[must_use]
    pub fn month(self) -> Day {
        let text = self.to_string();
        let day_of_month: u32 = text[LENGTH - 2..].parse().unwrap_or(1);
        self.before(day_of_month - 1)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text of a time begins with that of its day.
        f.pad(&self.begins().to_string()[..LENGTH])
    }
}

impl fmt::Debug for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The error of a text that is no day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a day such as 2030-01-31")]
pub struct InvalidDay(String);

impl FromStr for Day {
    type Err = InvalidDay;

    fn from_str(text: &str) -> Result<Day, InvalidDay> {
        let begins = || match text.len() {
            LENGTH => format!("{text}T00:00:00.000Z").parse().ok(),
            _ => None,
        };
        begins().map(Day::of).ok_or_else(|| InvalidDay(shown::cut(text)))
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Day, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_reads_as_it_is_written_and_has_the_times_in_it() {
        for text in ["0000-01-01", "1969-12-31", "1970-01-01", "2028-02-29", "9999-12-30"] {
            let day: Day = text.parse().unwrap();
            assert_eq!(day.to_string(), text);
            assert_eq!(Day::of(day.begins()), day);
            assert_eq!(Day::from_number(day.number()), day);
        }
        let day: Day = "2028-02-28".parse().unwrap();
        assert_eq!(Day::of(day.ends()).to_string(), "2028-02-29");
        assert_eq!(day.month().to_string(), "2028-02-01");
        assert_eq!(Day::from_number(i64::MAX), Day::of(Timestamp::LATEST));
        assert_eq!(Day::of(Timestamp::EARLIEST).before(u32::MAX), Day::of(Timestamp::EARLIEST));
        for wrong in ["", "2030-1-31", "2030-02-30", "2030-01-31T08", "tomorrow!!", "10000-01-01"] {
            assert!(wrong.parse::<Day>().is_err(), "{wrong}");
        }
    }
}
