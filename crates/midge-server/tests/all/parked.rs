//! What a request that is parked hears of, whatever comes while it is looked at.

use std::sync::Arc;

use async_trait::async_trait;
use midge_protocol::exchange;
use midge_protocol::manifest::QueuePolicy;
use midge_store::{MemoryStore, ReadWork, Store, StoreError, WriteWork};
use tokio::sync::Notify;

use crate::stage::{HELLO, Server, done};

tokio::task_local! {
    /// The gate of whoever writes.
    static GATE: Arc<Gate>;
}

/// Holds the first transaction of its caller after it was written.
#[derive(Default)]
struct Gate {
    written: Notify,
    open: Notify,
}

/// A store whose transactions are held by the gates of those who have one.
struct Gated(MemoryStore);

#[async_trait]
impl Store for Gated {
    async fn write_boxed(&self, work: WriteWork) -> Result<(), StoreError> {
        let written = self.0.write_boxed(work).await;
        if let Ok(gate) = GATE.try_with(Arc::clone) {
            gate.written.notify_one();
            gate.open.notified().await;
            // Those that follow pass.
            gate.open.notify_one();
        }
        written
    }

    async fn read_boxed(&self, work: ReadWork) -> Result<(), StoreError> {
        self.0.read_boxed(work).await
    }

    fn check(&self) -> Result<(), StoreError> {
        self.0.check()
    }
}

#[tokio::test]
async fn what_comes_while_a_request_that_is_said_again_is_looked_at_is_told() {
    let mut server = Server::on(Arc::new(Gated(MemoryStore::new())), QueuePolicy::default()).await;
    server.enqueued(HELLO).await;
    let mut host = server.host().await;
    let attempt = host.claim(1).await.jobs[0].attempt;
    host.finish(attempt, done("hi")).await;
    let request = exchange::Request { wait_ms: 10_000, ..host.request(1) };
    // The first time its connection breaks before it is parked.
    let gate = Arc::<Gate>::default();
    tokio::select! {
        _ = GATE.scope(gate.clone(), host.exchange(&request)) => panic!("nothing opened the gate"),
        () = gate.written.notified() => {}
    }
    let gate = Arc::<Gate>::default();
    let again = GATE.scope(gate.clone(), host.exchange(&request));
    let drain = async {
        gate.written.notified().await;
        server.post(&format!("/v1/machines/{}/drain", host.name)).await;
        gate.open.notify_one();
    };
    let (answer, ()) = tokio::join!(again, drain);
    assert!(answer.drain, "{answer:?}");
}
