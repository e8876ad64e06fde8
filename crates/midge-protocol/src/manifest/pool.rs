//! Pools: Machines that serve several queues of one size.
//!
//! A queue of a pool has what the pool says of Machines in its own policy, so that whoever has a queue's policy has all of
//! it. That the queues of a pool say the same is checked where a manifest is read.

use super::{Manifest, QueuePolicy};
use crate::QueueName;

/// The settings that are about Machines, and so are a pool's where a queue names one.
pub const MACHINE_SETTINGS: [&str; 12] = [
    "max_machines",
    "warm_machines",
    "ready_machines",
    "jobs_per_machine",
    "wait",
    "idle",
    "boot_deadline",
    "max_age",
    "single_use",
    "size",
    "regions",
    "budget",
];

impl QueuePolicy {
    /// Returns the policy with another's Machines.
    #[must_use]
    pub fn with_machines_of(&self, pool: &QueuePolicy) -> QueuePolicy {
        QueuePolicy {
            max_machines: pool.max_machines,
            warm_machines: pool.warm_machines,
            ready_machines: pool.ready_machines,
            jobs_per_machine: pool.jobs_per_machine,
            wait: pool.wait,
            idle: pool.idle,
            boot_deadline_ms: pool.boot_deadline_ms,
            max_age_ms: pool.max_age_ms,
            single_use: pool.single_use,
            size: pool.size.clone(),
            regions: pool.regions.clone(),
            budget: pool.budget,
            ..self.clone()
        }
    }

    /// Returns what is about Machines alone: the policy of its pool.
    pub fn of_pool(&self) -> QueuePolicy {
        QueuePolicy::default().with_machines_of(self)
    }
}

impl Manifest {
    /// Returns the policy of the Machines of a pool; nothing where no queue names it.
    pub fn pool(&self, name: &QueueName) -> Option<QueuePolicy> {
        self.queues.values().find(|policy| policy.pool.as_ref() == Some(name)).map(QueuePolicy::of_pool)
    }

    /// Returns what the Machines of a queue are known by: its pool, or the queue itself.
    pub fn served_as<'a>(&'a self, queue: &'a QueueName) -> &'a QueueName {
        self.queues.get(queue).and_then(|policy| policy.pool.as_ref()).unwrap_or(queue)
    }

    /// Returns the queues that Machines serve which are known by a name: those of the pool, or the queue itself.
    pub fn queues_served_as(&self, name: &QueueName) -> Vec<QueueName> {
        let pooled = self.queues.iter().filter(|(_, policy)| policy.pool.as_ref() == Some(name));
        let mut queues: Vec<QueueName> = pooled.map(|(queue, _)| queue.clone()).collect();
        if queues.is_empty() {
            queues.push(name.clone());
        }
        queues
    }

    /// Returns what is wrong with the pools, and what to do; nothing where nothing is.
    pub(super) fn wrong_pools(&self) -> Option<String> {
        self.queues.iter().find_map(|(queue, policy)| {
            let pool = policy.pool.as_ref()?;
            if self.knows_queue(pool) {
                return Some(format!(
                    "queue `{queue}`: its pool has the name of queue `{pool}`: give the pool another, since its Machines are known by it"
                ));
            }
            let differs = self.pool(pool).is_some_and(|of_first| of_first != policy.of_pool());
            differs.then(|| {
                format!(
                    "queue `{queue}` says something else of the Machines of pool `{pool}` than another queue of it: say it once, in \
                     [pools.{pool}], and run `midge build` again"
                )
            })
        })
    }
}
