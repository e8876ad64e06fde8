//! A module for which Machines lack something: its jobs are held, and one at a time tries again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use midge_core::{Machine, MachineState, QueueRow};
use midge_protocol::api::Pause;
use midge_protocol::exchange::{AttemptRef, Outcome, Request};
use midge_protocol::job::State;
use midge_protocol::manifest::{QueuePolicy, ServerPolicy};
use midge_protocol::{JobId, Secret};
use midge_server::dispatcher::{self, Decided};
use midge_server::exchange::{self, Context, Exchanged};
use midge_server::{Access, secret_hash};
use midge_store::conformance::fixtures::{self, at, id, job_of, machine_name, module, put};
use midge_store::{MemoryStore, read, write};

use super::stage::{self, Api, BOOT, HELLO, Hands, Server, done, finished, made, request};

fn lacks() -> Outcome {
    Outcome::ModuleLacks { what: "the secret `KEY`: its variable `KEY` is not set".into() }
}

/// A store with a Machine that is up, jobs of the module `mail` and one of `hello` behind them.
struct Stage {
    store: MemoryStore,
    api: Api,
    clock: Hands,
    dispatcher: dispatcher::Context,
    seq: u64,
}

const MAILS: u128 = 20;

impl Stage {
    async fn new() -> Stage {
        let store = MemoryStore::new();
        let jobs: Vec<_> = (0..MAILS).map(|number| job_of(number, "default", "mail", -5)).collect();
        put(&store, &jobs).await.unwrap();
        put(&store, &[job_of(MAILS, "default", "hello", -1)]).await.unwrap();
        let policy = QueuePolicy { max_machines: 4, jobs_per_machine: 2, ..QueuePolicy::default() };
        let queues = [(fixtures::queue("default"), policy)].into();
        let mut catalog = stage::catalog(queues, ServerPolicy::default());
        let entry = catalog.manifest.modules[&module("hello")].clone();
        catalog.manifest.modules.insert(module("mail"), entry);
        let stage = Stage {
            store,
            api: Api::new(made).0,
            clock: Hands::default(),
            dispatcher: dispatcher::Context { looks: false, ..stage::context(catalog) },
            seq: 0,
        };
        stage.is_up("m").await;
        stage
    }

    /// Puts a Machine that has just come up.
    async fn is_up(&self, name: &str) {
        let now = self.now();
        let machine = Machine {
            secret_hash: secret_hash(&Secret::new("s")),
            generation: self.dispatcher.catalog.generation.clone(),
            boot: Some(BOOT),
            heard_at: Some(now),
            since: now,
            places: 2,
            state: MachineState::Up,
            ..fixtures::machine(name)
        };
        write(&self.store, move |rows| rows.put_machine(&machine)).await.unwrap();
    }

    fn now(&self) -> midge_protocol::Timestamp {
        use midge_server::Clock;
        self.clock.now()
    }

    async fn exchange(&mut self, machine: &str, ends: &[(AttemptRef, Outcome)], room: u32) -> Exchanged {
        self.seq += 1;
        let ends = ends.iter().map(|(attempt, outcome)| finished(*attempt, outcome.clone()));
        let request = Request { finished: ends.collect(), ..request(self.seq, room) };
        let context = Context { catalog: self.dispatcher.catalog.clone(), jitter: 0.0 };
        let (name, hash) = (machine_name(machine), secret_hash(&Secret::new("s")));
        exchange::exchange(&self.store, context, name, hash, request, self.now()).await.unwrap()
    }

    /// Makes rounds until none is to come at once.
    async fn round(&self) -> Decided {
        for _ in 0..9 {
            let decided =
                dispatcher::decide(&self.store, &self.api, &self.dispatcher, &self.clock).await.unwrap();
            if decided.next_due.is_none_or(|next| next > self.now()) {
                return decided;
            }
        }
        panic!("there is always another round at once");
    }

