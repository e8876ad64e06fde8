//! Counts jobs without looking at them: numbers that every transaction keeps, whatever the number of jobs.
//!
//! How many of the waiting jobs are due depends on the time. So the numbers also say how many are due later than a
//! *horizon*, which follows the clock; each job that it passes is looked at once, in an index.
//!
//! An example, in seconds: at 10, three jobs are written. A is due at 5, B at 20, and C, which has failed, at 30.
//!
//! | what happens | horizon | fresh | retrying | running | later: fresh | later: retrying | so are due |
//! |---|---|---|---|---|---|---|---|
//! | A, B and C are written at 10 | 10 | 2 | 1 | 0 | 1: B | 1: C | A |
//! | somebody counts at 25: B is not later any more | 25 | 2 | 1 | 0 | 0 | 1: C | A, B |
//! | A is claimed at 25 | 25 | 1 | 1 | 1 | 0 | 1: C | B |
//! | the clock is put back and somebody counts at 15: B is later again | 15 | 1 | 1 | 1 | 1: B | 1: C | none |
//!
//! Those of `fresh` and `retrying` that are not later are due. Between the horizon and `soonest` no job becomes due, so
//! a count at 26 that follows the one at 25 looks at no job.

mod line;
mod spans;

use std::collections::BTreeMap;
use std::time::Duration;

use midge_core::{JobCounts, JobSearch, Phase, StateFilter};
use midge_protocol::{JobId, ModuleName, QueueName, Timestamp};
use rusqlite::{Connection, params};

use self::line::{InLine, Line};
pub(super) use self::spans::{IdSpan, Spans};
use super::decode::{id, name, phase, text};
use crate::StoreError;

/// How far the horizon may fall behind the writes: long enough that not every write looks for jobs that became due.
const HORIZON_BEHIND_MAX: Duration = Duration::from_millis(100);

/// The numbers of one database.
pub(super) struct Counts {
    horizon: Timestamp,
    /// No waiting job becomes due after the horizon and before this.
    soonest: Timestamp,
    /// Whether there may be jobs in line with a key or a priority, which `jobs_waiting` has apart, or lanes. Most databases
    /// have none.
    pub(super) has_ranked: bool,
    /// One for each queue and module that have had jobs. None is ever removed: `index` and `undo` point into it.
    lines: Vec<Line>,
    index: BTreeMap<QueueName, BTreeMap<ModuleName, usize>>,
    /// What the work that runs has changed, so that it can be undone.
    undo: Vec<Undo>,
}

/// What was changed since [`Counts::keep`], and by how much.
enum Undo {
    Number { line: usize, phase: Phase, by: i64 },
    Later { line: usize, phase: Phase, by: i64 },
    InLine { line: usize, phase: Phase, id: JobId, by: i64 },
    Horizon { horizon: Timestamp, soonest: Timestamp },
}

/// What of a job is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted<'a> {
    pub(super) queue: &'a str,
    pub(super) module: &'a str,
    pub(super) phase: Phase,
    pub(super) due: Timestamp,
}

