//! What can be asked about jobs, and of them: look, wait, cancel, retry.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use midge_core::{
    Change, DependencyEnd, Job, JobEvent, Lane, Machine, ModuleRow, Outlook, Phase, QueueRow, WhyWaiting,
};
use midge_protocol::api::{JobCount, JobDetail, JobFilter, JobPage, PAGE_JOBS_MAX};
use midge_protocol::job::{JobView, State};
use midge_protocol::{AttemptNumber, Dollars, JobId, JobKey, ModuleName, QueueName, Timestamp};
use midge_store::{Content, FoundJobs, JobSearch, ReadJob, Rows, StoreError};
use serde_json::value::RawValue;

use super::enqueue::after::asked_for;
use super::recorded::Recorded;
use crate::catalog::Catalog;
use crate::error::ServiceError;
use crate::midge::Midge;
use crate::pass_on::{AT_ONCE, PassedOn, pass_on};
use crate::room::Room;
use crate::waits::waits;

/// How many of the jobs that one waits for are told as the reason.
const DEPENDENCIES_TOLD: usize = 3;

/// Bytes that belong to a job and can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobContent {
    /// The job's args, as JSON text.
    Args,
    /// The bytes that the job was given for its guest's stdin.
    Input,
    /// The bytes that its guest wrote to stdout in the attempt that completed.
    Result,
    /// What its attempts saved last, for the next one.
    Saved,
    /// What the world told the last of its attempts that was recorded and failed, as JSON text.
    Recording,
}

impl Midge {
    /// Returns a job as it is now.
    ///
    /// # Errors
    /// [`ServiceError::NoSuchJob`] where there is none of that id.
    pub async fn job(&self, id: JobId) -> Result<JobView, ServiceError> {
        let job = midge_store::read(&*self.inner.store, move |rows| one_job(rows, id)).await?;
        self.view(Ok(job)).await
    }

    /// Returns a job with its args and attempts.
    pub async fn job_detail(&self, id: JobId) -> Result<JobDetail, ServiceError> {
        let now = self.inner.clock.now();
        let found = midge_store::read(&*self.inner.store, move |rows| -> Result<_, ServiceError> {
            let job: ReadJob = match one_job(rows, id) {
                Ok(job) => Ok(job),
                Err(ServiceError::Store(StoreError::Unreadable(job))) => Err(*job),
                Err(error) => return Err(error),
            };
            let after = asked_for(rows, id)?;
            let children = JobSearch { parent: Some(id), ..JobSearch::default() };
            let children = rows.jobs_counted(&children, now)?;
            let recorded = rows.content(id, Content::Recording)?;
            Ok((job, rows.content(id, Content::Args)?, after, children, rows.attempts(id)?, recorded))
        });
        let (job, args, after, children, ended, recorded) = found.await?;
        let recorded = recorded.and_then(|recording| Recorded::read(&recording));
        let (recorded_requests, more_recorded_requests) =
            recorded.as_ref().map(Recorded::requests).unwrap_or_default();
        let (mut attempts, mut unreadable_attempts) = (Vec::new(), Vec::new());
        for attempt in ended {
            match attempt {
                Ok(attempt) => attempts.push(attempt),
                Err(number) => unreadable_attempts.push(number),
            }
        }
        let forgotten_attempts = job.as_ref().ok().and_then(Job::forgotten_attempts);
        let job = self.view(job).await?;
        Ok(JobDetail {
            job,
            args: as_json(args.as_deref()),
            after,
            children: (children.jobs > 0).then_some(children),
            cost: attempts.iter().filter_map(|attempt| attempt.cost).reduce(Dollars::plus),
            attempts,
            unreadable_attempts,
            forgotten_attempts,
            recorded: recorded.map(|recorded| recorded.attempt),
            recorded_requests,
            more_recorded_requests,
        })
    }

    /// Returns a page of the jobs that fit a filter, in its order.
    ///
    /// # Errors
    /// [`ServiceError::Invalid`] where the filter contradicts itself or is out of its bounds.
    pub async fn jobs(&self, filter: JobFilter) -> Result<JobPage, ServiceError> {
        let now = self.inner.clock.now();
        let len = filter.page_len().ok_or_else(|| {
            ServiceError::Invalid(format!("`limit` is 1 to {PAGE_JOBS_MAX}: ask for more in pages"))
        })?;
        filter.check().map_err(ServiceError::Invalid)?;
        let search = JobSearch::of(&filter, now);
        let point = search.clone();
        // One more than fits tells whether there is a next page.
        let read = midge_store::read(&*self.inner.store, move |rows| rows.jobs_found(&search, len + 1));
        let FoundJobs { mut jobs, stopped_at } = read.await?;
        let more = jobs.len() > len;
        jobs.truncate(len);
        let next = if more { jobs.last().map(|job| point.point_of_read(job.as_ref())) } else { stopped_at };
        let jobs = self.views(&jobs).await?;
        Ok(JobPage { jobs, next, stopped_early: !more && stopped_at.is_some() })
    }

