//! `midge bench throughput`: jobs a second, enqueued and run, and what each costs.

mod backlog;
mod calls;
mod limits;
mod meter;
mod running;

use std::time::{Duration, Instant};

use anyhow::Result;
use midge_cli::progress::spinner;
use midge_cli::stop::StopSignal;
use midge_cli::words;
use midge_client::EnqueueRequest;
use midge_protocol::QueueName;
use serde::Serialize;

use self::backlog::Backlog;
use self::calls::{Calls, by_library, over_http};
use self::meter::Meter;
use super::lab::{self, Lab};
use super::report::{Better, Measure, Report, Row, Unit, or_dash};
use super::{Bench, modules};

/// How long single enqueues go on.
const SINGLES_TIME: Duration = Duration::from_secs(2);
/// Callers at once, where there is more than one.
const CALLERS: u32 = 32;
/// Jobs in one bulk enqueue.
const BULK_JOBS: usize = 1_000;
/// Bulk enqueues that are timed.
const BULKS: usize = 100;
/// Jobs that each Machine runs at once.
const PLACES: u32 = 32;
/// Machines, where there is more than one: as many as a queue has by default.
const MACHINES: u32 = 4;
/// On a computer that is so slow that this is over, what is left is not measured.
const TIME_MAX: Duration = Duration::from_secs(240);

/// Measure jobs a second: enqueued singly and in bulk, run to their ends, with limits, and as the backlog grows
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every enqueue is durable before it is answered. Server, flylet and callers are in this process
and share its CPUs; hosts are processes. CPU time is that of all of them, and what is written
is what the kernel counts of this process for its disk: the store's log and its file.

A job of 1 ms counts to a number that takes so long on this CPU, which is found out first.

Examples:
  midge bench throughput
  midge bench throughput --json
  midge bench throughput --backlog-max 10000")]
pub(super) struct Args {
    /// The largest backlog to measure at, of 10,000, 100,000 and 1,000,000 waiting jobs, each beside one of 1,000
    #[arg(long, value_name = "N", default_value = "1000000", value_parser = words::whole::<u64>(0..=i64::MAX))]
    backlog_max: u64,
}

/// How many jobs a second something took, and what each cost.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    what: String,
    jobs: u64,
    a_second: f64,
    /// The rate in rates of what takes turns with it, at the smallest backlog or without limits: the middle of what the
    /// turns gave.
    ratio: Option<f64>,
    /// CPU time of server, callers and hosts together, in microseconds a job.
    cpu_us_each: f64,
    written_bytes_each: f64,
}

impl Row for Figures {
    const HEADS: &'static [&'static str] =
        &["WHAT", ">JOBS", ">A SECOND", ">RATIO", ">CPU EACH", ">WRITTEN EACH"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.what.clone(),
            self.jobs.to_string(),
            format!("{:.0}", self.a_second),
            or_dash(self.ratio, |ratio| format!("{:.0} %", ratio * 100.0)),
            format!("{:.0} us", self.cpu_us_each),
            words::bytes(self.written_bytes_each as u64),
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
        let began = Instant::now();
        let mut stop = StopSignal::listen()?;
        let mut report = Report::new("throughput");
        report.notes.push(format!("enqueued jobs stay in a queue without Machines; those that are run are timed from the first enqueue to the last end, {PLACES} at once in each Machine"));

        let queues =
            Queues { held: lab::queue("held")?, one: lab::queue("one")?, several: lab::queue("several")? };
        let lab = Lab::start(bench, queues.policies()).await?;
        let rows = stop.or(measure(&lab, &queues, &mut report, began)).await;
        lab.end(&mut stop).await;
        let Some(rows) = rows else { return Ok(None) };
        rows?;

        if !is_over(began, &mut report, "limits, keys and batches") {
            let Some(rows) = limits::measure(bench, &mut stop).await? else { return Ok(None) };
            report.rows.extend(rows);
            report.notes.push(limits::note());
        }

        let (mut smallest, mut rows) = (Vec::new(), Vec::new());
        for size in backlog_sizes(self.backlog_max) {
            if is_over(began, &mut report, &format!("a backlog of {}", size.unwrap_or(backlog::SMALLEST))) {
                break;
            }
            let Some(turns) = at_backlog(bench, size, &mut stop).await? else { return Ok(None) };
            if let (Some(size), [small, large]) = (size, &turns[..]) {
                rows.extend(backlog::figures(size, large, Some(small)));
            }
            smallest.extend(turns.into_iter().next().unwrap_or_default());
        }
        if !smallest.is_empty() {
            report.rows.extend(backlog::figures(backlog::SMALLEST, &smallest, None));
        }
        report.rows.extend(rows);
        report.notes.push(backlog::note());
        if report.rows.iter().all(|row| row.written_bytes_each == 0.0) {
            let note =
                "nothing counts as written: the temporary folder is in memory, set TMPDIR to one on a disk";
            report.notes.push(note.to_owned());
        }
        Ok(Some(report))
    }
}

/// Returns the backlogs to measure at, each beside the smallest one; nothing is the smallest one alone.
fn backlog_sizes(max: u64) -> Vec<Option<u64>> {
    let sizes: Vec<Option<u64>> = backlog::LARGER.into_iter().filter(|size| *size <= max).map(Some).collect();
    if sizes.is_empty() { vec![None] } else { sizes }
}

