//! What limits, keys and batches cost: the same jobs run without them, in turns in one server.

use anyhow::Result;
use midge_cli::progress::spinner;
use midge_cli::stop::StopSignal;
use midge_client::EnqueueRequest;
use midge_protocol::api::BatchRequest;
use midge_protocol::manifest::{QueuePolicy, Rate};
use midge_protocol::{JobKey, QueueName};

use super::calls::another;
use super::meter::{Meter, Seen};
use super::running::{self, until_ended};
use super::{BULK_JOBS, Figures, MACHINES, PLACES, middle, up};
use crate::Bench;
use crate::lab::{self, Lab};

/// Jobs of each turn, and how many keys those with a key have together where they have many.
const JOBS: u64 = 100_000;
/// Keys of the jobs of some tenants.
const TENANTS: u64 = 100;
/// How often each takes its turn: an odd number has a middle.
const TURNS: usize = 3;

/// What is compared with jobs that have neither limit nor key nor batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum With {
    Nothing,
    /// A limit and a rate of the queue and of each key, none of which holds a job up.
    Limits,
    /// The same with a key for each job.
    Keys,
    /// All are of one batch, which has to end as well.
    Batch,
}

const ALL: [With; 4] = [With::Nothing, With::Limits, With::Keys, With::Batch];

impl With {
    fn what(self) -> String {
        let with = match self {
            With::Nothing => "without limits".to_owned(),
            With::Limits => format!("with limits and rates, {TENANTS} keys"),
            With::Keys => format!("with limits and rates, {JOBS} keys"),
            With::Batch => "all of one batch".to_owned(),
        };
        format!("no-op jobs enqueued in bulk and run, Machines: {MACHINES}, {with}")
    }

    fn queue(self) -> Result<QueueName> {
        lab::queue(match self {
            With::Nothing | With::Batch => "free",
            With::Limits | With::Keys => "limited",
        })
    }

    fn keys(self) -> Option<u64> {
        match self {
            With::Nothing | With::Batch => None,
            With::Limits => Some(TENANTS),
            With::Keys => Some(JOBS),
        }
    }
}

/// Limits that are counted, and hold nothing up: as many jobs as there are places, and more a second than can be run.
fn limited() -> QueuePolicy {
    let much = Some(Rate::new(1_000_000, 1_000));
    QueuePolicy {
        max_running: Some(MACHINES * PLACES),
        max_running_per_key: Some(PLACES),
        rate: much,
        rate_per_key: much,
        ..lab::always(MACHINES, PLACES)
    }
}

/// Measures them in turns, on a server of their own. Nothing where somebody asked to stop.
pub(super) async fn measure(bench: &Bench, stop: &mut StopSignal) -> Result<Option<Vec<Figures>>> {
    let queues =
        [(With::Nothing.queue()?, lab::always(MACHINES, PLACES)), (With::Limits.queue()?, limited())];
    let lab = Lab::start(bench, queues).await?;
    let turns = stop.or(turns(&lab)).await;
    lab.end(stop).await;
    turns.map(|turns| Ok(figures(&turns?))).transpose()
}

async fn turns(lab: &Lab) -> Result<Vec<Vec<Seen>>> {
    let spinner = spinner("waiting for the Machines");
    for with in [With::Nothing, With::Limits] {
        lab.machines_are(&with.queue()?, up(MACHINES)).await?;
    }
    let mut turns = Vec::new();
    for turn in 1..=TURNS {
        let mut seen = Vec::new();
        for with in ALL {
            spinner.set_message(format!("{}, turn {turn} of {TURNS}", with.what()));
            seen.push(run(lab, with).await?);
        }
        turns.push(seen);
    }
    spinner.finish_and_clear();
    Ok(turns)
}

async fn run(lab: &Lab, with: With) -> Result<Seen> {
    let midge = &lab.serving.midge;
    let queue = with.queue()?;
    let before = lab.jobs(&queue).await?.completed;
    let meter = Meter::begin()?;
    let batch = match with {
        With::Batch => Some(midge.make_batch(BatchRequest::new("bench")).await?.id),
        With::Nothing | With::Limits | With::Keys => None,
    };
    let request = EnqueueRequest { batch, ..running::request(&queue, None) };
    for first in (0..JOBS).step_by(BULK_JOBS) {
        let numbers = first..first + BULK_JOBS as u64;
        let jobs = numbers.map(|number| {
            let key = with.keys().map(|keys| JobKey::new(format!("tenant-{}", number % keys)));
            Ok(EnqueueRequest { key: key.transpose()?, ..another(&request) })
        });
        midge.enqueue_all(jobs.collect::<Result<_>>()?).await?;
    }
    if let Some(batch) = batch {
        midge.close_batch(batch).await?;
    }
    until_ended(lab, &queue, before + JOBS, batch).await?;
    Ok(Seen { reading: meter.reading()?, jobs: JOBS })
}

/// Returns the rows: the ratio of each is the middle of those of its turns to the turns without anything.
fn figures(turns: &[Vec<Seen>]) -> Vec<Figures> {
    let rows = ALL.into_iter().enumerate().map(|(kind, with)| {
        let mut sum = Seen::default();
        turns.iter().for_each(|turn| sum += turn[kind]);
        let ratios = turns.iter().map(|turn| turn[kind].a_second() / turn[0].a_second());
        let ratio = if with == With::Nothing { None } else { middle(ratios.collect()) };
        Figures { ratio, ..sum.reading.figures(with.what(), sum.jobs) }
    });
    rows.collect()
}

/// Returns the note that says how they are measured.
pub(super) fn note() -> String {
    format!(
        "limits, keys and batches: {JOBS} jobs at a time in turns, in one server; the ratio is to the turns without limits. The limits are {} running and {PLACES} a key, the rates a million a second: they are counted and hold nothing up",
        MACHINES * PLACES
    )
}

#[cfg(test)]
mod tests {
    use super::super::meter::Reading;
    use super::*;

    #[test]
    fn each_is_compared_with_the_same_turn_without() {
        let seen = |jobs| Seen { reading: Reading { seconds: 1.0, ..Reading::default() }, jobs };
        let turns =
            [[100, 50, 90, 100], [10, 8, 6, 5], [100, 70, 60, 50]].map(|turn| turn.map(seen).to_vec());
        let ratios: Vec<_> = figures(&turns).iter().map(|row| row.ratio).collect();
        assert_eq!(ratios, [None, Some(0.7), Some(0.6), Some(0.5)]);
    }
}
