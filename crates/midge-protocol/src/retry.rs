//! How often and how soon a job is tried again after a failure.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::cause::Cause;
use crate::limits;
use crate::manifest::{OutOfBounds, within};
use crate::object::objects;
use crate::shown;

/// How often and how soon a job is tried again after a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// How many attempts may be spent before the job is discarded. At least 1.
    pub max_attempts: u32,
    /// The waits between attempts.
    pub backoff: Backoff,
    /// The most that chance adds to a wait, in percent of it; what is usual for the backoff where this is missing: see
    /// [`Backoff`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_percent: Option<u32>,
    /// The waits after failures of certain causes, in place of `backoff`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "by_cause")]
    pub backoff_by_cause: BTreeMap<Cause, Backoff>,
    /// How long a job is tried again, in milliseconds from when it was due first; without a bound where this is missing.
    /// It is said of modules: a job has the time that came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_for_ms: Option<u64>,
}

/// The waits between attempts.
///
/// As text, in `midge.toml` and for the command: `sidekiq`, `none`, `2s` (doubled up to an hour), `2s..1d` (doubled up to
/// a day), `fixed 30s`, or a list such as `1s, 10s, 5m`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case", deny_unknown_fields)]
pub enum Backoff {
    /// `n⁴ + 15 + up to 10·(n + 1)` seconds after the n-th failure, counted from 0
    /// (Sidekiq's `lib/sidekiq/job_retry.rb`): 25 retries take about three weeks.
    Sidekiq,
    /// A first wait, doubled after each failure up to a cap, plus up to a tenth.
    Exponential {
        /// The first wait, in milliseconds. Releases before called it `first_ms`.
        #[serde(alias = "first_ms")]
        base_ms: u64,
        /// The longest wait, in milliseconds: an hour where this is missing.
        #[serde(default = "cap_default", deserialize_with = "cap_or_default")]
        cap_ms: u64,
    },
    /// The same wait each time, plus up to a tenth.
    Fixed {
        /// The wait, in milliseconds.
        wait_ms: u64,
    },
    /// A wait of its own after each failure, and the last one after all that follow, plus up to a tenth.
    List {
        /// The waits, in milliseconds: 1 to [`limits::BACKOFF_WAITS_MAX`] of them.
        #[serde(deserialize_with = "waits")]
        waits_ms: Vec<u64>,
    },
    /// No other attempt: the job is discarded at once.
    None,
}

objects!(Backoff);

const WAIT_MAX_MS: u64 = limits::BACKOFF_WAIT_MAX.as_millis() as u64;

fn cap_or_default<'de, D: Deserializer<'de>>(cap: D) -> Result<u64, D::Error> {
    Ok(Option::deserialize(cap)?.unwrap_or_else(cap_default))
}

fn cap_default() -> u64 {
    limits::BACKOFF_CAP_DEFAULT.as_millis() as u64
}

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        RetryPolicy {
            max_attempts: limits::ATTEMPTS_DEFAULT,
            backoff: Backoff::Sidekiq,
            jitter_percent: None,
            backoff_by_cause: BTreeMap::new(),
            retry_for_ms: None,
        }
    }
}

impl RetryPolicy {
    /// Checks that every number in it is within its bounds.
    ///
    /// # Errors
    /// The first number that is not, with its name and what it may be.
    pub fn check(&self) -> Result<(), OutOfBounds> {
        within("`max_attempts`".to_owned(), self.max_attempts.into(), 1..=limits::ATTEMPTS_MAX.into())?;
        self.backoff.check("backoff")?;
        for (cause, backoff) in &self.backoff_by_cause {
            backoff.check(&format!("backoff_by_cause.{cause}"))?;
        }
        if let Some(percent) = self.jitter_percent {
            within("`jitter_percent`".to_owned(), percent.into(), 0..=limits::JITTER_PERCENT_MAX.into())?;
        }
        if let Some(millis) = self.retry_for_ms {
            within("`retry_for`".to_owned(), millis, 1..=limits::RETRY_FOR_MAX.as_millis() as u64)?;
        }
        Ok(())
    }
}

