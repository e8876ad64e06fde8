//! A transaction on SQLite: jobs.

use std::collections::BTreeMap;

use midge_core::{Job, JobCounts, Phase, UnreadableJob, claim_order};
use midge_protocol::api::JobCount;
use midge_protocol::{JobId, JobKey, MachineName, ModuleName, QueueName, Timestamp};
use rusqlite::{OptionalExtension, params};

use super::batches::BatchChanges;
use super::lanes::LaneCounts;
use super::read::read_job;
use super::rows::SqliteRows;
use super::search;
use crate::rows::changed_at;
use crate::work::Access;
use crate::{FoundJobs, JobRows, JobSearch, StoreError};

/// What is read of a job that may be written: [`SqliteRows::note_read`] notes it.
macro_rules! jobs {
    ($rest:literal) => {
        concat!("SELECT jobs.row, jobs.body, jobs.phase, jobs.due FROM ", $rest)
    };
}
pub(super) use jobs;

impl JobRows for SqliteRows<'_> {
    fn jobs(&mut self, ids: &[JobId]) -> Result<Vec<Option<Job>>, StoreError> {
        let connection = self.connection;
        let mut statement = connection.prepare_cached(jobs!("jobs WHERE id = ?1"))?;
        let mut jobs = Vec::with_capacity(ids.len());
        for id in ids {
            let mut rows = statement.query([id.as_bytes()])?;
            let job = match rows.next()? {
                Some(row) => match read_job(connection, row.get(0)?, row.get_ref(1)?)? {
                    Ok(job) => {
                        self.note_read(row, &job)?;
                        Some(job)
                    }
                    Err(job) => return Err(StoreError::Unreadable(Box::new(job))),
                },
                None => None,
            };
            jobs.push(job);
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

    fn first_due(
        &mut self,
        queue: &QueueName,
        key: Option<&JobKey>,
        after: Option<Timestamp>,
    ) -> Result<Option<Timestamp>, StoreError> {
        let in_ranked =
            "SELECT min(due) FROM ranked WHERE queue = ?1 AND key = ?2 AND priority = ?3 AND due > ?4";
        let unranked = "SELECT min(due) FROM jobs INDEXED BY jobs_waiting
                        WHERE phase <= 1 AND queue = ?1 AND ranked = 0 AND due > ?2";
        let (name, later) = (queue.as_str(), after.map_or(i64::MIN, Timestamp::as_millis));
        let key_text = key.map_or("", JobKey::as_str);
        let mut first: Option<i64> = None;
        for priority in self.priorities(queue, key)? {
            let values = params![name, key_text, priority, later];
            let due = self.connection.prepare_cached(in_ranked)?.query_row(values, |row| row.get(0))?;
            first = [first, due].into_iter().flatten().min();
        }
        if key.is_none() {
            let values = params![name, later];
            let due = self.connection.prepare_cached(unranked)?.query_row(values, |row| row.get(0))?;
            first = [first, due].into_iter().flatten().min();
        }
        Ok(first.map(Timestamp::from_millis))
    }

    fn jobs_leased(&mut self, machine: &MachineName) -> Result<Vec<Job>, StoreError> {
        let sql = jobs!("jobs INDEXED BY jobs_leased WHERE machine IS NOT NULL AND machine = ?1 ORDER BY id");
        let about_now = self.counts()?.horizon();
        self.found(sql, params![machine.as_str()], about_now, usize::MAX)
    }

    fn jobs_found(&mut self, search: &JobSearch, limit: usize) -> Result<FoundJobs, StoreError> {
        search::find(self, search, limit)
    }

    fn jobs_counted(&mut self, search: &JobSearch, now: Timestamp) -> Result<JobCount, StoreError> {
        search::count(self, search, now)
    }

    fn put_jobs(&mut self, jobs: &[Job]) -> Result<(), StoreError> {
        let Some(now) = jobs.iter().map(changed_at).max() else { return self.access.to_write() };
        self.writing(|rows| {
            let connection = rows.connection;
            rows.counts()?.follow(connection, now)?;
            let (mut lanes, mut batches) = (LaneCounts::default(), BatchChanges::default());
            jobs.iter().try_for_each(|job| rows.put_job(job, &mut lanes, &mut batches))?;
            rows.put_changed_batches(batches)?;
            // A lane whose rate has not come back yet is kept rather longer than not as long.
            let first = jobs.iter().map(changed_at).min().unwrap_or(now);
            rows.put_counted(lanes, first)
        })
    }

    fn put_unique(&mut self, job: &Job) -> Result<Option<Job>, StoreError> {
        self.writing(|rows| rows.put_unique_job(job))
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
        let sql = jobs!(
            "jobs INDEXED BY jobs_listed
             WHERE phase >= 3 AND phase = 6 AND queue = ?1 AND module = ?2 ORDER BY id"
        );
        let about_now = self.counts()?.horizon();
        let mut held = Vec::new();
        for queue in self.counts()?.queues_with_held(module) {
            let left = limit - held.len();
            held.extend(self.found(sql, params![queue.as_str(), module.as_str()], about_now, left)?);
        }
        Ok(held)
    }

    fn next_due(&mut self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let connection = self.connection;
        self.counts()?.next_due(connection, now)
    }

    fn jobs_expired(&mut self, now: Timestamp, limit: usize) -> Result<Vec<Job>, StoreError> {
        let sql = jobs!(
            "expiring CROSS JOIN jobs ON jobs.row = expiring.row
             WHERE expiring.expires_at <= ?1 ORDER BY expiring.expires_at, expiring.id"
        );
        self.found(sql, params![now.as_millis()], now, limit)
    }

    fn next_expiry(&mut self) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT expires_at FROM expiring ORDER BY expires_at, id LIMIT 1";
        let soonest = self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
        Ok(soonest.map(Timestamp::from_millis))
    }

    fn delete_job(&mut self, id: JobId) -> Result<bool, StoreError> {
        self.writing(|rows| {
            let Some((row, before)) = rows.find(id)? else { return Ok(false) };
            rows.counts()?.count(id, before.counted(), -1)?;
            let mut lanes = LaneCounts::default();
            let was = Some(before.in_lane());
            rows.count_in_lane(&mut lanes, &before.queue, &before.rare.key, was, None)?;
            let about_now = rows.counts()?.horizon();
            rows.put_counted(lanes, about_now)?;
            let mut batches = BatchChanges::default();
            rows.count_in_batch(&mut batches, before.batch(), Some(before.phase), None)?;
            rows.put_changed_batches(batches)?;
            rows.delete_row(row, id, &before)?;
            rows.was_deleted(before.phase, id)?;
            Ok(true)
        })
    }

    fn first_ended(&mut self, queue: &QueueName, phase: Phase) -> Result<Option<Timestamp>, StoreError> {
        self.first_to_end(queue, phase)
    }

    fn delete_ended(
        &mut self,
        queue: &QueueName,
        phase: Phase,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        self.writing(|rows| rows.delete_those_that_ended(queue, phase, before, limit))
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
        let sql = jobs!(
            "jobs INDEXED BY jobs_waiting
             WHERE phase <= 1 AND queue = ?1 AND ranked = 0 AND due <= ?2 ORDER BY due, id"
        );
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
        let sql = jobs!(
            "ranked CROSS JOIN jobs ON jobs.row = ranked.row
             WHERE ranked.queue = ?1 AND ranked.key = ?2 AND ranked.priority = ?3 AND ranked.due <= ?4
             ORDER BY ranked.due, ranked.id"
        );
        let values = params![queue.as_str(), key.map_or("", JobKey::as_str), priority, now.as_millis()];
        self.found(sql, values, now, limit)
    }

    /// Reads jobs by a statement of [`jobs!`]. Those that cannot be read are discarded, in a transaction that writes.
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
        let Collected { jobs, unreadable } = self.collect(rows, limit)?;
        drop(statement);
        self.discard(unreadable, now)?;
        Ok(jobs)
    }

    /// Finds the priorities that waiting jobs of a key have, or those without one that have a priority: a few, each by a
    /// look at the index.
    fn priorities(&mut self, queue: &QueueName, key: Option<&JobKey>) -> Result<Vec<i64>, StoreError> {
        if !self.counts()?.has_ranked {
            return Ok(Vec::new());
        }
        let sql = "SELECT min(priority) FROM ranked WHERE queue = ?1 AND key = ?2 AND priority > ?3";
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
            for (row, job) in unreadable {
                let after = job.discarded(now);
                let why = &after.why;
                tracing::error!(job.id = %after.id, why, "the row of a job cannot be read: the job is discarded; `midge jobs delete` deletes it");
                let Some((_, before)) = rows.find(after.id)? else { continue };
                let after = (before.discarded(&after), after.id);
                let (after, id) = (&after.0, after.1);
                let sql = "UPDATE jobs SET phase = ?2, ended_at = ?3, failed_at = ?3, machine = NULL, expires_at = NULL,
                           unique_key = NULL WHERE row = ?1";
                let values = params![row, after.phase as i64, after.ended_at];
                rows.connection.prepare_cached(sql)?.execute(values)?;
                rows.put_holder(id, Some(&before), Some(after))?;
                rows.put_entries(row, id, Some(&before), Some(after))?;
                rows.counts()?.count(id, before.counted(), -1)?;
                rows.counts()?.count(id, after.counted(), 1)?;
                rows.count_in_batch(&mut batches, before.batch(), Some(before.phase), Some(after.phase))?;
                let (was, is) = (Some(before.in_lane()), Some(after.in_lane()));
                rows.count_in_lane(&mut lanes, &after.queue, &after.rare.key, was, is)?;
                rows.is_unreadable(before.phase, id)?;
            }
            rows.put_changed_batches(batches)?;
            rows.put_counted(lanes, now)
        })
    }

    /// Reads at most `limit` jobs that can be read, and those between them that cannot.
    fn collect(&mut self, mut rows: rusqlite::Rows<'_>, limit: usize) -> Result<Collected, StoreError> {
        let mut found = Collected::default();
        while found.jobs.len() < limit
            && let Some(row) = rows.next()?
        {
            let number = row.get(0)?;
            match read_job(self.connection, number, row.get_ref(1)?)? {
                Ok(job) => {
                    self.note_read(row, &job)?;
                    found.jobs.push(job);
                }
                Err(job) => found.unreadable.push((number, job)),
            }
        }
        Ok(found)
    }
}

/// Jobs that were found, and those that cannot be read, with their rows.
#[derive(Default)]
struct Collected {
    jobs: Vec<Job>,
    unreadable: Vec<(i64, UnreadableJob)>,
}
