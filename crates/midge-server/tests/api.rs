//! The rules of the HTTP API, asked of a whole server on the in-memory store, with hosts played by the test.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode, header};
use axum::response::Response;
use midge_machines::{Label, Launch, MachineError, MachineSpec, Machines, Seen, SeenState};
use midge_protocol::exchange::{self, Answer, AttemptRef, Finished, Outcome, Running};
use midge_protocol::job::{AttemptLimits, Cause, Failure, RetryPolicy, Usage};
use midge_protocol::manifest::{self, Manifest, ModuleEntry, QueuePolicy};
use midge_protocol::{BootId, MachineId, ModuleName, QueueName, Secret};
use midge_server::{Access, Catalog, Fork, Midge, Settings};
use midge_store::MemoryStore;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower::ServiceExt;

/// A Machines API whose Machines are hosts that the test plays: it hands over what each was made with.
struct Stage {
    made: mpsc::UnboundedSender<MachineSpec>,
    count: AtomicU64,
}

#[async_trait]
impl Machines for Stage {
    async fn create(&self, spec: &MachineSpec, _: Launch) -> Result<MachineId, MachineError> {
        self.made.send(spec.clone()).expect("the test waits for Machines");
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        Ok(MachineId::new(format!("e{count}")).expect("letters and digits"))
    }
    async fn start(&self, _: &MachineId) -> Result<(), MachineError> {
        Ok(())
    }
    async fn stop(&self, _: &MachineId) -> Result<(), MachineError> {
        Ok(())
    }
    async fn destroy(&self, _: &MachineId) -> Result<(), MachineError> {
        Ok(())
    }
    async fn get(&self, id: &MachineId) -> Result<Seen, MachineError> {
        Ok(Seen {
            id: id.clone(),
            name: String::new(),
            state: SeenState::Started,
            exit: None,
            metadata: BTreeMap::new(),
            reachable: true,
            region: String::new(),
            created_at: None,
            updated_at: None,
        })
    }
    async fn list(&self, _: &Label) -> Result<Vec<Seen>, MachineError> {
        Ok(Vec::new())
    }
    async fn wait(&self, _: &MachineId, _: SeenState, _: Duration) -> Result<(), MachineError> {
        Ok(())
    }
}

struct Server {
    midge: Midge,
    made: mpsc::UnboundedReceiver<MachineSpec>,
}

fn entry() -> ModuleEntry {
    ModuleEntry {
        file: "hello.cwasm".into(),
        size: 0,
        sha256: String::new(),
        xxh3: String::new(),
        source_sha256: String::new(),
        queue: QueueName::default_queue(),
        limits: AttemptLimits::default(),
        retry: RetryPolicy::default(),
        env: Vec::new(),
        dirs: BTreeMap::new(),
    }
}

async fn server_with(policy: QueuePolicy, access: Access) -> Server {
    let manifest = Manifest {
        format: manifest::FORMAT,
        wasmtime: "48".into(),
        config_hash: String::new(),
        cpu: "x86-64-v2".into(),
        modules: [(ModuleName::new("hello").unwrap(), entry())].into(),
        server: Default::default(),
        queues: [(QueueName::default_queue(), policy)].into(),
        env: BTreeMap::new(),
    };
    let (made_send, made) = mpsc::unbounded_channel();
    let settings = Settings {
        catalog: Catalog { manifest, generation: "g1".into(), modules_dir: PathBuf::from("modules") },
        fork: Fork {
            image: "image".into(),
            region: None,
            host: vec!["host".into()],
            server_url: "http://x".into(),
        },
        access,
        retention: midge_server::Retention::default(),
    };
    let stage = Stage { made: made_send, count: AtomicU64::new(0) };
    let midge = Midge::start(Arc::new(MemoryStore::new()), Arc::new(stage), settings).await.unwrap();
    Server { midge, made }
}

async fn server() -> Server {
    server_with(QueuePolicy::default(), Access::Loopback).await
}

