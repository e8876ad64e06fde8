//! Jobs that are enqueued and run to their ends.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use midge_client::EnqueueRequest;
use midge_protocol::job::State;
use midge_protocol::{BatchId, QueueName};

use super::calls::{Calls, another, by_library};
use super::meter::Meter;
use super::{BULK_JOBS, Figures, job};
use crate::lab::Lab;
use crate::modules;

/// The most jobs of a row of no-op jobs: a few seconds' work.
const NOOPS_MAX: u64 = 20_000;
/// The most jobs of a row of jobs that take 1 ms each: they take the more time the fewer CPUs there are.
const MILLISECONDS_MAX: u64 = 3_000;
/// How long single callers enqueue at most.
const SINGLES_TIME: Duration = Duration::from_millis(1_500);
/// Jobs that have not been run by then never will be.
const RUN_TIME_MAX: Duration = Duration::from_secs(60);
/// How often the ended jobs are counted.
const COUNT_EVERY: Duration = Duration::from_millis(10);
/// How far a guest counts to find out how long it takes: for some tens of milliseconds.
const COUNT_TRIED: u64 = 20_000_000;
const COUNT_TRIES: usize = 5;

/// How the jobs of a row are enqueued.
#[derive(Debug, Clone, Copy)]
pub(super) enum How {
    /// One at a time, by so many callers side by side.
    Singly(u32),
    /// A thousand at once.
    Bulk,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            How::Singly(1) => f.write_str("by 1 caller"),
            How::Singly(callers) => write!(f, "by {callers} callers"),
            How::Bulk => f.write_str("in bulk"),
        }
    }
}

/// Returns a job that counts to `count`, or does nothing where there is none.
pub(super) fn request(queue: &QueueName, count: Option<u64>) -> EnqueueRequest {
    match count {
        Some(count) => {
            let counting = job(queue, modules::COUNT).args(&count);
            counting.expect("a number can be written as JSON")
        }
        None => job(queue, modules::NOOP),
    }
}

/// Returns how far a guest counts in a millisecond of its thread's CPU time, in the best of several runs.
pub(super) async fn count_in_a_millisecond(lab: &Lab, queue: &QueueName) -> Result<u64> {
    let midge = &lab.serving.midge;
    let mut best_us = u64::MAX;
    for _ in 0..COUNT_TRIES {
        let id = midge.enqueue(request(queue, Some(COUNT_TRIED))).await?.id;
        let ended = midge.wait(id, RUN_TIME_MAX).await?;
        if ended.state != State::Completed {
            bail!("a job that counts is {}: {:?}", ended.state, ended.failure);
        }
        let attempts = midge.job_detail(id).await?.attempts;
        let usage = attempts.last().and_then(|attempt| attempt.usage);
        best_us = best_us.min(usage.context("the host did not say what the job used")?.cpu_us.max(1));
    }
    Ok((COUNT_TRIED * 1_000 / best_us).max(1))
}

/// Enqueues jobs like this one, waits until all have ended, and returns what that took.
pub(super) async fn measure(lab: &Lab, request: EnqueueRequest, how: How, name: String) -> Result<Figures> {
    let midge = &lab.serving.midge;
    let queue = request.queue.clone().context("the job names its queue")?;
    let is_noop = request.module.as_str() == modules::NOOP;
    let max_jobs = if is_noop { NOOPS_MAX } else { MILLISECONDS_MAX };
    let before = lab.jobs(&queue).await?.completed;
    let meter = Meter::begin()?;
    let jobs = match how {
        How::Singly(callers) => {
            let calls = Calls { callers, time: SINGLES_TIME, jobs: max_jobs };
            calls.make(by_library(midge.clone(), request)).await?
        }
        How::Bulk => {
            for _ in 0..max_jobs / BULK_JOBS as u64 {
                midge.enqueue_all((0..BULK_JOBS).map(|_| another(&request)).collect()).await?;
            }
            max_jobs
        }
    };
    until_ended(lab, &queue, before + jobs, None).await?;
    meter.end(name, jobs)
}

/// Waits until so many jobs of a queue have completed and the batch, if there is one, has ended.
pub(super) async fn until_ended(
    lab: &Lab,
    queue: &QueueName,
    jobs: u64,
    batch: Option<BatchId>,
) -> Result<()> {
    let deadline = Instant::now() + RUN_TIME_MAX;
    loop {
        let completed = lab.jobs(queue).await?.completed;
        let is_open = match batch {
            Some(batch) => lab.serving.midge.batch(batch).await?.ended_at.is_none(),
            None => false,
        };
        if completed >= jobs && !is_open {
            return Ok(());
        }
        if Instant::now() > deadline {
            let left = jobs.saturating_sub(completed);
            bail!("after {} s {left} jobs have not ended: something is wrong", RUN_TIME_MAX.as_secs());
        }
        tokio::time::sleep(COUNT_EVERY).await;
    }
}
