//! Jobs that are to run after others.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use midge_core::{Job, JobEvent, Phase};
use midge_protocol::JobId;
use midge_protocol::api::{BulkEnqueued, Conflict, Enqueued};
use midge_protocol::exchange::{AttemptRef, Outcome, Request};
use midge_protocol::job::{AfterFailed, Cause, Failure, State};
use midge_protocol::manifest::{QueuePolicy, ServerPolicy};
use midge_server::dispatcher;
use midge_store::conformance::fixtures::{after, at, completed, discarded, id, job, put};
use midge_store::{MemoryStore, read, write};

use super::stage::{self, Api, HELLO, Hands, Host, Server, done, finished, made};

/// The id that tests give to jobs that are nobody's.
const NOBODY: &str = "0190b3e4-7d5c-7c3a-9f00-0123456789ab";

/// What may stand in a request's `after`, and what may not.
pub const AFTER: &[&str] = &[
    "[]",
    "[null]",
    r#"["00000000-0000-0000-0000-000000000000"]"#,
    r#"["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"]"#,
    r#"["ffffffff-ffff-ffff-ffff-ffffffffffff", "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"]"#,
];

async fn server() -> Server {
    let policy = QueuePolicy { max_machines: 1, jobs_per_machine: 8, ..QueuePolicy::default() };
    Server::on(Arc::new(MemoryStore::new()), policy).await
}

