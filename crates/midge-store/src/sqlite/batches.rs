//! A transaction on SQLite: batches.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use midge_core::{Batch, Job, Phase};
use midge_protocol::{BatchId, JobId, Timestamp};
use rusqlite::types::ValueRef;
use rusqlite::{OptionalExtension, params};

use super::decode::{from_json, to_json};
use super::jobs::jobs;
use super::rows::SqliteRows;
use crate::{BatchRows, StoreError};

impl BatchRows for SqliteRows<'_> {
    fn batch(&mut self, id: BatchId) -> Result<Option<Batch>, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT body FROM batches WHERE id = ?1")?;
        let found = statement.query_row([id.as_bytes()], |row| Ok(read(row.get_ref(0)?))).optional()?;
        Ok(found.flatten())
    }

    fn batches_listed(&mut self, before: Option<BatchId>, limit: usize) -> Result<Vec<Batch>, StoreError> {
        let sql = "SELECT body FROM batches WHERE ?1 IS NULL OR id < ?1 ORDER BY id DESC LIMIT ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![before.as_ref().map(BatchId::as_bytes), limit as i64])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.extend(read(row.get_ref(0)?));
        }
        Ok(found)
    }

    fn put_batch(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.writing(|rows| {
            let counts = rows.batch(batch.id)?.map_or(batch.counts, |there| there.counts);
            rows.write_batch(&Batch { counts, ..batch.clone() })
        })
    }

    fn last_batch_number(&mut self) -> Result<u64, StoreError> {
        let sql = "SELECT max(number) FROM batches";
        let last: Option<i64> = self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        Ok(last.unwrap_or(0) as u64)
    }

    fn batches_unended(&mut self) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM batches INDEXED BY batches_unended WHERE ended_at IS NULL";
        let batches: i64 = self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        Ok(batches as u64)
    }

    fn batch_to_act(&mut self) -> Result<Option<Batch>, StoreError> {
        let sql = "SELECT body FROM batches INDEXED BY batches_to_act WHERE acts = 1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        // Those that cannot be read are passed.
        while let Some(row) = rows.next()? {
            if let Some(batch) = read(row.get_ref(0)?) {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    fn jobs_of_batch(
        &mut self,
        id: BatchId,
        after: Option<JobId>,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError> {
        let sql = jobs!(
            "members CROSS JOIN jobs ON jobs.row = members.row
             WHERE members.batch = ?1 AND members.id > ?2 ORDER BY members.id"
        );
        let after = after.as_ref().map_or(&[][..], |id| id.as_bytes());
        let about_now = self.counts()?.horizon();
        self.found(sql, params![id.as_bytes(), after], about_now, limit)
    }

    fn delete_batches(&mut self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.writing(|rows| {
            let sql = "DELETE FROM batches WHERE id IN (
                           SELECT id FROM batches INDEXED BY batches_ended
                           WHERE ended_at IS NOT NULL AND ended_at < ?1 AND NOT EXISTS (
                               SELECT 1 FROM members WHERE members.batch = batches.id)
                           LIMIT ?2)";
            let values = params![before.as_millis(), limit as i64];
            Ok(rows.connection.prepare_cached(sql)?.execute(values)?)
        })
    }
}

/// What became of the jobs of batches, counted before it is written: a bulk of one batch writes its row once.
#[derive(Default)]
pub(super) struct BatchChanges(BTreeMap<BatchId, Option<Batch>>);

impl SqliteRows<'_> {
    /// Counts what became of a job in its batch, if it has one.
    pub(super) fn count_in_batch(
        &mut self,
        changes: &mut BatchChanges,
        batch: Option<BatchId>,
        before: Option<Phase>,
        after: Option<Phase>,
    ) -> Result<(), StoreError> {
        let Some(id) = batch.filter(|_| before != after) else { return Ok(()) };
        let counted = match changes.0.entry(id) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(new) => new.insert(self.batch(id)?),
        };
        if let Some(batch) = counted {
            batch.count(before, after);
        }
        Ok(())
    }

    /// Writes the batches that were counted.
    pub(super) fn put_changed_batches(&mut self, changes: BatchChanges) -> Result<(), StoreError> {
        changes.0.into_values().flatten().try_for_each(|batch| self.write_batch(&batch))
    }

    fn write_batch(&self, batch: &Batch) -> Result<(), StoreError> {
        let sql = "INSERT INTO batches (id, number, acts, ended_at, body) VALUES (?1, ?2, ?3, ?4, ?5)
                   ON CONFLICT (id) DO UPDATE SET acts = ?3, ended_at = ?4, body = ?5";
        self.connection.prepare_cached(sql)?.execute(params![
            batch.id.as_bytes(),
            batch.number as i64,
            batch.has_to_act(),
            batch.ended_at.map(Timestamp::as_millis),
            to_json(batch)
        ])?;
        Ok(())
    }
}

/// Reads a batch from its body. One that cannot be read is as if it were not there: its jobs go on.
fn read(body: ValueRef<'_>) -> Option<Batch> {
    from_json(body).inspect_err(|why| tracing::error!(why, "the row of a batch cannot be read")).ok()
}
