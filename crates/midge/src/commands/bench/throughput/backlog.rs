//! The same with ever more jobs that wait: how much there is to do must not slow down what is done.
//!
//! Each backlog takes turns with the smallest one, so that both meet the same computer.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use midge_protocol::manifest::QueuePolicy;
use midge_protocol::{JobId, QueueName};

use super::calls::{Calls, by_library};
use super::meter::{Meter, Reading};
use super::{BULK_JOBS, CALLERS, Figures, MACHINES, PLACES, job, requests, up};
use crate::commands::bench::lab::{self, Lab};
use crate::commands::bench::{Bench, modules};
use crate::progress::spinner;
use crate::stop::Stop;

/// Jobs that wait in the backlog that the others are compared with.
pub(super) const SMALLEST: u64 = 1_000;
/// Jobs that wait in the others.
pub(super) const LARGER: [u64; 3] = [10_000, 100_000, 1_000_000];
/// How often a backlog and the smallest one take turns.
const TURNS: usize = 3;
/// Jobs that are enqueued before they are cancelled again, so that the backlog stays what it is said to be.
const BURST_JOBS: u64 = 1_000;
/// How long the bursts of one kind and turn take together, without the cancels.
const BURSTS_TIME: Duration = Duration::from_millis(300);
/// By then they end, however much of it the cancels took.
const BURSTS_TIME_MAX: Duration = Duration::from_millis(1_500);
/// How long jobs are run in each turn, while others are enqueued in their place.
const RUN_TIME: Duration = Duration::from_millis(1_200);
/// How often the backlog is filled up: at 10,000 a second, 50 are missing.
const FILL_EVERY: Duration = Duration::from_millis(5);

/// What is measured at each.
const KINDS: [&str; 3] =
    ["enqueued singly by library, callers: 32", "enqueued in bulk by library", "no-op jobs run, Machines: 4"];

/// A backlog in a database of its own, and what was measured at it so far.
pub(super) struct Backlog {
    lab: Lab,
    queue: QueueName,
    size: u64,
    seen: [Seen; 3],
}

/// What was measured of one kind.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    reading: Reading,
    jobs: u64,
}

impl std::ops::AddAssign for Seen {
    fn add_assign(&mut self, more: Seen) {
        self.reading += more.reading;
        self.jobs += more.jobs;
    }
}

impl Seen {
    fn a_second(self) -> f64 {
        self.jobs as f64 / self.reading.seconds
    }
}

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
            backlog.turn().await?;
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
        Ok(Backlog { lab, queue, size, seen: [Seen::default(); 3] })
    }

    /// Ends the server, and returns what was measured.
    pub(super) async fn end(self, stop: &mut Stop) -> [Seen; 3] {
        self.lab.end(stop).await;
        self.seen
    }

    async fn turn(&mut self) -> Result<()> {
        let midge = &self.lab.serving.midge;
        let call = by_library(midge.clone(), job(&self.queue, modules::NOOP));
        let calls = Calls { callers: CALLERS, time: BURSTS_TIME, jobs: BURST_JOBS };
        self.seen[0] += self.bursts(async || calls.make_ids(call.clone()).await).await?;
        let bulk = async || {
            let enqueued = midge.enqueue_all(requests(&self.queue, BULK_JOBS)).await?;
            Ok(enqueued.into_iter().map(|job| job.id).collect())
        };
        self.seen[1] += self.bursts(bulk).await?;
        self.seen[2] += self.running().await?;
        Ok(())
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
        let policy = QueuePolicy { jobs_max: lab::held().jobs_max, ..lab::always(MACHINES, PLACES) };
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

/// Returns the rows of a backlog, compared with the smallest one's turns, where it had such.
pub(super) fn figures(size: u64, seen: [Seen; 3], smallest: Option<[Seen; 3]>) -> Vec<Figures> {
    let rows = KINDS.into_iter().zip(seen).enumerate().map(|(kind, (what, seen))| {
        let figures = seen.reading.figures(format!("{what}, at a backlog of {size}"), seen.jobs);
        let to_smallest = smallest.map(|smallest| seen.a_second() / smallest[kind].a_second());
        Figures { to_smallest, ..figures }
    });
    rows.collect()
}

/// Says how a backlog is measured at.
pub(super) fn note() -> String {
    format!(
        "each backlog is in a database of its own, and takes turns with one of {SMALLEST}: {BURST_JOBS} jobs at a time are enqueued on top of it and cancelled again, then {MACHINES} Machines run jobs while as many are enqueued in bulk"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_is_compared_with_the_smallest_one_in_the_same_turns() {
        let seen = |rates: [u64; 3]| {
            rates.map(|jobs| Seen { reading: Reading { seconds: 2.0, ..Reading::default() }, jobs })
        };
        let rows = figures(10_000, seen([9, 50, 30]), Some(seen([10, 100, 20])));
        assert_eq!(
            rows.iter().map(|row| row.to_smallest).collect::<Vec<_>>(),
            [Some(0.9), Some(0.5), Some(1.5)]
        );
        assert!(rows.iter().all(|row| row.what.ends_with("at a backlog of 10000")));
    }

    #[test]
    fn the_kinds_say_with_how_many_they_are_measured() {
        assert!(KINDS[0].ends_with(&CALLERS.to_string()) && KINDS[2].ends_with(&MACHINES.to_string()));
    }
}
