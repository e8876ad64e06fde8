//! Lanes: the jobs of a queue that share a key, and how lanes take turns.
//!
//! A queue's jobs without a key are a lane as well, which has no row: what is kept of it is in [`QueueRow`].

use midge_protocol::api::Pause;
use midge_protocol::manifest::{QueuePolicy, Rate};
use midge_protocol::{JobKey, QueueName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::OverBudget;
use crate::settle::Settled;
use crate::{Bucket, Phase};

/// When a lane is looked at next: those whose turn has come are served, smallest first. A time in microseconds, so that
/// those that were served in the same millisecond have an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Turn(pub i64);

impl Turn {
    /// Returns the first turn that has come at a time.
    pub fn at(time: Timestamp) -> Turn {
        Turn(time.as_millis().saturating_mul(1_000))
    }

    /// Returns the last turn that has come at a time.
    pub fn until(time: Timestamp) -> Turn {
        Turn(Turn::at(time).0.saturating_add(999))
    }

    /// Returns the turn behind all that have come, of which `last` is the last.
    #[must_use]
    pub fn behind(last: Option<Turn>, now: Timestamp) -> Turn {
        let next = last.map_or(Turn::at(now), |last| Turn(last.0.saturating_add(1)));
        next.max(Turn::at(now))
    }

    /// Returns when it comes.
    pub fn comes(self) -> Timestamp {
        Timestamp::from_millis(self.0.div_euclid(1_000))
    }
}

/// The jobs of a queue that share a key, as far as it takes to find the next: its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// The queue of its jobs.
    pub queue: QueueName,
    /// The key of its jobs.
    pub key: JobKey,
    /// The number of its jobs that wait in line, due or not.
    pub waiting: u64,
    /// The number of its jobs that run.
    pub running: u64,
    /// When it is looked at next; nothing where nothing of it waits.
    pub turn: Option<Turn>,
    /// The turn that it got when it was served last, behind all others: no job of it brings it before that.
    pub served: Option<Turn>,
    /// Whether it runs as many jobs as it may, so that it is not looked at: until one of them ends.
    pub full: bool,
    /// What is left of the rate of its key.
    pub bucket: Bucket,
}

/// What of a job a lane goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InLane {
    /// Whether it waits, runs or has ended.
    pub phase: Phase,
    /// When it is due, or was last.
    pub due: Timestamp,
}

impl Lane {
    /// Makes the lane of a key that has no job yet.
    pub fn new(queue: QueueName, key: JobKey) -> Lane {
        let bucket = Bucket::default();
        Lane { queue, key, waiting: 0, running: 0, turn: None, served: None, full: false, bucket }
    }

    /// Counts what became of one of its jobs: nothing before it was there, and nothing after it is gone. A job that comes
    /// into line brings the lane its turn when it is due, and not before the turn that the lane got when it was served.
    pub fn count(&mut self, before: Option<InLane>, after: Option<InLane>) {
        let in_phase =
            |job: Option<InLane>, of: fn(Phase) -> bool| u64::from(job.is_some_and(|job| of(job.phase)));
        let running = |phase| phase == Phase::Running;
        let is_nothing_to_it = |job| in_phase(job, Phase::is_in_line) == 0 && in_phase(job, running) == 0;
        if is_nothing_to_it(before) && is_nothing_to_it(after) {
            // Such as a job that ended and is deleted, which is no reason to look at others sooner or later.
            return;
        }
        // A count that is too small already is not made worse: it is right again when the lane is empty.
        self.waiting = (self.waiting + in_phase(after, Phase::is_in_line))
            .saturating_sub(in_phase(before, Phase::is_in_line));
        self.running = (self.running + in_phase(after, running)).saturating_sub(in_phase(before, running));
        if in_phase(before, running) > in_phase(after, running) {
            self.full = false;
        }
        match after {
            _ if self.waiting == 0 => self.turn = self.rests_until(),
            Some(job) if job.phase.is_in_line() => {
                // Whatever time the job was written by: else who keeps adding jobs that were due a while ago, as all are
                // that had to wait to be written, would go before others.
                let turn = self.served.map_or(Turn::at(job.due), |served| served.max(Turn::at(job.due)));
                self.turn = Some(self.turn.map_or(turn, |before| before.min(turn)));
            }
            _ => {}
        }
    }

    /// Returns when a lane in which nothing waits can be forgotten, where only its bucket is in the way.
    pub(crate) fn rests_until(&self) -> Option<Turn> {
        (self.running == 0 && self.bucket != Bucket::default()).then(|| Turn::at(self.bucket.full_at()))
    }

