//! Leases: who may change a Machine.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use midge_machines::wire::Lease;
use serde::Deserialize;
use serde_json::json;

use super::{Fleets, Ids, Replied, Sent, done, machine, pairs, read_if_any};
use crate::gate::Nonce;
use crate::lease::LEASE_SECONDS_DEFAULT;
use crate::refusal::Refusal;

#[derive(Debug, Default, Deserialize)]
struct LeaseRequest {
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    ttl: Option<i64>,
}

pub(super) async fn show(State(fleet): Fleets, Path((_, id)): Ids) -> Replied {
    let lease = machine(&fleet, id)?.lease_shown().ok_or_else(Refusal::no_lease)?;
    Ok(enveloped(StatusCode::OK, lease))
}

pub(super) async fn take(
    State(fleet): Fleets,
    Path((_, id)): Ids,
    Nonce(nonce): Nonce,
    uri: Uri,
    body: Sent,
) -> Replied {
    let machine = machine(&fleet, id)?;
    let request: LeaseRequest = read_if_any(body)?;
    let mut seconds = request.ttl.filter(|seconds| *seconds != 0);
    // Fly's own clients say it there.
    for (key, value) in pairs(&uri)? {
        if key == "ttl" {
            let wrong = |_| Refusal::invalid(format_args!("`{}` is not a ttl", value.escape_debug()));
            seconds = Some(value.parse().map_err(wrong)?);
        }
    }
    let seconds = seconds.unwrap_or(LEASE_SECONDS_DEFAULT);
    let description = request.description.unwrap_or_default();
    let lease = machine.lease(nonce.as_deref(), fleet.app(), description, seconds)?;
    Ok(enveloped(StatusCode::CREATED, lease))
}

pub(super) async fn release(State(fleet): Fleets, Path((_, id)): Ids, Nonce(nonce): Nonce) -> Replied {
    machine(&fleet, id)?.release(nonce.as_deref())?;
    Ok(done())
}

/// Fly's document does not tell of the envelope, and Fly's clients read it.
fn enveloped(status: StatusCode, lease: Lease) -> Response {
    (status, Json(json!({ "status": "success", "data": lease }))).into_response()
}
