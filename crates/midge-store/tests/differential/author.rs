//! Who draws a history by chance: few of everything, so that most of what is asked for is there.

use std::collections::BTreeSet;
use std::fmt::Debug;

use midge_core::{Bucket, Callback, Change, Job, JobEvent, Links, MachineEnd, NewJob, UniqueHold, UniqueKey};
use midge_protocol::api::{BatchEvent, OnConflict, Pause, UniqueState};
use midge_protocol::exchange::Outcome;
use midge_protocol::job::{AfterFailed, AttemptLimits, Cause, Failure, Progress, RetryPolicy};
use midge_protocol::{
    AttemptNumber, BatchId, Fingerprint, JobId, JobKey, Labels, Lease, QueueName, Tag, Timestamp,
};
use midge_store::conformance::fixtures::{Chance, at, id, machine_name, module, queue};
use midge_store::{Content, Rows, StoreError};

pub const JOBS: u64 = 40;
pub const QUEUES: [&str; 3] = ["a", "b", "c"];
pub const MODULES: [&str; 2] = ["x", "y"];
pub const KEYS: [&str; 3] = ["k1", "k2", "k3"];
pub const TAGS: [&str; 2] = ["blue", "red"];
pub const MACHINES: [&str; 4] = ["m1", "m2", "m3", "m4"];
pub const SCHEDULES: [&str; 2] = ["nightly", "often"];
pub const CONTENTS: [Content; 6] = Content::ALL;
pub const CAUSES: [Cause; 2] = [Cause::Exit, Cause::Refused];
/// Texts in messages: the first two are alike.
const MESSAGES: [&str; 3] = ["user 42 not found", "user 7 not found", "an \u{e9}nd"];
/// Later than the history goes: a bucket that is full by now is as good as none, and a store may forget it sooner or later.
pub const FAR: i64 = 1_000_000_000;

/// One thing that a transaction does.
pub struct Step {
    /// The methods that it calls, with a space between them.
    pub methods: &'static str,
    /// Does it, and returns what was answered as text.
    pub act: Act,
}

type Act = Box<dyn Fn(&mut dyn Rows) -> Result<String, StoreError> + Send + Sync>;

pub fn step<T: Debug>(
    methods: &'static str,
    act: impl Fn(&mut dyn Rows) -> Result<T, StoreError> + Send + Sync + 'static,
) -> Step {
    Step { methods, act: Box::new(move |rows| Ok(format!("{:?}", act(rows)?))) }
}

/// Every other id says when it was made.
pub fn job_id(number: u64) -> JobId {
    if number.is_multiple_of(2) {
        return id(number.into());
    }
    let mut bytes = *JobId::first_at(at(number as i64 * 10)).as_bytes();
    (bytes[6], bytes[15]) = (0x70, number as u8);
    JobId::from_bytes(bytes)
}

/// Makes of a job what is drawn: of none, a new one.
pub type Becomes = Box<dyn Fn(&mut dyn Rows) -> Result<Change, StoreError> + Send + Sync>;

/// What is done next, drawn by chance.
pub struct Author {
    chance: Chance,
    /// Every change has a time of its own, so that nothing is to be deleted at the same time as something else.
    pub now: i64,
}

impl Author {
    pub fn new(seed: u64) -> Author {
        Author { chance: Chance::new(seed), now: 0 }
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.chance.below(end)
    }

    pub fn one_of(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }

    pub fn maybe<T>(&mut self, draw: impl FnOnce(&mut Author) -> T) -> Option<T> {
        self.one_of(3).then(|| draw(self))
    }

    pub fn job(&mut self) -> JobId {
        job_id(self.below(JOBS))
    }

    /// Draws jobs, each another.
    pub fn some_jobs(&mut self, most: u64) -> Vec<JobId> {
        let jobs: BTreeSet<JobId> = (0..self.below(most)).map(|_| self.job()).collect();
        jobs.into_iter().collect()
    }

    pub fn batch(&mut self) -> BatchId {
        BatchId::from_bytes(u128::from(self.below(4)).to_be_bytes())
    }

    pub fn attempt(&mut self) -> AttemptNumber {
        AttemptNumber(1 + self.below(3) as u32)
    }

    pub fn queue(&mut self) -> QueueName {
        queue(self.pick(&QUEUES))
    }

    pub fn some_key(&mut self) -> JobKey {
        JobKey::new(self.pick(&KEYS)).unwrap()
    }

    pub fn key(&mut self) -> Option<JobKey> {
        (!self.one_of(3)).then(|| self.some_key())
    }

    pub fn tag(&mut self) -> Tag {
        Tag::new(self.pick(&TAGS)).unwrap()
    }

    pub fn fingerprint(&mut self) -> Fingerprint {
        Fingerprint(self.pick(&[1, 2, u64::MAX]))
    }

    pub fn time(&mut self) -> Timestamp {
        at(self.now + self.below(400) as i64 - 200)
    }

    pub fn tick(&mut self) -> Timestamp {
        self.now += 1 + self.below(20) as i64;
        at(self.now)
    }

    pub fn bytes(&mut self) -> Vec<u8> {
        let len = self.pick(&[0, 1, 7, 300]);
        match len {
            7 => format!("{{\"n\": {}}}", self.below(10)).into_bytes(),
            _ => (0..len).map(|_| self.below(256) as u8).collect(),
        }
    }

    pub fn pause(&mut self) -> Option<Pause> {
        let until = self.one_of(2).then(|| self.time());
        let pause = Pause { since: self.time(), until, reason: "\"\0é".to_owned(), by: String::new() };
        (!self.one_of(3)).then_some(pause)
    }

