//! What the API gives about failures that are alike.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::JobCount;
use crate::job::Cause;
use crate::{Fingerprint, InvalidName, JobId, ModuleName, Timestamp};

/// Failures that are alike, as the API shows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureGroup {
    /// What they have in common. As a filter's `failure`, it finds the jobs that failed so last.
    pub fingerprint: Fingerprint,
    /// The module of the jobs.
    pub module: ModuleName,
    /// Why the attempts failed, in a word.
    pub cause: Cause,
    /// The message of the last of them, cut.
    pub message: String,
    /// How many there were. A job counts as often as it failed so.
    pub count: u64,
    /// The time of the first of them.
    pub first_seen: Timestamp,
    /// The time of the last of them.
    pub last_seen: Timestamp,
    /// The generation in which the first of them was seen.
    pub first_generation: String,
    /// The generation in which the last of them was seen.
    pub last_generation: String,
    /// The job that failed so last.
    pub job: JobId,
}

/// Failures that are alike, with the jobs that somebody may still do something about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureView {
    /// The failures.
    #[serde(flatten)]
    pub group: FailureGroup,
    /// The number of jobs that failed so last, and are neither completed nor deleted since, as far as they are counted.
    pub open: JobCount,
}

/// The query of `GET /v1/failures`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FailuresFilter {
    /// Only failures of this module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<ModuleName>,
    /// Only groups that come after this point of the list: the `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<FailuresCursor>,
    /// The number of groups, 1 to [`super::PAGE_JOBS_MAX`]: [`super::PAGE_JOBS_DEFAULT`] where this is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A point in a list of groups of failures: all that were seen before it are of the pages to come.
///
/// As text it is the milliseconds of the time since the Unix epoch, a point, and the fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailuresCursor {
    /// The time at which the last group of a page was last seen.
    pub at: Timestamp,
    /// The fingerprint of that group.
    pub fingerprint: Fingerprint,
}

impl fmt::Display for FailuresCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.at.as_millis(), self.fingerprint)
    }
}

impl FromStr for FailuresCursor {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<FailuresCursor, InvalidName> {
        let read = || {
            let (at, fingerprint) = text.split_once('.')?;
            let at = Timestamp::from_millis(at.parse().ok()?);
            Some(FailuresCursor { at, fingerprint: fingerprint.parse().ok()? })
        };
        read().ok_or_else(|| InvalidName::new("point in a list", text, "the `next` of a page"))
    }
}

impl Serialize for FailuresCursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FailuresCursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FailuresCursor, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The answer of `GET /v1/failures`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// The groups, the one seen last first.
    pub failures: Vec<FailureView>,
    /// Where the next page begins; nothing where this was the last. It is the `before` of the next request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<FailuresCursor>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_of_a_list_of_groups_is_read_back_from_its_text() {
        for at in [Timestamp::EARLIEST, Timestamp::from_millis(0), Timestamp::LATEST] {
            for number in [0, 1, u64::MAX] {
                let point = FailuresCursor { at, fingerprint: Fingerprint(number) };
                assert_eq!(point.to_string().parse(), Ok(point));
            }
        }
        for text in ["", "1", "1.", ".0c3fa51b22d07e94", "x.0c3fa51b22d07e94", "1.2.0c3fa51b22d07e94"] {
            assert!(text.parse::<FailuresCursor>().is_err(), "{text}");
        }
    }
}
