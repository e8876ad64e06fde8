//! Which Machines make room for others like them: those that are too old or were made otherwise, one at a time.

use std::time::Duration;

use midge_protocol::Timestamp;
use midge_protocol::manifest::QueuePolicy;

use super::Action;
use crate::fleet::QueueFleet;
use crate::{Machine, MachineState};

/// A Machine that always runs something is never idle. At so many times its greatest age it takes nothing more all the same.
const BUSY_AGES: u32 = 2;

/// Returns what is to be done about Machines of a queue that serve it, none of an older generation. `resting` are those that
/// rest, and for which nothing else is to be done: one that goes is taken out.
pub(super) fn retire(
    current: &QueueFleet<'_>,
    resting: &mut Vec<&Machine>,
    policy: &QueuePolicy,
    now: Timestamp,
) -> Vec<Action> {
    // One after the other: what takes its place is there before the next one goes.
    let goes = |machine: &Machine| machine.retired && machine.state.is_present();
    if current.machines.iter().any(|(machine, _)| goes(machine)) {
        return Vec::new();
    }
    let serve = current.machines.iter().filter(|(machine, _)| machine.state == MachineState::Up);
    if serve.clone().count() >= policy.warm_machines as usize {
        let mut over =
            serve.filter_map(|(machine, running)| Some((machine, over(machine, *running, policy, now)?)));
        if let Some((machine, why)) = over.next() {
            return vec![drain(machine, &why)];
        }
    }
    let full = resting.len() >= policy.ready_machines as usize;
    let over = resting.iter().position(|machine| over(machine, 0, policy, now).is_some());
    over.filter(|_| full)
        .map(|index| Action::Destroy(resting.remove(index).name.clone()))
        .into_iter()
        .collect()
}

/// Why another is to take the place of a Machine that runs so many jobs; nothing where it may stay.
fn over(machine: &Machine, running: u32, policy: &QueuePolicy, now: Timestamp) -> Option<String> {
    let idle = running == 0;
    let made_otherwise = machine.places != policy.places() || machine.single_use != policy.single_use;
    if idle && made_otherwise {
        return Some("its queue's Machines are made otherwise by now".to_owned());
    }
    let age = now.since(machine.made_at.unwrap_or(machine.since));
    let max = Duration::from_millis(policy.max_age_ms?);
    let is_over = if idle { age > max } else { age > max * BUSY_AGES };
    is_over.then(|| "it has reached its queue's greatest age".to_owned())
}

fn drain(machine: &Machine, note: &str) -> Action {
    Action::Retire(machine.name.clone(), note.to_owned())
}

#[cfg(test)]
mod tests;
