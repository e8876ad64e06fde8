//! What the dashboard does to many jobs: buttons beside a list, a page that says to how many it would be done, and the sweep.
//!
//! Invariant: a button of a list changes nothing. It leads to the page that asks, whose button begins the sweep.

use axum::extract::rejection::PathRejection;
use axum::extract::{OriginalUri, Path, Query, State};
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use midge_protocol::api::{Action, DryRun, JobCount, JobFilter, NotDone, SweepRequest, SweepView};
use midge_protocol::job::State as JobState;
use midge_protocol::shown;

use super::looking::{home, in_words};
use super::{Api, Visitor, bad_answer, bad_request, frame, jobs_table, live, time, wrong, wrong_sender};

/// What a list's buttons do.
const ACTIONS: [Action; 3] = [Action::Retry, Action::Cancel, Action::Delete];

/// Shows a button for each thing that can be done to all jobs that fit a filter. There is none for all jobs that there are.
pub(super) fn buttons_for_all(base: &str, filter: &JobFilter) -> Markup {
    let filter = JobFilter { sort: None, before: None, limit: None, ..filter.clone() };
    let fits = |action: &&Action| match (action, filter.state) {
        (Action::Cancel, Some(state)) => !state.is_ended(),
        (Action::Retry | Action::Delete, Some(JobState::Running)) => false,
        _ => true,
    };
    html! {
        @if !filter.is_everything() { " " (buttons(base, &filter, ACTIONS.iter().filter(fits))) }
    }
}

/// Shows buttons for what can be done to the jobs of a group of failures.
pub(super) fn buttons_for_failure(base: &str, filter: &JobFilter) -> Markup {
    buttons(base, filter, [Action::Retry, Action::Delete].iter())
}

fn buttons<'a>(base: &str, filter: &JobFilter, actions: impl Iterator<Item = &'a Action>) -> Markup {
    html! {
        form method="get" action={ (base) "/sweep" } {
            @for (name, value) in filter.pairs() { input type="hidden" name=(name) value=(value); }
            @for action in actions { button name="action" value=(action) { (action) " all" } " " }
        }
    }
}

/// What a query asks for: an action, and the fields of a filter.
struct Asked {
    action: Action,
    filter: JobFilter,
    /// The query as it came, and that of the list of the jobs.
    query: String,
    list: String,
}

impl Asked {
    /// Reads a query. The API says what is wrong with a filter, to whoever may ask it.
    async fn read(api: &Api, uri: &Uri, visitor: &Visitor) -> Result<Asked, Response> {
        let query = uri.query().unwrap_or_default();
        let (actions, fields): (Vec<&str>, Vec<&str>) =
            query.split('&').partition(|part| part.starts_with("action="));
        let list = fields.join("&");
        api.get::<JobCount>(&format!("/v1/jobs/count?{list}"), visitor).await?;
        let [action] = &actions[..] else {
            return Err(bad_request("say one `action`: retry, cancel or delete"));
        };
        let Some(action) = ACTIONS.into_iter().find(|known| *action == format!("action={known}")) else {
            return Err(bad_request(
                "all jobs of a list can be retried, cancelled or deleted here, and nothing else",
            ));
        };
        let filter =
            format!("/?{list}").parse().ok().and_then(|uri| Query::<JobFilter>::try_from_uri(&uri).ok());
        match filter {
            Some(Query(filter)) if filter.is_everything() => {
                Err(bad_request("this would be every job: say which by a field of the list, such as `state`"))
            }
            Some(Query(filter)) => Ok(Asked { action, filter, query: query.to_owned(), list }),
            None => Err(bad_request("this is no filter")),
        }
    }

    fn request(self, dry_run: bool) -> SweepRequest {
        SweepRequest { action: self.action, filter: self.filter, dry_run, all: false }
    }
}

