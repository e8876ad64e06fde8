//! HTTP to the server: one exchange at a time over a few kept connections.
//!
//! Invariant: plain HTTP/1.1. Machines reach their server on a private network, which is encrypted already.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use midge_core::exchange::ANSWER_TIMEOUT;
use midge_protocol::exchange::{self, Answer, PROTOCOL, PROTOCOL_HEADER, Request};
use midge_protocol::{MachineName, Secret, limits};
use tokio::net::TcpStream;

use crate::errors::whole;
use crate::settings::ServerUrl;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that are kept: for the parked request, the one that speaks, and one in between.
const IDLE_MAX: usize = 3;
/// Of an error's body, what is shown.
const ERROR_BYTES_MAX: usize = 500;

/// The way to the server.
pub struct Link {
    server: ServerUrl,
    path: String,
    bearer: HeaderValue,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

/// Why an exchange has no answer.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Stop everything: this Machine has no right here any more.
    #[error("the server does not know this Machine any more ({0})")]
    Gone(String),
    /// Give up: no later try will be understood.
    #[error("the server speaks another protocol than {PROTOCOL}: {0}")]
    OtherProtocol(String),
    /// Try again at once: a kept connection had been closed.
    #[error("the connection went stale")]
    Stale,
    /// Try again after a while.
    #[error("{0}")]
    Unavailable(String),
}

impl Link {
    /// Prepares the way; nothing is connected yet.
    pub fn new(server: ServerUrl, machine: &MachineName, secret: &Secret) -> anyhow::Result<Link> {
        let path = format!("{}/v1/machines/{machine}/exchange", server.prefix);
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", secret.expose()))?;
        bearer.set_sensitive(true);
        Ok(Link { server, path, bearer, idle: Mutex::default() })
    }

    /// Makes one exchange.
    pub async fn exchange(&self, request: &Request) -> Result<Answer, LinkError> {
        let limit = Duration::from_millis(request.wait_ms.into()) + ANSWER_TIMEOUT;
        let exchange = self.exchange_unbounded(exchange::encode(request));
        tokio::time::timeout(limit, exchange).await.unwrap_or_else(|_| {
            Err(LinkError::Unavailable(format!("no answer within {} s", limit.as_secs())))
        })
    }

    async fn exchange_unbounded(&self, body: Bytes) -> Result<Answer, LinkError> {
        let (mut sender, kept) = match self.take_idle() {
            Some(sender) => (sender, true),
            None => (self.connect().await?, false),
        };
        let request = hyper::Request::builder()
            .method(Method::POST)
            .uri(&self.path)
            .header(HOST, &self.server.authority)
            .header(AUTHORIZATION, self.bearer.clone())
            .header(CONTENT_TYPE, exchange::CONTENT_TYPE)
            .header(PROTOCOL_HEADER, PROTOCOL)
            .body(Full::new(body))
            .map_err(|e| LinkError::Unavailable(format!("the request cannot be made: {e}")))?;
        let response = match sender.send_request(request).await {
            Ok(response) => response,
            Err(_) if kept => return Err(LinkError::Stale),
            Err(e) => return Err(LinkError::Unavailable(format!("the connection broke: {}", whole(&e)))),
        };
        let status = response.status();
        let protocol = response
            .headers()
            .get(PROTOCOL_HEADER)
            .map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
        let body = Limited::new(response.into_body(), limits::EXCHANGE_BODY_BYTES_MAX).collect().await;
        let body = body.map_err(|e| LinkError::Unavailable(format!("the answer broke off: {e}")))?.to_bytes();
        self.keep(sender);
        read_answer(status, protocol.as_deref(), &body)
    }

    /// Forgets the connections that are kept: nobody may be at their other ends.
    pub fn forget(&self) {
        self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    }

    fn take_idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        idle.retain(|sender| !sender.is_closed());
        idle.pop()
    }

    fn keep(&self, sender: SendRequest<Full<Bytes>>) {
        let mut idle = self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if idle.len() < IDLE_MAX && !sender.is_closed() {
            idle.push(sender);
        }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, LinkError> {
        let failed =
            |e: String| LinkError::Unavailable(format!("cannot reach {}: {e}", self.server.authority));
        let connect = TcpStream::connect((self.server.host.as_str(), self.server.port));
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect)
            .await
            .map_err(|_| failed(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs())))?
            .map_err(|e| failed(e.to_string()))?;
        stream.set_nodelay(true).map_err(|e| failed(e.to_string()))?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| failed(e.to_string()))?;
        // Ends with its sender; what it has to say about errors, the sender says too.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }
}

fn read_answer(status: StatusCode, protocol: Option<&str>, body: &[u8]) -> Result<Answer, LinkError> {
    let text = || {
        let text = String::from_utf8_lossy(&body[..body.len().min(ERROR_BYTES_MAX)]);
        format!("{} {}", status.as_u16(), text.trim())
    };
    match status.as_u16() {
        200 => {}
        401 | 403 | 404 | 410 => return Err(LinkError::Gone(text())),
        426 => return Err(LinkError::OtherProtocol(text())),
        _ => return Err(LinkError::Unavailable(format!("the server answered {}", text()))),
    }
    match protocol {
        Some(ours) if ours == PROTOCOL.to_string() => {}
        Some(other) => return Err(LinkError::OtherProtocol(format!("it answers in protocol {other}"))),
        // Something that stands between, such as a proxy's page, may go away again.
        None => {
            let why = format!(
                "what answered is no midge server: it sent no header `{PROTOCOL_HEADER}`, but {}",
                text()
            );
            return Err(LinkError::Unavailable(why));
        }
    }
    exchange::decode(body).map_err(|e| LinkError::Unavailable(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_says_whether_to_stop_give_up_or_try_again() {
        let read = |status: u16, protocol: Option<&str>, body: &[u8]| {
            read_answer(StatusCode::from_u16(status).unwrap(), protocol, body)
        };
        let (ours, other) = (PROTOCOL.to_string(), (PROTOCOL + 1).to_string());
        let good = exchange::encode(&Answer { drain: true, ..Answer::default() });
        assert!(read(200, Some(ours.as_str()), &good).unwrap().drain);
        for status in [401, 403, 404, 410] {
            assert!(
                matches!(read(status, Some(ours.as_str()), b"revoked"), Err(LinkError::Gone(why)) if why.contains("revoked"))
            );
        }
        assert!(matches!(read(426, None, b""), Err(LinkError::OtherProtocol(_))));
        assert!(matches!(read(200, Some(other.as_str()), &good), Err(LinkError::OtherProtocol(_))));
        for status in [400, 429, 500, 503] {
            assert!(matches!(read(status, None, b""), Err(LinkError::Unavailable(_))));
        }
        assert!(matches!(read(200, Some(ours.as_str()), b"<html>"), Err(LinkError::Unavailable(_))));
        for body in [&good[..], b"<html>"] {
            let Err(LinkError::Unavailable(why)) = read(200, None, body) else {
                panic!("it was taken for an answer")
            };
            assert!(why.contains("no header `midge-protocol`"), "{why}");
        }
    }
}
