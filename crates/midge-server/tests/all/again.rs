//! How and until when a job is tried again, through the API.

use std::sync::Arc;

use midge_protocol::api::{EnqueueRequest, Enqueued, JobDetail};
use midge_protocol::job::{Backoff, Cause, JobView};
use midge_protocol::{JobId, Timestamp};
use midge_store::MemoryStore;
use serde_json::Value;

use super::support::{Reply, Server};

/// Values of `backoff`, with the extremes of each kind.
pub const BACKOFFS: &[&str] = &[
    r#""sidekiq""#,
    r#""none""#,
    r#""sidekik""#,
    r#"{"exponential":{"base_ms":1,"cap_ms":2592000000}}"#,
    r#"{"exponential":{"base_ms":18446744073709551615}}"#,
    r#"{"exponential":{"base_ms":2,"cap_ms":1}}"#,
    r#"{"fixed":{"wait_ms":2592000000}}"#,
    r#"{"fixed":{"wait_ms":2592000001}}"#,
    r#"{"fixed":{"wait_ms":0}}"#,
    r#"{"fixed":{"wait":1}}"#,
    r#"{"list":{"waits_ms":[]}}"#,
    r#"{"list":{"waits_ms":[1,2592000000]}}"#,
    r#"{"fixed":{"wait_ms":1},"list":{"waits_ms":[1]}}"#,
];

/// Values of `backoff_by_cause`.
pub const BY_CAUSE: &[&str] = &[
    "{}",
    r#"{"trap":"none"}"#,
    r#"{"trap":"none","exit":{"fixed":{"wait_ms":1}},"over_time":{"list":{"waits_ms":[1,2592000000]}}}"#,
    r#"{"trap":"none","trap":"sidekiq"}"#,
    r#"{"refused":"sidekiq"}"#,
    r#"{"":"none"}"#,
    r#"{"\u001b[31m":"none"}"#,
];

async fn server() -> Server {
    Server::start(Arc::new(MemoryStore::new())).await
}

