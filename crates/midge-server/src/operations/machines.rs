//! What can be asked about Machines.

use midge_protocol::api::{MachineView, Machines};

use crate::error::ServiceError;
use crate::midge::Midge;

impl Midge {
    /// Returns the Machines that are there, and those that went lately; newest first.
    pub async fn machines(&self) -> Result<Machines, ServiceError> {
        let machines = midge_store::read(&*self.inner.store, |rows| rows.machines()).await?;
        let view = |(machine, running): (midge_core::Machine, u32)| MachineView {
            name: machine.name,
            id: machine.id,
            queue: machine.queue,
            state: machine.state.as_str().to_owned(),
            since: machine.since,
            heard_at: machine.heard_at,
            running,
            attempts: machine.attempts,
            generation: machine.generation,
            note: machine.note,
        };
        Ok(Machines { machines: machines.into_iter().rev().map(view).collect() })
    }
}
