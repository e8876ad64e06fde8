//! What a job can know about its attempt, and say about it while it runs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::host;

/// Returns the id of the job, a UUID. It is the same on every attempt, and empty where no host runs the job.
pub fn job_id() -> String {
    variable("MIDGE_JOB_ID").unwrap_or_default()
}

/// Returns the number of this attempt, from 1. Numbers only rise; one may be skipped when a Machine is lost.
pub fn attempt() -> u32 {
    variable("MIDGE_ATTEMPT").and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Returns the queue that the job waited in; `default` where no host runs it.
pub fn queue() -> String {
    variable("MIDGE_QUEUE").unwrap_or_else(|| "default".to_owned())
}

/// Returns when this attempt will be stopped for running too long. There is none where no host runs the job.
pub fn deadline() -> Option<SystemTime> {
    let millis = variable("MIDGE_DEADLINE_MS")?.parse().ok()?;
    Some(UNIX_EPOCH + Duration::from_millis(millis))
}

/// Returns how long this attempt may still run; zero when its deadline has passed.
pub fn time_left() -> Option<Duration> {
    deadline().map(|deadline| deadline.duration_since(crate::now()).unwrap_or_default())
}

/// Says how far the job is: `done` units of `total`, which is 0 where it is not known, and what it is doing.
///
/// It is cheap: what was said last is sent on once a second, so there is no harm in saying it often.
pub fn progress(done: u64, total: u64, message: &str) {
    host::progress(done, total, message);
}

fn variable(name: &'static str) -> Option<String> {
    #[cfg(not(target_family = "wasm"))]
    if let Some(value) = crate::testing::variable(name) {
        return Some(value);
    }
    std::env::var(name).ok()
}
