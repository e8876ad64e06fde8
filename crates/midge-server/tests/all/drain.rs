//! Machines that somebody drains by hand.

use midge_protocol::exchange;

use crate::stage::{HELLO, Server, done, running};

#[tokio::test]
async fn a_drained_machine_finishes_what_it_runs_takes_nothing_more_and_another_takes_its_place() {
    let (mut server, mut host, attempt) = running().await;
    server.enqueued(HELLO).await;
    let parked = exchange::Request {
        wait_ms: 10_000,
        running: vec![exchange::Running { attempt, progress: None }],
        ..host.request(0)
    };
    let path = format!("/v1/machines/{}/drain", host.name);
    let (drained, _) = tokio::join!(server.post(&path), host.exchange(&parked));
    let drained = drained.json();
    assert_eq!((&drained["state"], &drained["running"]), (&"draining".into(), &1.into()), "{drained}");
    assert_eq!(drained["note"], "somebody drains it");
    let request = exchange::Request { room: 1, ..parked };
    let request = exchange::Request { seq: request.seq + 1, wait_ms: 0, ..request };
    let answer = host.exchange(&request).await;
    assert!(answer.drain && answer.jobs.is_empty() && answer.cancel.is_empty(), "{answer:?}");
    // The job that waits is another Machine's.
    let mut other = server.host().await;
    assert_eq!(other.claim(2).await.jobs.len(), 1);
    host.request(0);
    host.finish(attempt, done("hi")).await;
    assert_eq!(server.state(attempt.job).await, "completed");
    let leaving = exchange::Request { leaving: true, ..host.request(0) };
    assert!(host.exchange(&leaving).await.left);
    // To drain it once more changes nothing, and is no error.
    assert_eq!(server.post(&path).await.json()["state"], "left");
}

#[tokio::test]
async fn a_machine_that_is_not_there_cannot_be_drained() {
    let server = Server::start().await;
    let reply = server.post("/v1/machines/midge-nobody/drain").await;
    assert_eq!(reply.code(), "no_such_machine");
    reply.refused(404, "there is no Machine `midge-nobody`");
    for name in ["%00", "..", "Midge", &"x".repeat(5_000)] {
        let reply = server.post(&format!("/v1/machines/{name}/drain")).await;
        assert_eq!(reply.status.as_u16(), 400, "{name:.20}: {}", reply.text());
    }
}
