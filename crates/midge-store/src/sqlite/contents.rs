//! A transaction on SQLite: the bytes that belong to jobs, and the attempts that ended.

use bytes::Bytes;
use midge_protocol::job::AttemptView;
use midge_protocol::{AttemptNumber, AttemptRange, JobId};
use rusqlite::{OptionalExtension, params};

use super::decode::{from_json, to_json};
use super::rows::SqliteRows;
use crate::{Content, ContentRows, StoreError};

impl ContentRows for SqliteRows<'_> {
    fn content(&mut self, job: JobId, content: Content) -> Result<Option<Bytes>, StoreError> {
        let sql = "SELECT bytes FROM contents WHERE job = ?1 AND content = ?2";
        let bytes: Option<Vec<u8>> = self
            .connection
            .prepare_cached(sql)?
            .query_row(params![job.as_bytes(), content as u8], |row| row.get(0))
            .optional()?;
        Ok(bytes.map(Bytes::from))
    }

    fn put_content(&mut self, job: JobId, content: Content, bytes: &[u8]) -> Result<(), StoreError> {
        self.writing(|rows| {
            let sql = "INSERT OR REPLACE INTO contents VALUES (?1, ?2, ?3)";
            rows.connection.prepare_cached(sql)?.execute(params![job.as_bytes(), content as u8, bytes])?;
            Ok(())
        })
    }

    fn append_log(
        &mut self,
        job: JobId,
        attempt: AttemptNumber,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        self.writing(|rows| {
            let sql = "SELECT offset + length(bytes) FROM logs WHERE job = ?1 AND attempt = ?2
                       ORDER BY offset DESC LIMIT 1";
            let end: Option<i64> = rows
                .connection
                .prepare_cached(sql)?
                .query_row(params![job.as_bytes(), attempt.0], |row| row.get(0))
                .optional()?;
            let end = end.unwrap_or(0);
            let Some(new) = crate::rows::beyond(end as u64, offset, bytes) else { return Ok(()) };
            let sql = "INSERT INTO logs VALUES (?1, ?2, ?3, ?4)";
            rows.connection.prepare_cached(sql)?.execute(params![job.as_bytes(), attempt.0, end, new])?;
            Ok(())
        })
    }

    fn log(&mut self, job: JobId, attempt: AttemptNumber) -> Result<Bytes, StoreError> {
        let sql = "SELECT bytes FROM logs WHERE job = ?1 AND attempt = ?2 ORDER BY offset";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut log = Vec::new();
        let mut rows = statement.query(params![job.as_bytes(), attempt.0])?;
        while let Some(row) = rows.next()? {
            log.append(&mut row.get::<_, Vec<u8>>(0)?);
        }
        Ok(log.into())
    }

    fn log_from(
        &mut self,
        job: JobId,
        attempt: AttemptNumber,
        offset: u64,
        bytes_max: usize,
    ) -> Result<Bytes, StoreError> {
        let Ok(from) = i64::try_from(offset) else { return Ok(Bytes::new()) };
        // The first of its pieces is the last that begins at the byte or before it.
        let sql = "SELECT offset, bytes FROM logs WHERE job = ?1 AND attempt = ?2 AND offset >= coalesce(
                       (SELECT max(offset) FROM logs WHERE job = ?1 AND attempt = ?2 AND offset <= ?3), 0)
                   ORDER BY offset";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut log = Vec::new();
        let mut rows = statement.query(params![job.as_bytes(), attempt.0, from])?;
        while log.len() < bytes_max
            && let Some(row) = rows.next()?
        {
            let (begins, bytes): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
            let known = usize::try_from(from.saturating_sub(begins)).unwrap_or(0);
            log.extend_from_slice(bytes.get(known..).unwrap_or_default());
        }
        log.truncate(bytes_max);
        Ok(log.into())
    }

    fn put_attempt(&mut self, job: JobId, attempt: &AttemptView) -> Result<(), StoreError> {
        self.writing(|rows| {
            let sql = "INSERT OR REPLACE INTO attempts VALUES (?1, ?2, ?3)";
            let body = to_json(attempt);
            rows.connection.prepare_cached(sql)?.execute(params![job.as_bytes(), attempt.attempt.0, body])?;
            Ok(())
        })
    }

    fn delete_attempts(&mut self, job: JobId, range: AttemptRange) -> Result<(), StoreError> {
        self.writing(|rows| {
            for table in ["attempts", "logs"] {
                let sql = format!("DELETE FROM {table} WHERE job = ?1 AND attempt BETWEEN ?2 AND ?3");
                let range = params![job.as_bytes(), range.first.0, range.last.0];
                rows.connection.prepare_cached(&sql)?.execute(range)?;
            }
            Ok(())
        })
    }

    fn attempts(&mut self, job: JobId) -> Result<Vec<Result<AttemptView, AttemptNumber>>, StoreError> {
        let sql = "SELECT attempt, body FROM attempts WHERE job = ?1 ORDER BY attempt";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut attempts = Vec::new();
        let mut rows = statement.query([job.as_bytes()])?;
        while let Some(row) = rows.next()? {
            let number = AttemptNumber(row.get(0)?);
            attempts.push(from_json(row.get_ref(1)?).map_err(|_| number));
        }
        Ok(attempts)
    }
}
