//! How many jobs of a queue its keys leave room for.

use midge_core::{LINE_HEAD, Turn};
use midge_protocol::manifest::QueuePolicy;
use midge_protocol::{QueueName, Timestamp};
use midge_store::{LanesCome, Rows, StoreError};

/// Keys that are looked at. Of more there is room for more jobs than Machines are made for at once.
const LANES_MAX: usize = 256;

/// Returns how many jobs of a queue its keys leave room for (of more than a few, that there are very many), and the next turn
/// of a key.
pub(crate) fn keys_room(
    rows: &mut dyn Rows,
    queue: &QueueName,
    policy: &QueuePolicy,
    now: Timestamp,
) -> Result<(u64, Option<Turn>), StoreError> {
    let LanesCome { lanes, next, .. } = rows.lanes_come(queue, now, LANES_MAX)?;
    let keyless = rows.jobs_due(queue, None, now, LINE_HEAD)?.len();
    if lanes.len() == LANES_MAX || keyless == LINE_HEAD {
        return Ok((u64::MAX, next));
    }
    let room = lanes.iter().map(|lane| lane.room(policy, now).min(lane.waiting));
    Ok((room.fold(keyless as u64, u64::saturating_add), next))
}
