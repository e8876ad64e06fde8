//! Jobs that are to be the only ones of their keys.

use midge_core::Job;
use rusqlite::OptionalExtension;

use super::batches::BatchChanges;
use super::decode::to_json;
use super::jobs::{INSERT_UNIQUE, counted, in_lane, key, unique_key};
use super::labels::Labelled;
use super::lanes::LaneCounts;
use super::read::read_job;
use super::rows::SqliteRows;
use crate::StoreError;
use crate::rows::changed_at;

impl SqliteRows<'_> {
    /// Writes a new job where none holds its key; returns the one that does.
    pub(super) fn put_unique_job(&mut self, job: &Job) -> Result<Option<Job>, StoreError> {
        let (body, labelled) = (to_json(job), Labelled::of(job));
        let now = changed_at(job);
        let connection = self.connection;
        self.counts()?.follow(connection, now)?;
        while !self.insert_by(INSERT_UNIQUE, job, &labelled, &body)? {
            let sql = "SELECT row, body FROM jobs WHERE unique_key = ?1";
            let mut statement = connection.prepare_cached(sql)?;
            let found = statement
                .query_row([unique_key(job)], |row| {
                    Ok((row.get(0)?, read_job(connection, row.get(0)?, row.get_ref(1)?)))
                })
                .optional()?;
            let Some((row, holder)) = found else {
                return Err(StoreError::Failed(format!(
                    "a new job has the id {}, which another has",
                    job.id
                )));
            };
            match holder? {
                Ok(holder) => return Ok(Some(holder)),
                Err(unreadable) => self.discard(vec![(row, unreadable)], now)?,
            }
        }
        self.put_tags(job.id, None, labelled.tags.as_deref())?;
        let after = counted(job);
        self.counts()?.count(after, 1)?;
        let mut lanes = LaneCounts::default();
        self.count_in_lane(&mut lanes, after.queue, key(job), None, Some(in_lane(after)))?;
        self.put_counted(lanes, now)?;
        let mut batches = BatchChanges::default();
        self.count_in_batch(&mut batches, job.links.batch, None, Some(after.phase))?;
        self.put_changed_batches(batches)?;
        self.follow_dependencies(None, job)?;
        Ok(None)
    }
}
