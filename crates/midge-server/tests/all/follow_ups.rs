//! Jobs that attempts enqueue: they are there exactly if their parent has completed, once.

use std::collections::BTreeMap;
use std::sync::Arc;

use midge_protocol::api::{
    BatchEvent, BatchMade, BatchRequest, BatchState, BatchView, EnqueueRequest, JobPage,
};
use midge_protocol::exchange::{self, AttemptRef, Finished, FollowUp, Outcome, Running};
use midge_protocol::job::{Cause, Failure, State};
use midge_protocol::manifest::{QueuePolicy, ServerPolicy};
use midge_protocol::{JobId, limits};
use midge_store::MemoryStore;

use crate::stage::{HELLO, Host, Server, catalog, done, finished, running};

/// Fails, and asks to be tried again at once.
fn failed() -> Outcome {
    let failure = Failure::new(Cause::Exit, "on purpose");
    Outcome::Failed(Failure { retry_after_ms: Some(0), ..failure })
}

/// A server whose one Machine runs so many jobs.
async fn running_many(policy: QueuePolicy, jobs: usize) -> (Server, Host, Vec<AttemptRef>) {
    let mut server = Server::on(Arc::new(MemoryStore::new()), policy).await;
    server.enqueued(HELLO).await;
    let mut host = server.host().await;
    let mut attempts = vec![host.claim(1).await.jobs[0].attempt];
    while attempts.len() < jobs {
        server.enqueued(HELLO).await;
        attempts.extend(claims_another(&mut host, &attempts).await);
    }
    (server, host, attempts)
}

/// Claims one more job beside those that run.
async fn claims_another(host: &mut Host, attempts: &[AttemptRef]) -> Option<AttemptRef> {
    let running = attempts.iter().map(|attempt| Running { attempt: *attempt, progress: None }).collect();
    let request = exchange::Request { running, ..host.request(1) };
    host.exchange(&request).await.jobs.pop().map(|grant| grant.attempt)
}

fn follow_up(request: &str) -> FollowUp {
    FollowUp { id: JobId::generate(), request: request.to_owned(), input: None }
}

