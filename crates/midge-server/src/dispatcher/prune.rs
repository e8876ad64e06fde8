//! Deletes jobs that ended so long ago that nobody asks for them any more.

use std::time::Duration;

use midge_core::Phase;
use midge_protocol::Timestamp;
use midge_store::StoreError;

use crate::midge::Inner;

/// How often old jobs are deleted.
pub(super) const EVERY: Duration = Duration::from_secs(60);
/// Jobs that are deleted in one transaction, which others wait for.
const JOBS_MAX: usize = 2_000;

pub(super) async fn prune(inner: &Inner) -> Result<(), StoreError> {
    let now = inner.clock.now();
    let before =
        |kept: Duration| Timestamp::from_millis(now.as_millis().saturating_sub(kept.as_millis() as i64));
    let (ended, discarded) = (before(inner.retention.ended), before(inner.retention.discarded));
    for (phase, before) in
        [(Phase::Completed, ended), (Phase::Cancelled, ended), (Phase::Discarded, discarded)]
    {
        while midge_store::write(&*inner.store, move |rows| rows.delete_ended(phase, before, JOBS_MAX))
            .await?
            == JOBS_MAX
        {}
    }
    Ok(())
}
