//! HTTP to the server: one exchange at a time over a few kept connections.
//!
//! Invariant: plain HTTP/1.1. Machines reach their server on a private network, which is encrypted already.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
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

/// The ways to the server. The one by which it answered last is tried first, and each try resolves its name anew: the server
/// may have moved.
pub struct Link {
    ways: Vec<Way>,
    /// The one that is tried first, by place.
    first: AtomicUsize,
    bearer: HeaderValue,
    idle: Mutex<Vec<Kept>>,
}

/// A way to the server.
struct Way {
    server: ServerUrl,
    path: String,
}

/// A connection to the server, and the way by which it was made.
struct Kept {
    sender: SendRequest<Full<Bytes>>,
    way: usize,
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
    pub fn new(servers: Vec<ServerUrl>, machine: &MachineName, secret: &Secret) -> anyhow::Result<Link> {
        let way = |server: ServerUrl| Way {
            path: format!("{}/v1/machines/{machine}/exchange", server.prefix),
            server,
        };
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", secret.expose()))?;
        bearer.set_sensitive(true);
        let ways = servers.into_iter().map(way).collect();
        Ok(Link { ways, first: AtomicUsize::new(0), bearer, idle: Mutex::default() })
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
        let (Kept { mut sender, way }, kept) = match self.take_idle() {
            Some(kept) => (kept, true),
            None => (self.connect().await?, false),
        };
        let Way { server, path } = &self.ways[way];
        let request = hyper::Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, &server.authority)
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
        self.keep(Kept { sender, way });
        let answer = read_answer(status, protocol.as_deref(), &body);
        if protocol.is_none() && matches!(answer, Err(LinkError::Unavailable(_))) {
            // Somebody else has the address now, or stands in front of the server.
            self.leaves(way);
        }
        answer
    }

    /// Has the next connection be tried by another way first.
    fn leaves(&self, way: usize) {
        self.first.store((way + 1) % self.ways.len(), Ordering::Relaxed);
        let mut idle = self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        idle.retain(|kept| kept.way != way);
    }

    /// Forgets the connections that are kept: nobody may be at their other ends.
    pub fn forget(&self) {
        self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    }

    fn take_idle(&self) -> Option<Kept> {
        let mut idle = self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        idle.retain(|kept| !kept.sender.is_closed());
        idle.pop()
    }

    fn keep(&self, kept: Kept) {
        let mut idle = self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if idle.len() < IDLE_MAX && !kept.sender.is_closed() {
            idle.push(kept);
        }
    }

    /// Connects by the first way that leads anywhere. Returns the first error where none does.
    async fn connect(&self) -> Result<Kept, LinkError> {
        let first = self.first.load(Ordering::Relaxed);
        let mut failed = None;
        for way in (0..self.ways.len()).map(|number| (first + number) % self.ways.len()) {
            match connect(&self.ways[way].server).await {
                Ok(sender) => {
                    self.first.store(way, Ordering::Relaxed);
                    return Ok(Kept { sender, way });
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(failed.unwrap_or_else(|| LinkError::Unavailable("no way to the server is known".to_owned())))
    }
}

async fn connect(server: &ServerUrl) -> Result<SendRequest<Full<Bytes>>, LinkError> {
    let failed = |e: String| LinkError::Unavailable(format!("cannot reach {}: {e}", server.authority));
    // The name is looked up at each connection, and nowhere kept.
    let connect = TcpStream::connect((server.host.as_str(), server.port));
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
    use midge_protocol::BootId;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn request() -> Request {
        Request {
            boot: BootId(1),
            seq: 1,
            room: 1,
            wait_ms: 0,
            leaving: false,
            running: Vec::new(),
            finished: Vec::new(),
            log: Vec::new(),
            saved: Vec::new(),
        }
    }

    /// Answers one exchange at an address, and goes away.
    async fn answer_one(listener: TcpListener, protocol: &str) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await.unwrap();
        let body = exchange::encode(&Answer::default());
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{protocol}\r\n", body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
        stream.shutdown().await.unwrap();
    }

    async fn listener() -> (TcpListener, ServerUrl) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        (listener, url)
    }

    fn link(servers: Vec<ServerUrl>) -> Link {
        Link::new(servers, &MachineName::new("m").unwrap(), &Secret::new("s")).unwrap()
    }

    #[tokio::test]
    async fn a_server_that_is_not_where_it_was_is_found_by_the_next_way_which_is_then_the_first() {
        let ((gone, before), (moved, now)) = (listener().await, listener().await);
        drop(gone);
        let link = link(vec![before, now]);
        let protocol = format!("{PROTOCOL_HEADER}: {PROTOCOL}\r\n");
        let request = request();
        let (_, answer) = tokio::join!(answer_one(moved, &protocol), link.exchange(&request));
        answer.unwrap();
        assert_eq!(link.first.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn whoever_has_the_server_s_old_address_is_left_for_the_next_way() {
        let ((other, before), (_moved, now)) = (listener().await, listener().await);
        let link = link(vec![before, now]);
        let request = request();
        let (_, answer) = tokio::join!(answer_one(other, ""), link.exchange(&request));
        assert!(matches!(answer, Err(LinkError::Unavailable(_))));
        assert_eq!(link.first.load(Ordering::Relaxed), 1);
        assert!(link.take_idle().is_none(), "nor is its connection kept");
    }

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
