//! The calls to the Machines API that a round decided on, each followed by writing what came of it.
//!
//! Invariant: nothing is decided here, and a call that fails becomes an event.

use std::time::Duration;

use midge_core::MachineEvent;
use midge_machines::{Label, Launch, MachineError, MachineSpec, Machines};
use midge_protocol::{MachineId, MachineName};
use midge_store::{Store, StoreError};

use super::{Context, OWNER_KEY, change};
use crate::clock::Clock;

/// A create whose fate is not known is repeated so often, under the same name and secret.
const AMBIGUOUS_TRIES: u32 = 3;

/// One call to the Machines API. Its Machine's row says already that it is under way.
#[derive(Debug)]
pub enum Act {
    /// Make a Machine.
    Create {
        /// What it is to be.
        spec: Box<MachineSpec>,
        /// Whether to start it.
        launch: Launch,
    },
    /// Start one.
    Start {
        /// Its name.
        name: MachineName,
        /// Its id.
        id: MachineId,
    },
    /// Destroy one that has a row.
    Destroy {
        /// Its name.
        name: MachineName,
        /// Its id; where it is not known, there may be none.
        id: Option<MachineId>,
    },
    /// Destroy one that carries our label and has no row.
    DestroyStray {
        /// Its id.
        id: MachineId,
    },
}

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
                Err(MachineError::Ambiguous { .. }) => {
                    MachineEvent::CreateLost { note: "it is not known whether it was made".to_owned() }
                }
                Err(error) => failed("create", &spec.name, &error),
            };
            (spec.name, event)
        }
        Act::Start { name, id } => {
            let event = match machines.start(&id).await {
                Ok(()) => MachineEvent::Started,
                Err(MachineError::Gone(_)) => MachineEvent::Destroyed,
                // Another Machine can do its work; this one cannot be had for now.
                Err(error @ MachineError::NoCapacity(_)) => MachineEvent::Overdue { note: error.to_string() },
                Err(error) => failed("start", &name, &error),
            };
            (name, event)
        }
        Act::Destroy { name, id } => {
            let event = match destroy(machines, &name, id, context).await {
                Ok(()) => MachineEvent::Destroyed,
                Err(error) => failed("destroy", &name, &error),
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

fn failed(call: &str, name: &MachineName, error: &MachineError) -> MachineEvent {
    tracing::warn!(machine.name = %name, %error, "cannot {call} a Machine");
    let wait = match error {
        MachineError::RateLimited { retry_after } => retry_after.unwrap_or(Duration::from_secs(1)),
        // A person has to do something first.
        MachineError::Denied(_) | MachineError::LimitReached(_) | MachineError::Invalid(_) => {
            Duration::from_secs(30)
        }
        _ => Duration::ZERO,
    };
    MachineEvent::ActFailed { note: format!("cannot {call} it: {error}"), wait }
}
