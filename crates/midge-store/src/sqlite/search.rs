//! Finds and counts the jobs that people mean. Each search walks the one index that has the fewest others; what of its
//! jobs fits is said by [`JobSearch::matches`].

use midge_core::Phase;
use midge_protocol::api::{Cursor, JobCount};
use midge_protocol::{JobId, Timestamp};
use rusqlite::types::Value;
use rusqlite::{CachedStatement, params_from_iter};

use super::decode::id;
use super::listing;
use super::read::read_job;
use super::rows::SqliteRows;
use crate::rows::{ARGS_LOOKED_AT_MAX, JOBS_COUNTED_MAX, JOBS_LOOKED_AT_MAX};
use crate::{Content, ContentRows, FoundJobs, JobSearch, StoreError};

/// Sorts after every id.
const BEYOND_IDS: [u8; 17] = [0xff; 17];

/// Finds at most `limit` jobs, in the order of the search.
pub(super) fn find(
    rows: &mut SqliteRows<'_>,
    search: &JobSearch,
    limit: usize,
) -> Result<FoundJobs, StoreError> {
    if search.is_plain() {
        return Ok(FoundJobs { jobs: listing::list(rows, search, limit)?, stopped_at: None });
    }
    let mut statements = Vec::new();
    for walk in walks(search) {
        statements.push((rows.connection.prepare_cached(walk.sql)?, walk.values));
    }
    let mut candidates = Candidates::begin(&mut statements)?;
    let mut found = FoundJobs::default();
    let mut looked_at = LookedAt::default();
    while found.jobs.len() < limit
        && let Some(candidate) = candidates.next()?
    {
        looked_at.jobs += 1;
        let mut body = rows.connection.prepare_cached("SELECT body FROM jobs WHERE row = ?1")?;
        let (connection, row) = (rows.connection, candidate.row);
        let job = body.query_row([row], |body| Ok(read_job(connection, row, body.get_ref(0)?)))??;
        let fits = match &job {
            Ok(job) => search.matches(job) && fits_args(rows, search, job.id, &mut looked_at)?,
            Err(job) => search.matches_unreadable(job),
        };
        if fits {
            found.jobs.push(job);
        }
        if looked_at.is_much() && found.jobs.len() < limit {
            found.stopped_at = Some(candidate.point(search));
            break;
        }
    }
    Ok(found)
}

fn fits_args(
    rows: &mut SqliteRows<'_>,
    search: &JobSearch,
    job: JobId,
    looked_at: &mut LookedAt,
) -> Result<bool, StoreError> {
    if search.args.is_none() {
        return Ok(true);
    }
    let args = rows.content(job, Content::Args)?.unwrap_or_default();
    looked_at.args_bytes += args.len();
    Ok(search.matches_args(&args))
}

/// How much was looked at for one page.
#[derive(Default)]
struct LookedAt {
    jobs: usize,
    args_bytes: usize,
}

impl LookedAt {
    fn is_much(&self) -> bool {
        self.jobs >= JOBS_LOOKED_AT_MAX || self.args_bytes >= ARGS_LOOKED_AT_MAX
    }
}

/// A part of an index, in the order of the search: when each job failed, where that is the order, its id and its row.
struct Walk {
    sql: &'static str,
    /// The same to be counted, where that needs no look at jobs.
    count: &'static str,
    values: Vec<Value>,
}

/// Returns the parts of indexes that have all jobs of a search that is not plain.
fn walks(search: &JobSearch) -> Vec<Walk> {
    if search.by_failure {
        return failed(search);
    }
    let (from, before) = search.ids();
    let from = Value::Blob(from.map_or(Vec::new(), |id| id.as_bytes().to_vec()));
    let before = Value::Blob(before.map_or(BEYOND_IDS.to_vec(), |id| id.as_bytes().to_vec()));
    let mut count = None;
    let (sql, by) = if let Some(tag) = &search.tag {
        // `CROSS JOIN` has SQLite begin with the tags.
        let sql = "SELECT NULL, tags.job, jobs.row FROM tags CROSS JOIN jobs INDEXED BY jobs_by_id ON jobs.id = tags.job
                   WHERE tags.tag = ?3 AND tags.job >= ?1 AND tags.job < ?2 ORDER BY tags.job DESC";
        count = Some("SELECT 1 FROM tags WHERE tag = ?3 AND job >= ?1 AND job < ?2");
        (sql, Some(Value::Text(tag.to_string())))
    } else if let Some(batch) = search.batch {
        let sql = "SELECT NULL, id, row FROM members
                   WHERE batch = ?3 AND id >= ?1 AND id < ?2 ORDER BY id DESC";
        (sql, Some(Value::Blob(batch.as_bytes().to_vec())))
    } else if let Some(parent) = search.parent {
        let sql = "SELECT NULL, id, row FROM children
                   WHERE parent = ?3 AND id >= ?1 AND id < ?2 ORDER BY id DESC";
        (sql, Some(Value::Blob(parent.as_bytes().to_vec())))
    } else if let Some(key) = &search.key {
        let sql = "SELECT NULL, id, row FROM keyed
                   WHERE key = ?3 AND id >= ?1 AND id < ?2 ORDER BY id DESC";
        (sql, Some(Value::Text(key.to_string())))
    } else {
        let sql = "SELECT NULL, id, row FROM jobs INDEXED BY jobs_by_id WHERE id >= ?1 AND id < ?2 ORDER BY id DESC";
        (sql, None)
    };
    vec![Walk { sql, count: count.unwrap_or(sql), values: [from, before].into_iter().chain(by).collect() }]
}

