//! A Machine's metadata, which the rest of midge calls its labels.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::json;

use super::{Fleets, Ids, Replied, Sent, machine, read};
use crate::refusal::Refusal;

#[derive(Debug, Deserialize)]
struct Changes {
    #[serde(default)]
    metadata: BTreeMap<String, Option<String>>,
    #[serde(default)]
    machine_version: Option<String>,
}

#[derive(Debug, Deserialize)]
struct OneValue {
    value: String,
}

/// The app, the Machine's id and the key.
type Keys = Path<(String, String, String)>;

pub(super) async fn all(State(fleet): Fleets, Path((_, id)): Ids) -> Replied {
    Ok(Json(&machine(&fleet, id)?.config().metadata).into_response())
}

pub(super) async fn change(state: Fleets, ids: Ids, body: Sent) -> Replied {
    write(state, ids, body, false)
}

pub(super) async fn replace(state: Fleets, ids: Ids, body: Sent) -> Replied {
    write(state, ids, body, true)
}

fn write(State(fleet): Fleets, Path((_, id)): Ids, body: Sent, replace_all: bool) -> Replied {
    let machine = machine(&fleet, id)?;
    let Changes { metadata, machine_version } = read(body)?;
    let version = machine_version.filter(|version| !version.is_empty());
    machine.label(version.as_deref(), replace_all, metadata)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn one(State(fleet): Fleets, Path((_, id, key)): Keys) -> Replied {
    let machine = machine(&fleet, id)?;
    let config = machine.config();
    let value = config.metadata.get(&key).ok_or_else(Refusal::no_label)?;
    Ok(Json(json!({ "value": value })).into_response())
}

pub(super) async fn set(State(fleet): Fleets, Path((_, id, key)): Keys, body: Sent) -> Replied {
    let machine = machine(&fleet, id)?;
    let OneValue { value } = read(body)?;
    machine.label(None, false, [(key, Some(value))])?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn remove(State(fleet): Fleets, Path((_, id, key)): Keys) -> Replied {
    machine(&fleet, id)?.label(None, false, [(key, None)])?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
