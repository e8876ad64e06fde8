//! What can be asked of a server, apart from HTTP: [`Midge`]'s own methods, and their errors.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use midge_core::{Change, Event, Job, Phase};
use midge_protocol::api::{JobDetail, JobFilter, JobPage, MachineView, Machines, QueueView, Queues};
use midge_protocol::job::{JobView, State};
use midge_protocol::{Attempt, JobId, ModuleName, QueueName};
use midge_store::{Content, PhaseFilter, Rows, StoreError};

use crate::midge::{Inner, Midge};

/// Why something that was asked for is not done. Every text says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// There is no such module in the image.
    #[error("there is no module `{name}`{}", did_you_mean(.nearest))]
    UnknownModule {
        /// What was asked for.
        name: ModuleName,
        /// What was likely meant.
        nearest: Option<ModuleName>,
    },
    /// A part of the request is over its bound.
    #[error("{what} is {bytes} bytes, and at most {max} are allowed{hint}")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        max: usize,
        /// What to do instead.
        hint: &'static str,
    },
    /// The id belongs to another job.
    #[error("job {0} is already there with other content: make a new id for a new job")]
    Conflict(JobId),
    /// The queue holds as many waiting jobs as it may.
    #[error(
        "queue `{queue}` is full: {max} jobs wait; try again later, or raise its jobs_max or max_machines"
    )]
    QueueFull {
        /// Which queue.
        queue: QueueName,
        /// How many may wait.
        max: u64,
    },
    /// There is no such job.
    #[error("there is no job {0}: it was never enqueued here, or ended so long ago that it was deleted")]
    NoSuchJob(JobId),
    /// There is a job, but not what was asked for.
    #[error("job {0} has no {1}")]
    NoContent(JobId, &'static str),
    /// The job is in no state for this.
    #[error("job {0}: {1}")]
    Refused(JobId, midge_core::Refused),
    /// The request contradicts itself or its rules.
    #[error("{0}")]
    Invalid(String),
    /// The store does not work.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn did_you_mean(nearest: &Option<ModuleName>) -> String {
    match nearest {
        Some(name) => format!(": did you mean `{name}`?"),
        None => ": add it to midge.toml and run `midge build`".to_owned(),
    }
}

/// Bytes that belong to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobContent {
    /// Its args: JSON text.
    Args,
    /// What its guest reads from stdin.
    Input,
    /// What its guest wrote to stdout.
    Result,
}

impl Midge {
    /// Returns a job.
    pub async fn job(&self, id: JobId) -> Result<JobView, ServiceError> {
        Ok(self.inner.job(id).await?.view(self.inner.clock.now()))
    }

    /// Returns a job with its args and attempts.
    pub async fn job_detail(&self, id: JobId) -> Result<JobDetail, ServiceError> {
        let found = midge_store::read(&*self.inner.store, move |rows| {
            let Some(job) = one_job(rows, id)? else { return Ok(None) };
            let args = rows.content(id, Content::Args)?.unwrap_or_default();
            Ok(Some((job, args, rows.attempts(id)?)))
        });
        let (job, args, attempts) = found.await?.ok_or(ServiceError::NoSuchJob(id))?;
        Ok(JobDetail {
            job: job.view(self.inner.clock.now()),
            args: String::from_utf8_lossy(&args).into_owned(),
            attempts,
        })
    }

    /// Returns a page of jobs, newest first.
    pub async fn jobs(&self, filter: JobFilter) -> Result<JobPage, ServiceError> {
        let now = self.inner.clock.now();
        let len = filter.page_len();
        let mut wanted = PhaseFilter {
            queue: filter.queue,
            module: filter.module,
            before: filter.before,
            ..PhaseFilter::default()
        };
        match filter.state {
            None => {}
            Some(State::Available) => {
                wanted.phases = vec![Phase::Fresh, Phase::Retrying];
                wanted.due_until = Some(now);
            }
            Some(State::Scheduled) => {
                wanted.phases = vec![Phase::Fresh];
                wanted.due_after = Some(now);
            }
            Some(State::Retryable) => {
                wanted.phases = vec![Phase::Retrying];
                wanted.due_after = Some(now);
            }
            Some(State::Running) => wanted.phases = vec![Phase::Running],
            Some(State::Completed) => wanted.phases = vec![Phase::Completed],
            Some(State::Cancelled) => wanted.phases = vec![Phase::Cancelled],
            Some(State::Discarded) => wanted.phases = vec![Phase::Discarded],
        }
        // One more than fits tells whether there is a next page.
        let read = midge_store::read(&*self.inner.store, move |rows| rows.jobs_listed(&wanted, len + 1));
        let mut jobs = read.await?;
        let more = jobs.len() > len;
        jobs.truncate(len);
        let next = jobs.last().filter(|_| more).map(|job| job.id);
        Ok(JobPage { jobs: jobs.iter().map(|job| job.view(now)).collect(), next })
    }

