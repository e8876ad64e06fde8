//! What a job's page shows of its recording.

use maud::{Markup, html};
use midge_protocol::api::{JobDetail, RequestView};
use midge_protocol::shown;

use super::duration;

/// The recording of a job, where there is one: how to run it again, and where its requests went.
pub(super) fn section(base: &str, detail: &JobDetail) -> Markup {
    let Some(attempt) = detail.recorded else { return html! {} };
    let id = detail.job.id;
    html! {
        section {
            h2 { "Recording of attempt " (attempt) }
            p {
                "To run it again on your computer: " code { "midge jobs pull " (id) } " ("
                a href={ (base) "/v1/jobs/" (id) "/recording" } { "download" } " the recording alone)"
            }
            @if detail.recorded_requests.is_empty() {
                p.quiet { "It made no request." }
            } @else {
                (requests_table(&detail.recorded_requests))
            }
            @if let Some(more) = detail.more_recorded_requests {
                p.quiet { "and " (more) " more, which are in the recording" }
            }
        }
    }
}

fn requests_table(requests: &[RequestView]) -> Markup {
    html! {
        table {
            thead {
                tr {
                    th.n { "request" } th { "method" } th { "to" } th { "answer" } th.n { "sent" } th.n { "received" }
                    th.n { "began after" } th.n { "took" }
                }
            }
            @for (number, request) in (1..).zip(requests) {
                tr {
                    td.n { (number) }
                    td { (shown::line(&request.method)) }
                    td { @match &request.origin { Some(origin) => (shown::line(origin)), None => "(no URL)" } }
                    td { (request.became()) }
                    td.n { (request.sent_bytes) " bytes" }
                    td.n { (request.received_bytes) " bytes" }
                    td.n { (duration(request.began_us / 1_000)) }
                    td.n { @match request.took_us { Some(took) => (duration(took / 1_000)), None => "not ended" } }
                }
            }
        }
    }
}