impl Server {
    async fn send(&self, request: Request<Body>) -> Response {
        self.midge.router().oneshot(request).await.unwrap()
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "127.0.0.1:7433")
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.map_or(Body::empty(), |body| Body::from(body.to_string())))
            .unwrap();
        let response = self.send(request).await;
        let status = response.status();
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn enqueue(&self, body: Value) -> String {
        let (status, body) = self.call(Method::POST, "/v1/jobs", Some(body)).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body["id"].as_str().unwrap().to_owned()
    }

    async fn state(&self, id: &str) -> String {
        let (_, job) = self.call(Method::GET, &format!("/v1/jobs/{id}"), None).await;
        job["state"].as_str().unwrap().to_owned()
    }

    /// Waits for the dispatcher to make a Machine, and plays its host.
    async fn host(&mut self) -> Host {
        let spec = self.made.recv().await.unwrap();
        Host {
            midge: self.midge.clone(),
            name: spec.env["MIDGE_MACHINE"].clone(),
            secret: spec.env["MIDGE_SECRET"].clone(),
            seq: 0,
        }
    }
}

struct Host {
    midge: Midge,
    name: String,
    secret: String,
    seq: u64,
}

impl Host {
    fn request(&mut self, room: u32) -> exchange::Request {
        self.seq += 1;
        exchange::Request {
            boot: BootId(1),
            seq: self.seq,
            room,
            wait_ms: 0,
            leaving: false,
            running: Vec::new(),
            finished: Vec::new(),
            log: Vec::new(),
        }
    }

    async fn send(&self, request: &exchange::Request, protocol: impl ToString) -> Response {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("/v1/machines/{}/exchange", self.name))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.secret))
            .header(exchange::PROTOCOL_HEADER, protocol.to_string())
            .body(Body::from(exchange::encode(request)))
            .unwrap();
        self.midge.router().oneshot(request).await.unwrap()
    }

    async fn exchange(&self, request: &exchange::Request) -> Answer {
        let response = self.send(request, exchange::PROTOCOL).await;
        assert_eq!(response.status(), StatusCode::OK);
        exchange::decode(&to_bytes(response.into_body(), usize::MAX).await.unwrap()).unwrap()
    }

    async fn claim(&mut self, room: u32) -> Answer {
        let request = self.request(room);
        self.exchange(&request).await
    }

    async fn finish(&mut self, attempt: AttemptRef, outcome: Outcome) -> Answer {
        let mut request = self.request(0);
        request.finished = vec![Finished { attempt, outcome, usage: Usage::default() }];
        self.exchange(&request).await
    }
}

fn done(result: &'static str) -> Outcome {
    Outcome::Completed { result: result.into() }
}

