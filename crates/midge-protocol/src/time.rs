//! Points in time, to the millisecond, as every part of midge keeps and sends them.

mod text;

use std::fmt;
use std::time::Duration;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::shown;

/// A point in time: milliseconds since the Unix epoch, between [`Timestamp::EARLIEST`] and [`Timestamp::LATEST`]. In
/// JSON it is a text in UTC, as RFC 3339 has it, such as `2030-01-31T08:00:00.000Z`.
///
/// Every value can be written as such a text and read back: nothing makes one outside of these bounds, and sums end at
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The earliest time there is, `0000-01-01T00:00:00.000Z`: RFC 3339 has no year before.
    pub const EARLIEST: Timestamp = Timestamp(-62_167_219_200_000);
    /// The latest time there is, `9999-12-30T22:00:00.000Z`: RFC 3339 has no year after 9999, and on no
    /// clock, however far ahead of UTC, is it one then.
    pub const LATEST: Timestamp = Timestamp(253_402_207_200_000);

    /// Makes a time from milliseconds since the Unix epoch; before it they are negative. What is out of bounds becomes
    /// the nearest time there is.
    pub const fn from_millis(millis: i64) -> Timestamp {
        if millis < Timestamp::EARLIEST.0 {
            Timestamp::EARLIEST
        } else if millis > Timestamp::LATEST.0 {
            Timestamp::LATEST
        } else {
            Timestamp(millis)
        }
    }

    /// Returns milliseconds since the Unix epoch; before it they are negative.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Returns the time `duration` later, to the millisecond; [`Timestamp::LATEST`] where that would be beyond it.
    #[must_use]
    pub fn after(self, duration: Duration) -> Timestamp {
        self.checked_after(duration).unwrap_or(Timestamp::LATEST)
    }

    /// Returns the time `duration` later, to the millisecond; nothing where that would be beyond
    /// [`Timestamp::LATEST`].
    #[must_use]
    pub fn checked_after(self, duration: Duration) -> Option<Timestamp> {
        let millis = i64::try_from(duration.as_millis()).ok()?;
        self.0.checked_add(millis).filter(|millis| *millis <= Timestamp::LATEST.0).map(Timestamp)
    }

    /// Returns the time `duration` earlier, to the millisecond; [`Timestamp::EARLIEST`] where that would be before it.
    #[must_use]
    pub fn before(self, duration: Duration) -> Timestamp {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millis(self.0.saturating_sub(millis))
    }

    /// Returns how long after `earlier` this is; zero where it is not after it.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// The error of a text that is no time, or one that is out of bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTime {
    /// It is no time.
    #[error(
        "`{0}` is not a time like 2030-01-31T08:00:00Z, from {first} to {last}",
        first = Timestamp::EARLIEST,
        last = Timestamp::LATEST
    )]
    NoTime(String),
    /// It is a day, and no time of it.
    #[error(
        "`{0}` is a day and no time: say the hour too, and its offset from UTC, such as {0}T08:00:00Z or {0}T08:00:00+01:00"
    )]
    Day(String),
    /// It is a time of whatever clock.
    #[error("`{0}` does not say its offset from UTC: use {0}Z where it is UTC, or such as {0}+01:00")]
    NoOffset(String),
    /// It is one, and sooner or later than midge can tell.
    #[error(
        "`{0}` {words}: use one from {first} to {last}",
        words = OUT_OF_BOUNDS,
        first = Timestamp::EARLIEST,
        last = Timestamp::LATEST
    )]
    OutOfBounds(String),
}

/// What the error says of a time that is one and out of bounds, and of nothing else. serde keeps nothing but the text.
const OUT_OF_BOUNDS: &str = "is a time out of bounds";

impl InvalidTime {
    /// Returns whether an error, of which there is only the text, is about a time that is one and out of bounds.
    pub fn is_out_of_bounds(text: &str) -> bool {
        text.contains(OUT_OF_BOUNDS)
    }
}

/// A text that lacks its offset only is no longer than this: a time to the nanosecond.
const LENGTH_MAX: usize = "2030-01-31T08:00:00.000000000".len();

/// Returns whether a text with what it lacks would be a time.
fn would_be_one(text: &str) -> bool {
    text.parse::<jiff::Timestamp>().is_ok()
}

