//! Batches: groups of jobs, and what is run when they have ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use midge_core::{Batch, Job, Phase};
use midge_protocol::api::{BatchCounts, BatchMade, BatchState, BatchView};
use midge_protocol::exchange::{AttemptRef, Outcome};
use midge_protocol::job::{Cause, Failure, State};
use midge_protocol::manifest::{QueuePolicy, ServerPolicy};
use midge_protocol::{BatchId, JobId, limits};
use midge_server::dispatcher;
use midge_store::conformance::fixtures::{at, id, job, put, running};
use midge_store::{MemoryStore, read, write};
use serde_json::json;

use super::stage::{self, Api, Hands, Host, Server, done, made};

const UNKNOWN: &str = "0190b3e4-7d5c-7c3a-9f00-0123456789ab";

async fn server() -> Server {
    let policy = QueuePolicy { max_machines: 1, jobs_per_machine: 8, ..QueuePolicy::default() };
    Server::on(Arc::new(MemoryStore::new()), policy).await
}

/// Makes a batch with all three callbacks.
async fn make(server: &Server) -> BatchMade {
    let job = json!({"module": "hello"});
    let body = json!({"name": "import", "on_completed": job, "on_ended": job, "on_failure": job});
    let reply = server.call("POST", "/v1/batches", body.to_string()).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    reply.parse()
}

/// The states of a batch's callbacks: completed, ended, failure.
async fn callbacks(server: &Server, made: &BatchMade) -> Vec<String> {
    let mut states = Vec::new();
    for job in made.callbacks.values() {
        states.push(server.state(job).await);
    }
    states
}

async fn view(server: &Server, id: BatchId) -> BatchView {
    server.get(&format!("/v1/batches/{id}")).await.parse()
}

async fn ask(server: &Server, id: BatchId, what: &str) -> BatchView {
    let reply = server.post(&format!("/v1/batches/{id}/{what}")).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    reply.parse()
}

fn member(batch: BatchId) -> String {
    json!({"module": "hello", "batch": batch}).to_string()
}

async fn claims(host: &mut Host) -> BTreeMap<JobId, AttemptRef> {
    let answer = host.claim(8).await;
    answer.jobs.iter().map(|grant| (grant.attempt.job, grant.attempt)).collect()
}

fn refused() -> Outcome {
    Outcome::Failed(Failure::new(Cause::Refused, "no"))
}

#[tokio::test]
async fn a_batch_ends_when_it_is_closed_and_its_jobs_have_and_its_callbacks_run_once() {
    let mut server = server().await;
    let made = make(&server).await;
    assert!(made.new && made.callbacks.len() == 3);
    let jobs = [server.enqueued(member(made.id)).await, server.enqueued(member(made.id)).await];
    assert_eq!(server.job(&jobs[0]).await.job.batch, Some(made.id));
    let open = view(&server, made.id).await;
    assert_eq!(
        (open.state, open.total, open.jobs.waiting, open.name.as_str()),
        (BatchState::Open, 2, 2, "import")
    );
    let mut host = server.host().await;
    let attempts = claims(&mut host).await;
    assert_eq!(attempts.len(), 2, "callbacks wait for the batch");
    let waits = server.job(made.callbacks.values().next().unwrap()).await.job.waits.unwrap();
    assert_eq!(waits.code, "after_batch");
    for attempt in attempts.into_values() {
        host.finish(attempt, done("ok")).await;
    }
    assert_eq!(callbacks(&server, &made).await, ["pending"; 3], "jobs may come");
    let ended = ask(&server, made.id, "close").await;
    assert_eq!((ended.state, ended.jobs.completed, ended.jobs.unended()), (BatchState::Ended, 2, 0));
    assert_eq!(callbacks(&server, &made).await, ["available", "available", "cancelled"]);
    assert_eq!(claims(&mut host).await.len(), 2);
    assert_eq!(ask(&server, made.id, "close").await, ended, "it ends once");
    server.enqueue(member(made.id)).await.refused(409, "is ended: no job can be added");
    let page = server.get(&format!("/batches/{}", made.id)).await.text();
    assert!(page.contains("import") && page.contains(&jobs[1]), "{page}");
    assert!(server.get("/").await.text().contains(&format!("/batches/{}", made.id)));
}

