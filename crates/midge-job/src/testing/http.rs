//! A network for unit tests: what a job asks, and what it is answered.
//!
//! Invariant: what a real server or host would do by itself is not done here, but for what the host refuses.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::http::{HeaderMap, HeaderName, HeaderValue, Kind, Method, StatusCode, head_of, header, read_head};

/// What hosts allow, as `docs/abi.md` has it.
const OPEN_REQUESTS_MAX: usize = 16;
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 100;
const REDIRECTS_MAX: u32 = 20;
/// What is about a connection, which is the host's.
const NOT_FOR_GUESTS: [&str; 8] =
    ["connection", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

/// A request that a job under test made.
#[derive(Debug, Clone)]
pub struct Request {
    method: Method,
    url: String,
    headers: HeaderMap,
    body: Vec<u8>,
    redirects: u32,
    timeout: Option<Duration>,
}

impl Request {
    /// Returns the method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Returns the URL, as the job wrote it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the headers, as the job wrote them: a secret is `{{NAME}}`.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Returns the value of a header, the first where there are several; nothing where it is no text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Returns the body as text.
    ///
    /// # Panics
    /// Where it is not UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body of the request is UTF-8")
    }

    /// Returns the body as JSON of a type.
    ///
    /// # Panics
    /// Where it is not.
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body)
            .expect("the body of the request is JSON of the type that is asked for")
    }

    /// Returns how many redirects the job lets be followed.
    pub fn redirects(&self) -> u32 {
        self.redirects
    }

    /// Returns how long the request may take, where the job says so.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }
}

/// What a job under test is answered.
///
/// ```
/// use midge_job::http::Kind;
/// use midge_job::testing::http::Answer;
///
/// Answer::status(200).json(&["a", "b"]);
/// Answer::status(429).header("retry-after", "30");
/// Answer::status(200).body("half of it").then_fails(Kind::Reset);
/// Answer::fails(Kind::NoSuchHost);
/// ```
#[derive(Debug, Clone)]
pub struct Answer {
    status: Option<StatusCode>,
    url: Option<String>,
    headers: HeaderMap,
    body: Vec<u8>,
    /// What comes in place of the rest.
    failure: Option<Kind>,
}

impl Answer {
    /// Makes an answer of a status.
    ///
    /// # Panics
    /// Where there is no such status.
    pub fn status(status: u16) -> Answer {
        let status = StatusCode::from_u16(status).expect("a status is 100 to 999");
        let (headers, body) = (HeaderMap::new(), Vec::new());
        Answer { status: Some(status), url: None, headers, body, failure: None }
    }

    /// Lets the request fail without an answer.
    ///
    /// # Panics
    /// Where it is a kind that no network knows, such as a status.
    pub fn fails(kind: Kind) -> Answer {
        Answer { status: None, ..Answer::status(200) }.then_fails(kind)
    }

    /// Lets the request fail after so much of the body as is given.
    ///
    /// # Panics
    /// As of [`fails`](Answer::fails).
    #[must_use]
    pub fn then_fails(mut self, kind: Kind) -> Answer {
        assert!(
            kind.number().is_some(),
            "{kind:?} is nothing that a network does: answer so that it comes of that"
        );
        self.failure = Some(kind);
        self
    }

    /// Adds a header.
    ///
    /// # Panics
    /// Where it is none.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Answer {
        let name: HeaderName = name.parse().expect("a header has a name");
        self.headers.append(name, value.parse().expect("a header's value is text in a line"));
        self
    }

    /// Answers with the body.
    #[must_use]
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Answer {
        self.body = bytes.into();
        self
    }

    /// Answers with a value as JSON.
    ///
    /// # Panics
    /// Where it cannot be JSON.
    #[must_use]
    pub fn json<T: Serialize + ?Sized>(mut self, value: &T) -> Answer {
        self.body = serde_json::to_vec(value).expect("the answer can be JSON");
        self.headers
            .entry(header::CONTENT_TYPE)
            .or_insert_with(|| HeaderValue::from_static("application/json"));
        self
    }

    /// Says which URL answers, as after redirects. Else it is the one that was asked: redirects are not followed here.
    #[must_use]
    pub fn url(mut self, url: &str) -> Answer {
        self.url = Some(url.to_owned());
        self
    }
}

