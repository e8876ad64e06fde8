//! The HTTP API under `/v1`: JSON for people and programs, MessagePack for hosts.

mod access;
mod answer;
mod batches;
mod before;
mod bodies;
mod events;
mod hosts;
mod idempotency;
mod site;
mod sweeps;
mod wrong;

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use midge_protocol::api::{
    BulkEnqueued, BulkRequest, Costs, CostsFilter, EnqueueRequest, Enqueued, JobDetail, JobFilter, JobPage,
    MachineView, Modules, PauseRequest, Paused, QueueSettings, RunRequest, ScheduleView, Schedules,
    SettingsRequest,
};
use midge_protocol::job::JobView;
use midge_protocol::{AttemptNumber, JobId, MachineName, ModuleName, QueueName, ScheduleName};
use serde::Deserialize;

pub(crate) use access::check_form;
use answer::{Body, Id, Name, Params};
pub(crate) use answer::{Failed, not_allowed, nothing_here, with_headers};
pub(crate) use before::Before;
pub(crate) use bodies::Bodies;
pub(crate) use site::check_once;

use crate::midge::Midge;
use crate::operations::JobContent;

/// Reads JSON of a caller, such as a job of a file.
///
/// # Errors
/// A text for people: which field is wrong, what it must be, and where it stands, as the API says it of a body.
pub fn read_json<T: serde::de::DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    serde_json::from_slice(json).map_err(|error| {
        let text = wrong::in_body::<T>(json, &error).text;
        text.strip_prefix("the body ").map_or(text.clone(), |rest| format!("it {rest}"))
    })
}

/// The longest that a caller may let an answer wait. It asks again after that.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Returns the routes of the API.
pub(crate) fn api(midge: Midge) -> Router {
    let access = midge.clone();
    let for_callers = Router::new()
        .route("/v1/jobs", post(enqueue).get(list))
        .route("/v1/jobs/bulk", post(enqueue_bulk))
        .route("/v1/jobs/count", get(sweeps::count))
        .route("/v1/jobs/{id}", get(job).delete(delete))
        .route("/v1/jobs/{id}/wait", get(wait))
        .route("/v1/jobs/{id}/result", get(result))
        .route("/v1/jobs/{id}/input", get(input))
        .route("/v1/jobs/{id}/saved", get(saved))
        .route("/v1/jobs/{id}/recording", get(recording))
        .route("/v1/jobs/{id}/log", get(log))
        .route("/v1/jobs/{id}/events", get(events::follow))
        .route("/v1/jobs/{id}/cancel", post(cancel))
        .route("/v1/jobs/{id}/retry", post(retry))
        .route("/v1/jobs/{id}/priority", post(sweeps::set_priority))
        .route("/v1/jobs/{id}/move", post(sweeps::move_job))
        .route("/v1/sweeps", post(sweeps::begin).get(sweeps::list))
        .route("/v1/sweeps/{number}", get(sweeps::one))
        .route("/v1/sweeps/{number}/cancel", post(sweeps::cancel))
        .route("/v1/failures", get(sweeps::failures))
        .route("/v1/failures/{fingerprint}", get(sweeps::failure))
        .route("/v1/batches", post(batches::make).get(batches::list))
        .route("/v1/batches/{id}", get(batches::one))
        .route("/v1/batches/{id}/close", post(batches::close))
        .route("/v1/batches/{id}/cancel", post(batches::cancel))
        .route("/v1/queues", get(queues))
        .route("/v1/queues/{name}/pause", post(pause_queue))
        .route("/v1/queues/{name}/resume", post(resume_queue))
        .route("/v1/queues/{name}/settings", get(queue_settings).post(change_queue_settings))
        .route("/v1/schedules", get(schedules))
        .route("/v1/schedules/{name}", get(schedule))
        .route("/v1/schedules/{name}/pause", post(pause_schedule))
        .route("/v1/schedules/{name}/resume", post(resume_schedule))
        .route("/v1/schedules/{name}/run", post(run_schedule))
        .route("/v1/machines", get(machines))
        .route("/v1/machines/{name}/drain", post(drain_machine))
        .route("/v1/costs", get(costs))
        .route("/v1/modules", get(modules))
        .route("/v1/modules/{name}/pause", post(pause_module))
        .route("/v1/modules/{name}/resume", post(resume_module))
        .route("/v1", any(nothing_here))
        .route("/v1/", any(nothing_here))
        .route("/v1/{*rest}", any(nothing_here))
        .method_not_allowed_fallback(not_allowed)
        .layer((Before(site::check), Before(move |request: &Request| access::check(&access, request))));
    let others = Router::new()
        .route("/v1/machines/{name}/exchange", post(hosts::exchange))
        .route("/healthz", get(health))
        .method_not_allowed_fallback(not_allowed)
        .layer(Before(site::check));
    for_callers.merge(others).with_state(midge)
}