#[tokio::test]
async fn the_report_that_ends_the_last_job_ends_the_batch_and_its_answer_may_hold_the_callback() {
    let mut server = server().await;
    let made = make(&server).await;
    server.enqueued(member(made.id)).await;
    assert_eq!(ask(&server, made.id, "close").await.state, BatchState::Closed);
    let mut host = server.host().await;
    let attempt = claims(&mut host).await.into_values().next().unwrap();
    let request = midge_protocol::exchange::Request {
        finished: vec![stage::finished(attempt, done("ok"))],
        ..host.request(8)
    };
    let granted: Vec<JobId> =
        host.exchange(&request).await.jobs.iter().map(|grant| grant.attempt.job).collect();
    assert_eq!(granted.len(), 2);
    assert!(granted.iter().all(|job| made.callbacks.values().any(|callback| callback == job)));
}

#[tokio::test]
async fn the_first_failure_is_told_at_once_and_a_retry_changes_counts_only() {
    let mut server = server().await;
    let made = make(&server).await;
    for _ in 0..2 {
        server.enqueued(member(made.id)).await;
    }
    let mut host = server.host().await;
    let attempts: Vec<AttemptRef> = claims(&mut host).await.into_values().collect();
    host.finish(attempts[0], refused()).await;
    assert_eq!(callbacks(&server, &made).await, ["pending", "pending", "available"]);
    assert!(view(&server, made.id).await.failed_at.is_some());
    ask(&server, made.id, "close").await;
    host.finish(attempts[1], done("ok")).await;
    assert_eq!(callbacks(&server, &made).await, ["cancelled", "available", "available"]);
    let unmet = server.job(made.callbacks.values().next().unwrap()).await.job.failure.unwrap();
    assert_eq!(unmet.cause, Cause::Unmet);
    assert!(unmet.message.contains("1 were discarded"), "{}", unmet.message);
    let retried = attempts[0].job;
    server.post(&format!("/v1/jobs/{retried}/retry")).await;
    let again = view(&server, made.id).await;
    assert_eq!((again.state, again.jobs.waiting, again.jobs.discarded), (BatchState::Ended, 1, 0));
    let attempts = claims(&mut host).await;
    host.finish(attempts[&retried], done("ok")).await;
    assert_eq!(callbacks(&server, &made).await[0], "cancelled", "it has ended");
    assert_eq!(view(&server, made.id).await.jobs.completed, 2);
}

#[tokio::test]
async fn a_batch_that_is_cancelled_cancels_its_jobs_and_ends() {
    let mut server = server().await;
    let made = make(&server).await;
    let runs: JobId = server.enqueued(member(made.id)).await.parse().unwrap();
    let mut host = server.host().await;
    let attempt = claims(&mut host).await[&runs];
    let waits = server.enqueued(member(made.id)).await;
    let cancelled = ask(&server, made.id, "cancel").await;
    assert!(cancelled.cancelled && cancelled.state == BatchState::Closed, "{cancelled:?}");
    assert_eq!(server.state(&waits).await, "cancelled");
    assert!(server.job(runs).await.job.cancelling);
    host.finish(attempt, Outcome::Cancelled).await;
    let ended = view(&server, made.id).await;
    let counts = BatchCounts { cancelled: 2, ..BatchCounts::default() };
    assert_eq!((ended.state, ended.jobs), (BatchState::Ended, counts));
    assert_eq!(callbacks(&server, &made).await, ["cancelled", "available", "cancelled"]);
    server.post(&format!("/v1/batches/{}/cancel", made.id)).await.refused(409, "has ended already");
}

#[tokio::test]
async fn a_batch_without_jobs_has_completed_when_it_is_closed_and_without_callbacks_ends_as_well() {
    let server = server().await;
    let made = make(&server).await;
    ask(&server, made.id, "close").await;
    assert_eq!(callbacks(&server, &made).await, ["available", "available", "cancelled"]);
    let plain: BatchMade = server.call("POST", "/v1/batches", "{}").await.parse();
    assert_eq!(ask(&server, plain.id, "close").await.state, BatchState::Ended);
}

