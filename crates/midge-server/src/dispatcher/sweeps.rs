//! Makes sweeps, step by step, each in a transaction with how far it is: a crash costs nothing but the step that was not
//! written.
//!
//! Invariant: what becomes of a job is said by [`midge_core::Sweep::meets`], and whose turn it is by
//! [`midge_core::next_sweep`].

use std::time::Duration;

use midge_core::{Acted, Job, JobSearch, Sweep, UnreadableJob, next_sweep};
use midge_protocol::api::Cursor;
use midge_protocol::{JobId, Timestamp};
use midge_store::{FoundJobs, ReadJob, Rows, Store, StoreError};

use crate::catalog::Catalog;
use crate::midge::Inner;
use crate::room::Room;

/// Jobs that a step changes at most: one transaction, which others wait for.
const JOBS_MAX: usize = 500;
/// A step that failed is tried again after this.
const FAILED_WAIT: Duration = Duration::from_secs(1);

/// What a step of a sweep did.
#[derive(Debug, Default)]
pub struct Swept {
    /// The jobs that are others now: who waits for them is told.
    pub changed: Vec<Job>,
    /// The jobs that were deleted.
    pub deleted: Vec<JobId>,
}

/// Makes sweeps until the server stops. It is beside the rounds, which a large one would hold up, and asks the store for
/// nothing while there is none.
pub(super) async fn run(inner: &Inner) {
    let mut stopping = inner.stopping.subscribe();
    loop {
        let began = inner.waiters.sweeps.notified();
        let swept = sweep_step(&*inner.store, &inner.catalog.get(), inner.clock.now()).await;
        let wait = match swept {
            Ok(Some(swept)) => {
                swept.changed.iter().for_each(|job| inner.tell_changed(job));
                swept.deleted.iter().for_each(|job| inner.waiters.jobs.wake(job));
                inner.waiters.dispatcher.notify_one();
                Some(Duration::ZERO)
            }
            Ok(None) => None,
            Err(error) => {
                tracing::error!(%error, "a step of a sweep failed; it will be tried again");
                Some(FAILED_WAIT)
            }
        };
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => return,
            () = began, if wait.is_none() => {}
            () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
        }
    }
}

/// Makes the next step of the sweep whose turn it is; nothing where none goes on.
///
/// The jobs are looked for beside the transaction that changes them, which others wait for: it looks at each once more.
pub async fn sweep_step(
    store: &dyn Store,
    catalog: &Catalog,
    now: Timestamp,
) -> Result<Option<Swept>, StoreError> {
    let look = move |rows: &mut dyn Rows| {
        let Some(sweep) = next_sweep(&rows.sweeps()?).cloned() else { return Ok(None) };
        let search = sweep.search(now);
        let FoundJobs { jobs, stopped_at } = rows.jobs_found(&search, JOBS_MAX)?;
        let last = jobs.last().filter(|_| jobs.len() == JOBS_MAX);
        let cursor = last.map(|job| search.point_of_read(job.as_ref())).or(stopped_at);
        let ids = jobs.iter().map(|job| job.as_ref().map_or_else(|job| job.id, |job| job.id)).collect();
        Ok::<_, StoreError>(Some(Looked { sweep, search, ids, cursor }))
    };
    let Some(looked) = midge_store::read(store, look).await? else { return Ok(None) };
    let catalog = catalog.clone();
    midge_store::write(store, move |rows| step(rows, looked, &catalog, now)).await.map(Some)
}

/// What was found for a step.
struct Looked {
    sweep: Sweep,
    search: JobSearch,
    ids: Vec<JobId>,
    /// Where to go on after these; nothing where they were the last.
    cursor: Option<Cursor>,
}

fn step(rows: &mut dyn Rows, looked: Looked, catalog: &Catalog, now: Timestamp) -> Result<Swept, StoreError> {
    let Looked { mut sweep, search, ids, cursor } = looked;
    let mut swept = Swept::default();
    // Somebody may have cancelled it meanwhile.
    if rows.sweep(sweep.view.id)?.as_ref() != Some(&sweep) {
        return Ok(swept);
    }
    let mut room = Room::new(catalog);
    for id in ids {
        let job = match still_fits(rows, &search, id)? {
            None => continue,
            Some(Err(UnreadableJob { id, .. })) => {
                if sweep.meets_unreadable(id) == Acted::Deleted {
                    rows.delete_job(id)?;
                    swept.deleted.push(id);
                }
                continue;
            }
            Some(Ok(job)) => job,
        };
        match sweep.meets(&job, now) {
            Acted::Left => {}
            Acted::Deleted => {
                rows.delete_job(id)?;
                swept.deleted.push(id);
            }
            Acted::Changed(after) => match room.take(rows, &job, &after)? {
                Ok(()) => swept.changed.push(*after),
                Err(why) => sweep.was_not_done(id, why.to_string()),
            },
        }
    }
    rows.put_jobs(&swept.changed)?;
    sweep.stepped(cursor, now);
    rows.put_sweep(&sweep)?;
    Ok(swept)
}

/// Reads a job that was found; nothing where it does not fit any more, or is deleted. Its args are those of before.
fn still_fits(rows: &mut dyn Rows, search: &JobSearch, id: JobId) -> Result<Option<ReadJob>, StoreError> {
    match rows.jobs(&[id]) {
        Ok(jobs) => Ok(jobs.into_iter().flatten().find(|job| search.matches(job)).map(Ok)),
        Err(StoreError::Unreadable(job)) => Ok(Some(Err(*job))),
        Err(error) => Err(error),
    }
}
