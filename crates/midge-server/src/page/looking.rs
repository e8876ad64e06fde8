//! The parts of the dashboard by which one finds jobs: failures that are alike, and the jobs that fit a filter.

use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use midge_protocol::api::{Failures, JobPage};
use midge_protocol::job::JobView;
use midge_protocol::shown;

use super::{Api, Visitor, frame, jobs_table, time};

/// Groups of failures that a page shows.
pub(super) const FAILURES_SHOWN_MAX: usize = 20;

/// Returns a page of the jobs that fit a filter, which is the query of this page as of the API's list.
pub(super) async fn filtered(
    api: &Api,
    base: &str,
    query: &str,
    visitor: &Visitor,
) -> Result<Response, Response> {
    let page: JobPage = api.get(&format!("/v1/jobs?{query}"), visitor).await?;
    let parts = || query.split('&').filter(|part| !part.starts_with("before=")).collect::<Vec<_>>().join("&");
    let body = html! {
        section {
            h2 { "Jobs with " (shown::line(query)) }
            (jobs_table(base, &page.jobs))
            @if page.stopped_early { p.quiet { "So many jobs were looked at as one page may: there may be more." } }
            @if let Some(next) = page.next {
                p { a href={ "?" (parts()) "&before=" (next) } { "older ones" } }
            }
        }
    };
    Ok(frame("jobs", base, &body).into_response())
}

/// Shows groups of failures, each with a link to its jobs.
pub(super) fn failures_table(failures: &Failures) -> Markup {
    html! {
        table {
            thead {
                tr {
                    th { "failures that are alike" } th.n { "count" } th { "module" } th { "cause" } th { "last seen" }
                    th { "first seen" } th { "what it says" }
                }
            }
            @for group in &failures.failures {
                tr {
                    td { a href={ "?failure=" (group.fingerprint) } { code { (group.fingerprint) } } }
                    td.n { (group.count) }
                    td { (group.module) }
                    td { (group.cause) }
                    td { (time(group.last_seen)) }
                    td { (time(group.first_seen)) }
                    td.says { (shown::line(&group.message)) }
                }
            }
        }
        @if failures.more { p.quiet { "and more: " code { "midge failures" } } }
    }
}

/// Shows by what people find a job.
pub(super) fn labels(job: &JobView) -> Markup {
    html! {
        @if !job.labels.tags.is_empty() {
            tr { th { "tags" } td { @for tag in &job.labels.tags { span.state { (shown::line(tag.as_str())) } " " } } }
        }
        @for (name, text) in &job.labels.meta {
            tr { th { (shown::line(name)) } td { (shown::line(text)) } }
        }
    }
}