    /// Counts the jobs that fit a filter, as far as that is fast.
    ///
    /// # Errors
    /// [`ServiceError::Invalid`], as [`Midge::jobs`].
    pub async fn count(&self, filter: JobFilter) -> Result<JobCount, ServiceError> {
        let now = self.inner.clock.now();
        filter.check().map_err(ServiceError::Invalid)?;
        let search = JobSearch::of(&filter, now);
        Ok(midge_store::read(&*self.inner.store, move |rows| rows.jobs_counted(&search, now)).await?)
    }

    pub(super) async fn view(&self, job: ReadJob) -> Result<JobView, ServiceError> {
        let mut views = self.views(&[job]).await?;
        Ok(views.pop().expect("one job has one view"))
    }

    /// Returns jobs as the API shows them, those that wait with the reason.
    pub(super) async fn views(&self, jobs: &[ReadJob]) -> Result<Vec<JobView>, ServiceError> {
        let now = self.inner.clock.now();
        let catalog = self.inner.catalog.get();
        let World { machines, queues, lanes, modules, pending } = self.world(jobs, &catalog, now).await?;
        let max_machines = catalog.max_machines();
        let mut outlook = Outlook::new(&machines, &queues, &catalog.generation, max_machines, now);
        let view = |job: &ReadJob| {
            let job = match job {
                Ok(job) => job,
                Err(unreadable) => return unreadable.view(now),
            };
            let hold = ModuleRow::hold(modules.get(&job.module), catalog.serves(&job.module), now);
            let lane = job.key.as_ref().and_then(|key| lanes.get(&(job.queue.clone(), key.clone())));
            let why = match (pending.get(&job.id), job.links.callback) {
                (Some(_), Some(callback)) => Some(WhyWaiting::AfterBatch(callback)),
                (Some(after_jobs), None) => Some(after_jobs.clone()),
                (None, _) => outlook.why(job, hold, lane, || catalog.policy(&job.queue)),
            };
            JobView { waits: why.map(|why| waits(&why, now)), ..job.view(now) }
        };
        Ok(jobs.iter().map(view).collect())
    }

    /// Reads what it takes to say why jobs wait: nothing where none does.
    async fn world(
        &self,
        jobs: &[ReadJob],
        catalog: &Catalog,
        now: Timestamp,
    ) -> Result<World, ServiceError> {
        let waiting: Vec<&Job> = jobs.iter().flatten().filter(|job| job.phase().is_waiting()).collect();
        if waiting.is_empty() {
            return Ok(World::default());
        }
        let names: BTreeSet<QueueName> = waiting.iter().map(|job| job.queue.clone()).collect();
        let limits_keys = |job: &&&Job| catalog.policy(&job.queue).limits_keys();
        let keys: BTreeSet<(QueueName, JobKey)> = waiting
            .iter()
            .filter(limits_keys)
            .filter_map(|job| Some((job.queue.clone(), job.key.clone()?)))
            .collect();
        let pending = waiting.iter().filter(|job| job.phase() == Phase::Pending);
        let pending: Vec<JobId> = pending.map(|job| job.id).collect();
        let read = midge_store::read(&*self.inner.store, move |rows| {
            let mut world =
                World { machines: rows.machines()?, modules: rows.modules()?, ..World::default() };
            let counts = rows.job_counts(now)?;
            for name in names {
                let running = counts.get(&name).map_or(0, |counts| counts.in_state(State::Running));
                world.queues.insert(name.clone(), (rows.queue(&name)?, running));
            }
            for (queue, key) in keys {
                if let Some(lane) = rows.lane(&queue, &key)? {
                    world.lanes.insert((queue, key), lane);
                }
            }
            for job in pending {
                let (jobs, first) = rows.dependencies(job, DEPENDENCIES_TOLD)?;
                let first = first.into_iter().map(|id| Ok((id, end_of(rows, id)?)));
                let first = first.collect::<Result<_, StoreError>>()?;
                world.pending.insert(job, WhyWaiting::AfterJobs { jobs, first });
            }
            Ok::<_, ServiceError>(world)
        });
        read.await
    }

    /// Waits until a job has ended or `timeout` is over, and returns it as it is then.
    pub async fn wait(&self, id: JobId, timeout: Duration) -> Result<JobView, ServiceError> {
        let (job, ()) = self.look_until_ended(id, timeout, |_, _| Ok(())).await?;
        self.view(Ok(job)).await
    }

