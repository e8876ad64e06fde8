//! `midge bench dispatch`: how long a job takes from the enqueue to its result at the caller, over HTTP.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use midge_cli::progress::spinner;
use midge_cli::stop::StopSignal;
use midge_client::{Client, EnqueueRequest};
use midge_flylet::{CREATE_MS, Latency, RESUME_MS, START_MS};
use midge_protocol::QueueName;
use midge_protocol::api::MachineView;
use midge_protocol::manifest::{Idle, QueuePolicy, Wait};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::lab::{self, Lab};
use super::report::{Measure, Report, Row, Spread, millis, or_dash};
use super::{Bench, modules};

/// No scenario takes longer than this, however slow the computer.
const SCENARIO_TIME_MAX: Duration = Duration::from_secs(25);
/// A job that has not ended by then is an error.
const JOB_TIME_MAX: Duration = Duration::from_secs(30);
/// Jobs one after the other, each as soon as the one before has given its result.
const ONE_BY_ONE: u32 = 500;
/// Jobs for which a Machine has to be started first.
const FROM_NOTHING: u32 = 20;
/// Jobs before the first that counts.
const UNCOUNTED: u32 = 20;
/// Jobs a second, and how many of them.
const RATES: [(u32, u32); 3] = [(1, 20), (100, 1_000), (1_000, 5_000)];
/// A timer is this late at most where nothing is wrong. What is sent later counts from when it was to be sent, so
/// that a computer that cannot keep up does not hide it.
const TIMER_LATE_MAX: Duration = Duration::from_millis(2);
/// A rate that is missed by less is reached.
const RATE_REACHED: f64 = 0.98;

/// Measure from enqueueing a job to its result at the caller, over HTTP
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Server, flylet and caller are in this process and share its CPUs; hosts are processes. An
enqueue is durable before it is answered. The job stamps the time in its first instruction.

Examples:
  midge bench dispatch
  midge bench dispatch --json")]
pub(super) struct Args {}

/// How long jobs took under one kind of load.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    /// What was there to run the jobs.
    machine: &'static str,
    load: String,
    /// Jobs a second that were sent, where that is less than what was to be.
    sent_a_second: Option<f64>,
    jobs: usize,
    /// From sending the enqueue to the answer that the job is enqueued.
    enqueued: Option<Spread>,
    /// From sending the enqueue to the guest's first instruction.
    first: Option<Spread>,
    /// From sending the enqueue to the result in the caller's hand: an enqueue and a wait for the result, each a call.
    result: Option<Spread>,
}

impl Row for Figures {
    const HEADS: &'static [&'static str] = &[
        "MACHINE",
        "LOAD",
        ">JOBS",
        ">ENQUEUED p50",
        ">FIRST p50",
        ">p95",
        ">p99",
        ">RESULT p50",
        ">p95",
        ">p99",
    ];

    fn cells(&self) -> Vec<String> {
        let sent = self.sent_a_second.map(|sent| format!(" (sent: {sent:.0})")).unwrap_or_default();
        let mut cells = vec![
            self.machine.to_owned(),
            format!("{}{sent}", self.load),
            self.jobs.to_string(),
            or_dash(self.enqueued, |s| millis(s.p50_us)),
        ];
        for spread in [self.first, self.result] {
            cells.extend([
                or_dash(spread, |s| millis(s.p50_us)),
                or_dash(spread.and_then(Spread::p95), millis),
                or_dash(spread.and_then(Spread::p99), millis),
            ]);
        }
        cells
    }

    fn name(&self) -> String {
        format!("{} Machine, {}", self.machine, self.load)
    }

    fn measures(&self) -> Vec<Measure> {
        let spreads = [("enqueued", self.enqueued), ("first", self.first), ("result", self.result)];
        spreads.into_iter().filter_map(|(name, spread)| Some(Measure::median(name, spread?))).collect()
    }
}

/// One job, from the enqueue on.
#[derive(Debug, Clone, Copy)]
struct Timed {
    enqueued: Duration,
    first: Duration,
    result: Duration,
}

