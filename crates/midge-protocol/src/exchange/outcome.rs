//! Reads how an attempt ended, and what a newer host calls an end that this release does not know.

use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::Outcome;
use crate::job::{Cause, Failure};
use crate::object::objects;

/// What comes with [`Outcome::Completed`].
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(remote = "Self")]
struct Completed {
    result: Bytes,
}

/// What comes with [`Outcome::Snoozed`].
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(remote = "Self")]
struct Snoozed {
    after_ms: u64,
}

/// What comes with [`Outcome::HandedBack`].
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(remote = "Self")]
struct HandedBack {
    #[serde(default)]
    lacks: Option<String>,
}

/// What comes with [`Outcome::ModuleLacks`].
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(remote = "Self")]
struct ModuleLacks {
    what: String,
}

objects!(Completed, Snoozed, HandedBack, ModuleLacks);

impl<'de> Deserialize<'de> for Outcome {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Outcome, D::Error> {
        deserializer.deserialize_any(OutcomeVisitor)
    }
}

struct OutcomeVisitor;

impl<'de> Visitor<'de> for OutcomeVisitor {
    type Value = Outcome;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an outcome: a word, or a map of one word to what comes with it")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Outcome, E> {
        match word {
            "completed" | "failed" | "snoozed" | "module_lacks" => {
                Err(E::custom(format!("`{word}` says nothing more")))
            }
            other => Ok(bare(other)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Outcome, A::Error> {
        let word: String = map.next_key()?.ok_or_else(|| A::Error::custom("the outcome has no word"))?;
        let outcome = match word.as_str() {
            "completed" => Outcome::Completed { result: map.next_value::<Completed>()?.result },
            "failed" => Outcome::Failed(map.next_value()?),
            "snoozed" => Outcome::Snoozed { after_ms: map.next_value::<Snoozed>()?.after_ms },
            "handed_back" => Outcome::HandedBack { lacks: map.next_value::<HandedBack>()?.lacks },
            "module_lacks" => Outcome::ModuleLacks { what: map.next_value::<ModuleLacks>()?.what },
            other => {
                // A newer host may say more with it.
                map.next_value::<IgnoredAny>()?;
                bare(other)
            }
        };
        match map.next_key::<IgnoredAny>()? {
            None => Ok(outcome),
            Some(_) => Err(A::Error::custom("the outcome has more than one word")),
        }
    }
}

/// Returns the outcome of a word that needs nothing with it.
fn bare(word: &str) -> Outcome {
    match word {
        "cancelled" => Outcome::Cancelled,
        "handed_back" => Outcome::HANDED_BACK,
        other => {
            let message = "the attempt ended in a way that this server does not know: a newer host ran it";
            Outcome::Failed(Failure::new(Cause::from(other), message))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;
    use crate::exchange::{decode, encode};

    #[test]
    fn every_outcome_is_read_back_as_it_was_written() {
        let failure = Failure { exit_code: Some(1), ..Failure::new(Cause::Exit, "no") };
        for outcome in [
            Outcome::Completed { result: Bytes::from_static(&[0, 255]) },
            Outcome::Failed(failure),
            Outcome::Snoozed { after_ms: u64::MAX },
            Outcome::Cancelled,
            Outcome::HANDED_BACK,
            Outcome::HandedBack { lacks: Some("memory".into()) },
            Outcome::ModuleLacks { what: "the secret `KEY`".into() },
        ] {
            assert_eq!(decode::<Outcome>(&encode(&outcome)).unwrap(), outcome);
            let json = serde_json::to_string(&outcome).unwrap();
            assert_eq!(serde_json::from_str::<Outcome>(&json).unwrap(), outcome);
        }
    }

    #[test]
    fn an_outcome_of_a_newer_host_is_a_failure_and_the_rest_is_heard() {
        #[derive(Serialize)]
        #[serde(rename_all = "snake_case")]
        enum Newer {
            Suspended { until_ms: u64, snapshot: Vec<u8> },
            Forked(u8),
            Vanished,
            HandedBack { why: String },
        }
        let read = |newer: &Newer| {
            let beside = decode::<(Outcome, u8)>(&encode(&(newer, 7))).unwrap();
            assert_eq!(beside.1, 7, "what follows is read");
            beside.0
        };
        let cause = |outcome: Outcome| match outcome {
            Outcome::Failed(failure) => failure.cause.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(cause(read(&Newer::Suspended { until_ms: 5, snapshot: vec![1, 2] })), "suspended");
        assert_eq!(cause(read(&Newer::Forked(1))), "forked");
        assert_eq!(cause(read(&Newer::Vanished)), "vanished");
        assert_eq!(read(&Newer::HandedBack { why: "no room".into() }), Outcome::HANDED_BACK);
    }

    #[test]
    fn an_outcome_that_is_none_is_an_error() {
        for json in [
            "null",
            "1",
            "[]",
            "{}",
            "\"completed\"",
            "\"module_lacks\"",
            "{\"failed\":1}",
            "{\"a\":1,\"b\":2}",
        ] {
            assert!(serde_json::from_str::<Outcome>(json).is_err(), "{json}");
        }
    }
}
