//! Measures how long lists and counts take by each filter, with many jobs that wait and many that have ended: the first
//! page, one near the end, and the count. The slowest of five times is told.
//! `cargo run --release -p midge-store --example list_speed [FOLDER] [WAITING] [ENDED]`
#![allow(clippy::print_stdout)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use midge_core::{Job, JobEvent, JobSearch, Links, NewJob, StateFilter, Stretch};
use midge_protocol::api::Cursor;
use midge_protocol::exchange::Outcome;
use midge_protocol::job::{AttemptLimits, Cause, Failure, RetryPolicy, State};
use midge_protocol::{
    BatchId, JobId, JobKey, Labels, Lease, MachineName, ModuleName, QueueName, Tag, Timestamp,
};
use midge_store::{Content, FoundJobs, SqliteStore, StoreError, read, write};

/// Jobs in one transaction.
const BULK_JOBS: usize = 10_000;
/// A page, as the API asks for it.
const PAGE: usize = 51;
/// A page near the end of a list begins behind so many of the oldest jobs: of what one of a hundred has, it is the last.
const OLDEST: usize = 5_000;
/// Times that each is measured: the slowest counts.
const TIMES: usize = 5;

fn main() {
    let mut args = std::env::args().skip(1);
    let folder = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let mut number = |default| args.next().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (waiting, ended) = (number(1_000_000), number(5_000_000));
    let path = folder.join(format!("list-speed-{}.db", std::process::id()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made");
    let outcome = runtime.block_on(measure(&path, waiting, ended));
    for suffix in ["", "-wal", "-shm", "-lock"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
    }
    outcome.expect("the store works");
}

fn at(number: usize) -> Timestamp {
    Timestamp::from_millis(1_900_000_000_000 + number as i64)
}

/// Makes the ids that a server would have made, one a millisecond.
fn id(number: usize) -> JobId {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&at(number).as_millis().to_be_bytes()[2..]);
    bytes[6] = 0x70;
    bytes[8..].copy_from_slice(&(number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    JobId::from_bytes(bytes)
}

fn batch(is_rare: bool) -> BatchId {
    BatchId::from_bytes([1 + u8::from(is_rare); 16])
}

/// Most jobs are of one queue and module, complete, and have neither tag nor key. One of a hundred has each of these, and
/// one of a hundred fails; of a rare kind there is one in a hundred thousand.
fn job(number: usize, is_ended: bool) -> Job {
    let one_of = |many: usize, which: usize| number % many == which;
    let name = |common: &str| if one_of(100_000, 7) { "rare".to_owned() } else { common.to_owned() };
    let tag = |name: &str| Tag::new(name).expect("a tag");
    let tags = match number % 100 {
        3 if one_of(100_000, 3) => vec![tag("rare")],
        3 => vec![tag("common")],
        _ => Vec::new(),
    };
    let key = one_of(100, 4)
        .then(|| JobKey::new(if one_of(100_000, 4) { "rare" } else { "common" }).expect("a key"));
    let new = NewJob {
        id: id(number),
        module: ModuleName::new(name("hello")).expect("a name"),
        queue: QueueName::new(name("default")).expect("a name"),
        priority: 0,
        key,
        labels: Labels { tags, ..Labels::default() },
        content_hash: number as u64,
        retry: RetryPolicy::default(),
        limits: AttemptLimits::default(),
        has_own_time_limit: false,
        due: at(if one_of(100, 8) && !is_ended { number + 1_000_000_000 } else { number }),
        retry_until: None,
        expires_at: None,
        unique: None,
        links: Links { batch: one_of(100, 6).then(|| batch(one_of(100_000, 6))), ..Links::default() },
    };
    let job = Job::new(new, at(number));
    let fails = one_of(100, 5);
    if !is_ended && !fails {
        return job;
    }
    let machine = MachineName::new("m1").expect("a name");
    let running =
        job.apply(JobEvent::Claimed { machine: machine.clone() }, at(number)).expect("it waits").job;
    let lease = Lease { machine, attempt: running.attempt };
    let cause = match (is_ended, one_of(100_000, 5)) {
        (true, _) => Cause::Refused,
        (false, true) => Cause::Trap,
        (false, false) => Cause::Exit,
    };
    let rare = if one_of(100_000, 5) { "a needle" } else { "no such row" };
    let outcome = match fails {
        true => Outcome::Failed(Failure::new(cause, format!("user {number}: {rare}"))),
        false => Outcome::Completed { result: "ok".into() },
    };
    let event = JobEvent::Finished { lease, outcome, usage: None, jitter: 0.5 };
    running.apply(event, at(number + 1)).expect("it runs").job
}

async fn measure(path: &std::path::Path, waiting: usize, ended: usize) -> Result<(), StoreError> {
    let store = SqliteStore::open(path)?;
    let begun = Instant::now();
    for first in (0..waiting + ended).step_by(BULK_JOBS) {
        write(&store, move |rows| {
            // The oldest wait, as behind a queue that is paused: none of the newest does.
            let jobs: Vec<Job> = (first..(first + BULK_JOBS).min(waiting + ended))
                .map(|number| job(number, number >= waiting))
                .collect();
            rows.put_jobs(&jobs)?;
            jobs.iter()
                .step_by(1_000)
                .try_for_each(|job| rows.put_content(job.id, Content::Args, b"{\"width\":320}"))
        })
        .await?;
    }
    println!("{waiting} waiting and {ended} ended in {:.0} s", begun.elapsed().as_secs_f64());
    println!("{:<32} {:<19} {:<19} count", "", "first page", "near the end");
    let now = at(waiting + ended + 10);
    let all = || JobSearch::default();
    let state = move |state| JobSearch { state: StateFilter::of(state, now), ..all() };
    let failed = move |state_of| JobSearch { by_failure: true, ..state(state_of) };
    let rare = || QueueName::new("rare").expect("a name");
    let some = read(&store, move |rows| rows.jobs_found(&failed(State::Discarded), 1)).await?;
    let alike = some.jobs.iter().flatten().find_map(Job::fingerprint);
    let tag = |name: &str| JobSearch { tag: Tag::new(name).ok(), ..all() };
    let key = |name: &str| JobSearch { key: JobKey::new(name).ok(), ..all() };
    let cause = |cause| JobSearch { cause: Some(cause), by_failure: true, ..all() };
    let stretch = Stretch { since: Some(at(waiting / 2)), until: Some(at(waiting / 2 + 1_000)) };
    let searches = [
        ("all", all()),
        ("state=available", state(State::Available)),
        ("state=scheduled", state(State::Scheduled)),
        ("state=retryable", state(State::Retryable)),
        ("state=retryable, newest failure", failed(State::Retryable)),
        ("state=running", state(State::Running)),
        ("state=completed", state(State::Completed)),
        ("state=cancelled", state(State::Cancelled)),
        ("state=pending", state(State::Pending)),
        ("state=discarded", state(State::Discarded)),
        ("state=discarded, newest failure", failed(State::Discarded)),
        ("queue, most jobs", JobSearch { queue: QueueName::new("default").ok(), ..all() }),
        ("module, most jobs", JobSearch { module: ModuleName::new("hello").ok(), ..all() }),
        ("queue, few jobs", JobSearch { queue: Some(rare()), ..all() }),
        ("module, few jobs", JobSearch { module: ModuleName::new("rare").ok(), ..all() }),
        ("tag, many jobs", tag("common")),
        ("tag, few jobs", tag("rare")),
        ("batch, many jobs", JobSearch { batch: Some(batch(false)), ..all() }),
        ("batch, few jobs", JobSearch { batch: Some(batch(true)), ..all() }),
        ("key, many jobs", key("common")),
        ("key, few jobs", key("rare")),
        ("cause, many jobs", cause(Cause::Refused)),
        ("cause, few jobs", cause(Cause::Trap)),
        ("failure", JobSearch { failure: alike, by_failure: true, ..all() }),
        ("made within a second", JobSearch { made: stretch, ..all() }),
        ("failed within a second", JobSearch { failed: stretch, by_failure: true, ..all() }),
        ("text, few jobs", JobSearch { text: Some("needle".to_owned()), by_failure: true, ..all() }),
        ("args, no jobs", JobSearch { args: Some("needle".to_owned()), ..all() }),
    ];
    for (what, search) in searches {
        let (mut first, mut last, mut count) = Default::default();
        let (mut found, mut found_last, mut counted) = Default::default();
        // Most of what was discarded or refused had waited long before the rest.
        let only_ended = found_none_before(&store, &search, waiting).await?;
        let behind = if only_ended { waiting + OLDEST } else { OLDEST };
        let before = match search.by_failure {
            true => Cursor::Failed { at: at(behind), id: id(behind) },
            false => Cursor::Id(id(behind)),
        };
        for _ in 0..TIMES {
            found = timed(&mut first, list(&store, search.clone())).await?;
            let behind = JobSearch { before: Some(before), ..search.clone() };
            found_last = timed(&mut last, list(&store, behind)).await?;
            let asked = search.clone();
            let counting = read(&store, move |rows| rows.jobs_counted(&asked, now));
            counted = timed(&mut count, counting).await?;
        }
        let told = |time: Duration, found: &FoundJobs| {
            let early = if found.stopped_at.is_some() { ", early" } else { "" };
            format!("{:>6.1} ms {:>2}{early}", time.as_secs_f64() * 1e3, found.jobs.len())
        };
        let (first, last) = (told(first, &found), told(last, &found_last));
        println!("{what:<32} {first:<19} {last:<19} {:>6.1} ms {counted}", count.as_secs_f64() * 1e3);
    }
    Ok(())
}

async fn list(store: &SqliteStore, search: JobSearch) -> Result<FoundJobs, StoreError> {
    read(store, move |rows| rows.jobs_found(&search, PAGE)).await
}

/// Returns whether a search finds nothing among the first jobs.
async fn found_none_before(
    store: &SqliteStore,
    search: &JobSearch,
    first: usize,
) -> Result<bool, StoreError> {
    let before = match search.by_failure {
        true => Cursor::Failed { at: at(first), id: id(first) },
        false => Cursor::Id(id(first)),
    };
    let found = list(store, JobSearch { before: Some(before), ..search.clone() }).await?;
    Ok(found.jobs.is_empty())
}

/// Does something, and notes how long it took where it never took longer.
async fn timed<T>(slowest: &mut Duration, work: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let done = work.await;
    *slowest = begun.elapsed().max(*slowest);
    done
}
