//! What Machines and jobs cost: summed with what ends, never twice, and told to this moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use midge_core::{COST_DAYS_KEPT, CostBook, CostKey, CostSums, Machine, MachineState, Retention};
use midge_machines::SeenState;
use midge_protocol::api::{Costs, CostsBy, QueueView, Queues};
use midge_protocol::exchange::{self as wire, AttemptRef, Finished, Outcome};
use midge_protocol::job::{Cause, Failure, Usage};
use midge_protocol::manifest::{AtBudget, Budget, MachineSize, QueuePolicy, ServerPolicy};
use midge_protocol::{AttemptNumber, Day, Dollars, MachineId, Secret, Timestamp};
use midge_server::dispatcher::Old;
use midge_server::exchange::{self, Context};
use midge_server::{dispatcher, secret_hash};
use midge_store::conformance::fixtures::{self, at, id, job_of, machine_name, put, running};
use midge_store::{MemoryStore, Store, read, write};

use crate::stage::{self, Api, BOOT, HELLO, Hands, Host, Server, done, made, request};

/// An attempt that ran for so long, and had this share.
fn ended(attempt: AttemptRef, outcome: Outcome, ran_us: u64, share_us: u64) -> Finished {
    Finished::new(attempt, outcome, Usage { ran_us, share_us, ..Usage::default() })
}

async fn report(host: &mut Host, finished: Vec<Finished>) {
    let request = wire::Request { finished, ..host.request(0) };
    host.exchange(&request).await;
}

async fn costs(server: &Server, query: &str) -> Costs {
    server.get(&format!("/v1/costs?{query}")).await.parse()
}

#[tokio::test]
async fn an_attempt_costs_its_share_and_the_machine_what_it_runs_to_this_moment() {
    let mut server = Server::start().await;
    let id = server.enqueued(HELLO).await;
    let mut host = server.host().await;
    let attempt = host.claim(1).await.jobs[0].attempt;
    report(&mut host, vec![ended(attempt, done("1"), 900, 700)]).await;
    let view = server.job(&id).await.attempts.pop().unwrap();
    // 700 us of 6.70 dollars for 30 days.
    assert_eq!((view.usage.unwrap().share_us, view.cost.unwrap().as_nanos()), (700, 2));
    for (by, name) in [(CostsBy::Queue, "default"), (CostsBy::Module, "hello")] {
        let costs = costs(&server, &format!("by={by}")).await;
        let group = costs.groups.iter().find(|group| group.name.as_deref() == Some(name)).unwrap();
        assert_eq!((group.cost.attempts, group.cost.busy_us), (1, 700), "{costs:?}");
        assert_eq!((costs.total.attempts, costs.total.busy.as_nanos(), costs.by), (1, 2, by));
        assert!(costs.total.dollars >= costs.total.busy && costs.total.always_on.is_some());
    }
    let page = server.get("/").await.text();
    assert!(page.contains("<h2>Costs since ") && page.contains("one always on"), "{page}");
}

#[tokio::test]
async fn a_report_that_is_repeated_or_nobodys_counts_for_nothing() {
    let mut server = Server::start().await;
    server.enqueued(HELLO).await;
    let mut host = server.host().await;
    let attempt = host.claim(1).await.jobs[0].attempt;
    let stranger = AttemptRef { attempt: AttemptNumber(9), ..attempt };
    report(&mut host, vec![ended(stranger, done("1"), 500, 500)]).await;
    for _ in 0..3 {
        report(&mut host, vec![ended(attempt, done("1"), 500, 500)]).await;
    }
    let total = costs(&server, "").await.total;
    assert_eq!((total.attempts, total.busy_us), (1, 500));
}

#[tokio::test]
async fn a_host_is_believed_no_more_than_the_attempt_ran_or_was_leased() {
    let mut server = Server::start().await;
    server.enqueued(HELLO).await;
    let mut host = server.host().await;
    let attempt = host.claim(1).await.jobs[0].attempt;
    let failure = Failure { retry_after_ms: Some(0), ..Failure::new(Cause::Exit, "no") };
    report(&mut host, vec![ended(attempt, Outcome::Failed(failure), 400, u64::MAX)]).await;
    assert_eq!(costs(&server, "").await.total.busy_us, 400);
    let again = host.claim(1).await.jobs[0].attempt;
    report(&mut host, vec![ended(again, done("1"), u64::MAX, u64::MAX)]).await;
    let total = costs(&server, "").await.total;
    assert_eq!(total.attempts, 2, "one that is tried again is an attempt");
    assert!(total.busy_us < Duration::from_secs(3_600).as_micros() as u64, "{total:?}");
}

