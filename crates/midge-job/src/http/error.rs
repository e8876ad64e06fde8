//! Why a request has no answer, or one that is no good, and what that means for the job.

use std::fmt;
use std::io;
use std::time::Duration;

use ::http::{HeaderMap, Method, StatusCode, header};

use crate::error::{BoxError, Disposition};
use crate::host::HttpFailure;

/// Why a request has no answer, or one that is no good.
///
/// By `?` it becomes a [`midge_job::Error`](crate::Error), which decides what becomes of the job:
///
/// - [`NotAllowed`](Kind::NotAllowed) and [`Invalid`](Kind::Invalid) are refused: the same module with the same args asks
///   the same in the next attempt. After a deploy that mends it, `midge jobs retry` runs the job again.
/// - A [status](Kind::Status) with the header `retry-after`, as 429 and 503 have it, is tried again after that time.
/// - All else is tried again as the retry policy has it.
///
/// Where that is not right, say so: `.map_err(midge_job::Error::refuse)?`.
pub struct Error(Box<Parts>);

struct Parts {
    kind: Kind,
    about: About,
    message: String,
    retry_after: Option<Duration>,
    /// The beginning of the answer's body, where its status is wrong.
    body: Vec<u8>,
    source: Option<BoxError>,
}

/// How much of what a server says is shown.
const SAID_BYTES_MAX: usize = 200;

/// What an error is about.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub(crate) method: Method,
    /// The host of the URL, without what else is in it, which may be private.
    pub(crate) host: String,
}

/// What was wrong with a request or its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The module may not reach that URL, or the secret may not go there: see `http` and `secrets` in `midge.toml`.
    NotAllowed,
    /// It is no request: its method, its URL, a header, or a body that is not as long as was said or cannot be made.
    Invalid,
    /// There is no host of that name, or who knows names does not answer.
    NoSuchHost,
    /// Nobody takes connections there.
    Refused,
    /// The connection ended before the answer did.
    Reset,
    /// The server is not who it should be, or does not speak TLS.
    Tls,
    /// It took longer than it may.
    TimedOut,
    /// The head of the answer is larger than its bound, or its body than what was to be read of it.
    TooLarge,
    /// What came is no HTTP.
    NotHttp,
    /// There was one redirect more than are followed.
    TooManyRedirects,
    /// The attempt has as many requests open as it may, has made as many, or sent or received as much.
    OverLimit,
    /// The answer has a status that is an error, by [`error_for_status`](crate::http::Response::error_for_status).
    Status(StatusCode),
    /// The answer's body is not JSON, or not of the type that was asked for.
    NotJson,
    /// The answer's body is not UTF-8.
    NotText,
    /// The reader that the request's body comes from failed.
    Body,
    /// Something else, which this version of the crate does not know.
    Other,
}

/// The numbers by which hosts tell what failed, as `docs/abi.md` has them.
const NUMBERS: [(i32, Kind); 11] = [
    (-1, Kind::NotAllowed),
    (-2, Kind::Invalid),
    (-3, Kind::NoSuchHost),
    (-4, Kind::Refused),
    (-5, Kind::Reset),
    (-6, Kind::Tls),
    (-7, Kind::TimedOut),
    (-8, Kind::TooLarge),
    (-9, Kind::NotHttp),
    (-10, Kind::TooManyRedirects),
    (-11, Kind::OverLimit),
];

impl Kind {
    fn of(number: i32) -> Kind {
        NUMBERS.iter().find(|known| known.0 == number).map_or(Kind::Other, |known| known.1)
    }

    /// Returns the number by which a host tells it, where hosts do.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn number(self) -> Option<i32> {
        NUMBERS.iter().find(|known| known.1 == self).map(|known| known.0)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::NotAllowed => "it is not allowed",
            Kind::Invalid => "this is no request",
            Kind::NoSuchHost => "there is no such host",
            Kind::Refused => "nobody takes connections there",
            Kind::Reset => "the connection ended before the answer did",
            Kind::Tls => "there is no TLS with that server",
            Kind::TimedOut => "it took longer than it may",
            Kind::TooLarge => "the answer is too large",
            Kind::NotHttp => "what came is no HTTP",
            Kind::TooManyRedirects => "there are more redirects than are followed",
            Kind::OverLimit => "the attempt has reached a bound on its requests",
            Kind::Status(status) => return write!(f, "{status}"),
            Kind::NotJson => "the answer is not the JSON that was asked for",
            Kind::NotText => "the answer is not UTF-8",
            Kind::Body => "cannot read the body that is to be sent",
            Kind::Other => "it failed",
        })
    }
}

