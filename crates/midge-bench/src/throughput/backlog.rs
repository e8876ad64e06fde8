//! The same with ever more jobs that wait: how much there is to do must not slow down what is done.
//!
//! Each backlog takes turns with the smallest one, so that both meet the same computer.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use midge_cli::progress::spinner;
use midge_cli::stop::StopSignal;
use midge_protocol::manifest::QueuePolicy;
use midge_protocol::{JobId, QueueName};

use super::calls::{Calls, by_library};
use super::meter::{Meter, Seen};
use super::{BULK_JOBS, CALLERS, Figures, MACHINES, PLACES, job, middle, requests, up};
use crate::lab::{self, Lab};
use crate::{Bench, modules};

/// Jobs that wait in the backlog that the others are compared with.
pub(super) const SMALLEST: u64 = 1_000;
/// Jobs that wait in the larger backlogs.
pub(super) const LARGER: [u64; 3] = [10_000, 100_000, 1_000_000];
/// How often a backlog and the smallest one take turns.
const TURNS: usize = 5;
/// Jobs that are enqueued before they are cancelled again, so that the backlog stays what it is said to be.
const BURST_JOBS: u64 = 1_000;
/// How long the bursts of one kind and turn take together, without the cancels.
const BURSTS_TIME: Duration = Duration::from_millis(200);
/// After so long the bursts of one kind and turn end, however much of it the cancels took.
const BURSTS_TIME_MAX: Duration = Duration::from_millis(900);
/// How long jobs are run in each turn, while as many others are enqueued.
const RUN_TIME: Duration = Duration::from_millis(800);
/// How often the backlog is filled up: at 10,000 a second, 50 are missing.
const FILL_EVERY: Duration = Duration::from_millis(5);

/// What is measured at each backlog.
const KINDS: [&str; 3] =
    ["enqueued singly by library, callers: 32", "enqueued in bulk by library", "no-op jobs run, Machines: 4"];

/// A backlog in a database of its own, and what was measured at it so far.
pub(super) struct Backlog {
    lab: Lab,
    queue: QueueName,
    size: u64,
    turns: Vec<Turn>,
}

/// What was measured in one turn, for each of [`KINDS`].
pub(super) type Turn = [Seen; 3];

/// Fills backlogs, and measures at them in turns.
pub(super) async fn measure(backlogs: &mut [Backlog]) -> Result<()> {
    let spinner = spinner("");
    for backlog in &*backlogs {
        spinner.set_message(format!("filling a backlog of {}", backlog.size));
        for _ in 0..backlog.size / BULK_JOBS as u64 {
            backlog.lab.serving.midge.enqueue_all(requests(&backlog.queue, BULK_JOBS)).await?;
        }
    }
    for turn in 1..=TURNS {
        for backlog in &mut *backlogs {
            spinner.set_message(format!("at a backlog of {}, turn {turn} of {TURNS}", backlog.size));
            let turn = backlog.turn().await?;
            backlog.turns.push(turn);
        }
    }
    spinner.finish_and_clear();
    Ok(())
}

impl Backlog {
    /// Starts a server that is to have so many waiting jobs; there are none yet.
    pub(super) async fn start(bench: &Bench, size: u64) -> Result<Backlog> {
        let queue = lab::queue("held")?;
        let lab = Lab::start(bench, [(queue.clone(), lab::held())]).await?;
        Ok(Backlog { lab, queue, size, turns: Vec::new() })
    }

    /// Ends the backlog's server, and returns what was measured in each turn.
    pub(super) async fn end(self, stop: &mut StopSignal) -> Vec<Turn> {
        self.lab.end(stop).await;
        self.turns
    }

    async fn turn(&self) -> Result<Turn> {
        let midge = &self.lab.serving.midge;
        let call = by_library(midge.clone(), job(&self.queue, modules::NOOP));
        let calls = Calls { callers: CALLERS, time: BURSTS_TIME, jobs: BURST_JOBS };
        let singly = self.bursts(async || calls.make_ids(call.clone()).await).await?;
        let bulk = async || {
            let enqueued = midge.enqueue_all(requests(&self.queue, BULK_JOBS)).await?;
            Ok(enqueued.into_iter().map(|job| job.id).collect())
        };
        Ok([singly, self.bursts(bulk).await?, self.running().await?])
    }

