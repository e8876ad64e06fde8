//! What can be asked about schedules, and of them.

use midge_core::{Schedule, Ticks, is_full};
use midge_protocol::api::{
    Enqueued, LastRun, NextRun, PauseRequest, Paused, RunRequest, ScheduleView, Schedules,
};
use midge_protocol::job::{OfSchedule, Waits};
use midge_protocol::manifest::ScheduleEntry;
use midge_protocol::{ScheduleName, Timestamp, nearest};
use midge_store::{Rows, StoreError};

use super::enqueue::{accept, write};
use super::jobs::if_readable;
use super::queues::pause;
use crate::catalog::Catalog;
use crate::dispatcher::{queue_of, request};
use crate::error::ServiceError;
use crate::midge::Midge;

/// How many of its next runs are told of a schedule.
const NEXT_RUNS: usize = 5;

impl Midge {
    /// Returns the schedules that are served, by name, each with its next runs and its last job.
    pub async fn schedules(&self) -> Result<Schedules, ServiceError> {
        let (catalog, now) = (self.inner.catalog.get(), self.inner.clock.now());
        let read = midge_store::read(&*self.inner.store, move |rows| {
            let names = catalog.manifest.schedules.keys();
            let schedules = names.map(|name| view(rows, &catalog, name, now)).collect::<Result<_, _>>()?;
            Ok::<_, ServiceError>(Schedules { schedules })
        });
        read.await
    }

    /// Returns a schedule.
    ///
    /// # Errors
    /// [`ServiceError::NoSuchSchedule`] where none of that name is served.
    pub async fn schedule(&self, name: ScheduleName) -> Result<ScheduleView, ServiceError> {
        let (catalog, now) = (self.inner.catalog.get(), self.inner.clock.now());
        midge_store::read(&*self.inner.store, move |rows| view(rows, &catalog, &name, now)).await
    }

    /// Has a schedule enqueue nothing: its ticks bring no jobs until it is resumed, or the pause is over. One that is paused
    /// already is paused anew, with the newer reason and end, and the answer has the pause that it was.
    ///
    /// # Errors
    /// [`ServiceError::NoSuchSchedule`] where none of that name is served, and those of [`Midge::pause_queue`] about a text
    /// or an end.
    pub async fn pause_schedule(
        &self,
        name: ScheduleName,
        request: PauseRequest,
    ) -> Result<Paused, ServiceError> {
        let now = self.inner.clock.now();
        let pause = pause(request, now)?;
        let paused = pause.clone();
        let before = self.change_schedule(name, now, move |schedule, _| schedule.paused(paused)).await?;
        Ok(Paused { pause, replaced: before.pause.filter(|before| before.is_on(now)) })
    }

    /// Has a paused schedule go on; one that is not paused does already. Ticks that came in the pause bring no jobs.
    ///
    /// # Errors
    /// [`ServiceError::NoSuchSchedule`] where none of that name is served.
    pub async fn resume_schedule(&self, name: ScheduleName) -> Result<(), ServiceError> {
        let now = self.inner.clock.now();
        self.change_schedule(name, now, move |schedule, ticks| schedule.resumed(ticks, now)).await.map(drop)
    }

    /// Enqueues a job of a schedule now, paused or not. It is none of a tick's, and changes nothing about those.
    ///
    /// # Errors
    /// [`ServiceError::NoSuchSchedule`] where none of that name is served, and those of an enqueue.
    pub async fn run_schedule(&self, name: ScheduleName, run: RunRequest) -> Result<Enqueued, ServiceError> {
        let (catalog, now) = (self.inner.catalog.get(), self.inner.clock.now());
        let written = midge_store::write(&*self.inner.store, move |rows| {
            let (entry, ticks) = served(&catalog, &name)?;
            let of = OfSchedule { name: name.clone(), tick: None };
            let accepted = accept(request(entry, run.id), &catalog, now)?.of_schedule(of);
            let mut written = write(rows, vec![accepted], &catalog, now)?;
            let enqueued = written.enqueued.pop().expect("one request has one answer");
            if enqueued.new {
                let schedule = state(rows, entry, &ticks, &name, now)?;
                rows.put_schedule(&Schedule { last_job: Some(run.id), ..schedule })?;
            }
            Ok::<_, ServiceError>((enqueued, written.queues))
        });
        let (enqueued, queues) = written.await?;
        queues.iter().for_each(|queue| self.inner.wake_queue(queue));
        self.inner.waiters.dispatcher.notify_one();
        Ok(enqueued)
    }

