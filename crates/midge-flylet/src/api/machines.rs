//! Machines: made, listed, shown, changed and destroyed.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use midge_machines::SeenState;
use midge_machines::wire::{self, CreateRequest, NEXT_CURSOR_HEADER};
use midge_protocol::MachineId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Fleets, Ids, Replied, Sent, done, machine, pairs, read};
use crate::faults::Fault;
use crate::fleet::{Filter, Fleet};
use crate::gate::{Met, Nonce};
use crate::machine::{EVENTS_MAX, View};
use crate::refusal::Refusal;

const PAGE_MACHINES_MAX: usize = 1000;
/// What a summary does not show.
const LEFT_OUT: [&str; 4] = ["config", "incomplete_config", "events", "host_status"];

/// The body of an update: that of a create, and the version that it is to replace.
#[derive(Debug, Deserialize)]
struct UpdateRequest {
    #[serde(default)]
    current_version: Option<String>,
    #[serde(flatten)]
    request: CreateRequest,
}

pub(super) async fn create(
    State(fleet): Fleets,
    Extension(Met(fault)): Extension<Met>,
    body: Sent,
) -> Replied {
    let mut request: CreateRequest = read(body)?;
    request.config = Fleet::kept(request.config);
    Ok(Json(fleet.create(request, fault)?).into_response())
}

pub(super) async fn list(State(fleet): Fleets, Extension(Met(fault)): Extension<Met>, uri: Uri) -> Replied {
    let mut filter = Filter::default();
    let mut summary = false;
    for (key, value) in pairs(&uri)? {
        match key.as_str() {
            "include_deleted" => filter.include_deleted = flag(&key, &value)?,
            "include_leases" => filter.view.lease = flag(&key, &value)?,
            "summary" => summary = flag(&key, &value)?,
            "region" => filter.region = Some(value),
            "state" => filter.states.extend(value.split(',').map(SeenState::from_word)),
            "cursor" => filter.cursor = Some(MachineId::new(value).map_err(Refusal::invalid)?),
            "limit" => filter.limit = Some(number(&value, PAGE_MACHINES_MAX)?),
            _ => {
                if let Some(label) = key.strip_prefix("metadata.") {
                    filter.labels.push((label.to_owned(), value));
                }
            }
        }
    }
    if fault == Some(Fault::LaggingList) {
        filter.view.lag = fleet.scaled(fleet.faults().list_lag);
    }
    let (page, more) = fleet.list(&filter);
    let cursor = page.last().filter(|_| more).map(|last| [(NEXT_CURSOR_HEADER, last.id.clone())]);
    if summary {
        let page: Vec<Value> = page.iter().map(summarized).collect();
        return Ok((cursor, Json(page)).into_response());
    }
    Ok((cursor, Json(page)).into_response())
}

/// Returns a Machine without what Fly leaves out of a summary, which is not there at all.
fn summarized(machine: &wire::Machine) -> Value {
    let mut shown = json!(machine);
    if let Some(fields) = shown.as_object_mut() {
        fields.retain(|name, _| !LEFT_OUT.contains(&name.as_str()));
    }
    shown
}

fn flag(key: &str, value: &str) -> Result<bool, Refusal> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" | "" => Ok(false),
        other => {
            Err(Refusal::invalid(format_args!("`{}` is not true or false, for {key}", other.escape_debug())))
        }
    }
}

fn number(value: &str, most: usize) -> Result<usize, Refusal> {
    match value.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        _ => {
            let value = value.escape_debug();
            Err(Refusal::invalid(format_args!("`{value}` is not a limit from 1 to {most}")))
        }
    }
}

pub(super) async fn show(State(fleet): Fleets, Path((_, id)): Ids, uri: Uri) -> Replied {
    let machine = machine(&fleet, id)?;
    let mut view = View::default();
    let mut version = None;
    for (key, value) in pairs(&uri)? {
        match key.as_str() {
            "include_leases" => view.lease = flag(&key, &value)?,
            "version" => version = Some(value),
            _ => {}
        }
    }
    let mut shown = machine.shown_as(View { lag: Duration::ZERO, ..view }).ok_or_else(Refusal::no_machine)?;
    if let Some(version) = version.filter(|version| *version != shown.instance_id) {
        let known = machine.versions();
        let Some((_, config)) = known.into_iter().find(|(known, _)| *known == version) else {
            return Err(Refusal::no_machine());
        };
        shown.config = Some((*config).clone());
        shown.instance_id.clone_from(&version);
        shown.version = version;
        shown.state = SeenState::Replaced.to_string();
    }
    Ok(Json(shown).into_response())
}

pub(super) async fn update(
    State(fleet): Fleets,
    Path((_, id)): Ids,
    Nonce(nonce): Nonce,
    body: Sent,
) -> Replied {
    let machine = machine(&fleet, id)?;
    let UpdateRequest { current_version, mut request } = read(body)?;
    request.config = Fleet::kept(request.config);
    fleet.update(&machine, nonce.as_deref(), request, current_version)?;
    Ok(Json(machine.shown()).into_response())
}

pub(super) async fn destroy(
    State(fleet): Fleets,
    Extension(Met(fault)): Extension<Met>,
    Path((_, id)): Ids,
    Nonce(nonce): Nonce,
    uri: Uri,
) -> Replied {
    let mut force = false;
    for (key, value) in pairs(&uri)? {
        // Fly's own clients say `kill`.
        if key == "force" || key == "kill" {
            force |= flag(&key, &value)?;
        }
    }
    let stuck = match fault {
        Some(Fault::StuckDestroying) => fleet.scaled(fleet.faults().stuck_for),
        _ => Duration::ZERO,
    };
    machine(&fleet, id)?.destroy(nonce.as_deref(), force, stuck)?;
    Ok(done())
}

pub(super) async fn events(State(fleet): Fleets, Path((_, id)): Ids, uri: Uri) -> Replied {
    let mut limit = EVENTS_MAX;
    for (key, value) in pairs(&uri)? {
        if key == "limit" {
            limit = number(&value, EVENTS_MAX)?;
        }
    }
    Ok(Json(machine(&fleet, id)?.events(limit)).into_response())
}

pub(super) async fn versions(State(fleet): Fleets, Path((_, id)): Ids) -> Replied {
    let versions = machine(&fleet, id)?.versions();
    let shown =
        versions.iter().map(|(version, config)| json!({ "version": version, "user_config": **config }));
    Ok(Json(shown.collect::<Vec<_>>()).into_response())
}