    async fn held(&self) -> u64 {
        let held = read(&self.store, |rows| rows.modules_held()).await.unwrap();
        held.get(&module("mail")).copied().unwrap_or(0)
    }
}

fn attempts(exchanged: &Exchanged) -> Vec<AttemptRef> {
    exchanged.answer.jobs.iter().map(|grant| grant.attempt).collect()
}

#[tokio::test]
async fn jobs_of_a_module_for_which_the_machine_lacks_something_are_held_and_others_start() {
    let mut stage = Stage::new().await;
    let mails = attempts(&stage.exchange("m", &[], 2).await);
    assert_eq!(mails.len(), 2);
    let next = stage.exchange("m", &[(mails[0], lacks()), (mails[1], lacks())], 2).await;
    let hello: Vec<JobId> = attempts(&next).iter().map(|attempt| attempt.job).collect();
    assert_eq!((hello, next.answer.drain), (vec![id(MAILS)], false), "the Machine is good for others");
    let decided = stage.round().await;
    assert!(decided.acts.is_empty(), "no Machine is made for what is held: {decided:?}");
    assert_eq!(decided.next_due, Some(at(10_000)), "when one tries");
    assert_eq!(stage.held().await, u64::from(MAILS as u32));
    let job = read(&stage.store, |rows| rows.jobs(&[id(0)])).await.unwrap().remove(0).unwrap();
    assert_eq!((job.state_at(stage.now()), job.spent), (State::Available, 0));
}

#[tokio::test]
async fn one_job_at_a_time_tries_again_and_on_a_machine_that_has_begun_since() {
    let mut stage = Stage::new().await;
    let mails = attempts(&stage.exchange("m", &[], 2).await);
    let ends = [(mails[0], lacks()), (mails[1], lacks())];
    let hello = attempts(&stage.exchange("m", &ends, 2).await);
    stage.exchange("m", &[(hello[0], done("1"))], 2).await;
    for (wait, tries) in [(10, 1), (20, 2), (40, 3)] {
        stage.clock.advance(wait * 1_000 - 1);
        stage.round().await;
        assert_eq!(stage.held().await, u64::from(MAILS as u32), "not yet, after {tries}");
        stage.clock.advance(1);
        stage.round().await;
        assert_eq!(stage.held().await, u64::from(MAILS as u32) - 1);
        let machine = if tries == 1 { "m".to_owned() } else { format!("m{tries}") };
        if tries > 1 {
            stage.is_up(&machine).await;
            stage.seq = 0;
        }
        let trial = attempts(&stage.exchange(&machine, &[], 2).await);
        assert_eq!(trial.len(), 1, "one tries, whatever room there is");
        let answer = stage.exchange(&machine, &[(trial[0], lacks())], 2).await.answer;
        assert!(answer.jobs.is_empty());
        assert_eq!(answer.drain, tries == 1, "it was there when a Machine said so the last time");
    }
    stage.clock.advance(80_000);
    stage.round().await;
    stage.is_up("m9").await;
    stage.seq = 0;
    let trial = attempts(&stage.exchange("m9", &[], 2).await);
    stage.exchange("m9", &[(trial[0], done("1"))], 0).await;
    stage.round().await;
    assert_eq!(stage.held().await, 0, "nothing is lacked any more");
    let rows = read(&stage.store, |rows| rows.modules()).await.unwrap();
    assert!(rows.is_empty(), "{rows:?}");
    assert_eq!(attempts(&stage.exchange("m9", &[], 2).await).len(), 2);
}