/// Returns whether a clock can be that far from UTC: RFC 3339 has hours up to 23 and minutes up to 59.
fn has_offset_of_a_clock(text: &str) -> bool {
    let time = text.split_once(['T', 't', ' ']).map_or("", |(_, time)| time);
    let Some((_, offset)) = time.split_once(['+', '-']) else { return true };
    let is_within = |digits: &str, most: u8| {
        digits.get(..2).and_then(|digits| digits.parse::<u8>().ok()).is_none_or(|number| number <= most)
    };
    let minutes = offset.get(2..).map_or("", |rest| rest.strip_prefix(':').unwrap_or(rest));
    is_within(offset, 23) && is_within(minutes, 59)
}

/// Returns whether a text that could not be read would be a time in a year like its own that is near: its year is far,
/// then, and has more than four digits, a sign, or an end that is too late.
fn is_of_a_far_year(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    let (year, rest) = unsigned.split_at(digits);
    let last_four = digits.checked_sub(4).and_then(|first| year[first..].parse::<u16>().ok());
    // The calendar is the same after 400 years, and so after 10,000.
    let near = last_four.map(|year| 1600 + year % 400);
    near.is_some_and(|year| format!("{year}{rest}").parse::<jiff::Timestamp>().is_ok())
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(text::write(self.0, &mut [0; text::LENGTH]))
    }
}

impl std::str::FromStr for Timestamp {
    type Err = InvalidTime;

