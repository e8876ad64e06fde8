//! Tells jobs that wait for others how those ended, in bounded steps.
//!
//! Invariant: what an end means for a job that waits is said by [`midge_core::Links::dependency`]. The transaction that ends
//! a job tells a few at once; the dispatcher's rounds tell the others.

use midge_core::{Dependency, Job, JobEvent};
use midge_protocol::{QueueName, Timestamp};
use midge_store::{Rows, StoreError};

/// Jobs that are told by the transaction that ends a job: a chain goes on at once.
pub(crate) const AT_ONCE: usize = 100;
/// Jobs that are told in one round: one transaction, which others wait for.
pub(crate) const IN_A_ROUND: usize = 1_000;

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// Jobs that do not run, since what they waited for did not happen.
    pub(crate) ended: Vec<Job>,
    /// The queues of jobs that wait for nothing more.
    pub(crate) queues: Vec<QueueName>,
    /// Whether somebody is still to be told.
    pub(crate) more: bool,
}

/// Tells at most `limit` jobs how those ended that they wait for, oldest end first.
pub(crate) fn settle(rows: &mut dyn Rows, limit: usize, now: Timestamp) -> Result<Settled, StoreError> {
    let mut settled = Settled::default();
    let mut room = limit;
    while let Some(end) = rows.next_settling()? {
        if room == 0 {
            settled.more = true;
            break;
        }
        let told = rows.dependents(&end, room)?;
        let mut changed: Vec<Job> = Vec::new();
        for dependent in &told {
            let event = match dependent.job.links.dependency(end.end) {
                Dependency::Open => continue,
                Dependency::Met if dependent.waits_for_others => None,
                Dependency::Met => Some(JobEvent::Met),
                Dependency::Failed => Some(JobEvent::Unmet { why: end.end.why(end.job) }),
            };
            rows.delete_dependency(&end, dependent)?;
            let change = event.and_then(|event| dependent.job.apply(event, now).ok());
            changed.extend(change.map(|change| change.job));
        }
        match told.last() {
            Some(last) if told.len() == room => rows.put_told(&end, last.row)?,
            _ => rows.delete_settling(&end)?,
        }
        // Whoever waits for those that end by this is told by another turn of the loop.
        rows.put_jobs(&changed)?;
        for job in changed {
            match job.ended_at() {
                Some(_) => settled.ended.push(job),
                None => settled.queues.push(job.queue),
            }
        }
        room = room.saturating_sub(told.len().max(1));
    }
    settled.queues.sort_unstable();
    settled.queues.dedup();
    Ok(settled)
}
