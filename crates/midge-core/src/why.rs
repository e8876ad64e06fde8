//! Why a job that waits does not start.
//!
//! Invariant: nothing is decided here. It is told what [`crate::plan()`] goes by, from the same rows.

use std::collections::BTreeMap;

use midge_protocol::api::Pause;
use midge_protocol::job::State;
use midge_protocol::manifest::QueuePolicy;
use midge_protocol::{JobId, QueueName, Timestamp, limits};

use crate::fleet::{Fleet, Trouble};
use crate::{
    Callback, DependencyEnd, Hold, Job, JobCounts, JobState, Lane, Machine, MachineState, Phase, QueueRow,
};

/// Why a job that waits does not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhyWaiting {
    /// Its time has not come.
    Scheduled {
        /// The time from which it may run.
        at: Timestamp,
    },
    /// It has failed or snoozed, and is tried again later.
    TriedAgain {
        /// The time from which it may run.
        at: Timestamp,
    },
    /// It is to run after other jobs, which have not completed.
    AfterJobs {
        /// The number of them.
        jobs: u64,
        /// The first few of them, each with how it ended where it has, and did not complete.
        first: Vec<(JobId, Option<DependencyEnd>)>,
    },
    /// It is a callback of a batch, whose time has not come.
    AfterBatch(Callback),
    /// Its module is not among those that are served now.
    ModuleNotServed,
    /// Its module is paused.
    ModuleIsPaused(Pause),
    /// Machines lack what its module's guests are given.
    ModuleLacks {
        /// What they lack, in a host's words.
        what: String,
        /// How many jobs have tried in vain.
        times: u32,
        /// The time of the first of them.
        since: Timestamp,
        /// The time from which one tries again.
        next: Timestamp,
    },
    /// All jobs of the queue that are due are held, since their modules start none.
    JobsAreHeld {
        /// The number of those jobs.
        jobs: u64,
    },
    /// Its queue is paused.
    QueueIsPaused(Pause),
    /// Its queue starts nothing, since its Machines would cost more than its budget of the month.
    BudgetIsSpent {
        /// When the month is over.
        until: Timestamp,
    },
    /// Its queue runs as many jobs as it may.
    QueueIsAtLimit {
        /// The number of its jobs that run.
        running: u64,
        /// The most that may.
        max: u32,
    },
    /// Its queue has begun as many jobs as its rate allows.
    QueueIsAtRate {
        /// The time from which one may begin again.
        next: Timestamp,
    },
    /// Its key has as many jobs running as it may.
    KeyIsAtLimit {
        /// The number of jobs of the key that run.
        running: u64,
        /// The most that may.
        max: u32,
    },
    /// As many jobs of its key have begun as its rate allows.
    KeyIsAtRate {
        /// The time from which one may begin again.
        next: Timestamp,
    },
    /// Each key with jobs of the queue that are due has as many running as it may, or its rate allows no more.
    KeysAreAtLimit,
    /// A place is free: some Machine is about to take it.
    PlaceIsFree,
    /// A Machine is being made or started.
    MachineStarts,
    /// The Machines API does not make a Machine for its queue.
    MachineRefused {
        /// What the Machines API said the last time.
        words: String,
        /// How often it was asked.
        times: u32,
        /// The time of the first of them.
        since: Timestamp,
        /// The time at which it is asked again.
        next: Timestamp,
    },
    /// Machines of its queue are made, and do not come up.
    MachineDoesNotComeUp {
        /// What is known of the last one.
        words: String,
        /// How many did not.
        times: u32,
        /// The time at which the first of them was given up.
        since: Timestamp,
        /// The time before which no other is made.
        next: Timestamp,
    },
    /// Its queue has as many Machines as it may, and none has a free place.
    QueueIsBusy {
        /// The number of Machines that run or are on their way.
        machines: u32,
        /// The most that may.
        max: u32,
    },
    /// All queues together have as many Machines as they may, and some of them are to be destroyed, which the Machines API does
    /// not do.
    MachinesDoNotGo {
        /// The number of those.
        machines: u32,
        /// What the Machines API said the last time.
        words: String,
        /// The time at which it is asked again.
        next: Timestamp,
    },
    /// All queues together have as many Machines as they may.
    ServerIsFull {
        /// The number of Machines that there are.
        machines: u32,
        /// The most that there may be.
        max: u32,
    },
    /// Nothing stands in its way: a Machine is about to be made.
    MachineIsNext,
}