impl About {
    /// Takes what an error says of a request.
    pub(crate) fn request(method: &Method, url: &str) -> About {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        About { method: method.clone(), host: host.to_owned() }
    }
}

impl Error {
    pub(crate) fn new(about: &About, kind: Kind, message: impl Into<String>) -> Error {
        let message = message.into();
        Error(Box::new(Parts {
            kind,
            about: about.clone(),
            message,
            retry_after: None,
            body: Vec::new(),
            source: None,
        }))
    }

    /// Takes over what the host says.
    pub(crate) fn from_host(about: &About, failure: HttpFailure) -> Error {
        let kind = Kind::of(failure.number);
        let message = if failure.message.is_empty() { kind.to_string() } else { failure.message };
        Error::new(about, kind, message)
    }

    /// Makes one of an answer's status, and of the beginning of its body.
    pub(crate) fn from_status(
        about: &About,
        status: StatusCode,
        headers: &HeaderMap,
        body: Vec<u8>,
    ) -> Error {
        let message = match said(&body) {
            said if said.is_empty() => status.to_string(),
            said => format!("{status}: {said}"),
        };
        let mut error = Error::new(about, Kind::Status(status), message);
        error.0.retry_after = retry_after(headers);
        error.0.body = body;
        error
    }

    pub(crate) fn caused_by(mut self, source: impl Into<BoxError>) -> Error {
        self.0.source = Some(source.into());
        self
    }

    /// Returns what was wrong, of few.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Returns the status, where that is what was wrong.
    pub fn status(&self) -> Option<StatusCode> {
        match self.0.kind {
            Kind::Status(status) => Some(status),
            _ => None,
        }
    }

    /// Returns the method of the request.
    pub fn method(&self) -> &Method {
        &self.0.about.method
    }

    /// Returns the host, and the port where it is written, that the request was to.
    pub fn host(&self) -> &str {
        &self.0.about.host
    }

    /// Returns the first 4 KiB of the answer's body, where its status was wrong.
    pub fn body(&self) -> &[u8] {
        &self.0.body
    }

    /// Returns how long the server asks to wait before the next request, where it says so with a status that is an error.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    pub(crate) fn disposition(&self) -> Disposition {
        match self.0.kind {
            Kind::NotAllowed | Kind::Invalid => Disposition::Refuse,
            _ => Disposition::Retry { after: self.0.retry_after },
        }
    }
}

/// Returns the beginning of what a server said, in one line, for people. Nothing where that is no text.
pub(crate) fn said(body: &[u8]) -> String {
    // The end of what was read may be within a character.
    let text = match std::str::from_utf8(body) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&body[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return String::new(),
    };
    let mut said = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        let space = if said.is_empty() { "" } else { " " };
        said.extend([space, word]);
        if said.len() > SAID_BYTES_MAX {
            let end = (0..=SAID_BYTES_MAX).rev().find(|at| said.is_char_boundary(*at));
            said.truncate(end.unwrap_or_default());
            said.push_str("...");
            break;
        }
    }
    said
}

/// Reads the header `retry-after`: seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    // One that has passed is "now".
    Some(date.duration_since(crate::now()).unwrap_or_default())
}

impl fmt::Display for Error {
    /// Writes method, host and what was wrong in one line: `GET api.example.com: 503 Service Unavailable`, and behind a status what
    /// the server says of it. A path is not in it: those of webhooks are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { about, message, .. } = &*self.0;
        write!(f, "{} {}: {message}", about.method, about.host)
    }
}

