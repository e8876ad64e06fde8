//! Under a flood of strangers and slow clients, hosts and callers get through, and those who wait are not cut.

use std::time::Duration;

use midge_protocol::limits::{ENQUEUE_BODY_BYTES_MAX, EXCHANGE_BODY_BYTES_MAX};
use midge_protocol::{Secret, exchange};
use midge_server::{Access, ConnectionLimits};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::stage::{Listening, Stage, TOKEN, claim, rest};

const NEVER: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(20);
const CALLER: &str = "host: x\r\nauthorization: Bearer s3cret\r\ncontent-type: application/json";

fn limits() -> ConnectionLimits {
    ConnectionLimits { head: NEVER, idle: NEVER, still: NEVER, ..ConnectionLimits::of(32) }
}

async fn enqueue(listening: &Listening) -> String {
    let answer =
        listening.ask(&format!("POST /v1/jobs HTTP/1.1\r\n{CALLER}"), br#"{"module": "hello"}"#).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str::<Value>(body).unwrap()["id"].as_str().unwrap().to_owned()
}

fn exchange_head(name: &str, secret: &str) -> String {
    let (header, protocol) = (exchange::PROTOCOL_HEADER, exchange::PROTOCOL);
    format!(
        "POST /v1/machines/{name}/exchange HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {secret}\r\n{header}: {protocol}"
    )
}

#[tokio::test]
async fn a_host_and_a_caller_get_through_a_flood_and_those_who_wait_are_not_cut() {
    let mut stage = Stage::set(Access::Token(Secret::new(TOKEN))).await;
    let (name, secret) = stage.machine().await;
    let listening = stage.listen(limits()).await;
    // A host phones home, and a caller waits for the job.
    let head = exchange_head(&name, &secret);
    let answer = listening.ask(&head, &exchange::encode(&claim(0, 0))).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let id = stage.midge.jobs(Default::default()).await.unwrap().jobs[0].id;
    let wait = format!("GET /v1/jobs/{id}/wait?timeout_ms=60000 HTTP/1.1\r\n{CALLER}\r\n\r\n");
    let _waiting = listening.say(wait.as_bytes()).await;
    // Another exchange of the host is parked.
    let parked = exchange::Request { seq: 2, ..claim(0, 10_000) };
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
    enqueue(&listening).await;
    // The newest request of the host has the parked one answered: both get through, since neither was cut.
    let newer = exchange::encode(&exchange::Request { seq: 3, ..claim(1, 0) });
    assert!(listening.ask(&head, &newer).await.starts_with("HTTP/1.1 200"));
    assert!(rest(parked).await.starts_with("HTTP/1.1 200"));
    let counts = listening.connections.counts();
    assert!(counts.strangers <= 9 && counts.callers >= 1 && counts.refused == 0, "{counts:?}");
    assert!(counts.gave_way >= 300, "{counts:?}");
}

#[tokio::test]
async fn callers_that_wait_do_not_keep_hosts_out() {
    let mut stage = Stage::set(Access::Token(Secret::new(TOKEN))).await;
    let (name, secret) = stage.machine().await;
    let id = stage.midge.jobs(Default::default()).await.unwrap().jobs[0].id;
    let listening = stage.listen(limits()).await;
    let wait = format!("GET /v1/jobs/{id}/wait?timeout_ms=60000 HTTP/1.1\r\n{CALLER}\r\n\r\n");
    let mut waiting = Vec::new();
    for n in 1..=16 {
        waiting.push(listening.say(wait.as_bytes()).await);
        listening.until(|counts| counts.callers == n).await;
    }
    let refused = listening.ask(&format!("GET /v1/queues HTTP/1.1\r\n{CALLER}"), b"").await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 1"), "{refused}");
    assert!(refused.contains(r#""code":"busy""#), "{refused}");
    let answer = listening.ask(&exchange_head(&name, &secret), &exchange::encode(&claim(1, 0))).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_wait_and_a_parked_exchange_outlast_every_limit_on_what_stands_still() {
    let mut stage = Stage::set(Access::Token(Secret::new(TOKEN))).await;
    let (name, secret) = stage.machine().await;
    let short = ConnectionLimits { head: SOON, idle: SOON, still: SOON, ..limits() };
    let listening = stage.listen(short).await;
    let id = stage.enqueue().await;
    let wait =
        format!("GET /v1/jobs/{id}/wait?timeout_ms=60000 HTTP/1.1\r\n{CALLER}\r\nconnection: close\r\n\r\n");
    let waiting = listening.say(wait.as_bytes()).await;
    let head = exchange_head(&name, &secret);
    assert!(listening.ask(&head, &exchange::encode(&claim(0, 0))).await.starts_with("HTTP/1.1 200"));
    let parked = exchange::encode(&exchange::Request { seq: 2, ..claim(0, 10_000) });
    let parked_head = format!("{head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", parked.len());
    let parked = listening.say(&[parked_head.as_bytes(), &parked].concat()).await;
    // Each of these has stood still for longer than may be.
    for _ in 0..5 {
        assert_eq!(rest(listening.say(b"POST /v1/jobs HTTP/1.1\r\n").await).await, "");
    }
    stage.midge.cancel(id.parse().unwrap()).await.unwrap();
    assert!(rest(waiting).await.contains(r#""state":"cancelled""#));
    let newer = exchange::encode(&exchange::Request { seq: 3, ..claim(1, 0) });
    assert!(listening.ask(&head, &newer).await.starts_with("HTTP/1.1 200"));
    assert!(rest(parked).await.starts_with("HTTP/1.1 200"));
    assert_eq!(listening.connections.counts().stood_still, 5);
}

#[tokio::test]
async fn a_length_beyond_the_bound_is_refused_before_anything_is_sent() {
    let mut stage = Stage::set(Access::Token(Secret::new(TOKEN))).await;
    let (name, secret) = stage.machine().await;
    let listening = stage.listen(limits()).await;
    for (head, max) in [
        (format!("POST /v1/jobs HTTP/1.1\r\n{CALLER}"), ENQUEUE_BODY_BYTES_MAX),
        (format!("POST /v1/jobs/bulk HTTP/1.1\r\n{CALLER}"), ENQUEUE_BODY_BYTES_MAX),
        (exchange_head(&name, &secret), EXCHANGE_BODY_BYTES_MAX),
    ] {
        let head = format!("{head}\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n", max + 1);
        let mut stream = listening.say(head.as_bytes()).await;
        tokio::io::AsyncWriteExt::shutdown(&mut stream).await.unwrap();
        let answer = rest(stream).await;
        assert!(answer.starts_with("HTTP/1.1 413") && answer.contains(r#""code":"too_large""#), "{answer}");
    }
}
