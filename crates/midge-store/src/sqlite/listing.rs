//! Lists jobs by state, queue and module, newest id first, so that no search makes it look at all jobs.
//!
//! Most pages are found among the newest jobs. For one that is not, each index that holds such jobs gives its newest,
//! and `counts` says which parts of an index are not empty.

use midge_core::Phase;
use midge_protocol::{JobId, ModuleName, QueueName};
use rusqlite::params;

use super::counts::{IdSpan, Spans};
use super::decode::{id, phase, text};
use super::read::read_job;
use super::rows::SqliteRows;
use crate::{JobSearch, ReadJob, StoreError};

/// How many of the newest jobs are looked at first, which takes a millisecond or two.
const NEWEST_JOBS: usize = 2_000;
/// How many are looked at where jobs in line are, which takes some 20 ms, before all that are in line are looked at.
const SPANNED_JOBS: usize = 20_000;
/// Sorts after every id.
const BEYOND_IDS: [u8; 17] = [0xff; 17];

pub(super) fn list(
    rows: &mut SqliteRows<'_>,
    search: &JobSearch,
    limit: usize,
) -> Result<Vec<ReadJob>, StoreError> {
    let listing = Listing { search, limit };
    let (mut jobs, rest) = listing.among_newest(rows)?;
    if let Some(before) = rest {
        let listing = Listing { search, limit: limit - jobs.len() };
        let mut found = listing.listed(rows, before)?;
        found.append(&mut listing.running(rows, before)?);
        found.append(&mut match listing.in_spans(rows, before)? {
            Some(in_line) => in_line,
            None => listing.in_line(rows, before)?,
        });
        found.sort_unstable_by(|a, b| b.cmp(a));
        found.truncate(listing.limit);
        let mut statement = rows.connection.prepare_cached("SELECT body FROM jobs WHERE row = ?1")?;
        for (_, row) in found {
            let connection = rows.connection;
            jobs.push(statement.query_row([row], |found| Ok(read_job(connection, row, found.get_ref(0)?)))??);
        }
    }
    Ok(jobs)
}

type Found = Vec<(JobId, i64)>;

struct Listing<'a> {
    search: &'a JobSearch,
    limit: usize,
}

