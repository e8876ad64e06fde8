//! The acting half of a round: the calls to the Machines API that were decided on, each followed by writing what came
//! of it.
//!
//! Invariant: nothing is decided here, and a call that fails becomes an event, never an error that ends the loop.

use midge_core::{Call, CallFailure, CreateTries, MachineEvent};
use midge_machines::{Label, Launch, MachineError, MachineSpec, Machines};
use midge_protocol::{MachineId, MachineName};
use midge_store::{Store, StoreError};

use super::change::{Released, change};
use super::spec::OWNER_KEY;
use super::{Act, Context};
use crate::clock::Clock;

/// How much is kept of what the Machines API said.
const NOTE_CHARS_MAX: usize = 1_000;

/// Makes one call to the Machines API and writes what came of it. Returns the jobs that the Machine had, where it is gone:
/// who waits for them or follows them is told.
pub async fn act(
    store: &dyn Store,
    machines: &dyn Machines,
    act: Act,
    context: &Context,
    clock: &dyn Clock,
) -> Result<Released, StoreError> {
    let (name, event) = match act {
        Act::Create { spec, launch } => {
            let event = create(machines, &spec, launch, clock).await;
            (spec.name, event)
        }
        Act::Start { name, id } => {
            let event = match machines.start(&id).await {
                Ok(()) => MachineEvent::Started,
                Err(error) => failed(Call::Start, failure_of(&error), &name, &error),
            };
            (name, event)
        }
        Act::Suspend { name, id } => {
            let event = match machines.suspend(&id).await {
                Ok(()) => MachineEvent::SuspendAccepted,
                Err(error) => failed(Call::Suspend, failure_of(&error), &name, &error),
            };
            (name, event)
        }
        Act::Destroy { name, id } => {
            let event = match destroy(machines, &name, id, context).await {
                Ok(()) => MachineEvent::Destroyed,
                Err(error) => failed(Call::Destroy, failure_of(&error), &name, &error),
            };
            (name, event)
        }
        Act::DestroyStray { id } => {
            if let Err(error) = machines.destroy(&id).await {
                tracing::warn!(machine.id = %id, %error, "cannot destroy a Machine that has no row");
            }
            return Ok(Released::default());
        }
    };
    let now = clock.now();
    midge_store::write(store, move |rows| match rows.machine(&name)? {
        Some(mut machine) => change(rows, &mut machine, event, now),
        None => Ok(Released::default()),
    })
    .await
}

/// Makes a Machine, by the same call again for as long as midge-core says so.
async fn create(
    machines: &dyn Machines,
    spec: &MachineSpec,
    launch: Launch,
    clock: &dyn Clock,
) -> MachineEvent {
    let mut tries = CreateTries::new(clock.now());
    loop {
        let error = match machines.create(spec, launch).await {
            Ok(id) => return MachineEvent::Created { id },
            Err(error) => error,
        };
        if let Some(failure) = tries.failed(failure_of(&error), clock.now()) {
            return failed(Call::Create, failure, &spec.name, &error);
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

fn failure_of(error: &MachineError) -> CallFailure {
    match error {
        MachineError::Gone(_) => CallFailure::Gone,
        MachineError::NoApp(_) => CallFailure::NoApp,
        MachineError::Ambiguous { .. } => CallFailure::Ambiguous,
        MachineError::NoCapacity(_) => CallFailure::NoCapacity,
        MachineError::RateLimited { retry_after } => CallFailure::RateLimited(*retry_after),
        MachineError::Denied(_) | MachineError::LimitReached(_) | MachineError::Invalid(_) => {
            CallFailure::NeedsPerson
        }
        MachineError::Conflict(_) | MachineError::NotReady(_) | MachineError::Unavailable(_) => {
            CallFailure::Unavailable
        }
    }
}

fn failed(call: Call, failure: CallFailure, name: &MachineName, error: &MachineError) -> MachineEvent {
    let verb = call.as_str();
    tracing::warn!(machine.name = %name, %error, "cannot {verb} a Machine");
    MachineEvent::CallFailed { call, failure, note: in_words(error) }
}

/// Returns an error and its causes, for people.
fn in_words(error: &MachineError) -> String {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        cause = error.source();
    }
    // What it is made of came over a network, and is shown on terminals.
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(NOTE_CHARS_MAX).collect()
}
