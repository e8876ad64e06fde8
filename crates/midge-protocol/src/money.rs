//! Money: dollars, as whole billionths of one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::shown;

const NANOS_PER_DOLLAR: u64 = 1_000_000_000;
/// Digits behind the point: more would be below a billionth.
const DECIMALS: usize = 9;
/// No price and no budget has more digits, so that a message need not show more.
const TEXT_MAX: usize = 32;

/// An amount of US dollars that is not negative: whole billionths, so that sums are exact. A second of the smallest Machine
/// costs several hundred of them. Sums end at the largest amount, 18 billion dollars. In JSON it is a text such as `0.25`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Dollars(u64);

impl Dollars {
    /// No money.
    pub const ZERO: Dollars = Dollars(0);

    /// Makes an amount from billionths of a dollar.
    pub const fn from_nanos(nanos: u64) -> Dollars {
        Dollars(nanos)
    }

    /// Makes an amount from cents.
    pub const fn from_cents(cents: u64) -> Dollars {
        Dollars(cents.saturating_mul(NANOS_PER_DOLLAR / 100))
    }

    /// Returns the amount in billionths of a dollar.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns both amounts together.
    #[must_use]
    pub const fn plus(self, other: Dollars) -> Dollars {
        Dollars(self.0.saturating_add(other.0))
    }

    /// Returns what is left without another amount: nothing where that is more.
    #[must_use]
    pub const fn less(self, other: Dollars) -> Dollars {
        Dollars(self.0.saturating_sub(other.0))
    }

    /// Returns the amount for people, to the cent, and what is less than a dollar to a hundredth of one: `$12.34`, `$0.0123`.
    pub fn short(self) -> String {
        // What is rounded to a dollar is told as one.
        let (step, decimals) =
            if self.0 < NANOS_PER_DOLLAR - 50_000 { (100_000, 4) } else { (10_000_000, 2) };
        match self.0 {
            0 => "$0".to_owned(),
            less if less < step => "<$0.0001".to_owned(),
            nanos => {
                let steps = nanos / step + u64::from(nanos % step >= step / 2);
                let per_dollar = NANOS_PER_DOLLAR / step;
                format!("${}.{:0decimals$}", steps / per_dollar, steps % per_dollar)
            }
        }
    }
}

impl std::iter::Sum for Dollars {
    fn sum<I: Iterator<Item = Dollars>>(amounts: I) -> Dollars {
        amounts.fold(Dollars::ZERO, Dollars::plus)
    }
}

impl fmt::Display for Dollars {
    /// Writes the whole amount, with two digits behind the point at least.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, nanos) = (self.0 / NANOS_PER_DOLLAR, self.0 % NANOS_PER_DOLLAR);
        let decimals = format!("{nanos:09}");
        let kept = decimals.trim_end_matches('0').len().max(2);
        write!(f, "{whole}.{}", &decimals[..kept])
    }
}

impl fmt::Debug for Dollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The error of a text that is no amount of dollars.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an amount of dollars: use one such as 20 or 0.15, not negative and with at most 9 digits behind the point"
)]
pub struct InvalidDollars(String);

impl FromStr for Dollars {
    type Err = InvalidDollars;

    /// Reads an amount such as `20` or `0.15`.
    fn from_str(text: &str) -> Result<Dollars, InvalidDollars> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
        let read = || {
            if text.len() > TEXT_MAX || !is_number(whole) || !is_number(decimals) || decimals.len() > DECIMALS
            {
                return None;
            }
            let nanos = format!("{decimals:0<DECIMALS$}").parse::<u64>().ok()?;
            whole.parse::<u64>().ok()?.checked_mul(NANOS_PER_DOLLAR)?.checked_add(nanos)
        };
        read().map(Dollars).ok_or_else(|| InvalidDollars(shown::cut(text)))
    }
}

impl Serialize for Dollars {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Dollars {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Dollars, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_reads_as_it_is_written_to_the_billionth() {
        for (nanos, text) in [
            (0, "0.00"),
            (1, "0.000000001"),
            (150_000_000, "0.15"),
            (20_000_000_000, "20.00"),
            (u64::MAX, "18446744073.709551615"),
        ] {
            let amount = Dollars::from_nanos(nanos);
            assert_eq!(amount.to_string(), text);
            assert_eq!(text.parse(), Ok(amount));
            assert_eq!(serde_json::from_str::<Dollars>(&format!("\"{text}\"")).unwrap(), amount);
        }
        assert_eq!("20".parse(), Ok(Dollars::from_cents(2_000)));
        for wrong in ["", ".", "1.", ".5", "-1", "+1", "1e3", "NaN", "0.0000000001", "18446744074", "1_0"] {
            let error = wrong.parse::<Dollars>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{wrong}` is not an amount")), "{error}");
        }
    }

    #[test]
    fn people_are_told_cents_and_of_little_a_hundredth_of_those() {
        for (nanos, text) in [
            (0, "$0"),
            (99_999, "<$0.0001"),
            (100_000, "$0.0001"),
            (12_345_678, "$0.0123"),
            (999_949_999, "$0.9999"),
            (999_950_000, "$1.00"),
            (12_345_000_000, "$12.35"),
            (u64::MAX, "$18446744073.71"),
        ] {
            assert_eq!(Dollars::from_nanos(nanos).short(), text);
        }
    }

    #[test]
    fn sums_end_at_the_largest_amount_and_at_nothing() {
        let most = Dollars::from_nanos(u64::MAX);
        assert_eq!([most, Dollars::from_cents(1)].into_iter().sum::<Dollars>(), most);
        assert_eq!(Dollars::from_cents(1).less(most), Dollars::ZERO);
        assert_eq!(Dollars::from_cents(u64::MAX), most);
    }
}
