//! What can be asked about batches, and of them: make, look, close, cancel.

use std::collections::BTreeMap;

use midge_core::{Batch, Job};
use midge_protocol::api::{
    BatchEvent, BatchFilter, BatchMade, BatchPage, BatchRequest, BatchView, EnqueueRequest, JobFilter,
    PAGE_JOBS_MAX,
};
use midge_protocol::{BatchId, Timestamp, limits};
use midge_store::Rows;
use xxhash_rust::xxh3::Xxh3;

use super::enqueue::{Accepted, accept_as, write_as};
use crate::catalog::Catalog;
use crate::error::ServiceError;
use crate::midge::Midge;
use crate::pass_on::{AT_ONCE, pass_on};

impl Midge {
    /// Makes a batch, which is open: jobs can be added until it is closed. When this returns, it is durable, and so are the
    /// jobs that are its callbacks, which are pending. The same request can be repeated.
    ///
    /// # Errors
    /// [`ServiceError::OfCallback`] where one of those cannot be enqueued, [`ServiceError::BatchConflict`] where the id is
    /// another batch's, and [`ServiceError::TooManyBatches`].
    pub async fn make_batch(&self, request: BatchRequest) -> Result<BatchMade, ServiceError> {
        let (now, catalog) = (self.inner.clock.now(), self.inner.catalog.get());
        let (id, name) = (request.id, request.name.clone());
        let (bytes, max) = (name.len(), limits::BATCH_NAME_BYTES_MAX);
        if bytes > max {
            return Err(ServiceError::TooLarge { what: "name", bytes, max, hint: "" });
        }
        let callbacks = accept_callbacks(request, &catalog, now)?;
        let content_hash = content_hash(&name, &callbacks);
        let made = midge_store::write(&*self.inner.store, move |rows| {
            if let Some(there) = rows.batch(id)? {
                let same = there.content_hash == content_hash;
                let made = BatchMade { id, new: false, callbacks: there.callbacks };
                return if same { Ok(made) } else { Err(ServiceError::BatchConflict(id)) };
            }
            let max = limits::BATCHES_MAX;
            if rows.batches_unended()? >= max {
                return Err(ServiceError::TooManyBatches { max });
            }
            let number = rows.last_batch_number()? + 1;
            let mut batch = Batch::new(id, number, name, content_hash, now);
            for (when, accepted) in callbacks {
                let job = accepted.id();
                if !put_callback(rows, &batch, when, accepted, &catalog, now)? {
                    let error = Box::new(ServiceError::Conflict(job));
                    return Err(ServiceError::OfCallback { when, error });
                }
                batch.callbacks.insert(when, job);
            }
            rows.put_batch(&batch)?;
            Ok(BatchMade { id, new: true, callbacks: batch.callbacks })
        });
        made.await
    }

    /// Returns a batch as it is now.
    ///
    /// # Errors
    /// [`ServiceError::NoSuchBatch`] where there is none of that id.
    pub async fn batch(&self, id: BatchId) -> Result<BatchView, ServiceError> {
        midge_store::read(&*self.inner.store, move |rows| Ok(one_batch(rows, id)?.view())).await
    }

    /// Returns a page of batches, by id, the highest first: the newest, where ids begin with their time.
    pub async fn batches(&self, filter: BatchFilter) -> Result<BatchPage, ServiceError> {
        let len = JobFilter { limit: filter.limit, ..JobFilter::default() }.page_len().ok_or_else(|| {
            ServiceError::Invalid(format!("`limit` is 1 to {PAGE_JOBS_MAX}: ask for more in pages"))
        })?;
        // One more than fits tells whether there is a next page.
        let read = midge_store::read(&*self.inner.store, move |rows| {
            Ok::<_, ServiceError>(rows.batches_listed(filter.before, len + 1)?)
        });
        let mut batches = read.await?;
        let more = batches.len() > len;
        batches.truncate(len);
        let next = batches.last().filter(|_| more).map(|batch| batch.id);
        Ok(BatchPage { batches: batches.iter().map(Batch::view).collect(), next })
    }

