//! Tags, meta, and the filters by which jobs are found and counted, through the API.

use std::sync::Arc;

use axum::http::StatusCode;
use midge_protocol::api::{FailureView, Failures, JobCount, JobPage};
use midge_protocol::exchange::{Finished, Outcome, Request};
use midge_protocol::job::{Cause, Failure};
use midge_protocol::manifest::QueuePolicy;
use midge_store::conformance::fixtures::Database;
use midge_store::{MemoryStore, Store};
use serde_json::{Value, json};

use crate::stage::{Server, finished};

/// One Machine that runs all jobs at once.
async fn server(store: Arc<dyn Store>) -> Server {
    let policy = QueuePolicy { jobs_per_machine: 1_000, max_machines: 1, ..QueuePolicy::default() };
    Server::on(store, policy).await
}

async fn listed(server: &Server, query: &str) -> Vec<String> {
    let reply = server.get(&format!("/v1/jobs?{query}")).await;
    assert_eq!(reply.status, StatusCode::OK, "{query}: {}", reply.text());
    let page: JobPage = reply.parse();
    let counted = server.get(&format!("/v1/jobs/count?{query}")).await;
    if counted.status == StatusCode::OK {
        let count: JobCount = counted.parse();
        assert_eq!(count, JobCount { jobs: page.jobs.len() as u64, exact: true }, "{query}");
    }
    page.jobs.iter().map(|job| job.id.to_string()).collect()
}

fn millis_now() -> u128 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_millis()
}

/// Fails jobs with these messages, in this order, each in a millisecond and an exchange of its own.
async fn fail(server: &mut Server, messages: &[&str]) -> Vec<String> {
    let mut host = server.host().await;
    let granted = host.claim(messages.len() as u32).await.jobs;
    assert_eq!(granted.len(), messages.len());
    let mut failed = Vec::new();
    for (grant, message) in granted.iter().zip(messages) {
        let failure = Failure::new(Cause::Refused, *message);
        host.finish(grant.attempt, Outcome::Failed(failure)).await;
        failed.push(grant.attempt.job.to_string());
        // What failed in the same millisecond is in the order of its ids.
        let at = millis_now();
        while millis_now() == at {
            tokio::task::yield_now().await;
        }
    }
    failed
}

#[tokio::test]
async fn tags_and_meta_are_kept_shown_and_part_of_what_was_asked_for() {
    let server = server(Arc::new(MemoryStore::new())).await;
    let id = "0190b3e4-7d5c-7c3a-9f00-0123456789ab";
    let asked = |tags: Value, meta: Value| json!({"id": id, "module": "hello", "in_ms": 3_600_000, "tags": tags, "meta": meta});
    server.enqueued(asked(json!(["customer:42", "日本"]), json!({"by": "Ada"}))).await;
    let job = server.get(&format!("/v1/jobs/{id}")).await.json();
    assert_eq!((&job["tags"], &job["meta"]), (&json!(["customer:42", "日本"]), &json!({"by": "Ada"})));
    let page = server.get(&format!("/jobs/{id}")).await.text();
    assert!(page.contains("customer:42") && page.contains("Ada"), "{page}");
    assert_eq!(
        server.enqueue(asked(json!(["customer:42", "日本"]), json!({"by": "Ada"}))).await.json()["new"],
        false
    );
    for other in [
        asked(json!(["customer:42"]), json!({"by": "Ada"})),
        asked(json!(["customer:42", "日本"]), json!({})),
    ] {
        assert_eq!(server.enqueue(other).await.code(), "conflict");
    }
}

#[tokio::test]
async fn tags_and_meta_out_of_their_bounds_are_refused_with_the_field_and_what_may_be() {
    let server = server(Arc::new(MemoryStore::new())).await;
    let many: Vec<String> = (0..17).map(|number| format!("t{number}")).collect();
    for (field, value, status, says) in [
        ("tags", json!(many), 422, "`tags` has more than 16"),
        ("tags", json!(["a", "b", "a"]), 422, "`tags[2]` is `a` once more"),
        ("tags", json!([""]), 400, "use 1 to 64 bytes of text that can be seen"),
        ("tags", json!(["x".repeat(65)]), 400, "is not a tag, since it has 65 bytes: use 1 to 64 bytes"),
        ("tags", json!(["x".repeat(1_000_000)]), 400, "use 1 to 64 bytes"),
        ("tags", json!(["a\u{202e}b"]), 400, "is not a tag"),
        ("tags", json!("a"), 400, "`tags` must be a list of tags"),
        ("meta", json!({"a": "x".repeat(4_096)}), 422, "`meta` is more than 4096 bytes"),
        ("meta", json!({"": "x"}), 422, "`meta` has the name"),
        ("meta", json!({"a\u{202e}": "x"}), 422, "`meta` has the name"),
        ("meta", json!({"a": 1}), 400, "must be a string, not 1"),
        ("meta", json!([["a", "b"]]), 400, "`meta` must be an object of texts"),
        ("key", json!("a\u{202e}b"), 422, "`key` holds U+202E at byte 1, which nobody sees"),
    ] {
        let mut body = json!({"module": "hello"});
        body[field] = value;
        server.enqueue(body).await.refused(status, says);
    }
    assert_eq!(listed(&server, "").await.len(), 0);
}

