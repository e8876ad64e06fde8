//! What can be asked about failures that are alike.

use midge_protocol::Fingerprint;
use midge_protocol::api::{
    FailureGroup, FailureView, Failures, FailuresCursor, FailuresFilter, PAGE_JOBS_DEFAULT, PAGE_JOBS_MAX,
};
use midge_store::{Rows, StoreError};

use crate::error::ServiceError;
use crate::midge::Midge;

impl Midge {
    /// Returns groups of failures that are alike, the one that was seen last first.
    ///
    /// # Errors
    /// [`ServiceError::Invalid`] where more are asked for than there may be in an answer, or none.
    pub async fn failures(&self, filter: FailuresFilter) -> Result<Failures, ServiceError> {
        let limit = filter.limit.unwrap_or(PAGE_JOBS_DEFAULT);
        if !(1..=PAGE_JOBS_MAX).contains(&limit) {
            return Err(ServiceError::Invalid(format!("`limit` is {limit}: use 1 to {PAGE_JOBS_MAX}")));
        }
        let limit = limit as usize;
        let read = midge_store::read(&*self.inner.store, move |rows| {
            let mut groups = rows.failure_groups(filter.module.as_ref(), filter.before, limit + 1)?;
            let more = groups.len() > limit;
            groups.truncate(limit);
            let failures: Result<Vec<_>, StoreError> =
                groups.into_iter().map(|group| with_open(rows, group)).collect();
            Ok::<_, StoreError>((failures?, more))
        });
        let (failures, more) = read.await?;
        let point = |FailureView { group, .. }: &FailureView| FailuresCursor {
            at: group.last_seen,
            fingerprint: group.fingerprint,
        };
        let next = failures.last().filter(|_| more).map(point);
        Ok(Failures { failures, next })
    }

    /// Returns the failures of one fingerprint, and how many jobs of it are open.
    ///
    /// # Errors
    /// [`ServiceError::NoSuchFailure`] where none of it was seen.
    pub async fn failure(&self, fingerprint: Fingerprint) -> Result<FailureView, ServiceError> {
        midge_store::read(&*self.inner.store, move |rows| {
            let group = rows.failure_group(fingerprint)?.ok_or(ServiceError::NoSuchFailure(fingerprint))?;
            Ok(with_open(rows, group)?)
        })
        .await
    }
}

fn with_open(rows: &mut dyn Rows, group: FailureGroup) -> Result<FailureView, StoreError> {
    let open = rows.failure_open(group.fingerprint)?;
    Ok(FailureView { group, open })
}