/// What is known of all Machines at one time, by which it is said why jobs wait. Cheap for many jobs: a queue is looked
/// at once.
pub struct Outlook<'a> {
    fleet: Fleet<'a>,
    present: u32,
    generation: &'a str,
    max_machines: u32,
    now: Timestamp,
    /// What is kept of each queue, and how many of its jobs run.
    rows: &'a BTreeMap<QueueName, (QueueRow, u64)>,
    /// By queue, for suspects and for others.
    queues: BTreeMap<(QueueName, bool), WhyWaiting>,
}

impl<'a> Outlook<'a> {
    /// Makes an outlook from all rows of Machines, each with how many jobs it runs; from the rows of queues, each with how
    /// many of its jobs run (those that are left out have no row and run none); the generation that is served now; and the
    /// most Machines that all queues may have together.
    pub fn new(
        machines: &'a [(Machine, u32)],
        rows: &'a BTreeMap<QueueName, (QueueRow, u64)>,
        generation: &'a str,
        max_machines: u32,
        now: Timestamp,
    ) -> Outlook<'a> {
        let fleet = Fleet::of(machines);
        let present = fleet.present();
        Outlook { fleet, present, generation, max_machines, now, rows, queues: BTreeMap::new() }
    }

    /// Returns why a job waits; nothing where it does not, or where it is pending, of which the store's rows say why. `hold`
    /// says why its module starts none, `lane` is the row of its key, and `policy` is its queue's.
    pub fn why(
        &mut self,
        job: &Job,
        hold: Option<Hold<'_>>,
        lane: Option<&Lane>,
        policy: impl FnOnce() -> QueuePolicy,
    ) -> Option<WhyWaiting> {
        let due = match job.state {
            JobState::Waiting { due } | JobState::Held { due } => due,
            JobState::Pending { .. } | JobState::Running { .. } | JobState::Ended { .. } => return None,
        };
        Some(match job.phase() {
            Phase::Retrying if due > self.now => WhyWaiting::TriedAgain { at: due },
            _ if due > self.now => WhyWaiting::Scheduled { at: due },
            _ => match (hold.filter(|hold| !hold.lets(job.id)), lane) {
                (Some(Hold::NotServed), _) => WhyWaiting::ModuleNotServed,
                (Some(Hold::Paused(pause)), _) => WhyWaiting::ModuleIsPaused(pause.clone()),
                (Some(Hold::Lacks(lack)), _) => WhyWaiting::ModuleLacks {
                    what: lack.what.clone(),
                    times: lack.times,
                    since: lack.since,
                    next: lack.next,
                },
                (None, Some(lane)) => {
                    let policy = policy();
                    let at_key = self.at_key(lane, &policy);
                    at_key.unwrap_or_else(|| self.in_queue(&job.queue, job.is_suspect(), || policy))
                }
                (None, None) => self.in_queue(&job.queue, job.is_suspect(), policy),
            },
        })
    }

    /// Why jobs of a key do not start, where it is for the key. That the queue is paused comes before.
    fn at_key(&self, lane: &Lane, policy: &QueuePolicy) -> Option<WhyWaiting> {
        let is_stopped =
            |row: &QueueRow| row.paused(self.now).is_some() || row.stopped_for_budget(self.now).is_some();
        if self.rows.get(&lane.queue).is_some_and(|(row, _)| is_stopped(row)) {
            return None;
        }
        if let Some(max) = policy.max_running_per_key.filter(|max| lane.running >= u64::from(*max)) {
            return Some(WhyWaiting::KeyIsAtLimit { running: lane.running, max });
        }
        let rate = policy.rate_per_key.filter(|rate| lane.bucket.tokens(*rate, self.now) == 0)?;
        Some(WhyWaiting::KeyIsAtRate { next: lane.bucket.next(rate) })
    }

    /// Why jobs of a queue do not start, where it is for a pause or a limit.
    fn at_gate(&self, queue: &QueueName, policy: &QueuePolicy) -> Option<WhyWaiting> {
        let (row, running) = self.rows.get(queue).cloned().unwrap_or_default();
        if let Some(pause) = row.paused(self.now) {
            return Some(WhyWaiting::QueueIsPaused(pause.clone()));
        }
        if let Some(until) = row.stopped_for_budget(self.now) {
            return Some(WhyWaiting::BudgetIsSpent { until });
        }
        if let Some(max) = policy.max_running.filter(|max| running >= u64::from(*max)) {
            return Some(WhyWaiting::QueueIsAtLimit { running, max });
        }
        let next = row.room_at(policy, running, self.now)?;
        Some(WhyWaiting::QueueIsAtRate { next })
    }

    /// Returns why jobs of a queue that are due do not start; nothing where none is. `keys_are_full` says that no job without
    /// a key is due, and no key has room.
    pub fn queue(
        &mut self,
        queue: &QueueName,
        counts: &JobCounts,
        keys_are_full: bool,
        policy: impl FnOnce() -> QueuePolicy,
    ) -> Option<WhyWaiting> {
        if counts.in_state(State::Available) == 0 {
            return None;
        }
        Some(match self.in_queue(queue, false, policy) {
            why @ (WhyWaiting::QueueIsPaused(_) | WhyWaiting::BudgetIsSpent { .. }) => why,
            _ if counts.in_line() == 0 => WhyWaiting::JobsAreHeld { jobs: counts.phase(Phase::Held) },
            why @ (WhyWaiting::QueueIsAtLimit { .. } | WhyWaiting::QueueIsAtRate { .. }) => why,
            // No Machine is made for them, and none takes them.
            _ if keys_are_full => WhyWaiting::KeysAreAtLimit,
            why => why,
        })
    }

    fn in_queue(
        &mut self,
        queue: &QueueName,
        suspect: bool,
        policy: impl FnOnce() -> QueuePolicy,
    ) -> WhyWaiting {
        let key = (queue.clone(), suspect);
        if let Some(known) = self.queues.get(&key) {
            return known.clone();
        }
        let policy = match self.rows.get(queue) {
            Some((row, _)) => row.served_by(policy(), self.now),
            None => policy(),
        };
        let why = self.at_gate(queue, &policy).unwrap_or_else(|| self.look(queue, suspect, &policy));
        self.queues.insert(key, why.clone());
        why
    }

    fn look(&self, queue: &QueueName, suspect: bool, policy: &QueuePolicy) -> WhyWaiting {
        let ours = self.fleet.queue(policy.pool.as_ref().unwrap_or(queue));
        let current = ours.current(self.generation);
        let free = current.free_places(|state| state == MachineState::Up);
        if (if suspect { free.empty_machines() } else { free.all() }) > 0 {
            return WhyWaiting::PlaceIsFree;
        }
        let on_its_way = |state| matches!(state, MachineState::Creating | MachineState::Starting);
        let coming = || current.machines.iter().map(|(machine, _)| machine).filter(|m| on_its_way(m.state));
        if coming().any(|machine| machine.act_failures == 0) {
            // The one that starts is the next try, of what is served now.
            return current.failed_boots().map_or(WhyWaiting::MachineStarts, does_not_come_up);
        }
        if let Some(machine) = coming().next() {
            return WhyWaiting::MachineRefused {
                words: machine.note.clone().unwrap_or_default(),
                times: machine.act_failures,
                since: machine.since,
                next: machine.act_at.max(self.now),
            };
        }
        let (live, max) = (ours.count(MachineState::is_live), policy.max_machines.min(limits::MACHINES_MAX));
        if live >= max {
            return WhyWaiting::QueueIsBusy { machines: live, max };
        }
        let not_before = ours.failed_boots().filter(|trouble| trouble.next > self.now);
        if let Some(trouble) = not_before.or_else(|| current.failed_boots()) {
            return does_not_come_up(trouble);
        }
        if self.present >= self.max_machines {
            if let Some((machines, machine)) = self.fleet.not_destroyed() {
                let words = machine.note.clone().unwrap_or_default();
                return WhyWaiting::MachinesDoNotGo { machines, words, next: machine.act_at.max(self.now) };
            }
            return WhyWaiting::ServerIsFull { machines: self.present, max: self.max_machines };
        }
        WhyWaiting::MachineIsNext
    }
}

fn does_not_come_up(Trouble { words, times, since, next }: Trouble) -> WhyWaiting {
    WhyWaiting::MachineDoesNotComeUp { words, times, since, next }
}

#[cfg(test)]
mod tests;
