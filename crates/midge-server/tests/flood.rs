//! Under a flood of strangers and slow clients, hosts and callers get through, and those who wait are not cut.
//!
//! A process of its own: it has hundreds of connections open, and a deadline that others' work would use up.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use midge_protocol::exchange;
use midge_protocol::limits::{ENQUEUE_BODY_BYTES_MAX, EXCHANGE_BODY_BYTES_MAX};
use midge_server::{ConnectionLimits, Connections, Counts};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[path = "all/stage.rs"]
#[expect(dead_code, reason = "a flood needs a part of the stage")]
mod stage;

use stage::{HELLO, Host, LATER, Server};

/// The longest that anything may take.
const DEADLINE: Duration = Duration::from_secs(10);
const NEVER: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(20);
const CALLER: &str = "host: x\r\nauthorization: Bearer s3cret\r\ncontent-type: application/json";

fn limits() -> ConnectionLimits {
    ConnectionLimits { head: NEVER, idle: NEVER, still: NEVER, ..ConnectionLimits::of(32) }
}

/// A server that listens on a port.
struct Listening {
    address: SocketAddr,
    connections: Connections,
}

impl Listening {
    async fn on(server: &Server, limits: ConnectionLimits) -> Listening {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Connections::new(limits);
        let never = std::future::pending();
        tokio::spawn(midge_server::serve(listener, server.midge.router(), connections.clone(), never));
        Listening { address, connections }
    }

