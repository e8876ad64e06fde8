//! Bounds that the server keeps, whoever the caller or the host is.

use axum::http::StatusCode;
use midge_protocol::exchange::{AttemptRef, LogChunk, Outcome, Running, encode};
use midge_protocol::job::{Cause, Failure, JobView, Progress, Usage};
use midge_protocol::{AttemptNumber, JobId, Timestamp, limits};

use crate::stage::{HELLO, Server, done, finished, running};

#[tokio::test]
async fn no_job_is_scheduled_for_a_time_that_cannot_be_shown() {
    let server = Server::start().await;
    for millis in [253_402_300_800_000_u64, i64::MAX as u64, u64::MAX] {
        let reply = server.enqueue(format!(r#"{{"module": "hello", "in_ms": {millis}}}"#)).await;
        reply.refused(422, "after 9999-12-30T22:00:00.000Z: use less, so that it ends before that");
    }
    let pause = r#"{"for_ms": 253402300800000}"#;
    let reply = server.call("POST", "/v1/queues/default/pause", pause).await;
    reply.refused(422, "after 9999-12-30T22:00:00.000Z: use less");
    // Whether it is said as a span or as a time.
    for at in ["scheduled_at", "expires_at", "retry_until"] {
        let late = format!(r#"{{"module": "hello", "{at}": "9999-12-31T23:59:59Z"}}"#);
        let reply = server.enqueue(late).await;
        reply.refused(
            422,
            "is a time out of bounds: use one from 0000-01-01T00:00:00.000Z to 9999-12-30T22:00:00.000Z",
        );
    }
    let pause = r#"{"until": "10000-01-01T00:00:00Z"}"#;
    let reply = server.call("POST", "/v1/queues/default/pause", pause).await;
    reply.refused(422, "`until`: `10000-01-01T00:00:00Z` is a time out of bounds");
    let reply = server.get("/v1/jobs?since=9999-12-31T23:59:59Z").await;
    reply.refused(422, "`since`: `9999-12-31T23:59:59Z` is a time out of bounds");
    let latest = server.enqueued(r#"{"module": "hello", "scheduled_at": "9999-12-30T22:00:00Z"}"#).await;
    let job: JobView = server.get(&format!("/v1/jobs/{latest}/wait")).await.parse();
    assert_eq!(job.scheduled_at, Timestamp::LATEST);
}

#[tokio::test]
async fn a_job_is_tried_a_thousand_times_at_most() {
    let server = Server::start().await;
    for attempts in ["0", "1001", "4294967295"] {
        let reply = server.enqueue(format!(r#"{{"module": "hello", "max_attempts": {attempts}}}"#)).await;
        reply.refused(422, "use 1 to 1000");
    }
    server.enqueued(r#"{"module": "hello", "max_attempts": 1000}"#).await;
}

#[tokio::test]
async fn a_list_is_no_request() {
    let server = Server::start().await;
    let list = r#"["0190b3e4-7d5c-7c3a-9f00-0123456789ab","hello",{},null,null,null,null,null,null]"#;
    server.enqueue(list).await.refused(400, "the body must be an object, not a list");
    for body in ["[[]]".to_owned(), format!("{{\"jobs\":[{list}]}}"), format!("[[{list}]]")] {
        let reply = server.call("POST", "/v1/jobs/bulk", body).await;
        reply.refused(400, "must be an object, not a list");
    }
    assert_eq!(server.get("/v1/jobs").await.json()["jobs"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn what_comes_with_a_word_is_an_object_and_a_word_alone_is_no_object() {
    let server = Server::start().await;
    for (more, says) in [
        (r#""backoff": {"fixed": [5]}"#, "`backoff.fixed` must be an object, not a list"),
        (
            r#""backoff": {"exponential": [1000, 2000]}"#,
            "`backoff.exponential` must be an object, not a list",
        ),
        (r#""backoff": {"list": [[1, 2]]}"#, "`backoff.list` must be an object, not a list"),
        (r#""backoff": {"sidekiq": null}"#, "`backoff` must be \"sidekiq\" alone, not an object"),
        (r#""backoff": 5"#, "`backoff` must be one of \"sidekiq\", "),
        (r#""backoff": {}"#, "not an empty object"),
        (
            r#""backoff_by_cause": {"trap": {"fixed": [5]}}"#,
            "`backoff_by_cause.trap.fixed` must be an object",
        ),
        (r#""backoff_by_cause": [["trap", "none"]]"#, "must be an object of at most"),
        (r#""after_failed": {"wait": null}"#, "`after_failed` must be \"wait\" alone, not an object"),
        (r#""after_failed": 5"#, "`after_failed` must be one of \"cancel\", \"go_on\", \"wait\", not 5"),
        (r#""unique": {"on_conflict": {"keep": null}}"#, "`unique.on_conflict` must be \"keep\" alone"),
        (r#""unique": {"by": [{"module": null}]}"#, "`unique.by[0]` must be \"module\" alone"),
        (r#""unique": {"states": [{"waiting": null}]}"#, "`unique.states[0]` must be \"waiting\" alone"),
    ] {
        server.enqueue(format!(r#"{{"module": "hello", {more}}}"#)).await.refused(400, says);
    }
    for (sweep, says) in [
        (r#""action": {"cancel": null}"#, "`action` must be \"cancel\" alone, not an object"),
        (r#""action": "priority""#, "`action` must be {\"priority\": ...}, not \"priority\""),
        (r#""action": "move""#, "`action` must be {\"move\": ...}, not \"move\""),
        (
            r#""action": 5"#,
            "`action` must be one of \"retry\", \"cancel\", \"delete\", \"priority\", \"move\", not 5",
        ),
        (r#""action": ["priority", 5]"#, "`action` must be one of \"retry\", "),
        (r#""action": {"move": 5}"#, "`action.move` must be a string, not 5"),
        (
            r#""action": "retry", "filter": {"state": {"running": null}}"#,
            "`filter.state` must be \"running\" alone",
        ),
    ] {
        server.call("POST", "/v1/sweeps", format!("{{{sweep}}}")).await.refused(400, says);
    }
    assert_eq!(server.get("/v1/jobs").await.json()["jobs"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn args_that_no_guest_could_read_are_refused_with_their_position() {
    let server = Server::start().await;
    let reply = server.enqueue(r#"{"module": "hello", "args": {"a": ["\ud800"]}}"#).await;
    reply.refused(422, r"`\ud800` at byte 8");
    let reply = server.enqueue(r#"{"module": "hello", "key": "a\ud800"}"#).await;
    reply.refused(400, r"`key` holds `\ud800`, which is half of a pair");
    let deep = format!(r#"{{"module": "hello", "args": {}{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
    server.enqueue(&deep).await.refused(422, "nested deeper than 100 at byte 100");
    server.enqueued(r#"{"module": "hello", "args": {"a": ["\ud83d\ude00"]}}"#).await;
}

#[tokio::test]
async fn args_are_answered_as_json_to_the_digit() {
    let mut server = Server::start().await;
    let args = r#"{"z": 9007199254740993, "a": 1.0, "e": 1e400, "z": "\u00e9"}"#;
    let id = server.enqueued(format!(r#"{{"module": "hello", "args": {args} }}"#)).await;
    let text = server.get(&format!("/v1/jobs/{id}")).await.text();
    assert!(text.contains(&format!("\"args\":{args}")), "{text}");
    assert_eq!(server.host().await.claim(1).await.jobs[0].args, args);
}

#[tokio::test]
async fn what_a_host_tells_of_an_attempt_that_runs_is_cut_to_its_bounds() {
    let (server, mut host, attempt) = running().await;
    let mut request = host.request(0);
    let progress = Progress { done: 1, total: 2, message: "p".repeat(5_000_000) };
    request.running = vec![Running { attempt, progress: Some(progress) }];
    let bytes = vec![b'l'; 5_000_000].into();
    request.log = vec![LogChunk { attempt, offset: 0, bytes }];
    host.exchange(&request).await;
    let mut more = host.request(0);
    more.running = request.running.clone();
    let offset = limits::LOG_BYTES_MAX as u64;
    more.log = vec![LogChunk { attempt, offset, bytes: "more".into() }];
    host.exchange(&more).await;
    let job = server.job(attempt.job).await.job;
    assert_eq!(job.progress.unwrap().message.len(), limits::MESSAGE_BYTES_MAX);
    let log = server.get(&format!("/v1/jobs/{}/log", attempt.job)).await;
    assert_eq!(log.body.len(), limits::LOG_BYTES_MAX);
}

#[tokio::test]
async fn a_result_that_is_too_large_is_a_failure_and_not_kept() {
    let (server, mut host, attempt) = running().await;
    host.finish(attempt, Outcome::Completed { result: vec![0; limits::RESULT_BYTES_MAX + 1].into() }).await;
    let job = server.job(attempt.job).await;
    assert_eq!(job.job.failure.unwrap().cause, Cause::OverOutput);
    let content = server.midge.content(attempt.job, midge_server::JobContent::Result).await;
    assert!(matches!(content, Err(midge_server::ServiceError::NoContent(..))));
}

#[tokio::test]
async fn of_many_attempts_the_first_and_the_last_are_kept_with_their_logs() {
    let mut server = Server::start().await;
    let id = server.enqueued(r#"{"module": "hello", "max_attempts": 1000}"#).await;
    let mut host = server.host().await;
    for number in 1..=130 {
        let attempt = host.claim(1).await.jobs[0].attempt;
        assert_eq!(attempt.attempt.0, number);
        let mut request = host.request(0);
        request.log = vec![LogChunk { attempt, offset: 0, bytes: format!("log {number}").into() }];
        let at_once = Failure { retry_after_ms: Some(0), ..Failure::new(Cause::Exit, "again") };
        request.finished = vec![finished(attempt, Outcome::Failed(at_once))];
        host.exchange(&request).await;
    }
    let job = server.job(&id).await;
    assert_eq!(job.forgotten_attempts.map(|range| (range.first.0, range.last.0)), Some((11, 40)));
    let kept: Vec<u32> = job.attempts.iter().map(|attempt| attempt.attempt.0).collect();
    assert_eq!(kept, (1..=10).chain(41..=130).collect::<Vec<u32>>());
    for number in [1, 10, 41, 130] {
        let log = server.get(&format!("/v1/jobs/{id}/log?attempt={number}")).await;
        assert_eq!(log.text(), format!("log {number}"));
    }
    for number in [11, 40] {
        let log = server.get(&format!("/v1/jobs/{id}/log?attempt={number}")).await;
        log.refused(404, "is not kept any more");
    }
    for number in [0, 131, u32::MAX] {
        let log = server.get(&format!("/v1/jobs/{id}/log?attempt={number}")).await;
        log.refused(404, "attempts 1 to 130 were begun");
    }
    let page = server.get(&format!("/jobs/{id}")).await.text();
    assert!(page.contains("Not kept any more, nor their logs: 11 to 40"), "{page}");
}

#[tokio::test]
async fn a_failures_message_is_cut_and_its_wait_has_a_bound() {
    let (server, mut host, attempt) = running().await;
    let failure = Failure {
        cause: Cause::Exit,
        message: "m".repeat(5_000_000),
        exit_code: Some(i32::MIN),
        retry_after_ms: Some(u64::MAX),
    };
    host.finish(attempt, Outcome::Failed(failure)).await;
    let job = server.job(attempt.job).await;
    assert_eq!(job.attempts[0].failure.as_ref().unwrap().message.len(), limits::MESSAGE_BYTES_MAX);
    assert_eq!(job.job.scheduled_at.since(job.attempts[0].ended_at), limits::PUT_OFF_MAX);
}

#[tokio::test]
async fn a_failure_under_one_of_midges_own_words_is_a_failure() {
    for cause in [
        Cause::Snoozed,
        Cause::HandedBack,
        Cause::MachineLost,
        Cause::Cancelled,
        Cause::Expired,
        Cause::Unmet,
    ] {
        let (server, mut host, attempt) = running().await;
        host.finish(attempt, Outcome::Failed(Failure::new(cause.clone(), "not mine to say"))).await;
        let ended = server.job(attempt.job).await.attempts.remove(0);
        assert_eq!(ended.failure.unwrap().cause.to_string(), format!("host_{cause}"));
        assert!(ended.spent);
    }
}

#[tokio::test]
async fn an_outcome_of_a_newer_host_is_spent_and_the_rest_of_its_report_is_heard() {
    /// A request of a newer host, which knows one outcome more.
    #[derive(serde::Serialize)]
    struct Newer {
        boot: u64,
        seq: u64,
        room: u32,
        wait_ms: u32,
        finished: Vec<NewerFinished>,
    }
    #[derive(serde::Serialize)]
    struct NewerFinished {
        attempt: AttemptRef,
        outcome: NewerOutcome,
        usage: Usage,
    }
    #[derive(serde::Serialize)]
    #[serde(rename_all = "snake_case")]
    enum NewerOutcome {
        Suspended { snapshot: Vec<u8> },
        Completed { result: bytes::Bytes },
    }
    let (server, mut host, first) = running().await;
    let second: JobId = server.enqueued(HELLO).await.parse().unwrap();
    let mut claim = host.request(1);
    claim.running = vec![Running { attempt: first, progress: None }];
    let second = host
        .exchange(&claim)
        .await
        .jobs
        .into_iter()
        .find(|grant| grant.attempt.job == second)
        .unwrap()
        .attempt;
    let finished = |attempt, outcome| NewerFinished { attempt, outcome, usage: Usage::default() };
    let newer = Newer {
        boot: u64::MAX,
        seq: 3,
        room: 0,
        wait_ms: 0,
        finished: vec![
            finished(first, NewerOutcome::Suspended { snapshot: vec![1] }),
            finished(second, NewerOutcome::Completed { result: "ok".into() }),
        ],
    };
    let reply = host.send(encode(&newer)).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let attempt = server.job(first.job).await.attempts.remove(0);
    assert_eq!((attempt.failure.unwrap().cause.to_string().as_str(), attempt.spent), ("suspended", true));
    assert_eq!(server.get(&format!("/v1/jobs/{}/result", second.job)).await.text(), "ok");
}

#[tokio::test]
async fn a_host_reports_no_more_at_once_than_a_host_can_have() {
    let (_server, mut host, _) = running().await;
    let attempt = AttemptRef::new(JobId::generate(), AttemptNumber(1));
    let mut request = host.request(0);
    request.running = vec![Running { attempt, progress: None }; limits::EXCHANGE_REPORTS_MAX + 1];
    host.send(encode(&request)).await.refused(400, "at most 8192 are allowed");
    request.running.pop();
    assert_eq!(host.send(encode(&request)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_job_is_deleted_but_while_it_runs() {
    let (server, mut host, attempt) = running().await;
    let path = format!("/v1/jobs/{}", attempt.job);
    let delete = || server.call("DELETE", &path, "");
    let reply = delete().await;
    assert_eq!((reply.status, reply.code().as_str()), (StatusCode::CONFLICT, "refused"));
    host.finish(attempt, done("ok")).await;
    assert_eq!(delete().await.status, StatusCode::NO_CONTENT);
    assert_eq!(delete().await.code(), "no_such_job");
}
