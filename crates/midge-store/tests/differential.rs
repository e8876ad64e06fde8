//! One random history is played to all stores, and each answer and each row is compared.
//!
//! `MIDGE_SEEDS=FROM..TO` plays other histories than the usual ones. Rows that cannot be read are left out: only text can be
//! spoilt.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Write};
use std::ops::Range;

use midge_core::{
    Bucket, Change, Job, JobEvent, JobState, Lane, Machine, MachineEnd, MachineState, ModuleRow, NewJob,
    Phase, QueueRow, Schedule, StateFilter, Turn,
};
use midge_protocol::api::Pause;
use midge_protocol::exchange::Outcome;
use midge_protocol::job::{AttemptLimits, AttemptView, Cause, Failure, Progress, RetryPolicy, State};
use midge_protocol::{AttemptNumber, AttemptRange, JobId, JobKey, Lease, QueueName, ScheduleName, Timestamp};
use midge_store::conformance::fixtures::{Chance, at, id, machine, machine_name, module, queue};
use midge_store::{Content, JobSearch, MemoryStore, Rows, SqliteStore, Store, StoreError, read, write};
use tempfile::TempDir;

/// The stores that are compared. Another one is one more line.
fn stores() -> Vec<(&'static str, Kept)> {
    vec![
        ("memory", Kept { store: Box::new(MemoryStore::new()), _folder: None }),
        (
            "SQLite",
            Kept::in_a_folder(|folder| Box::new(SqliteStore::open(&folder.path().join("midge.db")).unwrap())),
        ),
    ]
}

/// A store, and what has to live as long.
struct Kept {
    store: Box<dyn Store>,
    _folder: Option<TempDir>,
}

impl Kept {
    fn in_a_folder(open: impl Fn(&TempDir) -> Box<dyn Store>) -> Kept {
        let folder = TempDir::new().unwrap();
        Kept { store: open(&folder), _folder: Some(folder) }
    }
}

const SEEDS: Range<u64> = 0..6;
const TRANSACTIONS: usize = 250;
/// So few of everything that most of what is asked for is there.
const JOBS: u64 = 40;
const QUEUES: [&str; 3] = ["a", "b", "c"];
const MODULES: [&str; 2] = ["x", "y"];
const KEYS: [&str; 3] = ["k1", "k2", "k3"];
const MACHINES: [&str; 4] = ["m1", "m2", "m3", "m4"];
const SCHEDULES: [&str; 2] = ["nightly", "often"];
const CONTENTS: [Content; 3] = [Content::Args, Content::Input, Content::Result];
const ENDS: [Phase; 3] = [Phase::Completed, Phase::Cancelled, Phase::Discarded];
/// Later than the history goes: a bucket that is full by now is as good as none, and a store may forget it sooner or later.
const FAR: i64 = 1_000_000_000;

/// One thing that a transaction does; what it asks is answered as text.
type Step = Box<dyn Fn(&mut dyn Rows) -> Result<String, StoreError> + Send + Sync>;

/// What is done next, drawn by chance.
struct Author {
    chance: Chance,
    /// Every change has a time of its own, so that nothing is to be deleted at the same time as something else.
    now: i64,
    /// The jobs that are there, those of the transaction that is being written among them.
    jobs: BTreeMap<JobId, Job>,
}

fn step<T: Debug>(
    name: &str,
    act: impl Fn(&mut dyn Rows) -> Result<T, StoreError> + Send + Sync + 'static,
) -> (String, Step) {
    (name.to_owned(), Box::new(move |rows| Ok(format!("{:?}", act(rows)?))))
}

