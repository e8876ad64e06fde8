//! What to do about Machines: the dispatcher looks, plans, acts.

mod replace;
mod retire;
mod share;

use std::collections::BTreeMap;
use std::time::Duration;

use midge_protocol::manifest::{Idle, QueuePolicy};
use midge_protocol::units::show_duration;
use midge_protocol::{MachineId, MachineName, QueueName, Timestamp, limits};

use self::replace::replace;
use self::retire::retire;
use self::share::share;
#[cfg(doc)]
use crate::LINE_HEAD;
use crate::fleet::{Fleet, QueueFleet};
use crate::{Machine, MachineState, Sleep, Stray};

/// A server that has just come back waits so long for hosts that tried meanwhile, before a boot counts as failed: they try
/// again every two seconds, and one that has found nobody for a minute exits.
const LISTENED_MIN: Duration = Duration::from_secs(15);
/// A host that said goodbye and is still not stopped by then is destroyed.
const LEAVE_MAX: Duration = Duration::from_secs(30);
/// A Machine that is to be suspended and is not by then stops instead. With much memory it takes more than a quarter of a
/// minute.
const REST_MAX: Duration = Duration::from_secs(60);
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
    /// Queues that are declared, have jobs, or have Machines. Those of a pool are together one, under the name of the pool.
    pub queues: Vec<QueueDemand>,
    /// All Machines that are not forgotten yet, oldest first, each with how many attempts are leased to it.
    pub machines: Vec<(Machine, u32)>,
    /// Machines that are ours by label and name, and had no row when the Machines API was asked.
    pub strays: Vec<Stray>,
}

/// How much work a queue has, or the queues of a pool, and the policy by which Machines serve it.
#[derive(Debug, Clone)]
pub struct QueueDemand {
    /// The name of the queue, or of the pool.
    pub queue: QueueName,
    /// How many Machines the queue may have, and of which kind.
    pub policy: QueuePolicy,
    /// The number of its jobs that are due, wait, and may begin: its limits leave room for them.
    pub due: u64,
    /// Whether it is paused, or starts nothing for its budget: then it keeps no Machines, and those that it has finish what they
    /// run and go.
    pub paused: bool,
    /// How many suspects are among the first [`LINE_HEAD`] of them: each needs a Machine for itself.
    pub suspects: u64,
    /// The time at which the one of them that is due longest became due.
    pub oldest_due: Option<Timestamp>,
}

impl QueueDemand {
    /// Returns the demand of a pool from those of its queues: Machines of one policy for the work of all. It is paused only
    /// where each of them is; one that is has nothing due. It may have as many Machines as the one of them that may have most:
    /// where its budget slows them, that is fewer than its policy says.
    pub fn of_pool(
        pool: QueueName,
        policy: QueuePolicy,
        queues: impl Iterator<Item = QueueDemand> + Clone,
    ) -> QueueDemand {
        let most = queues.clone().map(|queue| queue.policy.max_machines).max();
        let max_machines = policy.max_machines.min(most.unwrap_or(policy.max_machines));
        let policy = QueuePolicy {
            max_machines,
            warm_machines: policy.warm_machines.min(max_machines),
            ready_machines: policy.ready_machines.min(max_machines),
            ..policy
        };
        let nothing =
            QueueDemand { queue: pool, policy, due: 0, paused: true, suspects: 0, oldest_due: None };
        queues.fold(nothing, |all, queue| QueueDemand {
            due: all.due.saturating_add(queue.due),
            suspects: all.suspects.saturating_add(queue.suspects),
            paused: all.paused && queue.paused,
            oldest_due: [all.oldest_due, queue.oldest_due].into_iter().flatten().min(),
            ..all
        })
    }
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
    /// Suspend the Machine, whose host stands by.
    Suspend(MachineName),
    /// Have the Machine stop, which was to be suspended and could not be.
    StayAwake(MachineName, String),
    /// Let the Machine finish what it runs and go.
    Drain(MachineName),
    /// Let the Machine finish what it runs and go: a job of another queue needs its room.
    GiveWay(MachineName),
    /// Let the Machine finish what it runs and go: its queue starts nothing, or may have fewer.
    LetGo(MachineName, String),
    /// Let the Machine finish what it runs and go: another is to take its place.
    Retire(MachineName, String),
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
    let boots = BootDeadlines::of_all(&view.queues);
    let mut actions: Vec<Action> = view
        .machines
        .iter()
        .filter_map(|(machine, _)| reconcile(machine, boots.of(machine), view, now))
        .collect();
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
fn reconcile(machine: &Machine, boot_max: Duration, view: &View, now: Timestamp) -> Option<Action> {
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
        // Nobody replaces it: its queue is in a pool by now, say.
        MachineState::Ready if old && !view.queues.iter().any(|demand| demand.queue == machine.queue) => {
            may_act.then_some(Action::Destroy(name))
        }
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
        MachineState::Preparing if in_state > boot_max => {
            Some(Action::GiveUp(name, format!("it was not made in {}", show_duration(boot_max))))
        }
        MachineState::Creating | MachineState::Starting
            if in_state > boot_max && now.since(view.up_since) > LISTENED_MIN =>
        {
            Some(Action::GiveUp(name, format!("its host did not phone home in {}", show_duration(boot_max))))
        }
        // `act_failures` tells a start that failed from one that was answered.
        MachineState::Starting if machine.act_failures > 0 && may_act => Some(Action::Start(name)),
        MachineState::Up | MachineState::Draining if is_unheard(machine, view, now) => {
            Some(Action::GiveUp(name, "its host was not heard of for a lease".to_owned()))
        }
        MachineState::Left if in_state > LEAVE_MAX => {
            Some(Action::GiveUp(name, "its host left and did not stop".to_owned()))
        }
        MachineState::Up | MachineState::Starting | MachineState::Resting if old => Some(Action::Drain(name)),
        MachineState::Resting if in_state > REST_MAX => {
            Some(Action::StayAwake(name, "it was not suspended in a minute".to_owned()))
        }
        MachineState::Resting if machine.sleep == Sleep::Awake && may_act => Some(Action::Suspend(name)),
        _ => None,
    }
}

