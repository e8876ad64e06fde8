//! A transaction on SQLite: jobs.

use std::collections::BTreeMap;

use midge_core::{InLane, Job, JobCounts, Phase, UnreadableJob, claim_order};
use midge_protocol::{BatchId, JobId, JobKey, MachineName, ModuleName, QueueName, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use super::batches::BatchChanges;
use super::counts::Counted;
use super::decode::{id, phase, text, to_json};
use super::lanes::LaneCounts;
use super::listing;
use super::read::read_job;
use super::rows::SqliteRows;
use crate::rows::changed_at;
use crate::work::Access;
use crate::{JobRows, JobSearch, ReadJob, StoreError};

impl JobRows for SqliteRows<'_> {
    fn jobs(&mut self, ids: &[JobId]) -> Result<Vec<Option<Job>>, StoreError> {
        let connection = self.connection;
        let mut statement = connection.prepare_cached("SELECT row, body FROM jobs WHERE id = ?1")?;
        let mut jobs = Vec::with_capacity(ids.len());
        for id in ids {
            let found = statement
                .query_row([id.as_bytes()], |row| Ok(read_job(connection, row.get(0)?, row.get_ref(1)?)))
                .optional()?;
            let job = found.transpose()?.transpose();
            jobs.push(job.map_err(|job| StoreError::Unreadable(Box::new(job)))?);
        }
        Ok(jobs)
    }

    fn jobs_due(
        &mut self,
        queue: &QueueName,
        key: Option<&JobKey>,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError> {
        let priorities = self.priorities(queue, key)?;
        if key.is_none() && priorities.is_empty() {
            return self.unranked_due(queue, now, limit);
        }
        let mut lines = Vec::new();
        for priority in priorities {
            lines.push(self.due_of_priority(queue, key, priority, now, limit)?);
        }
        if key.is_none() {
            lines.push(self.unranked_due(queue, now, limit)?);
        }
        let mut jobs: Vec<Job> = lines.into_iter().flatten().collect();
        jobs.sort_by_cached_key(claim_order);
        jobs.truncate(limit);
        Ok(jobs)
    }

    fn next_due_of_key(
        &mut self,
        queue: &QueueName,
        key: &JobKey,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let mut next: Option<Timestamp> = None;
        for priority in self.priorities(queue, Some(key))? {
            let sql = "SELECT min(due) FROM jobs INDEXED BY jobs_ranked
                       WHERE phase <= 1 AND ranked = 1 AND queue = ?1 AND key = ?2 AND priority = ?3 AND due > ?4";
            let due: Option<i64> = self
                .connection
                .prepare_cached(sql)?
                .query_row(params![queue.as_str(), key.as_str(), priority, now.as_millis()], |row| {
                    row.get(0)
                })?;
            next = [next, due.map(Timestamp::from_millis)].into_iter().flatten().min();
        }
        Ok(next)
    }

    fn jobs_leased(&mut self, machine: &MachineName) -> Result<Vec<Job>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT row, body FROM jobs INDEXED BY jobs_leased
             WHERE machine IS NOT NULL AND machine = ?1 ORDER BY id",
        )?;
        let rows = statement.query([machine.as_str()])?;
        let Collected { jobs, unreadable } = collect(self.connection, rows, usize::MAX)?;
        drop(statement);
        if !unreadable.is_empty() {
            let about_now = self.counts()?.horizon();
            self.discard(unreadable, about_now)?;
        }
        Ok(jobs)
    }

    fn jobs_listed(&mut self, search: &JobSearch, limit: usize) -> Result<Vec<ReadJob>, StoreError> {
        listing::list(self, search, limit)
    }

    fn put_jobs(&mut self, jobs: &[Job]) -> Result<(), StoreError> {
        let Some(now) = jobs.iter().map(changed_at).max() else { return self.access.to_write() };
        self.writing(|rows| {
            let connection = rows.connection;
            rows.counts()?.follow(connection, now)?;
            let (mut lanes, mut batches) = (LaneCounts::default(), BatchChanges::default());
            jobs.iter().try_for_each(|job| rows.put_job(job, &mut lanes, &mut batches))?;
            rows.put_changed_batches(batches)?;
            rows.put_counted(lanes, now)
        })
    }

    fn job_counts(&mut self, now: Timestamp) -> Result<BTreeMap<QueueName, JobCounts>, StoreError> {
        let connection = self.connection;
        self.counts()?.at(connection, now)
    }

    fn jobs_waiting(&mut self, queue: &QueueName) -> Result<u64, StoreError> {
        Ok(self.counts()?.waiting(queue))
    }

    fn jobs_running(&mut self, queue: &QueueName) -> Result<u64, StoreError> {
        Ok(self.counts()?.running(queue))
    }

    fn modules_held(&mut self) -> Result<BTreeMap<ModuleName, u64>, StoreError> {
        Ok(self.counts()?.held())
    }

    fn jobs_held(&mut self, module: &ModuleName, limit: usize) -> Result<Vec<Job>, StoreError> {
        let sql = "SELECT row, body FROM jobs INDEXED BY jobs_out_of_line
                   WHERE phase >= 6 AND phase = 6 AND module = ?1 ORDER BY queue, id";
        let about_now = self.counts()?.horizon();
        self.found(sql, params![module.as_str()], about_now, limit)
    }

    fn next_due(&mut self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let connection = self.connection;
        self.counts()?.next_due(connection, now)
    }

    fn jobs_expired(&mut self, now: Timestamp, limit: usize) -> Result<Vec<Job>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT row, body FROM jobs INDEXED BY jobs_expiring
             WHERE expires_at IS NOT NULL AND expires_at <= ?1 ORDER BY expires_at, id",
        )?;
        let rows = statement.query([now.as_millis()])?;
        let Collected { jobs, unreadable } = collect(self.connection, rows, limit)?;
        drop(statement);
        self.discard(unreadable, now)?;
        Ok(jobs)
    }

    fn next_expiry(&mut self) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT expires_at FROM jobs INDEXED BY jobs_expiring
                   WHERE expires_at IS NOT NULL ORDER BY expires_at, id LIMIT 1";
        let soonest = self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
        Ok(soonest.map(Timestamp::from_millis))
    }

    fn delete_job(&mut self, id: JobId) -> Result<bool, StoreError> {
        self.writing(|rows| {
            let Some(before) = rows.find(id)? else { return Ok(false) };
            rows.counts()?.count(before.counted(), -1)?;
            let mut lanes = LaneCounts::default();
            rows.count_in_lane(&mut lanes, &before.queue, &before.key, Some(before.in_lane()), None)?;
            let about_now = rows.counts()?.horizon();
            rows.put_counted(lanes, about_now)?;
            let mut batches = BatchChanges::default();
            rows.count_in_batch(&mut batches, before.batch, Some(before.phase), None)?;
            rows.put_changed_batches(batches)?;
            rows.delete_row(before.row, id)?;
            rows.was_deleted(before.phase, id)?;
            Ok(true)
        })
    }

    fn delete_ended(&mut self, phase: Phase, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.writing(|rows| rows.delete(phase, before, limit))
    }
}

