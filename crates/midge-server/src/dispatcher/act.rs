//! The acting half of a round: the calls to the Machines API that were decided on, each followed by writing what came
//! of it.
//!
//! Invariant: nothing is decided here, and a call that fails becomes an event, never an error that ends the loop.

use midge_core::{Call, CallFailure, MachineEvent};
use midge_machines::{Label, Launch, MachineError, MachineSpec, Machines};
use midge_protocol::{MachineId, MachineName};
use midge_store::{Store, StoreError};

use super::change::change;
use super::spec::OWNER_KEY;
use super::{Act, Context};
use crate::clock::Clock;

/// A create whose fate is not known is repeated so often, under the same name and secret: the name is unique, so that
/// the Machine is made once.
const AMBIGUOUS_TRIES: u32 = 3;

/// Makes one call to the Machines API and writes what came of it.
pub async fn act(
    store: &dyn Store,
    machines: &dyn Machines,
    act: Act,
    context: &Context,
    clock: &dyn Clock,
) -> Result<(), StoreError> {
    let (name, event) = match act {
        Act::Create { spec, launch } => {
            let event = match create(machines, &spec, launch).await {
                Ok(id) => MachineEvent::Created { id },
                Err(error) => failed(Call::Create, &spec.name, &error),
            };
            (spec.name, event)
        }
        Act::Start { name, id } => {
            let event = match machines.start(&id).await {
                Ok(()) => MachineEvent::Started,
                Err(error) => failed(Call::Start, &name, &error),
            };
            (name, event)
        }
        Act::Destroy { name, id } => {
            let event = match destroy(machines, &name, id, context).await {
                Ok(()) => MachineEvent::Destroyed,
                Err(error) => failed(Call::Destroy, &name, &error),
            };
            (name, event)
        }
        Act::DestroyStray { id } => {
            if let Err(error) = machines.destroy(&id).await {
                tracing::warn!(machine.id = %id, %error, "cannot destroy a Machine that has no row");
            }
            return Ok(());
        }
    };
    let now = clock.now();
    midge_store::write(store, move |rows| {
        if let Some(mut machine) = rows.machine(&name)? {
            change(rows, &mut machine, event, now)?;
        }
        Ok(())
    })
    .await
}

async fn create(
    machines: &dyn Machines,
    spec: &MachineSpec,
    launch: Launch,
) -> Result<MachineId, MachineError> {
    let mut tries = 1;
    loop {
        match machines.create(spec, launch).await {
            Err(MachineError::Ambiguous { .. }) if tries < AMBIGUOUS_TRIES => tries += 1,
            other => return other,
        }
    }
}

async fn destroy(
    machines: &dyn Machines,
    name: &MachineName,
    id: Option<MachineId>,
    context: &Context,
) -> Result<(), MachineError> {
    if let Some(id) = id {
        return machines.destroy(&id).await;
    }
    // The call that made it was not answered: it may be there all the same.
    for seen in machines.list(&Label::new(OWNER_KEY, &context.owner)).await? {
        if seen.name == name.as_str() {
            machines.destroy(&seen.id).await?;
        }
    }
    Ok(())
}

fn failed(call: Call, name: &MachineName, error: &MachineError) -> MachineEvent {
    let verb = call.as_str();
    tracing::warn!(machine.name = %name, %error, "cannot {verb} a Machine");
    let failure = match error {
        MachineError::Gone(_) => CallFailure::Gone,
        MachineError::Ambiguous { .. } => CallFailure::Ambiguous,
        MachineError::NoCapacity(_) => CallFailure::NoCapacity,
        MachineError::RateLimited { retry_after } => CallFailure::RateLimited(*retry_after),
        MachineError::Denied(_) | MachineError::LimitReached(_) | MachineError::Invalid(_) => {
            CallFailure::NeedsPerson
        }
        MachineError::Conflict(_) | MachineError::NotReady(_) | MachineError::Unavailable(_) => {
            CallFailure::Unavailable
        }
    };
    MachineEvent::CallFailed { call, failure, note: format!("cannot {verb} it: {error}") }
}
