//! The dashboard: one plain page, rendered here, for the person on call.
//!
//! Invariant: it knows only the public HTTP API. Each page is made from the API's own answers, asked for with the
//! visitor's own rights. All text of guests, hosts, callers and the Machines API goes through [`shown`].

mod batches;
mod costs;
mod looking;
mod recorded;
mod serving;
mod sweeping;

use std::convert::Infallible;
use std::sync::LazyLock;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, OriginalUri, Path, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use midge_listen::Connection;
use midge_protocol::api::{
    ApiError, BatchPage, Costs, Failures, JobDetail, JobPage, Machines, Modules, Queues, Schedules, Sweeps,
};
use midge_protocol::job::{AfterFailed, JobView, OfSchedule, State as JobState, Waits};
use midge_protocol::{AttemptNumber, JobId, Timestamp, shown};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tower::ServiceExt;

use self::costs::costs_table;
use self::looking::{FAILURES_SHOWN_MAX, failures_table, filtered, home, labels, link, sweeps_table};
use self::serving::{machines_table, modules_table, queues_table, schedules_table};
use crate::http::{self, check_form};

/// How much of an answer of the API a page takes in.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How many of the jobs that one is to run after a page shows.
const AFTER_SHOWN_MAX: usize = 20;
/// How often a page is asked for again that shows how all is just now.
const REFRESH_SECONDS: u32 = 10;
/// How much of a log or a result a page shows.
const SHOWN_BYTES_MAX: usize = 64 * 1024;

/// Returns the pages, made from an API.
pub(crate) fn routes(api: Router) -> Router {
    Router::new()
        .route("/", get(overview))
        .route("/batches/{id}", get(batches::batch))
        .route("/jobs/{id}", get(job))
        .route("/jobs/{id}/{action}", post(act))
        .route("/sweep", get(sweeping::ask).post(sweeping::begin))
        .route("/sweeps/{number}", get(sweeping::sweep))
        .method_not_allowed_fallback(not_allowed)
        .with_state(Api(api))
}

/// The API, as a visitor may use it.
#[derive(Clone)]
struct Api(Router);

/// Who looks at a page: what the API has to know of its request.
pub(crate) struct Visitor {
    headers: HeaderMap,
    /// What is known of the connection.
    extensions: Extensions,
}

impl<S: Send + Sync> FromRequestParts<S> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Visitor, Infallible> {
        Ok(Visitor { headers: parts.headers.clone(), extensions: parts.extensions.clone() })
    }
}