    /// Connects, and says something.
    async fn say(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    /// Waits until the counts of connections are such.
    async fn until(&self, is: impl Fn(Counts) -> bool) {
        let began = Instant::now();
        while !is(self.connections.counts()) {
            assert!(began.elapsed() < DEADLINE, "{:?}", self.connections.counts());
            tokio::task::yield_now().await;
        }
    }

    /// Sends a request, whose connection is closed afterwards, and returns the answer.
    async fn ask(&self, request: &str, body: &[u8]) -> String {
        let head = format!("{request}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        let stream = self.say(&[head.as_bytes(), body].concat()).await;
        rest(stream).await
    }
}

/// Returns all that comes until the server closes.
async fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.expect("it is closed");
    read.unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn exchange_head(host: &Host) -> String {
    let (header, protocol) = (exchange::PROTOCOL_HEADER, exchange::PROTOCOL);
    let (path, right) = (host.path(), host.bearer());
    format!("POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: {right}\r\n{header}: {protocol}")
}

#[tokio::test]
async fn a_host_and_a_caller_get_through_a_flood_and_those_who_wait_are_not_cut() {
    let mut server = Server::with_token().await;
    server.enqueued(HELLO).await;
    let mut host = server.host().await;
    let listening = Listening::on(&server, limits()).await;
    // A host phones home, and a caller waits for the job.
    let head = exchange_head(&host);
    let answer = listening.ask(&head, &exchange::encode(&host.request(0))).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let id = server.midge.jobs(Default::default()).await.unwrap().jobs[0].id;
    let wait = format!("GET /v1/jobs/{id}/wait?timeout_ms=60000 HTTP/1.1\r\n{CALLER}\r\n\r\n");
    let _waiting = listening.say(wait.as_bytes()).await;
    // Another exchange of the host is parked.
    let parked = exchange::Request { wait_ms: 10_000, ..host.request(0) };
    let parked = exchange::encode(&parked);
    let parked_head = format!("{head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", parked.len());
    let parked = listening.say(&[parked_head.as_bytes(), &parked].concat()).await;
    listening.until(|counts| (counts.callers, counts.hosts) == (1, 1)).await;

    let mut flood: Vec<TcpStream> = Vec::new();
    for n in 0..600 {
        let said = [
            "",
            "POST /v1/jobs HTTP/1.1\r\nhost: x\r\n",
            "POST /v1/jobs HTTP/1.1\r\ncontent-length: 99\r\n\r\n",
        ];
        flood.push(listening.say(said[n % 3].as_bytes()).await);
    }
    let answer = listening.ask(&format!("POST /v1/jobs HTTP/1.1\r\n{CALLER}"), HELLO.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""id":""#), "{answer}");
    // The newest request of the host has the parked one answered: both get through, since neither was cut.
    let newer = exchange::encode(&host.request(1));
    assert!(listening.ask(&head, &newer).await.starts_with("HTTP/1.1 200"));
    assert!(rest(parked).await.starts_with("HTTP/1.1 200"));
    let counts = listening.connections.counts();
    assert!(counts.strangers <= 9 && counts.callers >= 1 && counts.refused == 0, "{counts:?}");
    assert!(counts.gave_way >= 300, "{counts:?}");
}

#[tokio::test]
async fn callers_that_wait_do_not_keep_hosts_out() {
    let mut server = Server::with_token().await;
    server.enqueued(HELLO).await;
    let mut host = server.host().await;
    let id = server.midge.jobs(Default::default()).await.unwrap().jobs[0].id;
    let listening = Listening::on(&server, limits()).await;
    let wait = format!("GET /v1/jobs/{id}/wait?timeout_ms=60000 HTTP/1.1\r\n{CALLER}\r\n\r\n");
    let mut waiting = Vec::new();
    for n in 1..=16 {
        waiting.push(listening.say(wait.as_bytes()).await);
        listening.until(|counts| counts.callers == n).await;
    }
    let refused = listening.ask(&format!("GET /v1/queues HTTP/1.1\r\n{CALLER}"), b"").await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 1"), "{refused}");
    assert!(refused.contains(r#""code":"busy""#), "{refused}");
    let answer = listening.ask(&exchange_head(&host), &exchange::encode(&host.request(1))).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Returns a request of a host, with all of its body or a part of it.
fn sent(head: &str, body: &[u8], of_body: usize) -> Vec<u8> {
    let head = format!("{head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    [head.as_bytes(), &body[..of_body]].concat()
}

#[tokio::test]
async fn one_host_does_not_keep_others_out_and_has_its_room_back_when_it_lets_go() {
    let mut server = Server::with_token().await;
    for _ in 0..3 {
        server.enqueued(HELLO).await;
    }
    let (mut greedy, mut other) = (server.host().await, server.host().await);
    let listening = Listening::on(&server, limits()).await;
    let (head, news) = (exchange_head(&greedy), exchange::encode(&greedy.request(0)));
    assert!(listening.ask(&head, &news).await.starts_with("HTTP/1.1 200"));
    // Some say the same at the same time, so that none has the others answered; some do not send all of it.
    let parked = exchange::encode(&exchange::Request { wait_ms: 10_000, ..greedy.request(0) });
    let mut held = Vec::new();
    for n in 1..=4 {
        held.push(listening.say(&sent(&head, &parked, parked.len() - n % 2)).await);
        listening.until(|counts| counts.hosts == n).await;
    }
    for _ in 0..30 {
        let refused = rest(listening.say(&sent(&head, &parked, parked.len())).await).await;
        assert!(refused.starts_with("HTTP/1.1 429") && refused.contains("retry-after: 1"), "{refused}");
        assert!(refused.contains(r#""code":"too_many_exchanges""#), "{refused}");
    }
    let answer = listening.ask(&exchange_head(&other), &exchange::encode(&other.request(1))).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let answer = listening.ask(&format!("GET /v1/queues HTTP/1.1\r\n{CALLER}"), b"").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(held.pop());
    listening.until(|counts| counts.hosts < 4).await;
    assert!(listening.ask(&head, &news).await.starts_with("HTTP/1.1 200"));
    drop(held);
    listening.until(|counts| counts.hosts == 0).await;
}

#[tokio::test]
async fn the_right_of_one_host_opens_nothing_for_another_on_the_same_connection() {
    let mut server = Server::with_token().await;
    for _ in 0..3 {
        server.enqueued(HELLO).await;
    }
    let (mut one, other) = (server.host().await, server.host().await);
    let listening = Listening::on(&server, limits()).await;
    let head = format!("POST {} HTTP/1.1", other.path());
    let first = exchange::encode(&one.request(0));
    let kept = format!("{}\r\ncontent-length: {}\r\n\r\n", exchange_head(&one), first.len());
    let mut stream = listening.say(&[kept.as_bytes(), &first].concat()).await;
    listening.until(|counts| counts.hosts == 1).await;
    // Nothing of its body comes: it is refused before anybody asks for that.
    let foreign = exchange_head(&one).replace(&format!("POST {} HTTP/1.1", one.path()), &head);
    stream.write_all(&sent(&foreign, b"body", 0)).await.unwrap();
    stream.shutdown().await.unwrap();
    let answers = rest(stream).await;
    assert!(answers.starts_with("HTTP/1.1 200") && answers.contains("HTTP/1.1 403"), "{answers}");
    assert!(answers.contains(r#""code":"wrong_secret""#), "{answers}");
}

#[tokio::test]
async fn a_wait_and_a_parked_exchange_outlast_every_limit_on_what_stands_still() {
    let mut server = Server::with_token().await;
    server.enqueued(HELLO).await;
    let mut host = server.host().await;
    let short = ConnectionLimits { head: SOON, idle: SOON, still: SOON, ..limits() };
    let listening = Listening::on(&server, short).await;
    let id = server.enqueued(LATER).await;
    let wait =
        format!("GET /v1/jobs/{id}/wait?timeout_ms=60000 HTTP/1.1\r\n{CALLER}\r\nconnection: close\r\n\r\n");
    let waiting = listening.say(wait.as_bytes()).await;
    let head = exchange_head(&host);
    assert!(listening.ask(&head, &exchange::encode(&host.request(0))).await.starts_with("HTTP/1.1 200"));
    let parked = exchange::encode(&exchange::Request { wait_ms: 10_000, ..host.request(0) });
    let parked_head = format!("{head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", parked.len());
    let parked = listening.say(&[parked_head.as_bytes(), &parked].concat()).await;
    // Each of these has stood still for longer than may be.
    for _ in 0..5 {
        assert_eq!(rest(listening.say(b"POST /v1/jobs HTTP/1.1\r\n").await).await, "");
    }
    server.midge.cancel(id.parse().unwrap()).await.unwrap();
    assert!(rest(waiting).await.contains(r#""state":"cancelled""#));
    let newer = exchange::encode(&host.request(1));
    assert!(listening.ask(&head, &newer).await.starts_with("HTTP/1.1 200"));
    assert!(rest(parked).await.starts_with("HTTP/1.1 200"));
    assert_eq!(listening.connections.counts().stood_still, 5);
}

#[tokio::test]
async fn a_length_beyond_the_bound_is_refused_before_anything_is_sent() {
    let mut server = Server::with_token().await;
    server.enqueued(HELLO).await;
    let host = server.host().await;
    let listening = Listening::on(&server, limits()).await;
    for (head, max) in [
        (format!("POST /v1/jobs HTTP/1.1\r\n{CALLER}"), ENQUEUE_BODY_BYTES_MAX),
        (format!("POST /v1/jobs/bulk HTTP/1.1\r\n{CALLER}"), ENQUEUE_BODY_BYTES_MAX),
        (exchange_head(&host), EXCHANGE_BODY_BYTES_MAX),
    ] {
        let head = format!("{head}\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n", max + 1);
        let mut stream = listening.say(head.as_bytes()).await;
        stream.shutdown().await.unwrap();
        let answer = rest(stream).await;
        assert!(answer.starts_with("HTTP/1.1 413") && answer.contains(r#""code":"too_large""#), "{answer}");
    }
}
