//! Lists jobs by state, queue and module, newest id first, so that no search makes it look at all jobs.
//!
//! Most pages are found among the newest jobs. For one that is not, each index that holds such jobs gives its newest,
//! and `counts` says which parts of an index are not empty.

use std::collections::BTreeSet;

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
const IN_LINE: [Phase; 2] = [Phase::Fresh, Phase::Retrying];
/// Sorts after every id.
const BEYOND_IDS: [u8; 17] = [0xff; 17];

pub(super) fn list(
    rows: &mut SqliteRows<'_>,
    search: &JobSearch,
    limit: usize,
) -> Result<Vec<ReadJob>, StoreError> {
    let listing = Listing { search, limit, spanned_max: SPANNED_JOBS };
    let (mut jobs, rest) = listing.among_newest(rows)?;
    if let Some(before) = rest {
        let listing = Listing { limit: limit - jobs.len(), ..listing };
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

#[derive(Clone, Copy)]
struct Listing<'a> {
    search: &'a JobSearch,
    limit: usize,
    /// How many jobs are looked at where jobs in line are.
    spanned_max: usize,
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

    /// Looks at the jobs where jobs in line are. Returns nothing where those that fit are spread over too many others, or where
    /// [`Listing::in_line`] looks at no more.
    fn in_spans(&self, rows: &mut SqliteRows<'_>, before: JobId) -> Result<Option<Found>, StoreError> {
        let parts = self.parts(rows, &IN_LINE)?;
        let queues: BTreeSet<&QueueName> = parts.iter().map(|(queue, _, _)| queue).collect();
        let (mut spans, mut in_line) = (Vec::new(), 0);
        for line in rows.counts()?.lines().iter().filter(|line| queues.contains(&line.queue)) {
            for phase in IN_LINE {
                in_line += line.jobs(phase) as usize;
                if self.wants(line.queue.as_str(), line.module.as_str(), phase) {
                    spans.extend(line.spans(phase).into_iter().flat_map(Spans::ids));
                }
            }
        }
        if in_line < self.spanned_max {
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
                if looked_at == self.spanned_max {
                    return Ok(None);
                }
            }
        }
        Ok(Some(found))
    }

    /// Looks at all jobs in line of the queues that have some that may fit, in an index that has every column that is asked
    /// for: with a million of them, it takes a fifth of a second.
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
        let parts = self.parts(rows, &IN_LINE)?;
        let queues: BTreeSet<QueueName> = parts.into_iter().map(|(queue, _, _)| queue).collect();
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

#[cfg(test)]
mod tests {
    use midge_core::{Job, StateFilter};
    use rusqlite::Connection;
    use tempfile::TempDir;

    use super::*;
    use crate::JobRows;
    use crate::conformance::fixtures::{Chance, at, completed, failed, id, job_of, module, queue, running};
    use crate::sqlite::SqliteSettings;
    use crate::sqlite::connection::open_writer;
    use crate::sqlite::counts::Counts;
    use crate::sqlite::file::DatabaseFile;
    use crate::sqlite::rows::Guard;

    const QUEUES: [&str; 2] = ["a", "b"];
    const MODULES: [&str; 2] = ["x", "y"];
    /// No job of the test is as late.
    const LATE: i64 = 1_000;

    /// A job whose id begins with a number, of some queue and module and in some state.
    fn any_job(number: u64, chance: &mut Chance) -> Job {
        // One module is rare.
        let module = MODULES[usize::from(chance.below(20) == 0)];
        let queue = QUEUES[chance.below(2) as usize];
        let job = job_of(u128::from(number) << 80, queue, module, chance.below(LATE as u64) as i64);
        match chance.below(6) {
            0 => completed(&job, at(LATE)),
            1 => failed(&job, at(LATE)),
            2 => running(&job, "machine-1"),
            _ => job,
        }
    }

    fn searches() -> impl Iterator<Item = JobSearch> {
        let any = StateFilter::default;
        let states = [
            any(),
            StateFilter { phases: vec![Phase::Fresh], ..any() },
            StateFilter { phases: vec![Phase::Retrying], ..any() },
            StateFilter { due_until: Some(at(LATE / 2)), ..any() },
            StateFilter { phases: vec![Phase::Fresh], due_after: Some(at(LATE / 2)), ..any() },
        ];
        let names = |names: [&'static str; 2]| [None].into_iter().chain(names.map(Some));
        states.into_iter().flat_map(move |state| {
            names(QUEUES).flat_map(move |in_queue| {
                let state = state.clone();
                names(MODULES).map(move |of_module| JobSearch {
                    state: state.clone(),
                    queue: in_queue.map(queue),
                    module: of_module.map(module),
                    ..JobSearch::default()
                })
            })
        })
    }

    /// Lists by spans and without them, from several points on. Returns how many lists there were by spans.
    fn compare(connection: &Connection, counts: &mut Option<Counts>, newest: u64) -> usize {
        let mut rows = SqliteRows::to_read(connection, counts);
        let mut by_spans = 0;
        for search in searches() {
            for (limit, before) in [(1, newest / 2), (7, newest), (10_000, newest), (10_000, newest / 3)] {
                let before = id(u128::from(before) << 80);
                let listing = Listing { search: &search, limit, spanned_max: 50 };
                let all = Listing { spanned_max: usize::MAX, ..listing }.in_line(&mut rows, before).unwrap();
                let mut all: Vec<_> = all.into_iter().collect();
                all.sort_unstable_by(|a, b| b.cmp(a));
                all.truncate(limit);
                if let Some(found) = listing.in_spans(&mut rows, before).unwrap() {
                    assert_eq!(found, all, "{search:?} {limit} {before}");
                    by_spans += 1;
                }
            }
        }
        by_spans
    }

    #[test]
    fn a_list_by_spans_is_that_of_all_jobs_in_line() {
        let folder = TempDir::new().unwrap();
        let file = DatabaseFile::open(&folder.path().join("midge.db")).unwrap();
        let connection = open_writer(&file, &SqliteSettings::default()).unwrap();
        let mut chance = Chance::new(1);
        let mut counts = None;
        let mut by_spans = 0;
        let mut there: Vec<Job> = Vec::new();
        for step in 0..40 {
            let mut rows = SqliteRows::to_write(&connection, &mut counts, Guard::Transaction);
            // Long stretches of what has ended, and of what is in line; now and then an id of before.
            let new = (0..20).map(|n| {
                let number = if n % 9 == 0 { chance.below(step * 20 + 1) } else { step * 20 + n };
                if step % 4 == 1 {
                    completed(&job_of(u128::from(number) << 80, "a", "x", 0), at(LATE))
                } else {
                    any_job(number, &mut chance)
                }
            });
            let new: Vec<Job> = new.collect();
            rows.put_jobs(&new).unwrap();
            let ended: Vec<Job> = there.iter().filter(|_| chance.below(9) == 0).cloned().collect();
            for job in ended {
                rows.delete_job(job.id).unwrap();
            }
            there.extend(new);
            drop(rows);
            // Work that fails undoes its part of the numbers, as the writer does.
            counts.as_mut().unwrap().keep();
            connection.execute_batch("SAVEPOINT vain").unwrap();
            let mut vain = SqliteRows::to_write(&connection, &mut counts, Guard::Transaction);
            vain.put_jobs(&[any_job(1_000_000 + step, &mut chance)]).unwrap();
            vain.delete_job(there[chance.below(there.len() as u64) as usize].id).unwrap();
            drop(vain);
            connection.execute_batch("ROLLBACK TO vain; RELEASE vain").unwrap();
            counts.as_mut().unwrap().undo();
            if step % 5 == 4 {
                by_spans += compare(&connection, &mut counts, step * 20 + 20);
            }
        }
        assert!(by_spans > 100, "the test is about lists by spans, and made {by_spans}");
    }

    #[test]
    fn spans_that_overlap_or_touch_are_one() {
        let span = |first, beyond: Option<u128>| (id(first), beyond.map(id));
        let one = |spans: &[IdSpan]| apart(spans.to_vec());
        assert_eq!(one(&[]), []);
        assert_eq!(one(&[span(5, Some(7)), span(1, Some(3))]), [span(1, Some(3)), span(5, Some(7))]);
        assert_eq!(one(&[span(1, Some(3)), span(3, Some(4))]), [span(1, Some(4))]);
        assert_eq!(one(&[span(1, Some(9)), span(2, Some(3)), span(8, Some(10))]), [span(1, Some(10))]);
        assert_eq!(one(&[span(1, None), span(2, Some(3))]), [span(1, None)]);
        assert_eq!(one(&[span(1, Some(3)), span(2, None), span(5, None)]), [span(1, None)]);
    }
}