    pub fn bucket(&mut self) -> Bucket {
        match self.pick(&[0, FAR * 1_000 + 1, FAR * 2_000]) {
            0 => Bucket::default(),
            full_at_us => Bucket { full_at_us: at(0).as_millis() * 1_000 + full_at_us },
        }
    }

    pub fn failure(&mut self) -> Failure {
        Failure::new(self.pick(&CAUSES), self.pick(&MESSAGES))
    }

    fn priority(&mut self) -> i8 {
        self.pick(&[0, 0, 0, -100, -1, 2])
    }

    /// Draws what becomes of a job.
    pub fn becomes(&mut self, id: JobId) -> Becomes {
        let (new, now) = (self.new_job(id), self.tick());
        let event = self.event(now);
        let moved = (self.queue(), self.key(), self.priority(), self.one_of(8));
        Box::new(move |rows| {
            let Some(job) = rows.jobs(&[id])?.pop().flatten() else {
                return Ok(Change { job: new.clone(), attempt: None });
            };
            Ok(job.apply(meant_for(&job, event.clone()), now).unwrap_or_else(|_| {
                // A store decides nothing: it takes a job that has moved, too.
                let (queue, key, priority, moves) = moved.clone();
                let job = if moves { Job { queue, key, priority, ..job } } else { job };
                Change { job, attempt: None }
            }))
        })
    }

    fn event(&mut self, now: Timestamp) -> JobEvent {
        let machine = machine_name(self.pick(&MACHINES));
        let lease = Lease { machine: machine.clone(), attempt: AttemptNumber(0) };
        match self.below(19) {
            0..4 => JobEvent::Claimed { machine },
            4..8 => {
                let outcome = match self.below(5) {
                    0 => Outcome::Completed { result: "yes".into() },
                    1 => Outcome::Snoozed { after_ms: self.below(300) },
                    2 => Outcome::HANDED_BACK,
                    _ => Outcome::Failed(self.failure()),
                };
                JobEvent::Finished { lease, outcome, usage: None, jitter: 0.5 }
            }
            8 => {
                let progress = Progress { done: self.below(9), total: 9, message: String::new() };
                JobEvent::Progressed { lease, progress }
            }
            9 => JobEvent::MachineLost { machine, end: MachineEnd::Crashed, note: "gone".into() },
            10 => JobEvent::Held,
            11 => self.pick(&[JobEvent::Released, JobEvent::Expired]),
            12 => JobEvent::RetryAsked,
            13 => JobEvent::PriorityAsked(self.priority()),
            14 => JobEvent::MoveAsked(self.queue()),
            15 => JobEvent::Met,
            16 => JobEvent::Unmet { why: "it failed".into() },
            17 => JobEvent::PushedBack { due: now, expires_at: self.maybe(Author::time), retry_until: None },
            _ => JobEvent::CancelAsked,
        }
    }

    /// Draws a job that is not there yet.
    pub fn new_job(&mut self, id: JobId) -> Job {
        let expires_at = self.one_of(4).then(|| at(self.now + 1 + self.below(300) as i64));
        let batch = self.maybe(Author::batch);
        let parent = self.maybe(Author::job);
        let callback = self.one_of(8).then(|| Callback { batch: self.batch(), when: BatchEvent::Ended });
        let after_failed = self.pick(&[AfterFailed::Cancel, AfterFailed::GoOn, AfterFailed::Wait]);
        let links = Links {
            batch,
            callback,
            after_failed,
            parent,
            has_dependents: self.one_of(3),
            schedule: None,
            behind: self.below(3),
            depth: self.below(3) as u32,
        };
        let tags: BTreeSet<Tag> = (0..self.below(3)).map(|_| self.tag()).collect();
        let new = NewJob {
            id,
            module: module(self.pick(&MODULES)),
            queue: self.queue(),
            priority: self.priority(),
            key: self.key(),
            labels: Labels { tags: tags.into_iter().collect(), ..Labels::default() },
            content_hash: self.below(u64::MAX),
            retry: RetryPolicy {
                max_attempts: 3,
                backoff: "20ms..200ms".parse().unwrap(),
                ..RetryPolicy::default()
            },
            limits: AttemptLimits::default(),
            has_own_time_limit: false,
            due: self.time(),
            retry_until: None,
            expires_at,
            unique: None,
            links,
        };
        let pending = self.one_of(5);
        let job = Job::new(new, self.tick());
        if pending { job.pending() } else { job }
    }

    /// Draws a job that is to be the only one of its key, and what becomes of another that is.
    pub fn unique_job(&mut self, id: JobId) -> (Job, OnConflict) {
        let mut states = OnConflict::default().states();
        states.0.extend(self.maybe(|author| author.pick(&UniqueState::ALL)));
        let hold = UniqueHold {
            key: UniqueKey([self.below(3) as u8; 16]),
            states,
            until: self.one_of(2).then(|| at(self.now + self.below(300) as i64)),
        };
        let all =
            [OnConflict::Keep, OnConflict::Replace, OnConflict::PushBack, OnConflict::ReplaceAndPushBack];
        (Job { unique: Some(hold), ..self.new_job(id) }, self.pick(&all))
    }
}

/// Returns an event with the lease that a job has, where it says one.
fn meant_for(job: &Job, event: JobEvent) -> JobEvent {
    match (job.lease().cloned(), event) {
        (Some(lease), JobEvent::Finished { outcome, usage, jitter, .. }) => {
            JobEvent::Finished { lease, outcome, usage, jitter }
        }
        (Some(lease), JobEvent::Progressed { progress, .. }) => JobEvent::Progressed { lease, progress },
        (_, event) => event,
    }
}
