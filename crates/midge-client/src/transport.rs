//! Sends a call and reads its answer: URL, token, bounds, and another try where that is safe.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use midge_protocol::Secret;
use midge_protocol::api::ApiError;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Response, Url};

use crate::ClientError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Sending a largest input over a slow line takes this long; an answer that was waited for comes on top.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);
/// A page of the most jobs with the longest messages is well within it, and so is a result.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How often a call is tried where nothing else is said: over a second and a half, in which a server restarts.
const TRIES_DEFAULT: u32 = 5;
/// The wait before the second try, doubled for each that follows.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// What is shown of an answer that is not understood.
const SHOWN_BYTES_MAX: usize = 200;

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
}

impl Transport {
    pub(crate) fn new(base_url: &str) -> Result<Transport, ClientError> {
        let invalid =
            |why: String| ClientError::Invalid(format!("`{base_url}` is not a server's URL: {why}"));
        let base = Url::parse(base_url).map_err(|error| invalid(error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(invalid("use http://HOST:PORT or https://HOST".to_owned()));
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
        Ok(Transport { http, base, authorization: None, tries: TRIES_DEFAULT })
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

    /// Sends a call and returns the body of an answer that is a success.
    pub(crate) async fn send(&self, call: &Call<'_>) -> Result<Bytes, ClientError> {
        let url = self.url(call);
        let mut backoff = BACKOFF_FIRST;
        for tries_left in (0..self.tries).rev() {
            match self.send_once(call, &url).await {
                Ok((status, body)) => return judge(&url, status, body),
                Err(error) if tries_left > 0 && (call.repeat == Repeat::Safe || is_unsent(&error)) => {
                    tokio::time::sleep(backoff).await;
                    backoff = BACKOFF_MAX.min(backoff * 2);
                }
                Err(source) => return Err(self.unreachable(source)),
            }
        }
        unreachable!("the last try returns")
    }

    async fn send_once(&self, call: &Call<'_>, url: &Url) -> Result<(u16, Bytes), reqwest::Error> {
        let mut request = self.http.request(call.method.clone(), url.clone());
        request = request.timeout(CALL_TIMEOUT + call.waits);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        if call.method == Method::POST {
            // Sent without a body too: it is what a web page cannot do unasked.
            request = request.header(CONTENT_TYPE, "application/json");
            request = request.body(call.body.clone().unwrap_or_default());
        }
        let response = request.send().await?;
        Ok((response.status().as_u16(), bounded_body(response).await?))
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

    fn unreachable(&self, error: reqwest::Error) -> ClientError {
        let source = Box::new(error.without_url());
        ClientError::Unreachable { url: self.base.as_str().trim_end_matches('/').to_owned(), source }
    }
}

/// Reads a body up to its bound; what is beyond makes it one that is not understood.
async fn bounded_body(mut response: Response) -> Result<Bytes, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_BYTES_MAX {
            break;
        }
    }
    Ok(body.into())
}

/// Returns the body of a success, or the error in the others.
fn judge(url: &Url, status: u16, body: Bytes) -> Result<Bytes, ClientError> {
    let malformed = |why: String| ClientError::Malformed { url: url.to_string(), why };
    if body.len() > ANSWER_BYTES_MAX {
        return Err(malformed(format!("its answer is over {ANSWER_BYTES_MAX} bytes")));
    }
    if (200..300).contains(&status) {
        return Ok(body);
    }
    match serde_json::from_slice::<ApiError>(&body) {
        Ok(error) => Err(ClientError::Refused { status, error }),
        Err(_) => Err(malformed(format!("it answers {status}, {}", shown(&body)))),
    }
}

/// Returns the JSON value in a body.
pub(crate) fn decode<T: serde::de::DeserializeOwned>(url: &Url, body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|error| ClientError::Malformed {
        url: url.to_string(),
        why: format!("its answer is not understood ({error}): {}", shown(body)),
    })
}

fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES_MAX)]);
    match text.trim() {
        "" => "and nothing else".to_owned(),
        text => format!("`{text}`"),
    }
}

/// Returns whether nothing of the call can have reached a server.
fn is_unsent(error: &reqwest::Error) -> bool {
    error.is_connect() || error.is_builder()
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
