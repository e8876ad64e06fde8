//! Reads a job from its body, and, where that cannot be read, what the columns beside it say.

use midge_core::UnreadableJob;
use midge_protocol::Timestamp;
use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::decode::{from_json, id, name, phase, text};
use crate::{ReadJob, StoreError};

/// Reads the job in a row, from its body.
pub(super) fn read_job(connection: &Connection, row: i64, body: ValueRef<'_>) -> Result<ReadJob, StoreError> {
    match from_json(body) {
        Ok(job) => Ok(Ok(job)),
        Err(why) => Ok(Err(unreadable(connection, row, why)?)),
    }
}

fn unreadable(connection: &Connection, row: i64, why: String) -> Result<UnreadableJob, StoreError> {
    let sql = "SELECT id, module, queue, phase, due, ended_at FROM jobs WHERE row = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([row])?;
    let gone = || StoreError::Failed(format!("row {row} of jobs was there, and is not"));
    let row = rows.next()?.ok_or_else(gone)?;
    Ok(UnreadableJob {
        id: id(row.get_ref(0)?)?,
        module: name(text(row.get_ref(1)?)?)?,
        queue: name(text(row.get_ref(2)?)?)?,
        phase: phase(row.get(3)?)?,
        due: Timestamp::from_millis(row.get(4)?),
        ended_at: row.get::<_, Option<i64>>(5)?.map(Timestamp::from_millis),
        why,
    })
}