#[tokio::test]
async fn what_is_asked_wrong_is_said() {
    let server = Server::start().await;
    for (query, status, says) in [
        ("since=2030-02-01&until=2030-01-31", 422, "`until` is 2030-01-31, before `since`, 2030-02-01"),
        ("since=yesterday", 400, "yesterday"),
        ("until=2030-02-30", 400, "2030-02-30"),
        ("by=tenant", 400, "by"),
        ("sinec=2030-01-01", 400, "sinec"),
    ] {
        let reply = server.get(&format!("/v1/costs?{query}")).await;
        assert!(
            reply.status == status && reply.text().contains(says),
            "{query}: {} {}",
            reply.status,
            reply.text()
        );
    }
    let far = costs(&server, "since=0000-01-01&until=9999-12-30&by=day").await;
    assert_eq!((far.groups.len(), far.total.attempts), (0, 0));
}

async fn sums(store: &MemoryStore) -> Vec<(CostKey, CostSums)> {
    read(store, |rows| -> Result<_, midge_store::StoreError> {
        let mut all = Vec::new();
        let days = Day::of(Timestamp::EARLIEST)..=Day::of(Timestamp::LATEST);
        rows.costs(days, &mut |key, sums| all.push((key, sums)))?;
        Ok(all)
    })
    .await
    .unwrap()
}

fn machine(name: &str) -> Machine {
    let (boot, heard_at) = (Some(BOOT), Some(at(0)));
    let size = MachineSize { memory_mib: 512, ..MachineSize::default() };
    let secret_hash = secret_hash(&Secret::new("s"));
    let (generation, id) = ("g1".to_owned(), MachineId::new("e1").ok());
    Machine { secret_hash, generation, id, boot, heard_at, size, ..fixtures::machine(name) }
}

/// Returns a store with a Machine that is up, and attempts at these modules that are leased to it.
async fn leased(modules: &[&str]) -> MemoryStore {
    let store = MemoryStore::new();
    write(&store, |rows| rows.put_machine(&machine("m"))).await.unwrap();
    let jobs: Vec<_> = modules
        .iter()
        .zip(1..)
        .map(|(module, number)| running(&job_of(number, "default", module, 0), "m"))
        .collect();
    put(&store as &dyn Store, &jobs).await.unwrap();
    store
}

#[tokio::test]
async fn one_exchange_writes_one_sum_for_each_module() {
    let store = leased(&["hello", "resize", "hello"]).await;
    let finished = (1..=3).map(|number| {
        ended(
            AttemptRef::new(id(number), AttemptNumber(1)),
            done("1"),
            100 * number as u64,
            100 * number as u64,
        )
    });
    let request = wire::Request { finished: finished.collect(), ..request(1, 0) };
    let catalog = stage::catalog(BTreeMap::new(), ServerPolicy::default());
    let context = Context { catalog: Arc::new(catalog), jitter: 0.0 };
    let secret = secret_hash(&Secret::new("s"));
    exchange::exchange(&store, context, machine_name("m"), secret, request, at(0)).await.unwrap();
    let sums = sums(&store).await;
    let of = |(key, sums): &(CostKey, CostSums)| {
        (key.module.as_ref().map(ToString::to_string), key.size.memory_mib, sums.attempts, sums.share_us)
    };
    let told: Vec<_> = sums.iter().filter(|(key, _)| key.module.is_some()).map(of).collect();
    assert_eq!(told, [(Some("hello".to_owned()), 512, 2, 400), (Some("resize".to_owned()), 512, 1, 200)]);
}

#[tokio::test]
async fn attempts_that_are_lost_with_their_machine_count_and_its_time_is_idle() {
    let store = leased(&["hello", "hello"]).await;
    let (mut api, _hosts) = Api::new(made);
    api.shows = |_, _| Some(("m".to_owned(), SeenState::Destroyed));
    let policies = [(fixtures::queue("default"), QueuePolicy { max_machines: 0, ..QueuePolicy::default() })];
    let context = stage::context(stage::catalog(policies.into(), ServerPolicy::default()));
    // Since when it costs is known from the first look on.
    let up = Machine { meter: machine("m").apply(heard(), at(0)).unwrap().machine.meter, ..machine("m") };
    write(&store, move |rows| rows.put_machine(&up)).await.unwrap();
    let hands = Hands::default();
    hands.advance(7_000);
    dispatcher::decide(&store, &api, &context, &hands).await.unwrap();
    let sums = sums(&store).await;
    let [(machines, time), (attempts, lost)] = &sums[..] else { panic!("{sums:?}") };
    assert_eq!((machines.module.is_none(), time.running_us, time.attempts), (true, 7_000_000, 0));
    assert_eq!((attempts.module.is_some(), lost.attempts, lost.share_us), (true, 2, 0));
    let row = read(&store, |rows| rows.machine(&machine_name("m"))).await.unwrap();
    assert!(row.is_none_or(|row| row.state == MachineState::Gone && row.meter.is_none()));
}

