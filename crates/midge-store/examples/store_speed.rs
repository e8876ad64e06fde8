//! Measures the SQLite store the way that a server uses it: single and bulk enqueues, claims and finishes, and the
//! same with a backlog. `cargo run --release -p midge-store --example store_speed [FOLDER] [BACKLOG] [SINGLES]`
#![allow(clippy::print_stdout)]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use midge_core::{Job, JobEvent, Links, NewJob};
use midge_protocol::exchange::Outcome;
use midge_protocol::job::{AttemptLimits, RetryPolicy, Usage};
use midge_protocol::{JobId, Labels, Lease, MachineName, ModuleName, QueueName, Timestamp};
use midge_store::{Content, SqliteStore, StoreError, read, write};

const CALLERS: usize = 32;
/// Jobs that are enqueued one by one each time; fewer, where instructions are counted (`valgrind --tool=callgrind`).
const SINGLES: usize = 40_000;
const BULK_JOBS: usize = 10_000;
const CLAIM_JOBS: usize = 64;
const HOSTS: usize = 4;

type Measured = Result<(), StoreError>;

fn main() {
    let mut args = std::env::args().skip(1);
    let folder = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let mut number = |default| args.next().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (backlog, jobs) = (number(1_000_000), number(SINGLES));
    let path = folder.join(format!("store-speed-{}.db", std::process::id()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made");
    let outcome = runtime.block_on(measure(path.clone(), backlog, jobs));
    for suffix in ["", "-wal", "-shm", "-lock"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
    }
    outcome.expect("the store works");
}

async fn measure(path: PathBuf, backlog: usize, jobs: usize) -> Measured {
    let store = Arc::new(SqliteStore::open(&path)?);
    for waiting in [0, 1_000, backlog] {
        let begun = Meter::now();
        let there = waiting_jobs(&store).await?;
        if waiting > there {
            bulk(&store, waiting - there).await?;
            rate("bulk enqueue", waiting - there, begun);
        }
        println!("-- {} waiting", waiting_jobs(&store).await?);
        let begun = Meter::now();
        let slowest = singles(&store, jobs).await?;
        rate(&format!("single enqueues, {CALLERS} callers"), jobs, begun);
        println!("{:<40} {:>9.1} ms", "  the slowest of them", slowest.as_secs_f64() * 1e3);
        let begun = Meter::now();
        drain(&store, jobs).await?;
        rate(&format!("claims and finishes, {HOSTS} hosts"), jobs, begun);
        let begun = Meter::now();
        tokio::try_join!(async { singles(&store, jobs).await.map(|_| ()) }, drain(&store, jobs))?;
        rate("all at once, per job", jobs, begun);
        let begun = Instant::now();
        read(&*store, |rows| rows.job_counts(now())).await?;
        println!("{:<40} {:>9.3} ms", "counts", begun.elapsed().as_secs_f64() * 1e3);
        println!("{:<40} {:>9} KiB", "resident", resident_kib());
    }
    let begun = Instant::now();
    drop(store);
    println!("{:<40} {:>9.1} ms", "closing", begun.elapsed().as_secs_f64() * 1e3);
    let bytes = std::fs::metadata(&path).map_or(0, |data| data.len());
    println!("{:<40} {:>9} MiB", "file", bytes / 1024 / 1024);
    let begun = Instant::now();
    let store = SqliteStore::open(&path)?;
    println!("{:<40} {:>9.1} ms", "opening", begun.elapsed().as_secs_f64() * 1e3);
    let waiting = waiting_jobs(&store).await?;
    println!(
        "{:<40} {:>9.1} ms ({waiting} waiting)",
        "opening and counting",
        begun.elapsed().as_secs_f64() * 1e3
    );
    Ok(())
}

/// Time that passed, and time that processors worked for us: on a busy machine only the second means something.
struct Meter {
    begun: Instant,
    cpu_ticks: u64,
    bytes: u64,
}

impl Meter {
    fn now() -> Meter {
        Meter { begun: Instant::now(), cpu_ticks: cpu_ticks(), bytes: bytes_written() }
    }
}

fn rate(what: &str, jobs: usize, since: Meter) {
    let a_second = jobs as f64 / since.begun.elapsed().as_secs_f64();
    // Linux counts in hundredths of a second.
    let cpu_us = (cpu_ticks() - since.cpu_ticks) as f64 * 10_000.0 / jobs as f64;
    let bytes = (bytes_written() - since.bytes) / jobs as u64;
    println!("{what:<40} {a_second:>9.0} a second {cpu_us:>6.1} us of CPU and {bytes:>6} bytes written each");
}

fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name, which may hold spaces, utime and stime are the 12th and 13th.
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    fields.filter_map(|field| field.parse::<u64>().ok()).sum()
}

fn bytes_written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    io.lines().find_map(|line| line.strip_prefix("wchar: ")).and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    Timestamp::from_millis(now.as_millis() as i64)
}

