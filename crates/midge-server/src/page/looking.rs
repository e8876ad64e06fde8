//! The parts of the dashboard by which one finds jobs: failures that are alike, and the jobs that fit a filter.

use std::fmt::Display;

use axum::extract::Query;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use midge_protocol::api::{FailureGroup, FailureView, Failures, JobFilter, JobPage, Sweeps};
use midge_protocol::job::JobView;
use midge_protocol::shown;

use super::sweeping::{buttons_for_all, buttons_for_failure};
use super::{Api, Visitor, frame, jobs_table, time};

/// Sweeps that a page shows.
const SWEEPS_SHOWN_MAX: usize = 5;
/// Groups of failures that a page shows.
pub(super) const FAILURES_SHOWN_MAX: usize = 20;

/// Returns a page of the jobs that fit a filter, which is the query of this page as of the API's list.
pub(super) async fn filtered(
    api: &Api,
    base: &str,
    query: &str,
    uri: &Uri,
    visitor: &Visitor,
) -> Result<Response, Response> {
    let page: JobPage = api.get(&format!("/v1/jobs?{query}"), visitor).await?;
    // The API took it, so that it can be read.
    let filter = Query::<JobFilter>::try_from_uri(uri).map(|Query(filter)| filter).unwrap_or_default();
    let parts = || query.split('&').filter(|part| !part.starts_with("before=")).collect::<Vec<_>>().join("&");
    let body = html! {
        section {
            h2 { (title(&filter)) (buttons_for_all(base, &filter)) }
            (jobs_table(base, &page.jobs))
            @if page.stopped_early { p.quiet { "So many jobs were looked at as one page may: there may be more." } }
            @if let Some(next) = page.next {
                p { a href={ "?" (parts()) "&before=" (next) } { "older ones" } }
            }
        }
    };
    Ok(frame("jobs", base, &body).into_response())
}

/// Returns what a page of jobs shows, in words.
fn title(filter: &JobFilter) -> String {
    // Of a page there are these, and of the jobs the others.
    let filter = JobFilter { sort: None, before: None, limit: None, ..filter.clone() };
    match in_words(&filter) {
        said if said.is_empty() => "Jobs".to_owned(),
        said => format!("Jobs with {said}"),
    }
}

pub(super) fn in_words(filter: &JobFilter) -> String {
    let pairs = filter.pairs().into_iter().map(|(name, value)| format!("{name} {}", shown::line(&value)));
    pairs.collect::<Vec<_>>().join(", ")
}

/// Returns the path of the first page.
pub(super) fn home(base: &str) -> &str {
    if base.is_empty() { "/" } else { base }
}

/// A link to the jobs that have a name, such as of a queue, in a field of a filter.
pub(super) fn link(base: &str, field: &str, name: impl Display) -> Markup {
    html! { a href={ (home(base)) "?" (field) "=" (name) } { (name) } }
}

/// Shows groups of failures, each with a link to its jobs.
pub(super) fn failures_table(base: &str, failures: &Failures) -> Markup {
    html! {
        table {
            thead {
                tr {
                    th { "failures that are alike" } th.n { "count" } th.n { "open jobs" } th { "module" } th { "cause" } th { "last seen" }
                    th { "first seen" } th { "what it says" } th {}
                }
            }
            @for FailureView { group, open } in &failures.failures {
                tr {
                    td { a href={ (home(base)) "?failure=" (group.fingerprint) } { code { (group.fingerprint) } } }
                    td.n { (group.count) }
                    td.n { (open.short()) }
                    td { (link(base, "module", &group.module)) }
                    td { (group.cause) }
                    td { (time(group.last_seen)) }
                    td { (time(group.first_seen)) }
                    td.says { (shown::line(&group.message)) }
                    td { @if open.jobs > 0 { (buttons_for_failure(base, &of(group))) } }
                }
            }
        }
        @if failures.next.is_some() { p.quiet { "and more: " code { "midge failures" } } }
    }
}

/// Returns the filter that means the jobs whose last failure is one of a group.
fn of(group: &FailureGroup) -> JobFilter {
    JobFilter { failure: Some(group.fingerprint), ..JobFilter::default() }
}

/// Shows the sweeps that were begun last.
pub(super) fn sweeps_table(base: &str, sweeps: &Sweeps) -> Markup {
    html! {
        table {
            thead {
                tr {
                    th { "sweep" } th { "action" } th { "started" } th { "state" } th.n { "done" } th.n { "could not" }
                    th { "of jobs with" }
                }
            }
            @for sweep in sweeps.sweeps.iter().take(SWEEPS_SHOWN_MAX) {
                tr {
                    td { a href={ (base) "/sweeps/" (sweep.id) } { (sweep.id) } }
                    td { (sweep.action) }
                    td { (time(sweep.started_at)) }
                    td { (sweep.state()) }
                    td.n { (sweep.done) }
                    td.n { (sweep.could_not) }
                    td.says { (in_words(&sweep.filter)) }
                }
            }
        }
        @if sweeps.sweeps.len() > SWEEPS_SHOWN_MAX { p.quiet { "and more: " code { "midge sweeps" } } }
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