impl Api {
    async fn call(&self, method: Method, path: &str, visitor: &Visitor) -> Result<Vec<u8>, Response> {
        self.send(method, path, Body::empty(), visitor).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Body,
        visitor: &Visitor,
    ) -> Result<Vec<u8>, Response> {
        let mut request = Request::builder().method(method).uri(path);
        for name in [header::HOST, header::AUTHORIZATION] {
            if let Some(value) = visitor.headers.get(&name) {
                request = request.header(name, value);
            }
        }
        if let Some(connection) = visitor.extensions.get::<Connection>() {
            request = request.extension(connection.clone());
        }
        let request = request.header(header::CONTENT_TYPE, "application/json").body(body);
        let request = request.map_err(|_| bad_request("this is no path"))?;
        let Ok(response) = self.0.clone().oneshot(request).await;
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, ANSWER_BYTES_MAX).await.map_err(|_| bad_answer())?;
        if parts.status.is_success() {
            return Ok(body.to_vec());
        }
        let error = serde_json::from_slice::<ApiError>(&body).map_or(String::new(), |error| error.error);
        let mut response = error_page(parts.status, &error);
        for name in [header::WWW_AUTHENTICATE, header::RETRY_AFTER] {
            if let Some(value) = parts.headers.get(&name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        Err(response)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, visitor: &Visitor) -> Result<T, Response> {
        read(&self.call(Method::GET, path, visitor).await?).ok_or_else(bad_answer)
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        visitor: &Visitor,
    ) -> Result<T, Response> {
        let body = serde_json::to_vec(body).expect("a request can always be written as JSON");
        read(&self.send(Method::POST, path, body.into(), visitor).await?).ok_or_else(bad_answer)
    }
}

fn read<T: DeserializeOwned>(answer: &[u8]) -> Option<T> {
    serde_json::from_slice(answer).ok()
}

fn bad_answer() -> Response {
    error_page(StatusCode::BAD_GATEWAY, "the API's answer is not one that can be shown: see the server's log")
}

fn error_page(status: StatusCode, error: &str) -> Response {
    (status, frame("error", "", &html! { p.bad { (shown::text(error)) } })).into_response()
}

/// The answer to a path that neither the API nor the dashboard has.
pub(crate) async fn nothing_here(visitor: Visitor, uri: OriginalUri) -> Response {
    if visitor.reads_html() {
        return error_page(StatusCode::NOT_FOUND, "there is no such page");
    }
    http::nothing_here(uri).await.into_response()
}

async fn not_allowed(visitor: Visitor, method: Method, uri: OriginalUri) -> Response {
    if visitor.reads_html() {
        return error_page(StatusCode::METHOD_NOT_ALLOWED, "this page is to be looked at");
    }
    http::not_allowed(method, uri).await.into_response()
}

impl Visitor {
    /// Returns whether this is a person with a browser, who gets errors as pages; programs get them as JSON.
    fn reads_html(&self) -> bool {
        let accepted = self.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
        accepted.is_some_and(|kinds| kinds.contains("text/html"))
    }
}

/// Takes a job's id from a path. It goes into paths of the API, so that it must be one. What is wrong is for people.
fn checked(id: Result<Path<String>, PathRejection>) -> Result<String, String> {
    let Path(id) = id.map_err(|error| error.body_text())?;
    match id.parse::<JobId>() {
        Ok(_) => Ok(id),
        Err(error) => Err(error.to_string()),
    }
}

/// Says what is wrong with a path. Whoever has no right hears of that first.
async fn wrong(api: &Api, visitor: &Visitor, error: impl AsRef<str>) -> Response {
    match api.get::<Queues>("/v1/queues", visitor).await {
        Ok(_) => bad_request(error),
        Err(no_right) => no_right,
    }
}

/// Returns what is answered to what is not sent by a page of this dashboard; nothing where it is.
fn wrong_sender(visitor: &Visitor) -> Option<Response> {
    check_form(&visitor.headers).err().map(|_| {
        let error =
            "this request does not come from a page of this dashboard: open it, and press the button there";
        error_page(StatusCode::FORBIDDEN, error)
    })
}

fn bad_request(error: impl AsRef<str>) -> Response {
    error_page(StatusCode::BAD_REQUEST, error.as_ref())
}

async fn overview(
    State(api): State<Api>,
    OriginalUri(uri): OriginalUri,
    visitor: Visitor,
) -> Result<Response, Response> {
    let base = uri.path().trim_end_matches('/');
    if let Some(query) = uri.query().filter(|query| !query.is_empty()) {
        return filtered(&api, base, query, &uri, &visitor).await;
    }
    let queues: Queues = api.get("/v1/queues", &visitor).await?;
    let modules: Modules = api.get("/v1/modules", &visitor).await?;
    let recent: JobPage = api.get("/v1/jobs?limit=25", &visitor).await?;
    let failed: JobPage = api.get("/v1/jobs?state=discarded&sort=failed&limit=25", &visitor).await?;
    let retrying: JobPage = api.get("/v1/jobs?state=retryable&sort=failed&limit=25", &visitor).await?;
    let failures: Failures = api.get(&format!("/v1/failures?limit={FAILURES_SHOWN_MAX}"), &visitor).await?;
    let machines: Machines = api.get("/v1/machines", &visitor).await?;
    let schedules: Schedules = api.get("/v1/schedules", &visitor).await?;
    let batches: BatchPage = api.get("/v1/batches?limit=25", &visitor).await?;
    let sweeps: Sweeps = api.get("/v1/sweeps", &visitor).await?;
    let costs: Costs = api.get("/v1/costs", &visitor).await?;
    let body = html! {
        section { h2 { "Queues" } (queues_table(base, &queues)) }
        @if !modules.modules.is_empty() {
            section { h2 { "Modules, generation " (shown::cut(&modules.generation)) } (modules_table(base, &modules)) }
        }
        section { h2 { "Machines, " (queues.machines) " of " (queues.max_machines) } (machines_table(&machines)) }
        @if !costs.groups.is_empty() {
            section { h2 { "Costs since " (costs.since) } (costs_table(base, &costs)) }
        }
        @if !schedules.schedules.is_empty() { section { h2 { "Schedules" } (schedules_table(base, &schedules)) } }
        @if !failures.failures.is_empty() { section { h2 { "Failures" } (failures_table(base, &failures)) } }
        @if !batches.batches.is_empty() { section { h2 { "Batches" } (batches::table(base, &batches.batches)) } }
        @if !failed.jobs.is_empty() { section { h2 { "Discarded jobs" } (jobs_table(base, &failed.jobs)) } }
        @if !retrying.jobs.is_empty() {
            section { h2 { "Jobs to be tried again" } (jobs_table(base, &retrying.jobs)) }
        }
        @if !sweeps.sweeps.is_empty() { section { h2 { "Sweeps" } (sweeps_table(base, &sweeps)) } }
        section { h2 { "Recent jobs" } (jobs_table(base, &recent.jobs)) }
    };
    Ok(live("midge", base, &body).into_response())
}

async fn job(
    State(api): State<Api>,
    OriginalUri(uri): OriginalUri,
    id: Result<Path<String>, PathRejection>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let id = match checked(id) {
        Ok(id) => id,
        Err(error) => return Err(wrong(&api, &visitor, error).await),
    };
    let base = uri.path().strip_suffix(&format!("/jobs/{id}")).unwrap_or_default();
    let detail: JobDetail = api.get(&format!("/v1/jobs/{id}"), &visitor).await?;
    if let Some(why) = &detail.job.unreadable {
        let body = html! {
            section { h2 { (detail.job.module) " " (badge(detail.job.state)) } (facts(base, &detail)) }
            section {
                h2 { "The job's row cannot be read" }
                pre.bad { (shown::text(why)) }
                p { "It runs no more. Delete it with " code { "midge jobs delete " (detail.job.id) } }
            }
        };
        return Ok(frame(&format!("{} {}", detail.job.module, detail.job.id), base, &body).into_response());
    }
    let log = api.call(Method::GET, &format!("/v1/jobs/{id}/log"), &visitor).await?;
    let result = match detail.job.result_bytes {
        // What is missing or gone by now is no reason to show nothing of the job.
        Some(_) => api.call(Method::GET, &format!("/v1/jobs/{id}/result"), &visitor).await.ok(),
        None => None,
    };
    let body = html! {
        section {
            h2 { (detail.job.module) " " (badge(detail.job.state)) " " (buttons(base, &detail.job)) }
            (facts(base, &detail))
        }
        @if let Some(failure) = &detail.job.failure {
            section {
                h2 {
                    @if detail.job.ended_by().is_some() { "Why it ended: " } @else { "The last attempt that failed: " }
                    (failure.cause)
                }
                pre.bad { (shown::text(&failure.message)) }
            }
        }
        section { h2 { "Attempts" } (attempts_table(&detail)) }
        @if let Some(range) = detail.forgotten_attempts {
            p.quiet { "Not kept any more, nor their logs: " (range) }
        }
        @if !detail.unreadable_attempts.is_empty() {
            p.bad { "Attempts whose rows cannot be read: " (numbers(&detail.unreadable_attempts)) }
        }
        (recorded::section(base, &detail))
        @if detail.job.result_bytes.is_some() && result.is_none() {
            p.bad { "The result is not there: the database was damaged, or the job runs again." }
        }
        section {
            h2 { "Log of the last attempt" }
            @if !detail.job.state.is_ended() {
                p.quiet { "As it comes: " code { "midge jobs log -f " (detail.job.id) } }
            }
            pre { (content(&log)) }
        }
        @if let Some(result) = result {
            section {
                h2 { "Result, " (result.len()) " bytes" }
                p { a href={ (base) "/v1/jobs/" (detail.job.id) "/result" } { "download" } }
                pre { (content(&result)) }
            }
        }
    };
    Ok(frame(&format!("{} {}", detail.job.module, detail.job.id), base, &body).into_response())
}

async fn act(
    State(api): State<Api>,
    OriginalUri(uri): OriginalUri,
    path: Result<Path<(String, String)>, PathRejection>,
    visitor: Visitor,
) -> Result<Response, Response> {
    if let Some(refused) = wrong_sender(&visitor) {
        return Err(refused);
    }
    let Path((id, action)) = path.map_err(|error| bad_request(error.body_text()))?;
    let id = checked(Ok(Path(id))).map_err(bad_request)?;
    if !matches!(action.as_str(), "cancel" | "retry") {
        return Err(error_page(StatusCode::NOT_FOUND, "a job can be cancelled or retried, and nothing else"));
    }
    api.call(Method::POST, &format!("/v1/jobs/{id}/{action}"), &visitor).await?;
    let page = uri.path().strip_suffix(&format!("/{action}")).unwrap_or("/");
    Ok(Redirect::to(page).into_response())
}

fn jobs_table(base: &str, jobs: &[JobView]) -> Markup {
    html! {
        @if jobs.is_empty() { p.quiet { "none yet" } } @else {
            table {
                thead {
                    tr {
                        th { "job" } th { "module" } th { "queue" } th { "state" } th.n { "attempt" }
                        th { "enqueued" } th { "what it says" } th {}
                    }
                }
                @for job in jobs {
                    tr {
                        td { a href={ (base) "/jobs/" (job.id) } { code { (job.id) } } }
                        td { (link(base, "module", &job.module)) }
                        td { (link(base, "queue", &job.queue)) }
                        td { a href={ (home(base)) "?state=" (job.state) } { (badge(job.state)) } }
                        td.n { (job.attempt) }
                        td { (time(job.enqueued_at)) }
                        td.says { (says(job)) }
                        // One that completed is run again by who looks at it, and not in passing.
                        td { @if job.state != JobState::Completed { (buttons(base, job)) } }
                    }
                }
            }
        }
    }
}

fn numbers(attempts: &[AttemptNumber]) -> String {
    attempts.iter().map(AttemptNumber::to_string).collect::<Vec<_>>().join(", ")
}

fn says(job: &JobView) -> String {
    if let Some(why) = &job.unreadable {
        return format!("its row cannot be read: {why}");
    }
    if let Some(progress) = &job.progress {
        let of = if progress.total > 0 { format!("/{}", progress.total) } else { String::new() };
        return format!("{}{of} {}", progress.done, shown::line(&progress.message));
    }
    // Of a job that is due or runs an earlier attempt failed, and one that was cancelled ended for another reason.
    let failure = match job.state {
        JobState::Retryable => job.failure.as_ref(),
        _ => job.ended_by(),
    };
    match failure {
        Some(failure) => format!("{}: {}", failure.cause, shown::line(&failure.message)),
        None => job.waits.as_ref().map_or(String::new(), |waits| shown::line(&waits.text).into_owned()),
    }
}

fn facts(base: &str, detail: &JobDetail) -> Markup {
    let job = &detail.job;
    html! {
        table.facts {
            tr { th { "id" } td { code { (job.id) } } }
            tr { th { "queue" } td { (link(base, "queue", &job.queue)) } }
            @if let Some(key) = &job.key { tr { th { "key" } td { (shown::line(key.as_str())) } } }
            (labels(job))
            @if job.priority != 0 { tr { th { "priority" } td { (job.priority) } } }
            tr { th { "args" } td { code { (shown::text(detail.args.get())) } } }
            tr { th { "enqueued" } td { (time(job.enqueued_at)) } }
            tr { th { "scheduled" } td { (time(job.scheduled_at)) } }
            @if let Some(waits) = &job.waits { tr { th { "waits" } td { (shown::line(&waits.text)) } } }
            @if let Some(remedy) = job.waits.as_ref().and_then(Waits::remedy) { tr { th { "to do" } td { (remedy) } } }
            @if let Some(batch) = job.batch { tr { th { "batch" } td { (batches::link(base, batch)) } } }
            @if let Some(parent) = job.parent {
                tr { th { "parent" } td { a href={ (base) "/jobs/" (parent) } { code { (parent) } } } }
            }
            @if let Some(children) = detail.children {
                tr { th { "children" } td { a href={ (home(base)) "?parent=" (job.id) } { (children) } } }
            }
            @if let Some(batch) = job.callback_of { tr { th { "runs for" } td { "batch " (batches::link(base, batch)) } } }
            @if let Some(schedule) = &job.schedule { tr { th { "schedule" } td { (of_schedule(schedule)) } } }
            @if !detail.after.is_empty() { tr { th { "after" } td { (after(base, detail)) } } }
            @if let Some(suspicion) = &job.suspicion { tr { th { "suspect" } td { (shown::line(&suspicion.to_string())) } } }
            @if let Some(at) = job.ended_at { tr { th { "ended" } td { (time(at)) } } }
            tr { th { "spent" } td { (job.spent) " of " (job.max_attempts) " attempts" } }
            @if let Some(cost) = detail.cost { tr { th { "cost" } td { (cost.short()) } } }
            @if let Some(retries) = job.retries() { tr { th { "tried again" } td { (retries) } } }
            @if let Some(at) = job.expires_at { tr { th { "start by" } td { (time(at)) } } }
            @if let Some(millis) = job.time_limit_ms { tr { th { "time limit" } td { (duration(millis)) } } }
            @if let Some(unique) = &job.unique { tr { th { "unique" } td { (unique) } } }
            @if let Some(machine) = &job.machine { tr { th { "runs in" } td { (machine) } } }
            @if job.progress.is_some() { tr { th { "progress" } td { (says(job)) } } }
        }
    }
}

fn of_schedule(schedule: &OfSchedule) -> Markup {
    html! {
        (schedule.name) ", "
        @if let Some(tick) = schedule.tick { "tick of " (time(tick)) } @else { "run by hand" }
    }
}

/// The first jobs that one was enqueued to run after.
fn after(base: &str, detail: &JobDetail) -> Markup {
    html! {
        @for id in detail.after.iter().take(AFTER_SHOWN_MAX) {
            a href={ (base) "/jobs/" (id) } { code { (id) } } " "
        }
        @if detail.after.len() > AFTER_SHOWN_MAX { "and " (detail.after.len() - AFTER_SHOWN_MAX) " more " }
        @match detail.job.after_failed {
            AfterFailed::Cancel => {}
            AfterFailed::GoOn => "(whatever becomes of them)",
            AfterFailed::Wait => "(and waits where one fails)",
        }
    }
}

fn attempts_table(detail: &JobDetail) -> Markup {
    html! {
        @if detail.attempts.is_empty() { p.quiet { "none has ended yet" } } @else {
            table {
                thead {
                    tr {
                        th.n { "attempt" } th { "Machine" } th { "started" } th.n { "waited" } th.n { "ran" }
                        th.n { "memory" } th.n { "cost" } th { "ended" } th { "spent" }
                    }
                }
                @for attempt in &detail.attempts {
                    tr {
                        td.n { (attempt.attempt) }
                        td { (attempt.machine) }
                        td { (time(attempt.started_at)) }
                        td.n { (duration(attempt.started_at.since(attempt.scheduled_at).as_millis() as u64)) }
                        td.n { @if let Some(usage) = attempt.usage { (duration(usage.ran_us / 1000)) } }
                        td.n { @if let Some(usage) = attempt.usage { (usage.memory_peak_bytes / 1024) " KiB" } }
                        td.n { @if let Some(cost) = attempt.cost { (cost.short()) } }
                        td {
                            @match &attempt.failure {
                                Some(failure) => { (failure.cause) ": " (shown::line(&failure.message)) }
                                None => "with a result",
                            }
                        }
                        td { @if attempt.spent { "yes" } @else { "no" } }
                    }
                }
            }
        }
    }
}

fn buttons(base: &str, job: &JobView) -> Markup {
    let form = |action: &str| {
        html! {
            form method="post" action={ (base) "/jobs/" (job.id) "/" (action) } { button { (action) } }
        }
    };
    if job.unreadable.is_some() {
        return html! {};
    }
    html! {
        @if job.cancelling { "cancelling" }
        @if job.may_retry { (form("retry")) " " }
        @if job.may_cancel { (form("cancel")) }
    }
}

fn badge(state: JobState) -> Markup {
    html! { span class={ "state " (state) } { (state) } }
}

fn content(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "(empty)".to_owned();
    }
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES_MAX)]);
    let controls = text.chars().filter(|c| c.is_control() && !c.is_whitespace() || *c == '\u{fffd}').count();
    if controls * 10 > text.chars().count() {
        return format!("({} bytes that are not text)", bytes.len());
    }
    // Nor do they reach anybody's terminal by way of copy and paste.
    shown::text(&text).into_owned()
}