fn child() -> FollowUp {
    follow_up(r#"{"module": "hello"}"#)
}

fn completes(attempt: AttemptRef, jobs: &[FollowUp]) -> Finished {
    Finished { jobs: jobs.to_vec(), ..finished(attempt, done("ok")) }
}

async fn says(host: &mut Host, room: u32, finished: Finished) -> exchange::Answer {
    let request = exchange::Request { finished: vec![finished], ..host.request(room) };
    host.exchange(&request).await
}

async fn children(server: &Server, parent: JobId) -> Vec<JobId> {
    let page: JobPage = server.get(&format!("/v1/jobs?parent={parent}")).await.parse();
    page.jobs.iter().map(|job| job.id).collect()
}

#[tokio::test]
async fn the_host_that_completes_the_parent_gets_the_children_at_once() {
    let (server, mut host, attempt) = running().await;
    let jobs =
        [FollowUp { input: Some("in".into()), ..follow_up(r#"{"module": "hello", "args": [1]}"#) }, child()];
    let answer = says(&mut host, 2, completes(attempt, &jobs)).await;
    let given: Vec<_> = answer.jobs.iter().map(|grant| grant.attempt.job).collect();
    assert_eq!(given.len(), 2);
    let first = answer.jobs.iter().find(|grant| grant.attempt.job == jobs[0].id).unwrap();
    assert_eq!((&*first.args, first.input.as_deref()), ("[1]", Some(&b"in"[..])));
    let detail = server.job(jobs[0].id).await;
    assert_eq!((detail.job.parent, detail.children), (Some(attempt.job), None));
    let parent = server.job(attempt.job).await;
    assert_eq!((parent.job.state, parent.children.unwrap().jobs), (State::Completed, 2));
    let mut found = children(&server, attempt.job).await;
    found.sort_unstable();
    assert_eq!(found, {
        let mut ids = jobs.map(|job| job.id);
        ids.sort_unstable();
        ids
    });
}

#[tokio::test]
async fn a_report_that_is_said_again_makes_no_child_twice_and_one_without_a_right_none() {
    let (server, mut host, first) = running().await;
    host.finish(first, failed()).await;
    let second = host.claim(1).await.jobs.pop().unwrap().attempt;
    says(&mut host, 0, completes(first, &[child()])).await;
    assert_eq!(children(&server, first.job).await, [], "it had lost its job");
    let jobs = [child(), child()];
    for _ in 0..2 {
        says(&mut host, 0, completes(second, &jobs)).await;
    }
    assert_eq!(children(&server, first.job).await.len(), 2);
    says(&mut host, 0, completes(second, &[child()])).await;
    assert_eq!(children(&server, first.job).await.len(), 2);
}

#[tokio::test]
async fn an_attempt_that_does_not_complete_enqueues_nothing_whatever_its_host_says() {
    let (server, mut host, attempt) = running().await;
    let failed = Finished { jobs: vec![child()], ..finished(attempt, failed()) };
    says(&mut host, 0, failed).await;
    assert_eq!(children(&server, attempt.job).await, []);
    assert_eq!(server.job(attempt.job).await.job.state, State::Available);
}

#[tokio::test]
async fn siblings_run_after_each_other_and_after_their_parent_and_a_last_one_after_all() {
    let (server, mut host, attempt) = running().await;
    let first = child();
    let of_parent = follow_up(&format!(r#"{{"module": "hello", "after": ["{}"]}}"#, attempt.job));
    let last = follow_up(&format!(r#"{{"module": "hello", "after": ["{}", "{}"]}}"#, first.id, of_parent.id));
    let answer =
        says(&mut host, 3, completes(attempt, &[first.clone(), of_parent.clone(), last.clone()])).await;
    assert_eq!(answer.jobs.len(), 2, "the last one waits");
    assert_eq!(server.job(last.id).await.job.state, State::Pending);
    for grant in answer.jobs {
        host.finish(grant.attempt, done("ok")).await;
    }
    let next = host.claim(3).await.jobs;
    assert_eq!(next.iter().map(|grant| grant.attempt.job).collect::<Vec<_>>(), [last.id]);
}

#[tokio::test]
async fn an_attempt_that_cannot_enqueue_one_of_its_jobs_has_failed_and_enqueued_none() {
    let missing = JobId::generate();
    let tried_again = (State::Retryable, "not_enqueued");
    // Another attempt would be refused alike.
    let over = (State::Discarded, "never_enqueued");
    for (request, says_why, (state, cause)) in [
        (
            r#"{"module": "hullo"}"#.to_owned(),
            "there is no module `hullo`: did you mean `hello`?",
            tried_again,
        ),
        (r#"{"module": "hello", "priority": 101}"#.to_owned(), "`priority` is 101", over),
        (format!(r#"{{"module": "hello", "after": ["{missing}"]}}"#), "there is no job ", tried_again),
        (
            r#"{"module": "hello", "expires_at": "2001-01-01T00:00:00Z"}"#.to_owned(),
            "use a later `expires_at`",
            tried_again,
        ),
        (format!(r#"{{"module": "hello", "in_ms": {}}}"#, u64::MAX), "`in_ms` is 1844", over),
        (r#"{"modul": "hello"}"#.to_owned(), "unknown field `modul`: did you mean `module`?", over),
        (
            r#"{"module": "hello", "id": "0190b3e4-7d5c-7c3a-9f00-0123456789ab"}"#.to_owned(),
            "`id` is not for",
            over,
        ),
    ] {
        let (server, mut host, attempt) = running().await;
        let unique = follow_up(r#"{"module": "hello", "unique": {"by": ["module"]}}"#);
        says(&mut host, 0, completes(attempt, &[unique, child(), follow_up(&request)])).await;
        let parent = server.job(attempt.job).await;
        assert_eq!((parent.job.state, parent.job.spent), (state, 1), "{request}");
        let failure = parent.job.failure.unwrap();
        assert_eq!(failure.cause.as_str(), cause, "{request}");
        let which = "of the 3 jobs that it enqueued, number 3 was refused, and so it has not completed: ";
        assert!(
            failure.message.starts_with(which) && failure.message.contains(says_why),
            "{}",
            failure.message
        );
        assert_eq!(children(&server, attempt.job).await, []);
        let all: JobPage = server.get("/v1/jobs").await.parse();
        assert_eq!(all.jobs.len(), 1, "nothing is left of what was written first");
        server.get(&format!("/v1/jobs/{}/result", attempt.job)).await.refused(404, "");
    }
}

#[tokio::test]
async fn a_full_queue_fails_the_attempt_and_the_others_of_its_exchange_are_heard() {
    let policy = QueuePolicy { max_jobs: 3, jobs_per_machine: 4, ..QueuePolicy::default() };
    let (server, mut host, attempts) = running_many(policy, 3).await;
    let [too_many, fits, plain] = attempts[..] else { panic!("{attempts:?}") };
    let finished = vec![
        completes(too_many, &[child(), child(), child(), child()]),
        completes(fits, &[child(), child()]),
        completes(plain, &[]),
    ];
    let request = exchange::Request { finished, ..host.request(0) };
    host.exchange(&request).await;
    let failed = server.job(too_many.job).await.job;
    assert_eq!(failed.state, State::Retryable);
    assert!(
        failed.failure.unwrap().message.contains("has a max_jobs of 3, and 4 jobs at once never fit into it")
    );
    assert_eq!(children(&server, fits.job).await.len(), 2);
    assert_eq!(server.job(plain.job).await.job.state, State::Completed);
    host.exchange(&request).await;
    assert_eq!(children(&server, too_many.job).await, []);
}

#[tokio::test]
async fn a_module_enqueues_only_what_the_manifest_that_is_served_says() {
    let (server, mut host, attempt) = running().await;
    let mut catalog = catalog(BTreeMap::new(), ServerPolicy::default());
    catalog.manifest.modules.values_mut().for_each(|entry| entry.enqueues.clear());
    server.midge.deploy(catalog).await;
    says(&mut host, 0, completes(attempt, &[child()])).await;
    let failure = server.job(attempt.job).await.job.failure.unwrap();
    let says = "module `hello` does not declare that it enqueues `hello`: add `enqueues = [\"hello\"]` to \
                [modules.hello]";
    assert!(failure.message.contains(says), "{}", failure.message);
    assert_eq!(children(&server, attempt.job).await, []);
}

#[tokio::test]
async fn as_many_children_as_one_attempt_may_have_are_written_and_more_are_refused_whole() {
    let (server, mut host, attempt) = running().await;
    let jobs: Vec<FollowUp> = (0..=limits::FOLLOW_UPS_MAX).map(|_| child()).collect();
    let request = exchange::Request { finished: vec![completes(attempt, &jobs)], ..host.request(0) };
    host.send(exchange::encode(&request)).await.refused(400, "10001 jobs, and may 10000");
    assert_eq!(server.job(attempt.job).await.job.state, State::Running);
    says(&mut host, 0, completes(attempt, &jobs[1..])).await;
    let parent = server.job(attempt.job).await;
    assert_eq!((parent.job.state, parent.children.unwrap().jobs), (State::Completed, 10_000));
}

#[tokio::test]
async fn a_batch_of_one_job_grows_by_what_that_enqueues_and_ends_when_all_have() {
    let mut server = Server::start().await;
    let batch =
        BatchRequest::new("all").on(BatchEvent::Completed, EnqueueRequest::new("hello".parse().unwrap()));
    let of_batch = format!(r#"{{"module": "hello", "batch": "{}"}}"#, batch.id);
    let made: BatchMade =
        server.call("POST", "/v1/batches", serde_json::to_string(&batch).unwrap()).await.parse();
    server.enqueued(&of_batch).await;
    server.post(&format!("/v1/batches/{}/close", batch.id)).await;
    let mut host = server.host().await;
    let first = host.claim(1).await.jobs[0].attempt;
    server.enqueue(&of_batch).await.refused(409, "is closed: no job can be added");
    let answer = says(&mut host, 2, completes(first, &[follow_up(&of_batch)])).await;
    let view: BatchView = server.get(&format!("/v1/batches/{}", batch.id)).await.parse();
    assert_eq!((view.state, view.total), (BatchState::Closed, 2));
    let callback = made.callbacks[&BatchEvent::Completed];
    assert_eq!(server.job(callback).await.job.state, State::Pending);
    let second = answer.jobs[0].attempt;
    let last = says(&mut host, 1, completes(second, &[])).await;
    assert_eq!(last.jobs[0].attempt.job, callback);
    let view: BatchView = server.get(&format!("/v1/batches/{}", batch.id)).await.parse();
    assert_eq!((view.state, view.total), (BatchState::Ended, 2));
}

#[tokio::test]
async fn a_job_that_enqueues_itself_without_end_comes_to_one() {
    let (server, mut host, mut attempt) = running().await;
    for _ in 0..limits::FOLLOW_UP_DEPTH_MAX {
        let answer = says(&mut host, 1, completes(attempt, &[child()])).await;
        attempt = answer.jobs[0].attempt;
    }
    says(&mut host, 0, completes(attempt, &[child()])).await;
    let job = server.job(attempt.job).await.job;
    let failure = job.failure.unwrap();
    assert_eq!((job.state, failure.cause), (State::Discarded, Cause::NeverEnqueued));
    assert!(failure.message.contains("more than 1000 jobs in a row"), "{}", failure.message);
    assert_eq!(children(&server, attempt.job).await, []);
}