fn after_all(ids: &[&str], then: &str) -> String {
    let ids = ids.iter().map(|id| format!("\"{id}\"")).collect::<Vec<_>>().join(",");
    format!(r#"{{"module": "hello", "after": [{ids}], "after_failed": "{then}"}}"#)
}

async fn failure_of(server: &Server, id: &str) -> Failure {
    server.job(id).await.job.failure.expect("it says why it does not run")
}

/// Claims what is due, by the jobs' ids.
async fn claims(host: &mut Host) -> BTreeMap<String, AttemptRef> {
    let answer = host.claim(8).await;
    answer.jobs.iter().map(|grant| (grant.attempt.job.to_string(), grant.attempt)).collect()
}

fn refused() -> Outcome {
    Outcome::Failed(Failure::new(Cause::Refused, "no"))
}

#[tokio::test]
async fn a_chain_runs_one_after_the_other_and_the_host_that_ends_one_gets_the_next_at_once() {
    let mut server = server().await;
    let first = server.enqueued(HELLO).await;
    let second = server.enqueued(after_all(&[&first], "cancel")).await;
    let third = server.enqueued(after_all(&[&first, &second], "cancel")).await;
    let job = server.job(&third).await;
    assert_eq!((job.job.state, job.after.len()), (State::Pending, 2));
    let waits = job.job.waits.unwrap();
    assert_eq!(waits.code, "after_jobs");
    assert!(waits.text.contains("2 jobs") && waits.text.contains(&first), "{}", waits.text);
    let mut host = server.host().await;
    for (number, id) in [&first, &second, &third].into_iter().enumerate() {
        let claimed = claims(&mut host).await;
        assert_eq!(claimed.keys().collect::<Vec<_>>(), [id], "{number}");
        host.finish(claimed[id.as_str()], done("ok")).await;
    }
    assert_eq!(server.state(&third).await, "completed");
    assert_eq!(server.job(&third).await.after.len(), 2, "what it was to run after stays known");
}

#[tokio::test]
async fn the_answer_to_a_report_may_hold_the_job_that_was_to_run_after() {
    let mut server = server().await;
    let first = server.enqueued(HELLO).await;
    let second = server.enqueued(after_all(&[&first], "cancel")).await;
    let mut host = server.host().await;
    let attempt = claims(&mut host).await[&first];
    let request = Request { finished: vec![finished(attempt, done("ok"))], ..host.request(1) };
    let answer = host.exchange(&request).await;
    assert_eq!(answer.jobs[0].attempt.job.to_string(), second);
}

#[tokio::test]
async fn a_job_that_is_discarded_cancels_those_behind_it_unless_they_say_otherwise() {
    let mut server = server().await;
    let first = server.enqueued(HELLO).await;
    let cancelled = server.enqueued(after_all(&[&first], "cancel")).await;
    let behind = server.enqueued(after_all(&[&cancelled], "cancel")).await;
    let goes_on = server.enqueued(after_all(&[&first], "go_on")).await;
    let waits = server.enqueued(after_all(&[&first], "wait")).await;
    let mut host = server.host().await;
    let attempt = claims(&mut host).await[&first];
    host.finish(attempt, refused()).await;
    let failure = failure_of(&server, &cancelled).await;
    assert_eq!((server.state(&cancelled).await.as_str(), failure.cause), ("cancelled", Cause::Unmet));
    assert_eq!(failure.message, format!("it was to run after job {first}, which was discarded"));
    let failure = failure_of(&server, &behind).await;
    assert_eq!(failure.message, format!("it was to run after job {cancelled}, which was cancelled"));
    assert_eq!(server.state(&waits).await, "pending");
    let attempt = claims(&mut host).await[&goes_on];
    host.finish(attempt, done("ok")).await;
    // Somebody retries the first, and it completes.
    assert_eq!(server.post(&format!("/v1/jobs/{first}/retry")).await.status, StatusCode::OK);
    assert_eq!(server.state(&waits).await, "pending");
    let attempt = claims(&mut host).await[&first];
    host.finish(attempt, done("ok")).await;
    assert_eq!(server.state(&waits).await, "available");
    assert_eq!(server.state(&cancelled).await, "cancelled", "it has ended");
}

#[tokio::test]
async fn what_ended_before_counts_as_it_ended() {
    let mut server = server().await;
    let (completes, fails) = (server.enqueued(HELLO).await, server.enqueued(HELLO).await);
    let mut host = server.host().await;
    let attempts = claims(&mut host).await;
    host.finish(attempts[&completes], done("ok")).await;
    host.finish(attempts[&fails], refused()).await;
    let expected = [
        (&completes, "cancel", "available"),
        (&completes, "wait", "available"),
        (&fails, "cancel", "cancelled"),
        (&fails, "go_on", "available"),
        (&fails, "wait", "pending"),
    ];
    for (on, then, state) in expected {
        let job = server.enqueued(after_all(&[on], then)).await;
        assert_eq!(server.state(&job).await, state, "after {on}, else {then}");
    }
}

#[tokio::test]
async fn cancelling_and_deleting_tell_those_that_wait_at_once() {
    let server = server().await;
    let (first, second) = (server.enqueued(HELLO).await, server.enqueued(HELLO).await);
    let of_first = server.enqueued(after_all(&[&first], "cancel")).await;
    let of_second = server.enqueued(after_all(&[&second], "wait")).await;
    let of_both = server.enqueued(after_all(&[&first, &second], "go_on")).await;
    server.post(&format!("/v1/jobs/{first}/cancel")).await;
    assert!(failure_of(&server, &of_first).await.message.ends_with("which was cancelled"));
    assert_eq!(server.state(&of_both).await, "pending");
    assert_eq!(server.call("DELETE", &format!("/v1/jobs/{second}"), "").await.status, StatusCode::NO_CONTENT);
    let message = failure_of(&server, &of_second).await.message;
    assert!(message.ends_with("which was deleted before it completed"), "{message}");
    assert_eq!(server.state(&of_both).await, "available");
}

#[tokio::test]
async fn a_job_that_waits_for_others_can_be_cancelled_or_started_by_hand() {
    let server = server().await;
    let first = server.enqueued(HELLO).await;
    let [cancelled, started] = [
        server.enqueued(after_all(&[&first], "cancel")).await,
        server.enqueued(after_all(&[&first], "cancel")).await,
    ];
    let listed = server.get("/v1/jobs?state=pending").await.json();
    assert_eq!(listed["jobs"].as_array().unwrap().len(), 2);
    assert!(
        listed["jobs"][0]["may_cancel"].as_bool().unwrap()
            && listed["jobs"][0]["may_retry"].as_bool().unwrap()
    );
    assert_eq!(server.post(&format!("/v1/jobs/{cancelled}/cancel")).await.json()["state"], "cancelled");
    assert_eq!(server.post(&format!("/v1/jobs/{started}/retry")).await.json()["state"], "available");
    let queues = server.get("/v1/queues").await.json();
    assert_eq!(queues["queues"][0]["jobs"]["pending"], 0);
    assert!(server.get("/").await.text().contains("pending"));
    let page = server.get(&format!("/jobs/{started}")).await.text();
    assert!(page.contains(&format!("/jobs/{first}")), "the page links to what it was to run after");
}

#[tokio::test]
async fn jobs_of_one_bulk_may_be_after_those_before_them_and_after_none_behind_them() {
    let server = server().await;
    let ids: Vec<String> = (0..3).map(|_| JobId::generate().to_string()).collect();
    let job = |id: &str, after: &str| format!(r#"{{"module": "hello", "id": "{id}", "after": [{after}]}}"#);
    let quoted = |index: usize| format!("\"{}\"", ids[index]);
    let bulk = |jobs: &[String]| format!(r#"{{"jobs": [{}]}}"#, jobs.join(","));
    let wrong = bulk(&[job(&ids[0], &quoted(1)), job(&ids[1], "")]);
    let reply = server.call("POST", "/v1/jobs/bulk", wrong).await;
    reply.refused(422, "earlier in the same bulk");
    assert_eq!(reply.code(), "no_such_dependency");
    server.get(&format!("/v1/jobs/{}", ids[1])).await.refused(404, "no job");
    // Two that wait for each other: whichever comes first, the other is not there.
    let circle = bulk(&[job(&ids[0], &quoted(1)), job(&ids[1], &quoted(0))]);
    server.call("POST", "/v1/jobs/bulk", circle).await.refused(422, "jobs[0]");
    let both = format!("{},{}", quoted(0), quoted(1));
    let right = bulk(&[job(&ids[0], ""), job(&ids[1], &quoted(0)), job(&ids[2], &both)]);
    for new in [true, false] {
        let reply = server.call("POST", "/v1/jobs/bulk", right.clone()).await.json();
        assert!(reply["jobs"].as_array().unwrap().iter().all(|job| job["new"] == new), "{reply}");
    }
    let states = [server.state(&ids[0]).await, server.state(&ids[1]).await, server.state(&ids[2]).await];
    assert_eq!(states, ["available", "pending", "pending"]);
    // What is there already is the same job, and cannot be made to wait for one that waits for it.
    server.enqueue(job(&ids[0], &quoted(2))).await.refused(409, "other content");
}

#[tokio::test]
async fn what_cannot_be_waited_for_is_refused_in_words_and_nothing_is_enqueued() {
    let server = server().await;
    let first = server.enqueued(HELLO).await;
    let with = |more: &str| format!(r#"{{"module": "hello", "id": "{NOBODY}", {more}}}"#);
    let own = format!(r#""after": ["{NOBODY}"]"#);
    let twice = format!(r#""after": ["{first}", "{first}"]"#);
    let unknown = r#""after": ["0190b3e4-7d5c-7c3a-9f00-0123456789ff"]"#;
    let many: Vec<String> = (0..1_001).map(|_| format!("\"{}\"", JobId::generate())).collect();
    let many = format!(r#""after": [{}]"#, many.join(","));
    let table = [
        (422, own.as_str(), "a job cannot wait for itself"),
        (422, &twice, "twice"),
        (422, unknown, "there is no job 0190b3e4-7d5c-7c3a-9f00-0123456789ff to run after"),
        (422, &many, "at most 1000"),
        (422, r#""after_failed": "wait""#, "names no job"),
        (400, r#""after": ["x"]"#, "a UUID such as"),
        (400, r#""after": "x""#, "a list"),
        (400, r#""after_failed": "go-on""#, "did you mean `go_on`?"),
    ];
    for (status, more, says) in table {
        server.enqueue(with(more)).await.refused(status, says);
        server.get(&format!("/v1/jobs/{NOBODY}")).await.refused(404, "no job");
    }
}

fn waits_for(number: u128, then: AfterFailed) -> Job {
    let mut job = job(number, "default", 0).pending();
    job.links.after_failed = then;
    job
}

/// So many jobs wait for one, which has ended: rounds tell them in steps.
#[tokio::test]
async fn very_many_that_wait_for_one_job_are_told_in_steps() {
    const MANY: u128 = 2_500;
    for (end, then, phase) in [
        (true, AfterFailed::Cancel, Phase::Fresh),
        (false, AfterFailed::Cancel, Phase::Cancelled),
        (false, AfterFailed::Wait, Phase::Pending),
    ] {
        let store = MemoryStore::new();
        let first = job(0, "default", 0).with_dependents();
        put(&store, std::slice::from_ref(&first)).await.unwrap();
        write(&store, move |rows| {
            for number in 1..=MANY {
                rows.put_jobs(&[waits_for(number, then)])?;
                rows.put_dependencies(id(number), &[id(0)])?;
            }
            let ended = if end { completed(&first, at(0)) } else { discarded(&first, at(0)) };
            rows.put_jobs(&[ended])
        })
        .await
        .unwrap();
        let (api, _hosts) = Api::new(made);
        let context = stage::context(stage::catalog(BTreeMap::new(), ServerPolicy::default()));
        let mut rounds = 0;
        loop {
            let decided = dispatcher::decide(&store, &api, &context, &Hands::default()).await.unwrap();
            rounds += 1;
            if read(&store, |rows| rows.next_untold_end()).await.unwrap().is_none() {
                break;
            }
            assert_eq!(decided.next_due, Some(at(0)), "the next round comes at once");
        }
        assert!((3..=4).contains(&rounds), "{rounds}: in steps");
        let counts = read(&store, |rows| rows.job_counts(at(0))).await.unwrap();
        let counts = counts.into_values().next().unwrap();
        assert_eq!(u128::from(counts.phase(phase)), MANY, "{end} {then:?}: {counts:?}");
    }
}

/// Who is told late hears of the end that was, and who began to wait since then does not hear of it.
#[tokio::test]
async fn a_job_that_is_retried_while_others_are_told_of_its_end_is_waited_for_by_new_ones() {
    let store = MemoryStore::new();
    let first = job(0, "default", 0).with_dependents();
    let wait = |number| {
        write(&store, move |rows| {
            rows.put_jobs(&[waits_for(number, AfterFailed::Cancel)])?;
            rows.put_dependencies(id(number), &[id(0)])
        })
    };
    put(&store, std::slice::from_ref(&first)).await.unwrap();
    wait(1).await.unwrap();
    let ended = discarded(&first, at(0));
    put(&store, std::slice::from_ref(&ended)).await.unwrap();
    put(&store, &[after(&ended, JobEvent::RetryAsked, at(0))]).await.unwrap();
    wait(2).await.unwrap();
    let (api, _hosts) = Api::new(made);
    let context = stage::context(stage::catalog(BTreeMap::new(), ServerPolicy::default()));
    dispatcher::decide(&store, &api, &context, &Hands::default()).await.unwrap();
    let jobs = read(&store, |rows| rows.jobs(&[id(1), id(2)])).await.unwrap();
    let phases: Vec<Phase> = jobs.into_iter().flatten().map(|job| job.phase()).collect();
    assert_eq!(phases, [Phase::Cancelled, Phase::Pending]);
}

#[tokio::test]
async fn a_unique_job_may_be_after_others_and_one_that_is_not_added_waits_for_nothing() {
    let mut server = server().await;
    let first = server.enqueued(HELLO).await;
    let unique = |args: &str, then: &str| {
        let rule = format!(r#"{{"text": "x", "on_conflict": "{then}"}}"#);
        format!(r#"{{"module": "hello", "args": {args}, "after": ["{first}"], "unique": {rule}}}"#)
    };
    let there: Enqueued = server.enqueue(unique("1", "keep")).await.parse();
    assert_eq!(server.job(there.id).await.job.state, State::Pending);
    let other: Enqueued = server.enqueue(unique("2", "replace_and_push_back")).await.parse();
    assert_eq!((other.id, other.conflict), (there.id, Some(Conflict::ReplacedAndPushedBack)));
    let job = server.job(there.id).await;
    assert_eq!((job.job.state, job.args.get()), (State::Pending, "2"));

    // Whoever names one that is not added is after the one that is there, once.
    let bulk = format!(
        r#"{{"jobs": [{{"id": "{NOBODY}", "module": "hello", "unique": {{"text": "x"}}}},
                      {{"module": "hello", "after": ["{NOBODY}", "{}"]}}]}}"#,
        there.id
    );
    let bulk: BulkEnqueued = server.call("POST", "/v1/jobs/bulk", bulk).await.parse();
    assert_eq!((bulk.jobs[0].id, bulk.jobs[0].conflict), (there.id, Some(Conflict::Kept)));
    assert_eq!(server.job(bulk.jobs[1].id).await.after, [there.id]);
    assert_eq!(server.get("/v1/jobs").await.json()["jobs"].as_array().unwrap().len(), 3);
    let mut host = server.host().await;
    for (number, id) in [first.clone(), there.id.to_string(), bulk.jobs[1].id.to_string()].iter().enumerate()
    {
        let claimed = claims(&mut host).await;
        assert_eq!(claimed.keys().collect::<Vec<_>>(), [id], "{number}");
        host.finish(claimed[id.as_str()], done("ok")).await;
    }
    assert!(server.enqueue(unique("3", "keep")).await.parse::<Enqueued>().new, "it has ended");
}

#[tokio::test]
async fn unique_jobs_of_one_bulk_are_after_one_another_and_the_first_is_told_to_tell() {
    let mut server = server().await;
    let bulk = format!(
        r#"{{"jobs": [{{"id": "{NOBODY}", "module": "hello", "unique": {{"text": "x"}}}},
                      {{"module": "hello", "unique": {{"text": "y"}}, "after": ["{NOBODY}"]}},
                      {{"module": "hello", "unique": {{"text": "x", "on_conflict": "push_back"}}, "in_ms": 60000}}]}}"#
    );
    let bulk: BulkEnqueued = server.call("POST", "/v1/jobs/bulk", bulk).await.parse();
    assert_eq!(bulk.jobs[2].conflict, Some(Conflict::PushedBack));
    assert_eq!(server.job(NOBODY).await.job.state, State::Scheduled, "it is pushed back");
    server.post(&format!("/v1/jobs/{NOBODY}/retry")).await;
    let mut host = server.host().await;
    for id in [NOBODY.to_owned(), bulk.jobs[1].id.to_string()] {
        let claimed = claims(&mut host).await;
        assert_eq!(claimed.keys().collect::<Vec<_>>(), [&id]);
        host.finish(claimed[id.as_str()], done("ok")).await;
    }
}
