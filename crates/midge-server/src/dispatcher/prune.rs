//! Deletes jobs that ended so long ago that nobody asks for them any more.

use std::time::Duration;

use midge_store::StoreError;

use crate::midge::Inner;

/// How often old jobs are deleted.
pub(super) const EVERY: Duration = Duration::from_secs(60);
/// Jobs that are deleted in one transaction, which others wait for.
const JOBS_MAX: usize = 2_000;

pub(super) async fn prune(inner: &Inner) -> Result<(), StoreError> {
    for (phase, before) in inner.retention.over(inner.clock.now()) {
        while midge_store::write(&*inner.store, move |rows| rows.delete_ended(phase, before, JOBS_MAX))
            .await?
            == JOBS_MAX
        {}
    }
    Ok(())
}
