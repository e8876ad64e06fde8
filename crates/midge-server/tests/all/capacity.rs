//! How many Machines a server makes, of which queues it takes jobs, and what it says of those that wait.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use midge_machines::{MachineError, SeenState};
use midge_protocol::api::{EnqueueRequest, JobFilter};
use midge_protocol::job::State;
use midge_protocol::manifest::{QueuePolicy, ServerPolicy};
use midge_protocol::{JobId, MachineId, limits};
use midge_server::{Access, Catalog, Clock, Midge, ServiceError, dispatcher};
use midge_store::conformance::fixtures::{job, module, put, queue};
use midge_store::{MemoryStore, Store, read};

use crate::stage::{self, Api, Creates, Hands, Server, context, made};

fn came_out_wrong(_: usize) -> Result<MachineId, MachineError> {
    Err(MachineError::Invalid("the Machine came out without its program".to_owned()))
}

fn catalog(generation: &str, declared: &[&str], server: ServerPolicy) -> Catalog {
    let queues = declared.iter().map(|name| (queue(name), QueuePolicy::default())).collect();
    Catalog { generation: generation.into(), ..stage::catalog(queues, server) }
}

/// Decides once, makes the calls that were decided on, and returns how many there were.
async fn round(store: &dyn Store, api: &Api, context: &dispatcher::Context, clock: &Hands) -> usize {
    let decided = dispatcher::decide(store, api, context, clock).await.unwrap();
    let count = decided.acts.len();
    for act in decided.acts {
        dispatcher::act(store, api, act, context, clock).await.unwrap();
    }
    count
}

#[tokio::test]
async fn a_round_that_does_not_look_makes_what_is_missing_and_asks_the_machines_api_nothing_else() {
    let (store, clock) = (MemoryStore::new(), Hands::default());
    put(&store, &[job(1, "default", 0)]).await.unwrap();
    let (api, _hosts) = Api::new(made);
    let looks = context(catalog("g1", &[], ServerPolicy::default()));
    let does_not = dispatcher::Context { looks: false, ..looks.clone() };
    for made in [1, 0] {
        assert_eq!(round(&store, &api, &does_not, &clock).await, made);
        assert_eq!((api.creates(), api.lists()), (1, 0));
    }
    assert_eq!(round(&store, &api, &looks, &clock).await, 0);
    assert_eq!((api.creates(), api.lists()), (1, 1));
}

#[tokio::test]
async fn sixty_queue_names_make_no_more_machines_than_the_server_may_have_nor_does_another_server() {
    let (store, clock) = (MemoryStore::new(), Hands::default());
    put(&store, &(0..60).map(|n| job(n, &format!("q{n}"), 0)).collect::<Vec<_>>()).await.unwrap();
    let (api, _hosts) = Api::new(made);
    let default = context(catalog("g1", &[], ServerPolicy::default()));
    assert_eq!(round(&store, &api, &default, &clock).await, limits::SERVER_MACHINES_DEFAULT as usize);
    assert_eq!(round(&store, &api, &default, &clock).await, 0);
    dispatcher::take_over(&store, clock.now(), "id".to_owned()).await.unwrap();
    let fewer = ServerPolicy { max_machines: Some(5), ..ServerPolicy::default() };
    round(&store, &api, &context(catalog("g1", &[], fewer)), &clock).await;
    assert_eq!(api.creates(), 20, "there are more than it may have already");
    let more = ServerPolicy { max_machines: Some(25), ..ServerPolicy::default() };
    round(&store, &api, &context(catalog("g1", &[], more)), &clock).await;
    assert_eq!(api.creates(), 25);
}

/// The Machine that came out wrong is destroyed by the client; a list may still show it.
#[tokio::test]
async fn an_answer_that_lacks_a_field_makes_a_few_rows_in_an_hour_and_not_one_every_half_minute() {
    for shows in [false, true] {
        let (store, clock) = (MemoryStore::new(), Hands::default());
        put(&store, &[job(1, "default", 0)]).await.unwrap();
        let (mut api, _hosts) = Api::new(came_out_wrong);
        if shows {
            // A round each second: half a minute after it was refused.
            api.shows = |asked, lists| {
                asked.last().filter(|_| lists == 29).map(|spec| (spec.name.to_string(), SeenState::Created))
            };
        }
        let context = context(catalog("g1", &[], ServerPolicy::default()));
        let mut names = BTreeSet::new();
        for _ in 0..3_600 {
            round(&store, &api, &context, &clock).await;
            let rows = read(&store, |rows| rows.machines()).await.unwrap();
            names.extend(rows.into_iter().map(|(machine, _)| machine.name));
            clock.advance(1_000);
        }
        assert!((5..=20).contains(&api.creates()), "{} creates", api.creates());
        assert!(names.len() <= if shows { 20 } else { 1 }, "{} rows", names.len());
    }
}

async fn start(creates: Creates, catalog: Catalog) -> Midge {
    Server::of(Arc::new(MemoryStore::new()), creates, catalog, Access::Loopback).await.midge
}

fn request(name: &str) -> EnqueueRequest {
    EnqueueRequest::new(module("hello")).queue(queue(name))
}

