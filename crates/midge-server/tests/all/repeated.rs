//! Requests under a header `Idempotency-Key`: each is repeated safely, or says that it cannot be.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use midge_protocol::ScheduleName;
use midge_protocol::api::{BatchMade, Enqueued};
use midge_protocol::manifest::{ScheduleEntry, ServerPolicy};
use midge_server::Access;
use midge_store::MemoryStore;
use midge_store::conformance::fixtures::module;

use super::stage::{self, HELLO, JSON, Reply, Server};

async fn server() -> Server {
    let mut catalog = stage::catalog(BTreeMap::new(), ServerPolicy::default());
    let yearly = ScheduleEntry::new(module("hello"), "@yearly");
    catalog.manifest.schedules = [(ScheduleName::new("yearly").unwrap(), yearly)].into();
    Server::of(Arc::new(MemoryStore::new()), stage::made, catalog, Access::Loopback).await
}

async fn post(server: &Server, path: &str, key: &str, body: &str) -> Reply {
    let headers = [("host", "127.0.0.1:7433"), JSON, ("idempotency-key", key)];
    server.send("POST", path, &headers, body.to_owned()).await
}

#[tokio::test]
async fn what_makes_something_is_the_same_under_its_key() {
    let server = server().await;
    let batch = r#"{"name": "import", "on_ended": {"module": "hello"}}"#;
    let first: BatchMade = post(&server, "/v1/batches", "import 17", batch).await.parse();
    let again: BatchMade = post(&server, "/v1/batches", "import 17", batch).await.parse();
    assert_eq!((first.new, again.new), (true, false));
    assert_eq!((again.id, again.callbacks), (first.id, first.callbacks));
    let other = post(&server, "/v1/batches", "import 17", "{}").await;
    other.refused(409, "`Idempotency-Key` was used before");
    post(&server, "/v1/jobs", "order 17", r#"{"module": "hello"}"#).await.json();
    let other = post(&server, "/v1/jobs", "order 17", r#"{"module": "hello", "args": 1}"#).await;
    other.refused(409, "use another key for a new job");
    for body in ["", "{}"] {
        let path = "/v1/schedules/yearly/run";
        let key = format!("run {body}");
        let first: Enqueued = post(&server, path, &key, body).await.parse();
        let again: Enqueued = post(&server, path, &key, body).await.parse();
        assert_eq!((first.new, again.new, again.id), (true, false, first.id));
    }
    for path in ["/v1/batches", "/v1/schedules/yearly/run"] {
        let both = r#"{"id": "0190b3e4-7d5c-7c3a-9f00-0123456789ab"}"#;
        let error = post(&server, path, "k", both).await;
        assert_eq!((error.status, error.code().as_str()), (StatusCode::BAD_REQUEST, "invalid"));
        assert!(error.text().contains("use one of `Idempotency-Key` and `id`"), "{}", error.text());
    }
}

#[tokio::test]
async fn what_would_be_done_twice_refuses_a_key_and_does_nothing() {
    let server = server().await;
    let id = server.enqueued(HELLO).await;
    for (path, body, says) in [
        ("/v1/jobs/bulk", r#"{"jobs": [{"module": "hello"}]}"#, "give each of `jobs` its own `id`"),
        (
            "/v1/sweeps",
            r#"{"action": "cancel", "all": true}"#,
            "look in `GET /v1/sweeps` whether it has begun",
        ),
        (&format!("/v1/jobs/{id}/retry"), "", "look at the job's state before you repeat it"),
    ] {
        let error = post(&server, path, "k", body).await.text();
        assert!(
            error.contains("`Idempotency-Key` is not for this request") && error.contains(says),
            "{error}"
        );
    }
    assert_eq!(server.get("/v1/jobs").await.json()["jobs"].as_array().unwrap().len(), 1);
    assert_eq!(server.get("/v1/sweeps").await.json()["sweeps"].as_array().unwrap().len(), 0);
}