impl SqliteRows<'_> {
    /// Finds jobs that have neither a key nor a priority.
    fn unranked_due(
        &mut self,
        queue: &QueueName,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError> {
        // ORDER BY is midge_core::claim_order, where all priorities are the same.
        let sql = "SELECT row, body FROM jobs INDEXED BY jobs_waiting
                   WHERE phase <= 1 AND queue = ?1 AND ranked = 0 AND due <= ?2 ORDER BY due, id";
        self.found(sql, params![queue.as_str(), now.as_millis()], now, limit)
    }

    /// Finds jobs of a key, or without one, of one priority.
    fn due_of_priority(
        &mut self,
        queue: &QueueName,
        key: Option<&JobKey>,
        priority: i64,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError> {
        let sql = "SELECT row, body FROM jobs INDEXED BY jobs_ranked
                   WHERE phase <= 1 AND ranked = 1 AND queue = ?1 AND key = ?2 AND priority = ?3 AND due <= ?4
                   ORDER BY due, id";
        let values = params![queue.as_str(), key.map_or("", JobKey::as_str), priority, now.as_millis()];
        self.found(sql, values, now, limit)
    }

    /// Reads jobs that were found. Those that cannot be read are discarded, in a transaction that writes.
    pub(super) fn found(
        &mut self,
        sql: &str,
        values: &[&dyn rusqlite::ToSql],
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Job>, StoreError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        // No LIMIT: rows that cannot be read leave room for those behind them. They are stepped through one by one.
        let rows = statement.query(values)?;
        let Collected { jobs, unreadable } = collect(self.connection, rows, limit)?;
        drop(statement);
        self.discard(unreadable, now)?;
        Ok(jobs)
    }

    /// Finds the priorities that waiting jobs of a key have, or those without one that have a priority: a few, each by a
    /// look at the index.
    fn priorities(&self, queue: &QueueName, key: Option<&JobKey>) -> Result<Vec<i64>, StoreError> {
        let sql = "SELECT min(priority) FROM jobs INDEXED BY jobs_ranked
                   WHERE phase <= 1 AND ranked = 1 AND queue = ?1 AND key = ?2 AND priority > ?3";
        let mut statement = self.connection.prepare_cached(sql)?;
        let (mut found, mut after) = (Vec::new(), i64::MIN);
        let key = key.map_or("", JobKey::as_str);
        while let Some(next) =
            statement.query_row(params![queue.as_str(), key, after], |row| row.get::<_, Option<i64>>(0))?
        {
            found.push(next);
            after = next;
        }
        Ok(found)
    }

    fn put_job(
        &mut self,
        job: &Job,
        lanes: &mut LaneCounts,
        batches: &mut BatchChanges,
    ) -> Result<(), StoreError> {
        let body = to_json(job);
        // Most jobs without an attempt are new, so the insert is tried first. One with attempts has a row, so the row
        // is looked for first.
        let before = if job.attempt.0 == 0 && self.insert(job, &body)? {
            None
        } else if let Some(before) = self.find(job.id)? {
            self.update(&before, job, &body)?;
            Some(before)
        } else {
            self.insert(job, &body)?;
            None
        };
        let after = counted(job);
        let same_lane =
            before.as_ref().is_none_or(|before| before.queue == after.queue && before.key == key(job));
        if before.as_ref().is_some_and(|before| same_lane && before.counted() == after) {
            return Ok(());
        }
        let (was, is) = (before.as_ref().map(Before::in_lane), Some(in_lane(after)));
        if same_lane {
            self.count_in_lane(lanes, after.queue, key(job), was, is)?;
        } else if let Some(before) = &before {
            self.count_in_lane(lanes, &before.queue, &before.key, was, None)?;
            self.count_in_lane(lanes, after.queue, key(job), None, is)?;
        }
        let counts = self.counts()?;
        counts.count(after, 1)?;
        if let Some(before) = &before {
            counts.count(before.counted(), -1)?;
        }
        let before = before.map(|before| before.phase);
        self.count_in_batch(batches, job.links.batch, before, Some(after.phase))?;
        self.follow_dependencies(before, job)
    }

    /// Inserts a job where there is none with its id. Returns whether it did.
    fn insert(&self, job: &Job, body: &str) -> Result<bool, StoreError> {
        let sql =
            "INSERT INTO jobs (id, queue, module, phase, due, machine, ended_at, expires_at, key, priority,
                       ranked, batch, body)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) ON CONFLICT (id) DO NOTHING";
        let inserted = self.connection.prepare_cached(sql)?.execute(params![
            job.id.as_bytes(),
            job.queue.as_str(),
            job.module.as_str(),
            job.phase() as i64,
            job.due().as_millis(),
            machine(job),
            ended_at(job),
            expires_at(job),
            key(job),
            job.priority,
            is_ranked(job),
            job.links.batch.as_ref().map(BatchId::as_bytes),
            body
        ])?;
        Ok(inserted == 1)
    }

    fn find(&self, id: JobId) -> Result<Option<Before>, StoreError> {
        let sql =
            "SELECT row, queue, module, phase, due, machine, ended_at, expires_at, key, priority, batch FROM jobs
             WHERE id = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([id.as_bytes()])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        Ok(Some(Before {
            row: row.get(0)?,
            queue: row.get(1)?,
            module: row.get(2)?,
            phase: phase(row.get(3)?)?,
            due: Timestamp::from_millis(row.get(4)?),
            machine: row.get(5)?,
            ended_at: row.get(6)?,
            expires_at: row.get(7)?,
            key: row.get(8)?,
            priority: row.get(9)?,
            batch: batch(row.get(10)?),
        }))
    }

    /// Writes over a job. Columns that did not change are not named: SQLite renews each index that has a named column.
    fn update(&self, before: &Before, job: &Job, body: &str) -> Result<(), StoreError> {
        let after = counted(job);
        let same_names = before.queue == after.queue && before.module == after.module;
        let same_rank = before.key == key(job) && before.priority == job.priority;
        let same_lease = before.machine.as_deref() == machine(job);
        let same_end = before.ended_at == ended_at(job);
        if before.expires_at != expires_at(job) {
            let sql = "UPDATE jobs SET expires_at = ?2 WHERE row = ?1";
            self.connection.prepare_cached(sql)?.execute(params![before.row, expires_at(job)])?;
        }
        if before.counted() == after && same_lease && same_end && same_rank {
            let sql = "UPDATE jobs SET body = ?2 WHERE row = ?1";
            self.connection.prepare_cached(sql)?.execute(params![before.row, body])?;
            return Ok(());
        }
        let sql =
            "UPDATE jobs SET phase = ?2, due = ?3, machine = ?4, ended_at = ?5, body = ?6 WHERE row = ?1";
        self.connection.prepare_cached(sql)?.execute(params![
            before.row,
            job.phase() as i64,
            job.due().as_millis(),
            machine(job),
            ended_at(job),
            body
        ])?;
        if !same_names {
            let sql = "UPDATE jobs SET queue = ?2, module = ?3 WHERE row = ?1";
            self.connection.prepare_cached(sql)?.execute(params![before.row, after.queue, after.module])?;
        }
        if !same_rank {
            let sql = "UPDATE jobs SET key = ?2, priority = ?3, ranked = ?4 WHERE row = ?1";
            let values = params![before.row, key(job), job.priority, is_ranked(job)];
            self.connection.prepare_cached(sql)?.execute(values)?;
        }
        Ok(())
    }

    fn delete(&mut self, phase: Phase, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let connection = self.connection;
        let mut statement = connection.prepare_cached(
            "SELECT row, id, queue, module, due FROM jobs INDEXED BY jobs_ended
             WHERE ended_at IS NOT NULL AND phase = ?1 AND ended_at < ?2 ORDER BY ended_at LIMIT ?3",
        )?;
        let mut found: Vec<(i64, JobId)> = Vec::new();
        let mut rows = statement.query(params![phase as i64, before.as_millis(), limit as i64])?;
        while let Some(row) = rows.next()? {
            let (queue, module) = (text(row.get_ref(2)?)?, text(row.get_ref(3)?)?);
            let due = Timestamp::from_millis(row.get(4)?);
            self.counts()?.count(Counted { queue, module, phase, due }, -1)?;
            found.push((row.get(0)?, id(row.get_ref(1)?)?));
        }
        for (row, id) in &found {
            self.delete_row(*row, *id)?;
            self.was_deleted(phase, *id)?;
        }
        Ok(found.len())
    }

    /// Deletes a job's row and all that belongs to it. It is not counted any more.
    fn delete_row(&self, row: i64, id: JobId) -> Result<(), StoreError> {
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

    /// Discards jobs that cannot be read: their columns change, and what is in their rows is left as it is. A
    /// transaction that only reads leaves them alone.
    pub(super) fn discard(
        &mut self,
        unreadable: Vec<(i64, UnreadableJob)>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if unreadable.is_empty() || self.access == Access::Read {
            return Ok(());
        }
        self.writing(|rows| {
            let (mut lanes, mut batches) = (LaneCounts::default(), BatchChanges::default());
            for (row, before) in unreadable {
                let after = before.clone().discarded(now);
                let why = &after.why;
                tracing::error!(job.id = %after.id, why, "the row of a job cannot be read: the job is discarded; `midge jobs delete` deletes it");
                let sql = "UPDATE jobs SET phase = ?2, ended_at = ?3, machine = NULL, expires_at = NULL WHERE row = ?1";
                let ended_at = after.ended_at.map(Timestamp::as_millis);
                rows.connection.prepare_cached(sql)?.execute(params![row, after.phase as i64, ended_at])?;
                rows.counts()?.count(counted_unreadable(&before), -1)?;
                rows.counts()?.count(counted_unreadable(&after), 1)?;
                let sql = "SELECT key, batch FROM jobs WHERE row = ?1";
                let (key, of): (String, _) = rows
                    .connection
                    .prepare_cached(sql)?
                    .query_row([row], |row| Ok((row.get(0)?, row.get(1)?)))?;
                rows.count_in_batch(&mut batches, batch(of), Some(before.phase), Some(after.phase))?;
                let (was, is) = (in_lane(counted_unreadable(&before)), in_lane(counted_unreadable(&after)));
                rows.count_in_lane(&mut lanes, after.queue.as_str(), &key, Some(was), Some(is))?;
                rows.is_unreadable(before.phase, after.id)?;
            }
            rows.put_changed_batches(batches)?;
            rows.put_counted(lanes, now)
        })
    }
}

