//! What stands beside a job's body in its row, to be searched by.

use std::borrow::Cow;

use midge_core::{InLane, Job, Phase, UnreadableJob};
use midge_protocol::{BatchId, JobKey, Timestamp};
use rusqlite::Row;

use super::counts::Counted;
use super::decode::phase;
use crate::StoreError;

/// The columns of a job, as its row has them or as they are to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns<'a> {
    pub(super) queue: Cow<'a, str>,
    pub(super) module: Cow<'a, str>,
    pub(super) phase: Phase,
    pub(super) due: Timestamp,
    pub(super) machine: Option<Cow<'a, str>>,
    pub(super) ended_at: Option<i64>,
    pub(super) rare: Rare<'a>,
}

/// Those that have nothing of most jobs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Rare<'a> {
    pub(super) expires_at: Option<i64>,
    /// Empty where there is none.
    pub(super) key: Cow<'a, str>,
    pub(super) priority: i8,
    pub(super) unique_key: Option<[u8; 16]>,
    /// The tags, one a line.
    pub(super) tags: Option<Cow<'a, str>>,
    pub(super) cause: Option<Cow<'a, str>>,
    /// SQLite has no unsigned numbers: the same bits.
    pub(super) fingerprint: Option<i64>,
    pub(super) failed_at: Option<i64>,
    pub(super) batch: Option<[u8; 16]>,
    pub(super) parent: Option<[u8; 16]>,
}

/// The columns, as [`Columns::read`] reads them from behind the first ones of a statement.
macro_rules! columns {
    () => {
        "queue, module, phase, due, machine, ended_at, expires_at, key, priority, unique_key, tags, cause, fingerprint,
         failed_at, batch, parent"
    };
}
pub(super) use columns;

impl<'a> Columns<'a> {
    pub(super) fn of(job: &'a Job) -> Columns<'a> {
        Columns {
            queue: job.queue.as_str().into(),
            module: job.module.as_str().into(),
            phase: job.phase(),
            due: job.due(),
            machine: job.lease().map(|lease| lease.machine.as_str().into()),
            ended_at: job.ended_at().map(Timestamp::as_millis),
            rare: Rare::of(job),
        }
    }

    pub(super) fn counted(&self) -> Counted<'_> {
        Counted { queue: &self.queue, module: &self.module, phase: self.phase, due: self.due }
    }

    pub(super) fn in_lane(&self) -> InLane {
        InLane { phase: self.phase, due: self.due }
    }

    pub(super) fn batch(&self) -> Option<BatchId> {
        self.rare.batch.map(BatchId::from_bytes)
    }
}

impl Columns<'static> {
    /// Reads the `columns!` of a row that stand behind the first `from` of a statement.
    pub(super) fn read(row: &Row<'_>, from: usize) -> Result<Columns<'static>, StoreError> {
        let text = |column| row.get::<_, String>(from + column).map(Cow::Owned);
        let optional =
            |column| Ok::<_, StoreError>(row.get::<_, Option<String>>(from + column)?.map(Cow::Owned));
        Ok(Columns {
            queue: text(0)?,
            module: text(1)?,
            phase: phase(row.get(from + 2)?)?,
            due: Timestamp::from_millis(row.get(from + 3)?),
            machine: optional(4)?,
            ended_at: row.get(from + 5)?,
            rare: Rare {
                expires_at: row.get(from + 6)?,
                key: text(7)?,
                priority: row.get(from + 8)?,
                unique_key: row.get(from + 9)?,
                tags: optional(10)?,
                cause: optional(11)?,
                fingerprint: row.get(from + 12)?,
                failed_at: row.get(from + 13)?,
                batch: row.get(from + 14)?,
                parent: row.get(from + 15)?,
            },
        })
    }

    /// Returns the columns of a job that cannot be read and was discarded. What it is found by otherwise stays.
    pub(super) fn discarded(&self, after: &UnreadableJob) -> Columns<'static> {
        let ended_at = after.ended_at.map(Timestamp::as_millis);
        let rare = Rare { expires_at: None, unique_key: None, failed_at: ended_at, ..self.rare.clone() };
        let (phase, due) = (after.phase, after.due);
        Columns { phase, due, machine: None, ended_at, rare, ..self.clone() }
    }
}

impl<'a> Rare<'a> {
    fn of(job: &'a Job) -> Rare<'a> {
        let tags = || job.labels.tags.iter().map(|tag| tag.as_str()).collect::<Vec<_>>().join("\n");
        Rare {
            expires_at: job.expiry().map(Timestamp::as_millis),
            key: job.key.as_ref().map_or("", JobKey::as_str).into(),
            priority: job.priority,
            unique_key: job.unique.as_ref().map(|hold| hold.key.0),
            tags: (!job.labels.tags.is_empty()).then(|| tags().into()),
            cause: job.failure.as_ref().map(|failure| failure.cause.as_str().into()),
            fingerprint: job.fingerprint().map(|fingerprint| fingerprint.0 as i64),
            failed_at: job.failed_at().map(Timestamp::as_millis),
            batch: job.links.batch.as_ref().map(|batch| *batch.as_bytes()),
            parent: job.links.parent.as_ref().map(|parent| *parent.as_bytes()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Rare::default()
    }

    pub(super) fn is_ranked(&self) -> bool {
        !self.key.is_empty() || self.priority != 0
    }
}
