//! Discards jobs that were to be started by a time that has passed, in bounded steps.
//!
//! Invariant: which those are is said by [`Job::expiry`]. A claim starts none of them, whether they are discarded yet or
//! not.

use midge_core::{Job, JobEvent};
use midge_protocol::Timestamp;
use midge_store::{Rows, StoreError};

/// Jobs that are discarded in one transaction, which others wait for.
const JOBS_MAX: usize = 1_000;

/// Discards jobs that have expired, at most as many as one transaction may. Returns them as they are then. `generation` is
/// the one that is served: none started them.
pub(crate) fn discard_expired(
    rows: &mut dyn Rows,
    generation: &str,
    now: Timestamp,
) -> Result<Vec<Job>, StoreError> {
    let mut discarded = Vec::new();
    for job in rows.jobs_expired(now, JOBS_MAX)? {
        let Ok(change) = job.apply(JobEvent::Expired, now) else { continue };
        rows.put_change(&change, generation)?;
        discarded.push(change.job);
    }
    Ok(discarded)
}