    /// Waits until a job has ended or `timeout` is over, and returns it as it is then.
    pub async fn wait(&self, id: JobId, timeout: Duration) -> Result<JobView, ServiceError> {
        let (job, ()) = self.look_until_ended(id, timeout, |_, _| Ok(())).await?;
        Ok(job.view(self.inner.clock.now()))
    }

    /// Waits until a job has ended or `timeout` is over, and returns its result.
    ///
    /// # Errors
    /// [`ServiceError::NoContent`] where it has not ended by then, or ended without one.
    pub async fn result(&self, id: JobId, timeout: Duration) -> Result<Bytes, ServiceError> {
        // In the same transaction as the job: one look for both. A job that was retried still has the result of before,
        // which is not the one that is waited for.
        let look = |rows: &mut dyn Rows, job: &Job| match job.phase() {
            Phase::Completed => rows.content(job.id, Content::Result),
            _ => Ok(None),
        };
        let (_, result) = self.look_until_ended(id, timeout, look).await?;
        result.ok_or(ServiceError::NoContent(id, "result"))
    }

    /// Looks at a job, again whenever it may have ended, until it has or `timeout` is over.
    async fn look_until_ended<T: Send + 'static>(
        &self,
        id: JobId,
        timeout: Duration,
        look: fn(&mut dyn Rows, &Job) -> Result<T, StoreError>,
    ) -> Result<(Job, T), ServiceError> {
        let inner = &self.inner;
        let place = inner.hints.jobs.place(&id);
        let deadline = tokio::time::Instant::now() + timeout;
        let mut stopping = inner.stopping.subscribe();
        loop {
            let mut notified = std::pin::pin!(place.notified());
            notified.as_mut().enable();
            let read = midge_store::read(&*inner.store, move |rows| {
                let Some(job) = one_job(rows, id)? else { return Ok(None) };
                let seen = look(rows, &job)?;
                Ok(Some((job, seen)))
            });
            let (job, seen) = read.await?.ok_or(ServiceError::NoSuchJob(id))?;
            let over = tokio::time::Instant::now() >= deadline || *stopping.borrow();
            if job.ended_at().is_some() || over {
                return Ok((job, seen));
            }
            tokio::select! {
                () = notified => {}
                () = tokio::time::sleep_until(deadline) => {}
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
        }
    }

    /// Returns bytes that belong to a job.
    pub async fn content(&self, id: JobId, content: JobContent) -> Result<Bytes, ServiceError> {
        let (which, word) = match content {
            JobContent::Args => (Content::Args, "args"),
            JobContent::Input => (Content::Input, "input"),
            JobContent::Result => (Content::Result, "result"),
        };
        let (job, bytes) = midge_store::read(&*self.inner.store, move |rows| {
            Ok((one_job(rows, id)?, rows.content(id, which)?))
        })
        .await?;
        job.ok_or(ServiceError::NoSuchJob(id))?;
        bytes.ok_or(ServiceError::NoContent(id, word))
    }

    /// Returns the log of one attempt at a job; of the last one where none is named.
    pub async fn log(&self, id: JobId, attempt: Option<Attempt>) -> Result<Bytes, ServiceError> {
        let read = midge_store::read(&*self.inner.store, move |rows| {
            let Some(job) = one_job(rows, id)? else { return Ok(None) };
            rows.log(id, attempt.unwrap_or(job.attempt)).map(Some)
        });
        read.await?.ok_or(ServiceError::NoSuchJob(id))
    }

    /// Cancels a job: at once where it waits, as soon as its Machine has heard of it where it runs.
    pub async fn cancel(&self, id: JobId) -> Result<JobView, ServiceError> {
        self.happen(id, Event::CancelAsked).await
    }

    /// Runs an ended job again under a new allowance of attempts, or a waiting one now.
    pub async fn retry(&self, id: JobId) -> Result<JobView, ServiceError> {
        self.happen(id, Event::RetryAsked).await
    }

    async fn happen(&self, id: JobId, event: Event) -> Result<JobView, ServiceError> {
        let inner = &self.inner;
        let now = inner.clock.now();
        let change = midge_store::write(&*inner.store, move |rows| {
            let Some(job) = one_job(rows, id)? else { return Ok(None) };
            let change = job.apply(event, now);
            if let Ok(Change { job, .. }) = &change {
                rows.put_jobs(std::slice::from_ref(job))?;
            }
            Ok(Some(change))
        });
        let change = change.await?.ok_or(ServiceError::NoSuchJob(id))?;
        let job = change.map_err(|refused| ServiceError::Refused(id, refused))?.job;
        inner.hints.jobs.wake(&id);
        inner.hints.queues.wake(&job.queue);
        if let Some(lease) = job.lease() {
            inner.hints.machines.wake(&lease.machine);
        }
        inner.hints.dispatcher.notify_one();
        Ok(job.view(now))
    }

    /// Returns the queues that are declared or hold jobs.
    pub async fn queues(&self) -> Result<Queues, ServiceError> {
        let now = self.inner.clock.now();
        let (counts, machines) =
            midge_store::read(&*self.inner.store, move |rows| Ok((rows.job_counts(now)?, rows.machines()?)))
                .await?;
        let catalog = self.inner.catalog.get();
        let mut names = catalog.queues();
        names.extend(counts.keys().cloned());
        let queues = names.into_iter().map(|name| {
            let counts = counts.get(&name).cloned().unwrap_or_default();
            let jobs = [
                (State::Scheduled, counts.scheduled),
                (State::Available, counts.due()),
                (State::Retryable, counts.retryable),
                (State::Running, counts.phase(Phase::Running)),
                (State::Completed, counts.phase(Phase::Completed)),
                (State::Cancelled, counts.phase(Phase::Cancelled)),
                (State::Discarded, counts.phase(Phase::Discarded)),
            ];
            let live = machines.iter().filter(|(m, _)| m.queue == name && m.state.is_live()).count();
            let oldest = counts.oldest_due.filter(|due| *due <= now);
            QueueView {
                policy: catalog.policy(&name),
                jobs: jobs.into(),
                oldest_waits_ms: oldest.map(|due| now.since(due).as_millis() as u64),
                machines: live as u32,
                name,
            }
        });
        Ok(Queues { queues: queues.collect() })
    }

    /// Returns the Machines that are there, and those that went lately; newest first.
    pub async fn machines(&self) -> Result<Machines, ServiceError> {
        let machines = midge_store::read(&*self.inner.store, |rows| rows.machines()).await?;
        let view = |(machine, running): (midge_core::Machine, u32)| MachineView {
            name: machine.name,
            id: machine.id,
            queue: machine.queue,
            state: machine.state.as_str().to_owned(),
            since: machine.since,
            heard_at: machine.heard_at,
            running,
            attempts: machine.attempts,
            generation: machine.generation,
            note: machine.note,
        };
        Ok(Machines { machines: machines.into_iter().rev().map(view).collect() })
    }

    /// Returns the modules that jobs may name.
    pub fn catalog(&self) -> Arc<crate::Catalog> {
        self.inner.catalog.get()
    }
}

impl Inner {
    async fn job(&self, id: JobId) -> Result<Job, ServiceError> {
        let read = midge_store::read(&*self.store, move |rows| one_job(rows, id));
        read.await?.ok_or(ServiceError::NoSuchJob(id))
    }
}

fn one_job(rows: &mut dyn Rows, id: JobId) -> Result<Option<Job>, StoreError> {
    Ok(rows.jobs(&[id])?.pop().flatten())
}