impl Author {
    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.chance.below(of.len() as u64) as usize].clone()
    }

    fn job(&mut self) -> JobId {
        id(self.chance.below(JOBS).into())
    }

    fn attempt(&mut self) -> AttemptNumber {
        AttemptNumber(1 + self.chance.below(3) as u32)
    }

    fn queue(&mut self) -> QueueName {
        queue(self.pick(&QUEUES))
    }

    fn key(&mut self) -> Option<JobKey> {
        let name = self.pick(&KEYS);
        (self.chance.below(3) > 0).then(|| JobKey::new(name).unwrap())
    }

    fn time(&mut self) -> Timestamp {
        at(self.now + self.chance.below(400) as i64 - 200)
    }

    fn tick(&mut self) -> Timestamp {
        self.now += 1 + self.chance.below(20) as i64;
        at(self.now)
    }

    fn bytes(&mut self) -> Vec<u8> {
        let len = self.pick(&[0, 1, 7, 300]);
        (0..len).map(|_| self.chance.below(256) as u8).collect()
    }

    fn pause(&mut self) -> Option<Pause> {
        let until = (self.chance.below(2) == 0).then(|| self.time());
        let pause = Pause { since: self.time(), until, reason: "\"\0é".to_owned(), by: String::new() };
        (self.chance.below(3) > 0).then_some(pause)
    }

    /// Returns a job that is new, or what an event made of one; and the attempt that ended with it.
    fn change(&mut self) -> Change {
        let (id, now) = (self.job(), self.tick());
        let Some(job) = self.jobs.get(&id).cloned() else {
            let job = self.new_job(id, now);
            return Change { job, attempt: None };
        };
        let machine = machine_name(self.pick(&MACHINES));
        let lease = job.lease().cloned();
        let lease = lease.unwrap_or_else(|| Lease { machine: machine.clone(), attempt: AttemptNumber(0) });
        let failure = Failure::new(self.pick(&[Cause::Exit, Cause::Refused]), "no");
        let outcome = match self.chance.below(5) {
            0 => Outcome::Completed { result: "yes".into() },
            1 => Outcome::Snoozed { after_ms: self.chance.below(300) },
            2 => Outcome::HANDED_BACK,
            _ => Outcome::Failed(failure),
        };
        let progress = Progress { done: self.chance.below(9), total: 9, message: String::new() };
        let lost =
            JobEvent::MachineLost { machine: machine.clone(), end: MachineEnd::Crashed, note: "gone".into() };
        let event = match self.chance.below(12) {
            0..3 => JobEvent::Claimed { machine },
            3..6 => JobEvent::Finished { lease, outcome, usage: None, jitter: 0.5 },
            6 => JobEvent::Progressed { lease, progress },
            7 => lost,
            8 => JobEvent::Held,
            9 => self.pick(&[JobEvent::Released, JobEvent::Expired]),
            10 => JobEvent::RetryAsked,
            _ => JobEvent::CancelAsked,
        };
        match job.apply(event, now) {
            Ok(change) => change,
            // A store decides nothing: it takes a job that has moved, too.
            Err(_) if self.chance.below(8) == 0 => {
                let moved = Job { queue: self.queue(), key: self.key(), priority: self.priority(), ..job };
                Change { job: moved, attempt: None }
            }
            Err(_) => Change { job, attempt: None },
        }
    }

    fn new_job(&mut self, id: JobId, now: Timestamp) -> Job {
        let new = NewJob {
            id,
            module: module(self.pick(&MODULES)),
            queue: self.queue(),
            priority: self.priority(),
            key: self.key(),
            content_hash: self.chance.below(u64::MAX),
            retry: RetryPolicy {
                max_attempts: 3,
                backoff: "20ms..200ms".parse().unwrap(),
                ..RetryPolicy::default()
            },
            limits: AttemptLimits::default(),
            due: self.time(),
            retry_until: None,
            expires_at: (self.chance.below(4) == 0).then(|| at(self.now + 1 + self.chance.below(300) as i64)),
        };
        Job::new(new, now)
    }

    fn priority(&mut self) -> i8 {
        self.pick(&[0, 0, 0, -100, -1, 2])
    }

    fn changed(&mut self, change: &Change) {
        self.jobs.insert(change.job.id, change.job.clone());
    }

    /// Draws something to write.
    fn writes(&mut self) -> (String, Step) {
        match self.chance.below(20) {
            0..7 => {
                let change = self.change();
                self.changed(&change);
                step("put_change", move |rows| rows.put_change(&change))
            }
            7 => {
                let changes: Vec<Change> = (0..self.chance.below(4)).map(|_| self.change()).collect();
                changes.iter().for_each(|change| self.changed(change));
                let jobs: Vec<Job> = changes.into_iter().map(|change| change.job).collect();
                step("put_jobs", move |rows| rows.put_jobs(&jobs))
            }
            8 => {
                let id = self.job();
                self.jobs.remove(&id);
                step("delete_job", move |rows| rows.delete_job(id))
            }
            9 => {
                let (of, phase, before) = (self.queue(), self.pick(&ENDS), self.time());
                let limit = self.chance.below(4) as usize;
                step("delete_ended", move |rows| rows.delete_ended(&of, phase, before, limit))
            }
            10 => {
                let (lanes, now) = (self.lanes(), at(self.now));
                step("put_lanes", move |rows| rows.put_lanes(&lanes, now))
            }
            11 => {
                let (of, turn) = (self.queue(), Turn::at(self.time()));
                let row = QueueRow { pause: self.pause(), bucket: self.bucket(), turn };
                let row = if self.chance.below(3) == 0 { QueueRow::default() } else { row };
                step("put_queue", move |rows| rows.put_queue(&of, &row))
            }
            12 => {
                let (of, row) = (module(self.pick(&MODULES)), ModuleRow { pause: self.pause() });
                step("put_module", move |rows| rows.put_module(&of, &row))
            }
            13 => {
                let (of, content, bytes) = (self.job(), self.pick(&CONTENTS), self.bytes());
                step("put_content", move |rows| rows.put_content(of, content, &bytes))
            }
            14 => {
                let (of, attempt, offset, bytes) =
                    (self.job(), self.attempt(), self.chance.below(400), self.bytes());
                let offset = if self.chance.below(2) == 0 { 0 } else { offset };
                step("append_log", move |rows| rows.append_log(of, attempt, offset, &bytes))
            }
            15 => {
                let (of, view) = (self.job(), self.view());
                step("put_attempt", move |rows| rows.put_attempt(of, &view))
            }
            16 => {
                let (of, first) = (self.job(), self.attempt());
                let range =
                    AttemptRange { first, last: AttemptNumber(first.0 + self.chance.below(2) as u32) };
                step("delete_attempts", move |rows| rows.delete_attempts(of, range))
            }
            17 => {
                let mut row: Machine = machine(self.pick(&MACHINES));
                row.queue = self.queue();
                row.state = self.pick(&[MachineState::Up, MachineState::Draining, MachineState::Gone]);
                row.heard_at = Some(self.time());
                match self.chance.below(4) {
                    0 => step("delete_machine", move |rows| rows.delete_machine(&row.name)),
                    1 => step("delete_unreadable_machines", |rows| rows.delete_unreadable_machines()),
                    _ => step("put_machine", move |rows| rows.put_machine(&row)),
                }
            }
            18 => {
                let (key, value) = (self.pick(&["id", "é"]), format!("{:?}", self.bytes()));
                step("put_setting", move |rows| rows.put_setting(key, &value))
            }
            _ => {
                let row = self.schedule();
                match self.chance.below(4) {
                    0 => step("delete_schedule", move |rows| rows.delete_schedule(&row.name)),
                    _ => step("put_schedule", move |rows| rows.put_schedule(&row)),
                }
            }
        }
    }

    fn bucket(&mut self) -> Bucket {
        let full_at_us = self.pick(&[0, FAR * 1_000 + 1, FAR * 2_000]);
        if full_at_us == 0 {
            Bucket::default()
        } else {
            Bucket { full_at_us: at(0).as_millis() * 1_000 + full_at_us }
        }
    }

    fn lanes(&mut self) -> Vec<Lane> {
        let keys: BTreeSet<&str> = (0..self.chance.below(3)).map(|_| self.pick(&KEYS)).collect();
        let of = self.queue();
        let lane = |key: &str| {
            let turn = (self.chance.below(4) > 0).then(|| Turn::at(self.time()));
            let (full, bucket) = (self.chance.below(4) == 0, self.bucket());
            Lane { turn, full, bucket, ..Lane::new(of.clone(), JobKey::new(key).unwrap()) }
        };
        keys.into_iter().map(lane).collect()
    }

    fn view(&mut self) -> AttemptView {
        AttemptView {
            attempt: self.attempt(),
            machine: machine_name(self.pick(&MACHINES)),
            scheduled_at: self.time(),
            started_at: self.time(),
            ended_at: self.time(),
            spent: self.chance.below(2) == 0,
            failure: None,
            usage: None,
        }
    }

    fn schedule(&mut self) -> Schedule {
        Schedule {
            name: ScheduleName::new(self.pick(&SCHEDULES)).unwrap(),
            clock: self.chance.below(u64::MAX),
            done: self.time(),
            next: (self.chance.below(3) > 0).then(|| self.time()),
            pause: self.pause(),
            last_tick: None,
            last_job: Some(self.job()),
            last_by_hand: false,
            removed: None,
        }
    }

    /// Draws something to ask.
    fn asks(&mut self) -> (String, Step) {
        let (of, key, now) = (self.queue(), self.key(), self.time());
        let limit = self.pick(&[0, 1, 3, 100]);
        let (job, attempt) = (self.job(), self.attempt());
        let some_key = JobKey::new(self.pick(&KEYS)).unwrap();
        let (of_machine, of_module) = (machine_name(self.pick(&MACHINES)), module(self.pick(&MODULES)));
        let (content, offset) = (self.pick(&CONTENTS), self.chance.below(400));
        let name = ScheduleName::new(self.pick(&SCHEDULES)).unwrap();
        match self.chance.below(28) {
            0 => {
                let ids = [job, id(1_000), self.job(), job];
                step("jobs", move |rows| rows.jobs(&ids))
            }
            1 => step("jobs_due", move |rows| rows.jobs_due(&of, key.as_ref(), now, limit)),
            2 => step("next_due_of_key", move |rows| rows.next_due_of_key(&of, &some_key, now)),
            3 => step("jobs_leased", move |rows| rows.jobs_leased(&of_machine)),
            4 => {
                let search = self.search();
                step("jobs_listed", move |rows| rows.jobs_listed(&search, limit))
            }
            5 => step("job_counts", move |rows| counts(rows, now)),
            6 => step("jobs_waiting", move |rows| rows.jobs_waiting(&of)),
            7 => step("jobs_running", move |rows| rows.jobs_running(&of)),
            8 => step("modules_held", |rows| rows.modules_held()),
            9 => step("jobs_held", move |rows| rows.jobs_held(&of_module, limit)),
            10 => step("next_due", move |rows| rows.next_due(now)),
            11 => step("jobs_expired", move |rows| rows.jobs_expired(now, limit)),
            12 => step("next_expiry", |rows| rows.next_expiry()),
            13 => {
                let phase = self.pick(&ENDS);
                step("first_ended", move |rows| rows.first_ended(&of, phase))
            }
            14 => step("lane", move |rows| rows.lane(&of, &some_key)),
            15 => step("lanes_come", move |rows| rows.lanes_come(&of, now, limit)),
            16 => step("turns", move |rows| rows.turns(&of, now)),
            17 => step("queue", move |rows| rows.queue(&of)),
            18 => step("queues", |rows| rows.queues()),
            19 => step("modules", |rows| rows.modules()),
            20 => step("content", move |rows| rows.content(job, content)),
            21 => step("log", move |rows| rows.log(job, attempt)),
            22 => step("log_from", move |rows| rows.log_from(job, attempt, offset, limit)),
            23 => step("attempts", move |rows| rows.attempts(job)),
            24 => step("machine", move |rows| rows.machine(&of_machine)),
            25 => step("machines", |rows| rows.machines()),
            26 => {
                step("setting", |rows| Ok((rows.setting("id")?, rows.setting("é")?, rows.setting("none")?)))
            }
            _ => step("schedules", move |rows| {
                Ok((rows.schedule(&name)?, rows.schedules()?, rows.next_schedule()?))
            }),
        }
    }

    fn search(&mut self) -> JobSearch {
        let now = self.time();
        let state = (self.chance.below(2) == 0).then(|| StateFilter::of(self.pick(&State::ALL), now));
        JobSearch {
            state: state.unwrap_or_default(),
            queue: (self.chance.below(2) == 0).then(|| self.queue()),
            module: (self.chance.below(2) == 0).then(|| module(self.pick(&MODULES))),
            before: (self.chance.below(2) == 0).then(|| self.job()),
        }
    }
}