impl fmt::Debug for Error {
    /// Writes what a person wants to see where an `unwrap` fails in a test.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({:?})", self.0.kind)?;
        match &self.0.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match error.kind() {
            Kind::Reset => io::ErrorKind::ConnectionReset,
            Kind::TimedOut => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;
    use crate::testing::Given;

    fn about(url: &str) -> About {
        About::request(&Method::POST, url)
    }

    #[test]
    fn an_error_names_the_host_and_nothing_private_of_a_url() {
        for (url, host) in [
            ("https://api.example.com/v1/charges?key=private", "api.example.com"),
            ("http://user:private@api.example.com:8080?x@y", "api.example.com:8080"),
            ("https://[::1]:80#@x", "[::1]:80"),
            ("api.example.com/x", "api.example.com"),
            ("", ""),
        ] {
            let error = Error::new(&about(url), Kind::Reset, "gone");
            assert_eq!(error.to_string(), format!("POST {host}: gone"));
        }
    }

    #[test]
    fn a_number_is_the_kind_that_the_abi_says_and_one_that_is_not_known_is_told_too() {
        let failure = |number, message: &str| HttpFailure { number, message: message.to_owned() };
        let known = Error::from_host(&about("http://a"), failure(-7, "it took longer than 2 s"));
        assert_eq!(
            (known.kind(), known.to_string().as_str()),
            (Kind::TimedOut, "POST a: it took longer than 2 s")
        );
        let unknown = Error::from_host(&about("http://a"), failure(-99, ""));
        assert_eq!((unknown.kind(), unknown.to_string().as_str()), (Kind::Other, "POST a: it failed"));
        for (number, kind) in NUMBERS {
            assert_eq!((Kind::of(number), kind.number()), (kind, Some(number)));
        }
    }

    #[test]
    fn what_asks_the_same_next_time_is_refused_and_all_else_is_tried_again() {
        let disposition = |kind| crate::Error::from(Error::new(&about("http://a"), kind, "x")).disposition();
        for (_, kind) in NUMBERS {
            let refused = [Kind::NotAllowed, Kind::Invalid].contains(&kind);
            let expected = if refused { Disposition::Refuse } else { Disposition::Retry { after: None } };
            assert_eq!(disposition(kind), expected, "{kind:?}");
        }
        assert_eq!(disposition(Kind::Status(StatusCode::NOT_FOUND)), Disposition::Retry { after: None });
    }

    #[test]
    fn a_server_can_say_when_it_wants_to_be_asked_again() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let after = |value: &'static str, now: SystemTime| {
            let headers = [(header::RETRY_AFTER, value.parse().unwrap())].into_iter().collect();
            let error =
                Error::from_status(&about("http://a"), StatusCode::SERVICE_UNAVAILABLE, &headers, Vec::new());
            Given::new().now(now).run(|| crate::Error::from(error).disposition())
        };
        let retry = |after| Disposition::Retry { after };
        assert_eq!(after(" 120 ", at(0)), retry(Some(Duration::from_secs(120))));
        assert_eq!(after("soon", at(0)), retry(None));
        assert_eq!(after("-1", at(0)), retry(None));
        assert_eq!(
            after(&u64::MAX.to_string().leak()[..], at(0)),
            retry(Some(Duration::from_secs(u64::MAX)))
        );
    }

    #[test]
    fn what_a_server_says_of_a_status_is_in_the_error_in_one_line() {
        let told = |body: &[u8]| {
            let no_headers = HeaderMap::new();
            let error =
                Error::from_status(&about("http://a"), StatusCode::UNAUTHORIZED, &no_headers, body.into());
            assert_eq!(error.body(), body);
            error.to_string()
        };
        assert_eq!(told(b""), "POST a: 401 Unauthorized");
        assert_eq!(
            told(b"{\"error\":\n  \"bad key\"}\n"),
            "POST a: 401 Unauthorized: {\"error\": \"bad key\"}"
        );
        assert_eq!(told(b"no\x1b[31m \0more"), "POST a: 401 Unauthorized: no [31m more");
        assert_eq!(told(b"\xff\xfe\0"), "POST a: 401 Unauthorized", "what is no text is not shown");
        assert_eq!(told("caf\u{e9}".as_bytes().split_last().unwrap().1), "POST a: 401 Unauthorized: caf");
        let long = told("\u{e9}".repeat(2000).as_bytes());
        assert!(long.ends_with("\u{e9}...") && long.len() < 250, "{long}");
    }

    #[test]
    fn a_date_to_be_asked_again_at_goes_by_the_clock_of_the_job() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let headers: HeaderMap = [(header::RETRY_AFTER, date.parse().unwrap())].into_iter().collect();
        let wait = |now: SystemTime| Given::new().now(now).run(|| retry_after(&headers));
        let then = UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(wait(then - Duration::from_secs(90)), Some(Duration::from_secs(90)));
        assert_eq!(wait(then + Duration::from_secs(90)), Some(Duration::ZERO));
    }
}
