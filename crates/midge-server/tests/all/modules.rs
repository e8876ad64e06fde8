//! Modules that start no jobs: paused ones, and those that are not served.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use midge_core::Machine;
use midge_protocol::job::State;
use midge_protocol::manifest::{QueuePolicy, ServerPolicy};
use midge_protocol::{JobId, Secret};
use midge_server::{dispatcher, exchange, secret_hash};
use midge_store::conformance::fixtures::{self, at, id, job, job_of, module, put};
use midge_store::{MemoryStore, read, write};

use super::stage::{self, Api, BOOT, HELLO, Hands, Server, done, made};

async fn server() -> Server {
    let policy = QueuePolicy { max_machines: 1, jobs_per_machine: 2, ..QueuePolicy::default() };
    Server::on(Arc::new(MemoryStore::new()), policy).await
}

#[tokio::test]
async fn a_paused_module_starts_nothing_and_goes_on_when_it_is_resumed() {
    let mut server = server().await;
    let first: JobId = server.enqueued(HELLO).await.parse().unwrap();
    let mut host = server.host().await;
    let running = host.claim(1).await.jobs[0].attempt;
    assert_eq!(running.job, first);
    let pause = r#"{"reason": "wrong totals", "by": "ada"}"#;
    assert_eq!(server.call("POST", "/v1/modules/hello/pause", pause).await.status, StatusCode::OK);
    let second: JobId = server.enqueued(HELLO).await.parse().unwrap();
    assert!(host.finish(running, done("1")).await.jobs.is_empty());
    assert!(host.claim(2).await.jobs.is_empty());
    let job = server.job(second).await.job;
    let waits = job.waits.unwrap();
    assert_eq!((job.state, waits.code.as_str()), (State::Available, "module_is_paused"));
    assert_eq!(waits.text, "the module is paused by ada: wrong totals");
    let modules = server.get("/v1/modules").await.json();
    assert_eq!(
        (&modules["modules"][0]["held"], &modules["modules"][0]["pause"]["reason"]),
        (&1.into(), &"wrong totals".into())
    );
    assert!(server.get("/").await.text().contains("no, it is paused since"));

    assert_eq!(server.post("/v1/modules/hello/resume").await.status, StatusCode::NO_CONTENT);
    let mut request = host.request(1);
    request.wait_ms = 20_000;
    assert_eq!(host.exchange(&request).await.jobs[0].attempt.job, second);
}

#[tokio::test]
async fn a_module_that_is_not_known_is_not_paused() {
    let server = server().await;
    server.call("POST", "/v1/modules/helo/pause", "{}").await.refused(422, "did you mean `hello`?");
    server.post("/v1/modules/helo/resume").await.refused(422, "did you mean `hello`?");
    server.call("POST", "/v1/modules/he%20llo/pause", "{}").await.refused(400, "name");
    let late = r#"{"until": "2001-01-01T00:00:00Z"}"#;
    server.call("POST", "/v1/modules/hello/pause", late).await.refused(422, "has passed");
    let modules = server.get("/v1/modules").await.json();
    assert_eq!(modules["modules"].as_array().unwrap().len(), 1, "{modules}");
}

/// A store with many jobs of a module that is not served, due before all others.
async fn store_with(gone: u128, others: u128) -> MemoryStore {
    let store = MemoryStore::new();
    let jobs: Vec<_> = (0..gone).map(|number| job_of(number, "default", "gone", -5)).collect();
    put(&store, &jobs).await.unwrap();
    let jobs: Vec<_> = (gone..gone + others).map(|number| job(number, "default", 0)).collect();
    put(&store, &jobs).await.unwrap();
    store
}

#[tokio::test]
async fn a_claim_passes_over_jobs_of_a_module_that_is_not_served_and_spends_none() {
    let store = store_with(2_500, 3).await;
    let hash = secret_hash(&Secret::new("s"));
    let machine = Machine { secret_hash: hash.clone(), boot: Some(BOOT), ..fixtures::machine("m") };
    let name = machine.name.clone();
    let generation = machine.generation.clone();
    write(&store, move |rows| rows.put_machine(&machine)).await.unwrap();
    let catalog =
        midge_server::Catalog { generation, ..stage::catalog(BTreeMap::new(), ServerPolicy::default()) };
    let context = exchange::Context { catalog: Arc::new(catalog), jitter: 0.0 };
    let claim = exchange::exchange(&store, context, name, hash, stage::request(1, 2), at(0)).await.unwrap();
    let granted: Vec<JobId> = claim.answer.jobs.iter().map(|grant| grant.attempt.job).collect();
    assert_eq!(granted, [id(2_500), id(2_501)]);
    let held = read(&store, |rows| rows.modules_held()).await.unwrap();
    assert_eq!(held, [(module("gone"), 2_500)].into());
    let first = read(&store, |rows| rows.jobs(&[id(0)])).await.unwrap().remove(0).unwrap();
    assert_eq!((first.state_at(at(0)), first.spent, first.attempt.0), (State::Available, 0, 0));
}

#[tokio::test]
async fn no_machine_is_made_for_what_is_held_and_what_is_served_again_is_released() {
    let store = store_with(2_500, 0).await;
    let (api, _hosts) = Api::new(made);
    let mut context = stage::context(stage::catalog(BTreeMap::new(), ServerPolicy::default()));
    let mut rounds = 0;
    loop {
        let decided = dispatcher::decide(&store, &api, &context, &Hands::default()).await.unwrap();
        rounds += 1;
        if decided.next_due != Some(at(0)) {
            assert!(decided.acts.is_empty(), "{decided:?}");
            break;
        }
    }
    assert!((2..=4).contains(&rounds), "{rounds}: in steps");
    assert_eq!(read(&store, |rows| rows.modules_held()).await.unwrap(), [(module("gone"), 2_500)].into());

    let mut catalog = stage::catalog(BTreeMap::new(), ServerPolicy::default());
    let entry = catalog.manifest.modules[&module("hello")].clone();
    catalog.manifest.modules.insert(module("gone"), entry);
    context.catalog = Arc::new(catalog);
    for _ in 0..3 {
        dispatcher::decide(&store, &api, &context, &Hands::default()).await.unwrap();
    }
    assert!(read(&store, |rows| rows.modules_held()).await.unwrap().is_empty());
    let due = read(&store, |rows| rows.jobs_due(&fixtures::queue("default"), None, at(0), 5_000)).await;
    assert_eq!(due.unwrap().len(), 2_500);
}
