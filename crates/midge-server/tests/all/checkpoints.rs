//! What an attempt saves, the next one is given; and nobody else writes it.

use midge_protocol::exchange::{self, AttemptRef, Outcome, Saved};
use midge_protocol::job::{Cause, Failure};
use midge_protocol::{AttemptNumber, limits};

use crate::stage::{Host, running};

fn saved(attempt: AttemptRef, state: impl Into<Vec<u8>>) -> Saved {
    Saved { attempt, state: state.into().into() }
}

async fn saves(host: &mut Host, attempt: AttemptRef, state: &str) -> exchange::Answer {
    let request = exchange::Request { saved: vec![saved(attempt, state)], ..host.request(0) };
    host.exchange(&request).await
}

/// Fails, and asks to be tried again at once.
fn failed() -> Outcome {
    let failure = Failure::new(Cause::Exit, "on purpose");
    Outcome::Failed(Failure { retry_after_ms: Some(0), ..failure })
}

#[tokio::test]
async fn the_next_attempt_is_given_what_was_saved_last_and_a_late_one_saves_nothing() {
    let (server, mut host, first) = running().await;
    let path = format!("/v1/jobs/{}/saved", first.job);
    server.get(&path).await.refused(404, "no saved state");
    for state in ["one", "two"] {
        let answer = saves(&mut host, first, state).await;
        assert!(answer.cancel.is_empty());
        assert_eq!(server.get(&path).await.text(), state);
    }
    host.finish(first, failed()).await;
    let grant = host.claim(1).await.jobs.pop().unwrap();
    assert_eq!((grant.attempt.attempt, grant.saved.as_deref()), (AttemptNumber(2), Some(&b"two"[..])));
    saves(&mut host, first, "from before").await;
    assert_eq!(server.get(&path).await.text(), "two");
    saves(&mut host, grant.attempt, "").await;
    host.finish(grant.attempt, failed()).await;
    let grant = host.claim(1).await.jobs.pop().unwrap();
    assert_eq!(grant.saved.as_deref(), Some(&b""[..]), "nothing is something too");
    host.finish(grant.attempt, Outcome::Completed { result: "ok".into() }).await;
    assert_eq!(server.call("DELETE", &format!("/v1/jobs/{}", first.job), "").await.status, 204);
    server.get(&path).await.refused(404, "");
}

#[tokio::test]
async fn an_attempt_that_is_given_again_has_what_it_saved_before_its_host_was_started_again() {
    let (_server, mut host, first) = running().await;
    saves(&mut host, first, "one").await;
    let grant = host.claim(1).await.jobs.pop().unwrap();
    assert_eq!((grant.attempt, grant.saved.as_deref()), (first, Some(&b"one"[..])));
}

#[tokio::test]
async fn a_state_above_its_bound_is_refused_whole() {
    let (server, mut host, first) = running().await;
    let large = vec![saved(first, vec![0; limits::SAVED_BYTES_MAX + 1])];
    let request = exchange::Request { saved: large, ..host.request(0) };
    host.send(exchange::encode(&request)).await.refused(400, "65537 bytes, and at most 65536");
    server.get(&format!("/v1/jobs/{}/saved", first.job)).await.refused(404, "no saved state");
}

#[tokio::test]
async fn what_was_saved_about_other_args_is_not_given_with_new_ones() {
    let (server, mut host, attempt) = running().await;
    host.finish(attempt, Outcome::Completed { result: "ok".into() }).await;
    let job = |args: u32| {
        format!(
            r#"{{"module": "hello", "args": {args}, "unique": {{"by": ["module"], "on_conflict": "replace", "states": ["waiting", "running"]}}}}"#
        )
    };
    server.enqueued(job(1)).await;
    let first = host.claim(1).await.jobs.pop().unwrap().attempt;
    saves(&mut host, first, "about 1").await;
    host.finish(first, Outcome::Snoozed { after_ms: 3_600_000 }).await;
    let path = format!("/v1/jobs/{}/saved", first.job);
    assert_eq!(server.get(&path).await.text(), "about 1");
    assert_eq!(server.enqueue(job(2)).await.json()["conflict"], "replaced");
    server.get(&path).await.refused(404, "no saved state");
}