impl Backoff {
    /// Checks that every number in it is within its bounds. `name` is that of the field which holds it.
    ///
    /// # Errors
    /// The first number that is not, with its name and what it may be.
    pub fn check(&self, name: &str) -> Result<(), OutOfBounds> {
        let of = |what: &str| format!("`{what}` of `{name}`");
        match self {
            Backoff::Sidekiq | Backoff::None => Ok(()),
            Backoff::Exponential { base_ms, cap_ms } => {
                within(of("cap_ms"), *cap_ms, 1..=WAIT_MAX_MS)?;
                within(of("base_ms"), *base_ms, 1..=*cap_ms)
            }
            Backoff::Fixed { wait_ms } => within(of("wait_ms"), *wait_ms, 1..=WAIT_MAX_MS),
            Backoff::List { waits_ms } => {
                let most = limits::BACKOFF_WAITS_MAX as u64;
                within(format!("the length of {}", of("waits_ms")), waits_ms.len() as u64, 1..=most)?;
                waits_ms.iter().try_for_each(|wait| within(of("waits_ms"), *wait, 1..=WAIT_MAX_MS))
            }
        }
    }
}

/// The error of a text that is no [`Backoff`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is no backoff: {why}")]
pub struct InvalidBackoff {
    /// The text, cut after 64 characters.
    pub given: String,
    /// What is wrong with it, and what could stand there.
    pub why: String,
}

impl std::str::FromStr for Backoff {
    type Err = InvalidBackoff;

    fn from_str(text: &str) -> Result<Backoff, InvalidBackoff> {
        parse(text).map_err(|why| InvalidBackoff { given: shown::cut(text), why })
    }
}

fn parse(text: &str) -> Result<Backoff, String> {
    let text = text.trim();
    match text {
        "sidekiq" => return Ok(Backoff::Sidekiq),
        "none" => return Ok(Backoff::None),
        _ => {}
    }
    if let Some(wait) = text.strip_prefix("fixed ") {
        return Ok(Backoff::Fixed { wait_ms: wait_of(wait)? });
    }
    if let Some((base, cap)) = text.split_once("..") {
        let (base_ms, cap_ms) = (wait_of(base)?, wait_of(cap)?);
        if base_ms > cap_ms {
            return Err(format!("it begins with {}, above its cap of {}", short(base_ms), short(cap_ms)));
        }
        return Ok(Backoff::Exponential { base_ms, cap_ms });
    }
    if text.contains(',') {
        let most = limits::BACKOFF_WAITS_MAX;
        let count = text.split(',').count();
        if count > most {
            return Err(format!("it has {count} waits, and may have {most}: the last one is repeated"));
        }
        return Ok(Backoff::List { waits_ms: text.split(',').map(wait_of).collect::<Result<_, _>>()? });
    }
    let (base_ms, cap_ms) = (wait_of(text)?, cap_default());
    if base_ms > cap_ms {
        let (base, cap) = (short(base_ms), short(cap_ms));
        return Err(format!("{base} is above the usual cap of {cap}: name one, such as `{base}..30d`"));
    }
    Ok(Backoff::Exponential { base_ms, cap_ms })
}

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads a wait, which has a number and one of the units ms, s, m, h and d.
fn wait_of(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let millis = || {
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit.trim_start())?;
        number.parse::<u64>().ok()?.checked_mul(*scale)
    };
    match millis() {
        Some(millis) if (1..=WAIT_MAX_MS).contains(&millis) => Ok(millis),
        Some(_) => Err(format!("a wait is from 1ms to {}", short(WAIT_MAX_MS))),
        None => Err("use `sidekiq`, `none`, a first wait such as `2s` that is doubled up to an hour, or up to a cap as \
                     in `2s..1d`, `fixed 30s`, or a list such as `1s, 10s, 5m`"
            .to_owned()),
    }
}

/// Writes milliseconds in their largest whole unit.
fn short(millis: u64) -> String {
    let whole = UNITS.iter().rev().find(|(_, scale)| millis.is_multiple_of(*scale) && millis > 0);
    let (unit, scale) = whole.unwrap_or(&UNITS[0]);
    format!("{}{unit}", millis / scale)
}