async fn with(server: &Server, more: &str) -> Reply {
    server.enqueue(&format!(r#"{{"module": "hello", {more}}}"#)).await
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_what_may() {
    let server = server().await;
    let list = vec!["1"; 101].join(",");
    for (more, says) in [
        (
            r#""retry_for_ms": 253402300800000"#,
            "no job is tried again after 9999-12-30T22:00:00.000Z: use at most 2",
        ),
        (r#""retry_for_ms": 0"#, "use a later `retry_until`"),
        (
            r#""retry_until": "2020-01-01T00:00:00Z""#,
            "use a later `retry_until`, or \"none\" as its `backoff`",
        ),
        (
            r#""retry_until": "2090-01-01T00:00:00Z", "scheduled_at": "2090-01-01T00:00:00Z""#,
            "use a later `retry_until`, or an earlier `scheduled_at`",
        ),
        (
            r#""retry_until": "2090-01-01T00:00:00Z", "retry_for_ms": 1"#,
            "use one of `retry_until` and `retry_for_ms`",
        ),
        (r#""jitter_percent": 101"#, "`jitter_percent` is 101, and may be from 0 to 100"),
        (
            r#""backoff": {"fixed": {"wait_ms": 0}}"#,
            "`wait_ms` of `backoff` is 0, and may be from 1 to 2592000000",
        ),
        (
            r#""backoff": {"exponential": {"base_ms": 2, "cap_ms": 1}}"#,
            "`base_ms` of `backoff` is 2, and may be from 1 to 1",
        ),
        (r#""backoff": {"list": {"waits_ms": []}}"#, "the length of `waits_ms` of `backoff` is 0"),
        (
            &format!(r#""backoff": {{"list": {{"waits_ms": [{list}]}}}}"#),
            "a list of 1 to 100 waits in milliseconds",
        ),
        (r#""backoff": "sidekik""#, "did you mean `sidekiq`?"),
        (r#""backoff": {"fixed": {"wait": 1}}"#, "unknown field `wait`, expected `wait_ms`"),
        (r#""backoff": {"fixed": {"wait_ms": -1}}"#, "-1"),
        (r#""backof": "none""#, "did you mean `backoff`?"),
        (r#""backoff_by_cause": {"over_tiem": "none"}"#, "did you mean `over_time`?"),
        (
            r#""backoff_by_cause": {"refused": "sidekiq"}"#,
            "is no cause after which a job is tried again: use exit, ",
        ),
        (
            r#""backoff_by_cause": {"trap": {"fixed": {"wait_ms": 0}}}"#,
            "`wait_ms` of `backoff_by_cause.trap` is 0",
        ),
    ] {
        let reply = with(&server, more).await;
        let error = reply.json::<Value>();
        assert!(matches!(reply.status.as_u16(), 400 | 422), "{more}: {error}");
        assert!(error["error"].as_str().unwrap().contains(says), "`{says}` is not in {error}");
    }
    assert_eq!(server.get("/v1/jobs").await.json::<Value>()["jobs"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn what_was_asked_for_is_shown_and_what_was_not_is_the_modules() {
    let server = server().await;
    let asked = r#""backoff": {"list": {"waits_ms": [1, 2592000000]}}, "jitter_percent": 0,
        "backoff_by_cause": {"trap": "none"}, "retry_until": "9999-12-30T22:00:00Z""#;
    let id = with(&server, asked).await.json::<Enqueued>().id;
    let job = server.get(&format!("/v1/jobs/{id}")).await.json::<JobDetail>().job;
    assert_eq!(job.backoff, Some(Backoff::List { waits_ms: vec![1, 2_592_000_000] }));
    assert_eq!(job.backoff_by_cause, [(Cause::Trap, Backoff::None)].into());
    let latest = Some(Timestamp::LATEST);
    assert_eq!((job.jitter_percent, job.retry_until), (Some(0), latest));
    let words = "1ms, 30d plus up to 0 %; none after trap; until 9999-12-30T22:00:00.000Z";
    assert_eq!(job.retries().as_deref(), Some(words));
    let page = server.get(&format!("/jobs/{id}")).await.text();
    assert!(page.contains(words), "{page}");

    let plain = server.enqueued(r#"{"module": "hello"}"#).await;
    let job: JobView = server.get(&format!("/v1/jobs/{plain}")).await.json();
    assert_eq!((job.backoff, job.retry_until), (Some(Backoff::Sidekiq), None));
}

#[tokio::test]
async fn a_request_is_the_same_again_however_late_and_another_if_it_says_otherwise() {
    let server = server().await;
    let id = JobId::generate();
    let of = |more: &str| format!(r#"{{"id": "{id}", "module": "hello", {more}}}"#);
    let first = of(r#""retry_for_ms": 1, "backoff": "none""#);
    assert!(server.enqueue(&first).await.json::<Enqueued>().new);
    assert!(!server.enqueue(&first).await.json::<Enqueued>().new);
    for other in [
        r#""retry_for_ms": 1"#,
        r#""retry_for_ms": 1, "backoff": "sidekiq""#,
        r#""retry_for_ms": 2, "backoff": "none""#,
        r#""retry_for_ms": 1, "backoff": "none", "jitter_percent": 0"#,
        r#""retry_for_ms": 1, "backoff": "none", "backoff_by_cause": {}"#,
    ] {
        assert_eq!(server.enqueue(&of(other)).await.code(), "conflict", "{other}");
    }
}

#[test]
fn every_request_in_the_document_about_queues_is_one() {
    let text = include_str!("../../../../docs/queues.md");
    let examples: Vec<&str> =
        text.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!examples.is_empty());
    for example in examples {
        serde_json::from_str::<EnqueueRequest>(example).unwrap_or_else(|error| panic!("{error}\n{example}"));
    }
}
