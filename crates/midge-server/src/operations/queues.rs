//! What can be asked about queues.

use std::collections::BTreeMap;

use midge_core::Outlook;
use midge_protocol::QueueName;
use midge_protocol::api::{QueueView, Queues};
use midge_protocol::job::State;

use crate::error::ServiceError;
use crate::midge::Midge;
use crate::waits::waits;

impl Midge {
    /// Returns the queues that are declared or hold jobs.
    pub async fn queues(&self) -> Result<Queues, ServiceError> {
        let now = self.inner.clock.now();
        let read = midge_store::read(&*self.inner.store, move |rows| {
            Ok::<_, ServiceError>((rows.job_counts(now)?, rows.machines()?))
        });
        let (counts, machines) = read.await?;
        let catalog = self.inner.catalog.get();
        let mut names = catalog.queues();
        names.extend(counts.keys().cloned());
        let mut live: BTreeMap<&QueueName, u32> = BTreeMap::new();
        for (machine, _) in machines.iter().filter(|(machine, _)| machine.state.is_live()) {
            *live.entry(&machine.queue).or_default() += 1;
        }
        let max_machines = catalog.manifest.max_machines();
        let mut outlook = Outlook::new(&machines, &catalog.generation, max_machines, now);
        let queues = names.into_iter().map(|name| {
            let counts = counts.get(&name).cloned().unwrap_or_default();
            let jobs = State::ALL.into_iter().map(|state| (state, counts.in_state(state))).collect();
            QueueView {
                waits: (counts.in_state(State::Available) > 0)
                    .then(|| waits(&outlook.queue(&name, || catalog.policy(&name)), now)),
                policy: catalog.policy(&name),
                jobs,
                oldest_waits_ms: counts.oldest_due.map(|due| now.since(due).as_millis() as u64),
                machines: live.get(&name).copied().unwrap_or(0),
                name,
            }
        });
        let queues = queues.collect();
        let present = machines.iter().filter(|(machine, _)| machine.state.is_present()).count();
        Ok(Queues { queues, machines: present as u32, max_machines })
    }
}
