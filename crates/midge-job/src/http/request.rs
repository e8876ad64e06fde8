//! A request, put together.

use std::fmt;
use std::io::{self, Read};
use std::time::Duration;

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde::Serialize;

use super::error::{About, Error, Kind};
use super::head;
use super::open::{Open, PIECE_BYTES};
use super::response::Response;
use crate::host;

/// How many redirects are followed where nothing is said: as many as `reqwest` and `ureq` do.
const REDIRECTS_DEFAULT: u32 = 10;
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A request that is put together, and then [sent](Request::send). Made by [`get`](super::get), [`post`](super::post) and
/// others.
///
/// What is wrong with what it is given is told when it is sent.
#[must_use = "a request does nothing until it is sent: call `send`"]
pub struct Request<'body> {
    method: Method,
    url: String,
    headers: HeaderMap,
    body: Body<'body>,
    redirects: u32,
    timeout: Option<Duration>,
    /// What was wrong first.
    wrong: Option<Error>,
}

enum Body<'body> {
    None,
    Bytes(Vec<u8>),
    Reader { reader: Box<dyn Read + 'body>, length: Option<u64> },
}

impl<'body> Request<'body> {
    pub(super) fn new(method: Method, url: &str) -> Request<'body> {
        Request {
            method,
            url: url.to_owned(),
            headers: HeaderMap::new(),
            body: Body::None,
            redirects: REDIRECTS_DEFAULT,
            timeout: None,
            wrong: None,
        }
    }

    /// Adds a header. In its value `{{NAME}}` stands for the secret `NAME` of the module: the value goes to the server and
    /// is nowhere in the job.
    ///
    /// `host`, `connection` and others that are about the connection cannot be set.
    pub fn header<N, V>(mut self, name: N, value: V) -> Request<'body>
    where
        HeaderName: TryFrom<N, Error: Into<::http::Error>>,
        HeaderValue: TryFrom<V, Error: Into<::http::Error>>,
    {
        let name: Result<_, (String, ::http::Error)> = HeaderName::try_from(name)
            .map_err(|error| ("the name of a header is none".to_owned(), error.into()));
        let header = name.and_then(|name| match HeaderValue::try_from(value) {
            Ok(value) => Ok((name, value)),
            Err(error) => Err((format!("the value of the header `{name}` cannot be sent"), error.into())),
        });
        match header {
            Ok((name, value)) => {
                self.headers.append(name, value);
            }
            Err((what, error)) => self.is_wrong(&what, error),
        }
        self
    }

    /// Adds headers. They take the place of those of the same names.
    pub fn headers(mut self, headers: HeaderMap) -> Request<'body> {
        for name in headers.keys() {
            self.headers.remove(name);
        }
        for name in headers.keys() {
            for value in headers.get_all(name) {
                self.headers.append(name, value.clone());
            }
        }
        self
    }

    /// Adds the header `authorization` with `Bearer` and a secret of the module, such as `STRIPE`.
    pub fn bearer_secret(self, secret: &str) -> Request<'body> {
        self.header(header::AUTHORIZATION, format!("Bearer {{{{{secret}}}}}"))
    }

    /// Adds a header whose value is a secret of the module, such as `STRIPE`.
    pub fn secret_header<N>(self, name: N, secret: &str) -> Request<'body>
    where
        HeaderName: TryFrom<N, Error: Into<::http::Error>>,
    {
        self.header(name, format!("{{{{{secret}}}}}"))
    }

    /// Adds the header `idempotency-key`, by which a service knows a request that it has answered before. What
    /// [`step_key`](crate::step_key) returns is the same in every attempt at a job.
    pub fn idempotency_key(self, key: &str) -> Request<'body> {
        self.header(IDEMPOTENCY_KEY, key)
    }

    /// Adds fields to the URL's query: a list of pairs, a map or a struct.
    pub fn query<T: Serialize + ?Sized>(mut self, fields: &T) -> Request<'body> {
        match serde_urlencoded::to_string(fields) {
            Ok(query) if query.is_empty() => {}
            Ok(query) => {
                // The fragment is last.
                let end = self.url.find('#').unwrap_or(self.url.len());
                let before = &self.url[..end];
                let between = match before.find('?') {
                    None => "?",
                    Some(_) if before.ends_with(['?', '&']) => "",
                    Some(_) => "&",
                };
                self.url.insert_str(end, &format!("{between}{query}"));
            }
            Err(error) => self.is_wrong("these are no fields of a query", error),
        }
        self
    }

    /// Says how long all of it may take, to the end of the answer's body. Else that is as long as the attempt may still run.
    pub fn timeout(mut self, timeout: Duration) -> Request<'body> {
        self.timeout = Some(timeout);
        self
    }

    /// Says how many redirects are followed, at most 20: 10 where nothing is said. With 0 the redirect is the answer.
    pub fn redirects(mut self, most: u32) -> Request<'body> {
        self.redirects = most;
        self
    }

    /// Sends a value as JSON.
    pub fn json<T: Serialize + ?Sized>(mut self, value: &T) -> Request<'body> {
        match serde_json::to_vec(value) {
            Ok(text) => self.typed(text, "application/json"),
            Err(error) => self.is_wrong("the body cannot be JSON", error),
        }
        self
    }

    /// Sends fields as a form of a web page does: a list of pairs, a map or a struct.
    pub fn form<T: Serialize + ?Sized>(mut self, fields: &T) -> Request<'body> {
        match serde_urlencoded::to_string(fields) {
            Ok(text) => self.typed(text.into_bytes(), "application/x-www-form-urlencoded"),
            Err(error) => self.is_wrong("these are no fields of a form", error),
        }
        self
    }

    /// Sends bytes as they are.
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Request<'body> {
        self.body = Body::Bytes(bytes.into());
        self
    }

    /// Sends what a reader gives, in pieces: it need not be in memory at once. Where the length is known, the server is told
    /// before, and it must be right.
    ///
    /// ```no_run
    /// # fn f() -> midge_job::Result<()> {
    /// let photo = std::fs::File::open("/data/photo.jpg")?;
    /// let length = photo.metadata()?.len();
    /// midge_job::http::put("https://files.example.com/photo.jpg").body_from(photo, Some(length)).send()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn body_from<'reader>(
        self,
        reader: impl Read + 'reader,
        length: impl Into<Option<u64>>,
    ) -> Request<'reader> {
        let Request { method, url, headers, redirects, timeout, wrong, .. } = self;
        let body = Body::Reader { reader: Box::new(reader), length: length.into() };
        Request { method, url, headers, body, redirects, timeout, wrong }
    }

    /// Sends it, and returns the answer when its head is there. The body is read from that.
    ///
    /// # Errors
    /// Where there is no answer. A status such as 404 is an answer:
    /// [`error_for_status`](Response::error_for_status) makes an error of it.
    pub fn send(self) -> Result<Response, Error> {
        let about = About::request(&self.method, &self.url);
        let Request { method, url, mut headers, body, redirects, timeout, wrong } = self;
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        // What follows a space would be taken for something else than the URL, and what follows a line's end for a header.
        if url.contains(|c: char| c.is_ascii_whitespace() || c.is_ascii_control()) {
            return Err(Error::new(
                &about,
                Kind::Invalid,
                "there is a space or a control character in the URL: write it as `%20` and the like",
            ));
        }
        if let Some(length) = body.length() {
            headers.entry(header::CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
        }
        let head = head::of_request(&method, &url, &headers);
        let number = host::http_open(&head, redirects, timeout)
            .map_err(|failure| Error::from_host(&about, failure))?;
        let open = Open::new(number, about);
        body.write_to(&open)?;
        let head = open.send()?;
        Response::new(open, &head)
    }

    /// Takes a body, and says what it is unless the job did.
    fn typed(&mut self, bytes: Vec<u8>, content_type: &'static str) {
        self.body = Body::Bytes(bytes);
        self.headers.entry(header::CONTENT_TYPE).or_insert_with(|| HeaderValue::from_static(content_type));
    }

    fn is_wrong(&mut self, what: &str, error: impl std::error::Error + Send + Sync + 'static) {
        if self.wrong.is_none() {
            let about = About::request(&self.method, &self.url);
            self.wrong = Some(Error::new(&about, Kind::Invalid, what).caused_by(error));
        }
    }
}

impl Body<'_> {
    fn length(&self) -> Option<u64> {
        match self {
            // A method that has none is not to say so; where it should, the host does.
            Body::None => None,
            Body::Bytes(bytes) => Some(bytes.len() as u64),
            Body::Reader { length, .. } => *length,
        }
    }

    fn write_to(self, open: &Open) -> Result<(), Error> {
        match self {
            Body::None => Ok(()),
            Body::Bytes(bytes) => open.write(&bytes),
            Body::Reader { mut reader, .. } => {
                let mut piece = vec![0; PIECE_BYTES];
                loop {
                    match reader.read(&mut piece) {
                        Ok(0) => return Ok(()),
                        Ok(length) => open.write(&piece[..length])?,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => {
                            let kind = Kind::Body;
                            return Err(Error::new(open.about(), kind, kind.to_string()).caused_by(error));
                        }
                    }
                }
            }
        }
    }
}

impl fmt::Debug for Request<'_> {
    /// Writes method and URL. A header's value may be private.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.url)
    }
}