impl Args {
    pub(super) async fn run(&self, bench: &Bench) -> Result<Option<Report<Figures>>> {
        let mut stop = StopSignal::listen()?;
        let mut report = Report::new("dispatch");
        let names = Names::new()?;
        let lab = Lab::start(bench, names.queues()).await?;
        let rows = stop.or(measure(&lab, &names)).await;
        lab.end(&mut stop).await;
        let Some(rows) = rows else { return Ok(None) };
        report.rows = rows?;
        let times = Times::of_fly();
        let lab = Lab::with_latency(bench, names.queues(), times.latency()).await?;
        let rows = stop.or(measure_with_times(&lab, &names, times)).await;
        lab.end(&mut stop).await;
        let Some(rows) = rows else { return Ok(None) };
        report.rows.extend(rows?);
        report.notes.push("milliseconds, from before the enqueue is sent; FIRST is the guest's first instruction, RESULT its bytes at the caller, after two calls".to_owned());
        report.notes.push(
            "at a rate, a job that is sent more than 2 ms late counts from when it was to be sent".to_owned(),
        );
        Ok(Some(report))
    }
}

/// The queues, each named for what its jobs find.
struct Names {
    warm: QueueName,
    suspended: QueueName,
    stopped: QueueName,
    none: QueueName,
}

impl Names {
    fn new() -> Result<Names> {
        Ok(Names {
            warm: lab::queue("warm")?,
            suspended: lab::queue("suspended")?,
            stopped: lab::queue("stopped")?,
            none: lab::queue("none")?,
        })
    }

    fn queues(&self) -> [(QueueName, QueuePolicy); 4] {
        let once = QueuePolicy { single_use: true, wait: Wait::Millis(0), ..QueuePolicy::default() };
        let suspended =
            QueuePolicy { ready_machines: 1, idle: Idle::Suspend, single_use: false, ..once.clone() };
        [
            (self.warm.clone(), lab::always(1, 32)),
            (self.suspended.clone(), suspended),
            (self.stopped.clone(), QueuePolicy { ready_machines: 1, ..once.clone() }),
            (self.none.clone(), once),
        ]
    }
}

/// How long Machines take that are not here. They are left out of what is shown, so that what is left is ours.
#[derive(Debug, Clone, Copy)]
struct Times {
    create: Duration,
    start: Duration,
    resume: Duration,
}

impl Times {
    /// Returns the medians of what users of Fly have published.
    fn of_fly() -> Times {
        let median = |times: &[u32]| Duration::from_millis(times[times.len() / 2].into());
        let start = median(&START_MS);
        // A create is published with the start after it.
        Times { create: median(&CREATE_MS).saturating_sub(start), start, resume: median(&RESUME_MS) }
    }

    fn latency(self) -> Latency {
        let Times { create, start, resume } = self;
        Latency::Fixed { create, start, resume }
    }
}

/// Measures what is ours where Machines take as long as at Fly.
async fn measure_with_times(lab: &Lab, names: &Names, times: Times) -> Result<Vec<Figures>> {
    let row = |machine, taken: Duration, timed: Vec<Timed>| {
        let ours = timed.into_iter().map(|timed| Timed {
            enqueued: timed.enqueued,
            first: timed.first.saturating_sub(taken),
            result: timed.result.saturating_sub(taken),
        });
        figures(machine, &format!("one by one, beyond Fly's {} ms", taken.as_millis()), ours.collect())
    };
    let spinner = spinner("suspended Machine, at Fly's times");
    job(&lab.client, &names.suspended).await?;
    let mut rows = vec![row("suspended", times.resume, from_ready(lab, &names.suspended, is_asleep).await?)];
    spinner.set_message("stopped Machines, at Fly's times");
    rows.push(row("stopped", times.start, from_ready(lab, &names.stopped, is_ready).await?));
    spinner.set_message("no Machine, at Fly's times");
    rows.push(row("none", times.create + times.start, from_none(lab, &names.none).await?));
    spinner.finish_and_clear();
    Ok(rows)
}

fn is_ready(machine: &MachineView) -> bool {
    machine.state == "ready"
}

fn is_asleep(machine: &MachineView) -> bool {
    is_ready(machine) && machine.suspended
}

async fn measure(lab: &Lab, names: &Names) -> Result<Vec<Figures>> {
    let Names { warm, suspended, stopped, none } = names;
    let spinner = spinner("warm Machine, one by one");
    lab.machines_are(warm, |machines| machines.iter().any(lab::is_up)).await?;
    one_by_one(lab, warm, UNCOUNTED).await?;
    let mut rows = vec![figures("warm", "one by one", one_by_one(lab, warm, ONE_BY_ONE).await?)];
    for (a_second, jobs) in RATES {
        spinner.set_message(format!("warm Machine, {a_second} a second"));
        rows.push(paced(lab, warm, a_second, jobs).await?);
    }
    spinner.set_message("suspended Machine, one by one");
    // One that has run can be suspended.
    job(&lab.client, suspended).await?;
    rows.push(figures("suspended", "one by one", from_ready(lab, suspended, is_asleep).await?));
    spinner.set_message("stopped Machines, one by one");
    rows.push(figures("stopped", "one by one", from_ready(lab, stopped, is_ready).await?));
    spinner.set_message("no Machine, one by one");
    rows.push(figures("none", "one by one", from_none(lab, none).await?));
    spinner.finish_and_clear();
    Ok(rows)
}

