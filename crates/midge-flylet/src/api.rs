//! The HTTP API: Fly's paths, and what its calls have in common.

mod labels;
mod leases;
mod machines;
mod moves;
mod platform;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{Method, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use midge_protocol::MachineId;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::fleet::Fleet;
use crate::gate;
use crate::machine::Machine;
use crate::refusal::Refusal;

/// Fly takes 512 KiB and refuses 768.
const BODY_BYTES_MAX: usize = 640 * 1024;

type Replied = Result<Response, Refusal>;
type Fleets = State<Arc<Fleet>>;
type Pairs = Vec<(String, String)>;
type Sent = Result<Bytes, BytesRejection>;
/// The app, which is known, and the Machine's id.
type Ids = Path<(String, String)>;

/// Returns all there is under a flylet's URL.
pub(crate) fn routes(fleet: Arc<Fleet>) -> Router {
    let machines = Router::new()
        .route("/", get(platform::show_app).delete(platform::end_app))
        .route("/machines", get(machines::list).post(machines::create))
        .route("/machines/{id}", get(machines::show).post(machines::update).delete(machines::destroy))
        .route("/machines/{id}/events", get(machines::events))
        .route("/machines/{id}/versions", get(machines::versions))
        .route("/machines/{id}/start", post(moves::start))
        .route("/machines/{id}/stop", post(moves::stop))
        .route("/machines/{id}/suspend", post(moves::suspend))
        .route("/machines/{id}/restart", post(moves::restart))
        .route("/machines/{id}/signal", post(moves::signal))
        .route("/machines/{id}/cordon", post(moves::cordon))
        .route("/machines/{id}/uncordon", post(moves::uncordon))
        .route("/machines/{id}/wait", get(moves::wait))
        .route("/machines/{id}/lease", get(leases::show).post(leases::take).delete(leases::release))
        .route("/machines/{id}/metadata", get(labels::all).put(labels::replace).patch(labels::change))
        .route("/machines/{id}/metadata/{key}", get(labels::one).post(labels::set).delete(labels::remove));
    Router::new()
        .nest("/v1/apps/{app}", machines)
        .route("/v1/apps", get(platform::apps).post(platform::make_app))
        .route("/v1/platform/regions", get(platform::regions))
        .route("/v1/tokens/current", get(platform::token))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(&fleet), gate::pass))
        .with_state(fleet)
}

async fn unknown(method: Method, uri: Uri) -> Refusal {
    Refusal::unknown_call(&format!("{method} {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    Refusal::wrong_method(&format!("{method} {}", uri.path()))
}

fn machine(fleet: &Fleet, id: String) -> Result<Arc<Machine>, Refusal> {
    let id = MachineId::new(id).map_err(Refusal::bad_id)?;
    fleet.get(&id).ok_or_else(Refusal::no_machine)
}

fn pairs(uri: &Uri) -> Result<Pairs, Refusal> {
    Ok(Query::<Pairs>::try_from_uri(uri).map_err(Refusal::invalid)?.0)
}

/// Reads a body, which must be there.
fn read<T: DeserializeOwned>(body: Sent) -> Result<T, Refusal> {
    let body = body.map_err(|why| Refusal::body(&why))?;
    serde_json::from_slice(&body).map_err(Refusal::invalid)
}

/// Reads a body, where there is one.
fn read_if_any<T: DeserializeOwned + Default>(body: Sent) -> Result<T, Refusal> {
    let body = body.map_err(|why| Refusal::body(&why))?;
    if body.is_empty() { Ok(T::default()) } else { serde_json::from_slice(&body).map_err(Refusal::invalid) }
}

fn done() -> Response {
    Json(json!({ "ok": true })).into_response()
}
