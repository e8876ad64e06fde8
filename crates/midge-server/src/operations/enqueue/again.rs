//! How and until when a request's job is tried again.

use std::time::Duration;

use midge_protocol::Timestamp;
use midge_protocol::api::{EnqueueRequest, Times};
use midge_protocol::job::RetryPolicy;

/// Returns how the job is tried again and until when: as the request says, else as its module has it.
pub(super) fn retry(
    request: &EnqueueRequest,
    module: &RetryPolicy,
    times: &Times,
    (now, waits): (Timestamp, bool),
) -> (RetryPolicy, Option<Timestamp>) {
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
    if waits && request.retry_until.is_none() {
        // It is not known when the job will be due: from then on it is a time.
        policy.retry_for_ms = request.retry_for_ms.or(retry_for_ms);
        return (policy, None);
    }
    let of_module = || retry_for_ms.map(|millis| times.due.max(now).after(Duration::from_millis(millis)));
    (policy, times.retry_until.or_else(of_module))
}
