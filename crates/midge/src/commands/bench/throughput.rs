//! `midge bench throughput`: jobs a second, enqueued and run, and what each costs.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use midge_client::{Client, EnqueueRequest};
use midge_protocol::QueueName;
use midge_protocol::job::State;
use midge_protocol::manifest::QueuePolicy;
use midge_server::Midge;
use serde::Serialize;
use tokio::task::JoinSet;

use super::lab::{self, Lab};
use super::processes::Used;
use super::report::{Better, Measure, Report, Row, Unit};
use super::{Bench, modules};
use crate::progress::spinner;
use crate::stop::Stop;

/// How long single enqueues go on.
const SINGLES_TIME: Duration = Duration::from_secs(3);
/// Callers at once.
const CALLERS: u32 = 32;
/// Jobs in one bulk enqueue.
const BULK_JOBS: usize = 1_000;
/// Bulk enqueues that are timed.
const BULKS: usize = 100;
/// Jobs that each Machine runs at once.
const PLACES: u32 = 32;
/// Jobs that are run to their ends.
const DRAINED_JOBS: usize = 20_000;
/// What has not been run by then is not waited for.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(40);
/// How often the ended jobs are counted.
const COUNT_EVERY: Duration = Duration::from_millis(20);

/// Measure jobs a second: enqueued singly and in bulk, and run to their ends
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every enqueue is durable before it is answered. Server, flylet and callers are in this process
and share its CPUs; hosts are processes. CPU time is that of all of them.

Examples:
  midge bench throughput
  midge bench throughput --json")]
pub(super) struct Args {}

/// How many jobs a second something took, and what each cost.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    what: String,
    jobs: usize,
    a_second: f64,
    cpu_us_each: f64,
    written_bytes_each: f64,
}

impl Row for Figures {
    const HEADS: &'static [&'static str] = &["WHAT", ">JOBS", ">A SECOND", ">CPU EACH", ">WRITTEN EACH"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.what.clone(),
            self.jobs.to_string(),
            format!("{:.0}", self.a_second),
            format!("{:.0} us", self.cpu_us_each),
            crate::words::bytes(self.written_bytes_each as u64),
        ]
    }

    fn name(&self) -> String {
        self.what.clone()
    }

    fn measures(&self) -> Vec<Measure> {
        vec![
            Measure::once("rate", Unit::PerSecond, Better::Higher, self.a_second),
            Measure::once("cpu each", Unit::Micros, Better::Lower, self.cpu_us_each),
            Measure::once("written each", Unit::Bytes, Better::Lower, self.written_bytes_each),
        ]
    }
}

impl Args {
    pub(super) async fn run(&self, bench: &Bench) -> Result<Option<Report<Figures>>> {
        let mut stop = Stop::listen()?;
        let mut report = Report::new("throughput");
        let queues = Queues { held: lab::queue("held")?, one: lab::queue("one")?, four: lab::queue("four")? };
        let lab = Lab::start(
            bench,
            [
                (queues.held.clone(), QueuePolicy { max_machines: 0, ..QueuePolicy::default() }),
                (queues.one.clone(), lab::always(1, PLACES)),
                (queues.four.clone(), lab::always(4, PLACES)),
            ],
        )
        .await?;
        let rows = stop.or(measure(&lab, &queues)).await;
        lab.end(&mut stop).await;
        let Some(rows) = rows else { return Ok(None) };
        report.rows = rows?;
        report.notes.push(format!("enqueued jobs stay in a queue without Machines; those that are run do nothing, {PLACES} at once in each Machine, from the first bulk enqueue to the last end"));
        Ok(Some(report))
    }
}

struct Queues {
    /// Has no Machines.
    held: QueueName,
    one: QueueName,
    four: QueueName,
}

