//! Writes jobs: a new row, or over the one that is there.

use midge_core::Job;
use midge_protocol::JobId;
use rusqlite::{Row, ToSql, params};

use super::batches::BatchChanges;
use super::columns::{Columns, columns};
use super::decode::to_json;
use super::lanes::LaneCounts;
use super::rows::SqliteRows;
use crate::StoreError;
use crate::work::Access;

impl SqliteRows<'_> {
    /// Notes a job that was read by a statement of `jobs!`, since it is often written next: its columns are known then.
    /// One whose row says something else, or that an earlier release wrote, is looked for again.
    pub(super) fn note_read(&mut self, row: &Row<'_>, job: &Job) -> Result<(), StoreError> {
        let is_known = row.get::<_, i64>(2)? == job.phase() as i64
            && row.get::<_, i64>(3)? == job.due().as_millis()
            && job.failed.is_some() == job.failure.is_some();
        if self.access == Access::Write && is_known {
            self.read.insert(job.id, (row.get(0)?, Box::new(job.clone())));
        }
        Ok(())
    }

    pub(super) fn put_job(
        &mut self,
        job: &Job,
        lanes: &mut LaneCounts,
        batches: &mut BatchChanges,
    ) -> Result<(), StoreError> {
        let (after, body) = (Columns::of(job), to_json(job));
        if let Some((row, before)) = self.read.remove(&job.id) {
            return self.put_over(row, &Columns::of(&before), job, &after, &body, lanes, batches);
        }
        // Most jobs without an attempt are new, so the insert is tried first. One with attempts has a row, so the row
        // is looked for first.
        if job.attempt.0 > 0
            && let Some((row, before)) = self.find(job.id)?
        {
            return self.put_over(row, &before, job, &after, &body, lanes, batches);
        }
        let Some(row) = self.insert(job.id, &after, &body)? else {
            let gone = || StoreError::Failed(format!("the row of job {} was there, and is not", job.id));
            let (row, before) = self.find(job.id)?.ok_or_else(gone)?;
            return self.put_over(row, &before, job, &after, &body, lanes, batches);
        };
        self.put_holder(job.id, None, Some(&after))?;
        self.put_new(row, job, &after, lanes, batches)
    }

    /// Writes what belongs to a job whose row is new.
    pub(super) fn put_new(
        &mut self,
        row: i64,
        job: &Job,
        after: &Columns<'_>,
        lanes: &mut LaneCounts,
        batches: &mut BatchChanges,
    ) -> Result<(), StoreError> {
        self.put_entries(row, job.id, None, Some(after))?;
        self.note_ranked(after)?;
        self.count_in_lane(lanes, &after.queue, &after.rare.key, None, Some(after.in_lane()))?;
        self.counts()?.count(job.id, after.counted(), 1)?;
        self.count_in_batch(batches, after.batch(), None, Some(after.phase))?;
        self.follow_dependencies(None, job)
    }

    /// Writes over a job's row.
    #[expect(clippy::too_many_arguments, reason = "what is known of the job is computed once")]
    fn put_over(
        &mut self,
        row: i64,
        before: &Columns<'_>,
        job: &Job,
        after: &Columns<'_>,
        body: &str,
        lanes: &mut LaneCounts,
        batches: &mut BatchChanges,
    ) -> Result<(), StoreError> {
        self.update(row, before, after, body)?;
        self.put_holder(job.id, Some(before), Some(after))?;
        self.put_entries(row, job.id, Some(before), Some(after))?;
        self.note_ranked(after)?;
        let (queue, key) = (&after.queue, &after.rare.key);
        let same_lane = before.queue == *queue && before.rare.key == *key;
        if same_lane && before.counted() == after.counted() {
            return Ok(());
        }
        let (was, is) = (Some(before.in_lane()), Some(after.in_lane()));
        if same_lane {
            self.count_in_lane(lanes, queue, key, was, is)?;
        } else {
            self.count_in_lane(lanes, &before.queue, &before.rare.key, was, None)?;
            self.count_in_lane(lanes, queue, key, None, is)?;
        }
        let counts = self.counts()?;
        counts.count(job.id, after.counted(), 1)?;
        counts.count(job.id, before.counted(), -1)?;
        self.count_in_batch(batches, after.batch(), Some(before.phase), Some(after.phase))?;
        self.follow_dependencies(Some(before.phase), job)
    }

    fn note_ranked(&mut self, job: &Columns<'_>) -> Result<(), StoreError> {
        if job.rare.is_ranked() {
            self.counts()?.has_ranked = true;
        }
        Ok(())
    }

    /// Inserts a job where there is none with its id. Returns its row.
    pub(super) fn insert(
        &self,
        id: JobId,
        columns: &Columns<'_>,
        body: &str,
    ) -> Result<Option<i64>, StoreError> {
        let Columns { queue, module, phase, due, machine, ended_at, rare } = columns;
        let (phase, due) = (*phase as i64, due.as_millis());
        let inserted = if rare.is_empty() && machine.is_none() && ended_at.is_none() {
            let sql = "INSERT INTO jobs (id, queue, module, phase, due, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                       ON CONFLICT (id) DO NOTHING";
            let values = params![id.as_bytes(), queue, module, phase, due, body];
            self.connection.prepare_cached(sql)?.execute(values)?
        } else {
            let sql = "INSERT INTO jobs (id, queue, module, phase, due, machine, ended_at, body, expires_at, key, priority,
                           ranked, unique_key, tags, cause, fingerprint, failed_at, batch, parent)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)
                       ON CONFLICT (id) DO NOTHING";
            self.put_all(sql, id.as_bytes(), columns, body)?
        };
        Ok((inserted == 1).then(|| self.connection.last_insert_rowid()))
    }

    /// Finds the row of a job, and what stands in it beside the body.
    pub(super) fn find(&self, id: JobId) -> Result<Option<(i64, Columns<'static>)>, StoreError> {
        let sql = concat!("SELECT row, ", columns!(), " FROM jobs WHERE id = ?1");
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([id.as_bytes()])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        Ok(Some((row.get(0)?, Columns::read(row, 1)?)))
    }

    /// Writes over a job. SQLite renews each index that has a column that is named: so those that rarely change are named
    /// only where they have.
    fn update(
        &self,
        row: i64,
        before: &Columns<'_>,
        after: &Columns<'_>,
        body: &str,
    ) -> Result<(), StoreError> {
        if before == after {
            let sql = "UPDATE jobs SET body = ?2 WHERE row = ?1";
            self.connection.prepare_cached(sql)?.execute(params![row, body])?;
            return Ok(());
        }
        let Columns { queue, module, phase, due, machine, ended_at, rare } = after;
        let (phase, due) = (*phase as i64, due.as_millis());
        if before.queue == *queue && before.module == *module && before.rare == *rare {
            let sql =
                "UPDATE jobs SET phase = ?2, due = ?3, machine = ?4, ended_at = ?5, body = ?6 WHERE row = ?1";
            let values = params![row, phase, due, machine, ended_at, body];
            self.connection.prepare_cached(sql)?.execute(values)?;
            return Ok(());
        }
        let sql = "UPDATE jobs SET queue = ?2, module = ?3, phase = ?4, due = ?5, machine = ?6, ended_at = ?7, body = ?8,
                       expires_at = ?9, key = ?10, priority = ?11, ranked = ?12, unique_key = ?13, tags = ?14, cause = ?15,
                       fingerprint = ?16, failed_at = ?17, batch = ?18, parent = ?19
                   WHERE row = ?1";
        self.put_all(sql, row, after, body)?;
        Ok(())
    }

    /// Runs a statement with what names a job's row, and all that is to stand there. Returns how many rows it wrote.
    fn put_all(
        &self,
        sql: &str,
        named: impl ToSql,
        columns: &Columns<'_>,
        body: &str,
    ) -> Result<usize, StoreError> {
        let Columns { queue, module, phase, due, machine, ended_at, rare } = columns;
        Ok(self.connection.prepare_cached(sql)?.execute(params![
            named,
            queue,
            module,
            *phase as i64,
            due.as_millis(),
            machine,
            ended_at,
            body,
            rare.expires_at,
            rare.key,
            rare.priority,
            rare.is_ranked(),
            rare.unique_key,
            rare.tags,
            rare.cause,
            rare.fingerprint,
            rare.failed_at,
            rare.batch,
            rare.parent
        ])?)
    }

    /// Deletes a job's row and all that belongs to it. It is not counted any more.
    pub(super) fn delete_row(&mut self, row: i64, id: JobId, before: &Columns<'_>) -> Result<(), StoreError> {
        self.read.remove(&id);
        self.put_holder(id, Some(before), None)?;
        self.put_entries(row, id, Some(before), None)?;
        let connection = self.connection;
        connection.prepare_cached("DELETE FROM jobs WHERE row = ?1")?.execute([row])?;
        for sql in [
            "DELETE FROM contents WHERE job = ?1",
            "DELETE FROM logs WHERE job = ?1",
            "DELETE FROM attempts WHERE job = ?1",
        ] {
            connection.prepare_cached(sql)?.execute([id.as_bytes()])?;
        }
        Ok(())
    }
}
