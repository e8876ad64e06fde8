//! The schedules' part of a round: jobs of ticks that have come, in one transaction with the state that says so.
//!
//! Invariant: which ticks those are is said by [`midge_core::Schedule::due`].

use std::collections::BTreeMap;
use std::time::Duration;

use midge_core::{Schedule, Tick, Ticks, room_for_new};
use midge_protocol::api::EnqueueRequest;
use midge_protocol::job::OfSchedule;
use midge_protocol::manifest::ScheduleEntry;
use midge_protocol::{JobId, QueueName, ScheduleName, Timestamp};
use midge_store::{Rows, StoreError};

use crate::catalog::Catalog;
use crate::error::ServiceError;
use crate::operations::enqueue::{accept, write};

/// What the store remembers of the schedules as a whole: the generation under which they were looked at last; nothing that is
/// one where they are to be looked at again.
const LOOKED_AT: &str = "schedules-of";
/// Jobs of ticks in one round: one transaction, which others wait for.
const TICKS_MAX: usize = 2_000;
/// A schedule whose job is refused, such as by a full queue, is tried again after this.
const REFUSED_WAIT: Duration = Duration::from_secs(5);

/// Has the next round look at all schedules, since the clock may have been put back.
pub(super) fn look_again(rows: &mut dyn Rows) -> Result<(), StoreError> {
    rows.put_setting(LOOKED_AT, "")
}

/// Enqueues the jobs of the ticks that have come.
pub(super) fn enqueue_ticks(
    rows: &mut dyn Rows,
    catalog: &Catalog,
    now: Timestamp,
) -> Result<(), StoreError> {
    let deployed = rows.setting(LOOKED_AT)?.as_deref() != Some(&catalog.generation);
    if !deployed && rows.next_schedule()?.is_none_or(|next| next > now) {
        return Ok(());
    }
    let mut known: BTreeMap<ScheduleName, Schedule> =
        rows.schedules()?.into_iter().map(|schedule| (schedule.name.clone(), schedule)).collect();
    let mut room = TICKS_MAX;
    for (name, entry) in &catalog.manifest.schedules {
        let Ok(ticks) = Ticks::new(entry) else {
            // The manifest was checked when it was opened; whoever made it by hand is told.
            tracing::error!(schedule = %name, "the expression or the zone of a schedule cannot be read");
            continue;
        };
        let before = known.remove(name);
        let served = match &before {
            Some(before) => before.served(entry, &ticks, now),
            None => Schedule::new(name.clone(), entry, &ticks, now),
        };
        let (due, looked_at) = match served.next {
            Some(next) if next <= now => {
                served.due(entry, &ticks, room.min(queue_takes(rows, catalog, entry)?), now)
            }
            _ => (Vec::new(), served.clone()),
        };
        let after = match enqueue(rows, catalog, name, entry, &due, now) {
            Ok(last) => {
                room = room.saturating_sub(due.len());
                Schedule { last_job: last.or(looked_at.last_job), ..looked_at }
            }
            Err(ServiceError::Store(error)) => return Err(error),
            Err(error) => {
                tracing::warn!(schedule = %name, %error, "the job of a tick is not enqueued yet; it will be tried again");
                Schedule { next: Some(now.after(REFUSED_WAIT)), ..served }
            }
        };
        if before.as_ref() != Some(&after) {
            rows.put_schedule(&after)?;
        }
    }
    for schedule in known.into_values() {
        match schedule.removed(now) {
            Some(removed) if removed != schedule => rows.put_schedule(&removed)?,
            Some(_) => {}
            None => rows.delete_schedule(&schedule.name)?,
        }
    }
    if deployed {
        rows.put_setting(LOOKED_AT, &catalog.generation)?;
    }
    Ok(())
}

/// Returns how many jobs of a schedule its queue takes now, but one at least: that one is refused by the enqueue.
fn queue_takes(rows: &mut dyn Rows, catalog: &Catalog, entry: &ScheduleEntry) -> Result<usize, StoreError> {
    let Some(queue) = queue_of(catalog, entry) else { return Ok(1) };
    let takes = room_for_new(catalog.policy(queue).max_jobs, rows.jobs_waiting(queue)?);
    Ok(usize::try_from(takes).unwrap_or(usize::MAX).max(1))
}

/// Returns the queue of a schedule's jobs; nothing where it is the module's, and the module is not served.
pub(crate) fn queue_of<'a>(catalog: &'a Catalog, entry: &'a ScheduleEntry) -> Option<&'a QueueName> {
    entry.queue.as_ref().or_else(|| catalog.module(&entry.module).ok().map(|module| &module.queue))
}

/// Enqueues the jobs of ticks, all or none. One that is there already is the same job. Returns the last of those that are
/// there now for a tick: where its jobs are to be unique, it may be that of a tick before.
fn enqueue(
    rows: &mut dyn Rows,
    catalog: &Catalog,
    name: &ScheduleName,
    entry: &ScheduleEntry,
    due: &[Tick],
    now: Timestamp,
) -> Result<Option<JobId>, ServiceError> {
    let mut accepted = Vec::with_capacity(due.len());
    for tick in due {
        if !is_there(rows, tick.job)? {
            let expires_in = entry.expires_in_ms.map(Duration::from_millis);
            let request = EnqueueRequest {
                scheduled_at: Some(tick.due),
                // One that was missed is made up for now, and has its time from now on.
                expires_at: expires_in.map(|expires_in| tick.due.max(now).after(expires_in)),
                expires_in_ms: None,
                ..request(entry, tick.job)
            };
            let of = OfSchedule { name: name.clone(), tick: Some(tick.at) };
            accepted.push(accept(request, catalog, now)?.of_schedule(of));
        }
    }
    let written = write(rows, accepted, catalog, now)?;
    Ok(written.enqueued.last().map(|enqueued| enqueued.id))
}

/// Returns the request for a job of a schedule that is due now.
pub(crate) fn request(entry: &ScheduleEntry, id: JobId) -> EnqueueRequest {
    EnqueueRequest {
        id,
        args: serde_json::value::to_raw_value(&entry.args).expect("a value is JSON"),
        queue: entry.queue.clone(),
        priority: entry.priority,
        key: entry.key.clone(),
        expires_in_ms: entry.expires_in_ms,
        tags: entry.labels.tags.clone(),
        meta: entry.labels.meta.clone(),
        unique: entry.unique.clone(),
        ..EnqueueRequest::new(entry.module.clone())
    }
}

/// Returns whether a job is there, whether it can be read or not.
fn is_there(rows: &mut dyn Rows, id: JobId) -> Result<bool, StoreError> {
    match rows.jobs(&[id]) {
        Ok(jobs) => Ok(jobs.into_iter().any(|job| job.is_some())),
        Err(StoreError::Unreadable(_)) => Ok(true),
        Err(error) => Err(error),
    }
}