impl fmt::Display for Backoff {
    /// Writes it as it is read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Backoff::Sidekiq => f.write_str("sidekiq"),
            Backoff::None => f.write_str("none"),
            Backoff::Exponential { base_ms, cap_ms } => write!(f, "{}..{}", short(*base_ms), short(*cap_ms)),
            Backoff::Fixed { wait_ms } => write!(f, "fixed {}", short(*wait_ms)),
            Backoff::List { waits_ms } => match waits_ms.as_slice() {
                // A list of one is the same wait each time, and its text would be a first wait.
                [wait] => write!(f, "fixed {}", short(*wait)),
                waits => f.write_str(&waits.iter().map(|wait| short(*wait)).collect::<Vec<_>>().join(", ")),
            },
        }
    }
}

/// Reads no more waits than there may be, since text takes less room than what is read from it.
fn waits<'de, D: Deserializer<'de>>(list: D) -> Result<Vec<u64>, D::Error> {
    struct Waits;
    impl<'de> Visitor<'de> for Waits {
        type Value = Vec<u64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of 1 to {} waits in milliseconds", limits::BACKOFF_WAITS_MAX)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<u64>, A::Error> {
            let mut waits = Vec::new();
            while let Some(wait) = list.next_element()? {
                if waits.len() == limits::BACKOFF_WAITS_MAX {
                    return Err(serde::de::Error::invalid_length(waits.len() + 1, &self));
                }
                waits.push(wait);
            }
            Ok(waits)
        }
    }
    list.deserialize_seq(Waits)
}

