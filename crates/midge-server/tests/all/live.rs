//! Settings of queues that are changed while a server runs.

use std::sync::Arc;

use axum::http::StatusCode;
use midge_protocol::manifest::{QueuePolicy, ServerPolicy};
use midge_server::{Access, Catalog, Midge};
use midge_store::{MemoryStore, Store};
use serde_json::{Value, json};

use crate::stage::{self, Server, made};

const SETTINGS: &str = "/v1/queues/default/settings";

async fn change(server: &Server, body: Value) -> Value {
    let reply = server.call("POST", SETTINGS, body.to_string()).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    reply.json()
}

async fn policy(server: &Server) -> Value {
    server.get("/v1/queues").await.json()["queues"][0]["policy"].clone()
}

async fn restarted(store: &Arc<dyn Store>, policy: QueuePolicy) -> Server {
    Server::on(Arc::clone(store), policy).await
}

#[tokio::test]
async fn what_is_set_holds_over_restarts_and_deploys_until_it_is_unset_and_is_shown_beside_what_is_declared()
{
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let server = restarted(&store, QueuePolicy::default()).await;
    let set = json!({"set": {"max_machines": 9, "wait": "forever"}, "by": "Ada", "reason": "the newsletter"});
    let answer = change(&server, set).await;
    assert_eq!(answer["set"][0], json!({"name": "max_machines", "value": 9, "declared": 4}));
    let held = json!({"machines": 9, "wait": "forever"});
    let holds = |policy: &Value| json!({"machines": policy["max_machines"], "wait": policy["wait"]});
    assert_eq!(holds(&policy(&server).await), held);
    server.midge.shutdown().await;

    let server = restarted(&store, QueuePolicy { ready_machines: 1, ..QueuePolicy::default() }).await;
    assert_eq!(holds(&policy(&server).await), held);
    let catalog = stage::catalog([].into(), ServerPolicy::default());
    server.midge.deploy(Catalog { generation: "g2".into(), ..catalog }).await;
    assert_eq!(holds(&policy(&server).await), held);

    let answer = change(&server, json!({"unset": ["max_machines", "wait"], "by": "Bob"})).await;
    assert_eq!((&answer["set"], policy(&server).await["max_machines"].as_u64()), (&json!([]), Some(4)));
    let changes = answer["changes"].as_array().unwrap();
    let of = |change: &Value| (change["by"].clone(), change["changed"][0].clone());
    let newest = json!({"name": "max_machines", "from": 9, "to": 4, "unset": true});
    assert_eq!(of(&changes[0]), (json!("Bob"), newest));
    assert_eq!(of(&changes[1]), (json!("Ada"), json!({"name": "max_machines", "from": 4, "to": 9})));
    assert_eq!((changes.len(), &changes[1]["reason"]), (2, &json!("the newsletter")));
    assert_eq!(server.get(SETTINGS).await.json(), answer);
}

#[tokio::test]
async fn what_midge_toml_could_not_say_is_refused_and_changes_nothing() {
    let server = Server::start().await;
    for (body, says) in [
        (
            json!({"set": {"max_machines": 0}}),
            "`max_machines` must be a whole number from 1 to 1000, not `0`",
        ),
        (json!({"set": {"max_machines": 5, "ready_machines": 6}}), "from 0 to 5, not `6`"),
        (json!({"set": {"max_machine": 5}}), "did you mean `max_machines`?"),
        (json!({"set": {"wait": 5}, "unset": ["wiat"]}), "did you mean `wait`?"),
        (json!({"set": {"wait": 5}, "unset": ["wait"]}), "in `set` and in `unset`"),
        (json!({"set": {"idle": "suspend"}}), "set `ready_machines`"),
        (json!({"set": {}}), "say what to `set` or `unset`"),
        (json!({"set": {"wait": 5}, "by": "x".repeat(257)}), "by is 257 bytes"),
    ] {
        let reply = server.call("POST", SETTINGS, body.to_string()).await;
        assert!(reply.status.is_client_error(), "{body}: {}", reply.text());
        reply.code();
        assert!(
            reply.text().contains(says) || reply.json()["error"].as_str().unwrap().contains(says),
            "{}",
            reply.text()
        );
    }
    let answer = server.get(SETTINGS).await.json();
    assert_eq!(answer, json!({"set": [], "changes": []}));
    let reply = server.call("POST", "/v1/queues/defualt/settings", r#"{"set": {"wait": 5}}"#).await;
    reply.refused(422, "did you mean `default`?");
}

#[tokio::test]
async fn what_was_set_and_does_not_go_with_a_later_midge_toml_does_not_count_and_says_so() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let server = restarted(&store, QueuePolicy { max_machines: 8, ..QueuePolicy::default() }).await;
    change(&server, json!({"set": {"warm_machines": 6}})).await;
    server.midge.shutdown().await;
    let server = restarted(&store, QueuePolicy { max_machines: 2, ..QueuePolicy::default() }).await;
    let answer = server.get(SETTINGS).await.json();
    assert!(answer["unusable"].as_str().unwrap().contains("from 0 to 2"), "{answer}");
    assert_eq!(policy(&server).await["warm_machines"], 0);
    let answer = change(&server, json!({"unset": ["warm_machines"]})).await;
    assert_eq!(answer["unusable"], Value::Null);
}

#[tokio::test]
async fn the_last_fifty_changes_are_remembered_and_what_changes_nothing_is_none() {
    let server = Server::start().await;
    for wait in 1..=60 {
        change(&server, json!({"set": {"wait": wait}})).await;
    }
    let answer = change(&server, json!({"set": {"wait": 60}})).await;
    let changes = answer["changes"].as_array().unwrap();
    assert_eq!((changes.len(), &changes[0]["changed"][0]["to"]), (50, &json!(60)));
    assert_eq!(changes[49]["changed"][0]["to"], 11);
}

#[tokio::test]
async fn more_machines_are_made_as_soon_as_a_queue_may_have_them() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let few = QueuePolicy { max_machines: 1, jobs_per_machine: 1, ..QueuePolicy::default() };
    let queues = [(midge_protocol::QueueName::default_queue(), few)].into();
    let catalog = stage::catalog(queues, ServerPolicy::default());
    let mut server = Server::of(store, made, catalog, Access::Loopback).await;
    for _ in 0..3 {
        server.enqueued(stage::HELLO).await;
    }
    let mut host = server.host().await;
    assert_eq!(host.claim(4).await.jobs.len(), 1);
    change(&server, json!({"set": {"max_machines": 3}})).await;
    server.host().await;
    server.host().await;
    let _: &Midge = &server.midge;
}
