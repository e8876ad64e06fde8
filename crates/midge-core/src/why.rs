//! Why a job that waits does not start.
//!
//! Invariant: nothing is decided here. It is told what [`crate::plan()`] goes by, from the same rows.

use std::collections::BTreeMap;

use midge_protocol::manifest::QueuePolicy;
use midge_protocol::{QueueName, Timestamp, limits};

use crate::fleet::{Fleet, Trouble};
use crate::{Job, JobState, Machine, MachineState, Phase};

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
    /// Its module is not among those that are served now.
    ModuleNotServed,
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
    /// By queue, for suspects and for others.
    queues: BTreeMap<(QueueName, bool), WhyWaiting>,
}

impl<'a> Outlook<'a> {
    /// Makes an outlook from all rows of Machines, each with how many jobs it runs, the generation that is served now,
    /// and the most Machines that all queues may have together.
    pub fn new(
        machines: &'a [(Machine, u32)],
        generation: &'a str,
        max_machines: u32,
        now: Timestamp,
    ) -> Outlook<'a> {
        let fleet = Fleet::of(machines);
        Outlook { present: fleet.present(), fleet, generation, max_machines, now, queues: BTreeMap::new() }
    }

    /// Returns why a job waits; nothing where it does not. `served` says whether its module is served now, and `policy`
    /// is its queue's.
    pub fn why(
        &mut self,
        job: &Job,
        served: bool,
        policy: impl FnOnce() -> QueuePolicy,
    ) -> Option<WhyWaiting> {
        let JobState::Waiting { due } = job.state else { return None };
        Some(match job.phase() {
            Phase::Retrying if due > self.now => WhyWaiting::TriedAgain { at: due },
            _ if due > self.now => WhyWaiting::Scheduled { at: due },
            _ if !served => WhyWaiting::ModuleNotServed,
            _ => self.in_queue(&job.queue, job.is_suspect(), policy),
        })
    }

    /// Returns why jobs of a queue that are due do not start.
    pub fn queue(&mut self, queue: &QueueName, policy: impl FnOnce() -> QueuePolicy) -> WhyWaiting {
        self.in_queue(queue, false, policy)
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
        let why = self.look(queue, suspect, &policy());
        self.queues.insert(key, why.clone());
        why
    }

    fn look(&self, queue: &QueueName, suspect: bool, policy: &QueuePolicy) -> WhyWaiting {
        let ours = self.fleet.queue(queue);
        let current = ours.current(self.generation);
        let free = current.free_places(|state| state == MachineState::Up);
        if (if suspect { free.empty_machines() } else { free.all() }) > 0 {
            return WhyWaiting::PlaceIsFree;
        }
        let on_its_way = |state| matches!(state, MachineState::Creating | MachineState::Starting);
        let coming = || current.machines.iter().map(|(machine, _)| machine).filter(|m| on_its_way(m.state));
        if coming().any(|machine| machine.act_failures == 0) {
            return WhyWaiting::MachineStarts;
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
        if let Some(Trouble { words, times, since, next }) = ours.failed_boots().filter(|t| t.next > self.now)
        {
            return WhyWaiting::MachineDoesNotComeUp { words, times, since, next };
        }
        if self.present >= self.max_machines {
            return WhyWaiting::ServerIsFull { machines: self.present, max: self.max_machines };
        }
        WhyWaiting::MachineIsNext
    }
}

#[cfg(test)]
mod tests;
