//! Deletes jobs that ended so long ago that nobody asks for them any more, in steps that hold up nobody.
//!
//! Invariant: how long a job is kept is said by [`midge_core::Retention`] and its queue's policy.

use std::time::Duration;

use midge_core::Phase;
use midge_protocol::{QueueName, Timestamp};
use midge_store::StoreError;

use crate::midge::Inner;

/// How often old jobs are looked for.
const EVERY: Duration = Duration::from_secs(60);
/// Jobs that are deleted in one transaction, which others wait for: a few milliseconds.
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

/// Deletes the jobs that are over. Where there are none, nothing is written.
async fn prune(inner: &Inner) -> Result<(), StoreError> {
    for (queue, phase, before) in over(inner).await? {
        while !*inner.stopping.borrow() {
            let queue = queue.clone();
            let delete =
                move |rows: &mut dyn midge_store::Rows| rows.delete_ended(&queue, phase, before, JOBS_MAX);
            if midge_store::write(&*inner.store, delete).await? == 0 {
                break;
            }
            // Whoever has come meanwhile is first, in a store that makes nobody wait as well.
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Finds the queues that have jobs which are over: of which phases, and before when those ended.
async fn over(inner: &Inner) -> Result<Vec<(QueueName, Phase, Timestamp)>, StoreError> {
    let (now, catalog, retention) = (inner.clock.now(), inner.catalog.get(), inner.retention);
    midge_store::read(&*inner.store, move |rows| {
        let mut over = Vec::new();
        for (queue, counts) in rows.job_counts(now)? {
            for (phase, before) in retention.over(&catalog.policy(&queue).keep, now) {
                let first = if counts.phase(phase) > 0 { rows.first_ended(&queue, phase)? } else { None };
                if first.is_some_and(|at| at < before) {
                    over.push((queue.clone(), phase, before));
                }
            }
        }
        Ok(over)
    })
    .await
}