#[tokio::test]
async fn a_job_tries_of_a_queue_that_starts_jobs_and_not_of_one_that_is_paused() {
    let mut stage = Stage::new().await;
    put(&stage.store, &[job_of(50, "zeta", "mail", -1)]).await.unwrap();
    let granted = attempts(&stage.exchange("m", &[], 2).await);
    let ends: Vec<_> = granted.into_iter().map(|attempt| (attempt, lacks())).collect();
    stage.exchange("m", &ends, 2).await;
    stage.round().await;
    let pause = Pause { since: stage.now(), until: None, reason: "repair".into(), by: "Ada".into() };
    let paused = QueueRow { pause: Some(pause), ..QueueRow::default() };
    write(&stage.store, move |rows| rows.put_queue(&fixtures::queue("default"), &paused)).await.unwrap();
    stage.clock.advance(11_000);
    stage.round().await;
    let row = read(&stage.store, |rows| rows.modules()).await.unwrap().remove(&module("mail")).unwrap();
    assert_eq!(row.lack.unwrap().trial, Some(id(50)), "the other queue starts nothing");
}

#[tokio::test]
async fn another_generation_is_tried_at_once() {
    let mut stage = Stage::new().await;
    let mails = attempts(&stage.exchange("m", &[], 2).await);
    stage.exchange("m", &[(mails[0], lacks()), (mails[1], lacks())], 0).await;
    stage.round().await;
    let newer = midge_server::Catalog { generation: "g2".into(), ..(*stage.dispatcher.catalog).clone() };
    stage.dispatcher.catalog = Arc::new(newer);
    stage.round().await;
    assert_eq!(stage.held().await, 0);
}

#[tokio::test]
async fn people_are_told_what_machines_lack_and_have_a_job_try_or_start_the_server_again() {
    let store = Arc::new(MemoryStore::new());
    let policy = QueuePolicy { max_machines: 1, jobs_per_machine: 2, ..QueuePolicy::default() };
    let mut server = Server::on(store.clone(), policy).await;
    let job: JobId = server.enqueued(HELLO).await.parse().unwrap();
    let mut host = server.host().await;
    let attempt = host.claim(1).await.jobs[0].attempt;
    assert!(host.finish(attempt, lacks()).await.jobs.is_empty());
    let waits = server.job(job).await.job.waits.unwrap();
    assert_eq!(waits.code, "module_lacks");
    let said = "Machines lack the secret `KEY`: its variable `KEY` is not set: tried 1 time since";
    assert!(waits.text.starts_with(said), "{}", waits.text);
    let modules = server.get("/v1/modules").await.json();
    assert_eq!(modules["modules"][0]["lacks"]["times"], 1, "{modules}");
    assert!(server.get("/").await.text().contains("no, Machines lack the secret"));
    let hello = module("hello");
    let until_held = async || {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while !read(&*store, |rows| rows.modules_held()).await.unwrap().contains_key(&hello) {
            assert!(tokio::time::Instant::now() < deadline, "it is never held");
            tokio::task::yield_now().await;
        }
    };
    until_held().await;
    let queues = server.get("/v1/queues").await.json();
    assert_eq!(queues["queues"][0]["waits"]["code"], "jobs_are_held", "{queues}");

    // A pause is another matter, and to go on is to try.
    assert_eq!(server.call("POST", "/v1/modules/hello/pause", "{}").await.status, StatusCode::OK);
    assert_eq!(server.post("/v1/modules/hello/resume").await.status, StatusCode::NO_CONTENT);
    let mut request = host.request(2);
    request.wait_ms = 20_000;
    let trial = host.exchange(&request).await.jobs[0].attempt;
    assert!(host.finish(trial, lacks()).await.drain, "it says so for the second time");
    let modules = server.get("/v1/modules").await.json();
    assert_eq!(modules["modules"][0]["lacks"]["times"], 1, "since somebody had one try: {modules}");

    // Whoever has set the variable starts the server again.
    server.midge.shutdown().await;
    let catalog = stage::catalog(BTreeMap::new(), ServerPolicy::default());
    let again = Server::of(store.clone(), made, catalog, Access::Loopback).await;
    let modules = again.get("/v1/modules").await.json();
    assert!(modules["modules"][0].get("lacks").is_none(), "{modules}");
}