    /// Waits until a job has ended or `timeout` is over, and returns its result.
    ///
    /// # Errors
    /// [`ServiceError::NoResult`] where it has not ended by then, or ended without one.
    pub async fn result(&self, id: JobId, timeout: Duration) -> Result<Bytes, ServiceError> {
        // In the same transaction as the job: one look for both. A job that was retried still has the result of before,
        // which is not the one that is waited for.
        let look = |rows: &mut dyn Rows, job: &Job| match job.phase() {
            Phase::Completed => rows.content(job.id, Content::Result),
            _ => Ok(None),
        };
        let (job, result) = self.look_until_ended(id, timeout, look).await?;
        result.ok_or_else(|| ServiceError::NoResult(id, job.state_at(self.inner.clock.now())))
    }

    /// Looks at a job, again whenever it may have ended, until it has or `timeout` is over.
    async fn look_until_ended<T: Send + 'static>(
        &self,
        id: JobId,
        timeout: Duration,
        look: fn(&mut dyn Rows, &Job) -> Result<T, StoreError>,
    ) -> Result<(Job, T), ServiceError> {
        let inner = &self.inner;
        let ended = inner.waiters.jobs.notifier(&id);
        // Nothing where that is beyond all clocks: then it waits until the job has ended.
        let deadline = tokio::time::Instant::now().checked_add(timeout);
        let mut stopping = inner.stopping.subscribe();
        loop {
            let mut notified = std::pin::pin!(ended.notified());
            notified.as_mut().enable();
            let read = midge_store::read(&*inner.store, move |rows| -> Result<_, ServiceError> {
                let job = one_job(rows, id)?;
                let seen = look(rows, &job)?;
                Ok((job, seen))
            });
            let (job, seen) = read.await?;
            let over = deadline.is_some_and(|deadline| tokio::time::Instant::now() >= deadline);
            let over = over || *stopping.borrow();
            if job.ended_at().is_some() || over {
                return Ok((job, seen));
            }
            tokio::select! {
                () = notified => {}
                () = sleep_until(deadline) => {}
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
        }
    }

    /// Returns bytes that belong to a job.
    ///
    /// # Errors
    /// [`ServiceError::NoContent`] where the job has none of that kind.
    pub async fn content(&self, id: JobId, content: JobContent) -> Result<Bytes, ServiceError> {
        let (which, word) = match content {
            JobContent::Args => (Content::Args, "args"),
            JobContent::Input => (Content::Input, "input"),
            JobContent::Result => (Content::Result, "result"),
            JobContent::Saved => (Content::Saved, "saved state"),
            JobContent::Recording => (Content::Recording, "recording"),
        };
        midge_store::read(&*self.inner.store, move |rows| {
            one_job(rows, id)?;
            rows.content(id, which)?.ok_or(ServiceError::NoContent(id, word))
        })
        .await
    }

    /// Returns the log of one attempt at a job; of the last one where none is named.
    ///
    /// # Errors
    /// [`ServiceError::NoSuchAttempt`] and [`ServiceError::ForgottenAttempt`] where the one that is asked for never began, or
    /// is not kept any more.
    pub async fn log(&self, id: JobId, attempt: Option<AttemptNumber>) -> Result<Bytes, ServiceError> {
        midge_store::read(&*self.inner.store, move |rows| {
            let job = one_job(rows, id)?;
            let Some(attempt) = attempt else { return Ok(rows.log(id, job.attempt)?) };
            if !job.has_begun(attempt) {
                return Err(ServiceError::NoSuchAttempt { id, attempt, begun: job.attempt.0 });
            }
            if job.forgotten_attempts().is_some_and(|range| range.contains(attempt)) {
                return Err(ServiceError::ForgottenAttempt { id, attempt });
            }
            Ok(rows.log(id, attempt)?)
        })
        .await
    }

    /// Cancels a job: at once where it waits, as soon as its Machine has heard of it where it runs.
    ///
    /// # Errors
    /// [`ServiceError::Refused`] where it has ended.
    pub async fn cancel(&self, id: JobId) -> Result<JobView, ServiceError> {
        self.happen(id, JobEvent::CancelAsked).await
    }

    /// Runs an ended job again under a new allowance of attempts, or a waiting one now.
    ///
    /// # Errors
    /// [`ServiceError::Refused`] where it runs, [`ServiceError::QueueFull`] where it has ended and its queue has no room.
    pub async fn retry(&self, id: JobId) -> Result<JobView, ServiceError> {
        let catalog = self.inner.catalog.get();
        self.change(id, move |rows, job, now| {
            let change = job.apply(JobEvent::RetryAsked, now);
            let change = change.map_err(|refused| ServiceError::Refused(id, refused))?;
            Room::new(&catalog).take(rows, job, &change.job)??;
            Ok(change)
        })
        .await
    }

    /// Deletes a job with all that belongs to it, whether its row can be read or not.
    ///
    /// # Errors
    /// [`ServiceError::Refused`] where it runs: it can be cancelled first.
    pub async fn delete(&self, id: JobId) -> Result<(), ServiceError> {
        let now = self.inner.clock.now();
        let deleted = midge_store::write(&*self.inner.store, move |rows| {
            match one_job(rows, id) {
                Ok(job) => job.may_be_deleted().map_err(|refused| ServiceError::Refused(id, refused))?,
                Err(ServiceError::Store(StoreError::Unreadable(_))) => {}
                Err(error) => return Err(error),
            }
            rows.delete_job(id)?;
            Ok::<_, ServiceError>(pass_on(rows, AT_ONCE, now)?)
        });
        self.tell_passed_on(deleted.await?);
        self.inner.waiters.jobs.wake(&id);
        Ok(())
    }

    /// Wakes who waits for what came of the end of a job that others are to run after.
    pub(super) fn tell_passed_on(&self, passed_on: PassedOn) {
        let inner = &self.inner;
        inner.tell_ended(&passed_on.ended);
        inner.waiters.news.wake_each(&passed_on.news);
        passed_on.tell.iter().for_each(|machine| inner.waiters.machines.wake(machine));
        passed_on.queues.iter().for_each(|queue| inner.wake_queue(queue));
        if passed_on.more || !passed_on.queues.is_empty() {
            inner.waiters.dispatcher.notify_one();
        }
    }

    async fn happen(&self, id: JobId, event: JobEvent) -> Result<JobView, ServiceError> {
        self.change(id, move |_, job, now| {
            job.apply(event, now).map_err(|refused| ServiceError::Refused(id, refused))
        })
        .await
    }

    /// Changes a job in a transaction, and tells all whom that may concern.
    pub(super) async fn change(
        &self,
        id: JobId,
        change: impl FnOnce(&mut dyn Rows, &Job, Timestamp) -> Result<Change, ServiceError> + Send + 'static,
    ) -> Result<JobView, ServiceError> {
        let inner = &self.inner;
        let now = inner.clock.now();
        let happened = midge_store::write(&*inner.store, move |rows| {
            let before = one_job(rows, id)?;
            let Change { job, .. } = change(rows, &before, now)?;
            rows.put_jobs(std::slice::from_ref(&job))?;
            let ended = job.ended_at().is_some() && job.links.is_watched();
            let passed_on = if ended { pass_on(rows, AT_ONCE, now)? } else { PassedOn::default() };
            Ok::<_, ServiceError>((job, passed_on))
        });
        let (job, passed_on) = happened.await?;
        self.tell_passed_on(passed_on);
        inner.tell_changed(&job);
        inner.waiters.dispatcher.notify_one();
        Ok(job.view(now))
    }
}