impl Counts {
    /// Reads the numbers as the connection's transaction sees them.
    pub(super) fn load(connection: &Connection) -> Result<Counts, StoreError> {
        let horizon = connection
            .prepare_cached("SELECT at FROM horizon WHERE one = 1")?
            .query_row([], |row| Ok(Timestamp::from_millis(row.get(0)?)))?;
        let has_ranked = connection
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM ranked) OR EXISTS (SELECT 1 FROM lanes)")?
            .query_row([], |row| row.get(0))?;
        let (lines, index, undo) = (Vec::new(), BTreeMap::new(), Vec::new());
        let mut counts = Counts { horizon, soonest: horizon, has_ranked, lines, index, undo };
        let mut statement = connection.prepare_cached(
            "SELECT queue, module, fresh, retrying, running, completed, cancelled, discarded,
                    held, pending, fresh_later, retrying_later, fresh_ids, retrying_ids FROM counts",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let line = counts.line(text(row.get_ref(0)?)?, text(row.get_ref(1)?)?)?;
            counts.lines[line].read(row)?;
        }
        Ok(counts)
    }

    /// Finds where among all ids the jobs in line are, and writes it: an earlier schema did not say.
    pub(super) fn find_in_line(connection: &Connection) -> Result<(), StoreError> {
        let mut counts = Counts::load(connection)?;
        counts.lines.iter_mut().for_each(|line| line.spans = InLine::default());
        let sql = "SELECT queue, module, phase, id FROM jobs INDEXED BY jobs_waiting WHERE phase <= 1";
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let line = counts.line(text(row.get_ref(0)?)?, text(row.get_ref(1)?)?)?;
            let line = &mut counts.lines[line];
            if let Some(spans) = line.spans.of(phase(row.get(2)?)?) {
                spans.count(&id(row.get_ref(3)?)?, 1);
                line.changed = true;
            }
        }
        counts.flush(connection)
    }

    /// Counts a job that is written (`by` 1) or no longer there as it was (`by` -1).
    pub(super) fn count(&mut self, id: JobId, job: Counted<'_>, by: i64) -> Result<(), StoreError> {
        let line = self.line(job.queue, job.module)?;
        if let Some(spans) = self.lines[line].spans.of(job.phase) {
            spans.count(&id, by);
            self.undo.push(Undo::InLine { line, phase: job.phase, id, by });
        }
        self.change(Undo::Number { line, phase: job.phase, by });
        if job.phase.is_in_line() && job.due > self.horizon {
            self.change(Undo::Later { line, phase: job.phase, by });
            self.soonest = self.soonest.min(job.due);
        }
        Ok(())
    }

    fn change(&mut self, change: Undo) {
        let (line, number, by) = match change {
            Undo::Number { line, phase, by } => (line, self.lines[line].numbers.of(phase), by),
            Undo::Later { line, phase, by } => (line, self.lines[line].later.of(phase), by),
            Undo::InLine { .. } => unreachable!("`count` counts ids itself"),
            Undo::Horizon { .. } => unreachable!("`move_to` moves the horizon itself"),
        };
        *number += by;
        debug_assert!(*number >= 0, "no count is below 0");
        self.lines[line].changed = true;
        self.undo.push(change);
    }

    /// Returns a time that follows the clock.
    pub(super) fn horizon(&self) -> Timestamp {
        self.horizon
    }

    /// Moves the horizon up to a time at which a job was changed, if that is much later: writers that never count would
    /// leave it behind.
    pub(super) fn follow(&mut self, connection: &Connection, now: Timestamp) -> Result<(), StoreError> {
        if now.since(self.horizon) > HORIZON_BEHIND_MAX { self.move_to(connection, now) } else { Ok(()) }
    }

    /// Moves the horizon to a time, which may also be an earlier one: clocks are put right.
    fn move_to(&mut self, connection: &Connection, now: Timestamp) -> Result<(), StoreError> {
        let (horizon, soonest) = (self.horizon, self.soonest);
        if now < horizon || now >= soonest {
            let (after, until, by) = if now < horizon { (now, horizon, 1) } else { (horizon, now, -1) };
            let mut next = Timestamp::LATEST;
            for queue in self.queues_in_line() {
                for (line, phase, jobs) in self.due_between(connection, &queue, after, until)? {
                    self.change(Undo::Later { line, phase, by: by * jobs });
                }
                next = next.min(self.due_after(connection, &queue, Some(now))?.unwrap_or(next));
            }
            self.soonest = next;
        }
        if now != horizon {
            self.undo.push(Undo::Horizon { horizon, soonest });
            self.horizon = now;
        }
        Ok(())
    }

    /// Counts the waiting jobs of a queue that are due after one time and not after another.
    fn due_between(
        &mut self,
        connection: &Connection,
        queue: &QueueName,
        after: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<(usize, Phase, i64)>, StoreError> {
        let mut found: BTreeMap<(usize, Phase), i64> = BTreeMap::new();
        let mut statement = connection.prepare_cached(
            "SELECT module, phase FROM jobs INDEXED BY jobs_waiting
             WHERE phase <= 1 AND queue = ?1 AND ranked IN (0, 1) AND due > ?2 AND due <= ?3",
        )?;
        let mut rows = statement.query(params![queue.as_str(), after.as_millis(), until.as_millis()])?;
        while let Some(row) = rows.next()? {
            let line = self.line(queue.as_str(), text(row.get_ref(0)?)?)?;
            *found.entry((line, phase(row.get(1)?)?)).or_default() += 1;
        }
        Ok(found.into_iter().map(|((line, phase), jobs)| (line, phase, jobs)).collect())
    }

    /// Counts every queue's jobs as they are at a time. The horizon is moved there.
    pub(super) fn at(
        &mut self,
        connection: &Connection,
        now: Timestamp,
    ) -> Result<BTreeMap<QueueName, JobCounts>, StoreError> {
        self.move_to(connection, now)?;
        let mut all: BTreeMap<QueueName, JobCounts> = BTreeMap::new();
        for line in &self.lines {
            for phase in Phase::ALL.into_iter().filter(|phase| line.has(*phase)) {
                let counts = all.entry(line.queue.clone()).or_default();
                *counts.phases.entry(phase).or_default() += line.jobs(phase) as u64;
            }
            if let Some(counts) = all.get_mut(&line.queue) {
                counts.scheduled += line.later.fresh as u64;
                counts.retryable += line.later.retrying as u64;
            }
        }
        for (queue, counts) in &mut all {
            if counts.in_line() > 0 {
                counts.oldest_due = self.due_after(connection, queue, None)?;
            }
        }
        Ok(all)
    }

    /// Counts the jobs that fit a plain search, as they are at a time. The horizon is moved there.
    pub(super) fn fitting(
        &mut self,
        connection: &Connection,
        search: &JobSearch,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let StateFilter { phases, due_until, due_after } = &search.state;
        self.move_to(connection, due_until.or(*due_after).unwrap_or(now))?;
        let wants = |line: &&Line| {
            search.queue.as_ref().is_none_or(|queue| line.queue == *queue)
                && search.module.as_ref().is_none_or(|module| line.module == *module)
        };
        let mut jobs = 0;
        for line in self.lines.iter().filter(wants) {
            for phase in Phase::ALL.into_iter().filter(|phase| phases.is_empty() || phases.contains(phase)) {
                // Only what is in line has a time that is still to come.
                let later = if phase.is_in_line() { line.later(phase) } else { 0 };
                jobs += match (due_until, due_after) {
                    (None, None) => line.jobs(phase),
                    (Some(_), _) => line.jobs(phase) - later,
                    (None, Some(_)) => later,
                };
            }
        }
        Ok(jobs as u64)
    }

    /// Returns how many jobs of a queue wait.
    pub(super) fn waiting(&self, queue: &QueueName) -> u64 {
        let waiting = Phase::ALL.into_iter().filter(|phase| phase.is_waiting());
        let lines = self.index.get(queue).into_iter().flat_map(BTreeMap::values);
        lines.map(|line| waiting.clone().map(|phase| self.lines[*line].jobs(phase) as u64).sum::<u64>()).sum()
    }

    /// Returns how many jobs of a queue run.
    pub(super) fn running(&self, queue: &QueueName) -> u64 {
        let lines = self.index.get(queue).into_iter().flat_map(BTreeMap::values);
        lines.map(|line| self.lines[*line].jobs(Phase::Running) as u64).sum()
    }

    /// Returns how many jobs of each module are held.
    pub(super) fn held(&self) -> BTreeMap<ModuleName, u64> {
        let mut held = BTreeMap::new();
        for line in self.lines.iter().filter(|line| line.has(Phase::Held)) {
            *held.entry(line.module.clone()).or_default() += line.jobs(Phase::Held) as u64;
        }
        held
    }

    /// Returns the queues that have jobs of a module that are held.
    pub(super) fn queues_with_held(&self, module: &ModuleName) -> Vec<QueueName> {
        let has = |modules: &BTreeMap<ModuleName, usize>| {
            modules.get(module).is_some_and(|line| self.lines[*line].has(Phase::Held))
        };
        self.index.iter().filter(|(_, modules)| has(modules)).map(|(queue, _)| queue.clone()).collect()
    }

    /// Returns whether any job is pending.
    pub(super) fn any_pending(&self) -> bool {
        self.lines.iter().any(|line| line.has(Phase::Pending))
    }

    /// Returns when the next waiting job that is not due at a time will be.
    pub(super) fn next_due(
        &self,
        connection: &Connection,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let mut next: Option<Timestamp> = None;
        for queue in self.queues_in_line() {
            let due = self.due_after(connection, &queue, Some(now))?;
            next = [next, due].into_iter().flatten().min();
        }
        Ok(next)
    }

    /// The queues and modules that have jobs, or had them.
    pub(super) fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The queues with jobs in line.
    pub(super) fn queues_in_line(&self) -> Vec<QueueName> {
        let is_in_line = |line: &Line| line.has(Phase::Fresh) || line.has(Phase::Retrying);
        let waits = |modules: &BTreeMap<ModuleName, usize>| {
            modules.values().any(|line| is_in_line(&self.lines[*line]))
        };
        self.index.iter().filter(|(_, modules)| waits(modules)).map(|(queue, _)| queue.clone()).collect()
    }

    /// Keeps what was counted since the last call.
    pub(super) fn keep(&mut self) {
        self.undo.clear();
    }

    /// Forgets what was counted since [`Counts::keep`].
    pub(super) fn undo(&mut self) {
        for undo in std::mem::take(&mut self.undo).into_iter().rev() {
            match undo {
                Undo::Number { line, phase, by } => *self.lines[line].numbers.of(phase) -= by,
                Undo::Later { line, phase, by } => *self.lines[line].later.of(phase) -= by,
                Undo::InLine { line, phase, id, by } => {
                    let spans = self.lines[line].spans.of(phase);
                    spans.into_iter().for_each(|spans| spans.count(&id, -by));
                }
                Undo::Horizon { horizon, soonest } => (self.horizon, self.soonest) = (horizon, soonest),
            }
        }
    }

    /// Writes the numbers that changed. A horizon that passed no job need not be written.
    pub(super) fn flush(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let mut changed = false;
        for line in self.lines.iter_mut().filter(|line| line.changed) {
            line.write(connection)?;
            changed = true;
        }
        if changed {
            let sql = "UPDATE horizon SET at = ?1 WHERE one = 1";
            connection.prepare_cached(sql)?.execute([self.horizon.as_millis()])?;
        }
        Ok(())
    }

    /// Finds the line of a queue and module, or makes it.
    fn line(&mut self, queue: &str, module: &str) -> Result<usize, StoreError> {
        if let Some(line) = self.index.get(queue).and_then(|modules| modules.get(module)) {
            return Ok(*line);
        }
        let (queue, module): (QueueName, ModuleName) = (name(queue)?, name(module)?);
        let line = self.lines.len();
        self.index.entry(queue.clone()).or_default().insert(module.clone(), line);
        self.lines.push(Line::new(queue, module));
        Ok(line)
    }

    /// Finds when the first waiting job of a queue is due, or the first one that is due after a time.
    fn due_after(
        &self,
        connection: &Connection,
        queue: &QueueName,
        after: Option<Timestamp>,
    ) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT min(due) FROM jobs INDEXED BY jobs_waiting
               WHERE phase <= 1 AND queue = ?1 AND ranked = ?3 AND due > ?2";
        let after = after.map_or(i64::MIN, Timestamp::as_millis);
        let mut statement = connection.prepare_cached(sql)?;
        let mut first: Option<Timestamp> = None;
        for ranked in [false, true].into_iter().filter(|ranked| self.has_ranked || !ranked) {
            let due: Option<i64> =
                statement.query_row(params![queue.as_str(), after, ranked], |row| row.get(0))?;
            first = [first, due.map(Timestamp::from_millis)].into_iter().flatten().min();
        }
        Ok(first)
    }
}
