//! Puts the lanes of queues anew where their limits, or the clock, are not those that they were written by.

use midge_core::{Lane, QueueRow, Unsettled};
use midge_protocol::manifest::QueuePolicy;
use midge_protocol::{QueueName, Timestamp};
use midge_store::{Rows, StoreError};

use super::schedules::look_again;

/// Lanes that are put anew in one transaction: others wait for it.
pub(super) const LANES_MAX: usize = 500;

/// Puts lanes of a queue anew, at most `room` of them, and takes those from `room`. Returns the row of the queue then.
pub(super) fn settle(
    rows: &mut dyn Rows,
    queue: &QueueName,
    policy: &QueuePolicy,
    room: &mut usize,
    now: Timestamp,
) -> Result<QueueRow, StoreError> {
    let row = rows.queue(queue)?;
    let after = match row.unsettled(policy) {
        Unsettled::None => return Ok(row),
        // Another queue had them all.
        _ if *room == 0 => return Ok(row),
        Unsettled::All => None,
        Unsettled::After(key) => Some(key),
    };
    let lanes = rows.lanes_after(queue, after.as_ref(), *room)?;
    let left = match lanes.last() {
        Some(last) if lanes.len() == *room => Unsettled::After(last.key.clone()),
        _ => Unsettled::None,
    };
    *room -= lanes.len();
    let mut settled = Vec::new();
    for lane in lanes {
        let first_due = if lane.is_put_off(now) { first_due(rows, &lane, now)? } else { None };
        let after = lane.clone().settle(policy, first_due, now);
        if after != lane {
            settled.push(after);
        }
    }
    rows.put_lanes(&settled, now)?;
    let row = row.settle(policy, left, now);
    rows.put_queue(queue, &row)?;
    Ok(row)
}

fn first_due(rows: &mut dyn Rows, lane: &Lane, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
    match rows.jobs_due(&lane.queue, Some(&lane.key), now, 1)?.first() {
        Some(_) => Ok(Some(now)),
        None => rows.first_due(&lane.queue, Some(&lane.key), Some(now)),
    }
}

/// Notes that the lanes of all queues are to be put anew, and schedules to be looked at, since the clock may have been put
/// back.
pub(super) fn unsettle(rows: &mut dyn Rows, now: Timestamp) -> Result<(), StoreError> {
    look_again(rows)?;
    let mut queues = rows.queues()?;
    for queue in rows.job_counts(now)?.into_keys() {
        if !queues.contains_key(&queue) && !rows.lanes_after(&queue, None, 1)?.is_empty() {
            queues.insert(queue, QueueRow::default());
        }
    }
    queues.into_iter().try_for_each(|(queue, row)| rows.put_queue(&queue, &row.unsettle()))
}