#[tokio::test]
async fn jobs_are_found_by_each_filter_and_by_several() {
    for store in [Arc::new(MemoryStore::new()) as Arc<dyn Store>, Arc::new(Database::fresh().open())] {
        let mut server = server(store).await;
        let a = server
            .enqueued(json!({"module": "hello", "tags": ["blue"], "key": "acme", "args": {"n": 17}}))
            .await;
        let b = server.enqueued(json!({"module": "hello", "tags": ["blue", "red"], "args": {"n": 5}})).await;
        let (first, second) = {
            let failed = fail(&mut server, &["user 42 not found", "user 7 not found"]).await;
            (failed[0].clone(), failed[1].clone())
        };
        let c = server
            .enqueued(json!({"module": "hello", "in_ms": 3_600_000, "key": "acme", "tags": ["red"]}))
            .await;
        for (query, found) in [
            ("tag=blue", vec![&b, &a]),
            ("tag=red&state=scheduled", vec![&c]),
            ("key=acme", vec![&c, &a]),
            ("key=acme&tag=blue", vec![&a]),
            ("args=17", vec![&a]),
            ("args=%22n%22%3A5", vec![&b]),
            ("cause=refused", vec![&second, &first]),
            ("state=discarded&sort=failed", vec![&second, &first]),
            ("text=42", vec![&first]),
            ("text=not%20found&state=scheduled", vec![]),
            ("since=2020-01-01T00:00:00Z&state=scheduled", vec![&c]),
            ("until=2020-01-01T00:00:00Z", vec![]),
            ("failed_since=2020-01-01T00:00:00Z", vec![&second, &first]),
            ("failed_until=2020-01-01T00:00:00Z", vec![]),
        ] {
            assert_eq!(
                listed(&server, query).await,
                found.into_iter().cloned().collect::<Vec<_>>(),
                "{query}"
            );
        }
        let groups: Failures = server.get("/v1/failures").await.parse();
        assert_eq!(groups.failures.len(), 1);
        let FailureView { group, open } = &groups.failures[0];
        assert_eq!(*open, JobCount { jobs: 2, exact: true });
        assert_eq!(
            (group.count, group.message.as_str(), group.cause.as_str()),
            (2, "user 7 not found", "refused")
        );
        assert_eq!((group.first_generation.as_str(), group.last_generation.as_str()), ("g1", "g1"));
        assert_eq!(listed(&server, &format!("failure={}", group.fingerprint)).await, [second, first]);
        let one = server.get(&format!("/v1/failures/{}", group.fingerprint)).await.json();
        assert_eq!((&one["count"], &one["open"]["jobs"]), (&2.into(), &2.into()));
        assert_eq!(server.get("/v1/failures/0000000000000000").await.code(), "no_such_failure");
        assert_eq!(server.get("/v1/failures?module=resize").await.json(), json!({"failures": []}));
        server.get("/v1/failures?limit=0").await.refused(422, "`limit` is 0: use 1 to 1000");
        let page = server.get("/").await.text();
        assert!(page.contains("user 7 not found") && page.contains("?failure="), "{page}");
        let page = server.get(&format!("/?failure={}", group.fingerprint)).await;
        assert!(
            page.status == StatusCode::OK && page.text().contains(&first_eight(&groups)),
            "{}",
            page.text()
        );
    }
}

fn first_eight(groups: &Failures) -> String {
    groups.failures[0].group.job.to_string()[..8].to_owned()
}

#[tokio::test]
async fn what_is_wrong_with_a_filter_is_told_with_its_field_and_value() {
    let server = server(Arc::new(MemoryStore::new())).await;
    for (query, status, says) in [
        ("stat=discarded", 400, "unknown field `stat`: did you mean `state`?"),
        ("cause=tarp!", 400, "`tarp!` is no cause of a failure: did you mean `trap`? in the query"),
        ("failure=1", 400, "`1` is not a fingerprint of a failure"),
        ("tag=%20a", 400, "is not a tag"),
        ("since=yesterday", 400, "`since`: `yesterday` is not a time"),
        ("text=", 422, "`text` is empty"),
        (&format!("args={}", "x".repeat(257)), 422, "`args` is 257 bytes: use 1 to 256"),
        ("since=2030-01-02T00:00:00Z&until=2030-01-01T00:00:00Z", 422, "which is not before `until`"),
        ("before=0190b3e4-7d5c-7c3a-9f00-0123456789ab&cause=trap", 422, "a point of a list in another order"),
    ] {
        server.get(&format!("/v1/jobs?{query}")).await.refused(status, says);
    }
}

/// Pages of a list neither repeat nor skip a job that was there, while others come in and fail.
#[tokio::test]
async fn pages_neither_repeat_nor_skip_while_jobs_come_in() {
    let mut server = server(Arc::new(MemoryStore::new())).await;
    let mut there = Vec::new();
    for _ in 0..40 {
        there.push(server.enqueued(json!({"module": "hello", "tags": ["a"]})).await);
    }
    let mut host = server.host().await;
    let granted = host.claim(40).await.jobs;
    let failed = Outcome::Failed(Failure::new(Cause::Refused, "no"));
    let reports: Vec<Finished> =
        granted.iter().map(|grant| finished(grant.attempt, failed.clone())).collect();
    let request = Request { finished: reports, ..host.request(0) };
    host.exchange(&request).await;
    for query in ["tag=a&limit=7", "state=discarded&sort=failed&limit=7", "cause=refused&limit=7", "limit=7"]
    {
        let (mut seen, mut before) = (Vec::new(), String::new());
        loop {
            let page: JobPage = server.get(&format!("/v1/jobs?{query}{before}")).await.parse();
            seen.extend(page.jobs.iter().map(|job| job.id.to_string()));
            server.enqueued(json!({"module": "hello", "tags": ["a"]})).await;
            let new = host.claim(1).await.jobs[0].attempt;
            host.finish(new, failed.clone()).await;
            let Some(next) = page.next else { break };
            before = format!("&before={next}");
        }
        let mut once: Vec<&String> = seen.iter().filter(|id| there.contains(id)).collect();
        let all = once.len();
        once.sort_unstable();
        once.dedup();
        assert_eq!((all, once.len()), (there.len(), there.len()), "{query}");
    }
}
