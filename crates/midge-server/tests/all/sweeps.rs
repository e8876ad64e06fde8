//! Sweeps: one thing that is done to all jobs that fit a filter, in the background, step by step.

use std::sync::Arc;

use midge_core::SWEEPS_OPEN_MAX;
use midge_protocol::api::{Action, DryRun, JobFilter, SweepView, Sweeps};
use midge_protocol::manifest::{QueuePolicy, ServerPolicy};
use midge_protocol::{JobId, QueueName};
use midge_server::{Access, dispatcher};
use midge_store::conformance::fixtures::{at, completed, discarded, id, job, put, queue, running};
use midge_store::{MemoryStore, Store, read, write};
use serde_json::{Value, json};

use crate::stage::{Server, catalog, made};

/// A server with the queues `default` and `mail`, of which the second takes three jobs.
async fn server(store: Arc<dyn Store>) -> Server {
    let small = QueuePolicy { max_jobs: 3, max_machines: 1, ..QueuePolicy::default() };
    let queues = [(QueueName::default_queue(), QueuePolicy::default()), (queue("mail"), small)].into();
    Server::of(store, made, catalog(queues, ServerPolicy::default()), Access::Loopback).await
}

async fn empty() -> Server {
    server(Arc::new(MemoryStore::new())).await
}

async fn sweep(server: &Server, body: Value) -> SweepView {
    let reply = server.call("POST", "/v1/sweeps", body.to_string()).await;
    assert!(reply.status.is_success(), "{}", reply.text());
    let begun: SweepView = reply.parse();
    ended(server, begun.id).await
}

/// Asks again until a sweep has ended.
async fn ended(server: &Server, id: u64) -> SweepView {
    for _ in 0..100_000 {
        let sweep: SweepView = server.get(&format!("/v1/sweeps/{id}")).await.parse();
        if sweep.ended_at.is_some() {
            return sweep;
        }
        tokio::task::yield_now().await;
    }
    panic!("sweep {id} never ends");
}

