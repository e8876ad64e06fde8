//! The rules of the HTTP API and of the exchange, asked of a whole server.

use std::sync::Arc;

use axum::http::StatusCode;
use midge_protocol::JobId;
use midge_protocol::api::BulkEnqueued;
use midge_protocol::exchange::{self, Outcome, Running};
use midge_protocol::job::{Cause, Failure};
use midge_protocol::manifest::QueuePolicy;
use midge_server::{Catalog, JobContent};
use midge_store::{MemoryStore, SqliteStore};
use serde_json::json;

use crate::routes::{ROUTES, UNKNOWN};
use crate::stage::{BEARER, HELLO, LATER, Server, done, running};

#[tokio::test]
async fn an_enqueued_module_gives_a_result() {
    let mut server = Server::start().await;
    let id = server.enqueued(json!({"module": "hello", "args": {"name": "you"}})).await;
    let mut host = server.host().await;
    let answer = host.claim(2).await;
    assert_eq!(answer.jobs[0].args, r#"{"name":"you"}"#);
    assert_eq!(server.state(&id).await, "running");
    host.finish(answer.jobs[0].attempt, done("hi")).await;
    let job = server.get(&format!("/v1/jobs/{id}/wait?timeout_ms=10000")).await.json();
    assert_eq!((job["state"].as_str(), job["result_bytes"].as_u64()), (Some("completed"), Some(2)));
    let result = server.midge.content(id.parse().unwrap(), JobContent::Result).await;
    assert_eq!(result.unwrap(), "hi");
}

#[tokio::test]
async fn who_waits_is_woken_when_the_job_ends() {
    let (server, mut host, attempt) = running().await;
    let path = format!("/v1/jobs/{}/wait?timeout_ms=60000", attempt.job);
    let (waited, _) = tokio::join!(server.get(&path), host.finish(attempt, done("hi")));
    assert_eq!(waited.json()["state"], "completed");
}

#[tokio::test]
async fn who_waits_for_a_result_gets_its_bytes_as_soon_as_they_are_there() {
    let (server, mut host, attempt) = running().await;
    let path = format!("/v1/jobs/{}/result?timeout_ms=60000", attempt.job);
    let (waited, _) = tokio::join!(server.get(&path), host.finish(attempt, done("hi")));
    assert_eq!((waited.status, waited.text().as_str()), (StatusCode::OK, "hi"));
}

#[tokio::test]
async fn the_result_of_a_run_before_is_not_that_of_a_job_that_runs_again() {
    let (server, mut host, attempt) = running().await;
    host.finish(attempt, done("old")).await;
    server.post(&format!("/v1/jobs/{}/retry", attempt.job)).await;
    let result = server.get(&format!("/v1/jobs/{}/result", attempt.job)).await;
    assert_eq!((result.status, result.code().as_str()), (StatusCode::NOT_FOUND, "no_content"));
    result.refused(404, "is available and has no result yet");
}

#[tokio::test]
async fn an_attempt_that_never_was_has_no_log_and_is_said_to_be_none() {
    let (server, _, attempt) = running().await;
    let log = |number: &str| format!("/v1/jobs/{}/log?attempt={number}", attempt.job);
    assert_eq!(server.get(&log("1")).await.status, StatusCode::OK);
    for number in ["0", "2", "9", "4294967295"] {
        let reply = server.get(&log(number)).await;
        assert_eq!(reply.code(), "no_such_attempt");
        reply.refused(404, &format!("has no attempt {number}: only attempt 1 was begun"));
    }
    let waiting = server.enqueued(LATER).await;
    let reply = server.get(&format!("/v1/jobs/{waiting}/log?attempt=1")).await;
    reply.refused(404, "has no attempt 1: none was begun yet");
    let path = format!("/v1/jobs/{waiting}/cancel");
    server.post(&path).await;
    server.post(&path).await.refused(409, &format!("job {waiting} is cancelled already"));
}

#[tokio::test]
async fn a_job_is_shown_with_the_time_limit_that_it_was_enqueued_with_and_with_none_of_its_modules() {
    let server = Server::start().await;
    let own = server.enqueued(r#"{"module": "hello", "time_limit_ms": 1500}"#).await;
    let of_module = server.enqueued(HELLO).await;
    assert_eq!(server.job(&own).await.job.time_limit_ms, Some(1_500));
    assert_eq!(server.job(&of_module).await.job.time_limit_ms, None);
}

#[tokio::test]
async fn who_waits_for_a_result_hears_at_once_that_there_will_be_none() {
    let (server, mut host, attempt) = running().await;
    let path = format!("/v1/jobs/{}/result?timeout_ms=60000", attempt.job);
    let refused = Outcome::Failed(Failure::new(Cause::Refused, "bad args"));
    let (waited, _) = tokio::join!(server.get(&path), host.finish(attempt, refused));
    assert_eq!((waited.status, waited.code().as_str()), (StatusCode::NOT_FOUND, "no_content"));
}

#[tokio::test]
async fn a_parked_exchange_is_woken_by_an_enqueue_and_an_older_one_is_answered_empty() {
    let (server, mut host, first) = running().await;
    host.finish(first, done("")).await;
    assert_eq!(server.state(first.job).await, "completed");

    let older = exchange::Request { wait_ms: 10_000, ..host.request(1) };
    let newer = exchange::Request { wait_ms: 10_000, ..host.request(1) };
    let (older, (newer, id)) = tokio::join!(host.exchange(&older), async {
        let enqueue = server.enqueued(HELLO);
        tokio::join!(host.exchange(&newer), enqueue)
    });
    // Either may have been first to see the job; it was leased once, and nobody waited for long.
    let jobs: Vec<_> = older.jobs.iter().chain(&newer.jobs).map(|job| job.attempt.job).collect();
    assert!(jobs.iter().all(|job| job.to_string() == id) && !jobs.is_empty(), "{jobs:?}");
}

#[tokio::test]
async fn what_a_lost_answer_held_is_sent_again_under_the_same_number() {
    let mut server = Server::start().await;
    server.enqueued(HELLO).await;
    let mut host = server.host().await;
    let lost = host.claim(2).await.jobs[0].attempt;
    let again = host.claim(2).await;
    assert_eq!(again.jobs.iter().map(|job| job.attempt).collect::<Vec<_>>(), [lost]);
    let mut known = host.request(1);
    known.running = vec![Running { attempt: lost, progress: None }];
    assert!(host.exchange(&known).await.jobs.is_empty());
}

#[tokio::test]
async fn a_repeated_finish_is_accepted_again_and_changes_nothing() {
    let (server, mut host, attempt) = running().await;
    host.finish(attempt, done("first")).await;
    host.finish(attempt, done("second")).await;
    let result = server.midge.content(attempt.job, JobContent::Result).await;
    assert_eq!(result.unwrap(), "first");
}

#[tokio::test]
async fn a_running_job_is_cancelled_through_its_host() {
    let (server, mut host, attempt) = running().await;
    let reply = server.post(&format!("/v1/jobs/{}/cancel", attempt.job)).await;
    assert_eq!((reply.status, reply.json()["cancelling"].as_bool()), (StatusCode::OK, Some(true)));
    let mut request = host.request(0);
    request.running = vec![Running { attempt, progress: None }];
    assert_eq!(host.exchange(&request).await.cancel, [attempt]);
    host.finish(attempt, Outcome::Cancelled).await;
    assert_eq!(server.state(attempt.job).await, "cancelled");
}

#[tokio::test]
async fn a_refused_job_is_discarded_and_can_be_retried_by_hand() {
    let (server, mut host, attempt) = running().await;
    host.finish(attempt, Outcome::Failed(Failure::new(Cause::Refused, "bad args"))).await;
    assert_eq!(server.state(attempt.job).await, "discarded");
    let page = server.get("/v1/jobs?state=discarded").await.json();
    assert_eq!(page["jobs"][0]["failure"]["message"], "bad args");
    let retried = server.post(&format!("/v1/jobs/{}/retry", attempt.job)).await;
    assert_eq!((retried.status, server.state(attempt.job).await), (StatusCode::OK, "available".to_owned()));
    assert_eq!(host.claim(1).await.jobs[0].attempt.attempt.0, 2);
}

#[tokio::test]
async fn a_host_that_left_has_no_right_any_more() {
    let (_server, mut host, attempt) = running().await;
    host.finish(attempt, done("")).await;
    let leaving = exchange::Request { leaving: true, ..host.request(1) };
    assert!(host.exchange(&leaving).await.left);
    let late = exchange::encode(&host.request(1));
    assert_eq!(host.send(late).await.status, StatusCode::GONE);
}

#[tokio::test]
async fn a_request_that_is_parked_when_its_host_leaves_is_told_so_and_not_turned_away() {
    let (_server, mut host, attempt) = running().await;
    host.finish(attempt, done("")).await;
    let parked = exchange::Request { wait_ms: 10_000, ..host.request(1) };
    let leaving = exchange::Request { leaving: true, ..host.request(1) };
    let (parked, leaving) = tokio::join!(host.exchange(&parked), host.exchange(&leaving));
    assert!(parked.left && leaving.left);
}

#[tokio::test]
async fn hosts_without_the_right_or_the_protocol_are_turned_away() {
    let mut server = Server::start().await;
    server.enqueued(HELLO).await;
    let mut host = server.host().await;
    let request = exchange::encode(&host.request(1));
    let headers = [("authorization", &*host.bearer()), (exchange::PROTOCOL_HEADER, "another")];
    let reply = server.send("POST", &host.path(), &headers, request.clone()).await;
    assert_eq!(reply.status, StatusCode::UPGRADE_REQUIRED);
    let name = std::mem::replace(&mut host.name, "midge-nobody".into());
    assert_eq!(host.send(request.clone()).await.status, StatusCode::NOT_FOUND);
    host.name = name;
    host.secret = "guess".into();
    assert_eq!(host.send(request.clone()).await.status, StatusCode::FORBIDDEN);
    // Which release this is, a stranger is not told.
    let headers = [("authorization", &*host.bearer()), (exchange::PROTOCOL_HEADER, "another")];
    let reply = server.send("POST", &host.path(), &headers, request).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_enqueue_can_be_repeated_but_not_with_other_content() {
    let server = Server::start().await;
    let id = JobId::generate().to_string();
    assert_eq!(
        server.enqueue(json!({"id": null, "module": "hello"})).await.status,
        StatusCode::OK,
        "as if left out"
    );
    let body = json!({"id": id, "module": "hello", "args": 1});
    server.enqueued(&body).await;
    assert_eq!(server.enqueue(&body).await.json()["new"], false);
    let other = server.enqueue(json!({"id": id, "module": "hello", "args": 2})).await;
    assert_eq!((other.status, other.code().as_str()), (StatusCode::CONFLICT, "conflict"));
}

#[tokio::test]
async fn a_bulk_enqueue_is_all_or_none() {
    let server = Server::start().await;
    let bulk = async |last: &str| {
        let jobs = json!({"jobs": [{"module": "hello"}, {"module": last}]});
        server.call("POST", "/v1/jobs/bulk", jobs.to_string()).await
    };
    assert_eq!(bulk("helo").await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(server.get("/v1/jobs").await.json()["jobs"], json!([]));
    let reply = bulk("hello").await;
    assert_eq!((reply.status, reply.json()["jobs"].as_array().unwrap().len()), (StatusCode::OK, 2));
}

#[tokio::test]
async fn bad_requests_say_what_to_do() {
    let server = Server::start().await;
    let large = "x".repeat(70_000);
    for (body, status, says) in [
        (json!({"module": "helo"}), 422, "did you mean `hello`?"),
        (json!({"module": "zzzzzz"}), 422, "add it to midge.toml"),
        (json!({"module": "../etc"}), 400, "is not a module name"),
        (json!({"module": "hello", "arg": 1}), 400, "unknown field `arg`"),
        (json!({"module": "hello", "args": large}), 413, "pass bulk as the job's input"),
        (json!({"module": "hello", "input": "%%%"}), 400, "not base64"),
        (json!({"module": "hello", "max_attempts": 0}), 422, "use 1 to 1000"),
        (json!({"module": "hello", "scheduled_at": "2030-01-01T00:00:00Z", "in_ms": 1}), 422, "use one of"),
        (json!({"module": "hello", "scheduled_at": "tomorrow"}), 400, "is not a time like"),
    ] {
        server.enqueue(body).await.refused(status, says);
    }
    assert_eq!(server.get("/v1/jobs/not-an-id").await.status, StatusCode::BAD_REQUEST);
    let missing = format!("/v1/jobs/{}", JobId::generate());
    assert_eq!(server.get(&missing).await.status, StatusCode::NOT_FOUND);
    assert_eq!(server.get("/v1/jobs?state=happy").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_full_queue_refuses_and_keeps_what_it_has() {
    let policy = QueuePolicy { max_jobs: 2, max_machines: 0, ..QueuePolicy::default() };
    let server = Server::on(Arc::new(MemoryStore::new()), policy).await;
    for _ in 0..2 {
        server.enqueued(HELLO).await;
    }
    let reply = server.enqueue(HELLO).await;
    assert_eq!((reply.status, reply.code().as_str()), (StatusCode::TOO_MANY_REQUESTS, "queue_full"));
    assert_eq!(server.get("/v1/queues").await.json()["queues"][0]["jobs"]["available"], 2);
}

#[tokio::test]
async fn a_body_that_is_left_out_is_said_to_be_empty_where_it_has_to_be_there() {
    let server = Server::start().await;
    let id = server.enqueued(LATER).await;
    for (path, field) in [
        ("/v1/jobs".to_owned(), "module"),
        ("/v1/jobs/bulk".to_owned(), "jobs"),
        ("/v1/sweeps".to_owned(), "action"),
        (format!("/v1/jobs/{id}/priority"), "priority"),
        (format!("/v1/jobs/{id}/move"), "queue"),
    ] {
        let says = format!("the body is empty, and `{field}` is missing: send an object of JSON");
        server.post(&path).await.refused(400, &says);
    }
    for path in ["/v1/queues/default/pause", "/v1/batches"] {
        assert_eq!(server.post(path).await.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn of_a_bulk_it_is_said_whether_its_jobs_ever_fit_into_their_queue() {
    let policy = QueuePolicy { max_jobs: 3, max_machines: 0, ..QueuePolicy::default() };
    let server = Server::on(Arc::new(MemoryStore::new()), policy).await;
    let bulk = |jobs: usize| {
        let body = format!(r#"{{"jobs": [{}]}}"#, vec![HELLO; jobs].join(","));
        server.call("POST", "/v1/jobs/bulk", body)
    };
    let never = bulk(4).await;
    assert!(!never.headers.contains_key("retry-after"));
    never.refused(
        422,
        "[queues.default] has a max_jobs of 3, and 4 jobs at once never fit into it: enqueue fewer",
    );
    bulk(2).await.parse::<BulkEnqueued>();
    let later = bulk(3).await;
    assert_eq!((later.code().as_str(), later.header("retry-after")), ("queue_full", "1"));
    later.refused(
        429,
        "`default` has room for 1 more, and these are 3 jobs: 2 wait, of at most 3; try again later",
    );
    bulk(1).await.parse::<BulkEnqueued>();
    server.enqueue(HELLO).await.refused(429, "queue `default` is full: 3 jobs wait; try again later");
}

#[tokio::test]
async fn a_queue_that_takes_no_job_does_not_ask_for_another_try() {
    let policy = QueuePolicy { max_jobs: 0, ..QueuePolicy::default() };
    let server = Server::on(Arc::new(MemoryStore::new()), policy).await;
    server.enqueue(HELLO).await.refused(422, "[queues.default] has a max_jobs of 0, so that it takes no job");
}

#[tokio::test]
async fn a_queue_takes_no_more_than_it_may_hold_however_many_enqueue_at_once() {
    let policy = QueuePolicy { max_jobs: 100, max_machines: 0, ..QueuePolicy::default() };
    let server = Server::on(Arc::new(MemoryStore::new()), policy).await;
    let bulk = format!(r#"{{"jobs": [{HELLO}, {HELLO}, {HELLO}]}}"#);
    let calls = (0..50).map(|_| server.call("POST", "/v1/jobs/bulk", bulk.clone()));
    let answers = futures_util::future::join_all(calls).await;
    let count = |status| answers.iter().filter(|reply| reply.status == status).count();
    assert_eq!((count(StatusCode::OK), count(StatusCode::TOO_MANY_REQUESTS)), (33, 17));
}

#[tokio::test]
async fn a_delayed_job_is_scheduled_and_can_be_run_now() {
    let server = Server::start().await;
    let id = server.enqueued(LATER).await;
    assert_eq!(server.state(&id).await, "scheduled");
    server.post(&format!("/v1/jobs/{id}/retry")).await;
    assert_eq!(server.state(&id).await, "available");
}

#[tokio::test]
async fn the_page_shows_jobs_and_its_buttons_work_only_from_itself() {
    let server = Server::start().await;
    let id = server.enqueued(LATER).await;
    for path in ["/".to_owned(), format!("/jobs/{id}")] {
        let page = server.send("GET", &path, &[("host", "localhost")], "").await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(page.text().contains(&id));
    }
    let press = async |origin: &str| {
        let headers = [("host", "localhost"), ("origin", origin)];
        server.send("POST", &format!("/jobs/{id}/cancel"), &headers, "").await.status
    };
    assert_eq!(press("http://evil.example").await, StatusCode::FORBIDDEN);
    assert_eq!(server.state(&id).await, "scheduled");
    assert_eq!(press("http://localhost").await, StatusCode::SEE_OTHER);
    assert_eq!(server.state(&id).await, "cancelled");
}

#[tokio::test]
async fn with_a_token_nothing_opens_without_it() {
    let server = Server::with_token().await;
    for (path, methods) in ROUTES {
        let path = path.replace("ID", UNKNOWN);
        for method in methods.split(',') {
            let reply = server.send(method, &path, &[], "").await;
            assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{method} {path}");
        }
    }
    for path in ["/", "/v1/jobs", "/v1/queues", "/v1/machines", "/v1/modules"] {
        let reply = server.send("GET", path, &[], "").await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{path}");
        assert!(reply.headers.contains_key("www-authenticate"));
        let reply = server.send("GET", path, &[BEARER], "").await;
        assert_eq!(reply.status, StatusCode::OK, "{path}");
    }
    assert_eq!(server.send("GET", "/healthz", &[], "").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_server_says_whether_it_has_its_database_to_whoever_asks_how_it_is() {
    let folder = tempfile::TempDir::new().unwrap();
    let [path, away] = ["midge.db", "away.db"].map(|name| folder.path().join(name));
    let store = Arc::new(SqliteStore::open(&path).unwrap());
    let server = Server::on(store, QueuePolicy::default()).await;
    let health = async || server.send("GET", "/healthz", &[], "").await;
    assert_eq!((health().await.status, health().await.text()), (StatusCode::OK, "ok\n".to_owned()));
    std::fs::rename(&path, &away).unwrap();
    let lost = health().await;
    lost.refused(503, "was deleted, moved or replaced");
    assert_eq!(lost.code(), "store_lost");
    std::fs::rename(&away, &path).unwrap();
    assert_eq!(health().await.status, StatusCode::OK);
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    assert_eq!(health().await.code(), "store_damaged");
}

#[tokio::test]
async fn a_host_that_drains_and_still_runs_something_waits_like_any_other() {
    let (server, mut host, attempt) = running().await;
    let other = Catalog { generation: "g2".into(), ..(*server.midge.catalog()).clone() };
    server.midge.deploy(other).await;
    let running = vec![Running { attempt, progress: None }];
    let eager = exchange::Request { running: running.clone(), ..host.request(1) };
    assert!(host.exchange(&eager).await.drain);

    // It is answered for the cancel that comes, and not before.
    let parked = exchange::Request { running, wait_ms: 10_000, ..host.request(0) };
    let path = format!("/v1/jobs/{}/cancel", attempt.job);
    let cancel = async {
        tokio::task::yield_now().await;
        server.post(&path).await
    };
    let (answer, _) = tokio::join!(host.exchange(&parked), cancel);
    assert_eq!(answer.cancel, [attempt]);
}

#[tokio::test]
async fn a_page_of_jobs_has_the_length_that_was_asked_for_or_is_refused() {
    let server = Server::start().await;
    for limit in ["0", "1001", "4294967295"] {
        server.get(&format!("/v1/jobs?limit={limit}")).await.refused(422, "1 to 1000");
    }
    for limit in ["1", "1000"] {
        assert_eq!(server.get(&format!("/v1/jobs?limit={limit}")).await.status, StatusCode::OK);
    }
}