/// What answers, by [`Given::http`](super::Given::http). Its clones are the same one.
#[derive(Clone)]
pub(super) struct Network(Rc<RefCell<Answering>>);

type Answering = dyn FnMut(&Request) -> Answer;

impl Network {
    pub(super) fn new(answer: impl FnMut(&Request) -> Answer + 'static) -> Network {
        Network(Rc::new(RefCell::new(answer)))
    }

    fn answer(&self, request: &Request) -> Result<Answer, Refusal> {
        match self.0.try_borrow_mut() {
            Ok(mut answer) => Ok(answer(request)),
            Err(_) => {
                Err(Refusal(Kind::Invalid, "what answers in this test makes a request itself".to_owned()))
            }
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network")
    }
}

/// What a host would say to a request, or a network.
struct Refusal(Kind, String);

impl Refusal {
    fn invalid(message: impl Into<String>) -> Refusal {
        Refusal(Kind::Invalid, message.into())
    }

    fn of(kind: Kind) -> Refusal {
        Refusal(kind, kind.to_string())
    }
}

/// A request that is open. They are not among what is given, as one may be returned by a job, and read after it.
enum Open {
    Asked(Request),
    Answered(Answered),
}

/// An answer that is read.
struct Answered {
    head: Vec<u8>,
    body: Vec<u8>,
    /// How much of the body was read.
    read: usize,
    /// What comes in place of the body's end.
    failure: Option<Kind>,
}

/// What the host of a test has of requests.
#[derive(Default)]
struct State {
    open: Vec<Option<Open>>,
    /// Why the last call failed.
    error: String,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

impl State {
    fn opened(&mut self, request: i32) -> Result<&mut Open, Refusal> {
        let open = usize::try_from(request).ok().and_then(|index| self.open.get_mut(index)?.as_mut());
        open.ok_or_else(|| Refusal::invalid(format!("there is no open request {request}")))
    }

    fn asked(&mut self, request: i32) -> Result<&mut Request, Refusal> {
        match self.opened(request)? {
            Open::Asked(request) => Ok(request),
            Open::Answered(_) => Err(Refusal::invalid(format!("request {request} has been sent"))),
        }
    }

    fn answered(&mut self, request: i32) -> Result<&mut Answered, Refusal> {
        match self.opened(request)? {
            Open::Answered(answered) => Ok(answered),
            Open::Asked(_) => Err(Refusal::invalid(format!("request {request} has no answer yet"))),
        }
    }
}

/// Reads the head of a request, and refuses what a host would.
fn accept(head: &[u8], redirects: i32, timeout_ms: i64) -> Result<Request, Refusal> {
    if head.len() > HEAD_BYTES_MAX {
        return Err(Refusal(
            Kind::TooLarge,
            format!("the head of the request has more than {HEAD_BYTES_MAX} bytes"),
        ));
    }
    let (method, url, headers) =
        read_head(head).ok_or_else(|| Refusal::invalid("the head cannot be read"))?;
    let method = method.parse().map_err(|_| Refusal::invalid(format!("`{method}` is no method")))?;
    if !["http://", "https://"].iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme)) {
        return Err(Refusal::invalid(format!(
            "`{url}` does not begin with `https://` or `http://` and a host"
        )));
    }
    if headers.len() > HEADERS_MAX {
        return Err(Refusal(Kind::TooLarge, format!("the request has more than {HEADERS_MAX} headers")));
    }
    let is_the_hosts = |name: &&str| NOT_FOR_GUESTS.contains(name) || name.starts_with("proxy-");
    if let Some(name) = headers.keys().map(HeaderName::as_str).find(is_the_hosts) {
        return Err(Refusal::invalid(format!(
            "the header `{name}` is about the connection, and cannot be set"
        )));
    }
    let redirects = u32::try_from(redirects).ok().filter(|redirects| *redirects <= REDIRECTS_MAX);
    let redirects = redirects
        .ok_or_else(|| Refusal::invalid(format!("at most {REDIRECTS_MAX} redirects are followed")))?;
    let timeout = u64::try_from(timeout_ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis);
    Ok(Request { method, url: url.to_owned(), headers, body: Vec::new(), redirects, timeout })
}

