//! The HTTP API: Fly's paths, queries and bodies.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{Method, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use midge_listen::{Connection, Peer};
use midge_machines::SeenState;
use midge_machines::wire::{CreateRequest, NEXT_CURSOR_HEADER, StopConfig, WaitAnswer};
use midge_protocol::MachineId;
use serde_json::json;
use subtle::ConstantTimeEq;

use crate::fleet::{Filter, Fleet};
use crate::halt::halt_of;
use crate::machine::Machine;
use crate::refusal::Refusal;

/// Fly takes 512 KiB and refuses 768.
const BODY_BYTES_MAX: usize = 640 * 1024;
const WAIT_MAX: Duration = Duration::from_secs(60);
const PAGE_MACHINES_MAX: usize = 1000;

type Replied = Result<Response, Refusal>;
type Fleets = State<Arc<Fleet>>;
type Pairs = Vec<(String, String)>;

/// Returns all there is under a flylet's URL.
pub(crate) fn routes(fleet: Arc<Fleet>) -> Router {
    let machines = Router::new()
        .route("/machines", get(list).post(create))
        .route("/machines/{id}", get(show).delete(destroy))
        .route("/machines/{id}/start", post(start))
        .route("/machines/{id}/stop", post(stop))
        .route("/machines/{id}/suspend", post(suspend))
        .route("/machines/{id}/wait", get(wait));
    Router::new()
        .nest("/v1/apps/{app}", machines)
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(&fleet), admit))
        .with_state(fleet)
}

/// Lets those in who have the token and mean this app.
async fn admit(State(fleet): Fleets, request: Request, next: Next) -> Response {
    let given = request.headers().get(AUTHORIZATION).map_or(&[][..], |value| value.as_bytes());
    let token = [&b"Bearer "[..], b"FlyV1 "].iter().find_map(|scheme| given.strip_prefix(*scheme));
    // In constant time: the port is open to every user of the machine.
    let known = token.is_some_and(|token| token.ct_eq(fleet.token.expose().as_bytes()).into());
    if !known {
        return Refusal::wrong_token().into_response();
    }
    let connection = request.extensions().get::<Connection>();
    if let Some(Err(too_many)) = connection.map(|connection| connection.belongs_to(&Peer::Caller)) {
        return Refusal::busy(too_many).into_response();
    }
    let app = request.uri().path().strip_prefix("/v1/apps/").and_then(|rest| rest.split('/').next());
    if app.is_some_and(|app| app != fleet.app()) {
        return Refusal::no_app().into_response();
    }
    next.run(request).await
}

async fn unknown(method: Method, uri: Uri) -> Refusal {
    Refusal::unknown_call(&format!("{method} {}", uri.path()))
}

async fn create(State(fleet): Fleets, body: Result<Bytes, BytesRejection>) -> Replied {
    let body = body.map_err(Refusal::invalid)?;
    let request: CreateRequest = serde_json::from_slice(&body).map_err(Refusal::invalid)?;
    Ok(Json(fleet.create(request)?).into_response())
}

async fn list(State(fleet): Fleets, uri: Uri) -> Replied {
    let mut filter = Filter::default();
    let mut summary = false;
    for (key, value) in pairs(&uri)? {
        match key.as_str() {
            "include_deleted" => filter.include_deleted = value == "true",
            "summary" => summary = value == "true",
            "region" => filter.region = Some(value),
            "state" => filter.states.extend(value.split(',').map(SeenState::from_word)),
            "cursor" => filter.cursor = Some(MachineId::new(value).map_err(Refusal::invalid)?),
            "limit" => filter.limit = Some(limit(&value)?),
            _ => {
                if let Some(label) = key.strip_prefix("metadata.") {
                    filter.labels.push((label.to_owned(), value));
                }
            }
        }
    }
    let (mut page, more) = fleet.list(&filter);
    if summary {
        for machine in &mut page {
            machine.config = None;
            machine.events = Vec::new();
            machine.host_status = None;
        }
    }
    let cursor = page.last().filter(|_| more).map(|last| [(NEXT_CURSOR_HEADER, last.id.clone())]);
    Ok((cursor, Json(page)).into_response())
}

