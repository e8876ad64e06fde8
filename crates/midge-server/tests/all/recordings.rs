//! What the world told an attempt that failed is kept with its job, where its queue says so; and nobody else writes it.

use midge_protocol::AttemptNumber;
use midge_protocol::exchange::{self, AttemptRef, Finished, Outcome};
use midge_protocol::job::{Cause, Failure};
use midge_protocol::limits::{RECORDED_BODY_BYTES_MAX, RECORDED_READINGS_MAX, RECORDING_BYTES_MAX};
use midge_protocol::line::{Failed, Why};
use midge_protocol::manifest::QueuePolicy;
use midge_protocol::recording::{Data, RecordedAnswer, RecordedRequest, Recording, Seed};
use serde_json::json;

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

fn request(body_bytes: usize) -> RecordedRequest {
    RecordedRequest {
        method: "POST".to_owned(),
        url: "https://api.example.com/".to_owned(),
        headers: Vec::new(),
        body: Data(vec![b'x'; body_bytes].into()),
        body_bytes: body_bytes as u64,
        redirects: 0,
        began_us: 0,
        ended_us: None,
        answer: None,
        failed: None,
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
async fn attempts_of_other_queues_are_not_to_be_recorded_and_what_a_host_recorded_is_not_kept() {
    let mut server = Server::start().await;
    server.enqueued(HELLO).await;
    let mut host = server.host().await;
    let grant = host.claim(1).await.jobs.pop().unwrap();
    assert!(!grant.record);
    ends(&mut host, grant.attempt, failed(), recording(grant.attempt.attempt, 3)).await;
    assert_eq!(server.job(grant.attempt.job).await.recorded, None);
}

#[tokio::test]
async fn a_recording_above_its_bound_or_of_another_attempt_is_refused_whole() {
    let (server, mut host, attempt) = recorded_queue().await;
    let requests = |count| Recording {
        requests: vec![request(RECORDED_BODY_BYTES_MAX); count],
        ..recording(attempt.attempt, 0)
    };
    let readings = RECORDED_READINGS_MAX;
    for (recording, why) in [
        (requests(4), format!("at most {RECORDING_BYTES_MAX} are allowed")),
        (
            recording(attempt.attempt, readings + 1),
            "`clock_ns` has 4097 readings, and at most 4096 are recorded".to_owned(),
        ),
        (recording(AttemptNumber(7), 0), "the end of attempt 1 has a recording of attempt 7".to_owned()),
    ] {
        let finished = Finished { recording: Some(Box::new(recording)), ..finished(attempt, failed()) };
        let request = exchange::Request { finished: vec![finished], ..host.request(0) };
        host.send(exchange::encode(&request)).await.refused(400, &why);
    }
    server.get(&format!("/v1/jobs/{}/recording", attempt.job)).await.refused(404, "no recording");
    assert_eq!(server.state(attempt.job).await, "running");
    let most = Recording { clock_ns: vec![u64::MAX; readings], ..requests(1) };
    ends(&mut host, attempt, failed(), most).await;
    assert_eq!(server.job(attempt.job).await.recorded, Some(attempt.attempt));
}

#[tokio::test]
async fn of_a_recorded_request_a_job_and_its_page_show_where_it_went_and_nothing_that_it_carried() {
    let (server, mut host, attempt) = recorded_queue().await;
    let told = |bytes: &'static [u8]| Data(bytes.into());
    let answer = RecordedAnswer {
        status: 402,
        url: "https://api.example.com/v1/elsewhere".to_owned(),
        headers: vec![("set-cookie".to_owned(), told(b"cookie"))],
        body: told(b"4242"),
        body_bytes: 4_000,
        ended: true,
    };
    let one = RecordedRequest {
        url: "https://ada:password@api.example.com/v1/charges?key=query".to_owned(),
        headers: vec![("authorization".to_owned(), told(b"Bearer {{STRIPE}}"))],
        began_us: 1_000,
        ended_us: Some(251_000),
        answer: Some(answer),
        ..request(3)
    };
    let unanswered = RecordedRequest {
        method: "GE\u{1b}[2JT".to_owned(),
        url: "<script>".to_owned(),
        failed: Some(Failed { why: Why::NotAllowed, message: "add it".to_owned() }),
        ..request(0)
    };
    let mut requests = vec![one, unanswered];
    requests.resize(107, request(0));
    ends(&mut host, attempt, failed(), Recording { requests, cut: true, ..recording(attempt.attempt, 0) })
        .await;

    let detail = server.job(attempt.job).await;
    assert_eq!((detail.recorded_requests.len(), detail.more_recorded_requests), (100, Some(7)));
    let expected = json!({
        "method": "POST", "origin": "https://api.example.com", "status": 402, "sent_bytes": 3, "received_bytes": 4_000,
        "began_us": 1_000, "took_us": 250_000,
    });
    assert_eq!(serde_json::to_value(&detail.recorded_requests[0]).unwrap(), expected);
    assert_eq!(
        (&detail.recorded_requests[1].origin, detail.recorded_requests[1].failed),
        (&None, Some(Why::NotAllowed))
    );

    let page = server.get(&format!("/jobs/{}", attempt.job)).await.text();
    for shown in [
        "Recording of attempt 1",
        &format!("midge jobs pull {}", attempt.job),
        "https://api.example.com",
        "402",
        "250 ms",
        "not allowed",
        "and 7 more",
    ] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    for kept in [
        "password",
        "query",
        "charges",
        "STRIPE",
        "cookie",
        "4242",
        "elsewhere",
        "add it",
        "<script>",
        "\u{1b}",
    ] {
        assert!(!page.contains(kept), "{kept}: {page}");
    }
}
