//! Schedules in the simulated world, and what must always be true of them: each tick brings one job, and none is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use midge_core::{Job, Schedule, Ticks};
use midge_protocol::api::Pause;
use midge_protocol::manifest::{Missed, ScheduleEntry};
use midge_protocol::{JobId, JobKey, ModuleName, QueueName, ScheduleName, Timestamp, limits};

use super::chance::Chance;
use super::ledger::{Broken, ensure};
use super::world::{Event, World};

/// Modules of scheduled jobs are called so, and then as their schedule.
pub(super) const MODULE: &str = "tick-";
/// Schedules of a run.
const SCHEDULES_MAX: u64 = 2;
/// How far the generation is moved on where schedules end: to one that never was.
const GENERATIONS: u64 = 1_000;

/// Draws schedules, in every other run. Each makes up for all that it missed.
pub(super) fn draw(chance: &mut Chance, queues: &[QueueName]) -> BTreeMap<ScheduleName, ScheduleEntry> {
    let number = if chance.below(2) == 0 { 0 } else { 1 + chance.below(SCHEDULES_MAX) };
    let names = (0..number).map(schedule);
    let mut draw = |name: &ScheduleName| {
        let module = module_of(name);
        let cron = ["*/10 * * * * *", "5-50/15 * * * * *", "* * * * *"][chance.below(3) as usize];
        let queue = queues[chance.below(queues.len() as u64) as usize].clone();
        let expires_in_ms = (chance.below(2) == 0).then(|| 1 + chance.below(30_000));
        let key = (chance.below(2) == 0).then(|| JobKey::new("tiny").expect("a plain key"));
        ScheduleEntry {
            queue: Some(queue),
            priority: chance.below(7) as i8 - 3,
            key,
            expires_in_ms,
            missed: Missed::All,
            missed_max: limits::MISSED_MAX,
            ..ScheduleEntry::new(module, cron)
        }
    };
    names.map(|name| (name.clone(), draw(&name))).collect()
}

/// Returns the modules of all schedules that there may be. They are served to the end: their jobs are still there.
pub(super) fn modules() -> impl Iterator<Item = ModuleName> {
    (0..SCHEDULES_MAX).map(|number| module_of(&schedule(number)))
}

fn schedule(number: u64) -> ScheduleName {
    ScheduleName::new(format!("s{number}")).expect("a plain name")
}

fn module_of(name: &ScheduleName) -> ModuleName {
    ModuleName::new(format!("{MODULE}{name}")).expect("a plain name")
}

/// Returns the time that an id of version 7 begins with: that of the tick.
pub(super) fn time_of(id: JobId) -> Timestamp {
    let millis = id.as_bytes()[..6].iter().fold(0, |millis, byte| millis << 8 | i64::from(*byte));
    Timestamp::from_millis(millis)
}

/// What is remembered of schedules.
#[derive(Default)]
pub(super) struct Ticked {
    /// The job of each tick, by its module and its time.
    jobs: BTreeMap<(ModuleName, Timestamp), JobId>,
    ids: BTreeSet<JobId>,
    rows: BTreeMap<ScheduleName, Schedule>,
}

impl Ticked {
    /// Returns whether a job is of a tick.
    pub(super) fn has(&self, job: JobId) -> bool {
        self.ids.contains(&job)
    }

    /// Takes in a job that was not there before: one of a tick must be its tick's only one.
    pub(super) fn new_job(&mut self, job: &Job) -> Result<(), Broken> {
        if !job.module.as_str().starts_with(MODULE) || !self.ids.insert(job.id) {
            return Ok(());
        }
        let tick = (job.module.clone(), time_of(job.id));
        let before = self.jobs.insert(tick, job.id);
        ensure(before.is_none(), || {
            format!("tick fired twice: {} at {} is {before:?} and {}", job.module, time_of(job.id), job.id)
        })
    }

    /// Checks that no tick is lost between what was dealt with before and what is now.
    fn check(&mut self, row: Schedule, entry: &ScheduleEntry) -> Result<(), Broken> {
        let ticks = Ticks::new(entry).expect("the expressions are right");
        let since = self.rows.get(&row.name).and_then(|before| match &before.pause {
            _ if before.removed.is_some() => None,
            None => Some(before.done),
            // It ticks again from its end on, or from when somebody resumed it.
            Some(pause) => pause.until.map(|until| before.done.max(until.before(Duration::from_millis(1)))),
        });
        if let Some(since) = since {
            let all = std::iter::successors(ticks.after(since), |tick| ticks.after(*tick));
            for tick in all.take_while(|tick| *tick <= row.done) {
                ensure(self.jobs.contains_key(&(entry.module.clone(), tick)), || {
                    format!("the tick of {} at {tick} is lost: {since} -> {row:?}", row.name)
                })?;
            }
        }
        self.rows.insert(row.name.clone(), row);
        Ok(())
    }
}

impl World {
    /// Checks schedules against what they were before.
    pub(super) fn check_schedules(&mut self) -> Result<(), Broken> {
        let rows = self.store.look(|rows| rows.schedules());
        for row in rows {
            if let Some(entry) = self.schedules.get(&row.name) {
                self.ledger.ticked.check(row, entry)?;
            }
        }
        Ok(())
    }

    /// Counts what came of schedules.
    pub(super) fn count_ticks(&mut self) {
        for _ in 0..self.ledger.ticked.jobs.len() {
            self.trace.count("ticks");
        }
    }

    /// Puts on the agenda that people pause schedules and resume them.
    pub(super) fn plan_schedule_pauses(&mut self, until: u64) {
        let names: Vec<ScheduleName> = self.schedules.keys().cloned().collect();
        for name in names {
            if self.chance.below(3) == 0 {
                let at = self.chance.millis(0, until);
                self.after(at, Event::PauseSchedule { name: name.clone(), pause: true });
                let again = at + self.chance.millis(0, 60_000);
                self.after(again, Event::PauseSchedule { name, pause: false });
            }
        }
    }

    /// Somebody pauses a schedule or resumes it, as the API does it.
    pub(super) fn pause_schedule(&mut self, name: ScheduleName, pause: bool) -> Result<(), Broken> {
        let now = self.told();
        let Some(entry) = self.schedules.get(&name) else { return Ok(()) };
        let ticks = Ticks::new(entry).expect("the expressions are right");
        let until = (self.chance.below(2) == 0).then(|| now.after(self.chance.millis(100, 60_000)));
        let pause = pause.then(|| Pause { since: now, until, reason: String::new(), by: String::new() });
        let (asked, entry, paused) = (name.clone(), entry.clone(), pause.is_some());
        let done = self.ask(move |rows| {
            let Some(schedule) = rows.schedule(&asked)? else { return Ok(false) };
            let schedule = schedule.served(&entry, &ticks, now);
            rows.put_schedule(&match pause {
                Some(pause) => schedule.paused(pause),
                None => schedule.resumed(&ticks, now),
            })?;
            Ok(true)
        })?;
        if done == Some(true) {
            self.trace.say(self.now, format_args!("{name} is {}", if paused { "paused" } else { "resumed" }));
            self.trace.count(if paused { "schedules paused" } else { "schedules resumed" });
        }
        Ok(())
    }

    /// An image without schedules is deployed: else jobs would come for ever.
    pub(super) fn schedules_end(&mut self) {
        if !self.schedules.is_empty() {
            self.schedules.clear();
            self.generation += GENERATIONS;
            self.trace.say(self.now, format_args!("generation {} has no schedules", self.generation));
            self.hint();
        }
    }
}