/// Reads no more causes than there may be, and each of them once.
pub(crate) fn by_cause<'de, D: Deserializer<'de>>(map: D) -> Result<BTreeMap<Cause, Backoff>, D::Error> {
    struct ByCause;
    impl<'de> Visitor<'de> for ByCause {
        type Value = BTreeMap<Cause, Backoff>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "an object of at most {} causes, each with a backoff", limits::BACKOFF_CAUSES_MAX)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<BTreeMap<Cause, Backoff>, A::Error> {
            let mut by_cause = BTreeMap::new();
            while let Some((cause, backoff)) = map.next_entry::<Cause, Backoff>()? {
                if by_cause.len() == limits::BACKOFF_CAUSES_MAX {
                    return Err(serde::de::Error::invalid_length(by_cause.len() + 1, &self));
                }
                if let Some(twice) = by_cause.insert(cause.clone(), backoff).map(|_| cause) {
                    return Err(serde::de::Error::custom(format!("cause `{twice}` is there twice")));
                }
            }
            Ok(by_cause)
        }
    }
    map.deserialize_map(ByCause)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAYS: &[(&str, &str)] = &[
        ("sidekiq", r#""sidekiq""#),
        ("none", r#""none""#),
        ("2s..1h", r#"{"exponential":{"base_ms":2000,"cap_ms":3600000}}"#),
        ("500ms..30d", r#"{"exponential":{"base_ms":500,"cap_ms":2592000000}}"#),
        ("fixed 90s", r#"{"fixed":{"wait_ms":90000}}"#),
        ("1s, 1m, 1d", r#"{"list":{"waits_ms":[1000,60000,86400000]}}"#),
    ];

    #[test]
    fn every_backoff_is_read_back_from_its_text_and_from_json() {
        for (text, json) in WAYS {
            let backoff: Backoff = text.parse().unwrap();
            assert_eq!(serde_json::to_string(&backoff).unwrap(), *json);
            assert_eq!(serde_json::from_str::<Backoff>(json).unwrap(), backoff);
            assert_eq!(backoff.to_string(), *text);
            assert_eq!(backoff.check("backoff"), Ok(()));
        }
        assert_eq!("2s".parse(), "2s..1h".parse::<Backoff>());
        assert_eq!(" fixed  2 m ".parse(), Ok(Backoff::Fixed { wait_ms: 120_000 }));
        assert_eq!(Backoff::List { waits_ms: vec![1_000] }.to_string(), "fixed 1s");
    }

    #[test]
    fn a_text_that_is_no_backoff_says_what_could_stand_there() {
        let why = |text: &str| text.parse::<Backoff>().unwrap_err().to_string();
        for text in
            ["", "sidekik", "5", "-1s", "1.5s", "..1h", "fixed", "1s,", "5 weeks", "18446744073709551615d"]
        {
            assert!(why(text).contains("use `sidekiq`"), "{}", why(text));
        }
        for text in ["0s", "31d", "fixed 0ms", "1s, 0s", "1s..31d"] {
            assert!(why(text).ends_with("a wait is from 1ms to 30d"), "{}", why(text));
        }
        assert!(why("2h..1h").contains("begins with 2h, above its cap of 1h"));
        assert!(why("2h").contains("above the usual cap of 1h: name one, such as `2h..30d`"));
        assert!(why(&["1s"; 101].join(",")).contains("101 waits, and may have 100"));
        assert!(why(&"x".repeat(1_000_000)).len() < 400);
    }

    #[test]
    fn numbers_that_are_out_of_bounds_are_told_with_the_field_and_what_may_be() {
        let says = |json: &str| {
            let backoff: Backoff = serde_json::from_str(json).unwrap();
            backoff.check("backoff").unwrap_err().to_string()
        };
        let above_cap = r#"{"exponential":{"base_ms":2000,"cap_ms":1000}}"#;
        assert_eq!(says(above_cap), "`base_ms` of `backoff` is 2000, and may be from 1 to 1000");
        assert!(says(r#"{"fixed":{"wait_ms":0}}"#).contains("`wait_ms` of `backoff` is 0"));
        assert!(says(r#"{"exponential":{"base_ms":1,"cap_ms":18446744073709551615}}"#).contains("`cap_ms`"));
        assert!(says(r#"{"list":{"waits_ms":[]}}"#).contains("the length of `waits_ms` of `backoff` is 0"));
        assert!(says(r#"{"list":{"waits_ms":[1,0]}}"#).contains("`waits_ms` of `backoff` is 0"));
        let policy = RetryPolicy { jitter_percent: Some(101), ..RetryPolicy::default() };
        assert!(policy.check().unwrap_err().to_string().contains("`jitter_percent` is 101"));
    }

    #[test]
    fn what_is_read_of_a_list_or_a_map_has_a_bound() {
        let list = |count| format!(r#"{{"list":{{"waits_ms":[{}]}}}}"#, vec!["1"; count].join(","));
        assert!(serde_json::from_str::<Backoff>(&list(limits::BACKOFF_WAITS_MAX)).is_ok());
        let error = serde_json::from_str::<Backoff>(&list(limits::BACKOFF_WAITS_MAX + 1)).unwrap_err();
        assert!(error.to_string().contains("a list of 1 to 100 waits"), "{error}");
        let policy = |entries: Vec<String>| {
            let json = format!(
                r#"{{"max_attempts":1,"backoff":"none","backoff_by_cause":{{{}}}}}"#,
                entries.join(",")
            );
            serde_json::from_str::<RetryPolicy>(&json)
        };
        let error = policy((0..=limits::BACKOFF_CAUSES_MAX).map(|n| format!(r#""c{n}":"none""#)).collect());
        assert!(error.unwrap_err().to_string().contains("at most"));
        let twice = policy(vec![r#""trap":"none""#.to_owned(), r#""trap":"sidekiq""#.to_owned()]);
        assert!(twice.unwrap_err().to_string().contains("`trap` is there twice"));
    }

    #[test]
    fn a_policy_that_an_earlier_release_wrote_is_read() {
        let old = r#"{"max_attempts":3,"backoff":{"exponential":{"first_ms":200}}}"#;
        let backoff = Backoff::Exponential { base_ms: 200, cap_ms: 3_600_000 };
        let policy = RetryPolicy { max_attempts: 3, backoff, ..RetryPolicy::default() };
        assert_eq!(serde_json::from_str::<RetryPolicy>(old).unwrap(), policy);
    }
}
