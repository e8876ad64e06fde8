//! What can be asked of jobs that wait, and of all jobs that fit a filter: sweeps.

use midge_core::{Acted, JobEvent, SWEEPS_OPEN_MAX, Sweep, act, search_for, sweeps_over};
use midge_protocol::api::{
    Action, Cursor, DryRun, JobCount, JobFilter, NotDone, SweepRequest, SweepView, Sweeps,
};
use midge_protocol::job::JobView;
use midge_protocol::{JobId, QueueName, Timestamp, limits};
use midge_store::{FoundJobs, Rows, StoreError};

use super::enqueue::no_more_queues;
use crate::catalog::Catalog;
use crate::error::ServiceError;
use crate::midge::Midge;
use crate::room::Room;

/// Jobs that a dry run looks at: it takes some 0.1 s.
const DRY_RUN_JOBS_MAX: u64 = 10_000;
/// Jobs that a dry run shows, and of which it says why it could not be done.
const SHOWN_MAX: usize = 10;
/// Jobs that are found at once in it.
const PAGE: usize = 1_000;

impl Midge {
    /// Gives a waiting job another priority.
    ///
    /// # Errors
    /// [`ServiceError::Refused`] where it does not wait, [`ServiceError::Invalid`] for a priority that there is not.
    pub async fn set_priority(&self, id: JobId, priority: i8) -> Result<JobView, ServiceError> {
        check_priority(priority)?;
        self.change(id, move |_, job, now| {
            let change = job.apply(JobEvent::PriorityAsked(priority), now);
            change.map_err(|refused| ServiceError::Refused(id, refused))
        })
        .await
    }

    /// Puts a waiting job into another queue.
    ///
    /// # Errors
    /// [`ServiceError::Refused`] where it does not wait; and those of an enqueue into that queue.
    pub async fn move_job(&self, id: JobId, queue: QueueName) -> Result<JobView, ServiceError> {
        let catalog = self.inner.catalog.get();
        self.change(id, move |rows, job, now| {
            let change = job.apply(JobEvent::MoveAsked(queue.clone()), now);
            let change = change.map_err(|refused| ServiceError::Refused(id, refused))?;
            if job.queue != queue {
                takes(rows, &catalog, &queue, now)?;
            }
            Room::new(&catalog).take(rows, job, &change.job)??;
            Ok(change)
        })
        .await
    }

    /// Begins to do one thing to all jobs that fit a filter. It goes on in the background, also after a crash, and
    /// [`Midge::sweep`] says how far it is.
    ///
    /// # Errors
    /// [`ServiceError::Invalid`] where the request contradicts itself, or means every job and does not say so;
    /// [`ServiceError::TooManySweeps`]; and, of a move, what an enqueue into that queue is refused for.
    pub async fn begin_sweep(&self, request: SweepRequest) -> Result<SweepView, ServiceError> {
        let (catalog, now) = (self.inner.catalog.get(), self.inner.clock.now());
        check(&request)?;
        if request.filter.is_everything() && !request.all {
            return Err(ServiceError::Invalid(
                "the filter means every job: say which by a field such as `state` or `tag`, or say `all` if it is \
                 meant so"
                    .to_owned(),
            ));
        }
        let begun = midge_store::write(&*self.inner.store, move |rows| {
            if let Action::Move(queue) = &request.action {
                takes(rows, &catalog, queue, now)?;
            }
            let sweeps = rows.sweeps()?;
            if sweeps.iter().filter(|sweep| sweep.is_open()).count() >= SWEEPS_OPEN_MAX {
                return Err(ServiceError::TooManySweeps { max: SWEEPS_OPEN_MAX });
            }
            for over in sweeps_over(&sweeps) {
                rows.delete_sweep(over)?;
            }
            let id = sweeps.iter().map(|sweep| sweep.view.id).max().unwrap_or(0) + 1;
            let fitted = rows.jobs_counted(&search_for(&request.action, &request.filter, now), now)?;
            let sweep = Sweep::new(id, request.action, request.filter, fitted, now);
            rows.put_sweep(&sweep)?;
            Ok(sweep.view)
        });
        let begun = begun.await?;
        self.inner.waiters.sweeps.notify_one();
        Ok(begun)
    }

    /// Says to how many jobs a sweep would do it, and shows the first.
    ///
    /// # Errors
    /// Those of [`Midge::begin_sweep`]; a filter that means every job is no error here.
    pub async fn dry_run(&self, request: SweepRequest) -> Result<DryRun, ServiceError> {
        let (catalog, now) = (self.inner.catalog.get(), self.inner.clock.now());
        check(&request)?;
        let looked = midge_store::read(&*self.inner.store, move |rows| {
            if let Action::Move(queue) = &request.action {
                takes(rows, &catalog, queue, now)?;
            }
            Ok::<_, ServiceError>(look(rows, &request, &catalog, now)?)
        });
        let Looked { would, first, could_not, first_not } = looked.await?;
        let first = self.views(&first).await?;
        Ok(DryRun { would, first, could_not, first_not })
    }

