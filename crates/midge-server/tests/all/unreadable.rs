//! Rows that cannot be read: shown for what they are, in nobody's way, and deleted when somebody asks for it.

use std::sync::Arc;

use axum::http::StatusCode;
use midge_protocol::JobId;
use midge_protocol::api::JobPage;
use midge_protocol::exchange::{self, Request};
use midge_protocol::job::State;
use midge_protocol::manifest::QueuePolicy;
use midge_store::conformance::fixtures::Database;

use crate::stage::{HELLO, LATER, Server, done, finished};

/// What an earlier release wrote for a time that is beyond all times.
const TOO_LATE: &str = r#"{"Waiting":{"due":"9223372036854775807 ms after 1970"}}"#;

async fn server(database: &Database) -> Server {
    // A slow test would be given a second Machine.
    let policy = QueuePolicy { max_machines: 1, ..QueuePolicy::default() };
    Server::on(Arc::new(database.open()), policy).await
}

fn garble(database: &Database, id: &str) {
    database.garble(id.parse().unwrap(), "{garbage");
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_shown_as_such_and_hides_no_other() {
    let database = Database::fresh();
    let server = server(&database).await;
    let good = server.enqueued(LATER).await;
    let bad = server.enqueued(r#"{"module": "hello", "args": [1.0], "in_ms": 3600000}"#).await;
    let late = server.enqueued(LATER).await;
    garble(&database, &bad);
    let id: JobId = late.parse().unwrap();
    let sql =
        "UPDATE jobs SET due = 9223372036854775807, body = json_set(body, '$.state', json(?2)) WHERE id = ?1";
    assert_eq!(database.sql(sql, (id.as_bytes(), TOO_LATE)), 1);

    let page: JobPage = server.get("/v1/jobs").await.parse();
    let shown: Vec<_> = page.jobs.iter().map(|job| (job.id.to_string(), job.unreadable.is_some())).collect();
    assert_eq!(shown, [(late.clone(), true), (bad.clone(), true), (good, false)]);
    let detail = server.job(&bad).await;
    assert_eq!((detail.args.get(), detail.job.state), ("[1.0]", State::Scheduled));
    for path in ["/".to_owned(), format!("/jobs/{bad}"), format!("/jobs/{late}")] {
        let page = server.get(&path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        assert!(page.text().contains("cannot be read"), "{path}");
    }
    // What cannot be done says what can.
    for part in ["cancel", "retry"] {
        let reply = server.post(&format!("/v1/jobs/{bad}/{part}")).await;
        assert_eq!((reply.status, reply.code().as_str()), (StatusCode::CONFLICT, "unreadable"));
        assert!(reply.text().contains("delete the job"), "{}", reply.text());
    }
    let again = server.enqueue(format!(r#"{{"module": "hello", "id": "{bad}"}}"#)).await;
    assert_eq!((again.status, again.code().as_str()), (StatusCode::CONFLICT, "unreadable"));
    for id in [&bad, &late] {
        let reply = server.call("DELETE", &format!("/v1/jobs/{id}"), "").await;
        assert_eq!(reply.status, StatusCode::NO_CONTENT, "{}", reply.text());
    }
    let page: JobPage = server.get("/v1/jobs").await.parse();
    assert_eq!(page.jobs.len(), 1);
}

#[tokio::test]
async fn a_job_that_cannot_be_read_keeps_no_other_waiting() {
    let database = Database::fresh();
    let mut server = server(&database).await;
    let bad = server.enqueued(HELLO).await;
    garble(&database, &bad);
    let good = server.enqueued(HELLO).await;
    let mut host = server.host().await;
    let grants = host.claim(1).await.jobs;
    assert_eq!(grants.iter().map(|grant| grant.attempt.job.to_string()).collect::<Vec<_>>(), [good]);
    let finished = vec![finished(grants[0].attempt, done(""))];
    let request = Request { finished, ..host.request(1) };
    host.exchange(&request).await;
    // It waits for nobody any more, so that no Machine is started for it.
    let page: JobPage = server.get("/v1/jobs?state=discarded").await.parse();
    assert_eq!(page.jobs.iter().map(|job| job.id.to_string()).collect::<Vec<_>>(), [bad]);
    let queues = server.get("/v1/queues").await.json();
    assert_eq!(queues["queues"][0]["jobs"]["available"], 0);
}

#[tokio::test]
async fn a_machine_that_cannot_be_read_gives_its_jobs_back_unspent_and_the_dispatcher_goes_on() {
    let database = Database::fresh();
    let mut server = server(&database).await;
    let id = server.enqueued(HELLO).await;
    let mut lost = server.host().await;
    let first = lost.claim(1).await.jobs[0].attempt;
    assert_eq!(database.sql("UPDATE machines SET body = 'garbage'", []), 1);
    assert_eq!(server.get("/v1/machines").await.status, StatusCode::OK);
    // A Machine that has no row has no right, and another one takes its job.
    let request = exchange::encode(&lost.request(1));
    assert_eq!(lost.send(request).await.code(), "unknown_machine");
    let mut host = server.host().await;
    let second = host.claim(1).await.jobs[0].attempt;
    assert_eq!((second.job.to_string(), second.attempt.0), (id.clone(), first.attempt.0 + 1));
    let detail = server.job(&id).await;
    assert_eq!(detail.job.spent, 0);
}

#[tokio::test]
async fn a_completed_job_without_its_result_and_its_attempts_is_shown_all_the_same() {
    let database = Database::fresh();
    let mut server = server(&database).await;
    let id = server.enqueued(HELLO).await;
    let mut host = server.host().await;
    let attempt = host.claim(1).await.jobs[0].attempt;
    host.finish(attempt, done("ok")).await;
    assert_eq!(database.sql("DELETE FROM contents WHERE content IN (0, 2)", []), 2);
    assert_eq!(database.sql("UPDATE attempts SET body = 'garbage'", []), 1);
    let detail = server.job(&id).await;
    assert_eq!((detail.args.get(), detail.unreadable_attempts), ("null", vec![attempt.attempt]));
    let page = server.get(&format!("/jobs/{id}")).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text());
    assert!(
        page.text().contains("The result is not there") && page.text().contains("rows cannot be read: 1")
    );
}
