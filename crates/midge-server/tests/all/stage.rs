//! A whole server on a store, in this process: called over HTTP, with JSON in and out. Its Machines API makes nothing:
//! the test plays the hosts, which speak the exchange.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use midge_machines::{Label, Launch, MachineError, MachineSpec, Machines, Seen, SeenState};
use midge_protocol::api::JobDetail;
use midge_protocol::exchange::{self, Answer, AttemptRef, Finished, Outcome};
use midge_protocol::job::{AttemptLimits, RetryPolicy, Usage};
use midge_protocol::manifest::{self, Manifest, ModuleEntry, QueuePolicy, ServerPolicy};
use midge_protocol::{BootId, MachineId, ModuleName, QueueName, Secret, Timestamp};
use midge_server::{Access, Catalog, Clock, Fork, Live, Midge, Retention, Settings, StartError, dispatcher};
use midge_store::conformance::fixtures::at;
use midge_store::{MemoryStore, Store};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;
use tower::ServiceExt;

const DOCUMENT: &str = include_str!("../../../../docs/api.md");

/// Whoever sends this has every right where a token is asked for.
pub const BEARER: (&str, &str) = ("authorization", "Bearer s3cret");
pub const JSON: (&str, &str) = ("content-type", "application/json");
/// A job to enqueue; and one that is not due while a test runs.
pub const HELLO: &str = r#"{"module": "hello"}"#;
pub const LATER: &str = r#"{"module": "hello", "in_ms": 3600000}"#;

/// Answers a create, by how many were asked for before.
pub type Creates = fn(usize) -> Result<MachineId, MachineError>;

/// Says which Machine a list shows, by what was to be made so far, and how many lists there were since.
pub type Shows = fn(&[MachineSpec], usize) -> Option<(String, SeenState)>;

/// Makes every Machine that is asked for.
pub fn made(number: usize) -> Result<MachineId, MachineError> {
    Ok(MachineId::new(format!("e{number}")).unwrap())
}

/// A Machines API that hands over what each Machine is to be made with. Its list shows nothing unless it is told to.
pub struct Api {
    creates: Creates,
    pub shows: Shows,
    /// Whether the server host of what it shows answers.
    pub reachable: bool,
    asked: Mutex<Asked>,
    made: mpsc::UnboundedSender<MachineSpec>,
}

#[derive(Default)]
struct Asked {
    specs: Vec<MachineSpec>,
    lists: usize,
    made: Vec<MachineId>,
    suspended: Vec<MachineId>,
}

impl Api {
    pub fn new(creates: Creates) -> (Api, mpsc::UnboundedReceiver<MachineSpec>) {
        let (made, receiver) = mpsc::unbounded_channel();
        (Api { creates, shows: |_, _| None, reachable: true, asked: Mutex::default(), made }, receiver)
    }

    /// Returns how many Machines were asked for.
    pub fn creates(&self) -> usize {
        self.asked.lock().unwrap().specs.len()
    }

    /// Returns how many lists were asked for since the last create.
    pub fn lists(&self) -> usize {
        self.asked.lock().unwrap().lists
    }
}

fn seen(id: &str, name: String, state: SeenState, label: Option<&Label>) -> Seen {
    Seen {
        id: MachineId::new(id).unwrap(),
        name,
        state,
        exit: None,
        metadata: label.map(|label| (label.key.clone(), label.value.clone())).into_iter().collect(),
        reachable: true,
        region: String::new(),
        created_at: None,
        updated_at: None,
    }
}

#[async_trait]
impl Machines for Api {
    async fn create(&self, spec: &MachineSpec, _: Launch) -> Result<MachineId, MachineError> {
        let asked = &mut *self.asked.lock().unwrap();
        let answer = (self.creates)(asked.specs.len());
        asked.specs.push(spec.clone());
        asked.lists = 0;
        asked.made.extend(answer.as_ref().ok().cloned());
        // Nobody receives it where the test plays no host.
        let _ = self.made.send(spec.clone());
        answer
    }
    async fn start(&self, id: &MachineId) -> Result<(), MachineError> {
        self.asked.lock().unwrap().suspended.retain(|suspended| suspended != id);
        Ok(())
    }
    async fn stop(&self, _: &MachineId) -> Result<(), MachineError> {
        Ok(())
    }
    async fn suspend(&self, id: &MachineId) -> Result<(), MachineError> {
        self.asked.lock().unwrap().suspended.push(id.clone());
        Ok(())
    }
    async fn destroy(&self, _: &MachineId) -> Result<(), MachineError> {
        Ok(())
    }
    async fn get(&self, id: &MachineId) -> Result<Seen, MachineError> {
        let asked = self.asked.lock().unwrap();
        let is_suspended = asked.suspended.contains(id);
        let state = if is_suspended { SeenState::Suspended } else { SeenState::Started };
        let seen = || seen(id.as_str(), String::new(), state, None);
        asked.made.contains(id).then(seen).ok_or_else(|| MachineError::Gone(id.clone()))
    }
    async fn list(&self, label: &Label) -> Result<Vec<Seen>, MachineError> {
        let asked = &mut *self.asked.lock().unwrap();
        let shown = (self.shows)(&asked.specs, asked.lists);
        asked.lists += 1;
        let shown = shown.map(|(name, state)| seen("shown", name, state, Some(label)));
        Ok(shown.map(|seen| Seen { reachable: self.reachable, ..seen }).into_iter().collect())
    }
    async fn wait(&self, _: &MachineId, _: SeenState, _: Duration) -> Result<(), MachineError> {
        Ok(())
    }
}

