//! Ended jobs of a queue, the first that ended first, and how they are deleted.

use midge_core::Phase;
use midge_protocol::{JobId, QueueName, Timestamp};
use rusqlite::{OptionalExtension, params};

use super::columns::{Columns, columns};
use super::decode::id;
use super::rows::SqliteRows;
use crate::StoreError;
use crate::rows::DELETED_BYTES_GOAL;

impl SqliteRows<'_> {
    pub(super) fn first_to_end(
        &self,
        queue: &QueueName,
        phase: Phase,
    ) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT ended_at FROM jobs INDEXED BY jobs_ended
                   WHERE ended_at IS NOT NULL AND queue = ?1 AND phase = ?2 ORDER BY ended_at LIMIT 1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let first =
            statement.query_row(params![queue.as_str(), phase as i64], |row| row.get(0)).optional()?;
        Ok(first.map(Timestamp::from_millis))
    }

    pub(super) fn delete_those_that_ended(
        &mut self,
        queue: &QueueName,
        phase: Phase,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let connection = self.connection;
        let mut statement = connection.prepare_cached(concat!(
            "SELECT row, id, ",
            columns!(),
            " FROM jobs INDEXED BY jobs_ended
             WHERE ended_at IS NOT NULL AND queue = ?1 AND phase = ?2 AND ended_at < ?3 ORDER BY ended_at LIMIT ?4",
        ))?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let (mut found, mut bytes) = (Vec::new(), 0);
        let mut rows = statement.query(params![queue.as_str(), phase as i64, before.as_millis(), limit])?;
        while bytes < DELETED_BYTES_GOAL
            && let Some(row) = rows.next()?
        {
            let (number, job, columns) = (row.get(0)?, id(row.get_ref(1)?)?, Columns::read(row, 2)?);
            self.counts()?.count(job, columns.counted(), -1)?;
            bytes += self.bytes_of(job)?;
            found.push((number, job, columns));
        }
        drop(rows);
        for (row, id, columns) in &found {
            self.delete_row(*row, *id, columns)?;
            self.was_deleted(phase, *id)?;
        }
        Ok(found.len())
    }

    /// Returns how many bytes belong to a job, logs included. Only their lengths are read.
    fn bytes_of(&self, job: JobId) -> Result<u64, StoreError> {
        let mut all = 0;
        for sql in [
            "SELECT coalesce(sum(length(bytes)), 0) FROM contents WHERE job = ?1",
            "SELECT coalesce(sum(length(bytes)), 0) FROM logs WHERE job = ?1",
        ] {
            let mut statement = self.connection.prepare_cached(sql)?;
            all += statement.query_row([job.as_bytes()], |row| row.get::<_, i64>(0))?;
        }
        Ok(u64::try_from(all).unwrap_or(0))
    }
}