/// Returns the parts of the indexes of failures.
fn failed(search: &JobSearch) -> Vec<Walk> {
    let since = search.failed.since.map_or(i64::MIN, Timestamp::as_millis);
    let point = match search.before {
        Some(Cursor::Failed { at, id }) => Some((at.as_millis(), id)),
        _ => None,
    };
    let until = search.failed.until.map(|until| (until.as_millis(), JobId::from_bytes([0; 16])));
    let (at, id) = match [point, until].into_iter().flatten().min() {
        Some((at, id)) => (at, id.as_bytes().to_vec()),
        None => (i64::MAX, BEYOND_IDS.to_vec()),
    };
    let bounds = [Value::Integer(since), Value::Integer(at), Value::Blob(id)];
    let walk = |sql, by| Walk { sql, count: sql, values: bounds.iter().cloned().chain([by]).collect() };
    if let Some(failure) = search.failure {
        let sql = "SELECT failed_at, id, row FROM failed_alike
                   WHERE fingerprint = ?4 AND failed_at >= ?1 AND (failed_at, id) < (?2, ?3)
                   ORDER BY failed_at DESC, id DESC";
        return vec![walk(sql, Value::Integer(failure.0 as i64))];
    }
    if let Some(cause) = &search.cause {
        let sql = "SELECT failed_at, id, row FROM failed_for
                   WHERE cause = ?4 AND failed_at >= ?1 AND (failed_at, id) < (?2, ?3)
                   ORDER BY failed_at DESC, id DESC";
        return vec![walk(sql, Value::Text(cause.to_string()))];
    }
    let sql = "SELECT failed_at, id, row FROM failed
               WHERE phase = ?4 AND failed_at >= ?1 AND (failed_at, id) < (?2, ?3)
               ORDER BY failed_at DESC, id DESC";
    let wanted = |phase: &Phase| search.state.phases.is_empty() || search.state.phases.contains(phase);
    Phase::ALL.into_iter().filter(wanted).map(|phase| walk(sql, Value::Integer(phase as i64))).collect()
}

/// A job that may fit.
struct Candidate {
    failed_at: Option<i64>,
    id: JobId,
    row: i64,
}

impl Candidate {
    fn point(&self, search: &JobSearch) -> Cursor {
        match self.failed_at {
            Some(at) if search.by_failure => Cursor::Failed { at: Timestamp::from_millis(at), id: self.id },
            _ => Cursor::Id(self.id),
        }
    }
}

/// The jobs of all walks, in the order of the search.
struct Candidates<'a> {
    walks: Vec<(rusqlite::Rows<'a>, Option<Candidate>)>,
}

impl<'a> Candidates<'a> {
    fn begin(statements: &'a mut [(CachedStatement<'_>, Vec<Value>)]) -> Result<Candidates<'a>, StoreError> {
        let mut walks = Vec::new();
        for (statement, values) in statements {
            let mut rows = statement.query(params_from_iter(values.iter()))?;
            let first = step(&mut rows)?;
            walks.push((rows, first));
        }
        Ok(Candidates { walks })
    }

    fn next(&mut self) -> Result<Option<Candidate>, StoreError> {
        let order = |next: &Option<Candidate>| next.as_ref().map(|next| (next.failed_at, next.id));
        let first = self.walks.iter_mut().max_by_key(|(_, next)| order(next));
        let Some((rows, next)) = first else { return Ok(None) };
        let found = next.take();
        if found.is_some() {
            *next = step(rows)?;
        }
        Ok(found)
    }
}

fn step(rows: &mut rusqlite::Rows<'_>) -> Result<Option<Candidate>, StoreError> {
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(Candidate { failed_at: row.get(0)?, id: id(row.get_ref(1)?)?, row: row.get(2)? }))
}

/// Counts the jobs of a search: by the numbers that are kept where there are any, else as far as that is fast.
pub(super) fn count(
    rows: &mut SqliteRows<'_>,
    search: &JobSearch,
    now: Timestamp,
) -> Result<JobCount, StoreError> {
    let search = search.to_count();
    if search.is_plain() {
        let connection = rows.connection;
        let jobs = rows.counts()?.fitting(connection, &search, now)?;
        return Ok(JobCount { jobs, exact: true });
    }
    // Every job of the walks fits then; only of ids that were not made by a clock the time is not known.
    if search.made.is_all() && search == search.narrowest() {
        let mut jobs = 0;
        for walk in walks(&search) {
            let sql = format!("SELECT count(*) FROM ({} LIMIT {})", walk.count, JOBS_COUNTED_MAX + 1 - jobs);
            let more: i64 = rows
                .connection
                .prepare(&sql)?
                .query_row(params_from_iter(walk.values.iter()), |row| row.get(0))?;
            jobs += more as u64;
            if jobs > JOBS_COUNTED_MAX {
                return Ok(JobCount { jobs: JOBS_COUNTED_MAX, exact: false });
            }
        }
        return Ok(JobCount { jobs, exact: true });
    }
    let found = find(rows, &search, JOBS_LOOKED_AT_MAX)?;
    let jobs = found.jobs.len();
    Ok(JobCount { jobs: jobs as u64, exact: found.stopped_at.is_none() && jobs < JOBS_LOOKED_AT_MAX })
}
