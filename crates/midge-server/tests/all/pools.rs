//! Queues that share Machines.

use std::sync::Arc;

use midge_protocol::manifest::{QueuePolicy, ServerPolicy};
use midge_protocol::{QueueName, exchange};
use midge_server::Access;
use midge_store::MemoryStore;
use serde_json::json;

use crate::stage::{self, Server, done, made};

fn name(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

/// A server with three queues of one pool, of which one may run one job at a time.
async fn server(jobs_per_machine: u32) -> Server {
    let pooled = QueuePolicy {
        pool: Some(name("small")),
        max_machines: 1,
        jobs_per_machine,
        ..QueuePolicy::default()
    };
    let limited = QueuePolicy { max_running: Some(1), ..pooled.clone() };
    let queues = [(name("a"), pooled.clone()), (name("b"), pooled), (name("limited"), limited)].into();
    let catalog = stage::catalog(queues, ServerPolicy::default());
    Server::of(Arc::new(MemoryStore::new()), made, catalog, Access::Loopback).await
}

async fn enqueue(server: &Server, queue: &str, jobs: usize) {
    for _ in 0..jobs {
        server.enqueued(json!({"module": "hello", "queue": queue})).await;
    }
}

/// Returns how many jobs of each queue an answer has.
fn given(answer: &exchange::Answer) -> [usize; 3] {
    ["a", "b", "limited"].map(|queue| answer.jobs.iter().filter(|job| job.queue.as_str() == queue).count())
}

#[tokio::test]
async fn one_machine_serves_all_queues_of_its_pool_each_with_its_part_and_its_limits() {
    let mut server = server(8).await;
    enqueue(&server, "a", 20).await;
    enqueue(&server, "b", 2).await;
    enqueue(&server, "limited", 5).await;
    let mut host = server.host().await;
    let answer = host.claim(8).await;
    assert_eq!(given(&answer), [5, 2, 1], "what two need not is the third's");
    assert_eq!(server.midge.machines().await.unwrap().machines.len(), 1);
    let queues = server.get("/v1/queues").await.json();
    for queue in
        queues["queues"].as_array().unwrap().iter().filter(|queue| queue["policy"]["pool"] == "small")
    {
        assert_eq!(queue["machines"], 1, "{queue}");
    }
    assert_eq!(server.get("/v1/machines").await.json()["machines"][0]["queue"], "small");
}

#[tokio::test]
async fn where_there_is_one_place_queues_take_turns() {
    let mut server = server(1).await;
    enqueue(&server, "a", 9).await;
    enqueue(&server, "b", 9).await;
    let mut host = server.host().await;
    let mut served = Vec::new();
    for _ in 0..6 {
        let job = host.claim(1).await.jobs.remove(0);
        served.push(job.queue.to_string());
        host.finish(job.attempt, done("hi")).await;
    }
    assert!(served.windows(2).all(|two| two[0] != two[1]), "{served:?}");
}

#[tokio::test]
async fn a_parked_host_is_woken_for_a_job_of_any_queue_of_its_pool() {
    let mut server = server(2).await;
    enqueue(&server, "a", 1).await;
    let mut host = server.host().await;
    let attempt = host.claim(2).await.jobs[0].attempt;
    let parked = exchange::Request {
        wait_ms: 10_000,
        running: vec![exchange::Running { attempt, progress: None }],
        ..host.request(1)
    };
    let ((), answer) = tokio::join!(enqueue(&server, "b", 1), host.exchange(&parked));
    assert_eq!(given(&answer), [0, 1, 0]);
}

#[tokio::test]
async fn settings_of_machines_are_the_pools_and_those_of_jobs_the_queues() {
    let server = server(1).await;
    let set = async |name: &str, body: serde_json::Value| {
        server.call("POST", &format!("/v1/queues/{name}/settings"), body.to_string()).await
    };
    set("a", json!({"set": {"max_machines": 2}})).await.refused(422, "is that of pool `small`");
    set("small", json!({"set": {"max_running": 2}})).await.refused(422, "set it of a queue");
    assert_eq!(set("small", json!({"set": {"max_machines": 3}})).await.status.as_u16(), 200);
    let queues = server.get("/v1/queues").await.json();
    let pooled =
        queues["queues"].as_array().unwrap().iter().filter(|queue| queue["policy"]["pool"] == "small");
    let held: Vec<_> =
        pooled.map(|queue| (&queue["policy"]["max_machines"], &queue["set"][0]["name"])).collect();
    assert_eq!(held, [(&json!(3), &json!("max_machines")); 3]);
}
