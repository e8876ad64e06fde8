//! Following a job over HTTP: what is told and in which order, who comes back, and who does not read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, BodyDataStream};
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use futures_util::StreamExt;
use midge_core::{Ending, JobState};
use midge_protocol::exchange::{self, AttemptRef, LogChunk, Outcome, Running};
use midge_protocol::job::{Cause, Failure, Progress};
use midge_protocol::manifest::QueuePolicy;
use midge_protocol::news::{JobNews, Position};
use midge_protocol::{AttemptNumber, JobId, limits};
use midge_server::{ConnectionLimits, Connections, Midge, ServiceError};
use midge_store::conformance::fixtures::at;
use midge_store::{MemoryStore, Store};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tower::ServiceExt;

use crate::stage::{HELLO, Host, LATER, Server, done, running};

const DEADLINE: Duration = Duration::from_secs(60);
const NEVER: Duration = Duration::from_secs(3600);

/// A connection that follows, as a browser would.
struct Events {
    body: BodyDataStream,
    text: String,
}

#[derive(Debug, Clone, PartialEq)]
struct Event {
    id: String,
    name: String,
    data: Value,
}

impl Events {
    async fn of(midge: &Midge, id: impl std::fmt::Display, last: Option<&str>) -> Events {
        let mut request = Request::get(format!("/v1/jobs/{id}/events")).header("host", "localhost");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let reply = midge.router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(reply.status(), StatusCode::OK);
        let header = |name: &str| reply.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(
            (header("content-type"), header("cache-control")),
            ("text/event-stream".into(), "no-store".into())
        );
        Events { body: reply.into_body().into_data_stream(), text: String::new() }
    }

    /// Returns the next event; nothing where the server has ended the answer.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let line = event.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
                    line.unwrap_or_else(|| panic!("no {name} in {event}")).to_owned()
                };
                let data = serde_json::from_str(&field("data")).unwrap();
                let event = Event { id: field("id"), name: field("event"), data };
                self.text = rest.to_owned();
                return Some(event);
            }
            let piece = tokio::time::timeout(DEADLINE, self.body.next()).await.expect("something is told")?;
            self.text += std::str::from_utf8(&piece.unwrap()).unwrap();
        }
    }

    async fn is_told(&mut self, name: &str) -> Event {
        let event = self.next().await.unwrap_or_else(|| panic!("{name} is not told"));
        assert_eq!(event.name, name, "{event:?}");
        event
    }
}

fn chunk(attempt: AttemptRef, offset: u64, bytes: &[u8]) -> LogChunk {
    LogChunk { attempt, offset, bytes: Bytes::copy_from_slice(bytes) }
}

async fn says(host: &mut Host, attempt: AttemptRef, offset: u64, bytes: &[u8]) -> exchange::Answer {
    let running = vec![Running { attempt, progress: None }];
    let request = exchange::Request { running, log: vec![chunk(attempt, offset, bytes)], ..host.request(0) };
    host.exchange(&request).await
}

fn exited() -> Outcome {
    Outcome::Failed(Failure::new(Cause::Exit, "no"))
}

