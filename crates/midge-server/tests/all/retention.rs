//! Old jobs are deleted as their queue says, and in steps that hold up nobody.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use midge_core::{Ending, Job, JobState, Phase};
use midge_protocol::Timestamp;
use midge_protocol::manifest::{Keep, QueuePolicy, ServerPolicy};
use midge_server::Access;
use midge_store::conformance::fixtures::{id, job, put, queue};
use midge_store::{MemoryStore, ReadWork, Rows, Store, StoreError, WriteWork, read};

use crate::stage::{HELLO, Server, catalog, made};

const DEADLINE: Duration = Duration::from_secs(120);
const HOUR_MS: u64 = 3_600_000;
const JOBS: u128 = 100_000;

/// A job that ended so long ago, by the real clock.
fn ended(number: u128, of: &str, how: Ending, hours: u64) -> Job {
    let now = Timestamp::from_millis(
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64,
    );
    let at = now.before(Duration::from_millis(hours * HOUR_MS));
    Job { state: JobState::Ended { how, due: at, at }, ..job(number, of, 0) }
}

/// A store that says how many jobs each transaction deleted, and which enqueued one.
struct Watched {
    store: MemoryStore,
    seen: Arc<Mutex<Vec<i64>>>,
}

fn jobs(rows: &mut dyn Rows) -> Result<i64, StoreError> {
    let counts = rows.job_counts(Timestamp::LATEST)?;
    Ok(counts.values().flat_map(|counts| counts.phases.values()).sum::<u64>() as i64)
}

#[async_trait]
impl Store for Watched {
    async fn write_boxed(&self, work: WriteWork) -> Result<(), StoreError> {
        let seen = self.seen.clone();
        let watched = Box::new(move |rows: &mut dyn Rows| {
            let before = jobs(rows)?;
            work(rows)?;
            seen.lock().unwrap().push(jobs(rows)? - before);
            Ok(())
        });
        self.store.write_boxed(watched).await
    }

    async fn read_boxed(&self, work: ReadWork) -> Result<(), StoreError> {
        self.store.read_boxed(work).await
    }

    fn check(&self) -> Result<(), StoreError> {
        self.store.check()
    }
}

async fn left(store: &dyn Store) -> BTreeMap<String, [u64; 3]> {
    let counts = read(store, |rows| rows.job_counts(Timestamp::LATEST)).await.unwrap();
    let phases = [Phase::Completed, Phase::Cancelled, Phase::Discarded];
    counts
        .into_iter()
        .map(|(queue, counts)| (queue.to_string(), phases.map(|phase| counts.phase(phase))))
        .collect()
}

async fn until(store: &dyn Store, expected: &BTreeMap<String, [u64; 3]>) {
    let began = Instant::now();
    while left(store).await != *expected {
        assert!(began.elapsed() < DEADLINE, "{:?}", left(store).await);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn each_queue_keeps_its_jobs_as_long_as_it_says_and_others_as_long_as_usual() {
    let store = Arc::new(MemoryStore::new());
    let completed = Ending::Completed { result_bytes: 0 };
    let mut all = Vec::new();
    for of in ["default", "short", "long"] {
        for how in [completed, Ending::Cancelled, Ending::Discarded] {
            for hours in [2, 30, 200] {
                all.push(ended(all.len() as u128, of, how, hours));
            }
        }
    }
    put(&*store, &all).await.unwrap();
    let hours = |hours: u64| Some(hours * HOUR_MS);
    let keep = |completed_ms, cancelled_ms, discarded_ms| {
        let keep = Keep { completed_ms, cancelled_ms, discarded_ms };
        QueuePolicy { keep, ..QueuePolicy::default() }
    };
    let queues = [
        (queue("default"), QueuePolicy::default()),
        (queue("short"), keep(hours(1), None, hours(3))),
        (queue("long"), keep(hours(100), hours(300), None)),
    ];
    let catalog = catalog(queues.into(), ServerPolicy::default());
    let _server = Server::of(store.clone(), made, catalog, Access::Loopback).await;
    // Usually a day, and a week in the dead set.
    let expected = [("default", [1, 1, 2]), ("short", [0, 1, 1]), ("long", [2, 3, 2])];
    until(&*store, &expected.map(|(name, left)| (name.to_owned(), left)).into()).await;
}

#[tokio::test]
async fn a_hundred_thousand_old_jobs_go_in_small_steps_between_which_others_have_their_turn() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let store = Arc::new(Watched { store: MemoryStore::new(), seen: seen.clone() });
    let old: Vec<Job> = (0..JOBS).map(|number| ended(number, "default", Ending::Cancelled, 48)).collect();
    put(&store.store, &old).await.unwrap();
    let server = Server::on(store.clone(), QueuePolicy::default()).await;
    let mut enqueued = 0;
    while left(&*store).await["default"] != [0; 3] {
        server.enqueued(HELLO).await;
        enqueued += 1;
        tokio::task::yield_now().await;
        assert!(enqueued < JOBS, "nothing is deleted");
    }
    let seen = seen.lock().unwrap().clone();
    let deleted = seen.iter().filter(|change| **change < 0);
    assert_eq!(deleted.clone().sum::<i64>(), -(JOBS as i64));
    let largest = deleted.min().unwrap();
    assert!(*largest >= -250, "{largest} in one transaction");
    // An enqueue waited for one step at most: they came in turns.
    let mut steps = 0;
    let longest = seen.iter().map(|change| {
        steps = if *change < 0 { steps + 1 } else { 0 };
        steps
    });
    let longest = longest.max().unwrap();
    assert!(longest <= 2, "{longest} steps in a row, while {enqueued} jobs were enqueued");
    assert!(read(&*store, |rows| rows.jobs(&[id(0)])).await.unwrap()[0].is_none());
}
