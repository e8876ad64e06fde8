//! Settings of queues that people change while the server runs: those that are about Machines.

use std::time::Duration;

use midge_protocol::QueueName;
use midge_protocol::manifest::{Idle, QueuePolicy, Wait};

use super::chance::Chance;
use super::world::{Event, World};

impl World {
    /// Puts on the agenda that somebody changes settings, a few times or never.
    pub(super) fn plan_settings(&mut self, most: u64) {
        for _ in 0..self.chance.below(5).saturating_sub(2) {
            let at = self.chance.millis(0, most);
            self.after(at, Event::ChangeSettings);
        }
    }

    /// Somebody changes how a queue's Machines are.
    pub(super) fn change_settings(&mut self) {
        if self.is_deciding() {
            // A round goes by what held when it began.
            return self.after(Duration::from_millis(100), Event::ChangeSettings);
        }
        let queues: Vec<QueueName> = self.policies.keys().cloned().collect();
        let queue = queues[self.chance.below(queues.len() as u64) as usize].clone();
        let Some(policy) = self.policies.get(&queue) else { return };
        let (policy, pool) = (changed(policy, &mut self.chance), policy.pool.clone());
        // Of a queue in a pool they are the pool's.
        let others = self
            .policies
            .iter_mut()
            .filter(|(name, other)| **name == queue || pool.is_some() && other.pool == pool);
        others.for_each(|(_, other)| *other = other.with_machines_of(&policy));
        let now =
            format!("{} Machines, {} ready, {:?}", policy.max_machines, policy.ready_machines, policy.idle);
        self.trace.say(self.now, format_args!("queue {queue} may have {now}"));
        self.trace.count("settings changed");
        self.settings_changed += 1;
        self.hint();
    }
}

impl World {
    /// Nobody wants Machines to be replaced any more, so that those that are kept are the ones that are wanted.
    pub(super) fn unset_ages(&mut self) {
        self.policies.values_mut().for_each(|policy| policy.max_age_ms = None);
        self.settings_changed += 1;
    }
}

/// Returns a policy with one or more settings changed, within what `midge build` allows.
fn changed(policy: &QueuePolicy, chance: &mut Chance) -> QueuePolicy {
    let max_machines = 1 + chance.below(4) as u32;
    let warm_machines = policy.warm_machines.min(max_machines);
    let ready_machines = chance.below(u64::from(max_machines.min(2)) + 1) as u32;
    let idle = match chance.below(3) {
        0 if ready_machines > 0 && !policy.single_use => Idle::Suspend,
        1 => Idle::Destroy,
        _ => Idle::Stop,
    };
    let jobs_per_machine =
        if chance.below(3) == 0 { 1 + chance.below(4) as u32 } else { policy.jobs_per_machine };
    let max_age = (chance.below(3) == 0).then(|| Duration::from_secs(60 + chance.below(120)));
    let max_age_ms = max_age.map(|age| age.as_millis() as u64);
    let wait = Wait::Millis(1_000 + chance.below(8_000));
    QueuePolicy {
        max_machines,
        warm_machines,
        ready_machines,
        idle,
        jobs_per_machine,
        max_age_ms,
        wait,
        ..policy.clone()
    }
}