/// A catalog with one module, `hello`.
pub fn catalog(queues: BTreeMap<QueueName, QueuePolicy>, server: ServerPolicy) -> Catalog {
    let entry = ModuleEntry {
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
        enqueues: [ModuleName::new("hello").unwrap()].into(),
        http: Vec::new(),
        secrets: BTreeMap::new(),
    };
    let manifest = Manifest {
        format: manifest::FORMAT,
        wasmtime: "48".into(),
        config_hash: String::new(),
        cpu: "x86-64-v2".into(),
        modules: [(ModuleName::new("hello").unwrap(), entry)].into(),
        server,
        prices: Default::default(),
        queues,
        schedules: BTreeMap::new(),
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
    };
    Catalog {
        manifest,
        generation: "g1".into(),
        modules_dir: PathBuf::from("modules"),
        live: Live::default(),
    }
}

fn fork() -> Fork {
    Fork {
        image: "image".into(),
        env: BTreeMap::new(),
        size: None,
        region: None,
        host: vec!["host".into()],
        server_url: "http://x".into(),
    }
}

/// A clock that the test moves.
#[derive(Default)]
pub struct Hands(AtomicI64);

impl Hands {
    pub fn advance(&self, millis: i64) {
        self.0.fetch_add(millis, Ordering::Relaxed);
    }
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        at(self.0.load(Ordering::Relaxed))
    }
}

/// What a round of the dispatcher is given, where there is no server.
pub fn context(catalog: Catalog) -> dispatcher::Context {
    let owner = "store".to_owned();
    dispatcher::Context {
        catalog: Arc::new(catalog),
        fork: fork(),
        owner,
        up_since: at(0),
        looks: true,
        seeks_strays: false,
        seed: 0,
    }
}

/// A whole server.
pub struct Server {
    pub midge: Midge,
    pub made: mpsc::UnboundedReceiver<MachineSpec>,
    right: Vec<(&'static str, &'static str)>,
}

impl Server {
    /// On the in-memory store, for everybody on this machine.
    pub async fn start() -> Server {
        Server::on(Arc::new(MemoryStore::new()), QueuePolicy::default()).await
    }

    /// With this policy of its one queue.
    pub async fn on(store: Arc<dyn Store>, policy: QueuePolicy) -> Server {
        let queues = [(QueueName::default_queue(), policy)].into();
        Server::of(store, made, catalog(queues, ServerPolicy::default()), Access::Loopback).await
    }

    /// For whoever has the token of [`BEARER`].
    pub async fn with_token() -> Server {
        let queues = [(QueueName::default_queue(), QueuePolicy::default())].into();
        let access = Access::Token(Secret::new("s3cret"));
        Server::of(Arc::new(MemoryStore::new()), made, catalog(queues, ServerPolicy::default()), access).await
    }

    pub async fn of(store: Arc<dyn Store>, creates: Creates, catalog: Catalog, access: Access) -> Server {
        let (api, made) = Api::new(creates);
        let right = if let Access::Token(_) = access { vec![BEARER] } else { vec![] };
        let settings = Settings { catalog, fork: fork(), access, retention: Retention::default() };
        Server { midge: Midge::start(store, Arc::new(api), settings).await.unwrap(), made, right }
    }

    /// Returns why no server starts that asks for this token.
    pub async fn refuses_to_start(token: &str) -> StartError {
        let catalog = catalog(BTreeMap::new(), ServerPolicy::default());
        let access = Access::Token(Secret::new(token));
        let settings = Settings { catalog, fork: fork(), access, retention: Retention::default() };
        let (api, _) = Api::new(made);
        Midge::start(Arc::new(MemoryStore::new()), Arc::new(api), settings).await.err().unwrap()
    }

