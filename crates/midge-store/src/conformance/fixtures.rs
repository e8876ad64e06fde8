//! Jobs, Machines and times for the rules, all made the way that `midge-core` makes them; and databases to damage.

use std::path::PathBuf;
use std::pin::Pin;
use std::task::Poll;

use midge_core::{Job, JobEvent, Links, Machine, MachineState, NewJob};
use midge_protocol::exchange::Outcome;
use midge_protocol::job::{AttemptLimits, Cause, Failure, RetryPolicy, Usage};
use midge_protocol::manifest::QueuePolicy;
use midge_protocol::{JobId, Labels, Lease, MachineName, ModuleName, QueueName, Timestamp};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::{Rows, SqliteStore, Store, StoreError, read, write};

/// A time: so many milliseconds after an arbitrary one.
pub fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_900_000_000_000 + millis)
}

/// A job's id, which sorts as its number.
pub fn id(number: u128) -> JobId {
    JobId::from_bytes(number.to_be_bytes())
}

/// A queue's name.
pub fn queue(name: &str) -> QueueName {
    QueueName::new(name).expect("rules use names that are names")
}

/// A module's name.
pub fn module(name: &str) -> ModuleName {
    ModuleName::new(name).expect("rules use names that are names")
}

/// A Machine's name.
pub fn machine_name(name: &str) -> MachineName {
    MachineName::new(name).expect("rules use names that are names")
}

/// A fresh job of a queue, for the module `hello`.
pub fn job(number: u128, queue_name: &str, due: i64) -> Job {
    job_of(number, queue_name, "hello", due)
}

/// A fresh job.
pub fn job_of(number: u128, queue_name: &str, module_name: &str, due: i64) -> Job {
    let new = NewJob {
        id: id(number),
        module: module(module_name),
        queue: queue(queue_name),
        priority: 0,
        key: None,
        labels: Labels::default(),
        content_hash: number as u64,
        retry: RetryPolicy::default(),
        limits: AttemptLimits::default(),
        has_own_time_limit: false,
        due: at(due),
        retry_until: None,
        expires_at: None,
        unique: None,
        links: Links::default(),
    };
    Job::new(new, at(due.min(0)))
}

/// The job after an event that applies to it.
pub fn after(job: &Job, event: JobEvent, now: Timestamp) -> Job {
    job.apply(event, now).expect("rules use events that apply").job
}

/// The job, leased to a Machine.
pub fn running(job: &Job, machine: &str) -> Job {
    after(job, JobEvent::Claimed { machine: machine_name(machine) }, job.due())
}

/// The job after an attempt that ended at a time.
pub fn finished(job: &Job, outcome: Outcome, now: Timestamp) -> Job {
    let (job, lease) = match job.lease() {
        Some(lease) => (job.clone(), lease.clone()),
        None => {
            let job = running(job, "machine-1");
            let lease = Lease { machine: machine_name("machine-1"), attempt: job.attempt };
            (job, lease)
        }
    };
    after(&job, JobEvent::Finished { lease, outcome, usage: Some(Usage::default()), jitter: 0.5 }, now)
}

/// The job, completed at a time.
pub fn completed(job: &Job, now: Timestamp) -> Job {
    finished(job, Outcome::Completed { result: "yes".into() }, now)
}

/// The job after an attempt that failed, waiting for the next.
pub fn failed(job: &Job, now: Timestamp) -> Job {
    let mut failure = Failure::new(Cause::Exit, "it said \"no\"\nand \u{1F99F} left");
    failure.exit_code = Some(3);
    finished(job, Outcome::Failed(failure), now)
}

/// The job, discarded at a time.
pub fn discarded(job: &Job, now: Timestamp) -> Job {
    finished(job, Outcome::Failed(Failure::new(Cause::Refused, "never again")), now)
}

/// The job, cancelled at a time.
pub fn cancelled(job: &Job, now: Timestamp) -> Job {
    after(job, JobEvent::CancelAsked, now)
}

/// A Machine whose host phones home.
pub fn machine(name: &str) -> Machine {
    let generation = "sha256:0".to_owned();
    let policy = QueuePolicy::default();
    Machine::new(machine_name(name), queue("default"), generation, &policy, MachineState::Up, at(0))
}

/// Writes jobs.
pub async fn put(store: &dyn Store, jobs: &[Job]) -> Result<(), StoreError> {
    let jobs = jobs.to_vec();
    write(store, move |rows| rows.put_jobs(&jobs)).await
}

/// The file of a SQLite database, which can be damaged. It goes when this is dropped.
pub struct Database {
    path: PathBuf,
    _folder: TempDir,
}

impl Database {
    /// Names a file in a folder of its own, and makes none yet.
    pub fn fresh() -> Database {
        let folder = TempDir::new().expect("there is a place for temporary files");
        Database { path: folder.path().join("midge.db"), _folder: folder }
    }

    /// The store in it.
    pub fn open(&self) -> SqliteStore {
        SqliteStore::open(&self.path).expect("a store opens, whatever is in its rows")
    }

    /// Does SQL beside the store, as nobody should, and returns how many rows it changed.
    pub fn sql(&self, sql: &str, values: impl rusqlite::Params) -> usize {
        let database = Connection::open(&self.path).expect("it can be opened");
        database.execute(sql, values).expect("tests use SQL that is SQL")
    }

    /// Writes over a job, which has to be there.
    pub fn garble(&self, job: JobId, garbage: &str) {
        let sql = "UPDATE jobs SET body = ?2 WHERE id = ?1";
        assert_eq!(self.sql(sql, rusqlite::params![job.as_bytes(), garbage]), 1, "there is no job {job}");
    }
}

/// Asks the same in a transaction that writes and in one that reads, and makes sure that both say the same.
pub async fn ask<T: Send + PartialEq + std::fmt::Debug + 'static>(
    store: &dyn Store,
    question: impl Fn(&mut dyn Rows) -> Result<T, StoreError> + Clone + Send + 'static,
) -> Result<T, StoreError> {
    let in_read = read(store, question.clone()).await?;
    let in_write = write(store, question).await?;
    assert_eq!(in_read, in_write, "reads and writes see the same rows");
    Ok(in_write)
}

/// Polls all of the futures until all have ended.
pub async fn all<'a, T: 'a>(mut futures: Vec<Pin<Box<dyn Future<Output = T> + 'a>>>) -> Vec<T> {
    let mut outcomes: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(move |context| {
        for (future, outcome) in futures.iter_mut().zip(&mut outcomes) {
            if outcome.is_none()
                && let Poll::Ready(ready) = future.as_mut().poll(context)
            {
                *outcome = Some(ready);
            }
        }
        if outcomes.iter().all(Option::is_some) {
            Poll::Ready(outcomes.drain(..).flatten().collect())
        } else {
            Poll::Pending
        }
    })
    .await
}

/// Numbers that look like chance and are the same each time.
pub struct Chance(u64);

impl Chance {
    /// Begins with a seed.
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// Returns a number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        // Knuth's MMIX constants; the upper bits are the better ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}
