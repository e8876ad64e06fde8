//! The schedules' part of a round: jobs of ticks that have come, in one transaction with the state that says so.
//!
//! Invariant: which ticks those are is said by [`midge_core::Schedule::due`].

use std::collections::BTreeMap;
use std::time::Duration;

use midge_core::{Schedule, Tick, Ticks};
use midge_protocol::api::EnqueueRequest;
use midge_protocol::manifest::ScheduleEntry;
use midge_protocol::{JobId, ScheduleName, Timestamp};
use midge_store::{Rows, StoreError};

use crate::catalog::Catalog;
use crate::error::ServiceError;
use crate::operations::enqueue::{accept, write};

/// What the store remembers of the schedules as a whole: the generation under which they were looked at last.
const LOOKED_AT: &str = "schedules-of";
/// Jobs of ticks in one round: one transaction, which others wait for.
const TICKS_MAX: usize = 2_000;
/// A schedule whose job is refused, such as by a full queue, is tried again after this.
const REFUSED_WAIT: Duration = Duration::from_secs(5);

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
            Some(next) if next <= now => served.due(entry, &ticks, room, now),
            _ => (Vec::new(), served.clone()),
        };
        let after = match enqueue(rows, catalog, entry, &due, now) {
            Ok(()) => {
                room = room.saturating_sub(due.len());
                looked_at
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

/// Enqueues the jobs of ticks, all or none. One that is there already is the same job.
fn enqueue(
    rows: &mut dyn Rows,
    catalog: &Catalog,
    entry: &ScheduleEntry,
    due: &[Tick],
    now: Timestamp,
) -> Result<(), ServiceError> {
    let mut accepted = Vec::with_capacity(due.len());
    for tick in due {
        if !is_there(rows, tick.job)? {
            let request = EnqueueRequest { scheduled_at: Some(tick.due), ..request(entry, tick.job) };
            accepted.push(accept(request, catalog, now)?);
        }
    }
    write(rows, accepted, catalog, now)?;
    Ok(())
}

/// Returns the request for a job of a schedule.
pub(crate) fn request(entry: &ScheduleEntry, id: JobId) -> EnqueueRequest {
    let new = EnqueueRequest::new(entry.module.clone());
    let args = serde_json::value::to_raw_value(&entry.args).expect("a value is JSON");
    EnqueueRequest { id, args, queue: entry.queue.clone(), ..new }
}

/// Returns whether a job is there, whether it can be read or not.
fn is_there(rows: &mut dyn Rows, id: JobId) -> Result<bool, StoreError> {
    match rows.jobs(&[id]) {
        Ok(jobs) => Ok(jobs.into_iter().any(|job| job.is_some())),
        Err(StoreError::Unreadable(_)) => Ok(true),
        Err(error) => Err(error),
    }
}
