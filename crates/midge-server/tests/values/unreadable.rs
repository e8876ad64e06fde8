//! Rows that cannot be read: shown for what they are, in nobody's way, and deleted when somebody asks for it.

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use midge_protocol::JobId;
use midge_protocol::api::{JobDetail, JobPage};
use midge_protocol::exchange::{Finished, Outcome};
use midge_protocol::job::{State, Usage};
use midge_store::SqliteStore;
use rusqlite::Connection;
use tempfile::TempDir;

use super::support::Server;

/// What an earlier release wrote for a time that is beyond all times.
const TOO_LATE: &str = r#"{"Waiting":{"due":"9223372036854775807 ms after 1970"}}"#;

struct Database {
    path: PathBuf,
    _folder: TempDir,
}

impl Database {
    fn new() -> Database {
        let folder = TempDir::new().unwrap();
        Database { path: folder.path().join("midge.db"), _folder: folder }
    }

    async fn server(&self) -> Server {
        Server::start(Arc::new(SqliteStore::open(&self.path).unwrap())).await
    }

    /// Writes beside the server, as nobody should.
    fn sql(&self, sql: &str, values: impl rusqlite::Params) -> usize {
        Connection::open(&self.path).unwrap().execute(sql, values).unwrap()
    }

    fn garble(&self, id: &str) {
        let id: JobId = id.parse().unwrap();
        let sql = "UPDATE jobs SET body = '{garbage' WHERE id = ?1";
        assert_eq!(self.sql(sql, [id.as_bytes()]), 1);
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_shown_as_such_and_hides_no_other() {
    let database = Database::new();
    let server = database.server().await;
    let good = server.enqueued(r#"{"module": "hello", "in_ms": 3600000}"#).await;
    let bad = server.enqueued(r#"{"module": "hello", "args": [1.0], "in_ms": 3600000}"#).await;
    let late = server.enqueued(r#"{"module": "hello", "in_ms": 3600000}"#).await;
    database.garble(&bad);
    let id: JobId = late.parse().unwrap();
    let sql =
        "UPDATE jobs SET due = 9223372036854775807, body = json_set(body, '$.state', json(?2)) WHERE id = ?1";
    assert_eq!(database.sql(sql, rusqlite::params![id.as_bytes(), TOO_LATE]), 1);

    let page: JobPage = server.get("/v1/jobs").await.json();
    let shown: Vec<_> = page.jobs.iter().map(|job| (job.id.to_string(), job.unreadable.is_some())).collect();
    assert_eq!(shown, [(late.clone(), true), (bad.clone(), true), (good, false)]);
    let detail: JobDetail = server.get(&format!("/v1/jobs/{bad}")).await.json();
    assert_eq!((detail.args.get(), detail.job.state), ("[1.0]", State::Scheduled));
    for path in ["/".to_owned(), format!("/jobs/{bad}"), format!("/jobs/{late}")] {
        let page = server.get(&path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        assert!(page.text().contains("cannot be read"), "{path}");
    }
    // What cannot be done says what can.
    for part in ["cancel", "retry"] {
        let reply = server.call(Method::POST, &format!("/v1/jobs/{bad}/{part}"), Body::empty()).await;
        assert_eq!((reply.status, reply.code().as_str()), (StatusCode::CONFLICT, "unreadable"));
        assert!(reply.text().contains("delete the job"), "{}", reply.text());
    }
    let again = server.enqueue(&format!(r#"{{"module": "hello", "id": "{bad}"}}"#)).await;
    assert_eq!((again.status, again.code().as_str()), (StatusCode::CONFLICT, "unreadable"));
    for id in [&bad, &late] {
        let reply = server.call(Method::DELETE, &format!("/v1/jobs/{id}"), Body::empty()).await;
        assert_eq!(reply.status, StatusCode::NO_CONTENT, "{}", reply.text());
    }
    let page: JobPage = server.get("/v1/jobs").await.json();
    assert_eq!(page.jobs.len(), 1);
}

#[tokio::test]
async fn a_job_that_cannot_be_read_keeps_no_other_waiting() {
    let database = Database::new();
    let mut server = database.server().await;
    let bad = server.enqueued(r#"{"module": "hello"}"#).await;
    database.garble(&bad);
    let good = server.enqueued(r#"{"module": "hello"}"#).await;
    let mut host = server.host().await;
    let grants = host.claim(1).await.jobs;
    assert_eq!(grants.iter().map(|grant| grant.attempt.job.to_string()).collect::<Vec<_>>(), [good]);
    let mut done = host.request(1);
    let (attempt, usage) = (grants[0].attempt, Usage::default());
    done.finished = vec![Finished { attempt, outcome: Outcome::Completed { result: "".into() }, usage }];
    host.exchange(&done).await;
    // It waits for nobody any more, so that no Machine is started for it.
    let page: JobPage = server.get("/v1/jobs?state=discarded").await.json();
    assert_eq!(page.jobs.iter().map(|job| job.id.to_string()).collect::<Vec<_>>(), [bad]);
    let queues = server.get("/v1/queues").await.json::<serde_json::Value>();
    assert_eq!(queues["queues"][0]["jobs"]["available"], 0);
}

#[tokio::test]
async fn a_machine_that_cannot_be_read_gives_its_jobs_back_unspent_and_the_dispatcher_goes_on() {
    let database = Database::new();
    let mut server = database.server().await;
    let id = server.enqueued(r#"{"module": "hello"}"#).await;
    let mut lost = server.host().await;
    let first = lost.claim(1).await.jobs[0].attempt;
    assert_eq!(database.sql("UPDATE machines SET body = 'garbage'", []), 1);
    assert_eq!(server.get("/v1/machines").await.status, StatusCode::OK);
    // A Machine that has no row has no right, and another one takes its job.
    let request = midge_protocol::exchange::encode(&lost.request(1));
    assert_eq!(lost.send(request).await.code(), "unknown_machine");
    let mut host = server.host().await;
    let second = host.claim(1).await.jobs[0].attempt;
    assert_eq!((second.job.to_string(), second.attempt.0), (id.clone(), first.attempt.0 + 1));
    let detail: JobDetail = server.get(&format!("/v1/jobs/{id}")).await.json();
    assert_eq!(detail.job.spent, 0);
}

#[tokio::test]
async fn a_completed_job_without_its_result_and_its_attempts_is_shown_all_the_same() {
    let database = Database::new();
    let mut server = database.server().await;
    let id = server.enqueued(r#"{"module": "hello"}"#).await;
    let mut host = server.host().await;
    let (attempt, usage) = (host.claim(1).await.jobs[0].attempt, Usage::default());
    let mut done = host.request(0);
    done.finished = vec![Finished { attempt, outcome: Outcome::Completed { result: "ok".into() }, usage }];
    host.exchange(&done).await;
    assert_eq!(database.sql("DELETE FROM contents WHERE content IN (0, 2)", []), 2);
    assert_eq!(database.sql("UPDATE attempts SET body = 'garbage'", []), 1);
    let detail: JobDetail = server.get(&format!("/v1/jobs/{id}")).await.json();
    assert_eq!((detail.args.get(), detail.unreadable_attempts), ("null", vec![attempt.attempt]));
    let page = server.get(&format!("/jobs/{id}")).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text());
    assert!(
        page.text().contains("The result is not there") && page.text().contains("rows cannot be read: 1")
    );
}
