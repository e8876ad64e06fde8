//! When a job expires, and how and until when it is tried again: through the API, the exchange and a round.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use midge_core::{Job, Machine};
use midge_protocol::api::{Enqueued, JobDetail};
use midge_protocol::job::{Backoff, Cause, JobView, State};
use midge_protocol::manifest::ServerPolicy;
use midge_protocol::{JobId, Secret, Timestamp};
use midge_server::{Catalog, dispatcher, exchange, secret_hash};
use midge_store::conformance::fixtures::{self, at};
use midge_store::{MemoryStore, read, write};
use serde_json::Value;

use super::stage::{self, Api, BOOT, Hands, Reply, Server};

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
    r#"{"fixed":[5]}"#,
    r#"{"list":[[1,2]]}"#,
    r#"{"sidekiq":null}"#,
    r#""fixed""#,
    "{}",
    "5",
];

/// Values of `backoff_by_cause`.
pub const BY_CAUSE: &[&str] = &[
    "{}",
    r#"{"trap":"none"}"#,
    r#"{"trap":"none","exit":{"fixed":{"wait_ms":1}},"over_time":{"list":{"waits_ms":[1,2592000000]}}}"#,
    r#"{"trap":"none","trap":"sidekiq"}"#,
    r#"{"refused":"sidekiq"}"#,
    r#"{"":"none"}"#,
    r#"{"trap":{"fixed":[5]}}"#,
    r#"[["trap","none"]]"#,
    r#"{"\u001b[31m":"none"}"#,
];

async fn server() -> Server {
    Server::start().await
}