    /// Closes a batch: no job can be added, and it ends when all of its jobs have. One that is closed already is as it was.
    ///
    /// # Errors
    /// [`ServiceError::NoSuchBatch`] where there is none of that id.
    pub async fn close_batch(&self, id: BatchId) -> Result<BatchView, ServiceError> {
        self.change_batch(id, |batch, now| Ok(batch.closed(now))).await
    }

    /// Closes a batch and cancels its jobs: those that wait within moments, however many, those that run as soon as their
    /// Machines have heard of it.
    ///
    /// # Errors
    /// [`ServiceError::NoSuchBatch`] where there is none of that id, [`ServiceError::BatchRefused`] where it has ended.
    pub async fn cancel_batch(&self, id: BatchId) -> Result<BatchView, ServiceError> {
        self.change_batch(id, |batch, now| Ok(batch.cancelled(now)?)).await
    }

    async fn change_batch(
        &self,
        id: BatchId,
        change: fn(&Batch, Timestamp) -> Result<Batch, ServiceError>,
    ) -> Result<BatchView, ServiceError> {
        let now = self.inner.clock.now();
        let changed = midge_store::write(&*self.inner.store, move |rows| {
            let batch = one_batch(rows, id)?;
            rows.put_batch(&change(&batch, now)?)?;
            let passed_on = pass_on(rows, AT_ONCE, now)?;
            Ok::<_, ServiceError>((one_batch(rows, id)?.view(), passed_on))
        });
        let (batch, passed_on) = changed.await?;
        self.tell_passed_on(passed_on);
        Ok(batch)
    }
}

/// Checks the jobs that a batch is to run, and completes them from the manifest.
fn accept_callbacks(
    request: BatchRequest,
    catalog: &Catalog,
    now: Timestamp,
) -> Result<BTreeMap<BatchEvent, Accepted>, ServiceError> {
    let BatchRequest { id: _, name: _, on_completed, on_ended, on_failure } = request;
    let asked = [
        (BatchEvent::Completed, on_completed),
        (BatchEvent::Ended, on_ended),
        (BatchEvent::Failure, on_failure),
    ];
    let mut accepted = BTreeMap::new();
    for (when, job) in asked {
        let Some(job) = job else { continue };
        let of_callback = |error| ServiceError::OfCallback { when, error: Box::new(error) };
        accepted.insert(when, accept_callback(*job, catalog, now).map_err(of_callback)?);
    }
    Ok(accepted)
}

fn accept_callback(job: EnqueueRequest, catalog: &Catalog, now: Timestamp) -> Result<Accepted, ServiceError> {
    // It waits for the batch: what it would wait for besides, or would make another wait for, is said by jobs after it.
    if job.batch.is_some() {
        return Err(ServiceError::Invalid(
            "`batch` is of no use here: a callback is in no batch; leave it out".to_owned(),
        ));
    }
    if !job.after.is_empty() {
        return Err(ServiceError::Invalid(
            "`after` is of no use here: a callback runs after its batch; leave it out, and enqueue another job after it"
                .to_owned(),
        ));
    }
    if job.unique.is_some() {
        return Err(ServiceError::Invalid(
            "`unique` is of no use here: a callback is run for its own batch; leave it out".to_owned(),
        ));
    }
    accept_as(job, catalog, now, true)
}

/// Writes a callback as a job that waits for its batch. Returns whether it is new.
fn put_callback(
    rows: &mut dyn Rows,
    batch: &Batch,
    when: BatchEvent,
    accepted: Accepted,
    catalog: &Catalog,
    now: Timestamp,
) -> Result<bool, ServiceError> {
    let waits = |job: Job| job.called_by(batch, when);
    let written = write_as(rows, vec![accepted], catalog, now, waits).map_err(|error| match error {
        ServiceError::OfMany { error, .. } => ServiceError::OfCallback { when, error },
        error => error,
    })?;
    Ok(written.enqueued.iter().all(|job| job.new))
}

fn content_hash(name: &str, callbacks: &BTreeMap<BatchEvent, Accepted>) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(name.as_bytes());
    for (when, accepted) in callbacks {
        hash.update(when.field().as_bytes());
        hash.update(&accepted.content_hash().to_le_bytes());
    }
    hash.digest()
}

fn one_batch(rows: &mut dyn Rows, id: BatchId) -> Result<Batch, ServiceError> {
    rows.batch(id)?.ok_or(ServiceError::NoSuchBatch(id))
}