/// Measures at the smallest backlog and another one, and returns the turns of each. Nothing where somebody asked to
/// stop.
async fn at_backlog(
    bench: &Bench,
    size: Option<u64>,
    stop: &mut StopSignal,
) -> Result<Option<Vec<Vec<backlog::Turn>>>> {
    let mut backlogs = Vec::new();
    for size in [Some(backlog::SMALLEST), size].into_iter().flatten() {
        backlogs.push(Backlog::start(bench, size).await?);
    }
    let measured = stop.or(backlog::measure(&mut backlogs)).await;
    let mut turns = Vec::new();
    for backlog in backlogs {
        turns.push(backlog.end(stop).await);
    }
    Ok(measured.transpose()?.map(|()| turns))
}

/// Returns whether the time is over, and then notes what is left out.
fn is_over(began: Instant, report: &mut Report<Figures>, what: &str) -> bool {
    let over = began.elapsed() > TIME_MAX;
    if over {
        report.notes.push(format!("not measured, since {} s were over before: {what}", TIME_MAX.as_secs()));
    }
    over
}

struct Queues {
    /// Has no Machines.
    held: QueueName,
    one: QueueName,
    several: QueueName,
}

impl Queues {
    fn policies(&self) -> [(QueueName, midge_protocol::manifest::QueuePolicy); 3] {
        [
            (self.held.clone(), lab::held()),
            (self.one.clone(), lab::always(1, PLACES)),
            (self.several.clone(), lab::always(MACHINES, PLACES)),
        ]
    }
}

async fn measure(lab: &Lab, queues: &Queues, report: &mut Report<Figures>, began: Instant) -> Result<()> {
    let spinner = spinner("waiting for the Machines");
    lab.machines_are(&queues.one, up(1)).await?;
    lab.machines_are(&queues.several, up(MACHINES)).await?;
    let midge = &lab.serving.midge;
    let noop = |queue: &QueueName| job(queue, modules::NOOP);

    for callers in [1, CALLERS] {
        let held = noop(&queues.held);
        let calls = [
            ("by library", by_library(midge.clone(), held.clone())),
            ("over HTTP", over_http(lab.client.clone(), held)),
        ];
        for (how, call) in calls {
            spinner.set_message(format!("single enqueues {how}, callers: {callers}"));
            let meter = Meter::begin()?;
            let jobs = Calls { callers, time: SINGLES_TIME, jobs: u64::MAX }.make(call).await?;
            report.rows.push(meter.end(format!("enqueued singly {how}, callers: {callers}"), jobs)?);
        }
    }

    spinner.set_message("bulk enqueues");
    let jobs = (BULKS * BULK_JOBS) as u64;
    let meter = Meter::begin()?;
    for _ in 0..BULKS {
        midge.enqueue_all(requests(&queues.held, BULK_JOBS)).await?;
    }
    report.rows.push(meter.end("enqueued in bulk by library, 1000 at once".to_owned(), jobs)?);
    let meter = Meter::begin()?;
    lab.client.enqueue_in_bulks(requests(&queues.held, BULKS * BULK_JOBS), BULK_JOBS, |_| {}).await?;
    report.rows.push(meter.end("enqueued in bulk over HTTP, 1000 at once".to_owned(), jobs)?);

    spinner.set_message("how far a guest counts in a millisecond");
    let count = running::count_in_a_millisecond(lab, &queues.one).await?;
    report.notes.push(format!("a job of 1 ms counts to {count}, which took this CPU 1 ms in the best of several runs; it cannot be faster than its CPUs, {} here", cpus()));
    for (what, count) in [("no-op jobs", None), ("jobs of 1 ms", Some(count))] {
        for (machines, queue) in [(1, &queues.one), (MACHINES, &queues.several)] {
            for how in [running::How::Singly(1), running::How::Singly(CALLERS), running::How::Bulk] {
                let name = format!("{what} enqueued {how} and run, Machines: {machines}");
                if is_over(began, report, &name) {
                    return Ok(());
                }
                spinner.set_message(name.clone());
                let request = running::request(queue, count);
                report.rows.push(running::measure(lab, request, how, name).await?);
            }
        }
    }
    spinner.finish_and_clear();
    Ok(())
}

/// Says whether so many Machines are up.
fn up(count: u32) -> impl Fn(&[midge_protocol::api::MachineView]) -> bool {
    move |machines| machines.iter().filter(|machine| lab::is_up(machine)).count() == count as usize
}

/// Returns the middle of ratios.
fn middle(mut ratios: Vec<f64>) -> Option<f64> {
    ratios.sort_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied()
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn requests(queue: &QueueName, count: usize) -> Vec<EnqueueRequest> {
    (0..count).map(|_| job(queue, modules::NOOP)).collect()
}

fn job(queue: &QueueName, module: &str) -> EnqueueRequest {
    EnqueueRequest::new(modules::name(module)).queue(queue.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backlogs_are_measured_up_to_the_largest_that_is_asked_for() {
        assert_eq!(backlog_sizes(1_000_000), [Some(10_000), Some(100_000), Some(1_000_000)]);
        assert_eq!(backlog_sizes(99_999), [Some(10_000)]);
        assert_eq!(backlog_sizes(0), [None]);
    }

    #[test]
    fn what_there_is_no_time_for_is_named() {
        let mut report = Report::new("throughput");
        assert!(!is_over(Instant::now(), &mut report, "this"));
        assert_eq!(report.notes, Vec::<String>::new());
        let long_ago = Instant::now().checked_sub(TIME_MAX + Duration::from_secs(1));
        if let Some(long_ago) = long_ago {
            assert!(is_over(long_ago, &mut report, "that"));
            assert!(report.notes[0].contains("that"), "{:?}", report.notes);
        }
    }
}