#[tokio::test]
async fn a_follower_is_told_log_progress_and_ends_as_they_come_and_then_no_more() {
    let mut server = Server::start().await;
    let id = server.enqueued(json!({"module": "hello", "backoff": {"fixed": {"wait_ms": 3_600_000}}})).await;
    let mut events = Events::of(&server.midge, &id, None).await;
    assert_eq!(events.is_told("state").await.data["state"], "available");
    let mut host = server.host().await;
    let first = host.claim(1).await.jobs[0].attempt;
    let state = events.is_told("state").await;
    assert_eq!((state.data["state"].as_str(), state.data["attempt"].as_u64()), (Some("running"), Some(1)));
    assert_eq!(state.data["machine"], host.name);

    says(&mut host, first, 0, b"one\ntwo").await;
    let log = events.is_told("log").await;
    assert_eq!(log.data, json!({"attempt": 1, "offset": 0, "text": "one\ntwo"}));
    assert_eq!(log.id, "1:7");
    let progress = Some(Progress { done: 1, total: 2, message: "half".to_owned() });
    let request =
        exchange::Request { running: vec![Running { attempt: first, progress }], ..host.request(0) };
    host.exchange(&request).await;
    let progress = events.is_told("progress").await;
    assert_eq!(progress.data, json!({"attempt": 1, "progress": {"done": 1, "total": 2, "message": "half"}}));

    // The rest of the log comes with the end.
    let finished = vec![crate::stage::finished(first, exited())];
    let request = exchange::Request { finished, log: vec![chunk(first, 7, b"\xff")], ..host.request(0) };
    host.exchange(&request).await;
    assert_eq!(events.is_told("log").await.data, json!({"attempt": 1, "offset": 7, "base64": "/w=="}));
    let attempt = events.is_told("attempt").await;
    assert_eq!((attempt.id.as_str(), &attempt.data["failure"]["cause"]), ("1:8:ended", &json!("exit")));
    let state = events.is_told("state").await;
    assert_eq!(state.data["state"], "retryable", "{state:?}");

    server.post(&format!("/v1/jobs/{id}/retry")).await;
    assert_eq!(events.is_told("state").await.data["state"], "available");
    let second = host.claim(1).await.jobs[0].attempt;
    assert_eq!(events.is_told("state").await.data["attempt"], 2);
    host.finish(second, done("hi")).await;
    events.is_told("attempt").await;
    let ended = events.is_told("ended").await;
    assert_eq!((ended.id.as_str(), &ended.data["state"]), ("2:0:over", &json!("completed")));
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn that_a_job_has_become_due_is_told_though_nobody_writes_it() {
    let server = Server::start().await;
    let id = server.enqueued(json!({"module": "hello", "in_ms": 100})).await;
    let mut events = Events::of(&server.midge, id, None).await;
    while events.is_told("state").await.data["state"] != "available" {}
}

#[tokio::test]
async fn who_comes_back_goes_on_without_losing_or_repeating_a_byte() {
    let (server, mut host, attempt) = running().await;
    let text: Vec<u8> = "größer: ☃ ".bytes().cycle().take(100_000).collect();
    let (mut heard, mut last, mut told) = (Vec::new(), None::<String>, 0);
    // Pieces that cut characters, and a follower that is cut after each few events.
    for (round, piece) in text.chunks(7_001).enumerate() {
        let offset = round as u64 * 7_001;
        says(&mut host, attempt, offset, piece).await;
        let mut events = Events::of(&server.midge, attempt.job, last.as_deref()).await;
        events.is_told("state").await;
        for _ in 0..=round % 2 {
            if told + 4 > offset + piece.len() as u64 {
                break;
            }
            let log = events.is_told("log").await;
            assert_eq!(log.data["offset"], told);
            heard.extend_from_slice(log.data["text"].as_str().expect("no character is cut").as_bytes());
            told = heard.len() as u64;
            last = Some(log.id);
        }
    }
    host.finish(attempt, done("")).await;
    let mut events = Events::of(&server.midge, attempt.job, last.as_deref()).await;
    let mut names = Vec::new();
    while let Some(event) = events.next().await {
        match event.data.get("text") {
            Some(text) => heard.extend_from_slice(text.as_str().unwrap().as_bytes()),
            None if event.name == "log" => heard.push(0),
            None => names.push(event.name),
        }
        last = Some(event.id);
    }
    assert_eq!(names, ["attempt", "ended"]);
    assert!(heard.starts_with(&text[..text.len() - 3]), "{} of {} bytes", heard.len(), text.len());

    // To come back once more is to be told that it is over.
    let path = format!("/v1/jobs/{}/events", attempt.job);
    let over = [("host", "localhost"), ("last-event-id", last.as_deref().unwrap())];
    assert_eq!(server.send("GET", &path, &over, "").await.status, StatusCode::NO_CONTENT);
    server.post(&format!("/v1/jobs/{}/retry", attempt.job)).await;
    let mut events = Events::of(&server.midge, attempt.job, last.as_deref()).await;
    assert_eq!(events.is_told("state").await.data["state"], "available");
}

#[tokio::test]
async fn who_follows_a_job_that_is_over_is_told_all_that_is_kept_of_it() {
    let (server, mut host, attempt) = running().await;
    says(&mut host, attempt, 0, b"log").await;
    host.finish(attempt, Outcome::Failed(Failure::new(Cause::Refused, "bad args"))).await;
    let reply = server.get(&format!("/v1/jobs/{}/events", attempt.job)).await;
    let text = reply.text();
    let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(names, ["log", "attempt", "ended"], "{text}");
    let waits = server.enqueued(LATER).await;
    server.post(&format!("/v1/jobs/{waits}/cancel")).await;
    let reply = server.get(&format!("/v1/jobs/{waits}/events")).await.text();
    assert!(reply.contains("event: ended") && reply.contains("id: 0:0:over"), "{reply}");
}

#[tokio::test]
async fn a_position_that_is_none_or_that_the_job_never_had_is_refused() {
    let (server, _, attempt) = running().await;
    let path = format!("/v1/jobs/{}/events", attempt.job);
    let long = "9".repeat(7_000);
    for last in ["", "x", "1", "1:-1", "1:0:gone", "99999999999:0", long.as_str(), "é"] {
        let reply = server.send("GET", &path, &[("host", "localhost"), ("last-event-id", last)], "").await;
        assert_eq!(reply.code(), "invalid", "{last:.20}");
        reply.refused(400, "`Last-Event-ID`: `");
    }
    for last in ["2:0", "4294967295:18446744073709551615:over"] {
        let reply = server.send("GET", &path, &[("host", "localhost"), ("last-event-id", last)], "").await;
        assert_eq!(reply.code(), "no_such_attempt");
        reply.refused(404, "only attempt 1 was begun");
    }
    // What the log has not got is not told, and all else is.
    let mut events = Events::of(&server.midge, attempt.job, Some("1:18446744073709551615")).await;
    events.is_told("state").await;
}

#[tokio::test]
async fn who_follows_hears_of_a_cancel_and_that_the_job_was_deleted() {
    let (server, mut host, attempt) = running().await;
    let mut events = Events::of(&server.midge, attempt.job, None).await;
    events.is_told("state").await;
    server.post(&format!("/v1/jobs/{}/cancel", attempt.job)).await;
    assert_eq!(events.is_told("state").await.data["cancelling"], true);
    host.finish(attempt, Outcome::Cancelled).await;
    events.is_told("attempt").await;
    assert_eq!(events.is_told("ended").await.data["state"], "cancelled");

    let waits = server.enqueued(LATER).await;
    let mut events = Events::of(&server.midge, &waits, None).await;
    assert_eq!(events.is_told("state").await.data["state"], "scheduled");
    server.call("DELETE", &format!("/v1/jobs/{waits}"), "").await;
    assert_eq!(events.is_told("deleted").await.data, json!({"id": waits}));
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn a_host_is_told_that_somebody_follows_what_it_runs_and_that_nobody_does_any_more() {
    let (server, mut host, attempt) = running().await;
    assert!(!says(&mut host, attempt, 0, b"one").await.followed);
    let mut events = Events::of(&server.midge, attempt.job, None).await;
    events.is_told("state").await;
    assert!(says(&mut host, attempt, 3, b"two").await.followed);
    drop(events);
    assert!(!says(&mut host, attempt, 6, b"three").await.followed);
}

#[tokio::test]
async fn so_many_may_follow_and_one_that_goes_makes_room() {
    let server = Server::start().await;
    let id: JobId = server.enqueued(LATER).await.parse().unwrap();
    let mut followers = Vec::new();
    for _ in 0..limits::FOLLOWERS_MAX {
        followers.push(server.midge.follow(id, Position::BEGINNING).await.unwrap());
    }
    let reply = server.get(&format!("/v1/jobs/{id}/events")).await;
    assert_eq!((reply.code().as_str(), reply.header("retry-after")), ("too_many_followers", "1"));
    reply.refused(429, "512 callers follow jobs already");
    followers.pop();
    let mut events = Events::of(&server.midge, id, None).await;
    events.is_told("state").await;
    // One that is refused, or asks for what is not there, takes no room.
    drop(events);
    let unknown = server.midge.follow(JobId::generate(), Position::BEGINNING).await;
    assert!(matches!(unknown, Err(ServiceError::NoSuchJob(_))));
    assert!(server.midge.follow(id, Position::BEGINNING).await.is_ok());
}

#[tokio::test]
async fn whoever_embeds_a_server_follows_without_http() {
    let (server, mut host, attempt) = running().await;
    let mut follower = server.midge.follow(attempt.job, Position::BEGINNING).await.unwrap().unwrap();
    let (_, state) = follower.next().await.unwrap().unwrap();
    assert!(matches!(state, JobNews::State(job) if job.attempt == AttemptNumber(1)));
    let (told, _) = tokio::join!(follower.next(), says(&mut host, attempt, 0, b"one"));
    assert!(matches!(told.unwrap().unwrap().1, JobNews::Log(piece) if piece.bytes == "one"));
    // A server that stops ends what has no end of its own.
    let (told, ()) = tokio::join!(follower.next(), server.midge.shutdown());
    assert_eq!(told.unwrap(), None);
}

/// A server on a port, with a job of many large logs that has ended.
struct Listening {
    connections: Connections,
    stream: TcpStream,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<()>,
    server: Server,
    job: JobId,
}

impl Listening {
    async fn followed(limits: ConnectionLimits, ends: bool) -> Listening {
        let store = Arc::new(MemoryStore::new());
        let server = Server::on(store.clone(), QueuePolicy::default()).await;
        let job: JobId = server.enqueued(if ends { HELLO } else { LATER }).await.parse().unwrap();
        if ends {
            large_logs(&*store, job).await;
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Connections::new(limits);
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { drop(stopped.await) };
        let router = server.midge.router();
        let served = tokio::spawn(midge_server::serve(listener, router, connections.clone(), stopped));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET /v1/jobs/{job}/events HTTP/1.1\r\nhost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Listening { connections, stream, stop, served, server, job }
    }
}

/// Gives a job a hundred attempts that ended, and 25 MiB of logs: more than a connection's buffers take.
async fn large_logs(store: &dyn Store, id: JobId) {
    midge_store::write(store, move |rows| {
        let mut job = rows.jobs(&[id])?.pop().flatten().unwrap();
        let last = limits::ATTEMPTS_KEPT_FIRST + limits::ATTEMPTS_KEPT_LAST;
        job.attempt = AttemptNumber(last);
        job.state = JobState::Ended { how: Ending::Cancelled, due: at(0), at: at(0) };
        rows.put_jobs(&[job])?;
        let log = vec![b'x'; limits::LOG_BYTES_MAX];
        (1..=last).try_for_each(|attempt| rows.append_log(id, AttemptNumber(attempt), 0, &log))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_follower_that_does_not_read_is_cut_and_one_that_does_gets_all() {
    let still = Duration::from_millis(50);
    let limits = ConnectionLimits { head: NEVER, idle: NEVER, still, ..ConnectionLimits::of(32) };
    let all = Listening::followed(limits, true).await;
    let began = Instant::now();
    while all.connections.counts().stood_still == 0 {
        assert!(began.elapsed() < DEADLINE, "{:?}", all.connections.counts());
        tokio::task::yield_now().await;
    }
    let mut follower = all.server.midge.follow(all.job, Position::BEGINNING).await.unwrap().unwrap();
    let (mut bytes, mut last) = (0, None);
    while let Some((_, news)) = follower.next().await.unwrap() {
        bytes += if let JobNews::Log(piece) = &news { piece.bytes.len() } else { 0 };
        last = Some(news);
    }
    assert!(matches!(last, Some(JobNews::Ended(_))));
    assert_eq!(bytes, limits_of_all_logs());
}

fn limits_of_all_logs() -> usize {
    (limits::ATTEMPTS_KEPT_FIRST + limits::ATTEMPTS_KEPT_LAST) as usize * limits::LOG_BYTES_MAX
}

#[tokio::test]
async fn a_listener_that_stops_does_not_wait_for_a_follower() {
    // No limit of a connection ends one that is told nothing.
    let limits =
        ConnectionLimits { head: NEVER, idle: Duration::ZERO, still: NEVER, ..ConnectionLimits::of(32) };
    let Listening { mut stream, stop, served, server, .. } = Listening::followed(limits, false).await;
    let mut piece = [0; 4096];
    let mut text = String::new();
    while !text.contains("event: state") {
        let read = stream.read(&mut piece).await.unwrap();
        assert!(read > 0, "{text}");
        text += std::str::from_utf8(&piece[..read]).unwrap();
    }
    drop(stop);
    tokio::time::timeout(DEADLINE, served).await.expect("it does not wait for ever").unwrap();
    drop(server);
}
