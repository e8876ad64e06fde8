//! What to do about Machines: the dispatcher looks, plans, acts.

use std::time::Duration;

use midge_protocol::manifest::QueuePolicy;
use midge_protocol::{MachineId, MachineName, QueueName, Timestamp, limits};

use crate::{Machine, MachineState};

/// A Machine that has not phoned home by then never will. Pulling an image takes up to tens of seconds.
const BOOT_MAX: Duration = Duration::from_secs(120);
/// A host that said goodbye and is still not stopped by then is destroyed.
const LEAVE_MAX: Duration = Duration::from_secs(30);
/// The row of a Machine that is gone is kept for so long, for people to see.
const GONE_KEPT: Duration = Duration::from_secs(10 * 60);
/// Machines begun in one round and queue: the Machines API takes about one a second, so more would only be refused.
const BOOTS_PER_ROUND: u32 = 16;
/// The longest pause after Machines that did not come up, one after the other.
const BOOT_PAUSE_MAX: Duration = Duration::from_secs(60);

/// All that a plan depends on.
#[derive(Debug, Clone)]
pub struct View {
    /// The generation to make Machines from.
    pub generation: String,
    /// When this server began to listen: before that, no host could be heard of.
    pub up_since: Timestamp,
    /// Queues that are declared, have jobs, or have Machines.
    pub queues: Vec<QueueDemand>,
    /// All Machines that are not forgotten yet, oldest first, each with how many attempts are leased to it.
    pub machines: Vec<(Machine, u32)>,
    /// Machines that carry our label and had no row when the Machines API was asked.
    pub strays: Vec<MachineId>,
}

/// How much work a queue has, and the policy by which Machines serve it.
#[derive(Debug, Clone)]
pub struct QueueDemand {
    /// The name of the queue.
    pub queue: QueueName,
    /// How many Machines the queue may have, and of which kind.
    pub policy: QueuePolicy,
    /// The number of its jobs that are due and wait.
    pub due: u64,
}

/// Something to do about a Machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Fork a new Machine and run it.
    Boot {
        /// The queue that it will serve.
        queue: QueueName,
    },
    /// Make a new Machine that rests stopped.
    Prepare {
        /// The queue that it will serve.
        queue: QueueName,
    },
    /// Make the Machine, under a new secret: the call that should have made it was refused.
    Create(MachineName),
    /// Start the Machine, or start it again.
    Start(MachineName),
    /// Let the Machine finish what it runs and go.
    Drain(MachineName),
    /// Give up on the Machine: its jobs go back, then it is destroyed.
    GiveUp(MachineName, String),
    /// Destroy the Machine.
    Destroy(MachineName),
    /// Destroy a Machine that has no row: its create was taken for lost, and was not.
    DestroyStray(MachineId),
    /// Delete the row of the Machine, which has been gone for long.
    Forget(MachineName),
}

/// Returns what to do now. Every action is safe to repeat.
pub fn plan(view: &View, now: Timestamp) -> Vec<Action> {
    let mut actions: Vec<Action> =
        view.machines.iter().filter_map(|(machine, _)| reconcile(machine, view, now)).collect();
    for demand in &view.queues {
        scale(demand, view, now, &mut actions);
    }
    // A row that was written since the Machines API was asked is not a stray's.
    let has_row = |id: &&MachineId| {
        let mut present = view.machines.iter().filter(|(machine, _)| machine.state != MachineState::Gone);
        present.any(|(machine, _)| machine.id.as_ref() == Some(*id))
    };
    let strays = view.strays.iter().filter(|id| !has_row(id));
    actions.extend(strays.map(|id| Action::DestroyStray(id.clone())));
    actions
}

/// What one Machine needs, whatever its queue needs.
fn reconcile(machine: &Machine, view: &View, now: Timestamp) -> Option<Action> {
    let name = machine.name.clone();
    let in_state = now.since(machine.since);
    let may_act = machine.act_at <= now;
    let old = machine.is_outdated(&view.generation);
    match machine.state {
        MachineState::Gone => (in_state > GONE_KEPT).then_some(Action::Forget(name)),
        MachineState::Destroying => may_act.then_some(Action::Destroy(name)),
        MachineState::Preparing if old => Some(Action::Drain(name)),
        MachineState::Creating | MachineState::Preparing if machine.id.is_none() && may_act => {
            Some(if machine.act_failures > 0 {
                Action::Create(name)
            } else {
                // Whether the call was heard is not known, and its secret is forgotten: another Machine is made.
                Action::GiveUp(name, "the call that makes it was lost".to_owned())
            })
        }
        MachineState::Preparing if in_state > BOOT_MAX => {
            Some(Action::GiveUp(name, "it was not made in two minutes".to_owned()))
        }
        MachineState::Creating | MachineState::Starting if is_unbooted(machine, view, now) => {
            Some(Action::GiveUp(name, "its host did not phone home in two minutes".to_owned()))
        }
        // `act_failures` tells a start that failed from one that was answered.
        MachineState::Starting if machine.act_failures > 0 && may_act => Some(Action::Start(name)),
        MachineState::Up | MachineState::Draining if is_unheard(machine, view, now) => {
            Some(Action::GiveUp(name, "its host was not heard of for a lease".to_owned()))
        }
        MachineState::Left if in_state > LEAVE_MAX => {
            Some(Action::GiveUp(name, "its host left and did not stop".to_owned()))
        }
        MachineState::Up | MachineState::Starting if old => Some(Action::Drain(name)),
        _ => None,
    }
}

