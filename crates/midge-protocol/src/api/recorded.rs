//! What is said of the requests that were recorded, without what they carried.

use serde::{Deserialize, Serialize};

use crate::line::Why;

/// A request of the attempt that was recorded: where it went and how it ended. Nothing that it or its answer carried is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestView {
    /// The method, as the guest wrote it.
    pub method: String,
    /// Scheme, host and port of its URL; nothing where those cannot be told from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// The status of its answer; nothing where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why it has no answer, or not all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Why>,
    /// The bytes of its body.
    pub sent_bytes: u64,
    /// The bytes that the guest read of its answer's body.
    pub received_bytes: u64,
    /// When it began, in microseconds since the attempt did.
    pub began_us: u64,
    /// How long it took until its answer was read or given up, in microseconds; nothing where that was not so when the attempt
    /// ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_us: Option<u64>,
}

impl RequestView {
    /// Returns in words what became of it, such as `200`, `timed out`, or `200, then reset`.
    pub fn became(&self) -> String {
        let status = self.status.map(|status| status.to_string());
        match (status, self.failed.map(words)) {
            (Some(status), Some(why)) => format!("{status}, then {why}"),
            (Some(status), None) => status,
            (None, Some(why)) => why.to_owned(),
            (None, None) => "none".to_owned(),
        }
    }
}

fn words(why: Why) -> &'static str {
    match why {
        Why::NotAllowed => "not allowed",
        Why::Invalid => "no request",
        Why::NoSuchHost => "no such host",
        Why::Refused => "refused",
        Why::Reset => "reset",
        Why::Tls => "no TLS",
        Why::TimedOut => "timed out",
        Why::TooLarge => "too large",
        Why::NotHttp => "no HTTP",
        Why::TooManyRedirects => "too many redirects",
        Why::Lacks => "the Machine lacked something",
    }
}
