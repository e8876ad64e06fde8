//! What to do about Machines: the dispatcher looks, plans, acts.

mod replace;
mod share;

use std::time::Duration;

use midge_protocol::manifest::QueuePolicy;
use midge_protocol::{MachineId, MachineName, QueueName, Timestamp, limits};

use self::replace::replace;
use self::share::share;
#[cfg(doc)]
use crate::LINE_HEAD;
use crate::fleet::{Fleet, QueueFleet};
use crate::{Machine, MachineState, Stray};

/// A Machine that has not phoned home by then never will. Pulling an image takes up to tens of seconds.
const BOOT_MAX: Duration = Duration::from_secs(120);
/// A host that said goodbye and is still not stopped by then is destroyed.
const LEAVE_MAX: Duration = Duration::from_secs(30);
/// The row of a Machine that is gone is kept for so long, for people to see.
const GONE_KEPT: Duration = Duration::from_secs(10 * 60);
/// The row of a Machine that did not come up is kept for so long: the next pause depends on how many there are.
const FAILED_KEPT: Duration = Duration::from_secs(60 * 60);
/// Rows of Machines that are gone, in all. More are forgotten at once, oldest first: every round reads them.
const GONE_KEPT_MAX: usize = 1_000;
/// Machines begun in one round and queue: the Machines API takes about one a second, so more would only be refused.
const BOOTS_PER_ROUND: u32 = 16;

/// All that a plan depends on.
#[derive(Debug, Clone)]
pub struct View {
    /// The generation to make Machines from.
    pub generation: String,
    /// When this server began to listen: before that, no host could be heard of.
    pub up_since: Timestamp,
    /// The most Machines that there may be of all queues together, those included that are stopped, on their way or not
    /// destroyed yet.
    pub max_machines: u32,
    /// Queues that are declared, have jobs, or have Machines.
    pub queues: Vec<QueueDemand>,
    /// All Machines that are not forgotten yet, oldest first, each with how many attempts are leased to it.
    pub machines: Vec<(Machine, u32)>,
    /// Machines that are ours by label and name, and had no row when the Machines API was asked.
    pub strays: Vec<Stray>,
}

/// How much work a queue has, and the policy by which Machines serve it.
#[derive(Debug, Clone)]
pub struct QueueDemand {
    /// The name of the queue.
    pub queue: QueueName,
    /// How many Machines the queue may have, and of which kind.
    pub policy: QueuePolicy,
    /// The number of its jobs that are due, wait, and may begin: its limits leave room for them.
    pub due: u64,
    /// Whether it is paused: then it keeps no Machines, and those that it has finish what they run and go.
    pub paused: bool,
    /// How many suspects are among the first [`LINE_HEAD`] of them: each needs a Machine for itself.
    pub suspects: u64,
    /// The time at which the one of them that is due longest became due.
    pub oldest_due: Option<Timestamp>,
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
    /// Let the Machine finish what it runs and go: a job of another queue needs its room.
    GiveWay(MachineName),
    /// Let the Machine finish what it runs and go: its queue is paused.
    Pause(MachineName),
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
    actions.extend(forget(view));
    let fleet = Fleet::of(&view.machines);
    let demands = view.queues.iter().map(|demand| (demand, fleet.queue(&demand.queue)));
    let wants = demands.map(|(demand, ours)| scale(demand, ours, view, now, &mut actions)).collect();
    share(wants, view.max_machines, fleet.present(), now, &mut actions);
    // A row that was written since the Machines API was asked is not a stray's.
    let has_row = |id: &&MachineId| {
        let mut present = view.machines.iter().filter(|(machine, _)| machine.state.is_present());
        present.any(|(machine, _)| machine.id.as_ref() == Some(*id))
    };
    let strays = view.strays.iter().filter(|stray| stray.is_over(now)).map(|stray| &stray.id);
    actions.extend(strays.filter(|id| !has_row(id)).map(|id| Action::DestroyStray(id.clone())));
    actions
}

/// Returns the part of the rows of Machines that are gone for which there are too many.
fn forget(view: &View) -> impl Iterator<Item = Action> {
    let gone = || view.machines.iter().filter(|(machine, _)| !machine.state.is_present());
    let too_many = gone().count().saturating_sub(GONE_KEPT_MAX);
    gone().take(too_many).map(|(machine, _)| Action::Forget(machine.name.clone()))
}

