//! Slow clients, floods and those that are no HTTP, over real sockets; limits are as short as each test needs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Extension;
use axum::http::StatusCode;
use axum::routing::{get, post};
use midge_listen::{Connection, ConnectionLimits, Connections, Counts, Peer, serve};
use midge_protocol::api::ApiError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::JoinHandle;

const DEADLINE: Duration = Duration::from_secs(60);
/// No limit: nothing in a test takes so long.
const NEVER: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(20);

fn limits(connections: usize) -> ConnectionLimits {
    ConnectionLimits { head: NEVER, idle: NEVER, still: NEVER, ..ConnectionLimits::of(connections) }
}

struct Server {
    address: SocketAddr,
    connections: Connections,
    /// Lets answers of `/wait` go.
    go: Arc<Notify>,
    /// Has a permit for each request that has come to `/wait`.
    asked: Arc<Semaphore>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl Server {
    async fn start(limits: ConnectionLimits) -> Server {
        let go = Arc::new(Notify::new());
        let asked = Arc::new(Semaphore::new(0));
        let waits = (go.clone(), asked.clone());
        let wait = move || {
            let (go, asked) = waits.clone();
            async move {
                let gone = go.notified();
                asked.add_permits(1);
                gone.await;
                "waited"
            }
        };
        let known = |Extension(connection): Extension<Connection>| async move {
            match connection.belongs_to(&Peer::Caller) {
                Ok(()) => StatusCode::OK,
                Err(_) => StatusCode::SERVICE_UNAVAILABLE,
            }
        };
        let host = |Extension(connection): Extension<Connection>| async move {
            connection.belongs_to(&Peer::Host("m".into())).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
        };
        let app = Router::new()
            .route("/", get(|| async { "ok" }))
            .route("/wait", get(wait))
            .route("/caller", get(known))
            .route("/host", get(host))
            .route("/large", get(|| async { vec![0u8; 64 * 1024 * 1024] }))
            .route("/refuse", post(|| async { (StatusCode::PAYLOAD_TOO_LARGE, "too large") }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Connections::new(limits);
        let (stop, stopped) = oneshot::channel();
        let serve = serve(listener, app, connections.clone(), async { drop(stopped.await) });
        Server { address, connections, go, asked, stop, served: tokio::spawn(serve) }
    }

    /// Sends a request whose answer waits, and returns when it has come to its route.
    async fn send_waiting(&self) -> TcpStream {
        let stream = self.send("GET /wait HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        self.asked.acquire().await.unwrap().forget();
        stream
    }

    async fn send(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    async fn get(&self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        rest(self.send(&request).await).await
    }

    /// Waits until the counts are such.
    async fn until(&self, what: &str, is: impl Fn(Counts) -> bool) {
        let began = Instant::now();
        while !is(self.connections.counts()) {
            assert!(began.elapsed() < DEADLINE, "{what}: {:?}", self.connections.counts());
            tokio::task::yield_now().await;
        }
    }
}

/// Returns all that comes until the server closes, if by a reset.
async fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.expect("it is closed");
    String::from_utf8(bytes).unwrap()
}

/// Reads the head of an answer, and leaves the connection open.
async fn head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

const HALF: &str = "POST / HTTP/1.1\r\nhost: x\r\n";

#[tokio::test]
async fn a_flood_of_half_sent_requests_keeps_nobody_out() {
    let server = Server::start(limits(16)).await;
    let mut flood = Vec::new();
    for _ in 0..200 {
        flood.push(server.send(HALF).await);
    }
    for path in ["/", "/caller", "/host"] {
        assert!(server.get(path).await.starts_with("HTTP/1.1 200"), "{path}");
    }
    let counts = server.connections.counts();
    assert!(counts.strangers <= 4 && counts.gave_way >= 196 && counts.refused == 0, "{counts:?}");
}

#[tokio::test]
async fn connections_that_say_nothing_keep_nobody_out() {
    let server = Server::start(limits(16)).await;
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(server.send("").await);
    }
    assert!(server.get("/caller").await.starts_with("HTTP/1.1 200"));
    assert!(server.connections.counts().strangers <= 4);
}

#[tokio::test]
async fn a_request_whose_head_does_not_come_is_given_up() {
    let server = Server::start(ConnectionLimits { head: SOON, ..limits(64) }).await;
    for said in ["", HALF] {
        assert_eq!(rest(server.send(said).await).await, "");
    }
    // A head of which a byte comes now and then is not on its way either.
    let mut slow = server.send("G").await;
    let began = Instant::now();
    while slow.write_all(b"E").await.is_ok() {
        assert!(began.elapsed() < DEADLINE, "it is held for ever");
        tokio::task::yield_now().await;
    }
    server.until("all are closed", |counts| counts.strangers == 0 && counts.stood_still == 3).await;
}

#[tokio::test]
async fn a_kept_connection_that_is_idle_is_closed_and_one_whose_answer_waits_is_not() {
    let server = Server::start(ConnectionLimits { head: SOON, idle: SOON, still: SOON, ..limits(64) }).await;
    let waiting = server.send_waiting().await;
    for _ in 0..5 {
        let mut kept = server.send("GET /caller HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(head(&mut kept).await.starts_with("HTTP/1.1 200"));
        assert_eq!(rest(kept).await, "");
    }
    server.go.notify_one();
    assert!(rest(waiting).await.ends_with("waited"));
    server.until("five stood still", |counts| counts.stood_still == 5).await;
}

#[tokio::test]
async fn an_answer_that_its_receiver_does_not_take_is_given_up() {
    let server = Server::start(ConnectionLimits { still: SOON, ..limits(64) }).await;
    let mut stream = server.send("GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 200"));
    server.until("it is closed", |counts| counts.strangers == 0 && counts.stood_still == 1).await;
}

#[tokio::test]
async fn where_all_are_being_answered_a_new_one_is_told_so() {
    let server = Server::start(limits(4)).await;
    let mut waiting = Vec::new();
    for _ in 0..4 {
        waiting.push(server.send_waiting().await);
    }
    let refused = server.get("/").await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 1"), "{refused}");
    assert_eq!(error(&refused).code, "busy");
    server.go.notify_waiters();
    for stream in waiting {
        assert!(rest(stream).await.ends_with("waited"));
    }
    server.until("all have gone", |counts| counts.strangers == 0).await;
    assert!(server.get("/").await.ends_with("ok"));
}

fn error(answer: &str) -> ApiError {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: application/json") && head.contains("nosniff"), "{head}");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

#[tokio::test]
async fn what_is_no_http_is_answered_as_every_other_error() {
    let server = Server::start(limits(64)).await;
    let long = "x".repeat(70_000);
    let many: String = (0..200).map(|n| format!("h{n}: 1\r\n")).collect();
    for (sent, status, code) in [
        ("NONSENSE\r\n\r\n".to_owned(), 400, "not_http"),
        ("GET / HTTP/9.9\r\n\r\n".to_owned(), 400, "not_http"),
        ("GET / HTTP/1.1\r\nbad header\r\n\r\n".to_owned(), 400, "not_http"),
        (format!("GET /{} HTTP/1.1\r\nconnection: close\r\n\r\n", &long[..9_000]), 414, "uri_too_long"),
        (format!("GET /{long} HTTP/1.1\r\n\r\n"), 431, "head_too_large"),
        (format!("GET / HTTP/1.1\r\nx: {long}\r\n\r\n"), 431, "head_too_large"),
        (format!("GET / HTTP/1.1\r\n{many}\r\n"), 431, "head_too_large"),
        // After a request that was answered as it should be.
        ("GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 400, "not_http"),
    ] {
        let mut stream = server.send(&sent).await;
        if sent.starts_with("GET / HTTP/1.1\r\nhost: x\r\n\r\n") {
            assert!(head(&mut stream).await.starts_with("HTTP/1.1 200"));
            stream.read_exact(&mut [0; 2]).await.unwrap();
            stream.write_all(b"\0\r\n\r\n").await.unwrap();
        }
        let answer = rest(stream).await;
        let start = &sent[..sent.len().min(40)];
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{start}: {answer}");
        assert_eq!(error(&answer).code, code, "{start}");
    }
}

#[tokio::test]
async fn who_is_refused_before_all_was_sent_can_read_why() {
    let server = Server::start(limits(64)).await;
    let length = 16 * 1024 * 1024;
    let mut stream =
        server.send(&format!("POST /refuse HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n")).await;
    for _ in 0..length / 65_536 {
        stream.write_all(&[0; 65_536]).await.unwrap();
    }
    let answer = rest(stream).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.ends_with("too large"), "{answer}");
}

#[tokio::test]
async fn a_stop_ends_idle_connections_and_waits_for_answers() {
    let server = Server::start(limits(64)).await;
    let mut idle = server.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(head(&mut idle).await.starts_with("HTTP/1.1 200"));
    let waiting = server.send_waiting().await;
    server.stop.send(()).unwrap();
    assert_eq!(rest(idle).await, "ok");
    server.go.notify_one();
    assert!(rest(waiting).await.ends_with("waited"));
    tokio::time::timeout(DEADLINE, server.served).await.expect("it ends").unwrap();
}