#[tokio::test]
async fn a_queue_that_is_not_declared_takes_no_jobs_where_others_are() {
    let midge = start(made, catalog("g1", &["mail"], ServerPolicy::default())).await;
    let error = midge.enqueue(request("mial")).await.unwrap_err().to_string();
    assert!(error.starts_with("there is no queue `mial`: did you mean `mail`?"), "{error}");
    let error = midge.enqueue(request("another")).await.unwrap_err().to_string();
    assert!(error.contains("[queues.another]") && error.contains("midge build"), "{error}");
    for queue in ["mail", "default"] {
        midge.enqueue(request(queue)).await.unwrap();
    }
    let bulk = midge.enqueue_all(vec![request("mail"), request("mial")]).await;
    let Err(ServiceError::OfMany { index: 1, error, .. }) = &bulk else { panic!("all or none: {bulk:?}") };
    assert!(matches!(**error, ServiceError::UnknownQueue { .. }), "{bulk:?}");
    let queues = midge.queues().await.unwrap().queues;
    assert_eq!(queues.iter().map(|queue| queue.name.as_str()).collect::<Vec<_>>(), ["default", "mail"]);

    let any = ServerPolicy { only_declared_queues: Some(false), ..ServerPolicy::default() };
    midge.deploy(catalog("g2", &["mail"], any)).await;
    midge.enqueue(request("another")).await.unwrap();
    midge.shutdown().await;
}

#[tokio::test]
async fn jobs_of_a_queue_that_is_declared_no_more_are_kept_repeated_and_retried() {
    let midge = start(made, catalog("g1", &["mail"], ServerPolicy::default())).await;
    let mail = request("mail");
    let cancelled = midge.enqueue(request("mail")).await.unwrap().id;
    midge.enqueue(mail.clone()).await.unwrap();
    midge.cancel(cancelled).await.unwrap();
    midge.deploy(catalog("g2", &["post"], ServerPolicy::default())).await;

    assert!(midge.enqueue(request("mail")).await.is_err(), "no new job");
    assert!(!midge.enqueue(mail.clone()).await.unwrap().new, "the same job again is answered as before");
    assert_eq!(midge.retry(cancelled).await.unwrap().state, State::Available);
    let waiting = midge.jobs(JobFilter { queue: Some(queue("mail")), ..JobFilter::default() }).await.unwrap();
    assert_eq!(waiting.jobs.len(), 2);
    let queues = midge.queues().await.unwrap().queues;
    let mail = queues.iter().find(|queue| queue.name.as_str() == "mail").unwrap();
    assert_eq!((mail.jobs[&State::Available], mail.policy.max_machines), (2, limits::MACHINES_DEFAULT));
    midge.shutdown().await;
}

#[tokio::test]
async fn no_more_than_a_thousand_queues_are_named_by_jobs_alone() {
    let midge = start(made, catalog("g1", &[], ServerPolicy::default())).await;
    let named = |n: usize| request(&format!("q{n}"));
    midge.enqueue_all((0..999).map(named).collect()).await.unwrap();
    let over = midge.enqueue_all(vec![named(1_000), named(1_001)]).await;
    assert!(matches!(over, Err(ServiceError::TooManyQueues { .. })), "{over:?}");
    midge.enqueue(named(1_000)).await.unwrap();
    let error = midge.enqueue(named(1_001)).await.unwrap_err().to_string();
    assert!(error.contains("1000 queues") && error.contains("[queues.q1001]"), "{error}");
    midge.enqueue_all(vec![named(7), request("default")]).await.unwrap();
    midge.shutdown().await;
}

/// Waits until a job waits for a reason.
async fn waits_for(midge: &Midge, id: JobId, code: &str) -> String {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let waits = midge.job(id).await.unwrap().waits.expect("it waits");
        if waits.code == code {
            return waits.text;
        }
        assert!(tokio::time::Instant::now() < deadline, "it waits: {waits:?}, not {code}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_job_that_waits_says_why_and_so_does_its_queue() {
    let one = ServerPolicy { max_machines: Some(1), ..ServerPolicy::default() };
    let midge = start(made, catalog("g1", &["mail"], one)).await;
    let later = request("mail").delay(Duration::from_secs(3_600));
    let later = midge.enqueue(later).await.unwrap().id;
    assert!(waits_for(&midge, later, "scheduled").await.starts_with("scheduled for "));
    let first = midge.enqueue(request("mail")).await.unwrap().id;
    waits_for(&midge, first, "machine_starts").await;
    let other = midge.enqueue(request("default")).await.unwrap().id;
    assert_eq!(waits_for(&midge, other, "server_is_full").await, "the server has its 1 of 1 Machines");
    let queues = midge.queues().await.unwrap();
    assert_eq!((queues.machines, queues.max_machines), (1, 1));
    let codes = queues.queues.into_iter().map(|queue| queue.waits.map(|waits| waits.code));
    assert_eq!(codes.collect::<Vec<_>>(), [Some("server_is_full".into()), Some("machine_starts".into())]);
    midge.cancel(other).await.unwrap();
    assert_eq!(midge.job(other).await.unwrap().waits, None);
    midge.shutdown().await;
}

#[tokio::test]
async fn a_machines_api_that_refuses_is_why_a_job_waits_in_its_own_words() {
    let midge = start(came_out_wrong, catalog("g1", &["mail"], ServerPolicy::default())).await;
    let id = midge.enqueue(request("mail")).await.unwrap().id;
    let text = waits_for(&midge, id, "machine_refused").await;
    assert!(text.contains("the Machine came out without its program (1 time since "), "{text}");
    assert!(text.contains("; next try in "), "{text}");
    midge.shutdown().await;
}