/// What one Machine needs, whatever its queue needs.
fn reconcile(machine: &Machine, view: &View, now: Timestamp) -> Option<Action> {
    let name = machine.name.clone();
    let in_state = now.since(machine.since);
    let may_act = machine.act_at <= now;
    let old = machine.is_outdated(&view.generation);
    match machine.state {
        MachineState::Gone => {
            let kept = if machine.boot_failed { FAILED_KEPT } else { GONE_KEPT };
            (in_state > kept).then_some(Action::Forget(name))
        }
        MachineState::Destroying => may_act.then_some(Action::Destroy(name)),
        MachineState::Preparing if old => Some(Action::Drain(name)),
        _ if machine.is_refused() && old => {
            Some(Action::GiveUp(name, "a new generation takes its place".to_owned()))
        }
        MachineState::Creating | MachineState::Preparing if machine.is_unmade() && may_act => {
            Some(if machine.act_failures > 0 {
                Action::Create(name)
            } else {
                // Whether the call was heard is not known, and its secret is forgotten: another Machine is made.
                Action::GiveUp(name, "the call that makes it was lost".to_owned())
            })
        }
        // One that cannot be had is asked for again until it can: the next one would not come sooner.
        MachineState::Creating | MachineState::Preparing
            if machine.is_unmade() && machine.act_failures > 0 =>
        {
            None
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

/// The Machines that a queue wants beside those that it has. Which of them it gets is decided among all queues.
struct Want<'a> {
    demand: &'a QueueDemand,
    ours: QueueFleet<'a>,
    /// For jobs that are due and find no place.
    for_jobs: u32,
    /// For those that are to be kept warm.
    for_warmth: u32,
    /// To rest stopped.
    to_rest: u32,
    /// Those that rest stopped, and are not started or destroyed now.
    resting: Vec<&'a Machine>,
}

/// Returns how many Machines of a queue may run beside those that it has, of which `ours` are all. Where it is none, nobody
/// need look closer at the jobs that are due to plan Machines for them.
pub fn room_for_machines<'a>(policy: &QueuePolicy, ours: impl Iterator<Item = &'a (Machine, u32)>) -> u32 {
    let live = ours.filter(|(machine, _)| machine.state.is_live()).count();
    let max = policy.max_machines.min(limits::MACHINES_MAX);
    max.saturating_sub(u32::try_from(live).unwrap_or(u32::MAX))
}

/// What one queue needs: Machines for its jobs, its warm ones, its ready ones. What takes no room is done at once.
fn scale<'a>(
    demand: &'a QueueDemand,
    ours: QueueFleet<'a>,
    view: &View,
    now: Timestamp,
    actions: &mut Vec<Action>,
) -> Want<'a> {
    let policy = &match demand.paused {
        true => QueuePolicy { warm_machines: 0, ready_machines: 0, ..demand.policy.clone() },
        false => demand.policy.clone(),
    };
    let current = ours.current(&view.generation);
    if demand.paused {
        let up = current.machines.iter().filter(|(machine, _)| machine.state == MachineState::Up);
        actions.extend(up.map(|(machine, _)| Action::Pause(machine.name.clone())));
    }
    let serving = |state| matches!(state, MachineState::Creating | MachineState::Starting | MachineState::Up);

    let for_jobs = current.free_places(serving).missing(demand.due, demand.suspects, policy.places());
    let for_warmth = policy.warm_machines.saturating_sub(current.count(serving));
    let may = room_for_machines(policy, ours.machines.iter().copied());
    let bounded = |wanted: u32| wanted.min(may).min(BOOTS_PER_ROUND);
    let for_jobs = bounded(u32::try_from(for_jobs).unwrap_or(u32::MAX));
    let to_run = for_jobs.max(bounded(for_warmth));

    let ready: Vec<&Machine> = current
        .machines
        .iter()
        .map(|(machine, _)| machine)
        .filter(|machine| machine.state == MachineState::Ready && machine.act_at <= now)
        .collect();
    let (to_start, spare) = ready.split_at(ready.len().min(to_run as usize));
    actions.extend(to_start.iter().map(|machine| Action::Start(machine.name.clone())));
    let started = to_start.len() as u32;

    let pool = spare.len() as u32 + current.count(|state| state == MachineState::Preparing);
    let surplus = (pool.saturating_sub(policy.ready_machines) as usize).min(spare.len());
    let (surplus, resting) = spare.split_at(surplus);
    actions.extend(surplus.iter().map(|machine| Action::Destroy(machine.name.clone())));
    let replacement = replace(&ours, &view.generation, policy.ready_machines, pool, now);
    actions.extend(replacement.go.iter().map(|machine| Action::Destroy(machine.name.clone())));
    // Where room is needed, those go first that are no use to new jobs.
    let resting = replacement.stay.into_iter().chain(resting.iter().copied()).collect();

    // Of those that are refused one is enough to ask again.
    let refused = current.machines.iter().map(|(machine, _)| machine).filter(|machine| machine.is_refused());
    let give_up =
        |machine: &Machine| Action::GiveUp(machine.name.clone(), "another one is asked for".to_owned());
    actions.extend(refused.skip(1).map(give_up));

    let may_make = current.refused().is_none() && ours.failed_boots().is_none_or(|failed| failed.next <= now);
    let make = |wanted: u32| if may_make { wanted } else { 0 };
    let for_jobs = for_jobs.saturating_sub(started);
    Want {
        for_jobs: make(for_jobs),
        for_warmth: make(to_run - started - for_jobs),
        to_rest: make(replacement.to_make.min(BOOTS_PER_ROUND)),
        resting,
        demand,
        ours,
    }
}

#[cfg(test)]
mod tests;
