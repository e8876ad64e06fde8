//! What a job is found by beside its queue, module and phase: tags, and how it failed last.

use midge_core::Job;
use midge_protocol::{JobId, Timestamp};
use rusqlite::params;

use super::rows::SqliteRows;
use crate::StoreError;

/// The columns of it. Most jobs have none of them.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct Labelled {
    /// The tags, one a line.
    pub(super) tags: Option<String>,
    pub(super) cause: Option<String>,
    /// SQLite has no unsigned numbers: the same bits.
    pub(super) fingerprint: Option<i64>,
    pub(super) failed_at: Option<i64>,
}

impl Labelled {
    pub(super) fn of(job: &Job) -> Labelled {
        let tags = || job.labels.tags.iter().map(|tag| tag.as_str()).collect::<Vec<_>>().join("\n");
        Labelled {
            tags: (!job.labels.tags.is_empty()).then(tags),
            cause: job.failure.as_ref().map(|failure| failure.cause.to_string()),
            fingerprint: job.fingerprint().map(|fingerprint| fingerprint.0 as i64),
            failed_at: job.failed_at().map(Timestamp::as_millis),
        }
    }
}

impl SqliteRows<'_> {
    /// Writes by which tags a job is found, over those by which it was.
    pub(super) fn put_tags(
        &self,
        job: JobId,
        before: Option<&str>,
        after: Option<&str>,
    ) -> Result<(), StoreError> {
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