/// Asks what is given for the answer to a request, which is noted with those of before.
fn ask(request: Request) -> Result<Answered, Refusal> {
    if let Some(said) = request.header(header::CONTENT_LENGTH.as_str()) {
        let length = request.body.len();
        if said.parse() != Ok(length) {
            return Err(Refusal::invalid(format!(
                "the body has {length} bytes, and `content-length` says {said}"
            )));
        }
    }
    let network = super::network(&request);
    if let Some(refused) = super::refuses(&request) {
        return Err(Refusal(Kind::NotAllowed, refused));
    }
    let network = network.ok_or_else(|| {
        Refusal(
            Kind::NotAllowed,
            "there is no network in a test: give it one by `Given::new().http(|request| Answer::status(200))`, see \
             `midge_job::testing`"
                .to_owned(),
        )
    })?;
    let before = crate::now();
    let answer = network.answer(&request)?;
    let took = crate::now().duration_since(before).unwrap_or_default();
    if super::now().is_some() && request.timeout.is_some_and(|timeout| took >= timeout) {
        return Err(Refusal::of(Kind::TimedOut));
    }
    let Answer { status, url, headers, body, failure } = answer;
    let Some(status) = status else {
        return Err(Refusal::of(failure.unwrap_or(Kind::Reset)));
    };
    let head = head_of(status.as_str(), &url.unwrap_or(request.url), &headers);
    let body = if request.method == Method::HEAD { Vec::new() } else { body };
    Ok(Answered { head, body, read: 0, failure })
}

/// The imports of a host, as `docs/abi.md` has them.
pub(crate) mod imports {
    use super::super::copy;
    use super::*;

    pub(crate) fn http_open(head: &[u8], redirects: i32, timeout_ms: i64) -> i32 {
        number(|state| {
            let request = accept(head, redirects, timeout_ms)?;
            let open = &mut state.open;
            let free = open.iter().position(Option::is_none).unwrap_or(open.len());
            if free >= OPEN_REQUESTS_MAX {
                let message =
                    format!("{OPEN_REQUESTS_MAX} requests are open: drop an answer before the next");
                return Err(Refusal(Kind::OverLimit, message));
            }
            open.resize_with(open.len().max(free + 1), || None);
            open[free] = Some(Open::Asked(request));
            Ok(i32::try_from(free).expect("it is less than their bound"))
        })
    }

    pub(crate) fn http_write(request: i32, piece: &[u8]) -> i32 {
        number(|state| {
            state.asked(request)?.body.extend_from_slice(piece);
            Ok(0)
        })
    }

    pub(crate) fn http_send(request: i32) -> i32 {
        // Nothing is borrowed meanwhile: what answers is a test's own code.
        let asked = STATE.with_borrow_mut(|state| state.asked(request).cloned());
        let answered = asked.and_then(ask);
        number(|state| {
            let answered = answered?;
            let length = copy(&answered.head, &mut []);
            *state.opened(request)? = Open::Answered(answered);
            Ok(length)
        })
    }

    pub(crate) fn http_head(request: i32, room: &mut [u8]) -> i32 {
        number(|state| Ok(copy(&state.answered(request)?.head, room)))
    }

    pub(crate) fn http_read(request: i32, room: &mut [u8]) -> i32 {
        number(|state| {
            let answered = state.answered(request)?;
            let rest = &answered.body[answered.read..];
            match answered.failure {
                Some(kind) if rest.is_empty() => Err(Refusal::of(kind)),
                _ => {
                    let read = rest.len().min(room.len());
                    let copied = copy(&rest[..read], room);
                    answered.read += read;
                    Ok(copied)
                }
            }
        })
    }

    pub(crate) fn http_close(request: i32) {
        // An answer may be dropped with its thread, after what is of the thread.
        let _ = STATE.try_with(|state| {
            if let Ok(index) = usize::try_from(request) {
                if let Some(open) = state.borrow_mut().open.get_mut(index) {
                    *open = None;
                }
            }
        });
    }

    pub(crate) fn http_error(room: &mut [u8]) -> i32 {
        STATE.with_borrow(|state| copy(state.error.as_bytes(), room))
    }

    /// Returns what came of a call, or the number of what failed, whose words are kept.
    fn number(call: impl FnOnce(&mut State) -> Result<i32, Refusal>) -> i32 {
        STATE.with_borrow_mut(|state| match call(state) {
            Ok(number) => number,
            Err(Refusal(kind, message)) => {
                state.error = message;
                kind.number().expect("networks and hosts fail in ways that have numbers")
            }
        })
    }
}
