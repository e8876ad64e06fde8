//! What people do: enqueue, repeat themselves, cancel, retry, deploy.

use std::collections::BTreeMap;
use std::time::Duration;

use midge_core::{JobEvent, Links, ModuleRow, NewJob, QueueRow, needs_room};
use midge_protocol::api::Pause;
use midge_protocol::job::{AttemptLimits, Backoff, Cause, RetryPolicy};
use midge_protocol::manifest::{Idle, QueuePolicy, Rate, Wait};
use midge_protocol::{JobId, JobKey, Labels, ModuleName, QueueName, Tag, Timestamp};
use midge_server::dispatcher::{self, Drained};
use midge_store::{Rows, StoreError};

use super::after::{self, Asked, Put};
use super::chance::Chance;
use super::ledger::Broken;
use super::room::Then;
use super::world::{Event, World};
use super::{deletes, room, schedules, unique};

/// A module that some images are without.
const GONE_AT_TIMES: &str = "at_times";
/// The modules of jobs, each as likely as the others.
pub(super) const MODULES: [&str; 2] = ["work", GONE_AT_TIMES];

/// What somebody pauses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Paused {
    Queue(QueueName),
    Module(ModuleName),
}

/// A job that was deleted is enqueued again within this, if it is.
const ENQUEUED_AGAIN_MS: u64 = 2_000;
/// Jobs that come all at once come within this.
const ALL_AT_ONCE_MS: u64 = 2_000;
/// How long an enqueue waits at most until it is written: its time is then past, and others were claimed meanwhile.
const WRITTEN_LATE_MS: u64 = 500;
/// So long ago some jobs are due when they are enqueued.
const DUE_BEFORE_MS: u64 = 12 * 3_600_000;

/// The module whose guest takes its Machine down.
pub(super) const POISON: &str = "poison";

/// Draws queues of some kinds. Without warm and ready ones, there are times without any Machine.
pub(super) fn draw_policies(chance: &mut Chance) -> BTreeMap<QueueName, QueuePolicy> {
    let base =
        |max_machines| QueuePolicy { max_machines, wait: Wait::Millis(5_000), ..QueuePolicy::default() };
    let policies = [
        ("plain", base(2)),
        ("warm", QueuePolicy { warm_machines: 1, jobs_per_machine: 3, ..base(3) }),
        ("ready", QueuePolicy { ready_machines: 2, ..base(2) }),
        ("asleep", QueuePolicy { ready_machines: 1, idle: Idle::Suspend, ..base(2) }),
        ("first", QueuePolicy { pool: Some(queue("shared")), ready_machines: 1, ..base(2) }),
        ("second", QueuePolicy { pool: Some(queue("shared")), ready_machines: 1, ..base(2) }),
        ("tidy", QueuePolicy { ready_machines: 1, idle: Idle::Destroy, ..base(2) }),
        ("once", QueuePolicy { single_use: true, ..base(3) }),
        ("wide", QueuePolicy { jobs_per_machine: 8, ..base(1) }),
        ("narrow", QueuePolicy { warm_machines: 1, jobs_per_machine: 1, ..base(1) }),
    ];
    let policies = policies.map(|(name, policy)| (name, limited(policy, chance)));
    let chosen = 1 + chance.below((1 << policies.len()) - 1);
    let chosen = policies.into_iter().enumerate().filter(|(number, _)| chosen >> number & 1 == 1);
    chosen.map(|(_, (name, policy))| (queue(name), policy)).collect()
}

/// Gives a queue limits, or none: each by itself, and all at once.
fn limited(policy: QueuePolicy, chance: &mut Chance) -> QueuePolicy {
    let mut some = |most: u64| (chance.below(3) == 0).then(|| 1 + chance.below(most) as u32);
    let (max_running, max_running_per_key) = (some(5), some(2));
    // No slower than jobs can end within the time that a run has for that.
    let rate = |jobs: u32, burst: u32| Rate { jobs, per_ms: 10_000, burst };
    let rates =
        [some(20).map(|jobs| rate(jobs + 4, jobs.div_ceil(3))), some(9).map(|jobs| rate(jobs + 1, jobs))];
    let max_jobs = some(6).map_or(policy.max_jobs, u64::from);
    let keep = deletes::draw_keep(chance);
    let [rate, rate_per_key] = rates;
    QueuePolicy { max_running, max_running_per_key, rate, rate_per_key, max_jobs, keep, ..policy }
}

/// Draws how many Machines the server may have: often fewer than there are queues, and than its queues may have.
pub(super) fn draw_max_machines(chance: &mut Chance) -> u32 {
    let most = if chance.below(2) == 0 { 4 } else { 12 };
    1 + chance.below(most) as u32
}