    /// Returns whether nothing is kept of it that a new lane would not have, at a time.
    pub fn is_idle(&self, now: Timestamp) -> bool {
        self.waiting == 0 && self.running == 0 && self.bucket.is_full(now)
    }

    /// Returns how many of its jobs may begin at a time, under what its queue allows a key.
    pub fn room(&self, policy: &QueuePolicy, now: Timestamp) -> u64 {
        room(policy.max_running_per_key, self.running, policy.rate_per_key, self.bucket, now)
    }
}

/// What is kept of a queue beside its jobs: that it is paused, what is left of its rate, and whose turn it is. One of
/// which nothing is kept has no row.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueRow {
    /// That it is paused, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// That it has fewer Machines or starts nothing, for its budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over_budget: Option<OverBudget>,
    /// What is left of its rate.
    pub bucket: Bucket,
    /// The turn that its jobs without a key got when they were served last, behind all others: none brings them before that.
    pub turn: Turn,
    /// When a claim of a pool's Machine gave it something last: the one that waits for that longest is first. 0 where it has Machines
    /// of its own.
    #[serde(skip_serializing_if = "is_first_turn")]
    pub served: Turn,
    /// By which limits this and its lanes were written.
    #[serde(skip_serializing_if = "Settled::is_default")]
    pub settled: Settled,
}

fn is_first_turn(turn: &Turn) -> bool {
    *turn == Turn::default()
}

impl QueueRow {
    /// Returns whether it starts nothing at a time.
    pub fn paused(&self, now: Timestamp) -> Option<&Pause> {
        self.pause.as_ref().filter(|pause| pause.is_on(now))
    }

    /// Returns when its jobs without a key have their turn, the first of which is due at a time: then, and not before the
    /// turn that they got when they were served.
    pub fn keyless_turn(&self, first_due: Option<Timestamp>) -> Turn {
        self.turn.max(first_due.map_or(Turn(i64::MIN), Turn::at))
    }

    /// Returns how many of its jobs may begin at a time, where so many run.
    pub fn room(&self, policy: &QueuePolicy, running: u64, now: Timestamp) -> u64 {
        match (self.paused(now), self.stopped_for_budget(now)) {
            (Some(_), _) | (_, Some(_)) => 0,
            (None, None) => room(policy.max_running, running, policy.rate, self.bucket, now),
        }
    }

    /// Returns when it may have room again, where it has none and only time brings it; nothing where something else must
    /// happen first.
    pub fn room_at(&self, policy: &QueuePolicy, running: u64, now: Timestamp) -> Option<Timestamp> {
        if let Some(pause) = self.paused(now) {
            return pause.until;
        }
        if let Some(until) = self.stopped_for_budget(now) {
            return Some(until);
        }
        let has_slots = policy.max_running.is_none_or(|max| running < u64::from(max));
        let rate = policy.rate.filter(|rate| has_slots && self.bucket.tokens(*rate, now) == 0)?;
        Some(self.bucket.next(rate))
    }
}