/// What it takes to say why jobs wait.
#[derive(Default)]
struct World {
    machines: Vec<(Machine, u32)>,
    /// The rows of queues, each with how many of its jobs run.
    queues: BTreeMap<QueueName, (QueueRow, u64)>,
    /// The lanes of keys that are limited.
    lanes: BTreeMap<(QueueName, JobKey), Lane>,
    /// The rows of modules.
    modules: BTreeMap<ModuleName, ModuleRow>,
    /// Which jobs each pending one waits for.
    pending: BTreeMap<JobId, WhyWaiting>,
}

/// Returns how a job ended that others wait for; nothing where it has not, or its row cannot be read.
fn end_of(rows: &mut dyn Rows, id: JobId) -> Result<Option<DependencyEnd>, StoreError> {
    match rows.jobs(&[id]) {
        Ok(jobs) => Ok(jobs.into_iter().flatten().next().and_then(|job| DependencyEnd::of(job.phase()))),
        Err(StoreError::Unreadable(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sleeps until a time; where there is none, for ever.
async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Returns args as they were enqueued. What is no JSON, since its row was damaged, is shown as a text, and args that are
/// not there as `null`.
fn as_json(args: Option<&[u8]>) -> Box<RawValue> {
    let text = String::from_utf8_lossy(args.unwrap_or(b"null"));
    serde_json::from_str(&text).unwrap_or_else(|_| {
        serde_json::value::to_raw_value(&text).expect("a text can always be written as JSON")
    })
}

fn one_job(rows: &mut dyn Rows, id: JobId) -> Result<Job, ServiceError> {
    rows.jobs(&[id])?.pop().flatten().ok_or(ServiceError::NoSuchJob(id))
}

/// Finds a job; nothing where it is deleted or cannot be read.
pub(super) fn if_readable(rows: &mut dyn Rows, id: JobId) -> Result<Option<Job>, StoreError> {
    match rows.jobs(&[id]) {
        Ok(jobs) => Ok(jobs.into_iter().flatten().next()),
        Err(StoreError::Unreadable(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