    /// Times bursts of enqueues, each of which is cancelled before the next.
    async fn bursts(&self, burst: impl AsyncFn() -> Result<Vec<JobId>>) -> Result<Seen> {
        let midge = &self.lab.serving.midge;
        let until = Instant::now() + BURSTS_TIME_MAX;
        let mut seen = Seen::default();
        while seen.reading.seconds < BURSTS_TIME.as_secs_f64() && Instant::now() < until {
            let meter = Meter::begin()?;
            let ids = burst().await?;
            seen += Seen { reading: meter.reading()?, jobs: ids.len() as u64 };
            let cancels = ids.into_iter().map(|id| async move { midge.cancel(id).await.map(drop) });
            stream::iter(cancels).buffer_unordered(CALLERS as usize).try_collect::<()>().await?;
        }
        Ok(seen)
    }

    /// Gives the queue Machines for a while, and times how many jobs they run while the backlog is kept as it is.
    async fn running(&self) -> Result<Seen> {
        let policy = QueuePolicy { max_jobs: lab::held().max_jobs, ..lab::always(MACHINES, PLACES) };
        self.lab.deploy("running", [(self.queue.clone(), policy)]).await;
        tokio::select! {
            started = self.lab.machines_are(&self.queue, up(MACHINES)) => started?,
            failed = self.keep_filled(None) => failed?,
        }
        let before = self.lab.jobs(&self.queue).await?.completed;
        let meter = Meter::begin()?;
        self.keep_filled(Some(Instant::now() + RUN_TIME)).await?;
        let jobs = self.lab.jobs(&self.queue).await?.completed - before;
        let seen = Seen { reading: meter.reading()?, jobs };
        // Machines of another generation get no more jobs, and go when they have finished what they run.
        self.lab.deploy("held", [(self.queue.clone(), lab::held())]).await;
        self.lab.machines_are(&self.queue, |machines| machines.is_empty()).await?;
        self.fill().await?;
        Ok(seen)
    }

    /// Enqueues as many jobs as have been taken, until a time; for ever where there is none.
    async fn keep_filled(&self, until: Option<Instant>) -> Result<()> {
        while until.is_none_or(|until| Instant::now() < until) {
            self.fill().await?;
            tokio::time::sleep(FILL_EVERY).await;
        }
        Ok(())
    }

    async fn fill(&self) -> Result<()> {
        let missing = self.size.saturating_sub(self.lab.jobs(&self.queue).await?.waiting);
        let missing = usize::try_from(missing).unwrap_or(usize::MAX).min(BULK_JOBS);
        if missing > 0 {
            self.lab.serving.midge.enqueue_all(requests(&self.queue, missing)).await?;
        }
        Ok(())
    }
}

/// Returns the rows of a backlog. Where the smallest one had the same turns, it is compared with it, turn by turn: the
/// middle of the ratios is what neither a burst of other work nor a full log at one of the two has moved.
pub(super) fn figures(size: u64, turns: &[Turn], smallest: Option<&[Turn]>) -> Vec<Figures> {
    let rows = KINDS.into_iter().enumerate().map(|(kind, what)| {
        let mut sum = Seen::default();
        turns.iter().for_each(|turn| sum += turn[kind]);
        let ratios = turns.iter().zip(smallest.unwrap_or_default());
        let ratios = ratios.map(|(turn, smallest)| turn[kind].a_second() / smallest[kind].a_second());
        let figures = sum.reading.figures(format!("{what}, at a backlog of {size}"), sum.jobs);
        Figures { ratio: middle(ratios.collect()), ..figures }
    });
    rows.collect()
}

/// Returns the note that says how throughput at a backlog is measured.
pub(super) fn note() -> String {
    format!(
        "each backlog is in a database of its own, and takes turns with one of {SMALLEST}: {BURST_JOBS} jobs at a time are enqueued on top of it and cancelled again, then {MACHINES} Machines run jobs while as many are enqueued in bulk"
    )
}

#[cfg(test)]
mod tests {
    use super::super::meter::Reading;
    use super::*;

    #[test]
    fn a_backlog_is_compared_with_the_smallest_one_turn_by_turn() {
        let turn = |jobs| [Seen { reading: Reading { seconds: 2.0, ..Reading::default() }, jobs }; 3];
        let smallest = [turn(100), turn(10), turn(100)];
        let rows = figures(10_000, &[turn(90), turn(100), turn(80)], Some(&smallest));
        assert_eq!(rows.iter().map(|row| row.ratio).collect::<Vec<_>>(), [Some(0.9); 3]);
        assert_eq!((rows[0].jobs, rows[0].a_second), (270, 45.0));
        assert!(rows.iter().all(|row| row.what.ends_with("at a backlog of 10000")));
        assert!(figures(1_000, &smallest, None).iter().all(|row| row.ratio.is_none()));
    }

    #[test]
    fn the_kinds_say_with_how_many_they_are_measured() {
        assert!(KINDS[0].ends_with(&CALLERS.to_string()) && KINDS[2].ends_with(&MACHINES.to_string()));
    }
}