async fn measure(lab: &Lab, queues: &Queues) -> Result<Vec<Figures>> {
    let spinner = spinner("waiting for the Machines");
    let up = |count: usize| move |machines: &[_]| machines.iter().filter(|m| lab::is_up(m)).count() == count;
    lab.machines_are(&queues.one, up(1)).await?;
    lab.machines_are(&queues.four, up(4)).await?;
    let midge = &lab.serving.midge;
    let mut rows = Vec::new();
    for callers in [1, CALLERS] {
        spinner.set_message(format!("single enqueues by library, callers: {callers}"));
        let meter = Meter::begin()?;
        let jobs = singles(callers, || by_library(midge.clone(), queues.held.clone())).await?;
        rows.push(meter.end(format!("enqueue by library, callers: {callers}"), jobs)?);
    }
    spinner.set_message(format!("single enqueues over HTTP, callers: {CALLERS}"));
    let meter = Meter::begin()?;
    let jobs = singles(CALLERS, || over_http(lab.client.clone(), queues.held.clone())).await?;
    rows.push(meter.end(format!("enqueue over HTTP, callers: {CALLERS}"), jobs)?);

    spinner.set_message("bulk enqueues");
    let meter = Meter::begin()?;
    for _ in 0..BULKS {
        midge.enqueue_all(requests(&queues.held, BULK_JOBS)).await?;
    }
    rows.push(meter.end(format!("bulk by library, {BULK_JOBS} at once"), BULKS * BULK_JOBS)?);
    let meter = Meter::begin()?;
    lab.client.enqueue_in_batches(requests(&queues.held, BULKS * BULK_JOBS), BULK_JOBS, |_| {}).await?;
    rows.push(meter.end(format!("bulk over HTTP, {BULK_JOBS} at once"), BULKS * BULK_JOBS)?);

    for (queue, machines) in [(&queues.one, "1 Machine"), (&queues.four, "4 Machines")] {
        spinner.set_message(format!("jobs run by {machines}"));
        let meter = Meter::begin()?;
        let jobs = drain(midge, queue).await?;
        rows.push(meter.end(format!("no-op jobs run by {machines}"), jobs)?);
    }
    spinner.finish_and_clear();
    Ok(rows)
}

/// Lets callers enqueue one job after the other for a while, and returns how many that were.
async fn singles<F, Call>(callers: u32, caller: impl Fn() -> F) -> Result<usize>
where
    F: Fn() -> Call + Send + 'static,
    Call: Future<Output = Result<()>> + Send + 'static,
{
    let until = Instant::now() + SINGLES_TIME;
    let mut running = JoinSet::new();
    for _ in 0..callers {
        let call = caller();
        running.spawn(async move {
            let mut jobs = 0;
            while Instant::now() < until {
                call().await?;
                jobs += 1;
            }
            anyhow::Ok(jobs)
        });
    }
    running.join_all().await.into_iter().sum()
}

type Calling = std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send>>;

fn by_library(midge: Midge, queue: QueueName) -> impl Fn() -> Calling + Send + 'static {
    move || {
        let (midge, request) = (midge.clone(), request(&queue));
        Box::pin(async move { Ok(midge.enqueue(request).await.map(drop)?) })
    }
}

fn over_http(client: Client, queue: QueueName) -> impl Fn() -> Calling + Send + 'static {
    move || {
        let (client, request) = (client.clone(), request(&queue));
        Box::pin(async move { Ok(client.enqueue(&request).await.map(drop)?) })
    }
}

/// Enqueues jobs in bulk, and waits until all have ended. Returns how many that were.
async fn drain(midge: &Midge, queue: &QueueName) -> Result<usize> {
    let deadline = Instant::now() + DRAIN_TIME_MAX;
    for _ in 0..DRAINED_JOBS / BULK_JOBS {
        midge.enqueue_all(requests(queue, BULK_JOBS)).await?;
    }
    loop {
        let queues = midge.queues().await?.queues;
        let view = queues.into_iter().find(|view| view.name == *queue).context("the queue is gone")?;
        let completed = view.jobs.get(&State::Completed).copied().unwrap_or(0) as usize;
        if view.jobs.get(&State::Discarded).is_some_and(|jobs| *jobs > 0) {
            bail!("jobs that do nothing have failed: {:?}", view.jobs);
        }
        if completed >= DRAINED_JOBS || Instant::now() > deadline {
            return Ok(completed);
        }
        tokio::time::sleep(COUNT_EVERY).await;
    }
}

fn requests(queue: &QueueName, count: usize) -> Vec<EnqueueRequest> {
    (0..count).map(|_| request(queue)).collect()
}

fn request(queue: &QueueName) -> EnqueueRequest {
    EnqueueRequest::new(modules::name(modules::NOOP)).queue(queue.clone())
}

/// Time that passes, and what is used meanwhile.
struct Meter {
    began: Instant,
    used: Used,
}

impl Meter {
    fn begin() -> Result<Meter> {
        Ok(Meter { used: Used::so_far()?, began: Instant::now() })
    }

    fn end(self, what: String, jobs: usize) -> Result<Figures> {
        let took = self.began.elapsed();
        let used = Used::so_far()?.since(self.used);
        let each = jobs.max(1) as f64;
        Ok(Figures {
            what,
            jobs,
            a_second: jobs as f64 / took.as_secs_f64(),
            cpu_us_each: used.cpu.as_secs_f64() * 1e6 / each,
            written_bytes_each: used.written as f64 / each,
        })
    }
}