    /// Sends a request with these headers and no other.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Reply {
        send(&self.midge, method, path, headers, body.into()).await
    }

    /// Calls as a program does that has every right.
    pub async fn call(&self, method: &str, path: &str, body: impl Into<Body>) -> Reply {
        let headers = [&[("host", "127.0.0.1:7433"), JSON], &self.right[..]].concat();
        self.send(method, path, &headers, body).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.call("GET", path, "").await
    }

    pub async fn post(&self, path: &str) -> Reply {
        self.call("POST", path, "").await
    }

    pub async fn enqueue(&self, job: impl Display) -> Reply {
        self.call("POST", "/v1/jobs", job.to_string()).await
    }

    /// Enqueues a job that is in order, and returns its id.
    pub async fn enqueued(&self, job: impl Display) -> String {
        let reply = self.enqueue(job).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        reply.json()["id"].as_str().unwrap().to_owned()
    }

    pub async fn job(&self, id: impl Display) -> JobDetail {
        self.get(&format!("/v1/jobs/{id}")).await.parse()
    }

    pub async fn state(&self, id: impl Display) -> String {
        self.get(&format!("/v1/jobs/{id}")).await.json()["state"].as_str().unwrap().to_owned()
    }

    /// Waits for the dispatcher to make a Machine, and plays its host.
    pub async fn host(&mut self) -> Host {
        let spec = self.made.recv().await.unwrap();
        Host::of(&self.midge, &spec)
    }
}

/// A server with a job that runs, its host, and the attempt.
pub async fn running() -> (Server, Host, AttemptRef) {
    let mut server = Server::start().await;
    server.enqueued(HELLO).await;
    let mut host = server.host().await;
    let attempt = host.claim(1).await.jobs[0].attempt;
    (server, host, attempt)
}

async fn send(midge: &Midge, method: &str, path: &str, headers: &[(&str, &str)], body: Body) -> Reply {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (parts, body) = midge.router().oneshot(request.body(body).unwrap()).await.unwrap().into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    Reply { status: parts.status, headers: parts.headers, body }
}

/// An answer, read to its end.
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn parse<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        self.parse()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Returns the word of an error of the documented form.
    #[track_caller]
    pub fn code(&self) -> String {
        let text = self.text();
        assert_eq!(self.header("content-type"), "application/json", "{} {text}", self.status);
        let error = self.json();
        let fields: Vec<_> = error.as_object().unwrap_or_else(|| panic!("{text}")).keys().collect();
        assert_eq!(fields, ["code", "error"], "{text}");
        assert!(error["error"].as_str().is_some_and(|error| !error.is_empty()), "{text}");
        let code = error["code"].as_str().unwrap();
        assert!(DOCUMENT.contains(&format!("`{code}`")), "docs/api.md does not tell of `{code}`");
        code.to_owned()
    }

    /// Checks that this is an error of the documented form, with this status and in these words.
    #[track_caller]
    pub fn refused(&self, status: u16, says: &str) {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        self.code();
        let error = self.json();
        assert!(error["error"].as_str().unwrap().contains(says), "`{says}` is not in {error}");
    }
}

/// A host that the test plays.
pub struct Host {
    midge: Midge,
    pub name: String,
    pub secret: String,
    seq: u64,
}

impl Host {
    pub fn of(midge: &Midge, spec: &MachineSpec) -> Host {
        let [name, secret] = ["MIDGE_MACHINE", "MIDGE_SECRET"].map(|name| spec.env[name].clone());
        Host { midge: midge.clone(), name, secret, seq: 0 }
    }

    pub fn path(&self) -> String {
        format!("/v1/machines/{}/exchange", self.name)
    }

    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.secret)
    }

    /// Returns this host's next request.
    pub fn request(&mut self, room: u32) -> exchange::Request {
        self.seq += 1;
        request(self.seq, room)
    }

    pub async fn send(&self, body: impl Into<Body>) -> Reply {
        let (right, protocol) = (self.bearer(), exchange::PROTOCOL.to_string());
        let headers = [("authorization", right.as_str()), (exchange::PROTOCOL_HEADER, &protocol)];
        send(&self.midge, "POST", &self.path(), &headers, body.into()).await
    }

    pub async fn exchange(&self, request: &exchange::Request) -> Answer {
        let reply = self.send(exchange::encode(request)).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        exchange::decode(&reply.body).unwrap()
    }

    pub async fn claim(&mut self, room: u32) -> Answer {
        let request = self.request(room);
        self.exchange(&request).await
    }

    pub async fn finish(&mut self, attempt: AttemptRef, outcome: Outcome) -> Answer {
        let finished = vec![finished(attempt, outcome)];
        let request = exchange::Request { finished, ..self.request(0) };
        self.exchange(&request).await
    }
}

/// The boot of every host.
pub const BOOT: BootId = BootId(u64::MAX);

/// Returns a request of a host that has nothing to tell.
pub fn request(seq: u64, room: u32) -> exchange::Request {
    exchange::Request {
        boot: BOOT,
        seq,
        room,
        wait_ms: 0,
        leaving: false,
        running: Vec::new(),
        finished: Vec::new(),
        log: Vec::new(),
        saved: Vec::new(),
    }
}

pub fn finished(attempt: AttemptRef, outcome: Outcome) -> Finished {
    Finished::new(attempt, outcome, Usage::default())
}

pub fn done(result: &'static str) -> Outcome {
    Outcome::Completed { result: result.into() }
}
