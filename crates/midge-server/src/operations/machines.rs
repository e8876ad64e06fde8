//! What can be asked about Machines, and of one: to take no more jobs, and go.

use midge_core::{Machine, MachineState, Sleep};
use midge_protocol::MachineName;
use midge_protocol::api::{MachineView, Machines};

use crate::dispatcher::{Drained, drain};
use crate::error::ServiceError;
use crate::midge::Midge;

impl Midge {
    /// Returns the Machines that are there, and those that went lately; newest first.
    pub async fn machines(&self) -> Result<Machines, ServiceError> {
        let machines = midge_store::read(&*self.inner.store, |rows| rows.machines()).await?;
        let views = machines.into_iter().rev().map(|(machine, running)| view(machine, running));
        Ok(Machines { machines: views.collect() })
    }

    /// Has a Machine take no more jobs, finish what it runs and go: it is not kept to be started again, warm or ready as it
    /// may be. Another one is made where there is work for it. Returns the Machine as it is then.
    ///
    /// # Errors
    /// [`ServiceError::NoSuchMachine`] where there is none of that name, [`ServiceError::MachineGoes`] where it is being
    /// destroyed or is gone.
    pub async fn drain_machine(&self, name: MachineName) -> Result<MachineView, ServiceError> {
        let inner = &self.inner;
        let (now, drained) = (inner.clock.now(), name.clone());
        let drained = midge_store::write(&*inner.store, move |rows| drain(rows, &drained, now)).await?;
        match drained {
            Drained::Drains { machine, running } => {
                inner.waiters.machines.wake(&name);
                inner.waiters.dispatcher.notify_one();
                Ok(view(*machine, running))
            }
            Drained::Goes(state) => Err(ServiceError::MachineGoes { name, state: state.as_str() }),
            Drained::Unknown => Err(ServiceError::NoSuchMachine(name)),
        }
    }
}

fn view(machine: Machine, running: u32) -> MachineView {
    MachineView {
        name: machine.name,
        id: machine.id,
        queue: machine.queue,
        state: machine.state.as_str().to_owned(),
        suspended: machine.state == MachineState::Ready && machine.sleep == Sleep::Asleep,
        since: machine.since,
        heard_at: machine.heard_at,
        running,
        attempts: machine.attempts,
        generation: machine.generation,
        note: machine.note,
    }
}
