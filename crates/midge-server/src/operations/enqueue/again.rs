//! By when a request's job has to be started, and how and until when it is tried again.

use std::time::Duration;

use midge_core::NewJob;
use midge_protocol::Timestamp;
use midge_protocol::api::EnqueueRequest;
use midge_protocol::job::RetryPolicy;

use crate::error::ServiceError;

/// A time of a request that has been checked: it is given as such or as a span, and not as both.
pub(super) struct Asked<'a> {
    pub(super) at: Option<Timestamp>,
    pub(super) millis: (&'a str, Option<u64>),
    /// What there is not beyond the latest time, for a message: `no job can be scheduled`.
    pub(super) what: &'a str,
}

impl Asked<'_> {
    /// Returns the time that was asked for, where a span begins at `from`.
    pub(super) fn time(self, from: Timestamp) -> Result<Option<Timestamp>, ServiceError> {
        let (at, (millis_name, millis)) = (self.at, self.millis);
        let Some(millis) = millis else { return Ok(at) };
        from.checked_after(Duration::from_millis(millis)).map(Some).ok_or_else(|| {
            // Not how much may be: that would be less by the time that somebody reads it.
            let (what, latest) = (self.what, Timestamp::LATEST);
            ServiceError::Invalid(format!(
                "`{millis_name}` is {millis}, and {what} after {latest}: use less, so that it ends before that"
            ))
        })
    }
}

/// Returns the time from which the job does not start any more.
pub(super) fn expires_at(
    request: &EnqueueRequest,
    now: Timestamp,
) -> Result<Option<Timestamp>, ServiceError> {
    let asked = Asked {
        at: request.expires_at,
        millis: ("expires_in_ms", request.expires_in_ms),
        what: "no job can expire",
    };
    asked.time(now)
}

/// Returns how the job is tried again and until when: as the request says, else as its module has it.
pub(super) fn retry(
    request: &EnqueueRequest,
    module: &RetryPolicy,
    due: Timestamp,
    waits: bool,
) -> Result<(RetryPolicy, Option<Timestamp>), ServiceError> {
    let mut policy = module.clone();
    if let Some(max_attempts) = request.max_attempts {
        policy.max_attempts = max_attempts;
    }
    if let Some(backoff) = &request.backoff {
        policy.backoff = backoff.clone();
    }
    if request.jitter_percent.is_some() {
        policy.jitter_percent = request.jitter_percent;
    }
    if let Some(by_cause) = &request.backoff_by_cause {
        policy.backoff_by_cause = by_cause.clone();
    }
    // What the module has was checked with the manifest. From here on, it is a time.
    let retry_for_ms = policy.retry_for_ms.take();
    let asked = Asked {
        at: request.retry_until,
        millis: ("retry_for_ms", request.retry_for_ms),
        what: "no job is tried again",
    };
    let until = asked.time(due)?;
    if waits && request.retry_until.is_none() {
        // It is not known when the job will be due: from then on it is a time.
        policy.retry_for_ms = request.retry_for_ms.or(retry_for_ms);
        return Ok((policy, None));
    }
    Ok((policy, until.or_else(|| retry_for_ms.map(|millis| due.after(Duration::from_millis(millis))))))
}

/// Refuses a new job that could not be started or not be tried again. One that is there already is the same job, however
/// late its request is repeated.
pub(super) fn not_too_late(
    new: &NewJob,
    request: &EnqueueRequest,
    now: Timestamp,
) -> Result<(), ServiceError> {
    let invalid = |text: String| Err(ServiceError::Invalid(text));
    // Of two fields for one time, that which was sent.
    let earlier = match request.in_ms {
        Some(_) => "a smaller `in_ms`",
        None => "an earlier `scheduled_at`",
    };
    if let Some(at) = new.expires_at {
        let later = match request.expires_in_ms {
            Some(_) => "a larger `expires_in_ms`",
            None => "a later `expires_at`",
        };
        if at <= now {
            return invalid(format!("the job would expire at {at}, and it is {now}: use {later}"));
        }
        if at <= new.due {
            return invalid(format!(
                "the job would expire at {at}, and is not to run before {}: use {later}, or {earlier}",
                new.due
            ));
        }
    }
    // A span for that begins when the job is due, and is not empty: only a time can be too early.
    match new.retry_until {
        Some(until) if until <= now => invalid(format!(
            "the job would be tried again until {until}, and it is {now}: use a later `retry_until`, or \"none\" as \
             its `backoff`"
        )),
        Some(until) if until <= new.due => invalid(format!(
            "the job would be tried again until {until}, and is not to run before {}: use a later `retry_until`, or \
             {earlier}",
            new.due
        )),
        _ => Ok(()),
    }
}