async fn later(server: &Server, more: &str) -> String {
    server.enqueued(format!(r#"{{"module": "hello", "in_ms": 3600000{more}}}"#)).await
}

#[tokio::test]
async fn jobs_that_fit_are_cancelled_and_no_others() {
    let server = empty().await;
    let ours = [later(&server, r#", "tags": ["a"]"#).await, later(&server, r#", "tags": ["a", "b"]"#).await];
    let other = later(&server, r#", "tags": ["b"]"#).await;
    let body = json!({"action": "cancel", "filter": {"tag": "a"}});
    let mut dry = body.clone();
    dry["dry_run"] = json!(true);
    let dry_run: DryRun = server.call("POST", "/v1/sweeps", dry.to_string()).await.parse();
    assert_eq!((dry_run.would.jobs, dry_run.would.exact, dry_run.first.len()), (2, true, 2));
    assert_eq!(server.state(&ours[0]).await, "scheduled", "a dry run does nothing");
    let sweep = sweep(&server, body).await;
    assert_eq!((sweep.found, sweep.done, sweep.could_not), (2, 2, 0));
    for id in &ours {
        assert_eq!(server.state(id).await, "cancelled");
    }
    assert_eq!(server.state(&other).await, "scheduled");
    let again = self::sweep(&server, json!({"action": "retry", "filter": {"state": "cancelled"}})).await;
    assert_eq!(again.done, 2);
    let all: Sweeps = server.get("/v1/sweeps").await.parse();
    assert_eq!(all.sweeps.iter().map(|sweep| sweep.id).collect::<Vec<_>>(), [2, 1]);
}

#[tokio::test]
async fn waiting_jobs_get_another_priority_or_queue_one_by_one_or_all() {
    let server = empty().await;
    let one = later(&server, r#", "key": "acme""#).await;
    let reply = server.call("POST", &format!("/v1/jobs/{one}/priority"), r#"{"priority": -7}"#).await.json();
    assert_eq!(reply["priority"], -7);
    let reply = server.call("POST", &format!("/v1/jobs/{one}/move"), r#"{"queue": "mail"}"#).await.json();
    assert_eq!(reply["queue"], "mail");
    for _ in 0..4 {
        later(&server, r#", "tags": ["a"]"#).await;
    }
    let swept = sweep(&server, json!({"action": {"priority": 5}, "filter": {"tag": "a"}})).await;
    assert_eq!(swept.done, 4);
    // Three may wait in it, and one does.
    let filter = json!({"action": {"move": "mail"}, "filter": {"tag": "a"}, "dry_run": true});
    let dry_run: DryRun = server.call("POST", "/v1/sweeps", filter.to_string()).await.parse();
    assert_eq!((dry_run.would.jobs, dry_run.could_not), (2, 2));
    let swept = sweep(&server, json!({"action": {"move": "mail"}, "filter": {"tag": "a"}})).await;
    assert_eq!((swept.found, swept.done, swept.could_not), (4, 2, 2));
    assert!(swept.first_not[0].why.contains("queue `mail` is full"), "{swept:?}");
    let path = format!("/v1/jobs/{}/move", later(&server, "").await);
    assert_eq!(server.call("POST", &path, r#"{"queue": "mail"}"#).await.code(), "queue_full");
    server.call("POST", &path, r#"{"queue": "mails"}"#).await.refused(422, "did you mean `mail`?");
    let path = path.replace("move", "priority");
    server
        .call("POST", &path, r#"{"priority": 101}"#)
        .await
        .refused(422, "`priority` is 101: use -100 to 100");
}

#[tokio::test]
async fn a_job_that_runs_again_needs_room_in_its_queue_as_a_new_one_does() {
    let server = empty().await;
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(later(&server, r#", "queue": "mail""#).await);
    }
    for id in &jobs[..2] {
        server.post(&format!("/v1/jobs/{id}/cancel")).await;
    }
    later(&server, r#", "queue": "mail""#).await;
    let reply = server.post(&format!("/v1/jobs/{}/retry", jobs[2])).await;
    assert!(reply.status.is_success(), "one that waits has its place: {}", reply.text());
    let body = json!({"action": "retry", "filter": {"state": "cancelled"}});
    let mut dry = body.clone();
    dry["dry_run"] = json!(true);
    let dry_run: DryRun = server.call("POST", "/v1/sweeps", dry.to_string()).await.parse();
    assert_eq!((dry_run.would.jobs, dry_run.could_not), (1, 1));
    let swept = sweep(&server, body).await;
    assert_eq!((swept.found, swept.done, swept.could_not), (2, 1, 1));
    assert!(swept.first_not[0].why.contains("queue `mail` is full"), "{swept:?}");
    let left = swept.first_not[0].job;
    assert_eq!(server.post(&format!("/v1/jobs/{left}/retry")).await.code(), "queue_full");
    assert_eq!(server.state(&left.to_string()).await, "cancelled");
}

#[tokio::test]
async fn a_dry_run_finds_the_few_that_are_meant_behind_many_that_the_action_is_not_for() {
    let store = Arc::new(MemoryStore::new());
    let waiting = [job(1, "default", 0), job(2, "default", 0)];
    put(&*store, &waiting).await.unwrap();
    let ended: Vec<_> = (3..20_003).map(|n| completed(&job(n, "default", 0), at(5))).collect();
    put(&*store, &ended).await.unwrap();
    let server = server(store).await;
    for (action, jobs) in [(json!("cancel"), 2), (json!({"priority": 1}), 2), (json!("retry"), 2)] {
        let body = json!({"action": action, "filter": {}, "all": true, "dry_run": true});
        let dry_run: DryRun = server.call("POST", "/v1/sweeps", body.to_string()).await.parse();
        assert_eq!((dry_run.would.jobs, dry_run.would.exact), (jobs, true), "{action}");
    }
}

#[tokio::test]
async fn what_could_not_be_done_is_said_and_what_the_action_is_not_for_is_left() {
    let store = Arc::new(MemoryStore::new());
    let jobs = [
        running(&job(1, "default", 0), "m1"),
        completed(&job(2, "default", 0), at(5)),
        discarded(&job(3, "default", 0), at(5)),
    ];
    put(&*store, &jobs).await.unwrap();
    let catalog = catalog([].into(), ServerPolicy::default());
    begin(&*store, Action::Retry, JobFilter::default()).await;
    let retried = step(&*store, &catalog).await.unwrap();
    assert_eq!(retried.changed.iter().map(|job| job.id).collect::<Vec<_>>(), [id(3)]);
    begin(&*store, Action::Delete, JobFilter::default()).await;
    assert_eq!(step(&*store, &catalog).await.unwrap().deleted, [id(3), id(2)]);
    let sweeps = read(&*store, |rows| rows.sweeps()).await.unwrap();
    let views: Vec<_> = sweeps.iter().map(|s| (s.view.found, s.view.done, s.view.could_not)).collect();
    assert_eq!(views, [(1, 1, 0), (3, 2, 1)], "to retry, it looks for none that runs or has completed");
    assert_eq!(sweeps[1].view.first_not[0].job, id(1));
    assert!(step(&*store, &catalog).await.is_none(), "both have ended");
}

async fn begin(store: &dyn Store, action: Action, filter: JobFilter) {
    write(store, move |rows| {
        let number = rows.sweeps()?.len() as u64 + 1;
        rows.put_sweep(&midge_core::Sweep::new(number, action, filter, Default::default(), at(100)))
    })
    .await
    .unwrap();
}

async fn step(store: &dyn Store, catalog: &midge_server::Catalog) -> Option<dispatcher::Swept> {
    dispatcher::sweep_step(store, catalog, at(100)).await.unwrap()
}

#[tokio::test]
async fn a_large_sweep_is_made_in_steps_and_goes_on_where_it_was() {
    let store = Arc::new(MemoryStore::new());
    let jobs: Vec<_> = (0..1_700).map(|number| job(number, "default", 0)).collect();
    put(&*store, &jobs).await.unwrap();
    let catalog = catalog([].into(), ServerPolicy::default());
    begin(&*store, Action::Cancel, JobFilter::default()).await;
    begin(&*store, Action::Priority(5), JobFilter::default()).await;
    let mut steps = Vec::new();
    // Whoever makes a step knows nothing but what is in the store: as after a crash.
    while let Some(swept) = step(&*store, &catalog).await {
        steps.push(swept.changed.len());
    }
    assert_eq!(steps, [500, 500, 500, 500, 500, 200, 200], "they take turns");
    let sweeps = read(&*store, |rows| rows.sweeps()).await.unwrap();
    assert!(sweeps.iter().all(|sweep| !sweep.is_open() && sweep.view.found == sweep.view.done));
    assert_eq!(sweeps[0].view.done, 1_700);
    assert_eq!(sweeps[1].view.done, 1_200, "what the other has cancelled does not wait any more");
}

#[tokio::test]
async fn a_sweep_that_was_begun_before_the_server_goes_on_with_it() {
    let store = Arc::new(MemoryStore::new());
    put(&*store, &[discarded(&job(1, "default", 0), at(5))]).await.unwrap();
    begin(&*store, Action::Retry, JobFilter::default()).await;
    let server = server(store).await;
    assert_eq!(ended(&server, 1).await.done, 1);
    assert_eq!(server.state(id(1)).await, "available");
}

#[tokio::test]
async fn a_sweep_that_contradicts_itself_or_means_all_by_chance_is_refused() {
    let server = empty().await;
    for (body, status, says) in [
        (json!({"action": "cancel"}), 422, "the filter means every job"),
        (json!({"action": "cancel", "filter": {}}), 422, "say `all` if it is meant so"),
        (json!({"action": "cancel", "filter": {"limit": 5}}), 422, "`filter.limit` is of a page"),
        (json!({"action": "cancel", "filter": {"sort": "failed"}}), 422, "`filter.sort` is of a page"),
        (json!({"action": "cancel", "filter": {"tag": "a", "text": ""}}), 422, "`text` is empty"),
        (json!({"action": {"priority": 101}, "filter": {"tag": "a"}}), 422, "`priority` is 101"),
        (json!({"action": {"move": "mails"}, "filter": {"tag": "a"}}), 422, "did you mean `mail`?"),
        (json!({"action": "restart", "filter": {"tag": "a"}}), 400, "`action` cannot be `restart`"),
        (
            json!({"action": "retry", "filter": {"tags": "a"}}),
            400,
            "unknown field `tags`: did you mean `tag`?",
        ),
        (json!({"action": "retry", "filter": {"state": "done"}}), 400, "`filter.state` cannot be `done`"),
        (json!({"action": "retry", "filter": []}), 400, "must be"),
        (json!({"filter": {"tag": "a"}}), 400, "`action` is missing"),
    ] {
        server.call("POST", "/v1/sweeps", body.to_string()).await.refused(status, says);
    }
    let id = later(&server, "").await;
    assert_eq!(sweep(&server, json!({"action": "cancel", "all": true})).await.done, 1);
    assert_eq!(server.state(&id).await, "cancelled");
    assert_eq!(server.get("/v1/sweeps/99").await.code(), "no_such_sweep");
    assert_eq!(server.post("/v1/sweeps/99/cancel").await.code(), "no_such_sweep");
}

#[tokio::test]
async fn so_many_sweeps_go_on_at_once_and_one_that_is_cancelled_goes_no_further() {
    let store = Arc::new(MemoryStore::new());
    let server = server(store.clone()).await;
    // The server's own loop is not told of these.
    for _ in 0..SWEEPS_OPEN_MAX {
        begin(&*store, Action::Cancel, JobFilter { tag: "a".parse().ok(), ..JobFilter::default() }).await;
    }
    let body = json!({"action": "cancel", "filter": {"tag": "a"}}).to_string();
    assert_eq!(server.call("POST", "/v1/sweeps", body).await.code(), "too_many_sweeps");
    let cancelled: SweepView = server.post("/v1/sweeps/1/cancel").await.parse();
    assert!(cancelled.cancelled && cancelled.ended_at.is_some());
    let _: JobId = later(&server, "").await.parse().unwrap();
}
