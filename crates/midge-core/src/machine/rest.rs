//! Which Machines are suspended while they have nothing to do, and how far that is.

use midge_protocol::QueueName;
use midge_protocol::manifest::{Idle, QueuePolicy};
use serde::{Deserialize, Serialize};

use super::{Machine, MachineState};

/// Whether a Machine is suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sleep {
    /// It is not, as far as is known.
    #[default]
    Awake,
    /// The Machines API said that it would be.
    FallsAsleep,
    /// It was seen suspended.
    Asleep,
    /// It could not be suspended, and is not to be again.
    StaysAwake,
}

impl Sleep {
    /// Returns what it is of a Machine that runs, or was stopped.
    pub(super) fn awake(self) -> Sleep {
        match self {
            Sleep::StaysAwake => Sleep::StaysAwake,
            Sleep::Awake | Sleep::FallsAsleep | Sleep::Asleep => Sleep::Awake,
        }
    }
}

/// Returns whether a Machine that may leave is suspended instead. `all` are all Machines that have a row, itself included
/// or not.
///
/// Those of its queue that rest suspended, or soon will, are no more than the queue keeps ready. One that rests stopped is
/// not counted: a suspended one is the better of the two, and takes its place.
pub fn may_rest<'a>(
    machine: &Machine,
    policy: &QueuePolicy,
    generation: &str,
    all: impl Iterator<Item = &'a Machine>,
) -> bool {
    let may = policy.idle == Idle::Suspend
        && machine.state == MachineState::Up
        && machine.sleep != Sleep::StaysAwake
        && !machine.never_rests()
        && !machine.is_outdated(generation);
    let others = all.filter(|other| other.name != machine.name && !other.is_outdated(generation));
    may && others.filter(|other| other.rests_asleep(&machine.queue)).count() < policy.ready_machines as usize
}

impl Machine {
    /// Whether it is one of a queue's that rest suspended, or soon will.
    fn rests_asleep(&self, queue: &QueueName) -> bool {
        let asleep = self.state == MachineState::Ready && self.sleep == Sleep::Asleep;
        self.queue == *queue && (asleep || self.state == MachineState::Resting)
    }
}

#[cfg(test)]
mod tests;
