//! The Machines of each queue, looked at once: what a plan, and the reason for which a job waits, are made from.

use std::collections::BTreeMap;
use std::time::Duration;

use midge_protocol::{QueueName, Timestamp};

use crate::{Machine, MachineState};

/// The longest pause after Machines that did not come up, one after the other. Who has mended what was wrong waits no
/// longer than this, and nobody makes thousands of Machines that cannot boot meanwhile.
const BOOT_PAUSE_MAX: Duration = Duration::from_secs(5 * 60);

/// All Machines, by queue.
pub(crate) struct Fleet<'a> {
    queues: BTreeMap<&'a QueueName, QueueFleet<'a>>,
}

/// The Machines of one queue.
#[derive(Default, Clone)]
pub(crate) struct QueueFleet<'a> {
    /// Oldest first, each with how many attempts are leased to it; those that are gone too.
    pub(crate) machines: Vec<&'a (Machine, u32)>,
}

/// Places of a queue that are free.
#[derive(Debug, Default)]
pub(crate) struct FreePlaces {
    /// Those of each Machine that runs nothing, and so can take a suspect.
    empty: Vec<u64>,
    /// Those of Machines that run something.
    beside_others: u64,
}

impl FreePlaces {
    /// Returns how many there are.
    pub(crate) fn all(&self) -> u64 {
        self.beside_others + self.empty.iter().sum::<u64>()
    }

    /// Returns how many Machines run nothing.
    pub(crate) fn empty_machines(&self) -> u64 {
        self.empty.len() as u64
    }

    /// Returns how many Machines are missing for so many jobs that are due, of which some are suspects, where each new one
    /// has so many places. A suspect needs a Machine for itself.
    pub(crate) fn missing(&self, due: u64, suspects: u64, places: u32) -> u64 {
        let suspects = suspects.min(due);
        let left_over = self.empty.iter().skip(usize::try_from(suspects).unwrap_or(usize::MAX));
        let free = self.beside_others + left_over.sum::<u64>();
        let for_others = (due - suspects).saturating_sub(free).div_ceil(u64::from(places.max(1)));
        suspects.saturating_sub(self.empty_machines()).saturating_add(for_others)
    }
}

/// Machines that are asked for, and do not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// What is known of the last time, for people.
    pub(crate) words: String,
    /// How often it was tried.
    pub(crate) times: u32,
    /// The time of the first try that is still known.
    pub(crate) since: Timestamp,
    /// The time of the next try.
    pub(crate) next: Timestamp,
}

impl<'a> Fleet<'a> {
    pub(crate) fn of(machines: &'a [(Machine, u32)]) -> Fleet<'a> {
        let mut queues: BTreeMap<&QueueName, QueueFleet<'_>> = BTreeMap::new();
        for entry in machines {
            queues.entry(&entry.0.queue).or_default().machines.push(entry);
        }
        Fleet { queues }
    }

    /// Returns the Machines of a queue.
    pub(crate) fn queue(&self, queue: &QueueName) -> QueueFleet<'a> {
        self.queues.get(queue).cloned().unwrap_or_default()
    }

    /// Returns how many Machines are to be destroyed and are not, as the Machines API said, and the one that was asked for last;
    /// nothing where there is none.
    pub(crate) fn not_destroyed(&self) -> Option<(u32, &'a Machine)> {
        let all = self.queues.values().flat_map(|queue| &queue.machines).map(|(machine, _)| machine);
        let stuck =
            all.filter(|machine| machine.state == MachineState::Destroying && machine.act_failures > 0);
        let number = stuck.clone().count() as u32;
        stuck.max_by_key(|machine| machine.act_at).map(|last| (number, last))
    }

    /// Returns how many Machines there are, or may be: all but those that are gone.
    pub(crate) fn present(&self) -> u32 {
        self.queues.values().map(|queue| queue.count(MachineState::is_present)).sum()
    }
}

impl<'a> QueueFleet<'a> {
    /// Returns the Machines that are not of an older generation.
    pub(crate) fn current(&self, generation: &str) -> QueueFleet<'a> {
        let current = self.machines.iter().filter(|(machine, _)| !machine.is_outdated(generation));
        QueueFleet { machines: current.copied().collect() }
    }

    /// Returns how many Machines are in certain states.
    pub(crate) fn count(&self, wanted: impl Fn(MachineState) -> bool) -> u32 {
        self.machines.iter().filter(|(machine, _)| wanted(machine.state)).count() as u32
    }

    /// Returns the places that are free for jobs in Machines that are up, or soon will be.
    pub(crate) fn free_places(&self, wanted: impl Fn(MachineState) -> bool) -> FreePlaces {
        let open = self.machines.iter().filter(|(machine, running)| {
            wanted(machine.state) && !machine.is_refused() && !machine.is_taken(*running)
        });
        let mut free = FreePlaces::default();
        for (machine, running) in open {
            match u64::from(machine.places.saturating_sub(*running)) {
                places if *running == 0 => free.empty.push(places),
                places => free.beside_others += places,
            }
        }
        free
    }

    /// Returns when a Machine of the queue was last made, changed or seen to go.
    pub(crate) fn changed_at(&self) -> Timestamp {
        self.machines.iter().map(|(machine, _)| machine.since).max().unwrap_or_default()
    }

    /// Machines that do not come up one after the other are begun ever more slowly: 1, 2, 4 seconds and so on.
    pub(crate) fn failed_boots(&self) -> Option<Trouble> {
        let machines = || self.machines.iter().map(|(machine, _)| machine);
        let last_up = machines().filter_map(|machine| machine.heard_at).max().unwrap_or_default();
        let failed = || machines().filter(|machine| machine.boot_failed && machine.since > last_up);
        let newest = failed().max_by_key(|machine| machine.since)?;
        let times = failed().count() as u32;
        let pause = Duration::from_secs(1u64.checked_shl(times - 1).unwrap_or(u64::MAX)).min(BOOT_PAUSE_MAX);
        Some(Trouble {
            words: newest.note.clone().unwrap_or_default(),
            times,
            since: failed().map(|machine| machine.since).min().unwrap_or(newest.since),
            next: newest.since.after(pause),
        })
    }

    /// Returns the Machine whose making is refused, the first of them: no other is made while it is.
    pub(crate) fn refused(&self) -> Option<&'a Machine> {
        self.machines.iter().map(|(machine, _)| machine).find(|machine| machine.is_refused())
    }
}
