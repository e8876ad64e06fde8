//! Jobs that are to be the only ones of their keys.

use midge_core::Job;
use rusqlite::{OptionalExtension, params};

use super::batches::BatchChanges;
use super::columns::Columns;
use super::decode::to_json;
use super::lanes::LaneCounts;
use super::read::read_job;
use super::rows::SqliteRows;
use crate::StoreError;
use crate::rows::changed_at;

impl SqliteRows<'_> {
    /// Writes a new job where none holds its key; returns the one that does.
    pub(super) fn put_unique_job(&mut self, job: &Job) -> Result<Option<Job>, StoreError> {
        let (after, now) = (Columns::of(job), changed_at(job));
        let connection = self.connection;
        self.counts()?.follow(connection, now)?;
        let sql = "INSERT INTO holders VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        let mut hold = connection.prepare_cached(sql)?;
        while hold.execute(params![after.rare.unique_key, job.id.as_bytes()])? == 0 {
            let sql = "SELECT jobs.row, jobs.body FROM holders
                       CROSS JOIN jobs INDEXED BY jobs_by_id ON jobs.id = holders.id WHERE holders.unique_key = ?1";
            let mut statement = connection.prepare_cached(sql)?;
            let found = statement
                .query_row([after.rare.unique_key], |row| {
                    Ok((row.get(0)?, read_job(connection, row.get(0)?, row.get_ref(1)?)))
                })
                .optional()?;
            let Some((row, holder)) = found else {
                return Err(StoreError::Failed("a job that is not there holds a unique key".to_owned()));
            };
            match holder? {
                Ok(holder) => return Ok(Some(holder)),
                Err(unreadable) => self.discard(vec![(row, unreadable)], now)?,
            }
        }
        let Some(row) = self.insert(job.id, &after, &to_json(job))? else {
            return Err(StoreError::Failed(format!("a new job has the id {}, which another has", job.id)));
        };
        let (mut lanes, mut batches) = (LaneCounts::default(), BatchChanges::default());
        self.put_new(row, job, &after, &mut lanes, &mut batches)?;
        self.put_counted(lanes, now)?;
        self.put_changed_batches(batches)?;
        Ok(None)
    }
}
