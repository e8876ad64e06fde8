//! Sends a call and reads its answer: URL, token, bounds, and another try where that is safe.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use midge_protocol::api::ApiError;
use midge_protocol::{Secret, shown};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Response, Url};
use tokio::time::timeout;

use crate::{BoxError, ClientError};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const PATIENCE: Patience = Patience { silence: Duration::from_secs(30), answer: Duration::from_secs(120) };
/// What a slow line takes of a body in a second: a largest one is two minutes on its way.
const SENT_BYTES_A_SECOND: u64 = 256 * 1024;
/// A page of the most jobs with the longest messages is well within it, and so is a result.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How often a call is tried where nothing else is said: over a second and a half, in which a server restarts.
const TRIES_DEFAULT: u32 = 5;
/// The wait before the second try, doubled for each that follows.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// What is shown of an answer that is not understood.
const SHOWN_BYTES_MAX: usize = 200;

/// How long a server is waited for.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// Until its answer begins, and between two pieces of it. What it was asked to wait, and sending a body, come on top.
    silence: Duration,
    /// From the beginning of its answer to the end: a largest result comes over a slow line.
    answer: Duration,
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    #[error("it took the call, and said nothing for {0:?}")]
    Silent(Duration),
    #[error("its answer has not ended after {0:?}")]
    Endless(Duration),
    #[error("it ended its answer before the end")]
    CutOff,
}

/// Whether a call that may have been carried out can be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Twice is as good as once.
    Safe,
    /// Only where it is certain that nothing was sent.
    Unsent,
}

/// One call of the API.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a [&'a str],
    pub(crate) query: Vec<(&'static str, String)>,
    /// JSON.
    pub(crate) body: Option<Bytes>,
    pub(crate) repeat: Repeat,
    /// How much longer than usual the answer may take, because the server was asked to wait.
    pub(crate) waits: Duration,
    /// How far a job was followed before.
    pub(crate) last_event_id: Option<String>,
}