/// Says whether the server can do its work, and nothing else: it needs no right.
async fn health(State(midge): State<Midge>) -> Result<&'static str, Failed> {
    midge.inner.store.check().map_err(|error| Failed::of_the_store(&error))?;
    Ok("ok\n")
}

async fn enqueue(
    State(midge): State<Midge>,
    headers: HeaderMap,
    body: Body<EnqueueRequest>,
) -> Result<Json<Enqueued>, Failed> {
    let mut request = body.value;
    let named = idempotency::id_named(&headers, &body.held.bytes)?;
    if let Some(id) = named {
        request.id = JobId::from_bytes(id);
    }
    let enqueued = midge.enqueue(request).await;
    Ok(Json(enqueued.map_err(|error| idempotency::failed(error, named.is_some()))?))
}

async fn enqueue_bulk(
    State(midge): State<Midge>,
    headers: HeaderMap,
    body: Body<BulkRequest>,
) -> Result<Json<BulkEnqueued>, Failed> {
    idempotency::none_named(
        &headers,
        "give each of `jobs` its own `id`, a UUID, and repeat the request as it is",
    )?;
    Ok(Json(BulkEnqueued { jobs: midge.enqueue_all(body.value.jobs).await? }))
}

async fn list(
    State(midge): State<Midge>,
    Params(filter): Params<JobFilter>,
) -> Result<Json<JobPage>, Failed> {
    Ok(Json(midge.jobs(filter).await?))
}

async fn job(State(midge): State<Midge>, Id(id): Id) -> Result<Json<JobDetail>, Failed> {
    Ok(Json(midge.job_detail(id).await?))
}

async fn delete(State(midge): State<Midge>, Id(id): Id) -> Result<StatusCode, Failed> {
    midge.delete(id).await?;
    Ok(StatusCode::NO_CONTENT)
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
    Id(id): Id,
    Params(params): Params<WaitParams>,
) -> Result<Json<JobView>, Failed> {
    Ok(Json(midge.wait(id, params.timeout()).await?))
}

async fn result(
    State(midge): State<Midge>,
    Id(id): Id,
    Params(params): Params<WaitParams>,
) -> Result<Response, Failed> {
    bytes(midge.result(id, params.timeout()).await?)
}

async fn input(State(midge): State<Midge>, Id(id): Id) -> Result<Response, Failed> {
    bytes(midge.content(id, JobContent::Input).await?)
}

async fn saved(State(midge): State<Midge>, Id(id): Id) -> Result<Response, Failed> {
    bytes(midge.content(id, JobContent::Saved).await?)
}

async fn recording(State(midge): State<Midge>, Id(id): Id) -> Result<Response, Failed> {
    let recording = midge.content(id, JobContent::Recording).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], recording).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogParams {
    attempt: Option<u32>,
}

async fn log(
    State(midge): State<Midge>,
    Id(id): Id,
    Params(params): Params<LogParams>,
) -> Result<Response, Failed> {
    let log = midge.log(id, params.attempt.map(AttemptNumber)).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], log).into_response())
}

async fn cancel(State(midge): State<Midge>, Id(id): Id) -> Result<Json<JobView>, Failed> {
    Ok(Json(midge.cancel(id).await?))
}

