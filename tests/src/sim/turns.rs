//! Whose turn it is: keys take turns, each with one job, and of one key the job goes first that is due longest, in which a
//! step of priority counts as an hour. So nobody starves, which that every job ends at last does not show.

use std::collections::{BTreeMap, BTreeSet};

use midge_core::{Job, Lane, QueueRow};
use midge_protocol::{JobId, JobKey, QueueName, Timestamp};

use super::ledger::{Broken, ensure};
use super::world::World;

/// What a step of priority counts, in milliseconds of waiting.
const PRIORITY_STEP_MS: i64 = 3_600_000;
/// How often each other lane may be served before a lane that has a job to begin: whose turn had come before, once.
const PASSED_MAX: i64 = 1;

/// A queue's jobs of one key, or those without.
type LaneOf = (QueueName, Option<JobKey>);

/// What is kept of queues, with the lanes of their keys.
pub(super) type Queues = BTreeMap<QueueName, (QueueRow, BTreeMap<JobKey, Lane>)>;

fn lane_of(job: &Job) -> LaneOf {
    (job.queue.clone(), job.key.clone())
}

/// Returns what the jobs of a lane are begun by, smallest first. Of equal ones any may be the first.
fn rank(job: &Job) -> i64 {
    job.due().as_millis() + i64::from(job.priority) * PRIORITY_STEP_MS
}

/// What is remembered of turns.
#[derive(Default)]
pub(super) struct Turns {
    /// How often a lane that had a job to begin was passed by another, since it was served itself.
    passed: BTreeMap<(LaneOf, LaneOf), i64>,
    /// When each lane of a key was served last, while it has jobs.
    served_at: BTreeMap<LaneOf, Timestamp>,
    /// Until when turns are of another time: the clock was put back.
    not_before: Timestamp,
    latest: Timestamp,
}

impl Turns {
    /// The server's clock was put back: what had its turn then waits until the clock is there again.
    pub(super) fn clock_was_put_back(&mut self) {
        self.not_before = self.latest;
        self.passed.clear();
        self.served_at.clear();
    }

    /// Lanes were served so often, beside those that have a job to begin. Returns one that others were served before too often.
    fn served(
        &mut self,
        served: &BTreeMap<LaneOf, i64>,
        have: &BTreeSet<LaneOf>,
    ) -> Option<(LaneOf, LaneOf, i64)> {
        for ((lane, _), passed) in &mut self.passed {
            *passed -= served.get(lane).unwrap_or(&0);
        }
        for lane in have {
            let ours = served.get(lane).copied().unwrap_or(0);
            for (by, theirs) in served.iter().filter(|(by, _)| *by != lane) {
                *self.passed.entry((lane.clone(), by.clone())).or_insert(-ours) += theirs;
            }
        }
        for ((lane, _), passed) in &mut self.passed {
            if served.contains_key(lane) {
                *passed = (*passed).max(0);
            }
        }
        let too_often = self.passed.iter().find(|(_, passed)| **passed > PASSED_MAX);
        too_often.map(|((lane, by), passed)| (lane.clone(), by.clone(), *passed))
    }

    /// A job that waited is gone.
    pub(super) fn deleted(&mut self, job: &Job) {
        if job.phase().is_in_line() {
            self.forget(&lane_of(job));
        }
    }

    /// A lane is counted for anew: another of its jobs may be the first, and have its turn later.
    fn forget(&mut self, lane: &LaneOf) {
        self.passed.retain(|(passed, _), _| passed != lane);
    }

    /// A job came into a lane, due before: the lane has its turn from then on, and once more before the others. One that was
    /// served since keeps its place.
    fn comes_late(&mut self, lane: &LaneOf, due: Timestamp) {
        if self.served_at.get(lane).is_some_and(|served| due <= *served) {
            return;
        }
        for ((_, by), passed) in &mut self.passed {
            *passed -= i64::from(by == lane);
        }
    }
}

