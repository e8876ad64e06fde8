//! A whole server on the in-memory store, with hosts played by the test; asked in this process, or over sockets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use midge_machines::{Label, Launch, MachineError, MachineSpec, Machines, Seen, SeenState};
use midge_protocol::job::{AttemptLimits, RetryPolicy};
use midge_protocol::manifest::{self, Manifest, ModuleEntry, QueuePolicy};
use midge_protocol::{MachineId, ModuleName, QueueName, exchange};
use midge_server::{
    Access, Catalog, ConnectionLimits, Connections, Counts, Fork, Midge, Retention, Settings,
};
use midge_store::MemoryStore;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tower::ServiceExt;

/// The longest that anything in a test may take.
pub const DEADLINE: Duration = Duration::from_secs(10);
const DOCUMENT: &str = include_str!("../../../../docs/api.md");
pub const TOKEN: &str = "s3cret";

/// A Machines API that hands over what each Machine was made with.
struct Made(mpsc::UnboundedSender<MachineSpec>);

#[async_trait]
impl Machines for Made {
    async fn create(&self, spec: &MachineSpec, _: Launch) -> Result<MachineId, MachineError> {
        self.0.send(spec.clone()).expect("the test waits for Machines");
        Ok(MachineId::new(spec.name.as_str().replace('-', "")).expect("letters and digits"))
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

pub struct Stage {
    pub midge: Midge,
    made: mpsc::UnboundedReceiver<MachineSpec>,
}

/// An answer, read to its end.
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// Returns the word of an error of the documented form.
    #[track_caller]
    pub fn code(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.header("content-type"), "application/json", "{} {text}", self.status);
        let error = self.json();
        let fields: Vec<_> = error.as_object().unwrap_or_else(|| panic!("{text}")).keys().collect();
        assert_eq!(fields, ["code", "error"], "{text}");
        assert!(error["error"].as_str().is_some_and(|error| !error.is_empty()), "{text}");
        let code = error["code"].as_str().unwrap();
        assert!(DOCUMENT.contains(&format!("`{code}`")), "docs/api.md does not tell of `{code}`");
        code.to_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Stage {
    pub async fn set(access: Access) -> Stage {
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
        };
        let manifest = Manifest {
            format: manifest::FORMAT,
            wasmtime: "48".into(),
            config_hash: String::new(),
            cpu: "x86-64-v2".into(),
            modules: [(ModuleName::new("hello").unwrap(), entry)].into(),
            server: manifest::ServerPolicy::default(),
            queues: [(QueueName::default_queue(), QueuePolicy::default())].into(),
            env: BTreeMap::new(),
        };
        let (made_send, made) = mpsc::unbounded_channel();
        let host = vec!["host".into()];
        let settings = Settings {
            catalog: Catalog { manifest, generation: "g1".into(), modules_dir: PathBuf::from("modules") },
            fork: Fork { image: "image".into(), region: None, host, server_url: "http://x".into() },
            access,
            retention: Retention::default(),
        };
        let store = Arc::new(MemoryStore::new());
        let midge = Midge::start(store, Arc::new(Made(made_send)), settings).await.unwrap();
        Stage { midge, made }
    }

    /// Sends a request with these headers.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Reply {
        let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.midge.router().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap().to_vec();
        Reply { status: parts.status, headers: parts.headers, body }
    }

    /// Enqueues a job by HTTP, and returns its id.
    pub async fn enqueue(&self) -> String {
        let hello = json!({"module": "hello", "in_ms": 3_600_000});
        self.enqueue_this(&hello).await
    }

    pub async fn enqueue_this(&self, job: &Value) -> String {
        let headers = [("host", "localhost"), ("content-type", "application/json"), bearer()];
        let reply = self.send("POST", "/v1/jobs", &headers, job.to_string().into_bytes()).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.json());
        reply.json()["id"].as_str().unwrap().to_owned()
    }

    pub async fn state(&self, id: &str) -> String {
        self.midge.job(id.parse().unwrap()).await.unwrap().state.to_string()
    }

    /// Enqueues a job, waits for the dispatcher to make a Machine for it, and returns the Machine's name and secret.
    pub async fn machine(&mut self) -> (String, String) {
        self.enqueue_this(&json!({"module": "hello"})).await;
        let spec = self.made.recv().await.unwrap();
        (spec.env["MIDGE_MACHINE"].clone(), spec.env["MIDGE_SECRET"].clone())
    }

    /// Listens on a port, under limits on connections.
    pub async fn listen(&self, limits: ConnectionLimits) -> Listening {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Connections::new(limits);
        let never = std::future::pending();
        tokio::spawn(midge_server::serve(listener, self.midge.router(), connections.clone(), never));
        Listening { address, connections }
    }
}

pub fn bearer() -> (&'static str, &'static str) {
    ("authorization", "Bearer s3cret")
}

/// Returns a host's first request, with room for jobs.
pub fn claim(room: u32, wait_ms: u32) -> exchange::Request {
    exchange::Request {
        boot: midge_protocol::BootId(1),
        seq: 1,
        room,
        wait_ms,
        leaving: false,
        running: Vec::new(),
        finished: Vec::new(),
        log: Vec::new(),
    }
}

pub struct Listening {
    address: SocketAddr,
    pub connections: Connections,
}

impl Listening {
    /// Connects, and says something.
    pub async fn say(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    /// Waits until the counts of connections are such.
    pub async fn until(&self, is: impl Fn(Counts) -> bool) {
        let began = Instant::now();
        while !is(self.connections.counts()) {
            assert!(began.elapsed() < DEADLINE, "{:?}", self.connections.counts());
            tokio::task::yield_now().await;
        }
    }

    /// Sends a request, whose connection is closed afterwards, and returns the answer.
    pub async fn ask(&self, request: &str, body: &[u8]) -> String {
        let head = format!("{request}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        let stream = self.say(&[head.as_bytes(), body].concat()).await;
        rest(stream).await
    }
}

/// Returns all that comes until the server closes.
pub async fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.expect("it is closed");
    read.unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}
