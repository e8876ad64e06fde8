//! What a job is shown with of its recording: of which attempt it is, and where its requests went.
//!
//! Invariant: of a request there is nothing that it carried, and of its URL nothing but the origin.

use midge_core::written_origin;
use midge_protocol::api::RequestView;
use midge_protocol::line::Why;
use midge_protocol::{AttemptNumber, shown};
use serde::Deserialize;

/// Requests that a job is shown with, so that its page stays one that people read: the recording has all.
const REQUESTS_SHOWN_MAX: usize = 100;

/// What is read of a recording. The rest of it, such as all bodies, is not looked at.
#[derive(Deserialize)]
pub(super) struct Recorded {
    pub(super) attempt: AttemptNumber,
    #[serde(default)]
    requests: Vec<Request>,
}

#[derive(Deserialize)]
struct Request {
    method: String,
    url: String,
    #[serde(default)]
    body_bytes: u64,
    began_us: u64,
    #[serde(default)]
    ended_us: Option<u64>,
    #[serde(default)]
    answer: Option<Answer>,
    #[serde(default)]
    failed: Option<Failed>,
}

#[derive(Deserialize)]
struct Answer {
    status: u16,
    #[serde(default)]
    body_bytes: u64,
}

#[derive(Deserialize)]
struct Failed {
    why: Why,
}

impl Recorded {
    /// Reads a recording; nothing where it is none.
    pub(super) fn read(recording: &[u8]) -> Option<Recorded> {
        serde_json::from_slice(recording).ok()
    }

    /// Returns its first requests, and how many more there are.
    pub(super) fn requests(&self) -> (Vec<RequestView>, Option<u64>) {
        let first = self.requests.iter().take(REQUESTS_SHOWN_MAX).map(Request::view).collect();
        let more = self.requests.len().saturating_sub(REQUESTS_SHOWN_MAX) as u64;
        (first, Some(more).filter(|more| *more > 0))
    }
}

impl Request {
    fn view(&self) -> RequestView {
        RequestView {
            method: shown::cut(&self.method),
            origin: written_origin(&self.url),
            status: self.answer.as_ref().map(|answer| answer.status),
            failed: self.failed.as_ref().map(|failed| failed.why),
            sent_bytes: self.body_bytes,
            received_bytes: self.answer.as_ref().map_or(0, |answer| answer.body_bytes),
            began_us: self.began_us,
            took_us: self.ended_us.map(|ended| ended.saturating_sub(self.began_us)),
        }
    }
}
