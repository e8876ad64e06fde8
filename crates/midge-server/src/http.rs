//! The HTTP API under `/v1`: JSON for people and programs, MessagePack for hosts.

mod access;
mod answer;
mod hosts;

use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use midge_protocol::api::{
    BulkEnqueued, BulkRequest, EnqueueRequest, Enqueued, JobDetail, JobFilter, JobPage,
};
use midge_protocol::job::JobView;
use midge_protocol::{AttemptNumber, JobId, limits};
use serde::Deserialize;

pub(crate) use access::check_form;
pub(crate) use answer::Failed;
use answer::{Body, Params};

use crate::midge::Midge;
use crate::operations::JobContent;

/// The longest that a caller may let an answer wait. It asks again after that.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Returns the routes of the API.
pub(crate) fn api(midge: Midge) -> Router {
    let for_callers = Router::new()
        .route("/v1/jobs", post(enqueue).get(list))
        .route("/v1/jobs/bulk", post(enqueue_bulk))
        .route("/v1/jobs/{id}", get(job))
        .route("/v1/jobs/{id}/wait", get(wait))
        .route("/v1/jobs/{id}/result", get(result))
        .route("/v1/jobs/{id}/input", get(input))
        .route("/v1/jobs/{id}/log", get(log))
        .route("/v1/jobs/{id}/cancel", post(cancel))
        .route("/v1/jobs/{id}/retry", post(retry))
        .route("/v1/queues", get(queues))
        .route("/v1/machines", get(machines))
        .route("/v1/modules", get(modules))
        .route("/v1/{*rest}", get(nothing_here).post(nothing_here))
        .layer(middleware::from_fn_with_state(midge.clone(), access::check))
        .layer(DefaultBodyLimit::max(limits::ENQUEUE_BODY_BYTES_MAX));
    let for_hosts = Router::new()
        .route("/v1/machines/{name}/exchange", post(hosts::exchange))
        .layer(DefaultBodyLimit::max(limits::EXCHANGE_BODY_BYTES_MAX));
    // Says that the server answers, and nothing else: it needs no right.
    let health = Router::new().route("/healthz", get(|| async { "ok\n" }));
    for_callers.merge(for_hosts).merge(health).with_state(midge)
}

async fn enqueue(
    State(midge): State<Midge>,
    Body(request): Body<EnqueueRequest>,
) -> Result<Json<Enqueued>, Failed> {
    Ok(Json(midge.enqueue(request).await?))
}

async fn enqueue_bulk(
    State(midge): State<Midge>,
    Body(request): Body<BulkRequest>,
) -> Result<Json<BulkEnqueued>, Failed> {
    Ok(Json(BulkEnqueued { jobs: midge.enqueue_all(request.jobs).await? }))
}

async fn list(
    State(midge): State<Midge>,
    Params(filter): Params<JobFilter>,
) -> Result<Json<JobPage>, Failed> {
    Ok(Json(midge.jobs(filter).await?))
}

async fn job(State(midge): State<Midge>, Path(id): Path<String>) -> Result<Json<JobDetail>, Failed> {
    Ok(Json(midge.job_detail(job_id(&id)?).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WaitParams {
    #[serde(default)]
    timeout_ms: u64,
}

impl WaitParams {
    fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms).min(WAIT_MAX)
    }
}

async fn wait(
    State(midge): State<Midge>,
    Path(id): Path<String>,
    Params(params): Params<WaitParams>,
) -> Result<Json<JobView>, Failed> {
    Ok(Json(midge.wait(job_id(&id)?, params.timeout()).await?))
}

async fn result(
    State(midge): State<Midge>,
    Path(id): Path<String>,
    Params(params): Params<WaitParams>,
) -> Result<Response, Failed> {
    bytes(midge.result(job_id(&id)?, params.timeout()).await?)
}

async fn input(State(midge): State<Midge>, Path(id): Path<String>) -> Result<Response, Failed> {
    bytes(midge.content(job_id(&id)?, JobContent::Input).await?)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogParams {
    attempt: Option<u32>,
}

async fn log(
    State(midge): State<Midge>,
    Path(id): Path<String>,
    Query(params): Query<LogParams>,
) -> Result<Response, Failed> {
    let log = midge.log(job_id(&id)?, params.attempt.map(AttemptNumber)).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], log).into_response())
}

async fn cancel(State(midge): State<Midge>, Path(id): Path<String>) -> Result<Json<JobView>, Failed> {
    Ok(Json(midge.cancel(job_id(&id)?).await?))
}

async fn retry(State(midge): State<Midge>, Path(id): Path<String>) -> Result<Json<JobView>, Failed> {
    Ok(Json(midge.retry(job_id(&id)?).await?))
}

async fn queues(State(midge): State<Midge>) -> Result<Response, Failed> {
    Ok(Json(midge.queues().await?).into_response())
}

async fn machines(State(midge): State<Midge>) -> Result<Response, Failed> {
    Ok(Json(midge.machines().await?).into_response())
}

async fn modules(State(midge): State<Midge>) -> Response {
    Json(&midge.catalog().manifest).into_response()
}

async fn nothing_here(uri: axum::http::Uri) -> Failed {
    Failed::not_found(format!("there is nothing at {}: the API is described in docs/api.md", uri.path()))
}

fn bytes(bytes: bytes::Bytes) -> Result<Response, Failed> {
    // Whatever a guest wrote: never to be taken for a page of ours.
    let headers =
        [(header::CONTENT_TYPE, "application/octet-stream"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    Ok((headers, bytes).into_response())
}

fn job_id(text: &str) -> Result<JobId, Failed> {
    text.parse().map_err(|error: midge_protocol::InvalidName| Failed::invalid(error.to_string()))
}