#[tokio::test]
async fn jobs_may_be_after_a_callback_and_none_that_the_callback_waits_for() {
    let server = server().await;
    let (first, second) = (make(&server).await, make(&server).await);
    let of = |made: &BatchMade| *made.callbacks.values().next().unwrap();
    let job =
        |batch: Option<BatchId>, after: &[JobId]| json!({"module": "hello", "batch": batch, "after": after});
    // What follows a batch, in no batch and in a newer one.
    let follows = server.enqueued(job(None, &[of(&first)])).await;
    server.enqueued(job(Some(second.id), &[of(&first)])).await;
    let behind = server.enqueued(job(None, &[follows.parse().unwrap()])).await;
    // A batch that would wait for itself: at once, through others, and through another batch.
    let circles = [
        job(Some(first.id), &[of(&first)]),
        job(Some(first.id), &[behind.parse().unwrap()]),
        job(Some(first.id), &[of(&second)]),
    ];
    for circle in circles {
        let reply = server.enqueue(&circle).await;
        reply.refused(422, "make the batches in the order in which they wait for each other");
        assert_eq!(reply.code(), "circle");
    }
    assert_eq!((view(&server, first.id).await.total, view(&server, second.id).await.total), (0, 1));
    // A callback that would be in a batch, or after others.
    let callback = json!({"on_ended": job(Some(first.id), &[])}).to_string();
    server.call("POST", "/v1/batches", callback).await.refused(422, "a callback is in no batch");
    let callback = json!({"on_ended": job(None, &[of(&first)])}).to_string();
    server.call("POST", "/v1/batches", callback).await.refused(422, "`on_ended`: `after` is of no use here");
    // It ends, and what follows goes on.
    ask(&server, first.id, "close").await;
    assert_eq!(server.state(of(&first)).await, "available");
    assert_eq!(server.job(&follows).await.job.state, State::Pending, "the callback has not completed");
}

#[tokio::test]
async fn a_batch_can_be_made_again_and_is_the_same_and_another_under_its_id_is_refused() {
    let server = server().await;
    let body = |name: &str, args: u32| {
        let callback = json!({"module": "hello", "args": args});
        json!({"id": UNKNOWN, "name": name, "on_ended": callback}).to_string()
    };
    let first: BatchMade = server.call("POST", "/v1/batches", body("a", 1)).await.parse();
    let again: BatchMade = server.call("POST", "/v1/batches", body("a", 1)).await.parse();
    assert_eq!((first.new, again.new, &again.callbacks), (true, false, &first.callbacks));
    for other in [body("b", 1), body("a", 2)] {
        server.call("POST", "/v1/batches", other).await.refused(409, "with other content");
    }
    let jobs = server.get("/v1/jobs").await.json();
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 1, "one callback");
}

#[tokio::test]
async fn what_cannot_be_a_batch_is_refused_in_words_and_nothing_is_made() {
    let server = server().await;
    let long = "x".repeat(limits::BATCH_NAME_BYTES_MAX + 1);
    let table = [
        (
            422,
            json!({"on_completed": {"module": "hello"}, "on_ended": {"module": "helo"}}),
            "`on_ended`: there is no module",
        ),
        (413, json!({"name": long}), "at most 256"),
        (400, json!({"on_complete": {"module": "hello"}}), "did you mean `on_completed`?"),
        (400, json!({"on_ended": "hello"}), "`on_ended` must be an object"),
        (400, json!({"on_ended": {"module": "hello", "arg": 1}}), "did you mean `args`?"),
        (400, json!({"id": "x"}), "a UUID such as"),
        (400, json!([]), "an object"),
    ];
    for (status, body, says) in table {
        server.call("POST", "/v1/batches", body.to_string()).await.refused(status, says);
    }
    for (method, path) in [("GET", ""), ("POST", "/close"), ("POST", "/cancel")] {
        server
            .call(method, &format!("/v1/batches/{UNKNOWN}{path}"), "")
            .await
            .refused(404, "there is no batch");
        server.call(method, &format!("/v1/batches/x{path}"), "").await.refused(400, "is not a batch id");
    }
    server.enqueue(json!({"module": "hello", "batch": UNKNOWN})).await.refused(404, "there is no batch");
    assert!(server.get("/v1/jobs").await.json()["jobs"].as_array().unwrap().is_empty());
    assert!(server.get("/v1/batches").await.json()["batches"].as_array().unwrap().is_empty());
    server.get("/v1/batches?limit=0").await.refused(422, "1 to 1000");
}