    /// Returns the sweeps that go on, and the last that ended; newest first.
    pub async fn sweeps(&self) -> Result<Sweeps, ServiceError> {
        let sweeps = midge_store::read(&*self.inner.store, |rows| rows.sweeps()).await?;
        Ok(Sweeps { sweeps: sweeps.into_iter().rev().map(|sweep| sweep.view).collect() })
    }

    /// Returns a sweep, with how far it is.
    ///
    /// # Errors
    /// [`ServiceError::NoSuchSweep`] where there is none of that number.
    pub async fn sweep(&self, id: u64) -> Result<SweepView, ServiceError> {
        let sweep = midge_store::read(&*self.inner.store, move |rows| rows.sweep(id)).await?;
        Ok(sweep.ok_or(ServiceError::NoSuchSweep(id))?.view)
    }

    /// Ends a sweep before it is through. What it did stays done; one that has ended stays as it is.
    ///
    /// # Errors
    /// [`ServiceError::NoSuchSweep`] where there is none of that number.
    pub async fn cancel_sweep(&self, id: u64) -> Result<SweepView, ServiceError> {
        let now = self.inner.clock.now();
        midge_store::write(&*self.inner.store, move |rows| {
            let mut sweep = rows.sweep(id)?.ok_or(ServiceError::NoSuchSweep(id))?;
            sweep.cancel(now);
            rows.put_sweep(&sweep)?;
            Ok(sweep.view)
        })
        .await
    }
}

/// Checks a request as far as that needs no rows.
fn check(request: &SweepRequest) -> Result<(), ServiceError> {
    let JobFilter { sort, before, limit, .. } = &request.filter;
    for (name, is_set) in [("sort", sort.is_some()), ("before", before.is_some()), ("limit", limit.is_some())]
    {
        if is_set {
            let error =
                format!("`filter.{name}` is of a page, and a sweep is for all jobs that fit: leave it out");
            return Err(ServiceError::Invalid(error));
        }
    }
    request.filter.check().map_err(ServiceError::Invalid)?;
    match &request.action {
        Action::Priority(priority) => check_priority(*priority),
        Action::Retry | Action::Cancel | Action::Delete | Action::Move(_) => Ok(()),
    }
}

fn check_priority(priority: i8) -> Result<(), ServiceError> {
    let priorities = limits::PRIORITIES;
    if priorities.contains(&priority) {
        return Ok(());
    }
    let (first, last) = (priorities.start(), priorities.end());
    Err(ServiceError::Invalid(format!("`priority` is {priority}: use {first} to {last}")))
}

/// Refuses a queue that takes no jobs.
fn takes(
    rows: &mut dyn Rows,
    catalog: &Catalog,
    queue: &QueueName,
    now: Timestamp,
) -> Result<(), ServiceError> {
    let unknown = |nearest| ServiceError::UnknownQueue { name: queue.clone(), nearest };
    catalog.takes_jobs(queue).map_err(unknown)?;
    no_more_queues(rows, &[(queue.clone(), 1)].into(), catalog, now)
}

/// What a dry run found.
#[derive(Default)]
struct Looked {
    would: JobCount,
    first: Vec<midge_store::ReadJob>,
    could_not: u64,
    first_not: Vec<NotDone>,
}

/// Looks at the jobs that fit, as far as that is fast.
fn look(
    rows: &mut dyn Rows,
    request: &SweepRequest,
    catalog: &Catalog,
    now: Timestamp,
) -> Result<Looked, StoreError> {
    let mut search = search_for(&request.action, &request.filter, now);
    let mut looked = Looked::default();
    let mut room = Room::new(catalog);
    let mut looked_at = 0;
    loop {
        let FoundJobs { jobs, stopped_at } = rows.jobs_found(&search, PAGE)?;
        looked_at += jobs.len() as u64;
        let last = jobs.last().filter(|_| jobs.len() == PAGE);
        let next: Option<Cursor> = last.map(|job| search.point_of_read(job.as_ref())).or(stopped_at);
        for job in jobs {
            let acted = match &job {
                Ok(job) => {
                    act(&request.action, &request.filter, job, now).map_err(|refused| refused.to_string())
                }
                Err(_) => midge_core::act_unreadable(&request.action).map_err(str::to_owned),
            };
            let no_room = match (&job, &acted) {
                (Ok(before), Ok(Acted::Changed(after))) => room.take(rows, before, after)?.err(),
                _ => None,
            };
            match no_room.map_or(acted, |why| Err(why.to_string())) {
                Ok(Acted::Left) => {}
                Ok(Acted::Changed(_) | Acted::Deleted) => {
                    looked.would.jobs += 1;
                    if looked.first.len() < SHOWN_MAX {
                        looked.first.push(job);
                    }
                }
                Err(why) => {
                    looked.could_not += 1;
                    if looked.first_not.len() < SHOWN_MAX {
                        let job = job.as_ref().map_or_else(|job| job.id, |job| job.id);
                        looked.first_not.push(NotDone { job, why });
                    }
                }
            }
        }
        // A page that stopped early has looked at thousands.
        looked_at += if stopped_at.is_some() { DRY_RUN_JOBS_MAX / 4 } else { 0 };
        match next {
            Some(next) if looked_at < DRY_RUN_JOBS_MAX => search.before = Some(next),
            next => {
                looked.would.exact = next.is_none();
                return Ok(looked);
            }
        }
    }
}
