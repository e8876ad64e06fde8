//! What can be asked about queues.

use midge_protocol::api::{QueueView, Queues};
use midge_protocol::job::State;

use crate::error::ServiceError;
use crate::midge::Midge;

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
        let queues = names.into_iter().map(|name| {
            let counts = counts.get(&name).cloned().unwrap_or_default();
            let jobs = State::ALL.into_iter().map(|state| (state, counts.in_state(state))).collect();
            let live = machines.iter().filter(|(m, _)| m.queue == name && m.state.is_live()).count();
            QueueView {
                policy: catalog.policy(&name),
                jobs,
                oldest_waits_ms: counts.oldest_due.map(|due| now.since(due).as_millis() as u64),
                machines: live as u32,
                name,
            }
        });
        Ok(Queues { queues: queues.collect() })
    }
}
