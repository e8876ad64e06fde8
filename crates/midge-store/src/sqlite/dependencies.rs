//! A transaction on SQLite: dependencies. Ends of which somebody is to be told are in the table `settling`: what they were
//! called when it was made.

use midge_core::{DependencyEnd, Job, Phase};
use midge_protocol::JobId;
use rusqlite::{OptionalExtension, params};

use super::decode::id;
use super::read::read_job;
use super::rows::SqliteRows;
use crate::{DependencyRows, Dependent, StoreError, UntoldEnd};

impl DependencyRows for SqliteRows<'_> {
    fn put_dependencies(&mut self, job: JobId, on: &[JobId]) -> Result<(), StoreError> {
        self.writing(|rows| {
            let sql = "INSERT INTO dependencies (job, on_job) VALUES (?1, ?2)";
            let mut statement = rows.connection.prepare_cached(sql)?;
            for on in on {
                statement.execute([job.as_bytes(), on.as_bytes()])?;
            }
            Ok(())
        })
    }

    fn dependencies(&mut self, job: JobId, limit: usize) -> Result<(u64, Vec<JobId>), StoreError> {
        let sql = "SELECT count(*) FROM dependencies INDEXED BY dependencies_of WHERE job = ?1";
        let number: i64 =
            self.connection.prepare_cached(sql)?.query_row([job.as_bytes()], |row| row.get(0))?;
        let sql =
            "SELECT on_job FROM dependencies INDEXED BY dependencies_of WHERE job = ?1 ORDER BY row LIMIT ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![job.as_bytes(), limit as i64])?;
        let mut first = Vec::new();
        while let Some(row) = rows.next()? {
            first.push(id(row.get_ref(0)?)?);
        }
        Ok((number as u64, first))
    }

    fn delete_dependency(&mut self, _: &UntoldEnd, dependent: &Dependent) -> Result<(), StoreError> {
        self.writing(|rows| {
            let sql = "DELETE FROM dependencies WHERE row = ?1";
            rows.connection.prepare_cached(sql)?.execute([dependent.row as i64])?;
            Ok(())
        })
    }

    fn next_untold_end(&mut self) -> Result<Option<UntoldEnd>, StoreError> {
        let sql = "SELECT row, job, how, told, until FROM settling ORDER BY row LIMIT 1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let number = |column| row.get::<_, i64>(column).map(|number| number as u64);
        Ok(Some(UntoldEnd {
            row: number(0)?,
            job: id(row.get_ref(1)?)?,
            end: end(row.get(2)?)?,
            told: number(3)?,
            until: number(4)?,
        }))
    }

    fn dependents(&mut self, of: &UntoldEnd, limit: usize) -> Result<Vec<Dependent>, StoreError> {
        let connection = self.connection;
        let sql = "SELECT dependencies.row, jobs.row, jobs.body,
                       EXISTS (SELECT 1 FROM dependencies AS others INDEXED BY dependencies_of
                               WHERE others.job = dependencies.job AND others.row <> dependencies.row)
                   FROM dependencies INDEXED BY dependencies_on
                   CROSS JOIN jobs INDEXED BY jobs_by_id ON jobs.id = dependencies.job
                   WHERE dependencies.on_job = ?1 AND dependencies.row > ?2 AND dependencies.row <= ?3
                   ORDER BY dependencies.row";
        let mut statement = connection.prepare_cached(sql)?;
        // No LIMIT: those that cannot be read leave room for those behind them. They are stepped through one by one.
        let mut rows = statement.query(params![of.job.as_bytes(), of.told as i64, of.until as i64])?;
        let (mut found, mut unreadable) = (Vec::new(), Vec::new());
        while found.len() < limit
            && let Some(row) = rows.next()?
        {
            let number = row.get(1)?;
            match read_job(connection, number, row.get_ref(2)?)? {
                Ok(job) => found.push(Dependent {
                    row: row.get::<_, i64>(0)? as u64,
                    job,
                    waits_for_others: row.get(3)?,
                }),
                Err(job) => unreadable.push((number, job)),
            }
        }
        drop(rows);
        drop(statement);
        if !unreadable.is_empty() {
            let about_now = self.counts()?.horizon();
            self.discard(unreadable, about_now)?;
        }
        Ok(found)
    }

    fn put_told(&mut self, of: &UntoldEnd, told: u64) -> Result<(), StoreError> {
        self.writing(|rows| {
            let sql = "UPDATE settling SET told = ?2 WHERE row = ?1";
            rows.connection.prepare_cached(sql)?.execute([of.row as i64, told as i64])?;
            Ok(())
        })
    }

    fn delete_untold_end(&mut self, of: &UntoldEnd) -> Result<(), StoreError> {
        self.writing(|rows| {
            let sql = "DELETE FROM settling WHERE row = ?1";
            rows.connection.prepare_cached(sql)?.execute([of.row as i64])?;
            Ok(())
        })
    }
}

impl SqliteRows<'_> {
    /// Follows what became of a job, which was in another phase before.
    pub(super) fn follow_dependencies(&self, before: Option<Phase>, job: &Job) -> Result<(), StoreError> {
        self.waits_no_more(before, Some(job.phase()), job.id)?;
        let had_ended = before.is_some_and(|phase| DependencyEnd::of(phase).is_some());
        match DependencyEnd::of(job.phase()) {
            Some(end) if job.links.has_dependents && !had_ended => self.is_to_be_told(job.id, end),
            _ => Ok(()),
        }
    }

    /// A job that cannot be read was discarded. Whether others wait for it stands in its row.
    pub(super) fn is_unreadable(&self, before: Phase, id: JobId) -> Result<(), StoreError> {
        self.waits_no_more(Some(before), None, id)?;
        self.is_to_be_told(id, DependencyEnd::Discarded)
    }

    /// A job was deleted.
    pub(super) fn was_deleted(&mut self, before: Phase, id: JobId) -> Result<(), StoreError> {
        self.waits_no_more(Some(before), None, id)?;
        // Most are deleted long after they ended. Whatever waits for one is pending.
        if self.counts()?.any_pending() { self.is_to_be_told(id, DependencyEnd::Deleted) } else { Ok(()) }
    }

    fn waits_no_more(
        &self,
        before: Option<Phase>,
        after: Option<Phase>,
        id: JobId,
    ) -> Result<(), StoreError> {
        if before == Some(Phase::Pending) && after != Some(Phase::Pending) {
            let sql = "DELETE FROM dependencies WHERE job = ?1";
            self.connection.prepare_cached(sql)?.execute([id.as_bytes()])?;
        }
        Ok(())
    }

    /// Writes that all that wait for a job are to be told of its end, if any do.
    fn is_to_be_told(&self, id: JobId, end: DependencyEnd) -> Result<(), StoreError> {
        let sql = "SELECT max(row) FROM dependencies INDEXED BY dependencies_on WHERE on_job = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let until: Option<Option<i64>> = statement.query_row([id.as_bytes()], |row| row.get(0)).optional()?;
        let Some(until) = until.flatten() else { return Ok(()) };
        let sql = "INSERT INTO settling (job, how, told, until) VALUES (?1, ?2, 0, ?3)";
        let values = params![id.as_bytes(), end as i64, until];
        self.connection.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }
}

/// Reads an end from its number.
fn end(number: i64) -> Result<DependencyEnd, StoreError> {
    let end = usize::try_from(number).ok().and_then(|index| DependencyEnd::ALL.get(index).copied());
    end.ok_or_else(|| StoreError::Failed(format!("a job ended as {number}, which does not exist")))
}