/// Runs jobs one after the other.
async fn one_by_one(lab: &Lab, queue: &QueueName, jobs: u32) -> Result<Vec<Timed>> {
    let began = Instant::now();
    let mut timed = Vec::new();
    while timed.len() < jobs as usize && began.elapsed() < SCENARIO_TIME_MAX {
        timed.push(job(&lab.client, queue).await?);
    }
    Ok(timed)
}

/// Runs jobs at a rate, whether or not those before have ended.
async fn paced(lab: &Lab, queue: &QueueName, a_second: u32, jobs: u32) -> Result<Figures> {
    let began = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / a_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut running = JoinSet::new();
    for _ in 0..jobs {
        if began.elapsed() > SCENARIO_TIME_MAX {
            break;
        }
        let due = ticks.tick().await.into_std();
        let late = due.elapsed();
        let late = if late > TIMER_LATE_MAX { late } else { Duration::ZERO };
        let (client, queue) = (lab.client.clone(), queue.clone());
        running.spawn(async move { job_since(&client, &queue, late).await });
    }
    let sent = running.len();
    let rate = sent.saturating_sub(1) as f64 / began.elapsed().as_secs_f64();
    let timed = running.join_all().await.into_iter().collect::<Result<_>>()?;
    let missed = rate < f64::from(a_second) * RATE_REACHED;
    let figures = figures("warm", &format!("{a_second} a second"), timed);
    Ok(Figures { sent_a_second: missed.then_some(rate), ..figures })
}

/// Runs jobs that each find one Machine, as it is to be.
async fn from_ready(
    lab: &Lab,
    queue: &QueueName,
    is_ready: impl Fn(&MachineView) -> bool,
) -> Result<Vec<Timed>> {
    let began = Instant::now();
    let mut timed = Vec::new();
    while timed.len() < FROM_NOTHING as usize && began.elapsed() < SCENARIO_TIME_MAX {
        lab.machines_are(queue, |machines| machines.len() == 1 && is_ready(&machines[0])).await?;
        timed.push(job(&lab.client, queue).await?);
    }
    Ok(timed)
}

/// Runs jobs that each find no Machine.
async fn from_none(lab: &Lab, queue: &QueueName) -> Result<Vec<Timed>> {
    let began = Instant::now();
    let mut timed = Vec::new();
    while timed.len() < FROM_NOTHING as usize && began.elapsed() < SCENARIO_TIME_MAX {
        lab.machines_are(queue, |machines| machines.is_empty()).await?;
        timed.push(job(&lab.client, queue).await?);
    }
    Ok(timed)
}

/// Runs one job.
async fn job(client: &Client, queue: &QueueName) -> Result<Timed> {
    job_since(client, queue, Duration::ZERO).await
}

/// Runs one job that was to be sent so long before now.
async fn job_since(client: &Client, queue: &QueueName, late: Duration) -> Result<Timed> {
    let request = EnqueueRequest::new(modules::name(modules::STAMP)).queue(queue.clone());
    let sent_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let began = Instant::now();
    let id = client.enqueue(&request).await?.id;
    let enqueued = began.elapsed();
    let bytes = client.wait_result_bytes(id, Some(JOB_TIME_MAX)).await;
    let bytes =
        bytes.with_context(|| format!("a job of queue {queue}, {:?} after its enqueue", began.elapsed()))?;
    let result = began.elapsed();
    let stamp = modules::stamp(&bytes).context("the job wrote no time")?;
    let first = u64::try_from(stamp.saturating_sub(sent_at)).context("the clock was set")?;
    Ok(Timed { enqueued: late + enqueued, first: late + Duration::from_nanos(first), result: late + result })
}

fn figures(machine: &'static str, load: &str, timed: Vec<Timed>) -> Figures {
    let spread = |of: fn(&Timed) -> Duration| Spread::of(timed.iter().map(of).collect());
    Figures {
        machine,
        load: load.to_owned(),
        sent_a_second: None,
        jobs: timed.len(),
        enqueued: spread(|timed| timed.enqueued),
        first: spread(|timed| timed.first),
        result: spread(|timed| timed.result),
    }
}