async fn with(server: &Server, more: &str) -> Reply {
    server.enqueue(&format!(r#"{{"module": "hello", {more}}}"#)).await
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_what_may() {
    let server = server().await;
    let list = vec!["1"; 101].join(",");
    for (more, says) in [
        (r#""expires_in_ms": 0"#, ": use a larger `expires_in_ms`"),
        (r#""expires_at": "2020-01-01T00:00:00Z""#, ": use a later `expires_at`"),
        (r#""expires_in_ms": 1000, "in_ms": 1000"#, ": use a larger `expires_in_ms`, or a smaller `in_ms`"),
        (
            r#""expires_in_ms": 1000, "scheduled_at": "2090-01-01T00:00:00Z""#,
            ": use a larger `expires_in_ms`, or an earlier `scheduled_at`",
        ),
        (
            r#""expires_at": "2090-01-01T00:00:00Z", "in_ms": 3000000000000"#,
            ": use a later `expires_at`, or a smaller `in_ms`",
        ),
        (
            r#""expires_at": "2090-01-01T00:00:00Z", "scheduled_at": "2090-01-01T00:00:01Z""#,
            "the job would expire at 2090-01-01T00:00:00.000Z, and is not to run before 2090-01-01T00:00:01.000Z",
        ),
        (
            r#""expires_at": "2090-01-01T00:00:00Z", "expires_in_ms": 1"#,
            "use one of `expires_at` and `expires_in_ms`",
        ),
        (
            r#""expires_in_ms": 18446744073709551615"#,
            "no job can expire after 9999-12-30T22:00:00.000Z: use less, so that it ends before that",
        ),
        (
            r#""retry_for_ms": 253402300800000"#,
            "no job is tried again after 9999-12-30T22:00:00.000Z: use less, so that it ends before that",
        ),
        (r#""retry_for_ms": 0"#, "`retry_for_ms` is 0: use 1 or more, or \"none\" as the job's `backoff`"),
        (
            r#""retry_for_ms": 0, "after": ["0190b3e4-7d5c-7c3a-9f00-0123456789ab"]"#,
            "`retry_for_ms` is 0: use 1 or more",
        ),
        (
            r#""retry_until": "2090-01-01T00:00:00Z", "in_ms": 3000000000000"#,
            "use a later `retry_until`, or a smaller `in_ms`",
        ),
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
        (r#""backoff": {"fixed": {"wait": 1}}"#, "unknown field `wait`: use `wait_ms`"),
        (r#""backoff": {"fixed": {"wait_ms": -1}}"#, "-1"),
        (r#""backof": "none""#, "did you mean `backoff`?"),
        (r#""expire_in_ms": 5"#, "did you mean `expires_in_ms`?"),
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
        let error = reply.parse::<Value>();
        assert!(matches!(reply.status.as_u16(), 400 | 422), "{more}: {error}");
        assert!(error["error"].as_str().unwrap().contains(says), "`{says}` is not in {error}");
    }
    assert_eq!(server.get("/v1/jobs").await.parse::<Value>()["jobs"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn what_was_asked_for_is_shown_and_what_was_not_is_the_modules() {
    let server = server().await;
    let asked = r#""backoff": {"list": {"waits_ms": [1, 2592000000]}}, "jitter_percent": 0,
        "backoff_by_cause": {"trap": "none"}, "retry_until": "9999-12-30T22:00:00Z", "expires_at": "9999-12-30T22:00:00Z""#;
    let id = with(&server, asked).await.parse::<Enqueued>().id;
    let job = server.get(&format!("/v1/jobs/{id}")).await.parse::<JobDetail>().job;
    assert_eq!(job.backoff, Some(Backoff::List { waits_ms: vec![1, 2_592_000_000] }));
    assert_eq!(job.backoff_by_cause, [(Cause::Trap, Backoff::None)].into());
    let latest = Some(Timestamp::LATEST);
    assert_eq!((job.jitter_percent, job.retry_until, job.expires_at), (Some(0), latest, latest));
    let words = "1ms, 30d; none after trap; until 9999-12-30T22:00:00.000Z";
    assert_eq!(job.retries().as_deref(), Some(words));
    let page = server.get(&format!("/jobs/{id}")).await.text();
    assert!(page.contains(words) && page.contains("start by"), "{page}");

    let plain = server.enqueued(r#"{"module": "hello"}"#).await;
    let job: JobView = server.get(&format!("/v1/jobs/{plain}")).await.parse();
    assert_eq!((job.backoff, job.retry_until, job.expires_at), (Some(Backoff::Sidekiq), None, None));
}

#[tokio::test]
async fn a_request_is_the_same_again_however_late_and_another_if_it_says_otherwise() {
    let server = server().await;
    let id = JobId::generate();
    let of = |more: &str| format!(r#"{{"id": "{id}", "module": "hello", {more}}}"#);
    let first = of(r#""expires_in_ms": 1, "retry_for_ms": 1, "backoff": "none""#);
    assert!(server.enqueue(&first).await.parse::<Enqueued>().new);
    // It has expired by now, or will have.
    server.get(&format!("/v1/jobs/{id}/wait")).await;
    assert!(!server.enqueue(&first).await.parse::<Enqueued>().new);
    for other in [
        r#""expires_in_ms": 1, "retry_for_ms": 1"#,
        r#""expires_in_ms": 1, "retry_for_ms": 1, "backoff": "sidekiq""#,
        r#""expires_in_ms": 1, "retry_for_ms": 2, "backoff": "none""#,
        r#""expires_in_ms": 2, "retry_for_ms": 1, "backoff": "none""#,
        r#""expires_in_ms": 1, "retry_for_ms": 1, "backoff": "none", "jitter_percent": 0"#,
        r#""expires_in_ms": 1, "retry_for_ms": 1, "backoff": "none", "backoff_by_cause": {}"#,
    ] {
        assert_eq!(server.enqueue(&of(other)).await.code(), "conflict", "{other}");
    }
}

#[tokio::test]
async fn a_job_that_nobody_starts_is_discarded_and_who_waits_is_told() {
    let server = server().await;
    let id = with(&server, r#""expires_in_ms": 50"#).await.parse::<Enqueued>().id;
    let job: JobView = server.get(&format!("/v1/jobs/{id}/wait?timeout_ms=60000")).await.parse();
    assert_eq!((job.state, job.spent, job.attempt.0), (State::Discarded, 0, 0));
    let failure = job.failure.unwrap();
    assert_eq!(failure.cause, Cause::Expired);
    assert_eq!(failure.message, format!("it was to be started by {}, and was not", job.expires_at.unwrap()));
    let retried: JobView = server.post(&format!("/v1/jobs/{id}/retry")).await.parse();
    assert_eq!((retried.state, retried.expires_at), (State::Available, None));
}

fn job(number: u128, expires_at: Option<Timestamp>) -> Job {
    Job { expires_at, ..fixtures::job(number, "default", 0) }
}

/// A store with jobs of which the first have expired at 0.
async fn store_with(expired: u128, others: u128) -> MemoryStore {
    let store = MemoryStore::new();
    let jobs = (0..expired + others).map(|number| job(number, (number < expired).then_some(at(0))));
    let jobs: Vec<Job> = jobs.collect();
    write(&store, move |rows| rows.put_jobs(&jobs)).await.unwrap();
    store
}

#[tokio::test]
async fn a_claim_passes_over_what_has_expired_and_discards_it() {
    let store = store_with(50, 3).await;
    let hash = secret_hash(&Secret::new("s"));
    let machine = Machine { secret_hash: hash.clone(), boot: Some(BOOT), ..fixtures::machine("m") };
    let (name, generation) = (machine.name.clone(), machine.generation.clone());
    write(&store, move |rows| rows.put_machine(&machine)).await.unwrap();
    let catalog = Catalog { generation, ..stage::catalog(BTreeMap::new(), ServerPolicy::default()) };
    let context = exchange::Context { catalog: Arc::new(catalog), jitter: 0.0 };
    let done = exchange::exchange(&store, context, name, hash, stage::request(1, 2), at(0)).await.unwrap();
    let granted: Vec<JobId> = done.answer.jobs.iter().map(|grant| grant.attempt.job).collect();
    assert_eq!(granted, [job(50, None).id, job(51, None).id]);
    assert_eq!(done.ended.len(), 50, "who waits for them is told");
    assert_eq!(read(&store, |rows| rows.next_expiry()).await.unwrap(), None);
}

#[tokio::test]
async fn a_round_discards_what_has_expired_in_steps_and_comes_back_for_the_rest() {
    let store = store_with(2_500, 0).await;
    let later = at(0).after(Duration::from_secs(5));
    write(&store, move |rows| rows.put_jobs(&[job(9_999, Some(later))])).await.unwrap();
    let context = stage::context(stage::catalog(BTreeMap::new(), ServerPolicy::default()));
    let (api, _made) = Api::new(stage::made);
    let mut rounds = Vec::new();
    for _ in 0..4 {
        let decided = dispatcher::decide(&store, &api, &context, &Hands::default()).await.unwrap();
        rounds.push((decided.ended.len(), decided.next_due));
    }
    let expected = [(1_000, Some(at(0))), (1_000, Some(at(0))), (500, Some(later)), (0, Some(later))];
    assert_eq!(rounds, expected);
}
