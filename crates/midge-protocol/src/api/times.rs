//! The times that a request for a job comes to, once it is known what time it is.

use std::time::Duration;

use super::{EnqueueRequest, InvalidRequest};
use crate::Timestamp;

/// When the job of a request is to run, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// The time before which it does not run.
    pub due: Timestamp,
    /// The time from which it does not start any more.
    pub expires_at: Option<Timestamp>,
    /// The time after which it is not tried again, where the request says so.
    pub retry_until: Option<Timestamp>,
    /// The time from which another may be there beside it, where it is to be the only one of something.
    pub unique_until: Option<Timestamp>,
}

/// A time of a request: it is given as such or as a span, and not as both.
struct Asked<'a> {
    at: Option<Timestamp>,
    millis: (&'a str, Option<u64>),
    /// What there is not beyond the latest time, for a message: `no job can be scheduled`.
    what: &'a str,
}

impl Asked<'_> {
    /// Returns the time that was asked for, where a span begins at `from`.
    fn time(self, from: Timestamp) -> Result<Option<Timestamp>, InvalidRequest> {
        let (at, (millis_name, millis)) = (self.at, self.millis);
        let Some(millis) = millis else { return Ok(at) };
        from.checked_after(Duration::from_millis(millis)).map(Some).ok_or_else(|| {
            // Not how much may be: that would be less by the time that somebody reads it.
            let (what, latest) = (self.what, Timestamp::LATEST);
            InvalidRequest::Wrong(format!(
                "`{millis_name}` is {millis}, and {what} after {latest}: use less, so that it ends before that"
            ))
        })
    }
}

impl EnqueueRequest {
    /// Returns its times where it is asked for at `now`.
    ///
    /// # Errors
    /// [`InvalidRequest`] where one would be later than there are times.
    pub fn times(&self, now: Timestamp) -> Result<Times, InvalidRequest> {
        let asked = |at, millis, what| Asked { at, millis, what };
        let due = asked(self.scheduled_at, ("in_ms", self.in_ms), "no job can be scheduled");
        let due = due.time(now)?.unwrap_or(now);
        let expires_at = asked(self.expires_at, ("expires_in_ms", self.expires_in_ms), "no job can expire");
        let retry_for = ("retry_for_ms", self.retry_for_ms);
        let retry_until = asked(self.retry_until, retry_for, "no job is tried again");
        let unique_for = self.unique.as_ref().and_then(|unique| unique.for_ms);
        let unique_until = asked(None, ("unique.for_ms", unique_for), "no job can be unique");
        Ok(Times {
            due,
            expires_at: expires_at.time(now)?,
            retry_until: retry_until.time(due.max(now))?,
            unique_until: unique_until.time(now)?,
        })
    }

    /// Checks that the job could be started and tried again, were it asked for at `now`. It is for a job that is not there yet:
    /// a request that is repeated is for the same job, however late.
    ///
    /// # Errors
    /// [`InvalidRequest`] says which time is too early, and what to use.
    pub fn check_not_too_late(&self, times: &Times, now: Timestamp) -> Result<(), InvalidRequest> {
        let invalid = |text: String| Err(InvalidRequest::Wrong(text));
        // Of two fields for one time, that which was sent.
        let earlier = match self.in_ms {
            Some(_) => "a smaller `in_ms`",
            None => "an earlier `scheduled_at`",
        };
        if let Some(at) = times.expires_at {
            let later = match self.expires_in_ms {
                Some(_) => "a larger `expires_in_ms`",
                None => "a later `expires_at`",
            };
            if at <= now {
                return invalid(format!("the job would expire at {at}, and it is {now}: use {later}"));
            }
            if at <= times.due {
                return invalid(format!(
                    "the job would expire at {at}, and is not to run before {}: use {later}, or {earlier}",
                    times.due
                ));
            }
        }
        // A span for that begins when the job is due, and is not empty: only a time can be too early.
        match self.retry_until {
            Some(until) if until <= now => invalid(format!(
                "the job would be tried again until {until}, and it is {now}: use a later `retry_until`, or \"none\" as \
                 its `backoff`"
            )),
            Some(until) if until <= times.due => invalid(format!(
                "the job would be tried again until {until}, and is not to run before {}: use a later `retry_until`, or \
                 {earlier}",
                times.due
            )),
            _ => Ok(()),
        }
    }

    /// Checks all of it that can be checked without the modules that are served and other jobs, were it asked for at `now`.
    ///
    /// # Errors
    /// [`InvalidRequest`] says what is wrong, and what to do.
    pub fn check_at(&self, now: Timestamp) -> Result<(), InvalidRequest> {
        self.check()?;
        self.check_not_too_late(&self.times(now)?, now)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn says(fields: &Value) -> String {
        let mut request = json!({"module": "a"});
        request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let now: Timestamp = "2030-01-31T08:00:00Z".parse().unwrap();
        match serde_json::from_value::<EnqueueRequest>(request).unwrap().check_at(now) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_job_that_could_not_be_started_or_not_be_tried_again_is_known_by_the_time() {
        for (fields, expected) in [
            (
                json!({"in_ms": u64::MAX}),
                "`in_ms` is 18446744073709551615, and no job can be scheduled after 9999",
            ),
            (
                json!({"expires_in_ms": u64::MAX}),
                "`expires_in_ms` is 18446744073709551615, and no job can expire",
            ),
            (
                json!({"retry_for_ms": u64::MAX}),
                "`retry_for_ms` is 18446744073709551615, and no job is tried",
            ),
            (
                json!({"unique": {"for_ms": u64::MAX}}),
                "`unique.for_ms` is 18446744073709551615, and no job can",
            ),
            (json!({"expires_in_ms": 0}), "and it is 2030-01-31T08:00:00.000Z: use a larger `expires_in_ms`"),
            (json!({"in_ms": 6, "expires_in_ms": 5}), "use a larger `expires_in_ms`, or a smaller `in_ms`"),
            (json!({"expires_at": "2030-01-31T08:00:00Z"}), "use a later `expires_at`"),
            (json!({"retry_until": "2030-01-31T07:00:00Z"}), "use a later `retry_until`, or \"none\""),
            (
                json!({"scheduled_at": "2030-02-01T08:00:00Z", "retry_until": "2030-01-31T09:00:00Z"}),
                "use a later `retry_until`, or an earlier `scheduled_at`",
            ),
        ] {
            assert!(says(&fields).contains(expected), "{fields}: {}", says(&fields));
        }
        for fields in [
            json!({"in_ms": 5, "expires_in_ms": 6, "retry_for_ms": 1}),
            json!({"scheduled_at": "2000-01-01T00:00:00Z", "retry_until": "2030-01-31T08:00:00.001Z"}),
            json!({"unique": {"for_ms": 1}}),
        ] {
            assert_eq!(says(&fields), "", "{fields}");
        }
    }
}
