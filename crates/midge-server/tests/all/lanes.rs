//! Priorities, keys, limits and pauses, through the API and the exchange.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use midge_core::{Bucket, Job, Lane, Turn};
use midge_protocol::exchange::{AttemptRef, Request, Running};
use midge_protocol::manifest::{QueuePolicy, Rate, ServerPolicy};
use midge_protocol::{JobKey, QueueName, Timestamp};
use midge_server::{Clock, dispatcher};
use midge_store::conformance::fixtures::{at, job, put, queue};
use midge_store::{MemoryStore, Store, write};

use super::stage::{Api, Hands, Host, Server, catalog, context, done, made};

/// Jobs that a host may have at once.
const PLACES: u32 = 20;

async fn server(policy: QueuePolicy) -> Server {
    let policy = QueuePolicy { max_machines: 1, jobs_per_machine: PLACES, ..policy };
    Server::on(Arc::new(MemoryStore::new()), policy).await
}

/// Enqueues jobs that name themselves in their args.
async fn enqueue(server: &Server, jobs: &[(&str, &str)]) {
    let jobs: Vec<String> =
        jobs.iter().map(|(name, more)| format!(r#"{{"module": "hello", "args": "{name}"{more}}}"#)).collect();
    let body = format!(r#"{{"jobs": [{}]}}"#, jobs.join(","));
    let reply = server.call("POST", "/v1/jobs/bulk", body).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
}

/// Jobs that a host runs, by their args.
type Held = BTreeMap<String, AttemptRef>;

/// Claims, and returns the args of what was given.
async fn claimed(host: &mut Host, held: &mut Held, room: u32) -> Vec<String> {
    let running = held.values().map(|attempt| Running { attempt: *attempt, progress: None }).collect();
    let request = Request { running, ..host.request(room) };
    let given = host.exchange(&request).await.jobs;
    let named = given.iter().map(|grant| (grant.args.trim_matches('"').to_owned(), grant.attempt));
    let named: Vec<(String, AttemptRef)> = named.collect();
    held.extend(named.iter().cloned());
    named.into_iter().map(|(name, _)| name).collect()
}

const ACME: &str = r#", "key": "acme""#;
const TINY: &str = r#", "key": "tiny""#;

#[tokio::test]
async fn keys_take_turns_and_a_better_priority_goes_first_within_one() {
    let mut server = server(QueuePolicy::default()).await;
    let urgent = format!(r#"{ACME}, "priority": -1"#);
    let jobs = [("a1", ACME), ("a2", ACME), ("a3", &urgent), ("a4", ACME), ("t1", TINY), ("n1", "")];
    enqueue(&server, &jobs).await;
    let mut host = server.host().await;
    let mut held = Held::new();
    let first = claimed(&mut host, &mut held, 3).await;
    assert!(first.contains(&"a3".to_owned()) && first.contains(&"t1".to_owned()), "{first:?}");
    assert!(first.contains(&"n1".to_owned()), "{first:?}");
    assert_eq!(claimed(&mut host, &mut held, 9).await, ["a1", "a2", "a4"]);
}

#[tokio::test]
async fn who_keeps_enqueueing_what_was_to_run_long_ago_goes_before_nobody() {
    let mut server = server(QueuePolicy::default()).await;
    enqueue(&server, &[("t1", TINY), ("t2", TINY), ("t3", TINY)]).await;
    let mut host = server.host().await;
    let mut held = Held::new();
    let long_ago = format!(r#"{ACME}, "scheduled_at": "2001-01-01T00:00:00Z""#);
    for round in 1..=3 {
        let more = [format!("a{round}"), format!("more{round}")];
        enqueue(&server, &more.each_ref().map(|name| (name.as_str(), long_ago.as_str()))).await;
        let mut given = claimed(&mut host, &mut held, 1).await;
        given.extend(claimed(&mut host, &mut held, 1).await);
        assert!(given.contains(&format!("t{round}")), "each has its turn: {given:?}");
    }
}

#[tokio::test]
async fn limits_of_queue_and_key_hold_and_a_slot_is_free_when_its_job_ends() {
    let policy = QueuePolicy { max_running: Some(3), max_running_per_key: Some(1), ..QueuePolicy::default() };
    let mut server = server(policy).await;
    enqueue(&server, &[("a1", ACME), ("a2", ACME), ("t1", TINY), ("n1", ""), ("n2", "")]).await;
    let mut host = server.host().await;
    let mut held = Held::new();
    let mut given = claimed(&mut host, &mut held, 9).await;
    given.sort_unstable();
    assert_eq!(given, ["a1", "n1", "t1"]);
    let page = server.get("/v1/jobs?state=available").await.json();
    for job in page["jobs"].as_array().unwrap() {
        let code = if job["key"] == "acme" { "key_is_at_limit" } else { "queue_is_at_limit" };
        assert_eq!(job["waits"]["code"], code, "{job}");
    }
    let queues = server.get("/v1/queues").await.json();
    assert_eq!(queues["queues"][0]["waits"]["code"], "queue_is_at_limit");
    host.finish(held.remove("t1").unwrap(), done("ok")).await;
    assert_eq!(claimed(&mut host, &mut held, 9).await, ["n2"], "acme has its one");
    host.finish(held.remove("a1").unwrap(), done("ok")).await;
    assert_eq!(claimed(&mut host, &mut held, 9).await, ["a2"]);
}

#[tokio::test]
async fn a_rate_holds_back_what_comes_after_its_burst_and_says_so() {
    let rate = Some(Rate { jobs: 1, per_ms: 3_600_000, burst: 2 });
    let mut server = server(QueuePolicy { rate, ..QueuePolicy::default() }).await;
    enqueue(&server, &[("1", ""), ("2", ""), ("3", "")]).await;
    let mut host = server.host().await;
    assert_eq!(claimed(&mut host, &mut Held::new(), 9).await, ["1", "2"]);
    let queues = server.get("/v1/queues").await.json();
    assert_eq!(queues["queues"][0]["waits"]["code"], "queue_is_at_rate", "{queues}");
}

#[tokio::test]
async fn a_paused_queue_takes_jobs_and_starts_none_until_it_is_resumed() {
    let mut server = server(QueuePolicy::default()).await;
    let pause = r#"{"reason": "the API is down", "by": "ops"}"#;
    let reply = server.call("POST", "/v1/queues/default/pause", pause).await;
    assert_eq!((reply.status, &reply.json()["by"]), (StatusCode::OK, &"ops".into()));
    enqueue(&server, &[("1", "")]).await;
    let queues = server.get("/v1/queues").await.json();
    let queue = &queues["queues"][0];
    assert_eq!(queue["pause"]["reason"], "the API is down");
    assert_eq!(queue["waits"]["text"], "the queue is paused by ops: the API is down");
    assert!(server.get("/").await.text().contains("paused"));
    let second = server.call("POST", "/v1/queues/default/pause", r#"{"by": "ada"}"#).await.json();
    assert_eq!((&second["by"], &second["replaced"]["by"]), (&"ada".into(), &"ops".into()), "{second}");
    let resumed = server.post("/v1/queues/default/resume").await;
    assert_eq!(resumed.status, StatusCode::NO_CONTENT);
    let without_a_body = server.post("/v1/queues/default/pause").await.json();
    assert!(without_a_body.get("replaced").is_none(), "{without_a_body}");
    server.post("/v1/queues/default/resume").await;
    let mut host = server.host().await;
    assert_eq!(claimed(&mut host, &mut Held::new(), 1).await, ["1"]);
}

#[tokio::test]
async fn a_queue_with_jobs_that_is_not_declared_any_more_is_said_to_be_none() {
    let store = Arc::new(MemoryStore::new());
    put(&*store, &[job(1, "before", 0)]).await.unwrap();
    let server = Server::on(store, QueuePolicy::default()).await;
    let queues = server.get("/v1/queues").await.json();
    let declared = |name: &str| {
        let queues = queues["queues"].as_array().unwrap();
        queues.iter().find(|queue| queue["name"] == name).unwrap()["declared"].clone()
    };
    assert_eq!((declared("before"), declared("default")), (false.into(), true.into()));
    assert!(server.get("/").await.text().contains("not declared"));
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_what_may() {
    let server = server(QueuePolicy::default()).await;
    let long = "k".repeat(129);
    for (more, says) in [
        (r#""priority": 101"#, "`priority` is 101: use -100 to 100"),
        (r#""priority": -101"#, "`priority` is -101: use -100 to 100"),
        (r#""priority": 128"#, "128"),
        (r#""priority": 0.5"#, "0.5"),
        (r#""key": """#, "1 to 128 bytes of text without control characters"),
        (r#""key": "a\u0007b""#, "1 to 128 bytes of text without control characters"),
        (r#""key": " ""#, "`key` holds U+0020 at byte 0, a space at its beginning or end: leave it out"),
        (r#""key": "acme\u00a0""#, "`key` holds U+00A0 at byte 4, a space"),
        (&format!(r#""key": "{long}""#), "1 to 128 bytes of text without control characters"),
        (r#""prioritty": 1"#, "did you mean `priority`?"),
    ] {
        let reply = server.enqueue(format!(r#"{{"module": "hello", {more}}}"#)).await;
        let error = reply.json();
        assert!(matches!(reply.status.as_u16(), 400 | 422), "{more}: {error}");
        assert!(error["error"].as_str().unwrap().contains(says), "`{says}` is not in {error}");
    }
    let long = "r".repeat(257);
    for (path, body, says) in [
        ("/v1/queues/defualt/pause", "{}".to_owned(), "did you mean `default`?"),
        ("/v1/queues/defualt/resume", "{}".to_owned(), "did you mean `default`?"),
        ("/v1/queues/DEFAULT/pause", "{}".to_owned(), "is not a queue name"),
        (
            "/v1/queues/default/pause",
            format!(r#"{{"reason": "{long}"}}"#),
            "reason is 257 bytes, and at most 256",
        ),
        (
            "/v1/queues/default/pause",
            r#"{"for_ms": 18446744073709551615}"#.to_owned(),
            "use less, so that it ends before that",
        ),
        ("/v1/queues/default/pause", r#"{"until": "2020-01-01T00:00:00Z"}"#.to_owned(), "use a later time"),
        (
            "/v1/queues/default/pause",
            r#"{"until": "2090-01-01T00:00:00Z", "for_ms": 1}"#.to_owned(),
            "use one of `until` and `for_ms`",
        ),
        ("/v1/queues/default/pause", r#"{"for_ms": 0}"#.to_owned(), "use at least 1"),
        ("/v1/jobs/retry", "{}".to_owned(), "`retry` is no id of a job"),
        ("/v1/queues/default/pause", r#"{"unti": 1}"#.to_owned(), "did you mean `until`?"),
    ] {
        let reply = server.call("POST", path, body).await;
        let error = reply.json();
        assert!(reply.status.is_client_error(), "{path}: {error}");
        assert!(error["error"].as_str().unwrap().contains(says), "`{says}` is not in {error}");
    }
    assert!(server.get("/v1/queues").await.json()["queues"][0].get("pause").is_none());
}

const HOURLY: Rate = Rate { jobs: 1, per_ms: 3_600_000, burst: 1 };

#[tokio::test]
async fn a_limit_that_a_deploy_raises_or_removes_holds_for_jobs_that_wait_already() {
    let none = QueuePolicy { max_machines: 1, jobs_per_machine: PLACES, ..QueuePolicy::default() };
    let hourly = QueuePolicy { rate_per_key: Some(HOURLY), ..none.clone() };
    let one = QueuePolicy { max_running_per_key: Some(1), ..none.clone() };
    let fast = Rate { jobs: 1_000, per_ms: 1_000, burst: 5 };
    for (before, after) in [
        (hourly.clone(), none.clone()),
        (hourly.clone(), QueuePolicy { rate_per_key: Some(fast), ..none.clone() }),
        (one.clone(), QueuePolicy { max_running_per_key: Some(4), ..none.clone() }),
        (one, none.clone()),
        (
            QueuePolicy { rate: Some(HOURLY), ..none.clone() },
            QueuePolicy { rate: Some(fast), ..none.clone() },
        ),
    ] {
        let mut server = Server::on(Arc::new(MemoryStore::new()), before).await;
        enqueue(&server, &[("a1", ACME), ("a2", ACME)]).await;
        let mut host = server.host().await;
        let mut held = Held::new();
        assert_eq!(claimed(&mut host, &mut held, 9).await, ["a1"]);
        assert!(claimed(&mut host, &mut held, 9).await.is_empty());
        let queues = [(QueueName::default_queue(), after.clone())].into();
        server.midge.deploy(catalog(queues, ServerPolicy::default())).await;
        let running = held.values().map(|attempt| Running { attempt: *attempt, progress: None }).collect();
        // It is answered when there is something for it.
        let request = Request { running, wait_ms: 10_000, ..host.request(9) };
        let given = host.exchange(&request).await.jobs;
        assert_eq!(given.len(), 1, "{after:?}");
    }
}

/// A job of the queue `default` with a key.
fn keyed(number: u128, name: &str, due: i64) -> Job {
    Job { key: Some(JobKey::new(name).unwrap()), ..job(number, "default", due) }
}

/// Decides once, and returns how many Machines are to be made, and when the next round comes.
async fn round(store: &dyn Store, policy: &QueuePolicy, clock: &Hands) -> (usize, Option<Timestamp>) {
    let (api, _hosts) = Api::new(made);
    let context = context(catalog([(queue("default"), policy.clone())].into(), ServerPolicy::default()));
    let decided = dispatcher::decide(store, &api, &context, clock).await.unwrap();
    (decided.acts.len(), decided.next_due)
}

/// Has the lane of a key be looked at only at a time, since its rate is used up until then.
async fn put_off(store: &dyn Store, name: &str, until: Timestamp) {
    let bucket = Bucket { full_at_us: Turn::at(until).0 };
    let turn = Some(Turn::at(until));
    let lane = Lane { turn, bucket, ..Lane::new(queue("default"), JobKey::new(name).unwrap()) };
    write(store, move |rows| rows.put_lanes(&[lane], at(0))).await.unwrap();
}

#[tokio::test]
async fn no_machine_is_made_for_what_no_host_could_claim_before_a_deploy_or_after_it() {
    let (store, clock) = (MemoryStore::new(), Hands::default());
    let hourly = QueuePolicy { rate_per_key: Some(HOURLY), ..QueuePolicy::default() };
    round(&store, &hourly, &clock).await;
    put(&store, &[keyed(1, "a", 0), keyed(2, "b", 60_000)]).await.unwrap();
    put_off(&store, "a", at(3_600_000)).await;
    assert_eq!(round(&store, &hourly, &clock).await.0, 0);
    let two_hourly = Rate { per_ms: 7_200_000, ..HOURLY };
    let slower = QueuePolicy { rate_per_key: Some(two_hourly), ..QueuePolicy::default() };
    assert_eq!(round(&store, &slower, &clock).await.0, 0);
    let raised = QueuePolicy { max_running_per_key: Some(1), ..QueuePolicy::default() };
    assert_eq!(round(&store, &raised, &clock).await.0, 1);
}

#[tokio::test]
async fn a_clock_that_was_put_back_while_no_server_ran_holds_no_key_up() {
    let (store, clock) = (MemoryStore::new(), Hands::default());
    let policy = QueuePolicy { rate_per_key: Some(Rate::new(1, 1_000)), ..QueuePolicy::default() };
    round(&store, &policy, &clock).await;
    put(&store, &[keyed(1, "a", 0)]).await.unwrap();
    let a_day = 86_400_000;
    put_off(&store, "a", at(a_day)).await;
    assert_eq!(round(&store, &policy, &clock).await.0, 0, "its rate allows none");
    dispatcher::take_over(&store, clock.now(), "id".to_owned()).await.unwrap();
    round(&store, &policy, &clock).await;
    clock.advance(1_000);
    assert_eq!(round(&store, &policy, &clock).await.0, 1);
}

#[tokio::test]
async fn any_number_of_keys_is_put_anew_a_few_in_a_round() {
    let (store, clock) = (MemoryStore::new(), Hands::default());
    let hourly = QueuePolicy { rate_per_key: Some(HOURLY), ..QueuePolicy::default() };
    let jobs: Vec<Job> = (0..1_200).map(|n| keyed(n, &format!("k{n:04}"), 0)).collect();
    put(&store, &jobs).await.unwrap();
    for n in 0..1_200 {
        put_off(&store, &format!("k{n:04}"), at(86_400_000)).await;
    }
    let mut rounds = 1;
    while round(&store, &hourly, &clock).await.1 == Some(clock.now()) {
        rounds += 1;
    }
    assert_eq!(rounds, 3);
    let next = round(&store, &hourly, &clock).await.1;
    assert_eq!(next, Some(at(3_600_000)), "each is looked at when its rate allows it");
}

#[tokio::test]
async fn a_queue_whose_waiting_jobs_are_all_of_keys_without_room_says_so() {
    let policy = QueuePolicy { max_running_per_key: Some(1), ..QueuePolicy::default() };
    let mut server = server(policy).await;
    enqueue(&server, &[("a1", ACME), ("a2", ACME), ("a3", ACME)]).await;
    let mut host = server.host().await;
    let mut held = Held::new();
    assert_eq!(claimed(&mut host, &mut held, 9).await, ["a1"]);
    let waits = async || server.get("/v1/queues").await.json()["queues"][0]["waits"]["code"].clone();
    assert_eq!(waits().await, "keys_are_at_limit");
    enqueue(&server, &[("t1", TINY)]).await;
    assert_eq!(waits().await, "place_is_free");
}