/// How long the Machines of each queue may take until their hosts phone home.
struct BootDeadlines<'a>(BTreeMap<&'a QueueName, Duration>);

impl<'a> BootDeadlines<'a> {
    fn of_all(queues: &'a [QueueDemand]) -> BootDeadlines<'a> {
        let deadline = |policy: &QueuePolicy| Duration::from_millis(policy.boot_deadline_ms);
        BootDeadlines(queues.iter().map(|demand| (&demand.queue, deadline(&demand.policy))).collect())
    }

    fn of(&self, machine: &Machine) -> Duration {
        self.0.get(&machine.queue).copied().unwrap_or(limits::BOOT_DEADLINE_DEFAULT)
    }
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
    /// Those that rest, and are not started or destroyed now.
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
    let serving = |state| matches!(state, MachineState::Creating | MachineState::Starting | MachineState::Up);
    let mut up: Vec<_> =
        current.machines.iter().filter(|(machine, _)| machine.state == MachineState::Up).collect();
    let note = match demand.paused {
        true => "its queue starts nothing",
        false => {
            // It was slowed for its budget, say: those go that run the least.
            let beyond = current.count(serving).saturating_sub(policy.max_machines);
            up.sort_by_key(|(_, running)| *running);
            up.truncate(beyond as usize);
            "its queue may have fewer Machines"
        }
    };
    actions.extend(up.iter().map(|(machine, _)| Action::LetGo(machine.name.clone(), note.to_owned())));

    let for_jobs = current.free_places(serving).missing(demand.due, demand.suspects, policy.places());
    let for_warmth = policy.warm_machines.saturating_sub(current.count(serving));
    let may = room_for_machines(policy, ours.machines.iter().copied());
    let bounded = |wanted: u32| wanted.min(may).min(BOOTS_PER_ROUND);
    let for_jobs = bounded(u32::try_from(for_jobs).unwrap_or(u32::MAX));
    let to_run = for_jobs.max(bounded(for_warmth));

    let ready = current.machines.iter().map(|(machine, _)| machine);
    let ready = ready.filter(|machine| machine.state == MachineState::Ready && machine.act_at <= now);
    // What ran is not to run again, whatever waits.
    let (used, mut ready): (Vec<&Machine>, Vec<&Machine>) =
        ready.partition(|machine| policy.idle == Idle::Destroy && machine.heard_at.is_some());
    actions.extend(used.iter().map(|machine| Action::Destroy(machine.name.clone())));
    // Those that go on where they were are there sooner: they are started first, and kept.
    ready.sort_by_key(|machine| machine.sleep != Sleep::Asleep);
    let (to_start, spare) = ready.split_at(ready.len().min(to_run as usize));
    actions.extend(to_start.iter().map(|machine| Action::Start(machine.name.clone())));
    let started = to_start.len() as u32;

    let surplus = spare.len().saturating_sub(policy.ready_machines as usize);
    let (resting, surplus) = spare.split_at(spare.len() - surplus);
    // What is to be ready soon is no reason for another, and none to destroy what is: it may not come to it.
    let soon = current.count(|state| matches!(state, MachineState::Preparing | MachineState::Resting));
    let pool = spare.len() as u32 + soon;
    actions.extend(surplus.iter().map(|machine| Action::Destroy(machine.name.clone())));
    let mut resting = resting.to_vec();
    if !demand.paused {
        actions.extend(retire(&current, &mut resting, policy, now));
    }
    let replacement = replace(&ours, &view.generation, policy.ready_machines, pool, now);
    actions.extend(replacement.go.iter().map(|machine| Action::Destroy(machine.name.clone())));
    // Where room is needed, those go first that are no use to new jobs.
    let resting = replacement.stay.into_iter().chain(resting).collect();

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