fn time(at: Timestamp) -> Markup {
    let text = at.to_string();
    html! { time datetime=(text) { (text.replace('T', " ").trim_end_matches('Z')) } }
}

fn duration(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..120_000 => format!("{:.1} s", millis as f64 / 1_000.0),
        120_000..7_200_000 => format!("{} min", millis / 60_000),
        _ => format!("{} h", millis / 3_600_000),
    }
}

fn frame(title: &str, base: &str, body: &Markup) -> Response {
    framed(title, base, None, body)
}

/// A page that is asked for again every so often by itself: one on which nothing is read for long or chosen.
fn live(title: &str, base: &str, body: &Markup) -> Response {
    framed(title, base, Some(REFRESH_SECONDS), body)
}

fn framed(title: &str, base: &str, refresh: Option<u32>, body: &Markup) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                @if let Some(seconds) = refresh { meta http-equiv="refresh" content=(seconds); }
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header { h1 { a href=(home(base)) { "midge" } } p.quiet { "times are UTC" } }
                main { (body) }
            }
        }
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, POLICY.clone()),
    ];
    (headers, page.into_string()).into_response()
}

const STYLE: &str = include_str!("page.css");

/// What guests wrote is shown as text; nothing in a page may run, and nothing but our own style may change its looks.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = base64::prelude::BASE64_STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).expect("base64 has only letters that a header may have")
});
