//! A transaction on SQLite: groups of failures, and sweeps.

use midge_core::{FAILURE_GROUPS_MAX, FAILURE_OPEN_MAX, Sweep};
use midge_protocol::api::{FailureGroup, FailuresCursor, JobCount};
use midge_protocol::{Fingerprint, ModuleName, Timestamp};
use rusqlite::{OptionalExtension, params};

use super::decode::{from_json, to_json};
use super::rows::SqliteRows;
use crate::rows::counted;
use crate::work::Access;
use crate::{FailureRows, StoreError, SweepRows};

impl FailureRows for SqliteRows<'_> {
    fn failure_group(&mut self, fingerprint: Fingerprint) -> Result<Option<FailureGroup>, StoreError> {
        let mut statement =
            self.connection.prepare_cached("SELECT body FROM failures WHERE fingerprint = ?1")?;
        let group = statement.query_row([fingerprint.0 as i64], |row| Ok(from_json(row.get_ref(0)?).ok()));
        Ok(group.optional()?.flatten())
    }

    fn failure_groups(
        &mut self,
        module: Option<&ModuleName>,
        before: Option<FailuresCursor>,
        limit: usize,
    ) -> Result<Vec<FailureGroup>, StoreError> {
        let sql =
            "SELECT body FROM failures INDEXED BY failures_by_time WHERE (last_seen, fingerprint) < (?1, ?2)
                   ORDER BY last_seen DESC, fingerprint DESC";
        // No group was seen as late as that.
        let first = (i64::MAX, i64::MAX);
        let before = before.map_or(first, |before| (before.at.as_millis(), before.fingerprint.0 as i64));
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(before)?;
        let mut groups = Vec::new();
        while groups.len() < limit
            && let Some(row) = rows.next()?
        {
            let group: Result<FailureGroup, String> = from_json(row.get_ref(0)?);
            groups.extend(group.ok().filter(|group| module.is_none_or(|module| group.module == *module)));
        }
        Ok(groups)
    }

    fn failure_open(&mut self, fingerprint: Fingerprint) -> Result<JobCount, StoreError> {
        let sql = "SELECT count(*) FROM (SELECT 1 FROM failed_alike WHERE fingerprint = ?1 LIMIT ?2)";
        let values = params![fingerprint.0 as i64, FAILURE_OPEN_MAX as i64 + 1];
        let jobs: i64 = self.connection.prepare_cached(sql)?.query_row(values, |row| row.get(0))?;
        Ok(counted(jobs as u64))
    }

    fn put_failure_group(&mut self, group: &FailureGroup) -> Result<(), StoreError> {
        self.writing(|rows| {
            let values = params![group.fingerprint.0 as i64, group.last_seen.as_millis(), to_json(group)];
            let sql = "UPDATE failures SET last_seen = ?2, body = ?3 WHERE fingerprint = ?1";
            if rows.connection.prepare_cached(sql)?.execute(values)? > 0 {
                return Ok(());
            }
            let sql = "SELECT count(*) FROM failures";
            let groups: i64 = rows.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
            if groups as usize >= FAILURE_GROUPS_MAX {
                let sql = "DELETE FROM failures WHERE fingerprint = (
                               SELECT fingerprint FROM failures INDEXED BY failures_by_time
                               ORDER BY last_seen, fingerprint LIMIT 1)";
                rows.connection.prepare_cached(sql)?.execute([])?;
            }
            let sql = "INSERT INTO failures VALUES (?1, ?2, ?3)";
            rows.connection.prepare_cached(sql)?.execute(values)?;
            Ok(())
        })
    }

    fn delete_failure_groups(&mut self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.writing(|rows| {
            let sql = "DELETE FROM failures WHERE fingerprint IN (
                           SELECT fingerprint FROM failures INDEXED BY failures_by_time
                           WHERE last_seen < ?1 ORDER BY last_seen LIMIT ?2)";
            let values = params![before.as_millis(), limit as i64];
            Ok(rows.connection.prepare_cached(sql)?.execute(values)?)
        })
    }
}

impl SweepRows for SqliteRows<'_> {
    fn sweep(&mut self, id: u64) -> Result<Option<Sweep>, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT body FROM sweeps WHERE id = ?1")?;
        let sweep = statement.query_row([id as i64], |row| Ok(from_json(row.get_ref(0)?).ok()));
        Ok(sweep.optional()?.flatten())
    }

    fn sweeps(&mut self) -> Result<Vec<Sweep>, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT body, id FROM sweeps ORDER BY id")?;
        let (mut sweeps, mut unreadable) = (Vec::new(), Vec::new());
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            match from_json(row.get_ref(0)?) {
                Ok(sweep) => sweeps.push(sweep),
                Err(why) => {
                    let id: i64 = row.get(1)?;
                    tracing::error!(sweep = id, why, "the row of a sweep cannot be read: it goes no further");
                    unreadable.push(id as u64);
                }
            }
        }
        if self.access == Access::Write {
            unreadable.into_iter().try_for_each(|id| self.delete_sweep(id))?;
        }
        Ok(sweeps)
    }

    fn put_sweep(&mut self, sweep: &Sweep) -> Result<(), StoreError> {
        self.writing(|rows| {
            let sql = "INSERT OR REPLACE INTO sweeps VALUES (?1, ?2)";
            rows.connection.prepare_cached(sql)?.execute(params![sweep.view.id as i64, to_json(sweep)])?;
            Ok(())
        })
    }

    fn delete_sweep(&mut self, id: u64) -> Result<(), StoreError> {
        self.writing(|rows| {
            rows.connection.prepare_cached("DELETE FROM sweeps WHERE id = ?1")?.execute([id as i64])?;
            Ok(())
        })
    }
}