fn queue(name: &str) -> QueueName {
    QueueName::new(name).expect("a plain name")
}

fn module(name: &str) -> ModuleName {
    ModuleName::new(name).expect("a plain name")
}

pub(super) fn tag(name: &str) -> Tag {
    Tag::new(name).expect("a plain tag")
}

fn put_pause(rows: &mut dyn Rows, what: &Paused, pause: Option<Pause>) -> Result<(), StoreError> {
    match what {
        Paused::Queue(name) => {
            let row = QueueRow { pause, ..rows.queue(name)? };
            rows.put_queue(name, &row)
        }
        Paused::Module(name) => {
            let before = rows.modules()?.remove(name).unwrap_or_default();
            rows.put_module(name, &ModuleRow { pause, ..before })
        }
    }
}

/// Returns what an enqueue carries as args: its own id.
pub(super) fn args_of(id: JobId) -> String {
    format!("\"{id}\"")
}

impl World {
    /// Puts on the agenda what people do until faults stop.
    pub(super) fn plan_people(&mut self, until: Duration) {
        let most = until.as_millis() as u64;
        // Often few: what a busy system mends by chance, an idle one must mend too.
        let magnitude = self.chance.below(6);
        let jobs = 1 + self.chance.below(1 << magnitude);
        let queues: Vec<QueueName> = self.policies.keys().cloned().collect();
        // All at once at times: then many wait for few Machines, and have turns.
        let within = if self.chance.below(3) == 0 { ALL_AT_ONCE_MS } else { most * 3 / 4 };
        let mut drawn = Vec::new();
        let batches = self.plan_batches(most, &queues, &mut drawn);
        for _ in 0..jobs {
            let queue = queues[self.chance.below(queues.len() as u64) as usize].clone();
            let at = self.chance.millis(0, within);
            let new = self.draw_job(queue, self.now.after(at));
            let new = self.draw_after(new, &drawn);
            let new = self.draw_batch(new, &batches);
            drawn.push(new.job.id);
            if self.chance.below(5) == 0 {
                let again = at + self.chance.millis(0, 60_000);
                self.after(again, Event::Enqueue(Box::new(new.clone())));
            }
            if self.chance.below(8) == 0 {
                let cancelled = at + self.chance.millis(0, 30_000);
                self.after(cancelled, Event::Ask { job: new.job.id, retry: false });
            }
            if self.chance.below(4) == 0 {
                let retried = at + self.chance.millis(0, 30_000);
                self.after(retried, Event::Ask { job: new.job.id, retry: true });
            }
            if self.chance.below(10) == 0 {
                let deleted = at + self.chance.millis(0, 60_000);
                self.after(deleted, Event::Delete { job: new.job.id });
                // Somebody wants it once more: the Machine that ran it may still report on the one before.
                if self.chance.below(2) == 0 {
                    let again = deleted + self.chance.millis(1, ENQUEUED_AGAIN_MS);
                    self.after(again, Event::Enqueue(Box::new(new.clone())));
                }
            }
            self.after(at, Event::Enqueue(Box::new(new)));
        }
        let modules = MODULES.map(|name| Paused::Module(module(name)));
        for what in queues.into_iter().map(Paused::Queue).chain(modules) {
            if self.chance.below(3) == 0 {
                let at = self.chance.millis(0, most);
                self.after(at, Event::Pause(what));
            }
        }
        for _ in 0..self.chance.below(3) {
            let at = self.chance.millis(0, most);
            self.after(at, Event::Drain);
        }
        for _ in 0..self.faults.deploys {
            let at = self.chance.millis(0, most);
            self.after(at, Event::Deploy);
        }
        for _ in 0..self.faults.crashes {
            let at = self.chance.millis(0, most);
            self.after(at, Event::Crash);
        }
    }

