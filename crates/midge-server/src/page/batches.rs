//! Batches, as the dashboard shows them.

use axum::extract::rejection::PathRejection;
use axum::extract::{OriginalUri, Path, State};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use midge_protocol::api::{BatchEvent, BatchView, JobPage};
use midge_protocol::{BatchId, shown};

use super::{Api, Visitor, frame, jobs_table, live, time, wrong};

/// The page of one batch, with the newest of its jobs.
pub(super) async fn batch(
    State(api): State<Api>,
    OriginalUri(uri): OriginalUri,
    id: Result<Path<String>, PathRejection>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let id = id
        .map_err(|error| error.body_text())
        .and_then(|Path(id)| id.parse::<BatchId>().map(|_| id).map_err(|error| error.to_string()));
    let id = match id {
        Ok(id) => id,
        Err(error) => return Err(wrong(&api, &visitor, error).await),
    };
    let base = uri.path().strip_suffix(&format!("/batches/{id}")).unwrap_or_default();
    let batch: BatchView = api.get(&format!("/v1/batches/{id}"), &visitor).await?;
    let failed: JobPage = api.get(&format!("/v1/jobs?batch={id}&state=discarded&limit=25"), &visitor).await?;
    let recent: JobPage = api.get(&format!("/v1/jobs?batch={id}&limit=25"), &visitor).await?;
    let title =
        if batch.name.is_empty() { "batch".to_owned() } else { shown::line(&batch.name).into_owned() };
    let body = html! {
        section {
            h2 { (title) " " span.state { (batch.state) } @if batch.cancelled { " cancelled" } }
            (facts(base, &batch))
        }
        section {
            h2 { "Jobs, " (batch.total) " in all" }
            table { thead { tr { (counts_heads()) } } tr { (counts(&batch)) } }
        }
        @if !failed.jobs.is_empty() { section { h2 { "Discarded jobs" } (jobs_table(base, &failed.jobs)) } }
        section { h2 { "Newest jobs" } (jobs_table(base, &recent.jobs)) }
    };
    let page = if batch.ended_at.is_some() { frame } else { live };
    Ok(page(&title, base, &body).into_response())
}

/// A link to the page of a batch.
pub(super) fn link(base: &str, batch: BatchId) -> Markup {
    html! { a href={ (base) "/batches/" (batch) } { code { (batch) } } }
}

/// Batches, each with how many of its jobs are in which state.
pub(super) fn table(base: &str, batches: &[BatchView]) -> Markup {
    html! {
        table {
            thead {
                tr {
                    th { "batch" } th { "name" } th { "state" } th.n { "jobs" } (counts_heads()) th { "made" }
                }
            }
            @for batch in batches {
                tr {
                    td { (link(base, batch.id)) }
                    td { (shown::line(&batch.name)) }
                    td { span.state { (batch.state) } @if batch.cancelled { " cancelled" } }
                    td.n { (batch.total) }
                    (counts(batch))
                    td { (time(batch.created_at)) }
                }
            }
        }
    }
}

fn counts_heads() -> Markup {
    html! {
        th.n { "pending" } th.n { "waiting" } th.n { "running" } th.n { "completed" } th.n { "cancelled" }
        th.n { "discarded" }
    }
}

fn counts(batch: &BatchView) -> Markup {
    let jobs = &batch.jobs;
    html! {
        td.n { (jobs.pending) } td.n { (jobs.waiting) } td.n { (jobs.running) } td.n { (jobs.completed) }
        td.n { (jobs.cancelled) } td.n { (jobs.discarded) }
    }
}

fn facts(base: &str, batch: &BatchView) -> Markup {
    html! {
        table.facts {
            tr { th { "id" } td { code { (batch.id) } } }
            tr { th { "made" } td { (time(batch.created_at)) } }
            @if let Some(at) = batch.closed_at { tr { th { "closed" } td { (time(at)) } } }
            @if let Some(at) = batch.failed_at { tr { th { "failed" } td { (time(at)) } } }
            @if let Some(at) = batch.ended_at { tr { th { "ended" } td { (time(at)) } } }
            @for when in BatchEvent::ALL {
                @if let Some(job) = batch.callbacks.get(&when) {
                    tr { th { (when.field()) } td { a href={ (base) "/jobs/" (job) } { code { (job) } } } }
                }
            }
        }
    }
}
