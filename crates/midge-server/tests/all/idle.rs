//! Machines of which nothing is asked for a while.

use std::sync::Arc;
use std::time::Duration;

use midge_protocol::exchange::{self, Answer};
use midge_protocol::manifest::{Idle, QueuePolicy};
use midge_store::MemoryStore;

use crate::stage::{HELLO, Host, Server};

async fn leaves(host: &mut Host) -> Answer {
    let leaving = exchange::Request { leaving: true, ..host.request(1) };
    host.exchange(&leaving).await
}

/// Waits until a Machine is shown as such.
async fn shown(server: &Server, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    let look = async {
        loop {
            let machines = server.get("/v1/machines").await.json()["machines"].take();
            if let Some(machine) = machines.as_array().unwrap().iter().find(|machine| wanted(machine)) {
                return machine.clone();
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), look).await.expect("it is never shown so")
}

#[tokio::test]
async fn a_host_that_has_nothing_to_do_stands_by_is_suspended_and_goes_on_for_the_next_job() {
    let policy = QueuePolicy { idle: Idle::Suspend, ready_machines: 1, ..QueuePolicy::default() };
    let mut server = Server::on(Arc::new(MemoryStore::new()), policy).await;
    // Made ahead: it is shown as running all the same, and so can be heard.
    let made = server.host().await;
    server.enqueued(HELLO).await;
    let mut host = server.host().await;
    let attempt = host.claim(1).await.jobs[0].attempt;
    host.finish(attempt, crate::stage::done("hi")).await;
    let answer = leaves(&mut host).await;
    assert!(answer.rest && !answer.left, "{answer:?}");
    let again = leaves(&mut host).await;
    assert!(again.rest && again.jobs.is_empty(), "{again:?}");
    let machine = shown(&server, |machine| machine["name"] == host.name && machine["state"] == "ready").await;
    assert_eq!(machine["suspended"], true);
    server.enqueued(HELLO).await;
    shown(&server, |machine| machine["name"] == host.name && machine["state"] == "starting").await;
    let grants = leaves(&mut host).await;
    assert_eq!((grants.jobs.len(), grants.rest), (1, false), "it need not know that it stood still");
    drop(made);
}

#[tokio::test]
async fn a_host_whose_machine_is_not_to_be_suspended_leaves() {
    let mut server = Server::start().await;
    server.enqueued(HELLO).await;
    let mut host = server.host().await;
    let attempt = host.claim(1).await.jobs[0].attempt;
    host.finish(attempt, crate::stage::done("hi")).await;
    let answer = leaves(&mut host).await;
    assert!(answer.left && !answer.rest, "{answer:?}");
}