    pub(super) fn draw_job(&mut self, queue: QueueName, enqueued_at: Timestamp) -> NewJob {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.chance.number().to_be_bytes());
        bytes[8..].copy_from_slice(&self.chance.number().to_be_bytes());
        let name = match self.chance.permille(self.faults.poison) {
            true => POISON,
            false => MODULES[self.chance.below(2) as usize],
        };
        let retry = self.draw_retry();
        let due = match self.chance.below(8) {
            0 | 1 => enqueued_at.after(self.chance.millis(0, 60_000)),
            // It was to be enqueued long ago: longer than a few steps of priority are worth.
            2 | 3 => enqueued_at.before(self.chance.millis(0, DUE_BEFORE_MS)),
            _ => enqueued_at,
        };
        NewJob {
            id: JobId::from_bytes(bytes),
            module: module(name),
            queue,
            priority: self.draw_priority(),
            key: self.draw_key(),
            labels: self.draw_labels(),
            content_hash: self.chance.number(),
            retry,
            limits: AttemptLimits::default(),
            has_own_time_limit: false,
            due,
            retry_until: self.draw_time_after(due.max(enqueued_at), 4, 60_000),
            expires_at: self.draw_time_after(due.max(enqueued_at), 4, 30_000),
            unique: unique::draw(&mut self.chance, enqueued_at),
            links: Links::default(),
        }
    }

    fn draw_retry(&mut self) -> RetryPolicy {
        let mut backoff_by_cause = BTreeMap::new();
        if self.chance.below(4) == 0 {
            backoff_by_cause.insert(Cause::Exit, self.draw_backoff());
            backoff_by_cause.insert(Cause::Trap, Backoff::None);
        }
        RetryPolicy {
            max_attempts: 1 + self.chance.below(4) as u32,
            backoff: self.draw_backoff(),
            jitter_percent: (self.chance.below(3) == 0).then(|| self.chance.below(101) as u32),
            backoff_by_cause,
            retry_for_ms: None,
        }
    }

    fn draw_backoff(&mut self) -> Backoff {
        let mut wait = || 100 + self.chance.below(2_000);
        let (a, b) = (wait(), wait());
        match self.chance.below(8) {
            0..2 => Backoff::Sidekiq,
            2 => Backoff::None,
            3 => Backoff::Fixed { wait_ms: a },
            4 => Backoff::List { waits_ms: vec![a, b] },
            _ => Backoff::Exponential { base_ms: a.min(b), cap_ms: a.max(b) * 2 },
        }
    }

    /// Draws a time after another for one job of so many.
    fn draw_time_after(&mut self, time: Timestamp, one_of: u64, most_ms: u64) -> Option<Timestamp> {
        (self.chance.below(one_of) == 0).then(|| time.after(self.chance.millis(1, most_ms)))
    }

    fn draw_priority(&mut self) -> i8 {
        if self.chance.below(3) > 0 { 0 } else { self.chance.below(7) as i8 - 3 }
    }

    /// Of a few tenants one has most jobs.
    fn draw_key(&mut self) -> Option<JobKey> {
        let name = match self.chance.below(8) {
            0..3 => return None,
            3..6 => "large",
            6 => "small",
            _ => "tiny",
        };
        Some(JobKey::new(name).expect("a plain key"))
    }

    /// One job of three has a tag.
    fn draw_labels(&mut self) -> Labels {
        let tags = match self.chance.below(9) {
            0 | 1 => vec![tag("common")],
            2 => vec![tag("common"), tag("rare")],
            _ => Vec::new(),
        };
        Labels { tags, ..Labels::default() }
    }

    /// Somebody pauses a queue or a module for a while, or until somebody resumes it.
    pub(super) fn pause(&mut self, what: Paused) -> Result<(), Broken> {
        let (now, paused) = (self.told(), what.clone());
        let until = (self.chance.below(2) == 0).then(|| now.after(self.chance.millis(100, 60_000)));
        let pause = Pause { since: now, until, reason: String::new(), by: String::new() };
        let done = self.ask(move |rows| put_pause(rows, &paused, Some(pause)))?;
        if done.is_some() {
            self.trace.say(self.now, format_args!("{what:?} is paused until {until:?}"));
            self.trace.count(match what {
                Paused::Queue(_) => "pauses",
                Paused::Module(_) => "pauses of modules",
            });
        }
        // Whoever paused it, even if there was no answer.
        let resumed = self.chance.millis(0, 90_000);
        self.after(resumed, Event::Resume(what));
        Ok(())
    }

    /// Somebody has a queue or a module go on. Without an answer, it is repeated.
    pub(super) fn resume(&mut self, what: Paused) -> Result<(), Broken> {
        let paused = what.clone();
        match self.ask(move |rows| put_pause(rows, &paused, None))? {
            Some(()) => {
                self.trace.say(self.now, format_args!("{what:?} goes on"));
                // As the API does it.
                self.hint();
            }
            None => self.after(Duration::from_secs(3), Event::Resume(what)),
        }
        Ok(())
    }

    /// Somebody drains a Machine that is there, as the API does it.
    pub(super) fn drain_a_machine(&mut self) -> Result<(), Broken> {
        let (now, which) = (self.told(), self.chance.number());
        let drained = self.ask(move |rows| {
            let mut there = rows.machines()?;
            there.retain(|(machine, _)| machine.state.is_present());
            let Some(index) = which.checked_rem(there.len() as u64) else { return Ok(None) };
            let name = there.swap_remove(index as usize).0.name;
            Ok(matches!(dispatcher::drain(rows, &name, now)?, Drained::Drains { .. }).then_some(name))
        })?;
        if let Some(Some(name)) = drained {
            self.trace.say(self.now, format_args!("{name} is drained by hand"));
            self.trace.count("Machines drained by hand");
        }
        Ok(())
    }

    /// Returns the modules that are served.
    pub(super) fn served(&self) -> Vec<ModuleName> {
        let there = |name: &&str| self.serves_all() || *name != GONE_AT_TIMES;
        let people_s = MODULES.into_iter().chain([POISON]).filter(there).map(module);
        people_s.chain(schedules::modules()).collect()
    }

    pub(super) fn serves_all(&self) -> bool {
        self.quiet || !self.generation.is_multiple_of(3)
    }

    /// Somebody enqueues, perhaps again. Without an answer, it is repeated.
    pub(super) fn enqueue(&mut self, mut new: Asked) -> Result<(), Broken> {
        let late =
            if self.chance.below(3) == 0 { self.chance.millis(0, WRITTEN_LATE_MS) } else { Duration::ZERO };
        let (now, id) = (self.told().before(late), new.job.id);
        self.remember(&new);
        self.ledger.singles.asked(&new.job);
        self.ledger.asks_after(&mut new);
        let (asked, policies) = (new.clone(), self.policies.clone());
        let done = self.ask_for(move |rows| {
            if rows.jobs(&[id])?.pop().flatten().is_some() {
                return Ok(None);
            }
            after::put(rows, asked, &policies, now).map(Some)
        })?;
        let refused = self.refused(&done)?;
        match done.and_then(Result::ok) {
            Some(Some(Put { met: Some((there, conflict)), .. })) => {
                self.trace.say(self.now, format_args!("{id} is not enqueued: {there} is {conflict}"));
                self.trace.count("unique jobs that met another");
                self.ledger.after.stands_for(id, there);
            }
            Some(put) => {
                if put.is_some_and(|put| !put.taken) {
                    self.trace.count("jobs that no batch took");
                }
                self.trace.say(self.now, format_args!("{id} is enqueued in {}", new.job.queue));
                self.ledger.enqueued(id);
            }
            None if self.gives_up(refused) => {
                self.trace.say(self.now, format_args!("{id} is given up"));
                self.trace.count("enqueues that were given up");
                self.ledger.deletions.is_never(id);
            }
            // Perhaps one that it is to run after is not there yet.
            None => {
                if refused == Then::Alone {
                    new.job.links.batch = None;
                }
                self.after(Duration::from_secs(3), Event::Enqueue(Box::new(new)));
            }
        }
        Ok(())
    }

    /// Somebody cancels or retries a job, as the API does it.
    pub(super) fn ask_of_job(&mut self, id: JobId, retry: bool) -> Result<(), Broken> {
        let now = self.told();
        let event = if retry { JobEvent::RetryAsked } else { JobEvent::CancelAsked };
        self.ledger.retried = retry.then_some(id).into_iter().collect();
        let policies = self.policies.clone();
        let changed = self.ask_for(move |rows| {
            let Some(job) = rows.jobs(&[id])?.pop().flatten() else { return Ok(false) };
            let Ok(change) = job.apply(event, now) else { return Ok(false) };
            if needs_room(&job, &change.job) {
                room::check(rows, &policies, &job.queue, 1)?;
            }
            rows.put_jobs(std::slice::from_ref(&change.job))?;
            // The dispatcher tells those that wait for it.
            Ok(true)
        })?;
        self.ledger.retried.clear();
        self.refused(&changed)?;
        let changed = changed.and_then(Result::ok);
        if let (true, Some(true)) = (retry, changed) {
            self.ledger.has_new_allowance(id);
        }
        if changed == Some(true) {
            self.trace.say(self.now, format_args!("{id} is {}", if retry { "retried" } else { "cancelled" }));
            self.trace.count(if retry { "retries by hand" } else { "cancels" });
        }
        Ok(())
    }

    /// Another image: a new one, or the one before again.
    pub(super) fn deploy(&mut self) {
        let back = self.generation > 1 && self.chance.below(2) == 0;
        self.generation = if back { self.generation - 1 } else { self.generation + 1 };
        self.trace.say(self.now, format_args!("generation {} is deployed", self.generation));
        self.trace.count(if back { "deploys that go back" } else { "deploys" });
        if !self.quiet && self.chance.below(2) == 0 {
            // Somebody thinks better of it.
            let soon = self.chance.millis(0, 1_000);
            self.after(soon, Event::Deploy);
        }
        self.hint();
    }
}