#[tokio::test]
async fn batches_and_their_jobs_are_listed_in_pages() {
    let server = server().await;
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(make(&server).await.id);
    }
    made.sort_unstable();
    made.reverse();
    let page = server.get("/v1/batches?limit=2").await.json();
    assert_eq!((&page["batches"][0]["id"], &page["next"]), (&json!(made[0]), &json!(made[1])));
    let page = server.get(&format!("/v1/batches?before={}", made[1])).await.json();
    assert_eq!((&page["batches"][0]["id"], page.get("next")), (&json!(made[2]), None));
    let job = server.enqueued(member(made[1])).await;
    let listed = server.get(&format!("/v1/jobs?batch={}", made[1])).await.json();
    assert_eq!((&listed["jobs"][0]["id"], listed["jobs"].as_array().unwrap().len()), (&json!(job), 1));
}

#[tokio::test]
async fn a_name_that_a_terminal_would_obey_is_shown_and_does_nothing() {
    let server = server().await;
    let name = "a\u{1b}[2J\u{202e}<script>";
    let made: BatchMade = server.call("POST", "/v1/batches", json!({"name": name}).to_string()).await.parse();
    assert_eq!(view(&server, made.id).await.name, name);
    for page in ["/".to_owned(), format!("/batches/{}", made.id)] {
        let page = server.get(&page).await.text();
        assert!(page.contains("&lt;script&gt;") && !page.contains('\u{1b}') && !page.contains('\u{202e}'));
    }
    let wrong = [
        ("/batches/x".to_owned(), "is not a batch id"),
        (format!("/batches/{UNKNOWN}"), "there is no batch"),
    ];
    for (page, says) in wrong {
        let reply = server.get(&page).await;
        assert!(reply.status.is_client_error() && reply.text().contains(says), "{}", reply.text());
    }
}

/// A batch of very many jobs is cancelled by rounds, in steps.
#[tokio::test]
async fn very_many_jobs_of_a_batch_are_cancelled_in_steps() {
    const MANY: u128 = 2_500;
    let store = MemoryStore::new();
    let of = BatchId::from_bytes([7; 16]);
    write(&store, move |rows| {
        rows.put_batch(&Batch::new(of, 1, String::new(), 0, at(0)).cancelled(at(0)).unwrap())
    })
    .await
    .unwrap();
    let member = |number: u128| {
        let mut job = job(number, "default", 0);
        job.links.batch = Some(of);
        if number.is_multiple_of(100) { running(&job, "m1") } else { job }
    };
    put(&store, &(0..MANY).map(member).collect::<Vec<Job>>()).await.unwrap();
    let (api, _hosts) = Api::new(made);
    let context = stage::context(stage::catalog(BTreeMap::new(), ServerPolicy::default()));
    let mut rounds = 0;
    loop {
        let decided = dispatcher::decide(&store, &api, &context, &Hands::default()).await.unwrap();
        rounds += 1;
        if read(&store, |rows| rows.batch_to_act()).await.unwrap().is_none() {
            break;
        }
        assert_eq!(decided.next_due, Some(at(0)), "the next round comes at once");
        assert_eq!(decided.tell.len(), 1, "the host hears of it");
    }
    assert!((3..=4).contains(&rounds), "{rounds}: in steps");
    let batch = read(&store, move |rows| rows.batch(of)).await.unwrap().unwrap();
    assert_eq!((batch.counts.cancelled, batch.counts.running), (2_475, 25));
    let last = read(&store, |rows| rows.jobs(&[id(MANY - 1)])).await.unwrap().remove(0).unwrap();
    assert_eq!(last.phase(), Phase::Cancelled);
}
