//! The numbers of one queue and module: a row of the table `counts`.

use midge_core::Phase;
use midge_protocol::{ModuleName, QueueName};
use rusqlite::{Connection, Row, params};

use super::spans::Spans;
use crate::StoreError;

/// The jobs of one queue and module.
pub(in crate::sqlite) struct Line {
    pub(in crate::sqlite) queue: QueueName,
    pub(in crate::sqlite) module: ModuleName,
    pub(super) numbers: Numbers,
    pub(super) later: Later,
    pub(super) spans: InLine,
    /// Whether the row says something else.
    pub(super) changed: bool,
}

/// How many jobs are in each phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Numbers {
    fresh: i64,
    retrying: i64,
    running: i64,
    completed: i64,
    cancelled: i64,
    discarded: i64,
    held: i64,
    pending: i64,
}

/// How many of the jobs in line are due after the horizon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Later {
    pub(super) fresh: i64,
    pub(super) retrying: i64,
}

/// Where the jobs in line are among all.
#[derive(Debug, Default)]
pub(super) struct InLine {
    fresh: Spans,
    retrying: Spans,
}

impl InLine {
    /// Returns the spans of a phase in which jobs are in line.
    pub(super) fn of(&mut self, phase: Phase) -> Option<&mut Spans> {
        match phase {
            Phase::Fresh => Some(&mut self.fresh),
            Phase::Retrying => Some(&mut self.retrying),
            _ => None,
        }
    }
}

impl Numbers {
    /// Returns the number of a phase, to be changed.
    pub(super) fn of(&mut self, phase: Phase) -> &mut i64 {
        match phase {
            Phase::Fresh => &mut self.fresh,
            Phase::Retrying => &mut self.retrying,
            Phase::Running => &mut self.running,
            Phase::Completed => &mut self.completed,
            Phase::Cancelled => &mut self.cancelled,
            Phase::Discarded => &mut self.discarded,
            Phase::Held => &mut self.held,
            Phase::Pending => &mut self.pending,
        }
    }
}

impl Later {
    /// Returns the number of a phase in which jobs are in line, to be changed.
    pub(super) fn of(&mut self, phase: Phase) -> &mut i64 {
        match phase {
            Phase::Fresh => &mut self.fresh,
            Phase::Retrying => &mut self.retrying,
            _ => unreachable!("callers count only jobs in line as due later, and this one is {phase:?}"),
        }
    }
}

impl Line {
    /// Makes the line of a queue and module without jobs.
    pub(super) fn new(queue: QueueName, module: ModuleName) -> Line {
        let (numbers, later, spans) = Default::default();
        Line { queue, module, numbers, later, spans, changed: false }
    }

    /// Returns how many jobs are in a phase.
    pub(in crate::sqlite) fn jobs(&self, phase: Phase) -> i64 {
        let mut numbers = self.numbers;
        *numbers.of(phase)
    }

    /// Returns how many jobs of a phase in which they are in line are due after the horizon.
    pub(super) fn later(&self, phase: Phase) -> i64 {
        let mut later = self.later;
        *later.of(phase)
    }

    /// Returns where among all ids the jobs of a phase are, if they are in line in it.
    pub(in crate::sqlite) fn spans(&self, phase: Phase) -> Option<&Spans> {
        match phase {
            Phase::Fresh => Some(&self.spans.fresh),
            Phase::Retrying => Some(&self.spans.retrying),
            _ => None,
        }
    }

    /// Returns whether any job is in a phase.
    pub(in crate::sqlite) fn has(&self, phase: Phase) -> bool {
        self.jobs(phase) > 0
    }

    /// Reads the numbers from a row with all columns of the table.
    pub(super) fn read(&mut self, row: &Row<'_>) -> Result<(), StoreError> {
        self.numbers = Numbers {
            fresh: row.get("fresh")?,
            retrying: row.get("retrying")?,
            running: row.get("running")?,
            completed: row.get("completed")?,
            cancelled: row.get("cancelled")?,
            discarded: row.get("discarded")?,
            held: row.get("held")?,
            pending: row.get("pending")?,
        };
        let spans = |ids: Option<&[u8]>, jobs| Spans::read(ids.unwrap_or_default(), jobs);
        self.spans = InLine {
            fresh: spans(row.get_ref("fresh_ids")?.as_blob_or_null().unwrap_or_default(), self.numbers.fresh),
            retrying: spans(
                row.get_ref("retrying_ids")?.as_blob_or_null().unwrap_or_default(),
                self.numbers.retrying,
            ),
        };
        self.later = Later { fresh: row.get("fresh_later")?, retrying: row.get("retrying_later")? };
        Ok(())
    }

    /// Writes the numbers. A queue and module without jobs have no row.
    pub(super) fn write(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let (queue, module) = (self.queue.as_str(), self.module.as_str());
        if self.numbers == Numbers::default() {
            let sql = "DELETE FROM counts WHERE queue = ?1 AND module = ?2";
            connection.prepare_cached(sql)?.execute(params![queue, module])?;
        } else {
            let Numbers { fresh, retrying, running, completed, cancelled, discarded, held, pending } =
                self.numbers;
            let sql = "INSERT OR REPLACE INTO counts (queue, module, fresh, retrying, running, completed, cancelled,
                           discarded, held, pending, fresh_later, retrying_later, fresh_ids, retrying_ids)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
            connection.prepare_cached(sql)?.execute(params![
                queue,
                module,
                fresh,
                retrying,
                running,
                completed,
                cancelled,
                discarded,
                held,
                pending,
                self.later.fresh,
                self.later.retrying,
                self.spans.fresh.to_bytes(),
                self.spans.retrying.to_bytes()
            ])?;
        }
        self.changed = false;
        Ok(())
    }
}
