//! Deletes jobs that ended so long ago that nobody asks for them any more, in steps that hold up nobody.
//!
//! Invariant: how long a job is kept is said by [`midge_core::Retention`] and its queue's policy.

use std::time::Duration;

use midge_core::{COST_DAYS_KEPT, Phase, Retention};
use midge_protocol::{Day, QueueName, Timestamp};
use midge_store::{Rows, StoreError};

use crate::catalog::Catalog;
use crate::midge::Inner;

/// How often old jobs are looked for.
const EVERY: Duration = Duration::from_secs(60);
/// Jobs, or other rows, that are deleted in one transaction, which others wait for: a few milliseconds.
const JOBS_MAX: usize = 250;

/// Deletes old jobs until the server stops. It is beside the rounds, which a large number of old jobs would hold up.
pub(super) async fn run(inner: &Inner) {
    let mut stopping = inner.stopping.subscribe();
    loop {
        if let Err(error) = prune(inner).await {
            tracing::error!(%error, "cannot delete old jobs");
        }
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Rows that are over: what is to be deleted of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Old {
    /// Jobs of a queue that ended so before a time.
    Jobs {
        /// The queue.
        queue: QueueName,
        /// How they ended.
        phase: Phase,
        /// The time.
        before: Timestamp,
    },
    /// Batches that ended before a time and have no job any more.
    Batches(Timestamp),
    /// Groups of failures of which none was seen since a time.
    Failures(Timestamp),
    /// Sums of time of days before one.
    Costs(Day),
}

impl Old {
    /// Finds what is over, in the order in which it is to be deleted: of a batch, its jobs come first, each when it is over.
    pub fn all(
        rows: &mut dyn Rows,
        catalog: &Catalog,
        retention: Retention,
        now: Timestamp,
    ) -> Result<Vec<Old>, StoreError> {
        let mut all = Vec::new();
        for (queue, counts) in rows.job_counts(now)? {
            for (phase, before) in retention.over(&catalog.policy(&queue).keep, now) {
                let first = if counts.phase(phase) > 0 { rows.first_ended(&queue, phase)? } else { None };
                if first.is_some_and(|at| at < before) {
                    all.push(Old::Jobs { queue: queue.clone(), phase, before });
                }
            }
        }
        all.push(Old::Batches(now.before(retention.ended)));
        // As long as the dead set: what is older has no job that anybody could look at.
        all.push(Old::Failures(now.before(retention.discarded)));
        all.push(Old::Costs(Day::of(now).before(COST_DAYS_KEPT)));
        Ok(all)
    }

    /// Deletes some of it, at most `limit`. Returns whether there may be more.
    pub fn delete(&self, rows: &mut dyn Rows, limit: usize) -> Result<bool, StoreError> {
        Ok(match self {
            // Fewer may be as much as one transaction is to delete.
            Old::Jobs { queue, phase, before } => rows.delete_ended(queue, *phase, *before, limit)? > 0,
            Old::Batches(before) => rows.delete_batches(*before, limit)? == limit,
            Old::Failures(before) => rows.delete_failure_groups(*before, limit)? == limit,
            Old::Costs(before) => rows.delete_costs(*before, limit)? == limit,
        })
    }
}

/// Deletes what is over.
async fn prune(inner: &Inner) -> Result<(), StoreError> {
    let (now, catalog, retention) = (inner.clock.now(), inner.catalog.get(), inner.retention);
    let all = midge_store::read(&*inner.store, move |rows| Old::all(rows, &catalog, retention, now));
    for old in all.await? {
        let mut more = true;
        while more && !*inner.stopping.borrow() {
            let old = old.clone();
            more = midge_store::write(&*inner.store, move |rows| old.delete(rows, JOBS_MAX)).await?;
            // Whoever has come meanwhile is first, in a store that makes nobody wait as well.
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}