fn is_unbooted(machine: &Machine, view: &View, now: Timestamp) -> bool {
    // Nobody could phone home to a server that was away.
    now.since(machine.since.max(view.up_since)) > BOOT_MAX
}

fn is_unheard(machine: &Machine, view: &View, now: Timestamp) -> bool {
    let heard_at = machine.heard_at.unwrap_or(machine.since);
    // A server that was away could not have heard it.
    now.since(heard_at.max(view.up_since)) > limits::LEASE
}

/// What one queue needs: Machines for its jobs, its warm ones, its ready ones.
fn scale(demand: &QueueDemand, view: &View, now: Timestamp, actions: &mut Vec<Action>) {
    let policy = &demand.policy;
    let ours = || view.machines.iter().filter(|(machine, _)| machine.queue == demand.queue);
    let current = || ours().filter(|(machine, _)| !machine.is_outdated(&view.generation));
    let count = |wanted: fn(MachineState) -> bool| {
        current().filter(|(machine, _)| wanted(machine.state)).count() as u32
    };

    let live = ours().filter(|(machine, _)| machine.state.is_live()).count() as u32;
    let serving = |state| matches!(state, MachineState::Creating | MachineState::Starting | MachineState::Up);
    let free: u64 = current()
        .filter(|(machine, _)| serving(machine.state) && !(machine.single_use && machine.attempts > 0))
        .map(|(machine, running)| u64::from(machine.places.saturating_sub(*running)))
        .sum();
    let for_jobs = demand.due.saturating_sub(free).div_ceil(u64::from(policy.places()));
    let for_warmth = policy.warm_machines.saturating_sub(count(serving));
    let wanted = u32::try_from(for_jobs).unwrap_or(u32::MAX).max(for_warmth);
    let may = policy.max_machines.min(limits::MACHINES_MAX).saturating_sub(live);
    let to_run = wanted.min(may).min(BOOTS_PER_ROUND);

    let ready: Vec<&Machine> = current()
        .map(|(machine, _)| machine)
        .filter(|machine| machine.state == MachineState::Ready && machine.act_at <= now)
        .collect();
    let (to_start, spare) = ready.split_at(ready.len().min(to_run as usize));
    actions.extend(to_start.iter().map(|machine| Action::Start(machine.name.clone())));

    let may_boot = boot_pause_until(ours().map(|(machine, _)| machine)).is_none_or(|until| until <= now);
    let to_boot = to_run - to_start.len() as u32;
    if may_boot {
        actions.extend((0..to_boot).map(|_| Action::Boot { queue: demand.queue.clone() }));
    }

    let preparing = count(|state| state == MachineState::Preparing);
    let pool = spare.len() as u32 + preparing;
    if may_boot {
        let missing = policy.ready_machines.saturating_sub(pool).min(BOOTS_PER_ROUND);
        actions.extend((0..missing).map(|_| Action::Prepare { queue: demand.queue.clone() }));
    }
    let surplus = pool.saturating_sub(policy.ready_machines) as usize;
    actions.extend(spare.iter().take(surplus).map(|machine| Action::Destroy(machine.name.clone())));
    let old_ready = ours().map(|(machine, _)| machine).filter(|machine| {
        machine.state == MachineState::Ready && machine.is_outdated(&view.generation) && machine.act_at <= now
    });
    actions.extend(old_ready.map(|machine| Action::Destroy(machine.name.clone())));
}

/// Machines that do not come up one after the other are begun ever more slowly: 1, 2, 4 seconds and so on.
fn boot_pause_until<'a>(machines: impl Iterator<Item = &'a Machine> + Clone) -> Option<Timestamp> {
    let last_up = machines.clone().filter_map(|machine| machine.heard_at).max().unwrap_or_default();
    let failed = machines.filter(|machine| machine.boot_failed && machine.since > last_up);
    let (count, newest) = failed.fold((0u32, Timestamp::default()), |(count, newest), machine| {
        (count + 1, newest.max(machine.since))
    });
    let pause = Duration::from_secs(1u64.checked_shl(count.checked_sub(1)?).unwrap_or(u64::MAX));
    Some(newest.after(pause.min(BOOT_PAUSE_MAX)))
}

#[cfg(test)]
mod tests;