impl World {
    /// Checks whose turn it was, against what waited before. `after` are the jobs that are others now.
    pub(super) fn check_turns<'a>(
        &mut self,
        after: impl Iterator<Item = &'a Job>,
        queues: &Queues,
        held: &dyn Fn(&Job) -> bool,
    ) -> Result<(), Broken> {
        let now = self.told();
        let mut started: BTreeMap<QueueName, Vec<&Job>> = BTreeMap::new();
        // Such as those of a batch that is cancelled, in the transaction that starts others.
        let mut left_line = BTreeSet::new();
        self.ledger.turns.latest = self.ledger.turns.latest.max(now);
        for job in after {
            let before = self.ledger.job(job.id);
            if before == Some(job) {
                continue;
            }
            if !job.phase().is_in_line() {
                left_line.insert(job.id);
            }
            if before.map_or(0, |before| before.attempt.0) < job.attempt.0 {
                started.entry(job.queue.clone()).or_default().push(job);
                continue;
            }
            let left = before.filter(|before| before.phase().is_in_line()).map(lane_of);
            let turns = &mut self.ledger.turns;
            left.iter().for_each(|lane| turns.forget(lane));
            if job.phase().is_in_line() && job.due() < now {
                turns.comes_late(&lane_of(job), job.due());
            }
        }
        let has_jobs = |(queue, key): &LaneOf| {
            key.as_ref()
                .is_some_and(|key| queues.get(queue).is_some_and(|(_, lanes)| lanes.contains_key(key)))
        };
        let turns = &mut self.ledger.turns;
        turns.served_at.extend(started.values().flatten().map(|job| (lane_of(job), now)));
        turns.served_at.retain(|lane, _| has_jobs(lane));
        if now < self.ledger.turns.not_before {
            return Ok(());
        }
        for (queue, started) in started {
            self.check_queue_s_turns(&queue, &started, &left_line, queues, held)?;
        }
        Ok(())
    }

    fn check_queue_s_turns(
        &mut self,
        queue: &QueueName,
        started: &[&Job],
        left_line: &BTreeSet<JobId>,
        queues: &Queues,
        held: &dyn Fn(&Job) -> bool,
    ) -> Result<(), Broken> {
        let (now, policy) = (self.told(), self.policies.get(queue).cloned().unwrap_or_default());
        let waits = |job: &&Job| {
            job.queue == *queue
                && job.phase().is_in_line()
                && job.due() <= now
                && !job.has_expired(now)
                && !held(job)
                && !left_line.contains(&job.id)
        };
        let waiting: Vec<Job> = self.ledger.jobs().filter(waits).cloned().collect();
        // A suspect waits for a Machine of its own, and others for it.
        if waiting.iter().chain(started.iter().copied()).any(Job::is_suspect) {
            self.ledger.turns.passed.retain(|((of, _), _), _| of != queue);
            return Ok(());
        }
        let mut served: BTreeMap<LaneOf, i64> = BTreeMap::new();
        for job in started {
            *served.entry(lane_of(job)).or_default() += 1;
            let sooner =
                waiting.iter().find(|other| lane_of(other) == lane_of(job) && rank(other) < rank(job));
            ensure(sooner.is_none(), || {
                format!("{} began before {sooner:?}, behind which it is: {job:?}", job.id)
            })?;
        }
        let mut have: BTreeSet<LaneOf> = waiting.iter().map(lane_of).collect();
        let turns = &mut self.ledger.turns;
        served.keys().filter(|lane| !have.contains(*lane)).for_each(|lane| turns.forget(lane));
        have.retain(|(_, key)| {
            let row = key.as_ref().and_then(|key| queues.get(queue)?.1.get(key));
            row.is_none_or(|row| row.room(&policy, now) > 0)
        });
        let passed = turns.served(&served, &have);
        ensure(passed.is_none(), || {
            format!("a lane has jobs to begin, and another was served before: {passed:?}")
        })
    }
}