fn limit(value: &str) -> Result<usize, Refusal> {
    match value.parse() {
        Ok(limit @ 1..=PAGE_MACHINES_MAX) => Ok(limit),
        _ => Err(Refusal::invalid(format_args!("`{value}` is not a limit from 1 to {PAGE_MACHINES_MAX}"))),
    }
}

async fn show(State(fleet): Fleets, Path(path): Path<(String, String)>) -> Replied {
    Ok(Json(machine(&fleet, path)?.shown()).into_response())
}

async fn start(State(fleet): Fleets, Path(path): Path<(String, String)>) -> Replied {
    let previous = machine(&fleet, path)?.start()?;
    Ok(Json(json!({ "previous_state": previous.as_str(), "migrated": false, "new_host": "" }))
        .into_response())
}

async fn stop(
    State(fleet): Fleets,
    Path(path): Path<(String, String)>,
    body: Result<Bytes, BytesRejection>,
) -> Replied {
    let machine = machine(&fleet, path)?;
    let body = body.map_err(Refusal::invalid)?;
    let asked = if body.is_empty() {
        StopConfig::default()
    } else {
        serde_json::from_slice(&body).map_err(Refusal::invalid)?
    };
    machine.stop(fleet.stop_order(&asked, &machine.config)?)?;
    Ok(done())
}

async fn suspend(State(fleet): Fleets, Path(path): Path<(String, String)>) -> Replied {
    machine(&fleet, path)?;
    Err(Refusal::invalid("flylet cannot suspend a Machine: stop it instead"))
}

async fn destroy(State(fleet): Fleets, Path(path): Path<(String, String)>, uri: Uri) -> Replied {
    // Fly's own clients say `kill`.
    let force = pairs(&uri)?.iter().any(|(key, value)| (key == "force" || key == "kill") && value == "true");
    machine(&fleet, path)?.destroy(force)?;
    Ok(done())
}

async fn wait(State(fleet): Fleets, Path(path): Path<(String, String)>, uri: Uri) -> Replied {
    let machine = machine(&fleet, path)?;
    let mut words = Vec::new();
    let mut timeout = WAIT_MAX;
    for (key, value) in pairs(&uri)? {
        match key.as_str() {
            "state" => words.extend(value.split(',').map(str::to_owned)),
            "timeout" => timeout = wait_timeout(&value)?,
            "version" | "instance_id" if value != machine.version => {
                return Err(Refusal::invalid(format_args!("`{value}` is not a version of this Machine")));
            }
            _ => {}
        }
    }
    if words.is_empty() {
        words.push(SeenState::Started.to_string());
    }
    let wanted = wanted_states(&words)?;
    let reached = tokio::select! {
        reached = tokio::time::timeout(timeout, machine.reached(&wanted)) => reached,
        () = halt_of(fleet.halted.clone()) => return Err(Refusal::closing()),
    };
    let Ok(reached) = reached else { return Err(Refusal::deadline(&words.join(","), &machine.state())) };
    let (state, event_id) = reached?;
    let version = machine.version.clone();
    Ok(Json(WaitAnswer { ok: true, state: state.to_string(), version, event_id }).into_response())
}

fn wait_timeout(value: &str) -> Result<Duration, Refusal> {
    match value.parse().map(Duration::from_secs) {
        Ok(timeout) if !timeout.is_zero() && timeout <= WAIT_MAX => Ok(timeout),
        _ => Err(Refusal::invalid(format_args!("`{value}` is not a timeout from 1 to 60"))),
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
            other => return Err(Refusal::invalid(format_args!("cannot wait for state `{other}`"))),
        }
    }
    Ok(wanted)
}

fn machine(fleet: &Fleet, (_app, id): (String, String)) -> Result<Arc<Machine>, Refusal> {
    let id = MachineId::new(id).map_err(|e| Refusal::invalid(format_args!("invalid machine ID: {e}")))?;
    fleet.get(&id).ok_or_else(Refusal::no_machine)
}

fn pairs(uri: &Uri) -> Result<Pairs, Refusal> {
    Ok(Query::<Pairs>::try_from_uri(uri).map_err(Refusal::invalid)?.0)
}

fn done() -> Response {
    Json(json!({ "ok": true })).into_response()
}