impl<'a> Call<'a> {
    pub(crate) fn get(path: &'a [&'a str]) -> Call<'a> {
        Call {
            method: Method::GET,
            path,
            query: Vec::new(),
            body: None,
            repeat: Repeat::Safe,
            waits: Duration::ZERO,
            last_event_id: None,
        }
    }

    pub(crate) fn post(path: &'a [&'a str], repeat: Repeat) -> Call<'a> {
        Call { method: Method::POST, repeat, ..Call::get(path) }
    }

    pub(crate) fn delete(path: &'a [&'a str]) -> Call<'a> {
        Call { method: Method::DELETE, repeat: Repeat::Unsent, ..Call::get(path) }
    }

    pub(crate) fn query(mut self, key: &'static str, value: Option<impl ToString>) -> Call<'a> {
        self.query.extend(value.map(|value| (key, value.to_string())));
        self
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Transport {
    http: reqwest::Client,
    base: Url,
    authorization: Option<HeaderValue>,
    tries: u32,
    patience: Patience,
}

impl Transport {
    pub(crate) fn new(base_url: &str) -> Result<Transport, ClientError> {
        let invalid = |why: &str| {
            // What follows a `?` may be a token.
            let told = shown::url(base_url.split(['?', '#']).next().unwrap_or_default()).into_owned();
            let message =
                format!("`{told}` is not a server's URL: {why}: use http://HOST:PORT or https://HOST");
            ClientError::Invalid(message)
        };
        let base = Url::parse(base_url).map_err(|error| invalid(&error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(invalid("it is neither http nor https"));
        }
        if base.query().is_some() || base.fragment().is_some() {
            return Err(invalid(
                "it may have a path, and no `?` or `#`, behind which nothing is sent to a server",
            ));
        }
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls())
            .user_agent(concat!("midge-client/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            // A redirect would carry the token to another server, and a proxy would come from the environment.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| ClientError::Invalid(format!("cannot make an HTTP client: {error}")))?;
        Ok(Transport { http, base, authorization: None, tries: TRIES_DEFAULT, patience: PATIENCE })
    }

    pub(crate) fn set_token(&mut self, token: &Secret) -> Result<(), ClientError> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose().trim()))
            .map_err(|_| ClientError::Invalid("the token holds characters that no token has".to_owned()))?;
        value.set_sensitive(true);
        self.authorization = Some(value);
        Ok(())
    }

    pub(crate) fn set_tries(&mut self, tries: u32) {
        self.tries = tries.max(1);
    }

    pub(crate) fn tries(&self) -> u32 {
        self.tries
    }

    /// Sends a call and returns the body of an answer that is a success.
    pub(crate) async fn send(&self, call: &Call<'_>) -> Result<Bytes, ClientError> {
        let url = self.url(call);
        for tried in 1..=self.tries {
            match self.send_once(call, &url).await {
                Ok((status, body)) => return judge(&url, status, body),
                Err(error) if tried < self.tries && may_repeat(call, &error) => {
                    tokio::time::sleep(backoff(tried)).await;
                }
                Err(error) => return Err(self.unreachable(error)),
            }
        }
        unreachable!("the last try returns")
    }

    /// Sends a call, once, and returns its answer, whose body is to be read as it comes; nothing where a success has none.
    pub(crate) async fn open(&self, call: &Call<'_>) -> Result<Option<Response>, ClientError> {
        let url = self.url(call);
        let response = self.begin(call, &url).await.map_err(|error| self.unreachable(error))?;
        match response.status().as_u16() {
            200 => Ok(Some(response)),
            204 => Ok(None),
            status => {
                let body = bounded_body(response, self.patience.silence).await;
                judge(&url, status, body.map_err(|error| self.unreachable(error))?).map(|_| None)
            }
        }
    }

    /// Sends a call, and returns the status of its answer and its body; none of one that is over its bound.
    async fn send_once(&self, call: &Call<'_>, url: &Url) -> Result<(u16, Option<Bytes>), NoAnswer> {
        let response = self.begin(call, url).await?;
        let status = response.status().as_u16();
        let Patience { silence, answer } = self.patience;
        let body = timeout(answer, bounded_body(response, silence)).await;
        Ok((status, body.map_err(|_| NoAnswer::Endless(answer))??))
    }

    /// Sends a call, and returns its answer as soon as that begins.
    async fn begin(&self, call: &Call<'_>, url: &Url) -> Result<Response, NoAnswer> {
        let mut request = self.http.request(call.method.clone(), url.clone());
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let sent = call.body.as_ref().map_or(0, |body| body.len() as u64);
        if call.method == Method::POST {
            // Sent without a body too: it is what a web page cannot do unasked.
            request = request.header(CONTENT_TYPE, "application/json");
            request = request.body(call.body.clone().unwrap_or_default());
        }
        if let Some(id) = &call.last_event_id {
            request = request.header("last-event-id", id);
        }
        let begins = self.patience.silence + call.waits + Duration::from_secs(sent / SENT_BYTES_A_SECOND);
        Ok(timeout(begins, request.send()).await.map_err(|_| NoAnswer::Silent(begins))??)
    }

    pub(crate) fn url(&self, call: &Call<'_>) -> Url {
        let mut url = self.base.clone();
        let mut path = url.path_segments_mut().expect("a URL that can be no base was refused");
        path.pop_if_empty().push("v1").extend(call.path);
        drop(path);
        url.set_query(None);
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        url
    }

    pub(crate) fn unreachable(&self, error: NoAnswer) -> ClientError {
        let source: BoxError = match error {
            NoAnswer::Http(error) => Box::new(error.without_url()),
            other => Box::new(other),
        };
        let url = shown::url(self.base.as_str().trim_end_matches('/')).into_owned();
        ClientError::Unreachable { url, source }
    }
}

/// Returns how long to wait after so many tries in a row that failed.
pub(crate) fn backoff(failed: u32) -> Duration {
    BACKOFF_FIRST.saturating_mul(1 << failed.saturating_sub(1).min(10)).min(BACKOFF_MAX)
}

/// Reads a body; none where it is over its bound.
async fn bounded_body(mut response: Response, silence: Duration) -> Result<Option<Bytes>, NoAnswer> {
    if response.content_length().is_some_and(|length| length > ANSWER_BYTES_MAX as u64) {
        return Ok(None);
    }
    let mut body = Vec::new();
    while let Some(chunk) =
        timeout(silence, response.chunk()).await.map_err(|_| NoAnswer::Silent(silence))??
    {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body.into()))
}

/// Returns the body of a success, or the error in the others.
fn judge(url: &Url, status: u16, body: Option<Bytes>) -> Result<Bytes, ClientError> {
    let malformed = |why: String| malformed(url, why);
    let Some(body) = body else {
        let most = ANSWER_BYTES_MAX / (1024 * 1024);
        return Err(malformed(format!("its answer is over {most} MiB, and none of a midge server is")));
    };
    if (200..300).contains(&status) {
        return Ok(body);
    }
    match serde_json::from_slice::<ApiError>(&body) {
        Ok(error) => Err(ClientError::Refused { status, error }),
        Err(_) => Err(malformed(format!("it answers {status}, {}", beginning(&body)))),
    }
}

/// Returns the JSON value in a body.
pub(crate) fn decode<T: serde::de::DeserializeOwned>(url: &Url, body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|error| {
        malformed(url, format!("its answer is not understood ({error}): {}", beginning(body)))
    })
}

/// Makes the error of an answer that is none of a server's.
pub(crate) fn malformed(url: &Url, why: String) -> ClientError {
    ClientError::Malformed { url: shown::url(url.as_str()).into_owned(), why }
}

