//! The tables by which jobs are found that have what most lack: indexes that are kept by hand, so that a job that has
//! nothing of it costs nothing.

use midge_protocol::JobId;
use rusqlite::{Params, params};

use super::columns::Columns;
use super::rows::SqliteRows;
use crate::StoreError;

impl SqliteRows<'_> {
    /// Writes which unique key a job holds, over the one that it held.
    pub(super) fn put_holder(
        &self,
        job: JobId,
        before: Option<&Columns<'_>>,
        after: Option<&Columns<'_>>,
    ) -> Result<(), StoreError> {
        self.put_entry(
            ["DELETE FROM holders WHERE unique_key = ?1 AND id = ?2", "INSERT INTO holders VALUES (?1, ?2)"],
            [before, after].map(|columns| Some((columns?.rare.unique_key?, job.as_bytes()))),
        )
    }

    /// Writes by what else a job is found, over what it was found by.
    pub(super) fn put_entries(
        &self,
        row: i64,
        job: JobId,
        before: Option<&Columns<'_>>,
        after: Option<&Columns<'_>>,
    ) -> Result<(), StoreError> {
        let has_any = |columns: Option<&Columns<'_>>| columns.is_some_and(|columns| !columns.rare.is_empty());
        if !has_any(before) && !has_any(after) {
            return Ok(());
        }
        let id = job.as_bytes();
        let [tags_before, tags_after] =
            [before, after].map(|columns| columns.and_then(|columns| columns.rare.tags.as_deref()));
        self.put_tags(job, tags_before, tags_after)?;
        self.put_entry(
            [
                "DELETE FROM expiring WHERE id = ?2 AND expires_at = ?3",
                "INSERT INTO expiring (row, id, expires_at) VALUES (?1, ?2, ?3)",
            ],
            [before, after].map(|columns| Some((row, id, columns?.rare.expires_at?))),
        )?;
        self.put_entry(
            [
                "DELETE FROM ranked WHERE queue = ?3 AND key = ?4 AND priority = ?5 AND due = ?6 AND id = ?2",
                "INSERT INTO ranked (row, id, queue, key, priority, due) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            ],
            [before, after].map(|columns| {
                let Columns { queue, phase, due, rare, .. } = columns?;
                let is_there = phase.is_in_line() && rare.is_ranked();
                is_there.then(|| (row, id, &**queue, &*rare.key, rare.priority, due.as_millis()))
            }),
        )?;
        self.put_entry(
            [
                "DELETE FROM keyed WHERE key = ?3 AND id = ?2",
                "INSERT INTO keyed (row, id, key) VALUES (?1, ?2, ?3)",
            ],
            [before, after].map(|columns| {
                let key = &*columns?.rare.key;
                (!key.is_empty()).then_some((row, id, key))
            }),
        )?;
        self.put_entry(
            [
                "DELETE FROM members WHERE batch = ?3 AND id = ?2",
                "INSERT INTO members (row, id, batch) VALUES (?1, ?2, ?3)",
            ],
            [before, after].map(|columns| Some((row, id, columns?.rare.batch?))),
        )?;
        self.put_entry(
            [
                "DELETE FROM children WHERE parent = ?3 AND id = ?2",
                "INSERT INTO children (row, id, parent) VALUES (?1, ?2, ?3)",
            ],
            [before, after].map(|columns| Some((row, id, columns?.rare.parent?))),
        )?;
        self.put_entry(
            [
                "DELETE FROM failed WHERE phase = ?3 AND failed_at = ?4 AND id = ?2",
                "INSERT INTO failed (row, id, phase, failed_at) VALUES (?1, ?2, ?3, ?4)",
            ],
            [before, after].map(|columns| Some((row, id, columns?.phase as i64, columns?.rare.failed_at?))),
        )?;
        self.put_entry(
            [
                "DELETE FROM failed_for WHERE cause = ?3 AND failed_at = ?4 AND id = ?2",
                "INSERT INTO failed_for (row, id, cause, failed_at) VALUES (?1, ?2, ?3, ?4)",
            ],
            [before, after].map(|columns| {
                let rare = &columns?.rare;
                Some((row, id, rare.cause.as_deref()?, rare.failed_at?))
            }),
        )?;
        self.put_entry(
            [
                "DELETE FROM failed_alike WHERE fingerprint = ?3 AND failed_at = ?4 AND id = ?2",
                "INSERT INTO failed_alike (row, id, fingerprint, failed_at) VALUES (?1, ?2, ?3, ?4)",
            ],
            [before, after].map(|columns| {
                let rare = &columns?.rare;
                Some((row, id, rare.fingerprint?, rare.failed_at?))
            }),
        )
    }

    /// Deletes what was in a table and inserts what is to be, where that is something else.
    fn put_entry<V: Params + PartialEq>(
        &self,
        [delete, insert]: [&str; 2],
        [before, after]: [Option<V>; 2],
    ) -> Result<(), StoreError> {
        if before == after {
            return Ok(());
        }
        for (values, sql) in [(before, delete), (after, insert)] {
            if let Some(values) = values {
                self.connection.prepare_cached(sql)?.execute(values)?;
            }
        }
        Ok(())
    }

    fn put_tags(&self, job: JobId, before: Option<&str>, after: Option<&str>) -> Result<(), StoreError> {
        if before == after {
            return Ok(());
        }
        for (tags, sql) in [
            (before, "DELETE FROM tags WHERE tag = ?1 AND job = ?2"),
            (after, "INSERT OR REPLACE INTO tags VALUES (?1, ?2)"),
        ] {
            for tag in tags.into_iter().flat_map(str::lines) {
                self.connection.prepare_cached(sql)?.execute(params![tag, job.as_bytes()])?;
            }
        }
        Ok(())
    }
}