    /// Reads an RFC 3339 time such as `2030-01-31T08:00:00Z`. What is below a millisecond is left out.
    fn from_str(text: &str) -> Result<Timestamp, InvalidTime> {
        let any = || match has_offset_of_a_clock(text) {
            true => text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond),
            false => None,
        };
        // Cut, since it may come from the network and goes into messages.
        let given = || shown::cut(text);
        match text::read(text).or_else(any) {
            Some(millis) if (Timestamp::EARLIEST.0..=Timestamp::LATEST.0).contains(&millis) => {
                Ok(Timestamp(millis))
            }
            Some(_) => Err(InvalidTime::OutOfBounds(given())),
            None if has_offset_of_a_clock(text) && is_of_a_far_year(text) => {
                Err(InvalidTime::OutOfBounds(given()))
            }
            None if text.len() <= LENGTH_MAX && would_be_one(&format!("{text}T00:00:00Z")) => {
                Err(InvalidTime::Day(given()))
            }
            None if text.len() <= LENGTH_MAX && would_be_one(&format!("{text}Z")) => {
                Err(InvalidTime::NoOffset(given()))
            }
            None => Err(InvalidTime::NoTime(given())),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text::write(self.0, &mut [0; text::LENGTH]))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Timestamp;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Timestamp, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_json_to_the_millisecond() {
        let time = Timestamp::from_millis(1_900_000_000_123);
        let json = serde_json::to_string(&time).unwrap();
        assert_eq!(json, "\"2030-03-17T17:46:40.123Z\"");
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), time);
    }

    #[test]
    fn time_does_not_run_backwards() {
        let early = Timestamp::from_millis(1_000);
        let late = early.after(Duration::from_millis(5));
        assert_eq!(late.since(early), Duration::from_millis(5));
        assert_eq!(early.since(late), Duration::ZERO);
    }

    #[test]
    fn every_time_there_is_can_be_shown_and_read_back() {
        let extremes = [i64::MIN, i64::MIN + 1, -1, 0, 1, 253_402_300_800_000, i64::MAX - 1, i64::MAX];
        let bounds = [Timestamp::EARLIEST, Timestamp::LATEST].map(Timestamp::as_millis);
        let near = bounds.into_iter().flat_map(|bound| [bound - 1, bound, bound + 1]);
        for millis in extremes.into_iter().chain(near) {
            let time = Timestamp::from_millis(millis);
            assert_eq!(time.to_string().parse(), Ok(time), "{millis}");
            let json = serde_json::to_string(&time).unwrap();
            assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), time, "{millis}");
        }
        assert_eq!(Timestamp::EARLIEST.to_string(), "0000-01-01T00:00:00.000Z");
        assert_eq!(Timestamp::LATEST.to_string(), "9999-12-30T22:00:00.000Z");
    }

    #[test]
    fn sums_of_times_end_at_the_bounds() {
        let now = Timestamp::from_millis(1_900_000_000_000);
        for millis in [253_402_300_800_000, i64::MAX as u64, u64::MAX] {
            assert_eq!(now.after(Duration::from_millis(millis)), Timestamp::LATEST);
            assert_eq!(now.checked_after(Duration::from_millis(millis)), None);
            assert_eq!(now.before(Duration::from_millis(millis)), Timestamp::EARLIEST);
        }
        assert_eq!(now.after(Duration::MAX), Timestamp::LATEST);
        assert_eq!(now.before(Duration::MAX), Timestamp::EARLIEST);
        let left = Timestamp::LATEST.since(now);
        assert_eq!(now.checked_after(left), Some(Timestamp::LATEST));
        assert_eq!(Timestamp::LATEST.since(Timestamp::EARLIEST).as_millis(), 315_569_426_400_000);
    }

    #[test]
    fn an_offset_is_one_that_a_clock_can_have() {
        let at = |offset: &str| format!("2030-01-31T08:00:00{offset}").parse::<Timestamp>();
        for (offset, same) in [
            ("+00:00", "2030-01-31T08:00:00Z"),
            ("-00:00", "2030-01-31T08:00:00Z"),
            ("+23:59", "2030-01-30T08:01:00Z"),
            ("-23:59", "2030-02-01T07:59:00Z"),
        ] {
            assert_eq!(at(offset), same.parse(), "{offset}");
        }
        for offset in
            ["+24:00", "-24:00", "+25:00", "-25:59", "+00:60", "+23:99", "+99:99", "+2500", "-24", "+", "-1"]
        {
            let error = at(offset).unwrap_err().to_string();
            assert!(error.contains("is not a time like"), "{error}");
        }
        assert!(
            "12345-01-31T08:00:00+25:00".parse::<Timestamp>().unwrap_err().to_string().contains("not a time")
        );
    }

    #[test]
    fn a_time_without_its_hour_or_its_offset_says_what_it_lacks() {
        let error = |text: &str| text.parse::<Timestamp>().unwrap_err().to_string();
        let day = error("2026-11-27");
        assert!(day.starts_with("`2026-11-27` is a day and no time"), "{day}");
        assert!(day.ends_with("such as 2026-11-27T08:00:00Z or 2026-11-27T08:00:00+01:00"), "{day}");
        for text in ["2026-11-27T08:00:00", "2026-11-27 08:00", "2026-11-27T08:00:00.000000001"] {
            let error = error(text);
            let says = format!(
                "does not say its offset from UTC: use {text}Z where it is UTC, or such as {text}+01:00"
            );
            assert!(error.ends_with(&says), "{error}");
            for whole in [format!("{text}Z"), format!("{text}+01:00")] {
                assert!(whole.parse::<Timestamp>().is_ok(), "{whole}");
            }
        }
        for text in ["2026-02-30", "2026", "2026-11-27T25:00:00"] {
            assert!(error(text).contains("is not a time like"), "{text}");
        }
    }

    #[test]
    fn a_text_that_is_no_time_or_out_of_bounds_says_which_times_there_are() {
        let far = [
            "9999-12-31T23:59:59Z",
            "9999-12-30T22:00:00.001Z",
            "-000001-01-01T00:00:00Z",
            "10000-01-01T00:00:00Z",
            "+123456-02-29T00:00:00+02:00",
            "-0004-02-29T00:00:00Z",
        ];
        let none = [
            "tomorrow",
            "",
            "é",
            "-",
            "2030",
            &"9".repeat(10_000),
            "2030-02-29T08:00:00Z",
            "2100-02-29T08:00:00Z",
            "2030-04-31T08:00:00Z",
            "9999-02-29T08:00:00Z",
            "10001-02-29T08:00:00Z",
        ];
        for (text, is_far) in far.into_iter().map(|text| (text, true)).chain(none.map(|text| (text, false))) {
            let error = text.parse::<Timestamp>().unwrap_err().to_string();
            assert_eq!(InvalidTime::is_out_of_bounds(&error), is_far, "{error}");
            let says = "from 0000-01-01T00:00:00.000Z to 9999-12-30T22:00:00.000Z";
            assert!(error.contains(says) && error.len() < 250, "{error}");
        }
    }
}