/// The page that says to how many jobs it would be done, and asks.
pub(super) async fn ask(
    State(api): State<Api>,
    OriginalUri(uri): OriginalUri,
    visitor: Visitor,
) -> Result<Response, Response> {
    let base = uri.path().strip_suffix("/sweep").unwrap_or_default();
    let asked = Asked::read(&api, &uri, &visitor).await?;
    let (action, which) = (asked.action.clone(), in_words(&asked.filter));
    let (query, list) = (asked.query.clone(), asked.list.clone());
    let dry: DryRun = api.post("/v1/sweeps", &asked.request(true), &visitor).await?;
    let body = html! {
        section {
            h2 { (capital(&action)) " all jobs with " (which) "?" }
            @if dry.would.jobs == 0 && dry.would.exact {
                p { "There is no such job to which this can be done just now." }
            } @else {
                p { "As of now this would be done to " strong { (jobs(dry.would)) } ". Nothing is done yet." }
                @if !dry.would.exact { p { "Only so many jobs were looked at: there may be more, which are looked for then." } }
                form method="post" action={ (base) "/sweep?" (query) } {
                    button { (action) " " (jobs(dry.would)) }
                }
            }
            " " a href={ (home(base)) "?" (list) } { "back to the list" }
        }
        @if dry.could_not > 0 {
            section { h2 { "Could not be done to " (dry.could_not) } (not_done(base, &dry.first_not)) }
        }
        @if !dry.first.is_empty() { section { h2 { "The first of them" } (jobs_table(base, &dry.first)) } }
    };
    Ok(frame(&format!("{action} all"), base, &body).into_response())
}

/// Begins a sweep.
pub(super) async fn begin(
    State(api): State<Api>,
    OriginalUri(uri): OriginalUri,
    visitor: Visitor,
) -> Result<Response, Response> {
    if let Some(refused) = wrong_sender(&visitor) {
        return Err(refused);
    }
    let base = uri.path().strip_suffix("/sweep").unwrap_or_default();
    let asked = Asked::read(&api, &uri, &visitor).await?;
    let begun: SweepView = api.post("/v1/sweeps", &asked.request(false), &visitor).await?;
    Ok(Redirect::to(&format!("{base}/sweeps/{}", begun.id)).into_response())
}

/// The page of one sweep, with how far it is.
pub(super) async fn sweep(
    State(api): State<Api>,
    OriginalUri(uri): OriginalUri,
    number: Result<Path<u64>, PathRejection>,
    visitor: Visitor,
) -> Result<Response, Response> {
    let number = match number {
        Ok(Path(number)) => number,
        Err(error) => return Err(wrong(&api, &visitor, error.body_text()).await),
    };
    let base = uri.path().rsplit_once("/sweeps/").map_or("", |(base, _)| base);
    let body = api.call(Method::GET, &format!("/v1/sweeps/{number}"), &visitor).await?;
    let sweep: SweepView = super::read(&body).ok_or_else(bad_answer)?;
    let body = html! {
        section {
            h2 { "Sweep " (sweep.id) ": " (sweep.action) " " span.state { (sweep.state()) } }
            table.facts {
                tr { th { "of jobs with" } td.says { (in_words(&sweep.filter)) } }
                tr { th { "started" } td { (time(sweep.started_at)) } }
                @if let Some(at) = sweep.ended_at { tr { th { "ended" } td { (time(at)) } } }
                tr { th { "fitted then" } td { (jobs(sweep.fitted)) } }
                tr { th { "found" } td { (sweep.found) } }
                tr { th { "done" } td { (sweep.done) } }
                @if sweep.asked > 0 { tr { th { "asked to stop" } td { (sweep.asked) " of those, which ran" } } }
                tr { th { "could not" } td { (sweep.could_not) } }
            }
            @if sweep.ended_at.is_none() {
                p.quiet { "To end it: " code { "midge sweeps cancel " (sweep.id) } }
            }
        }
        @if !sweep.first_not.is_empty() {
            section { h2 { "Could not be done to" } (not_done(base, &sweep.first_not)) }
        }
    };
    let page = if sweep.ended_at.is_some() { frame } else { live };
    Ok(page(&format!("sweep {}", sweep.id), base, &body).into_response())
}

fn not_done(base: &str, jobs: &[NotDone]) -> Markup {
    html! {
        table {
            thead { tr { th { "job" } th { "why" } } }
            @for NotDone { job, why } in jobs {
                tr {
                    td { a href={ (base) "/jobs/" (job) } { code { (job) } } }
                    td.says { (shown::line(why)) }
                }
            }
        }
    }
}

fn jobs(count: JobCount) -> String {
    format!("{count} job{}", if count.jobs == 1 && count.exact { "" } else { "s" })
}

fn capital(action: &Action) -> String {
    let word = action.to_string();
    let mut letters = word.chars();
    letters.next().map_or(String::new(), |first| format!("{}{}", first.to_uppercase(), letters.as_str()))
}
