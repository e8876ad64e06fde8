//! Deletes jobs that ended so long ago that nobody asks for them any more.

use std::time::Duration;

use midge_store::StoreError;

use crate::midge::Inner;

/// How often old jobs are looked for.
const EVERY: Duration = Duration::from_secs(60);
/// Jobs that are deleted in one transaction, which others wait for.
const JOBS_MAX: usize = 2_000;

/// Deletes old jobs until the server stops. It is beside the rounds, which a large number of old jobs would hold up.
pub(super) async fn run(inner: &Inner) {
    let mut stopping = inner.stopping.subscribe();
    loop {
        let more = prune(inner).await.unwrap_or_else(|error| {
            tracing::error!(%error, "cannot delete old jobs");
            false
        });
        let wait = if more { Duration::ZERO } else { EVERY };
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Deletes some of the jobs that are over. Returns whether there may be more.
async fn prune(inner: &Inner) -> Result<bool, StoreError> {
    let mut more = false;
    for (phase, before) in inner.retention.over(inner.clock.now()) {
        let delete =
            midge_store::write(&*inner.store, move |rows| rows.delete_ended(phase, before, JOBS_MAX));
        more |= delete.await? == JOBS_MAX;
    }
    // Its jobs are deleted first, each when it is over.
    let before = inner.clock.now().before(inner.retention.ended);
    let delete = midge_store::write(&*inner.store, move |rows| rows.delete_batches(before, JOBS_MAX));
    more |= delete.await? == JOBS_MAX;
    Ok(more)
}