async fn retry(State(midge): State<Midge>, Id(id): Id, headers: HeaderMap) -> Result<Json<JobView>, Failed> {
    idempotency::none_named(
        &headers,
        "look at the job's state before you repeat it, as it may have run again",
    )?;
    Ok(Json(midge.retry(id).await?))
}

async fn queues(State(midge): State<Midge>) -> Result<Response, Failed> {
    Ok(Json(midge.queues().await?).into_response())
}

async fn pause_queue(
    State(midge): State<Midge>,
    Name(name): Name<QueueName>,
    body: Body<PauseRequest>,
) -> Result<Json<Paused>, Failed> {
    Ok(Json(midge.pause_queue(name, body.value).await?))
}

async fn resume_queue(State(midge): State<Midge>, Name(name): Name<QueueName>) -> Result<StatusCode, Failed> {
    midge.resume_queue(name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn queue_settings(
    State(midge): State<Midge>,
    Name(name): Name<QueueName>,
) -> Result<Json<QueueSettings>, Failed> {
    Ok(Json(midge.queue_settings(name).await?))
}

async fn change_queue_settings(
    State(midge): State<Midge>,
    Name(name): Name<QueueName>,
    body: Body<SettingsRequest>,
) -> Result<Json<QueueSettings>, Failed> {
    Ok(Json(midge.change_queue_settings(name, body.value).await?))
}

async fn schedules(State(midge): State<Midge>) -> Result<Json<Schedules>, Failed> {
    Ok(Json(midge.schedules().await?))
}

async fn schedule(
    State(midge): State<Midge>,
    Name(name): Name<ScheduleName>,
) -> Result<Json<ScheduleView>, Failed> {
    Ok(Json(midge.schedule(name).await?))
}

async fn pause_schedule(
    State(midge): State<Midge>,
    Name(name): Name<ScheduleName>,
    body: Body<PauseRequest>,
) -> Result<Json<Paused>, Failed> {
    Ok(Json(midge.pause_schedule(name, body.value).await?))
}

async fn resume_schedule(
    State(midge): State<Midge>,
    Name(name): Name<ScheduleName>,
) -> Result<StatusCode, Failed> {
    midge.resume_schedule(name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn run_schedule(
    State(midge): State<Midge>,
    Name(name): Name<ScheduleName>,
    headers: HeaderMap,
    body: Body<RunRequest>,
) -> Result<Json<Enqueued>, Failed> {
    let mut request = body.value;
    let named = idempotency::id_named(&headers, &body.held.bytes)?;
    if let Some(id) = named {
        request.id = JobId::from_bytes(id);
    }
    let enqueued = midge.run_schedule(name, request).await;
    Ok(Json(enqueued.map_err(|error| idempotency::failed(error, named.is_some()))?))
}

async fn machines(State(midge): State<Midge>) -> Result<Response, Failed> {
    Ok(Json(midge.machines().await?).into_response())
}

async fn drain_machine(
    State(midge): State<Midge>,
    Name(name): Name<MachineName>,
) -> Result<Json<MachineView>, Failed> {
    Ok(Json(midge.drain_machine(name).await?))
}

async fn costs(
    State(midge): State<Midge>,
    Params(filter): Params<CostsFilter>,
) -> Result<Json<Costs>, Failed> {
    Ok(Json(midge.costs(filter).await?))
}

async fn modules(State(midge): State<Midge>) -> Result<Json<Modules>, Failed> {
    Ok(Json(midge.modules().await?))
}

async fn pause_module(
    State(midge): State<Midge>,
    Name(name): Name<ModuleName>,
    body: Body<PauseRequest>,
) -> Result<Json<Paused>, Failed> {
    Ok(Json(midge.pause_module(name, body.value).await?))
}

async fn resume_module(
    State(midge): State<Midge>,
    Name(name): Name<ModuleName>,
) -> Result<StatusCode, Failed> {
    midge.resume_module(name).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn bytes(bytes: bytes::Bytes) -> Result<Response, Failed> {
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}
