//! What a request for a job must be beside its form, as far as nobody needs to know the server's modules, jobs and time.

use std::collections::BTreeSet;

use super::{EnqueueRequest, check_args};
use crate::job::{Cause, RetryPolicy};
use crate::{Labels, limits};

/// The error of a request for a job that no server would take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// A part of the request is over its bound.
    #[error("{what} is {bytes} bytes, and at most {max} are allowed{hint}")]
    TooLarge {
        /// The part of the request, such as `args`.
        what: &'static str,
        /// The bytes that this part has.
        bytes: usize,
        /// The most bytes that it may have.
        max: usize,
        /// The end of the message, which says what to do instead.
        hint: &'static str,
    },
    /// Something else of it is not as it has to be, in words.
    #[error("{0}")]
    Wrong(String),
}

fn wrong(error: impl ToString) -> InvalidRequest {
    InvalidRequest::Wrong(error.to_string())
}

impl EnqueueRequest {
    /// Checks all of it that can be checked without the modules that are served, other jobs and the time: sizes, ranges, and that
    /// it does not contradict itself.
    ///
    /// # Errors
    /// [`InvalidRequest`] says what is wrong, and what to do.
    pub fn check(&self) -> Result<(), InvalidRequest> {
        within("args", self.args.get().len(), limits::ARGS_BYTES_MAX, ": pass bulk as the job's input")?;
        check_args(self.args.get()).map_err(wrong)?;
        let input = self.input.as_ref().map_or(0, bytes::Bytes::len);
        within("input", input, limits::INPUT_BYTES_MAX, ": store it elsewhere and pass where it is")?;
        self.check_times()?;
        self.check_retry()?;
        let priorities = limits::PRIORITIES;
        if !priorities.contains(&self.priority) {
            let (first, last) = (priorities.start(), priorities.end());
            return Err(wrong(format!("`priority` is {}: use {first} to {last}", self.priority)));
        }
        if let Some(key) = &self.key {
            key.check_seen().map_err(|error| wrong(format!("`key` {error}")))?;
        }
        let labels = Labels { tags: self.tags.clone(), meta: self.meta.clone() };
        labels.check().map_err(wrong)?;
        self.check_after()?;
        if let Some(millis) = self.time_limit_ms {
            let max = limits::TIME_LIMIT_MAX.as_millis() as u64;
            if !(1..=max).contains(&millis) {
                return Err(wrong(format!("`time_limit_ms` is {millis}: use 1 to {max}")));
            }
        }
        self.unique.as_ref().map_or(Ok(()), |unique| unique.check().map_err(wrong))
    }

    /// Checks that no time is given twice.
    fn check_times(&self) -> Result<(), InvalidRequest> {
        for ((at_name, at), (millis_name, millis)) in [
            (("scheduled_at", self.scheduled_at), ("in_ms", self.in_ms)),
            (("expires_at", self.expires_at), ("expires_in_ms", self.expires_in_ms)),
            (("retry_until", self.retry_until), ("retry_for_ms", self.retry_for_ms)),
        ] {
            if at.is_some() && millis.is_some() {
                return Err(wrong(format!("use one of `{at_name}` and `{millis_name}`")));
            }
        }
        Ok(())
    }

    fn check_retry(&self) -> Result<(), InvalidRequest> {
        if let Some(attempts) = self.max_attempts {
            let max = limits::ATTEMPTS_MAX;
            if !(1..=max).contains(&attempts) {
                return Err(wrong(format!("`max_attempts` is {attempts}: use 1 to {max}")));
            }
        }
        let by_cause = self.backoff_by_cause.clone().unwrap_or_default();
        for cause in by_cause.keys() {
            Cause::tried_again(cause.as_str()).map_err(wrong)?;
        }
        let usual = RetryPolicy::default();
        let policy = RetryPolicy {
            backoff: self.backoff.clone().unwrap_or(usual.backoff),
            jitter_percent: self.jitter_percent,
            backoff_by_cause: by_cause,
            ..usual
        };
        policy.check().map_err(wrong)?;
        if self.retry_for_ms == Some(0) {
            let hint = "`retry_for_ms` is 0: use 1 or more, or \"none\" as the job's `backoff`";
            return Err(wrong(hint));
        }
        Ok(())
    }

    /// Checks what it says of the jobs that its own is to run after.
    fn check_after(&self) -> Result<(), InvalidRequest> {
        let (after, max) = (&self.after, limits::AFTER_MAX);
        if after.is_empty() && !self.after_failed.is_default() {
            let said = self.after_failed.as_str();
            return Err(wrong(format!(
                "`after_failed` is \"{said}\", and `after` names no job: name some, or leave it out"
            )));
        }
        if after.len() > max {
            let jobs = after.len();
            return Err(wrong(format!(
                "`after` names {jobs} jobs, and at most {max} may be named: put them into a batch, and wait for that"
            )));
        }
        let mut named = BTreeSet::new();
        for id in after {
            if *id == self.id {
                return Err(wrong(format!(
                    "`after` names the job itself, {id}: a job cannot wait for itself"
                )));
            }
            if !named.insert(id) {
                return Err(wrong(format!("`after` names job {id} twice: name it once")));
            }
        }
        Ok(())
    }
}

fn within(what: &'static str, bytes: usize, max: usize, hint: &'static str) -> Result<(), InvalidRequest> {
    if bytes > max {
        return Err(InvalidRequest::TooLarge { what, bytes, max, hint });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_no_server_would_take_is_known_without_one() {
        let id = "0190b3e4-7d5c-7c3a-9f00-0123456789ab";
        for (field, value, says) in [
            (
                "args",
                json!("x".repeat(64 * 1024)),
                "args is 65538 bytes, and at most 65536 are allowed: pass bulk",
            ),
            ("priority", json!(-128), "`priority` is -128: use"),
            ("key", json!("a\u{200b}"), "`key` holds U+200B"),
            ("time_limit_ms", json!(0), "`time_limit_ms` is 0: use 1 to"),
            ("max_attempts", json!(0), "`max_attempts` is 0: use 1 to"),
            ("jitter_percent", json!(101), "jitter_percent"),
            ("retry_for_ms", json!(0), "`retry_for_ms` is 0"),
            ("after_failed", json!("go_on"), "`after` names no job"),
            ("after", json!([id, id]), "twice: name it once"),
            ("unique", json!({"by": []}), "`unique.by` names nothing"),
            ("backoff", json!({"fixed": {"wait_ms": 0}}), "wait_ms"),
            ("meta", json!({"a": "x".repeat(5_000)}), "meta"),
        ] {
            let request = json!({"module": "a", field: value});
            let error = serde_json::from_value::<EnqueueRequest>(request).unwrap().check().unwrap_err();
            assert!(error.to_string().contains(says), "{field}: {error}");
        }
        let twice = json!({"module": "a", "in_ms": 1, "scheduled_at": "2030-01-31T08:00:00Z"});
        let error = serde_json::from_value::<EnqueueRequest>(twice).unwrap().check().unwrap_err();
        assert_eq!(error, InvalidRequest::Wrong("use one of `scheduled_at` and `in_ms`".to_owned()));
        let right: Value = json!({"module": "a", "in_ms": 1, "unique": {}, "tags": ["x"], "after": [id]});
        assert_eq!(serde_json::from_value::<EnqueueRequest>(right).unwrap().check(), Ok(()));
    }
}