/// Jobs that were found, and those that cannot be read, with their rows.
#[derive(Default)]
struct Collected {
    jobs: Vec<Job>,
    unreadable: Vec<(i64, UnreadableJob)>,
}

/// Reads at most `limit` jobs that can be read, and those between them that cannot.
fn collect(
    connection: &Connection,
    mut rows: rusqlite::Rows<'_>,
    limit: usize,
) -> Result<Collected, StoreError> {
    let mut found = Collected::default();
    while found.jobs.len() < limit
        && let Some(row) = rows.next()?
    {
        let number = row.get(0)?;
        match read_job(connection, number, row.get_ref(1)?)? {
            Ok(job) => found.jobs.push(job),
            Err(job) => found.unreadable.push((number, job)),
        }
    }
    Ok(found)
}

/// The columns of a job that is there already.
struct Before {
    row: i64,
    queue: String,
    module: String,
    phase: Phase,
    due: Timestamp,
    machine: Option<String>,
    ended_at: Option<i64>,
    expires_at: Option<i64>,
    key: String,
    priority: i8,
    batch: Option<BatchId>,
}

fn batch(bytes: Option<[u8; 16]>) -> Option<BatchId> {
    bytes.map(BatchId::from_bytes)
}

impl Before {
    fn counted(&self) -> Counted<'_> {
        Counted { queue: &self.queue, module: &self.module, phase: self.phase, due: self.due }
    }

    fn in_lane(&self) -> InLane {
        in_lane(self.counted())
    }
}

fn in_lane(job: Counted<'_>) -> InLane {
    InLane { phase: job.phase, due: job.due }
}

/// Returns the key as its column has it: empty where there is none.
fn key(job: &Job) -> &str {
    job.key.as_ref().map_or("", JobKey::as_str)
}

fn is_ranked(job: &Job) -> bool {
    job.key.is_some() || job.priority != 0
}

fn counted(job: &Job) -> Counted<'_> {
    Counted { queue: job.queue.as_str(), module: job.module.as_str(), phase: job.phase(), due: job.due() }
}

fn counted_unreadable(job: &UnreadableJob) -> Counted<'_> {
    Counted { queue: job.queue.as_str(), module: job.module.as_str(), phase: job.phase, due: job.due }
}

fn machine(job: &Job) -> Option<&str> {
    job.lease().map(|lease| lease.machine.as_str())
}

fn ended_at(job: &Job) -> Option<i64> {
    job.ended_at().map(Timestamp::as_millis)
}

fn expires_at(job: &Job) -> Option<i64> {
    job.expiry().map(Timestamp::as_millis)
}
