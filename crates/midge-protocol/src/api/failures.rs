//! What the API gives about failures that are alike.

use serde::{Deserialize, Serialize};

use crate::job::Cause;
use crate::{Fingerprint, JobId, ModuleName, Timestamp};

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

/// The query of `GET /v1/failures`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FailuresFilter {
    /// Only failures of this module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<ModuleName>,
    /// The number of groups, 1 to [`super::PAGE_JOBS_MAX`]: [`super::PAGE_JOBS_DEFAULT`] where this is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// The answer of `GET /v1/failures`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// The groups, the one seen last first.
    pub failures: Vec<FailureGroup>,
    /// Whether there are more than were asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}