#[tokio::test]
async fn an_enqueued_module_gives_a_result() {
    let mut server = server().await;
    let id = server.enqueue(json!({"module": "hello", "args": {"name": "you"}})).await;
    let mut host = server.host().await;
    let answer = host.claim(2).await;
    assert_eq!(answer.jobs[0].args, r#"{"name":"you"}"#);
    assert_eq!(server.state(&id).await, "running");
    host.finish(answer.jobs[0].attempt, done("hi")).await;
    let (_, job) = server.call(Method::GET, &format!("/v1/jobs/{id}/wait?timeout_ms=10000"), None).await;
    assert_eq!((job["state"].as_str(), job["result_bytes"].as_u64()), (Some("completed"), Some(2)));
    let result = server.midge.content(id.parse().unwrap(), midge_server::JobContent::Result).await;
    assert_eq!(result.unwrap(), "hi");
}

#[tokio::test]
async fn who_waits_is_woken_when_the_job_ends() {
    let mut server = server().await;
    let id = server.enqueue(json!({"module": "hello"})).await;
    let mut host = server.host().await;
    let attempt = host.claim(1).await.jobs[0].attempt;
    let path = format!("/v1/jobs/{id}/wait?timeout_ms=60000");
    let (waited, _) = tokio::join!(server.call(Method::GET, &path, None), host.finish(attempt, done("hi")));
    assert_eq!(waited.1["state"], "completed");
}

#[tokio::test]
async fn who_waits_for_a_result_gets_its_bytes_as_soon_as_they_are_there() {
    let mut server = server().await;
    let id = server.enqueue(json!({"module": "hello"})).await;
    let mut host = server.host().await;
    let attempt = host.claim(1).await.jobs[0].attempt;
    let path = format!("/v1/jobs/{id}/result?timeout_ms=60000");
    let waiting = Request::get(path).header(header::HOST, "localhost").body(Body::empty()).unwrap();
    let (response, _) = tokio::join!(server.send(waiting), host.finish(attempt, done("hi")));
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(to_bytes(response.into_body(), usize::MAX).await.unwrap(), "hi");
}

#[tokio::test]
async fn the_result_of_a_run_before_is_not_that_of_a_job_that_runs_again() {
    let mut server = server().await;
    let id = server.enqueue(json!({"module": "hello"})).await;
    let mut host = server.host().await;
    let attempt = host.claim(1).await.jobs[0].attempt;
    host.finish(attempt, done("old")).await;
    server.call(Method::POST, &format!("/v1/jobs/{id}/retry"), None).await;
    let (status, answer) = server.call(Method::GET, &format!("/v1/jobs/{id}/result"), None).await;
    assert_eq!((status, answer["code"].as_str()), (StatusCode::NOT_FOUND, Some("no_content")));
}

#[tokio::test]
async fn who_waits_for_a_result_hears_at_once_that_there_will_be_none() {
    let mut server = server().await;
    let id = server.enqueue(json!({"module": "hello"})).await;
    let mut host = server.host().await;
    let attempt = host.claim(1).await.jobs[0].attempt;
    let path = format!("/v1/jobs/{id}/result?timeout_ms=60000");
    let refused = Outcome::Failed(Failure::new(Cause::Refused, "bad args"));
    let (waited, _) = tokio::join!(server.call(Method::GET, &path, None), host.finish(attempt, refused));
    assert_eq!((waited.0, waited.1["code"].as_str()), (StatusCode::NOT_FOUND, Some("no_content")));
}

#[tokio::test]
async fn a_parked_exchange_is_woken_by_an_enqueue_and_an_older_one_is_answered_empty() {
    let mut server = server().await;
    let first = server.enqueue(json!({"module": "hello"})).await;
    let mut host = server.host().await;
    let attempt = host.claim(1).await.jobs[0].attempt;
    host.finish(attempt, done("")).await;
    assert_eq!(server.state(&first).await, "completed");

    let older = exchange::Request { wait_ms: 10_000, ..host.request(1) };
    let newer = exchange::Request { wait_ms: 10_000, ..host.request(1) };
    let (older, (newer, id)) = tokio::join!(host.exchange(&older), async {
        let enqueue = server.enqueue(json!({"module": "hello"}));
        tokio::join!(host.exchange(&newer), enqueue)
    });
    // Either may have been first to see the job; it was leased once, and nobody waited for long.
    let jobs: Vec<_> = older.jobs.iter().chain(&newer.jobs).map(|job| job.attempt.job).collect();
    assert!(jobs.iter().all(|job| job.to_string() == id) && !jobs.is_empty(), "{jobs:?}");
}

#[tokio::test]
async fn what_a_lost_answer_held_is_sent_again_under_the_same_number() {
    let mut server = server().await;
    server.enqueue(json!({"module": "hello"})).await;
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
    let mut server = server().await;
    let id = server.enqueue(json!({"module": "hello"})).await;
    let mut host = server.host().await;
    let attempt = host.claim(1).await.jobs[0].attempt;
    host.finish(attempt, done("first")).await;
    host.finish(attempt, done("second")).await;
    let result = server.midge.content(id.parse().unwrap(), midge_server::JobContent::Result).await;
    assert_eq!(result.unwrap(), "first");
}

#[tokio::test]
async fn a_running_job_is_cancelled_through_its_host() {
    let mut server = server().await;
    let id = server.enqueue(json!({"module": "hello"})).await;
    let mut host = server.host().await;
    let attempt = host.claim(1).await.jobs[0].attempt;
    let (status, job) = server.call(Method::POST, &format!("/v1/jobs/{id}/cancel"), None).await;
    assert_eq!((status, job["cancelling"].as_bool()), (StatusCode::OK, Some(true)));
    let mut request = host.request(0);
    request.running = vec![Running { attempt, progress: None }];
    assert_eq!(host.exchange(&request).await.cancel, [attempt]);
    host.finish(attempt, Outcome::Cancelled).await;
    assert_eq!(server.state(&id).await, "cancelled");
}

#[tokio::test]
async fn a_refused_job_is_discarded_and_can_be_retried_by_hand() {
    let mut server = server().await;
    let id = server.enqueue(json!({"module": "hello"})).await;
    let mut host = server.host().await;
    let attempt = host.claim(1).await.jobs[0].attempt;
    host.finish(attempt, Outcome::Failed(Failure::new(Cause::Refused, "bad args"))).await;
    assert_eq!(server.state(&id).await, "discarded");
    let (_, page) = server.call(Method::GET, "/v1/jobs?state=discarded", None).await;
    assert_eq!(page["jobs"][0]["failure"]["message"], "bad args");
    let (status, _) = server.call(Method::POST, &format!("/v1/jobs/{id}/retry"), None).await;
    assert_eq!((status, server.state(&id).await), (StatusCode::OK, "available".to_owned()));
    assert_eq!(host.claim(1).await.jobs[0].attempt.attempt.0, 2);
}

#[tokio::test]
async fn a_host_that_left_has_no_right_any_more() {
    let mut server = server().await;
    server.enqueue(json!({"module": "hello"})).await;
    let mut host = server.host().await;
    let attempt = host.claim(1).await.jobs[0].attempt;
    host.finish(attempt, done("")).await;
    let leaving = exchange::Request { leaving: true, ..host.request(1) };
    assert!(host.exchange(&leaving).await.left);
    let late = host.request(1);
    assert_eq!(host.send(&late, exchange::PROTOCOL).await.status(), StatusCode::GONE);
}

#[tokio::test]
async fn a_request_that_is_parked_when_its_host_leaves_is_told_so_and_not_turned_away() {
    let mut server = server().await;
    server.enqueue(json!({"module": "hello"})).await;
    let mut host = server.host().await;
    let attempt = host.claim(1).await.jobs[0].attempt;
    host.finish(attempt, done("")).await;
    let parked = exchange::Request { wait_ms: 10_000, ..host.request(1) };
    let leaving = exchange::Request { leaving: true, ..host.request(1) };
    let (parked, leaving) = tokio::join!(host.exchange(&parked), host.exchange(&leaving));
    assert!(parked.left && leaving.left);
}

#[tokio::test]
async fn hosts_without_the_right_or_the_protocol_are_turned_away() {
    let mut server = server().await;
    server.enqueue(json!({"module": "hello"})).await;
    let mut host = server.host().await;
    let request = host.request(1);
    assert_eq!(host.send(&request, "another").await.status(), StatusCode::UPGRADE_REQUIRED);
    let name = std::mem::replace(&mut host.name, "midge-nobody".into());
    assert_eq!(host.send(&request, exchange::PROTOCOL).await.status(), StatusCode::NOT_FOUND);
    host.name = name;
    host.secret = "guess".into();
    assert_eq!(host.send(&request, exchange::PROTOCOL).await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_enqueue_can_be_repeated_but_not_with_other_content() {
    let server = server().await;
    let id = midge_protocol::JobId::generate().to_string();
    let body = json!({"id": id, "module": "hello", "args": 1});
    server.enqueue(body.clone()).await;
    let (_, again) = server.call(Method::POST, "/v1/jobs", Some(body)).await;
    assert_eq!(again["new"], false);
    let other = json!({"id": id, "module": "hello", "args": 2});
    let (status, error) = server.call(Method::POST, "/v1/jobs", Some(other)).await;
    assert_eq!((status, error["code"].as_str()), (StatusCode::CONFLICT, Some("conflict")));
}

#[tokio::test]
async fn a_bulk_enqueue_is_all_or_none() {
    let server = server().await;
    let bulk = |last: &str| json!({"jobs": [{"module": "hello"}, {"module": last}]});
    let (status, _) = server.call(Method::POST, "/v1/jobs/bulk", Some(bulk("helo"))).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let (_, page) = server.call(Method::GET, "/v1/jobs", None).await;
    assert_eq!(page["jobs"], json!([]));
    let (status, body) = server.call(Method::POST, "/v1/jobs/bulk", Some(bulk("hello"))).await;
    assert_eq!((status, body["jobs"].as_array().unwrap().len()), (StatusCode::OK, 2));
}

#[tokio::test]
async fn bad_requests_say_what_to_do() {
    let server = server().await;
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
        let (got, error) = server.call(Method::POST, "/v1/jobs", Some(body.clone())).await;
        let text = error["error"].as_str().unwrap_or_default();
        assert!(got.as_u16() == status && text.contains(says), "{body}: {got} {text}");
    }
    let (status, _) = server.call(Method::GET, "/v1/jobs/not-an-id", None).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let missing = format!("/v1/jobs/{}", midge_protocol::JobId::generate());
    assert_eq!(server.call(Method::GET, &missing, None).await.0, StatusCode::NOT_FOUND);
    let (status, error) = server.call(Method::GET, "/v1/jobs?state=happy", None).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{error}");
}

#[tokio::test]
async fn a_full_queue_refuses_and_keeps_what_it_has() {
    let policy = QueuePolicy { max_jobs: 2, max_machines: 0, ..QueuePolicy::default() };
    let server = server_with(policy, Access::Loopback).await;
    for _ in 0..2 {
        server.enqueue(json!({"module": "hello"})).await;
    }
    let (status, error) = server.call(Method::POST, "/v1/jobs", Some(json!({"module": "hello"}))).await;
    assert_eq!((status, error["code"].as_str()), (StatusCode::TOO_MANY_REQUESTS, Some("queue_full")));
    let (_, queues) = server.call(Method::GET, "/v1/queues", None).await;
    assert_eq!(queues["queues"][0]["jobs"]["available"], 2);
}

#[tokio::test]
async fn a_queue_takes_no_more_than_it_may_hold_however_many_enqueue_at_once() {
    let policy = QueuePolicy { max_jobs: 100, max_machines: 0, ..QueuePolicy::default() };
    let server = server_with(policy, Access::Loopback).await;
    let bulk = || Some(json!({"jobs": [{"module": "hello"}, {"module": "hello"}, {"module": "hello"}]}));
    let calls = (0..50).map(|_| server.call(Method::POST, "/v1/jobs/bulk", bulk()));
    let answers = futures_util::future::join_all(calls).await;
    let taken = answers.iter().filter(|(status, _)| *status == StatusCode::OK).count();
    let full = answers.iter().filter(|(status, _)| *status == StatusCode::TOO_MANY_REQUESTS).count();
    assert_eq!((taken, full), (33, 17), "{answers:?}");
}

#[tokio::test]
async fn a_delayed_job_is_scheduled_and_can_be_run_now() {
    let server = server().await;
    let id = server.enqueue(json!({"module": "hello", "in_ms": 3_600_000})).await;
    assert_eq!(server.state(&id).await, "scheduled");
    server.call(Method::POST, &format!("/v1/jobs/{id}/retry"), None).await;
    assert_eq!(server.state(&id).await, "available");
}

#[tokio::test]
async fn the_page_shows_jobs_and_its_buttons_work_only_from_itself() {
    let server = server().await;
    let id = server.enqueue(json!({"module": "hello", "in_ms": 3_600_000})).await;
    let get =
        |path: String| Request::get(path).header(header::HOST, "localhost").body(Body::empty()).unwrap();
    for path in ["/".to_owned(), format!("/jobs/{id}")] {
        let response = server.send(get(path)).await;
        assert_eq!(response.status(), StatusCode::OK);
        let page = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        assert!(String::from_utf8_lossy(&page).contains(&id));
    }
    let press = |origin: &str| {
        let form = Request::post(format!("/jobs/{id}/cancel")).header(header::HOST, "localhost");
        form.header(header::ORIGIN, origin).body(Body::empty()).unwrap()
    };
    assert_eq!(server.send(press("http://evil.example")).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(server.state(&id).await, "scheduled");
    assert_eq!(server.send(press("http://localhost")).await.status(), StatusCode::SEE_OTHER);
    assert_eq!(server.state(&id).await, "cancelled");
}

#[tokio::test]
async fn with_a_token_nothing_opens_without_it() {
    let server = server_with(QueuePolicy::default(), Access::Token(Secret::new("s3cret"))).await;
    for path in ["/", "/v1/jobs", "/v1/queues", "/v1/machines", "/v1/modules"] {
        let response = server.send(Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
        let with = Request::get(path).header(header::AUTHORIZATION, "Bearer s3cret");
        let response = server.send(with.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
    }
    let health = Request::get("/healthz").body(Body::empty()).unwrap();
    assert_eq!(server.send(health).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_host_that_drains_and_still_runs_something_waits_like_any_other() {
    let mut server = server().await;
    server.enqueue(json!({"module": "hello"})).await;
    let mut host = server.host().await;
    let attempt = host.claim(1).await.jobs[0].attempt;
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
        server.call(Method::POST, &path, None).await
    };
    let (answer, _) = tokio::join!(host.exchange(&parked), cancel);
    assert_eq!(answer.cancel, [attempt]);
}

#[tokio::test]
async fn a_page_of_jobs_has_the_length_that_was_asked_for_or_is_refused() {
    let server = server().await;
    for limit in ["0", "1001", "4294967295"] {
        let (status, error) = server.call(Method::GET, &format!("/v1/jobs?limit={limit}"), None).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{error}");
        assert!(error["error"].as_str().unwrap().contains("1 to 1000"), "{error}");
    }
    for limit in ["1", "1000"] {
        assert_eq!(
            server.call(Method::GET, &format!("/v1/jobs?limit={limit}"), None).await.0,
            StatusCode::OK
        );
    }
}