fn queue() -> QueueName {
    QueueName::default_queue()
}

fn fresh() -> Job {
    let new = NewJob {
        id: JobId::generate(),
        module: ModuleName::new("hello").expect("a name"),
        queue: queue(),
        priority: 0,
        key: None,
        labels: Labels::default(),
        content_hash: 0x1234_5678_9abc_def0,
        retry: RetryPolicy::default(),
        limits: AttemptLimits::default(),
        has_own_time_limit: false,
        due: now(),
        retry_until: None,
        expires_at: None,
        unique: None,
        links: Links::default(),
    };
    Job::new(new, now())
}

async fn waiting_jobs(store: &SqliteStore) -> Result<usize, StoreError> {
    read(store, |rows| {
        Ok(rows.job_counts(now())?.get(&queue()).map_or(0, |counts| counts.waiting() as usize))
    })
    .await
}

/// One job in each transaction, which also looks whether the queue is full.
async fn singles(store: &Arc<SqliteStore>, jobs: usize) -> Result<Duration, StoreError> {
    let left = AtomicUsize::new(jobs);
    let caller = async || -> Result<Duration, StoreError> {
        let mut slowest = Duration::ZERO;
        while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            let begun = Instant::now();
            write(&**store, |rows| {
                let job = fresh();
                rows.jobs(&[job.id])?;
                rows.job_counts(now())?;
                rows.put_jobs(std::slice::from_ref(&job))?;
                rows.put_content(job.id, Content::Args, b"{\"width\":320,\"height\":200}")
            })
            .await?;
            slowest = slowest.max(begun.elapsed());
        }
        Ok(slowest)
    };
    let callers: Vec<_> = (0..CALLERS).map(|_| caller()).collect();
    Ok(join(callers).await?.into_iter().max().unwrap_or_default())
}

async fn bulk(store: &Arc<SqliteStore>, jobs: usize) -> Measured {
    let mut left = jobs;
    while left > 0 {
        let some = left.min(BULK_JOBS);
        write(&**store, move |rows| {
            let jobs: Vec<Job> = (0..some).map(|_| fresh()).collect();
            let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
            rows.jobs(&ids)?;
            rows.job_counts(now())?;
            rows.put_jobs(&jobs)?;
            ids.iter()
                .try_for_each(|id| rows.put_content(*id, Content::Args, b"{\"width\":320,\"height\":200}"))
        })
        .await?;
        left -= some;
    }
    Ok(())
}

/// Hosts that claim jobs in one transaction and finish them in the next, together with the next claim.
async fn drain(store: &Arc<SqliteStore>, jobs: usize) -> Measured {
    let left = Arc::new(AtomicUsize::new(jobs));
    let host = async |number: usize| -> Measured {
        let machine = MachineName::new(format!("machine-{number}")).expect("a name");
        while left.load(Ordering::Relaxed) > 0 {
            let (machine, left) = (machine.clone(), left.clone());
            write(&**store, move |rows| -> Measured {
                let mut changed = Vec::new();
                for job in rows.jobs_leased(&machine)? {
                    let lease = Lease { machine: machine.clone(), attempt: job.attempt };
                    let outcome = Outcome::Completed { result: "ok".into() };
                    let usage =
                        Some(Usage { ran_us: 40, cpu_us: 38, memory_peak_bytes: 1_114_112, share_us: 40 });
                    let event = JobEvent::Finished { lease, outcome, usage, jitter: 0.0 };
                    let change = job.apply(event, now()).expect("it runs");
                    rows.put_content(job.id, Content::Result, b"42")?;
                    rows.put_attempt(job.id, &change.attempt.expect("it ended"))?;
                    changed.push(change.job);
                }
                let finished = changed.len();
                for job in rows.jobs_due(&queue(), None, now(), CLAIM_JOBS)? {
                    rows.content(job.id, Content::Args)?;
                    let event = JobEvent::Claimed { machine: machine.clone() };
                    changed.push(job.apply(event, now()).expect("it is due").job);
                }
                rows.put_jobs(&changed)?;
                let _ = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    Some(left.saturating_sub(finished))
                });
                Ok(())
            })
            .await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    };
    let hosts: Vec<_> = (0..HOSTS).map(host).collect();
    join(hosts).await.map(|_| ())
}

async fn join<T>(futures: Vec<impl Future<Output = Result<T, StoreError>>>) -> Result<Vec<T>, StoreError> {
    let futures =
        futures.into_iter().map(|future| -> std::pin::Pin<Box<dyn Future<Output = _>>> { Box::pin(future) });
    midge_store::conformance::fixtures::all(futures.collect()).await.into_iter().collect()
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}