impl Listing<'_> {
    /// Looks at the newest jobs. Returns those that fit and, where older ones may fit, the id before which they are.
    fn among_newest(&self, rows: &SqliteRows<'_>) -> Result<(Vec<ReadJob>, Option<JobId>), StoreError> {
        let mut statement = rows.connection.prepare_cached(
            "SELECT id, queue, module, phase, due, body, row FROM jobs INDEXED BY jobs_by_id
             WHERE id < ?1 ORDER BY id DESC",
        )?;
        let before = self.search.ids().1;
        let before: &[u8] = before.as_ref().map_or(&BEYOND_IDS, |id| id.as_bytes());
        let mut jobs = Vec::new();
        let mut looked_at = 0;
        let mut found = statement.query([before])?;
        while jobs.len() < self.limit
            && let Some(row) = found.next()?
        {
            let (queue, module) = (text(row.get_ref(1)?)?, text(row.get_ref(2)?)?);
            if self.wants(queue, module, phase(row.get(3)?)?) && self.wants_due(row.get(4)?) {
                jobs.push(read_job(rows.connection, row.get(6)?, row.get_ref(5)?)?);
            }
            looked_at += 1;
            if looked_at == NEWEST_JOBS {
                let rest = (jobs.len() < self.limit).then_some(id(row.get_ref(0)?)?);
                return Ok((jobs, rest));
            }
        }
        Ok((jobs, None))
    }

    /// Looks at the newest jobs of each part of an index that may hold some that fit.
    fn listed(&self, rows: &mut SqliteRows<'_>, before: JobId) -> Result<Found, StoreError> {
        let phases = [Phase::Completed, Phase::Cancelled, Phase::Discarded, Phase::Held, Phase::Pending];
        let parts = self.parts(rows, &phases)?;
        let sql = "SELECT id, row FROM jobs INDEXED BY jobs_listed
                   WHERE phase >= 3 AND queue = ?1 AND module = ?2 AND phase = ?3
                   AND id < ?4 AND due > ?5 AND due <= ?6 ORDER BY id DESC LIMIT ?7";
        let (after, until) = self.due();
        let mut found = Vec::new();
        for (queue, module, phase) in parts {
            let (queue, module, phase) = (queue.as_str(), module.as_str(), phase as i64);
            let values = params![queue, module, phase, before.as_bytes(), after, until, self.limit as i64];
            self.collect(rows, sql, values, &mut found)?;
        }
        Ok(found)
    }

    /// Returns the queues and modules that have jobs that may fit in some of the phases.
    fn parts(
        &self,
        rows: &mut SqliteRows<'_>,
        phases: &[Phase],
    ) -> Result<Vec<(QueueName, ModuleName, Phase)>, StoreError> {
        let mut parts = Vec::new();
        for line in rows.counts()?.lines() {
            for phase in phases.iter().copied() {
                if line.has(phase) && self.wants(line.queue.as_str(), line.module.as_str(), phase) {
                    parts.push((line.queue.clone(), line.module.clone(), phase));
                }
            }
        }
        Ok(parts)
    }

    /// Looks at all running jobs: there are never more than places in Machines.
    fn running(&self, rows: &mut SqliteRows<'_>, before: JobId) -> Result<Found, StoreError> {
        let mut found = Vec::new();
        if !self.wants_phase(Phase::Running) {
            return Ok(found);
        }
        let sql = "SELECT id, row FROM jobs INDEXED BY jobs_leased
                   WHERE machine IS NOT NULL AND id < ?1 AND due > ?2 AND due <= ?3
                   AND (?4 IS NULL OR queue = ?4) AND (?5 IS NULL OR module = ?5) ORDER BY id DESC LIMIT ?6";
        let (after, until) = self.due();
        let (queue, module) = self.names();
        let values = params![before.as_bytes(), after, until, queue, module, self.limit as i64];
        self.collect(rows, sql, values, &mut found)?;
        Ok(found)
    }

    /// Looks at the jobs where jobs in line are. Returns nothing where those that fit are spread over too many others, or are
    /// so few that it is as well to look at all that are in line.
    fn in_spans(&self, rows: &mut SqliteRows<'_>, before: JobId) -> Result<Option<Found>, StoreError> {
        let (mut spans, mut in_line) = (Vec::new(), 0);
        for line in rows.counts()?.lines() {
            for phase in [Phase::Fresh, Phase::Retrying] {
                if self.wants(line.queue.as_str(), line.module.as_str(), phase) {
                    in_line += line.jobs(phase) as usize;
                    spans.extend(line.spans(phase).into_iter().flat_map(Spans::ids));
                }
            }
        }
        if in_line < SPANNED_JOBS {
            return Ok(None);
        }
        let mut statement = rows.connection.prepare_cached(
            "SELECT id, row, queue, module, phase, due FROM jobs INDEXED BY jobs_by_id
             WHERE id >= ?1 AND id < ?2 ORDER BY id DESC",
        )?;
        let (mut found, mut looked_at) = (Found::new(), 0);
        for (first, beyond) in apart(spans).into_iter().rev().filter(|(first, _)| *first < before) {
            let beyond = beyond.map_or(before, |beyond| beyond.min(before));
            let mut jobs = statement.query([first.as_bytes(), beyond.as_bytes()])?;
            while found.len() < self.limit
                && let Some(job) = jobs.next()?
            {
                let phase = phase(job.get(4)?)?;
                let (queue, module) = (text(job.get_ref(2)?)?, text(job.get_ref(3)?)?);
                if phase.is_in_line() && self.wants(queue, module, phase) && self.wants_due(job.get(5)?) {
                    found.push((id(job.get_ref(0)?)?, job.get(1)?));
                }
                looked_at += 1;
                if looked_at == SPANNED_JOBS {
                    return Ok(None);
                }
            }
        }
        Ok(Some(found))
    }

    /// Looks at all jobs in line of the queues that have some that may fit, in an index that has every column that is asked for: with a million of
    /// them, it takes a fifth of a second.
    fn in_line(&self, rows: &mut SqliteRows<'_>, before: JobId) -> Result<Found, StoreError> {
        let mut found = Vec::new();
        let sql = "SELECT id, row FROM jobs INDEXED BY jobs_waiting
                   WHERE phase <= 1 AND queue = ?1 AND ranked IN (0, 1) AND due > ?2 AND due <= ?3 AND id < ?4
                   AND (?5 IS NULL OR module = ?5) AND phase IN (?6, ?7) ORDER BY id DESC LIMIT ?8";
        let fresh = self.wants_phase(Phase::Fresh).then_some(Phase::Fresh as i64);
        let retrying = self.wants_phase(Phase::Retrying).then_some(Phase::Retrying as i64);
        if fresh.or(retrying).is_none() {
            return Ok(found);
        }
        let (after, until) = self.due();
        let (_, module) = self.names();
        let mut queues: Vec<QueueName> = Vec::new();
        for (queue, _, _) in self.parts(rows, &[Phase::Fresh, Phase::Retrying])? {
            if !queues.contains(&queue) {
                queues.push(queue);
            }
        }
        for queue in queues {
            let (queue, limit) = (queue.as_str(), self.limit as i64);
            let values = params![queue, after, until, before.as_bytes(), module, fresh, retrying, limit];
            self.collect(rows, sql, values, &mut found)?;
        }
        Ok(found)
    }

    fn collect(
        &self,
        rows: &SqliteRows<'_>,
        sql: &str,
        values: &[&dyn rusqlite::ToSql],
        found: &mut Found,
    ) -> Result<(), StoreError> {
        let mut statement = rows.connection.prepare_cached(sql)?;
        let mut rows = statement.query(values)?;
        while let Some(row) = rows.next()? {
            found.push((id(row.get_ref(0)?)?, row.get(1)?));
        }
        Ok(())
    }

    fn wants(&self, queue: &str, module: &str, phase: Phase) -> bool {
        let (wanted_queue, wanted_module) = self.names();
        self.wants_phase(phase)
            && wanted_queue.is_none_or(|wanted| wanted == queue)
            && wanted_module.is_none_or(|wanted| wanted == module)
    }

    fn wants_phase(&self, phase: Phase) -> bool {
        self.search.state.phases.is_empty() || self.search.state.phases.contains(&phase)
    }

    fn wants_due(&self, due: i64) -> bool {
        let (after, until) = self.due();
        after < due && due <= until
    }

    /// Returns after and until when a job is to be due, in milliseconds.
    fn due(&self) -> (i64, i64) {
        let after = self.search.state.due_after.map_or(i64::MIN, |due| due.as_millis());
        let until = self.search.state.due_until.map_or(i64::MAX, |due| due.as_millis());
        (after, until)
    }

    fn names(&self) -> (Option<&str>, Option<&str>) {
        let queue = self.search.queue.as_ref().map(|queue| queue.as_str());
        let module = self.search.module.as_ref().map(|module| module.as_str());
        (queue, module)
    }
}

/// Makes one of spans that overlap. Returns them in the order of ids.
fn apart(mut spans: Vec<IdSpan>) -> Vec<IdSpan> {
    spans.sort_unstable();
    let mut apart: Vec<IdSpan> = Vec::new();
    for (first, beyond) in spans {
        match apart.last_mut() {
            // Nothing is beyond the last.
            Some((_, end)) if end.is_none_or(|end| first <= end) => {
                *end = end.zip(beyond).map(|(end, beyond)| end.max(beyond));
            }
            _ => apart.push((first, beyond)),
        }
    }
    apart
}