    /// Changes a schedule. Returns it as it was.
    async fn change_schedule(
        &self,
        name: ScheduleName,
        now: Timestamp,
        change: impl FnOnce(&Schedule, &Ticks) -> Schedule + Send + 'static,
    ) -> Result<Schedule, ServiceError> {
        let catalog = self.inner.catalog.get();
        let changed = midge_store::write(&*self.inner.store, move |rows| {
            let (entry, ticks) = served(&catalog, &name)?;
            let schedule = state(rows, entry, &ticks, &name, now)?;
            rows.put_schedule(&change(&schedule, &ticks))?;
            Ok::<_, ServiceError>(schedule)
        });
        let before = changed.await?;
        // The next tick, or the end of the pause, may be sooner than what it waits for.
        self.inner.waiters.dispatcher.notify_one();
        Ok(before)
    }
}

/// Finds a schedule among those that are served.
fn served<'a>(catalog: &'a Catalog, name: &ScheduleName) -> Result<(&'a ScheduleEntry, Ticks), ServiceError> {
    let schedules = &catalog.manifest.schedules;
    let entry = schedules.get(name).ok_or_else(|| ServiceError::NoSuchSchedule {
        name: name.clone(),
        nearest: nearest(name.as_str(), schedules.keys().map(ScheduleName::as_str)).map(str::to_owned),
    })?;
    let ticks = Ticks::new(entry).map_err(|wrong| ServiceError::Invalid(wrong.why))?;
    Ok((entry, ticks))
}

/// Returns the state of a schedule, as the next round will find it.
fn state(
    rows: &mut dyn Rows,
    entry: &ScheduleEntry,
    ticks: &Ticks,
    name: &ScheduleName,
    now: Timestamp,
) -> Result<Schedule, StoreError> {
    Ok(match rows.schedule(name)? {
        Some(schedule) => schedule.served(entry, ticks, now),
        None => Schedule::new(name.clone(), entry, ticks, now),
    })
}

fn view(
    rows: &mut dyn Rows,
    catalog: &Catalog,
    name: &ScheduleName,
    now: Timestamp,
) -> Result<ScheduleView, ServiceError> {
    let (entry, ticks) = served(catalog, name)?;
    let schedule = state(rows, entry, &ticks, name, now)?;
    let last = match schedule.last_job {
        Some(id) => {
            let job = if_readable(rows, id)?;
            let of = job.as_ref().and_then(|job| job.links.schedule.as_ref());
            let tick = of.filter(|of| of.name == *name).and_then(|of| of.tick);
            Some(LastRun { job: id, tick, state: job.as_ref().map(|job| job.state_at(now)) })
        }
        None => None,
    };
    let queue = queue_of(catalog, entry).cloned();
    // That its module is served, the manifest was asked when it was read.
    let waits = match &queue {
        Some(queue) if is_full(catalog.policy(queue).max_jobs, rows.jobs_waiting(queue)?, 1) => Some(Waits {
            code: "queue_full".to_owned(),
            text: format!("queue `{queue}` is full: a tick whose job needs room there waits"),
        }),
        _ => None,
    };
    let next = schedule.next_runs(entry, &ticks, NEXT_RUNS, now);
    Ok(ScheduleView {
        name: name.clone(),
        module: entry.module.clone(),
        queue,
        priority: entry.priority,
        key: entry.key.clone(),
        expires_in_ms: entry.expires_in_ms,
        labels: entry.labels.clone(),
        unique: entry.unique.clone(),
        args: entry.args.clone(),
        cron: entry.cron.clone(),
        zone: entry.zone.clone(),
        missed: entry.missed,
        missed_max: entry.missed_max,
        jitter_ms: entry.jitter_ms,
        next: next.into_iter().map(|tick| NextRun { tick: tick.at, due: tick.due, job: tick.job }).collect(),
        last,
        pause: schedule.pause,
        waits,
    })
}