/// Counts as they are compared: a phase without jobs may be missing.
fn counts(rows: &mut dyn Rows, now: Timestamp) -> Result<String, StoreError> {
    let mut counts = rows.job_counts(now)?;
    counts.values_mut().for_each(|counts| counts.phases.retain(|_, jobs| *jobs > 0));
    Ok(format!("{counts:?}"))
}

/// Everything that is kept, as text with a line each.
fn everything(rows: &mut dyn Rows) -> Result<String, StoreError> {
    let mut all = String::new();
    let mut line = |text: String| writeln!(all, "{text}").expect("a string takes everything");
    for number in 0..JOBS {
        let id = id(number.into());
        line(format!("{number}: {:?} {:?}", rows.jobs(&[id])?, rows.attempts(id)?));
        for content in CONTENTS {
            line(format!("{number} {content:?}: {:?}", rows.content(id, content)?));
        }
        for attempt in 0..5 {
            line(format!("{number} log {attempt}: {:?}", rows.log(id, AttemptNumber(attempt))?));
        }
    }
    for of in QUEUES.map(queue) {
        line(format!("{of}: {:?} {} waiting", rows.queue(&of)?, rows.jobs_waiting(&of)?));
        line(format!("{of} in turn: {:?}", rows.lanes_come(&of, at(2 * FAR), 100)?));
        for key in KEYS.map(|key| JobKey::new(key).unwrap()) {
            line(format!("{of} {key}: {:?}", rows.lane(&of, &key)?));
        }
    }
    line(format!("{:?}", rows.machines()?));
    line(format!("{:?} {:?}", rows.modules()?, rows.schedules()?));
    line(format!("{:?} {:?} {:?}", rows.setting("id")?, rows.setting("é")?, rows.modules_held()?));
    line(counts(rows, at(0))?);
    Ok(all)
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Does all steps in one transaction, and returns the answers.
fn transact(store: &dyn Store, steps: &std::sync::Arc<Vec<(String, Step)>>, way: Way) -> Vec<String> {
    let answers = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let (steps, told) = (steps.clone(), answers.clone());
    let work = move |rows: &mut dyn Rows| {
        for (_, step) in steps.iter() {
            let answer = step(rows)?;
            told.lock().unwrap().push(answer);
        }
        if way == Way::Fails { Err(StoreError::Failed("changed our mind".to_owned())) } else { Ok(()) }
    };
    let ended = match way {
        Way::Reads => wait(read(store, work)),
        Way::Writes | Way::Fails => wait(write(store, work)),
    };
    assert_eq!(ended.is_ok(), way != Way::Fails, "{ended:?}");
    std::mem::take(&mut *answers.lock().unwrap())
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Reads,
    Writes,
    /// Writes, and then fails: nothing of it is left.
    Fails,
}

fn play(seed: u64, seen: &mut BTreeSet<String>) {
    let stores = stores();
    let mut author = Author { chance: Chance::new(seed), now: 0, jobs: BTreeMap::new() };
    for number in 0..TRANSACTIONS {
        let way = author.pick(&[Way::Reads, Way::Writes, Way::Writes, Way::Writes, Way::Writes, Way::Fails]);
        let before = author.jobs.clone();
        let steps = (0..1 + author.chance.below(6)).map(|_| match way {
            Way::Reads => author.asks(),
            _ if author.chance.below(3) == 0 => author.asks(),
            _ => author.writes(),
        });
        let steps = std::sync::Arc::new(steps.collect::<Vec<_>>());
        seen.extend(steps.iter().map(|(name, _)| name.clone()));
        let answers: Vec<_> = stores.iter().map(|(_, kept)| transact(&*kept.store, &steps, way)).collect();
        for ((name, _), others) in stores.iter().zip(&answers).skip(1) {
            for (index, (step, _)) in steps.iter().enumerate() {
                assert_eq!(
                    answers[0][index], others[index],
                    "seed {seed}, transaction {number} ({way:?}), step {index}: {} and {name} differ in {step}",
                    stores[0].0
                );
            }
        }
        let rows: Vec<_> =
            stores.iter().map(|(_, kept)| wait(read(&*kept.store, everything)).unwrap()).collect();
        for ((name, _), others) in stores.iter().zip(&rows).skip(1) {
            let differing = rows[0].lines().zip(others.lines()).find(|(one, other)| one != other);
            let steps: Vec<_> = steps.iter().map(|(step, _)| step).collect();
            assert_eq!(
                differing, None,
                "seed {seed}, after transaction {number} ({way:?}, {steps:?}), {} and {name} differ",
                stores[0].0
            );
        }
        // What was deleted by its age is not known before.
        let ids: Vec<JobId> = (0..JOBS).map(|number| id(number.into())).collect();
        let there = wait(read(&*stores[0].1.store, move |rows| rows.jobs(&ids))).unwrap();
        author.jobs = there.into_iter().flatten().map(|job| (job.id, job)).collect();
        assert!(way == Way::Writes || author.jobs == before, "nothing is left of what fails");
    }
    assert!(author.jobs.values().any(|job| matches!(job.state, JobState::Running { .. })));
}

fn seeds() -> Range<u64> {
    let Ok(range) = std::env::var("MIDGE_SEEDS") else { return SEEDS };
    let (from, to) = range.split_once("..").expect("MIDGE_SEEDS is a range such as 0..1000");
    from.parse().expect("a number")..to.parse().expect("a number")
}

#[test]
fn all_stores_give_the_same_answers_and_keep_the_same_rows() {
    let mut seen = BTreeSet::new();
    seeds().for_each(|seed| play(seed, &mut seen));
    // What nobody calls is compared by nobody.
    for method in methods() {
        assert!(
            seen.contains(method) || ["schedule", "next_schedule"].contains(&method),
            "no history has {method}"
        );
    }
}

/// Returns the names of all methods of rows, as their traits have them.
fn methods() -> Vec<&'static str> {
    let rows = include_str!("../src/rows.rs");
    let traits = rows.split("\npub trait ").skip(2).filter_map(|text| text.split("\n}\n").next());
    let methods: Vec<_> = traits.flat_map(|text| text.split("\n    fn ").skip(1)).collect();
    let name = |text: &'static str| text.split(['(', '<']).next().unwrap();
    methods.into_iter().map(name).collect()
}

#[test]
fn every_method_of_rows_is_in_a_history() {
    let methods = methods();
    assert!(
        methods.contains(&"jobs_due") && methods.contains(&"put_change") && methods.len() > 40,
        "{methods:?}"
    );
    let source = include_str!("differential.rs");
    for method in methods {
        assert!(source.contains(&format!("rows.{method}(")), "add `{method}` to `asks` or `writes`");
    }
}
