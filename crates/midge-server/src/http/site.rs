//! Whether a page of another site sent a request: a browser adds what it knows of its user, whoever's page asks.
//!
//! As Go's `http.CrossOriginProtection` has it. A page can set neither `Origin` nor `Sec-Fetch-Site`, and may not send a
//! `X-Forwarded-Host` elsewhere without asking, which nobody here allows it.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, Method, header};
use axum::response::{IntoResponse, Response};

use super::access::{Refusal, text};
use super::answer::Failed;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Who sent a request, as far as a browser says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    /// A page of ours, or the browser's user.
    Own,
    /// A page of another site, or of another host of the same one.
    Foreign,
    /// No browser, or one of before 2020 that says nothing.
    Unknown,
}

impl Sender {
    /// Returns who sent a request with these headers. The browser's own word comes first; where it has none, since it
    /// was not asked over TLS, the origin must be the host that was asked, by the name that it or a proxy was asked by.
    pub(crate) fn of(headers: &HeaderMap) -> Sender {
        match headers.get(SEC_FETCH_SITE).map(|site| site.as_bytes()) {
            Some(b"same-origin" | b"none") => return Sender::Own,
            Some(_) => return Sender::Foreign,
            None => {}
        }
        if !headers.contains_key(header::ORIGIN) {
            return Sender::Unknown;
        }
        let origin = text(headers, header::ORIGIN);
        let asked = [header::HOST, FORWARDED_HOST].map(|name| text(headers, name));
        let mut asked = asked.into_iter().flatten().flat_map(|hosts| hosts.split(','));
        let same = origin.is_some_and(|origin| asked.any(|host| is_host_of(origin, host.trim())));
        if same { Sender::Own } else { Sender::Foreign }
    }
}

/// Returns whether an origin such as `https://midge.example` is of a host such as `midge.example:443`. A host without a
/// port is on the one that the origin's scheme has: a proxy may speak TLS where this server does not.
fn is_host_of(origin: &str, host: &str) -> bool {
    let Some((scheme, origin)) = origin.split_once("://") else { return false };
    let default = if scheme.eq_ignore_ascii_case("https") { "443" } else { "80" };
    let (name, port) = split_port(origin);
    let (host, host_port) = split_port(host);
    !name.is_empty()
        && name.eq_ignore_ascii_case(host)
        && port.unwrap_or(default) == host_port.unwrap_or(default)
}

/// Splits the port from a host. An address of IPv6 keeps its brackets.
pub(super) fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit()) => {
            (name, Some(port))
        }
        _ => (host, None),
    }
}

/// The headers by which a request is judged: whoever stands between a sender and this server may go by the other one of two.
const ONCE: [(HeaderName, &str); 6] = [
    (header::HOST, "Host"),
    (header::ORIGIN, "Origin"),
    (SEC_FETCH_SITE, "Sec-Fetch-Site"),
    (header::CONTENT_TYPE, "Content-Type"),
    (header::AUTHORIZATION, "Authorization"),
    (HeaderName::from_static("last-event-id"), "Last-Event-ID"),
];

/// Turns away what has a header twice by which it is judged.
pub(crate) fn check_once(request: &Request) -> Option<Response> {
    let headers = request.headers();
    // Each is counted as often as it is there.
    if headers.len() == headers.keys_len() {
        return None;
    }
    let (_, twice) = ONCE.into_iter().find(|(name, _)| headers.get_all(name).iter().nth(1).is_some())?;
    Some(Failed::invalid(format!("the header `{twice}` is there twice: send it once")).into_response())
}

/// Turns away what a page of another site sent, if it may change something. What is read it cannot see anyway.
pub(super) fn check(request: &Request) -> Option<Response> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let is_foreign = !reads && Sender::of(request.headers()) == Sender::Foreign;
    is_foreign.then(|| Refusal::ForeignOrigin.into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(pairs: &[(&str, &str)]) -> Sender {
        let pairs = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        Sender::of(&pairs.collect::<HeaderMap>())
    }

    #[test]
    fn what_the_browser_says_of_the_site_decides() {
        let host = ("host", "midge.example");
        for (site, origin, who) in [
            ("cross-site", "http://evil.example", Sender::Foreign),
            ("same-site", "https://other.midge.example", Sender::Foreign),
            ("cross-site", "https://midge.example", Sender::Foreign),
            ("same-origin", "https://midge.example", Sender::Own),
            // A proxy has another name for us than the browser.
            ("same-origin", "https://jobs.example", Sender::Own),
            ("none", "https://midge.example", Sender::Own),
        ] {
            let who_is_it = sender(&[host, ("sec-fetch-site", site), ("origin", origin)]);
            assert_eq!(who_is_it, who, "{site} {origin}");
        }
    }

    #[test]
    fn an_origin_is_own_where_its_host_and_port_are_those_that_were_asked() {
        for (origin, host, own) in [
            ("http://midge.example", "midge.example", true),
            ("https://midge.example", "midge.example", true), // TLS ends at a proxy
            ("https://midge.example", "midge.example:443", true),
            ("https://MIDGE.example:443", "midge.EXAMPLE", true),
            ("http://127.0.0.1:7433", "127.0.0.1:7433", true),
            ("http://[::1]:7433", "[::1]:7433", true),
            ("http://[::1]", "[::1]", true),
            ("http://evil.example", "midge.example", false),
            ("http://midge.example:8080", "midge.example", false),
            ("http://127.0.0.1:8000", "127.0.0.1:7433", false),
            ("http://midge.example.evil.example", "midge.example", false),
            ("http://evil.example/?midge.example", "midge.example", false),
            ("null", "midge.example", false),
            ("", "midge.example", false),
            ("http://", "", false),
        ] {
            let who = if own { Sender::Own } else { Sender::Foreign };
            assert_eq!(sender(&[("host", host), ("origin", origin)]), who, "{origin} {host}");
        }
    }

    #[test]
    fn a_proxy_may_say_by_which_name_it_was_asked() {
        let proxied = [("host", "10.0.0.1:8080"), ("origin", "https://midge.example")];
        assert_eq!(sender(&proxied), Sender::Foreign);
        for names in ["midge.example", "midge.example, inner.example"] {
            let [host, origin] = proxied;
            assert_eq!(sender(&[host, origin, ("x-forwarded-host", names)]), Sender::Own, "{names}");
        }
    }

    #[test]
    fn who_is_no_browser_says_nothing() {
        assert_eq!(sender(&[("host", "midge.example")]), Sender::Unknown);
    }
}