fn beginning(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES_MAX)]);
    match text.trim() {
        "" => "and nothing else".to_owned(),
        text => format!("`{text}`"),
    }
}

/// Returns whether a call may be sent again that had no answer.
fn may_repeat(call: &Call<'_>, error: &NoAnswer) -> bool {
    match error {
        // Nothing of it can have reached a server, or twice is as good as once.
        NoAnswer::Http(error) => call.repeat == Repeat::Safe || error.is_connect() || error.is_builder(),
        // The server is there, and was waited for.
        NoAnswer::Silent(_) | NoAnswer::Endless(_) | NoAnswer::CutOff => false,
    }
}

/// Makes the TLS configuration without touching the process's default, and with roots that need no files.
fn tls() -> rustls::ClientConfig {
    let roots = rustls::RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring's cipher suites are those of TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);
    const SHORT: Duration = Duration::from_millis(50);
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

    /// Calls a server that answers with a head and, for ever, with what follows it; and returns what comes of it, and how
    /// often it was called.
    async fn called(head: &str, more: &str, patience: Patience) -> (ClientError, u32) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let transport = Transport { patience, ..Transport::new(&url).unwrap() };
        let mut calls = 0;
        let server = async {
            let mut held = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                calls += 1;
                assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
                stream.write_all(head.as_bytes()).await.unwrap();
                while !more.is_empty() && stream.write_all(more.as_bytes()).await.is_ok() {}
                held.push(stream);
            }
        };
        let call = Call::get(&["queues"]);
        let error = tokio::select! {
            () = server => unreachable!("it accepts for ever"),
            answer = transport.send(&call) => answer.unwrap_err(),
        };
        (error, calls)
    }

    fn why(error: &ClientError) -> String {
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
        std::error::Error::source(error).unwrap().to_string()
    }

    #[tokio::test]
    async fn a_server_that_takes_a_call_and_says_nothing_is_given_up_and_not_asked_again() {
        for head in ["", "HTTP/1.1 200", CHUNKED] {
            let (error, calls) = called(head, "", Patience { silence: SHORT, answer: LONG }).await;
            assert_eq!((why(&error).as_str(), calls), ("it took the call, and said nothing for 50ms", 1));
        }
    }

    #[tokio::test]
    async fn no_error_has_the_password_of_a_url() {
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        for url in ["ftp://me:pass@host", "http://me:pa/ss@host", "me:pass@host", "http://me:pass@[::1"] {
            let error = Transport::new(url).unwrap_err().to_string();
            assert!(!error.contains("me:") && error.contains("***@"), "{error}");
        }
        for url in [
            "http://me:pass",
            "https://me:pass/x",
            "http://me:pass?word=pass",
            "me:pass",
            "http://me:1pass#pass",
        ] {
            let error = Transport::new(url).unwrap_err().to_string();
            assert!(!error.contains("pass"), "{error}");
            assert!(error.ends_with("use http://HOST:PORT or https://HOST"), "{error}");
        }
        let mut transport = Transport::new(&format!("http://me:pass@{nobody}")).unwrap();
        transport.set_tries(1);
        let error = transport.send(&Call::get(&["queues"])).await.unwrap_err();
        assert_eq!(error.to_string(), format!("no midge server answers at http://***@{nobody}"));
        let url = Url::parse("http://me:pass@host/v1/jobs").unwrap();
        let error = decode::<ApiError>(&url, b"no").unwrap_err().to_string();
        assert!(error.contains("http://***@host/v1/jobs") && !error.contains("pass"), "{error}");
    }

    #[test]
    fn a_url_with_what_is_not_sent_is_refused_and_not_cut() {
        for url in ["http://host/?token=pass", "http://host?", "https://host/jobs#pass"] {
            let error = Transport::new(url).unwrap_err().to_string();
            assert!(error.contains("no `?` or `#`") && !error.contains("pass"), "{error}");
        }
        Transport::new("https://me:pass@host:8443/behind/a/path/").unwrap();
    }

    #[tokio::test]
    async fn an_answer_that_does_not_end_is_given_up() {
        let (error, calls) = called(CHUNKED, "", Patience { silence: LONG, answer: SHORT }).await;
        assert_eq!((why(&error).as_str(), calls), ("its answer has not ended after 50ms", 1));
    }

    #[tokio::test]
    async fn an_answer_over_its_bound_is_refused_however_it_comes() {
        let long = "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n";
        let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
        for (head, more) in [(long, ""), (CHUNKED, chunk.as_str())] {
            let (error, _) = called(head, more, Patience { silence: LONG, answer: LONG }).await;
            assert!(matches!(error, ClientError::Malformed { .. }), "{error:?}");
            let text = error.to_string();
            assert!(text.ends_with("its answer is over 64 MiB, and none of a midge server is"), "{text}");
        }
    }
}
