//! Jobs of which there is to be one at a time, and the header `Idempotency-Key`.

use std::sync::Arc;

use midge_protocol::api::{BulkEnqueued, Conflict, Enqueued};
use midge_protocol::exchange::Outcome;
use midge_protocol::manifest::QueuePolicy;
use midge_store::MemoryStore;

use super::stage::{JSON, Server};

/// Values of `unique`, right ones and others.
pub const RULES: &[&str] = &[
    "{}",
    "null",
    "[]",
    r#"{"by":["module"],"on_conflict":"push_back"}"#,
    r#"{"by":["args","args","key","queue"],"states":["waiting","completed","discarded","cancelled"]}"#,
    r#"{"text":"\u202e","for_ms":1,"on_conflict":"replace_and_push_back"}"#,
    r#"{"text":"x","for_ms":18446744073709551615}"#,
    r#"{"states":["running"]}"#,
];

const UNIQUE: &str = r#"{"module": "hello", "args": {"a": 1, "b": 2}, "unique": {}}"#;

async fn enqueue(server: &Server, more: &str) -> Enqueued {
    server.enqueue(format!(r#"{{"module": "hello", {more}}}"#)).await.parse()
}

#[tokio::test]
async fn a_second_job_like_it_is_not_added_and_the_answer_names_the_first() {
    let server = Server::start().await;
    let first: Enqueued = server.enqueue(UNIQUE).await.parse();
    assert!(first.new && first.conflict.is_none());
    let same = enqueue(&server, r#""args": {"b":2,"a":1}, "unique": {}"#).await;
    assert_eq!(same, Enqueued { id: first.id, new: false, conflict: Some(Conflict::Kept) });
    assert!(enqueue(&server, r#""args": {"b":2,"a":2}, "unique": {}"#).await.new);
    assert!(
        enqueue(&server, r#""args": {"a": 1, "b": 2}"#).await.new,
        "one that does not ask is not kept out"
    );
    assert_eq!(server.get("/v1/jobs").await.json()["jobs"].as_array().unwrap().len(), 3);
    let shown = server.get(&format!("/v1/jobs/{}", first.id)).await.json();
    assert_eq!(shown["unique"]["states"], serde_json::json!(["waiting", "running"]));
    let page = server.get(&format!("/jobs/{}", first.id)).await.text();
    assert!(page.contains("while it is waiting or running"), "{page}");
}

#[tokio::test]
async fn it_is_unique_while_it_waits_and_runs_and_no_longer() {
    let mut server = Server::start().await;
    let first: Enqueued = server.enqueue(UNIQUE).await.parse();
    let mut host = server.host().await;
    let attempt = host.claim(1).await.jobs[0].attempt;
    let running: Enqueued = server.enqueue(UNIQUE).await.parse();
    assert_eq!((running.id, running.conflict), (first.id, Some(Conflict::Kept)));
    host.finish(attempt, Outcome::Completed { result: "ok".into() }).await;
    let second: Enqueued = server.enqueue(UNIQUE).await.parse();
    assert!(second.new && second.id != first.id);
    // A retry by hand takes nothing back.
    server.post(&format!("/v1/jobs/{}/retry", first.id)).await;
    let third: Enqueued = server.enqueue(UNIQUE).await.parse();
    assert_eq!(third.id, second.id);
    server.post(&format!("/v1/jobs/{}/cancel", second.id)).await;
    assert!(server.enqueue(UNIQUE).await.parse::<Enqueued>().new);
}

#[tokio::test]
async fn what_waits_gets_new_args_and_input_or_another_time() {
    let server = Server::start().await;
    let text = |more: &str| format!(r#""unique": {{"text": "nightly", "on_conflict": "{more}"}}"#);
    let first =
        enqueue(&server, &format!(r#""args": 1, "input": "aGk=", "in_ms": 60000, {}"#, text("keep"))).await;
    let replaced = enqueue(&server, &format!(r#""args": [2], {}"#, text("replace"))).await;
    assert_eq!((replaced.id, replaced.conflict), (first.id, Some(Conflict::Replaced)));
    assert_eq!(server.job(first.id).await.args.get(), "[2]");
    assert_eq!(server.get(&format!("/v1/jobs/{}/input", first.id)).await.code(), "no_content");
    let before = server.job(first.id).await.job.scheduled_at;
    let soon = enqueue(&server, &format!(r#""args": 3, {}"#, text("push_back"))).await;
    assert_eq!(soon.conflict, Some(Conflict::PushedBack));
    assert_eq!(server.job(first.id).await.job.scheduled_at, before, "never forward");
    let at = "2090-01-31T08:00:00.000Z";
    let later = format!(r#""args": 4, "scheduled_at": "{at}", {}"#, text("replace_and_push_back"));
    assert_eq!(enqueue(&server, &later).await.conflict, Some(Conflict::ReplacedAndPushedBack));
    let job = server.job(first.id).await;
    assert_eq!((job.args.get(), job.job.scheduled_at.to_string().as_str()), ("4", at));
}

#[tokio::test]
async fn a_time_to_be_unique_for_ends() {
    let server = Server::start().await;
    let of = |millis: u64| format!(r#""in_ms": 60000, "unique": {{"text": "x", "for_ms": {millis}}}"#);
    let first = enqueue(&server, &of(1)).await;
    while server.get(&format!("/v1/jobs/{}", first.id)).await.json()["unique"].is_object() {
        tokio::task::yield_now().await;
    }
    let second = enqueue(&server, &of(3_600_000)).await;
    assert!(second.new);
    assert_eq!(enqueue(&server, &of(1)).await.id, second.id);
}

#[tokio::test]
async fn in_a_bulk_each_is_answered_and_only_what_is_new_takes_room() {
    let policy = QueuePolicy { max_jobs: 3, ..QueuePolicy::default() };
    let server = Server::on(Arc::new(MemoryStore::new()), policy).await;
    let job = |text: &str| format!(r#"{{"module": "hello", "unique": {{"text": "{text}"}}}}"#);
    let bulk = |jobs: &[String]| format!(r#"{{"jobs": [{}]}}"#, jobs.join(","));
    let jobs = [job("a"), job("a"), job("b"), r#"{"module": "hello"}"#.to_owned(), job("a")];
    let reply = server.call("POST", "/v1/jobs/bulk", bulk(&jobs)).await.parse::<BulkEnqueued>().jobs;
    let new: Vec<bool> = reply.iter().map(|job| job.new).collect();
    assert_eq!(new, [true, false, true, true, false]);
    assert_eq!((reply[1].id, reply[4].id), (reply[0].id, reply[0].id));
    // The queue is full now, and another of what is there is no new job.
    assert_eq!(server.enqueue(job("b")).await.parse::<Enqueued>().id, reply[2].id);
    assert_eq!(server.enqueue(job("c")).await.code(), "queue_full");
    let refused = server.call("POST", "/v1/jobs/bulk", bulk(&[job("a"), job("d")])).await;
    assert_eq!(refused.code(), "queue_full");
    assert_eq!(server.get("/v1/jobs").await.json()["jobs"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_repeated_request_is_answered_as_the_job_that_it_made() {
    let server = Server::start().await;
    let id = "0190b3e4-7d5c-7c3a-9f00-0123456789ab";
    let asked = format!(r#"{{"id": "{id}", "module": "hello", "unique": {{}}}}"#);
    assert!(server.enqueue(&asked).await.parse::<Enqueued>().new);
    let again: Enqueued = server.enqueue(&asked).await.parse();
    assert_eq!((again.id.to_string().as_str(), again.new, again.conflict), (id, false, None));
    let other = asked.replace("{}}", r#"{"for_ms": 5}}"#);
    assert_eq!(server.enqueue(&other).await.code(), "conflict");
}

#[tokio::test]
async fn a_rule_that_cannot_be_is_refused_with_what_may() {
    let server = Server::start().await;
    for (unique, says) in [
        (r#"{"by": []}"#, "`unique.by` names nothing: name some of `module`, `args`, `queue` and `key`"),
        (r#"{"by": ["arg"]}"#, "did you mean `args`?"),
        (r#"{"states": []}"#, "`unique.states` names no state"),
        (r#"{"states": ["completed"]}"#, "a job waits first: name `waiting`"),
        (r#"{"text": ""}"#, "`unique.text` is 0 bytes: use 1 to 1024"),
        (r#"{"for_ms": 0}"#, "`unique.for_ms` is 0"),
        (r#"{"for_ms": 18446744073709551615}"#, "no job can be unique after"),
        (r#"{"on_conflict": "drop"}"#, "`unique.on_conflict` cannot be `drop`"),
        (r#"{"period": 1}"#, "unknown field `period`: use one of by, text"),
        ("[]", "`unique` must be"),
        ("true", "`unique` must be"),
    ] {
        let error = server.enqueue(format!(r#"{{"module": "hello", "unique": {unique}}}"#)).await.text();
        assert!(error.contains(says), "`{says}` is not in {error}");
    }
    assert_eq!(server.get("/v1/jobs").await.json()["jobs"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn an_idempotency_key_does_what_an_id_does() {
    let server = Server::start().await;
    let post = async |path: &str, key: &str, body: &str| {
        let headers = [("host", "127.0.0.1:7433"), JSON, ("idempotency-key", key)];
        server.send("POST", path, &headers, body.to_owned()).await
    };
    let hello = r#"{"module": "hello", "args": 1}"#;
    let first: Enqueued = post("/v1/jobs", "order 17", hello).await.parse();
    let again: Enqueued = post("/v1/jobs", "\"order 17\"", hello).await.parse();
    assert_eq!((first.new, again.new, again.id), (true, false, first.id));
    assert_eq!(post("/v1/jobs", "order 17", r#"{"module": "hello", "args": 2}"#).await.code(), "conflict");
    assert!(post("/v1/jobs", "order 18", hello).await.parse::<Enqueued>().new);
    let id = "0190b3e4-7d5c-7c3a-9f00-0123456789ab";
    assert_eq!(post("/v1/jobs", id, hello).await.parse::<Enqueued>().id.to_string(), id);
    for (key, body, says) in [
        ("", hello, "`Idempotency-Key` must be there once, with 1 to 255 bytes of ASCII"),
        (&"x".repeat(256), hello, "1 to 255 bytes"),
        ("a\tb", hello, "bytes of ASCII"),
        ("k", r#"{"module": "hello", "id": "0190b3e4-7d5c-7c3a-9f00-0123456789ab"}"#, "use one of"),
    ] {
        let error = post("/v1/jobs", key, body).await;
        assert!(error.status.as_u16() == 400 && error.text().contains(says), "{}", error.text());
    }
    let bulk = post("/v1/jobs/bulk", "k", r#"{"jobs": [{"module": "hello"}]}"#).await.text();
    assert!(bulk.contains("give each of `jobs` its own `id`"), "{bulk}");
}

#[tokio::test]
async fn a_change_that_comes_while_the_job_runs_gets_a_job_of_its_own() {
    for on_conflict in ["replace", "push_back", "replace_and_push_back"] {
        let mut server = Server::start().await;
        let unique = format!(r#""unique": {{"text": "index", "on_conflict": "{on_conflict}"}}"#);
        let first = enqueue(&server, &format!(r#""args": 1, {unique}"#)).await;
        assert_eq!(enqueue(&server, &format!(r#""args": 2, {unique}"#)).await.id, first.id, "it waits");
        let mut host = server.host().await;
        assert_eq!(host.claim(1).await.jobs[0].attempt.job, first.id);
        let second = enqueue(&server, &format!(r#""args": 3, {unique}"#)).await;
        assert!(second.new && second.conflict.is_none(), "{on_conflict}: {second:?}");
        let third = enqueue(&server, &format!(r#""args": 4, {unique}"#)).await;
        assert_eq!(third.id, second.id, "of those that wait there is one");
    }
}
