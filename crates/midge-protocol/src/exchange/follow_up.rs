//! Jobs that an attempt enqueues: they travel with its end, and are there exactly if that is a result.

use std::fmt;

use bytes::Bytes;
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::api::EnqueueRequest;
use crate::object::objects;
use crate::wrong::Wrong;
use crate::{JobId, ModuleName, limits, shown, wrong};

/// A job that an attempt enqueues, should it complete: a follow-up job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct FollowUp {
    /// The id of the job, which its host made and its guest knows.
    pub id: JobId,
    /// What is asked for, as the guest wrote it: the JSON of an [`EnqueueRequest`] without `id` and `input`.
    pub request: String,
    /// Bytes for the stdin of the job's guest; nothing where it has no input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Bytes>,
}

objects!(FollowUp);

/// What follow-up jobs come to, to be held against their bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FollowUpsSize {
    /// How many there are.
    pub jobs: usize,
    /// The bytes of their requests and inputs.
    pub bytes: usize,
}

impl FollowUpsSize {
    /// Returns what jobs come to.
    pub fn of(jobs: &[FollowUp]) -> FollowUpsSize {
        let bytes = |job: &FollowUp| job.request.len() + job.input.as_ref().map_or(0, Bytes::len);
        FollowUpsSize { jobs: jobs.len(), bytes: jobs.iter().map(bytes).sum() }
    }

    /// Returns what there is with one more job of so many bytes.
    #[must_use]
    pub fn with(self, bytes: usize) -> FollowUpsSize {
        FollowUpsSize { jobs: self.jobs + 1, bytes: self.bytes.saturating_add(bytes) }
    }

    /// Checks that one attempt may enqueue so much.
    ///
    /// # Errors
    /// [`TooManyFollowUps`] where it is more than [`limits::FOLLOW_UPS_MAX`] or [`limits::FOLLOW_UP_BYTES_MAX`].
    pub const fn check(self) -> Result<(), TooManyFollowUps> {
        if self.jobs > limits::FOLLOW_UPS_MAX {
            return Err(TooManyFollowUps::Jobs(self.jobs));
        }
        if self.bytes > limits::FOLLOW_UP_BYTES_MAX {
            return Err(TooManyFollowUps::Bytes(self.bytes));
        }
        Ok(())
    }
}

/// The error of an attempt that would enqueue more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooManyFollowUps {
    /// Too many jobs.
    #[error(
        "an attempt would enqueue {0} jobs, and may {max}: have some of them enqueue the rest",
        max = limits::FOLLOW_UPS_MAX
    )]
    Jobs(usize),
    /// Requests and inputs that are too large together.
    #[error(
        "an attempt would enqueue jobs of {0} bytes in all, and may of {max}: store inputs elsewhere, and pass where they are",
        max = limits::FOLLOW_UP_BYTES_MAX
    )]
    Bytes(usize),
}

/// The error of a request for a follow-up job that is none.
#[derive(Debug, thiserror::Error)]
pub enum InvalidFollowUp {
    /// It is not the JSON of a request.
    #[error("it is not a request for a job: {0}")]
    Malformed(#[from] Wrong),
    /// It has a field that is not the guest's to say there.
    #[error("`{0}` is not for the request to say: {1}")]
    NotHere(&'static str, &'static str),
}

/// What a request is called where it is wrong as a whole.
const REQUEST: &str = "the request";

/// The fields of a request, as [`EnqueueRequest`] has them.
const FIELDS: [&str; 24] = [
    "id",
    "module",
    "args",
    "input",
    "queue",
    "scheduled_at",
    "in_ms",
    "priority",
    "key",
    "unique",
    "tags",
    "meta",
    "max_attempts",
    "time_limit_ms",
    "expires_at",
    "expires_in_ms",
    "backoff",
    "jitter_percent",
    "backoff_by_cause",
    "retry_until",
    "retry_for_ms",
    "after",
    "after_failed",
    "batch",
];

/// The module that a request names, whose other fields are only looked at by name: a host has no other use for what reads
/// their values, and its server reads them anyway.
struct Names {
    module: ModuleName,
    /// The first field that the request may not have, though a caller's may.
    not_here: Option<&'static str>,
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(request: D) -> Result<Names, D::Error> {
        request.deserialize_any(NamesVisitor)
    }
}

struct NamesVisitor;

impl<'de> Visitor<'de> for NamesVisitor {
    type Value = Names;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object as POST /v1/jobs takes it")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
        let (mut module, mut not_here) = (None, None);
        while let Some(name) = map.next_key::<String>()? {
            match FIELDS.iter().find(|field| **field == name) {
                Some(&"module") => module = Some(map.next_value()?),
                Some(field @ (&"id" | &"input")) => {
                    let said = map.next_value::<Option<IgnoredAny>>()?;
                    not_here = not_here.or(said.map(|_| *field));
                }
                Some(_) => {
                    map.next_value::<IgnoredAny>()?;
                }
                None => return Err(A::Error::unknown_field(&shown::cut(&name), &FIELDS)),
            }
        }
        Ok(Names { module: module.ok_or_else(|| A::Error::missing_field("module"))?, not_here })
    }
}

