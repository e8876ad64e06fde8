//! What the world told an attempt that failed is kept with its job, where its queue says so; and nobody else writes it.

use midge_protocol::AttemptNumber;
use midge_protocol::exchange::{self, AttemptRef, Finished, Outcome};
use midge_protocol::job::{Cause, Failure};
use midge_protocol::limits::{RECORDED_READINGS_MAX, RECORDING_BYTES_MAX};
use midge_protocol::manifest::QueuePolicy;
use midge_protocol::recording::{Recording, Seed};

use crate::stage::{HELLO, Host, Server, finished};

async fn recorded_queue() -> (Server, Host, AttemptRef) {
    let policy = QueuePolicy { record: true, ..QueuePolicy::default() };
    let mut server = Server::on(std::sync::Arc::new(midge_store::MemoryStore::new()), policy).await;
    server.enqueued(HELLO).await;
    let mut host = server.host().await;
    let grant = host.claim(1).await.jobs.pop().unwrap();
    assert!(grant.record);
    (server, host, grant.attempt)
}

fn recording(attempt: AttemptNumber, readings: usize) -> Recording {
    Recording {
        attempt,
        sha256: "0".repeat(64),
        source_sha256: "1".repeat(64),
        limits: Default::default(),
        began_at_ns: 1,
        seed: Seed([7; 32]),
        saved: None,
        clock_ns: vec![u64::MAX; readings],
        requests: Vec::new(),
        cut: false,
    }
}

fn failed() -> Outcome {
    let failure = Failure::new(Cause::Exit, "on purpose");
    Outcome::Failed(Failure { retry_after_ms: Some(0), ..failure })
}

async fn ends(host: &mut Host, attempt: AttemptRef, outcome: Outcome, recording: Recording) {
    let finished = Finished { recording: Some(Box::new(recording)), ..finished(attempt, outcome) };
    let request = exchange::Request { finished: vec![finished], ..host.request(0) };
    host.exchange(&request).await;
}

#[tokio::test]
async fn the_recording_of_the_last_failure_is_kept_and_goes_with_its_job() {
    let (server, mut host, first) = recorded_queue().await;
    let path = format!("/v1/jobs/{}/recording", first.job);
    server.get(&path).await.refused(404, "no recording");
    assert_eq!(server.job(first.job).await.recorded, None);
    let told = recording(first.attempt, 3);
    ends(&mut host, first, failed(), told.clone()).await;
    let answer = server.get(&path).await;
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.parse::<Recording>(), told);
    assert_eq!(server.job(first.job).await.recorded, Some(first.attempt));

    let second = host.claim(1).await.jobs.pop().unwrap().attempt;
    ends(&mut host, first, failed(), recording(first.attempt, 5)).await;
    assert_eq!(server.get(&path).await.parse::<Recording>(), told, "a late report writes nothing");
    ends(&mut host, second, failed(), recording(second.attempt, 4)).await;
    assert_eq!(server.get(&path).await.parse::<Recording>(), recording(second.attempt, 4));

    let third = host.claim(1).await.jobs.pop().unwrap().attempt;
    let completed = Outcome::Completed { result: "ok".into() };
    ends(&mut host, third, completed, recording(third.attempt, 1)).await;
    assert_eq!(
        server.job(first.job).await.recorded,
        Some(second.attempt),
        "of an end that is no failure there is none"
    );
    assert_eq!(server.call("DELETE", &format!("/v1/jobs/{}", first.job), "").await.status, 204);
    server.get(&path).await.refused(404, "");
}

#[tokio::test]
async fn attempts_of_other_queues_are_not_to_be_recorded() {
    let mut server = Server::start().await;
    server.enqueued(HELLO).await;
    assert!(!server.host().await.claim(1).await.jobs[0].record);
}

#[tokio::test]
async fn a_recording_above_its_bound_or_of_another_attempt_is_refused_whole() {
    let (server, mut host, attempt) = recorded_queue().await;
    let most = recording(attempt.attempt, 0).room() / Recording::READING_BYTES;
    assert!(most > RECORDED_READINGS_MAX);
    for (recording, why) in [
        (recording(attempt.attempt, most + 1), format!("at most {RECORDING_BYTES_MAX} are allowed")),
        (recording(AttemptNumber(7), 0), "the end of attempt 1 has a recording of attempt 7".to_owned()),
    ] {
        let finished = Finished { recording: Some(Box::new(recording)), ..finished(attempt, failed()) };
        let request = exchange::Request { finished: vec![finished], ..host.request(0) };
        host.send(exchange::encode(&request)).await.refused(400, &why);
    }
    server.get(&format!("/v1/jobs/{}/recording", attempt.job)).await.refused(404, "no recording");
    assert_eq!(server.state(attempt.job).await, "running");
    ends(&mut host, attempt, failed(), recording(attempt.attempt, most)).await;
    assert_eq!(server.job(attempt.job).await.recorded, Some(attempt.attempt));
}