fn room(max_running: Option<u32>, running: u64, rate: Option<Rate>, bucket: Bucket, now: Timestamp) -> u64 {
    let slots = max_running.map_or(u64::MAX, |max| u64::from(max).saturating_sub(running));
    slots.min(rate.map_or(u64::MAX, |rate| bucket.tokens(rate, now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn job(phase: Phase, due: i64) -> Option<InLane> {
        Some(InLane { phase, due: Timestamp::from_millis(NOW.as_millis() + due) })
    }

    fn lane() -> Lane {
        Lane::new(QueueName::default_queue(), JobKey::new("tenant").unwrap())
    }

    fn turn(due: i64) -> Option<Turn> {
        Some(Turn::at(Timestamp::from_millis(NOW.as_millis() + due)))
    }

    #[test]
    fn a_lane_counts_what_waits_and_runs_and_has_its_turn_when_the_first_is_due() {
        let mut lane = lane();
        lane.count(None, job(Phase::Fresh, 20));
        lane.count(None, job(Phase::Fresh, 10));
        lane.count(None, job(Phase::Fresh, 30));
        assert_eq!((lane.waiting, lane.running, lane.turn), (3, 0, turn(10)));
        lane.count(job(Phase::Fresh, 10), job(Phase::Running, 10));
        assert_eq!((lane.waiting, lane.running), (2, 1));
        lane.count(job(Phase::Running, 10), job(Phase::Retrying, 99));
        lane.count(job(Phase::Fresh, 20), None);
        assert_eq!((lane.waiting, lane.running, lane.is_idle(NOW)), (2, 0, false));
        lane.count(job(Phase::Fresh, 30), job(Phase::Cancelled, 30));
        lane.count(job(Phase::Retrying, 99), job(Phase::Cancelled, 99));
        assert!(lane.turn.is_none() && lane.is_idle(NOW));
    }

    #[test]
    fn no_job_brings_a_lane_that_was_served_before_those_that_it_is_behind() {
        let mut lane = Lane { waiting: 1, running: 1, turn: turn(-5), served: turn(-5), ..lane() };
        lane.count(None, job(Phase::Fresh, -60_000));
        lane.count(job(Phase::Held, -90_000), job(Phase::Fresh, -90_000));
        assert_eq!((lane.waiting, lane.turn), (3, turn(-5)), "it keeps its place");
        let mut put_off = Lane { turn: turn(500), ..lane.clone() };
        put_off.count(None, job(Phase::Fresh, 20));
        assert_eq!(put_off.turn, turn(20), "what is due sooner is looked at sooner");
        put_off.count(None, job(Phase::Fresh, -60_000));
        assert_eq!(put_off.turn, turn(-5));
        let mut emptied = Lane { waiting: 0, turn: None, ..lane };
        emptied.count(None, job(Phase::Fresh, -60_000));
        assert_eq!(emptied.turn, turn(-5));
    }

    #[test]
    fn a_job_that_was_to_run_long_ago_brings_its_lane_the_turn_of_its_enqueue() {
        let long_ago = Timestamp::from_millis(5);
        let new = crate::job::tests::new_job(1, long_ago);
        let job = crate::Job::new(new, NOW);
        let mut lane = lane();
        lane.count(None, Some(InLane { phase: job.phase(), due: job.due() }));
        assert_eq!(lane.turn, turn(0));
    }

    #[test]
    fn a_job_that_ended_before_is_deleted_without_a_word_to_its_lane() {
        let resting = Lane { bucket: Bucket { full_at_us: i64::MAX }, running: 1, turn: turn(7), ..lane() };
        let mut lane = resting.clone();
        lane.count(job(Phase::Completed, 0), None);
        lane.count(job(Phase::Held, 0), job(Phase::Cancelled, 0));
        assert_eq!(lane, resting);
    }

    #[test]
    fn a_slot_is_free_when_its_job_runs_no_more_and_not_before() {
        let mut lane = Lane { full: true, running: 2, waiting: 1, ..lane() };
        lane.count(None, job(Phase::Fresh, 0));
        lane.count(job(Phase::Fresh, 0), job(Phase::Cancelled, 0));
        assert!(lane.full);
        lane.count(job(Phase::Running, 0), job(Phase::Retrying, 0));
        assert!(!lane.full);
    }

    #[test]
    fn a_lane_is_forgotten_when_it_is_empty_and_its_rate_has_come_back() {
        let rate = Rate { jobs: 1, per_ms: 1_000, burst: 5 };
        let mut lane = Lane { running: 1, bucket: Bucket::default().take(rate, 2, NOW), ..lane() };
        lane.count(job(Phase::Running, 0), job(Phase::Completed, 0));
        assert_eq!((lane.is_idle(NOW), lane.turn), (false, turn(2_000)));
        assert!(lane.is_idle(lane.turn.unwrap().comes()));
    }

    #[test]
    fn turns_that_are_taken_in_one_millisecond_have_an_order() {
        let first = Turn::behind(None, NOW);
        let second = Turn::behind(Some(first), NOW);
        assert!(first < second && second <= Turn::until(NOW));
        assert_eq!(Turn::behind(Some(Turn::at(Timestamp::from_millis(5))), NOW), Turn::at(NOW));
    }

    #[test]
    fn a_queue_says_when_it_has_room_again_where_time_brings_it() {
        let rate = Rate { jobs: 1, per_ms: 1_000, burst: 1 };
        let policy = QueuePolicy { max_running: Some(3), rate: Some(rate), ..QueuePolicy::default() };
        let empty = QueueRow { bucket: Bucket::default().take(rate, 1, NOW), ..QueueRow::default() };
        assert_eq!((empty.room(&policy, 0, NOW), QueueRow::default().room(&policy, 1, NOW)), (0, 1));
        assert_eq!(empty.room_at(&policy, 0, NOW), Some(Timestamp::from_millis(NOW.as_millis() + 1_000)));
        assert_eq!(empty.room_at(&policy, 3, NOW), None, "a job must end first");
        assert_eq!(QueueRow::default().room_at(&policy, 0, NOW), None, "it has room");
    }
}