impl FollowUp {
    /// Returns the module that is asked for.
    ///
    /// # Errors
    /// [`InvalidFollowUp`] where the request is not JSON, no object, names no module, or has a field that there is not or that
    /// is not to be there. What the other fields are is not looked at: [`FollowUp::read`] does.
    pub fn module(&self) -> Result<ModuleName, InvalidFollowUp> {
        let Names { module, not_here } = wrong::read(self.request.as_bytes(), REQUEST)?;
        match not_here {
            None => Ok(module),
            Some("id") => Err(InvalidFollowUp::NotHere("id", "each follow-up job is given a new one")),
            Some(field) => Err(InvalidFollowUp::NotHere(field, "pass the bytes beside it")),
        }
    }

    /// Reads what is asked for, as a caller would have asked.
    ///
    /// # Errors
    /// [`InvalidFollowUp`] as for [`FollowUp::module`], and where a field is not of its form.
    pub fn read(&self) -> Result<EnqueueRequest, InvalidFollowUp> {
        self.module()?;
        let request: EnqueueRequest = wrong::read(self.request.as_bytes(), REQUEST)?;
        Ok(EnqueueRequest { id: self.id, input: self.input.clone(), ..request })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow_up(request: &str) -> FollowUp {
        let input = Some(Bytes::from_static(&[0, 255]));
        FollowUp { id: JobId::from_bytes([7; 16]), request: request.to_owned(), input }
    }

    #[test]
    fn a_request_is_read_with_the_id_of_its_host_and_the_input_beside_it() {
        let read =
            follow_up(r#"{"module": "resize", "args": [1.0], "in_ms": 5, "id": null}"#).read().unwrap();
        assert_eq!((read.id, read.input.as_deref()), (JobId::from_bytes([7; 16]), Some(&[0, 255][..])));
        assert_eq!((read.module.as_str(), read.args.get(), read.in_ms), ("resize", "[1.0]", Some(5)));
    }

    #[test]
    fn what_is_no_request_says_why() {
        for (request, says) in [
            ("", "not a request for a job: the request is not JSON: it ends too early"),
            ("[]", "the request must be an object as POST /v1/jobs takes it, not a list"),
            (r#"{"args": 1}"#, "`module` is missing"),
            (r#"{"module": 5}"#, "`module` must be a string, not 5"),
            (r#"{"module": "No!"}"#, "No!"),
            (r#"{"module": "a", "arg": 1}"#, "unknown field `arg`: did you mean `args`?"),
            (
                r#"{"module": "a", "id": "0190b3e4-7d5c-7c3a-9f00-0123456789ab"}"#,
                "`id` is not for the request",
            ),
            (r#"{"module": "a", "input": ""}"#, "`input` is not for the request"),
        ] {
            let error = follow_up(request).read().unwrap_err().to_string();
            assert!(error.contains(says), "{request}: {error}");
            assert_eq!(follow_up(request).module().unwrap_err().to_string(), error);
        }
        let wrong = follow_up(r#"{"module": "a", "priority": "high"}"#);
        assert_eq!(wrong.module().unwrap().as_str(), "a");
        assert!(
            wrong
                .read()
                .unwrap_err()
                .to_string()
                .contains("`priority` must be a whole number from -100 to 100, not")
        );
    }

    #[test]
    fn the_fields_are_those_of_a_callers_request() {
        let error = serde_json::from_str::<EnqueueRequest>(r#"{"no": 1}"#).unwrap_err().to_string();
        let (_, known) = error.split_once("expected one of ").unwrap();
        let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        assert_eq!(known, FIELDS);
    }

    #[test]
    fn what_one_attempt_enqueues_has_a_bound_in_jobs_and_in_bytes() {
        let (jobs, bytes) = (limits::FOLLOW_UPS_MAX, limits::FOLLOW_UP_BYTES_MAX);
        assert_eq!(FollowUpsSize { jobs, bytes }.check(), Ok(()));
        let more = FollowUpsSize { jobs, bytes: 0 }.with(1);
        assert_eq!(more.check(), Err(TooManyFollowUps::Jobs(10_001)));
        let more = FollowUpsSize { jobs: 0, bytes }.with(1);
        assert_eq!(more.check(), Err(TooManyFollowUps::Bytes(bytes + 1)));
        assert_eq!(FollowUpsSize::of(&[follow_up("{}"), follow_up("")]), FollowUpsSize { jobs: 2, bytes: 6 });
    }
}