#[tokio::test]
async fn sums_are_kept_for_as_many_days_as_is_said() {
    let store = MemoryStore::new();
    let now = at(0);
    let key = |days| CostKey {
        day: Day::of(now).before(days),
        queue: fixtures::queue("default"),
        module: None,
        size: MachineSize::default(),
        region: None,
    };
    let mut book = CostBook::default();
    for days in [0, COST_DAYS_KEPT, COST_DAYS_KEPT + 1, 2 * COST_DAYS_KEPT] {
        book.add(key(days), CostSums { made: 1, ..CostSums::default() });
    }
    write(&store, move |rows| rows.add_costs(&book)).await.unwrap();
    let catalog = stage::catalog(BTreeMap::new(), ServerPolicy::default());
    let old = read(&store, move |rows| Old::all(rows, &catalog, Retention::default(), now)).await.unwrap();
    let mut steps = 0;
    for old in old.into_iter().filter(|old| matches!(old, Old::Costs(_))) {
        while write(&store, {
            let old = old.clone();
            move |rows| old.delete(rows, 1)
        })
        .await
        .unwrap()
        {
            steps += 1;
        }
    }
    assert_eq!(steps, 2, "one at once");
    let left: Vec<_> = sums(&store).await.into_iter().map(|(key, _)| key.day).collect();
    assert_eq!(left, [COST_DAYS_KEPT, 0].map(|days| Day::of(now).before(days)));
}

fn heard() -> midge_core::MachineEvent {
    midge_core::MachineEvent::Heard { boot: BOOT, seq: 1, generation: "g1".to_owned() }
}

/// A queue that has spent so many dollars in this month of its budget of ten, and a job that is due.
async fn with_budget(at_budget: AtBudget, spent: u64) -> Server {
    let store = Arc::new(MemoryStore::new());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let key = CostKey {
        day: Day::of(Timestamp::from_millis(now as i64)),
        queue: fixtures::queue("default"),
        module: None,
        size: MachineSize::default(),
        region: None,
    };
    // 6.70 dollars for 30 days.
    let running_us = spent * 30 * 86_400 * 100_000_000 / 670;
    let mut book = CostBook::default();
    book.add(key, CostSums { running_us, ..CostSums::default() });
    write(&*store, move |rows| rows.add_costs(&book)).await.unwrap();
    let budget = Budget { dollars_per_month: Dollars::from_cents(1_000), at: at_budget };
    let policy = QueuePolicy { max_machines: 4, budget: Some(budget), ..QueuePolicy::default() };
    let server = Server::on(store, policy).await;
    server.enqueued(HELLO).await;
    server
}

async fn the_queue(server: &Server) -> QueueView {
    server.get("/v1/queues").await.parse::<Queues>().queues.pop().unwrap()
}

#[tokio::test]
async fn a_budget_that_is_nearly_spent_is_told_and_the_queue_goes_on() {
    let mut server = with_budget(AtBudget::Pause, 7).await;
    assert!(!the_queue(&server).await.budget.unwrap().warns);
    server.host().await;
    for at in [AtBudget::Warn, AtBudget::Pause] {
        let mut server = with_budget(at, 9).await;
        let budget = the_queue(&server).await.budget.unwrap();
        assert!(budget.warns && budget.until.is_none(), "{budget:?}");
        assert!(server.get("/").await.text().contains("$9.00 of its $10.00 for this month are spent"));
        server.host().await;
    }
    let mut over = with_budget(AtBudget::Warn, 12).await;
    over.host().await;
}

#[tokio::test]
async fn a_queue_whose_budget_is_spent_starts_nothing_and_says_why() {
    let mut server = with_budget(AtBudget::Pause, 10).await;
    let queue = loop {
        let queue = the_queue(&server).await;
        if queue.budget.as_ref().unwrap().until.is_some() {
            break queue;
        }
        tokio::task::yield_now().await;
    };
    let waits = queue.waits.unwrap();
    assert_eq!(waits.code, "budget_is_spent");
    assert!(waits.text.contains("it starts nothing until"), "{}", waits.text);
    assert!(server.made.try_recv().is_err(), "no Machine is made");
}

#[tokio::test]
async fn a_queue_that_is_slowed_has_half_as_many_machines() {
    let mut server = with_budget(AtBudget::Slow, 10).await;
    for _ in 0..20 {
        server.enqueued(r#"{"module": "hello", "args": {"name": "x"}}"#).await;
    }
    for _ in 0..2 {
        let mut host = server.host().await;
        assert_eq!(host.claim(2).await.jobs.len(), 2);
    }
    let waits = the_queue(&server).await.waits.unwrap();
    assert_eq!(
        (&*waits.code, &*waits.text),
        ("queue_is_busy", "the queue has its 2 of 2 Machines, all busy")
    );
    assert!(server.made.try_recv().is_err(), "half of four");
}
