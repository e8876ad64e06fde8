//! The routes of counts, of sweeps and of failures that are alike.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use midge_protocol::Fingerprint;
use midge_protocol::api::{
    FailureView, Failures, FailuresFilter, JobCount, JobFilter, MoveRequest, PriorityRequest, SweepRequest,
    SweepView, Sweeps,
};
use midge_protocol::job::JobView;

use super::answer::{Body, Failed, Id, Name, Number, Params};
use super::idempotency;
use crate::midge::Midge;

pub(super) async fn count(
    State(midge): State<Midge>,
    Params(filter): Params<JobFilter>,
) -> Result<Json<JobCount>, Failed> {
    for (name, is_set) in [("before", filter.before.is_some()), ("limit", filter.limit.is_some())] {
        if is_set {
            return Err(Failed::invalid(format!(
                "`{name}` is of a page, and all jobs are counted: leave it out"
            )));
        }
    }
    Ok(Json(midge.count(filter).await?))
}

pub(super) async fn set_priority(
    State(midge): State<Midge>,
    Id(id): Id,
    body: Body<PriorityRequest>,
) -> Result<Json<JobView>, Failed> {
    Ok(Json(midge.set_priority(id, body.value.priority).await?))
}

pub(super) async fn move_job(
    State(midge): State<Midge>,
    Id(id): Id,
    body: Body<MoveRequest>,
) -> Result<Json<JobView>, Failed> {
    Ok(Json(midge.move_job(id, body.value.queue).await?))
}

/// Begins a sweep, or says what it would do.
pub(super) async fn begin(
    State(midge): State<Midge>,
    headers: HeaderMap,
    body: Body<SweepRequest>,
) -> Result<Response, Failed> {
    idempotency::none_named(&headers, "look in `GET /v1/sweeps` whether it has begun before you repeat it")?;
    if body.value.dry_run {
        return Ok(Json(midge.dry_run(body.value).await?).into_response());
    }
    Ok(Json(midge.begin_sweep(body.value).await?).into_response())
}

pub(super) async fn list(State(midge): State<Midge>) -> Result<Json<Sweeps>, Failed> {
    Ok(Json(midge.sweeps().await?))
}

pub(super) async fn one(
    State(midge): State<Midge>,
    Number(number): Number,
) -> Result<Json<SweepView>, Failed> {
    Ok(Json(midge.sweep(number).await?))
}

pub(super) async fn cancel(
    State(midge): State<Midge>,
    Number(number): Number,
) -> Result<Json<SweepView>, Failed> {
    Ok(Json(midge.cancel_sweep(number).await?))
}

pub(super) async fn failures(
    State(midge): State<Midge>,
    Params(filter): Params<FailuresFilter>,
) -> Result<Json<Failures>, Failed> {
    Ok(Json(midge.failures(filter).await?))
}

pub(super) async fn failure(
    State(midge): State<Midge>,
    Name(fingerprint): Name<Fingerprint>,
) -> Result<Json<FailureView>, Failed> {
    Ok(Json(midge.failure(fingerprint).await?))
}
