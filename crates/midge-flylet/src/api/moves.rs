//! What a Machine is told to do, and waiting until it has.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use midge_machines::SeenState;
use midge_machines::wire::{StopConfig, WaitAnswer};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Fleets, Ids, Replied, Sent, done, machine, pairs, read, read_if_any};
use crate::faults::Fault;
use crate::fleet::any_signal;
use crate::gate::{Met, Nonce};
use crate::halt::halt_of;
use crate::machine::Since;
use crate::order::Death;
use crate::refusal::Refusal;

const WAIT_MAX: Duration = Duration::from_secs(60);

/// The fault that the call meets.
type Meets = Extension<Met>;

#[derive(Debug, Deserialize)]
struct SignalRequest {
    signal: String,
}

pub(super) async fn start(
    State(fleet): Fleets,
    Extension(Met(fault)): Meets,
    Path((_, id)): Ids,
    Nonce(nonce): Nonce,
) -> Replied {
    let previous = fleet.start(&*machine(&fleet, id)?, nonce.as_deref(), fault)?;
    let answer = json!({ "previous_state": previous.as_str(), "migrated": false, "new_host": "" });
    Ok(Json(answer).into_response())
}

pub(super) async fn stop(
    State(fleet): Fleets,
    Extension(Met(fault)): Meets,
    Path((_, id)): Ids,
    Nonce(nonce): Nonce,
    body: Sent,
) -> Replied {
    let machine = machine(&fleet, id)?;
    let asked: StopConfig = read_if_any(body)?;
    let stuck = match fault {
        Some(Fault::StuckStopping) => fleet.scaled(fleet.faults().stuck_for),
        _ => Duration::ZERO,
    };
    machine.stop(nonce.as_deref(), fleet.stop_order(&asked, &machine.config())?, stuck)?;
    Ok(done())
}

pub(super) async fn suspend(State(fleet): Fleets, Path((_, id)): Ids, Nonce(nonce): Nonce) -> Replied {
    machine(&fleet, id)?.suspend(nonce.as_deref())?;
    Ok(done())
}

pub(super) async fn restart(
    State(fleet): Fleets,
    Path((_, id)): Ids,
    Nonce(nonce): Nonce,
    uri: Uri,
) -> Replied {
    let machine = machine(&fleet, id)?;
    let mut asked = StopConfig::default();
    let mut force = false;
    for (key, value) in pairs(&uri)? {
        match key.as_str() {
            "timeout" => asked.timeout = Some(Value::String(value)),
            "signal" => asked.signal = Some(value),
            "force_stop" => force = value == "true",
            _ => {}
        }
    }
    if force {
        asked.signal = Some("SIGKILL".to_owned());
    }
    fleet.restart(&machine, nonce.as_deref(), &asked)?;
    Ok(done())
}

pub(super) async fn signal(
    State(fleet): Fleets,
    Extension(Met(fault)): Meets,
    Path((_, id)): Ids,
    Nonce(nonce): Nonce,
    body: Sent,
) -> Replied {
    let machine = machine(&fleet, id)?;
    let SignalRequest { signal: name } = read(body)?;
    let Some(signal) = any_signal(&name) else {
        return Err(Refusal::invalid(format_args!("`{}` is not a signal", name.escape_debug())));
    };
    match fault {
        Some(Fault::Dies) => machine.die(nonce.as_deref(), Death::Killed)?,
        Some(Fault::OutOfMemory) => machine.die(nonce.as_deref(), Death::OutOfMemory)?,
        _ => machine.signal(nonce.as_deref(), signal)?,
    }
    Ok(done())
}

pub(super) async fn cordon(State(fleet): Fleets, Path((_, id)): Ids, Nonce(nonce): Nonce) -> Replied {
    machine(&fleet, id)?.cordon(nonce.as_deref(), true)?;
    Ok(done())
}

pub(super) async fn uncordon(State(fleet): Fleets, Path((_, id)): Ids, Nonce(nonce): Nonce) -> Replied {
    machine(&fleet, id)?.cordon(nonce.as_deref(), false)?;
    Ok(done())
}

pub(super) async fn wait(State(fleet): Fleets, Path((_, id)): Ids, uri: Uri) -> Replied {
    let machine = machine(&fleet, id)?;
    let mut words = Vec::new();
    let mut timeout = WAIT_MAX;
    let mut since = Since::default();
    for (key, value) in pairs(&uri)? {
        match key.as_str() {
            "state" => words.extend(value.split(',').map(str::to_owned)),
            "timeout" => timeout = wait_timeout(&value)?,
            "version" | "instance_id" => since.version = Some(value),
            "from_event_id" => since.event = Some(value),
            _ => {}
        }
    }
    if words.is_empty() {
        words.push(SeenState::Started.to_string());
    }
    let wanted = wanted_states(&words)?;
    let reached = tokio::select! {
        reached = tokio::time::timeout(timeout, machine.reached(&wanted, &since)) => reached,
        () = halt_of(fleet.halted.clone()) => return Err(Refusal::closing()),
    };
    let Ok(reached) = reached else { return Err(Refusal::deadline(&words.join(","), &machine.state())) };
    let (state, event_id) = reached?;
    let version = machine.version();
    Ok(Json(WaitAnswer { ok: true, state: state.to_string(), version, event_id }).into_response())
}

fn wait_timeout(value: &str) -> Result<Duration, Refusal> {
    match value.parse().map(Duration::from_secs) {
        Ok(timeout) if !timeout.is_zero() && timeout <= WAIT_MAX => Ok(timeout),
        _ => {
            let value = value.escape_debug();
            Err(Refusal::invalid(format_args!("`{value}` is not a timeout from 1 to 60")))
        }
    }
}

fn wanted_states(words: &[String]) -> Result<Vec<SeenState>, Refusal> {
    use SeenState::{Destroyed, Failed, Started, Stopped, Suspended};
    let mut wanted = Vec::new();
    for word in words {
        match SeenState::from_word(word) {
            state @ (Started | Stopped | Suspended | Destroyed | Failed) => wanted.push(state),
            SeenState::Other(word) if word == "settled" => {
                wanted.extend([Started, Stopped, Suspended, Destroyed, Failed]);
            }
            other => {
                let word = other.as_str().escape_debug();
                return Err(Refusal::invalid(format_args!("cannot wait for state `{word}`")));
            }
        }
    }
    Ok(wanted)
}
