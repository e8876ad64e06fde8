//! A whole server on a store of the test's, with a Machines API whose hosts the test plays.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode, header};
use bytes::Bytes;
use midge_machines::{Label, Launch, MachineError, MachineSpec, Machines, Seen, SeenState};
use midge_protocol::exchange::{self, Answer};
use midge_protocol::job::{AttemptLimits, RetryPolicy};
use midge_protocol::manifest::{self, Manifest, ModuleEntry, QueuePolicy};
use midge_protocol::{BootId, MachineId, ModuleName, QueueName};
use midge_server::{Access, Catalog, Fork, Midge, Settings};
use midge_store::Store;
use serde_json::Value;
use tokio::sync::mpsc;
use tower::ServiceExt;

/// A Machines API whose Machines are hosts that the test plays: it hands over what each was made with.
pub struct Stage {
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

/// A server with one module, `hello`.
pub struct Server {
    pub midge: Midge,
    pub made: mpsc::UnboundedReceiver<MachineSpec>,
}

/// An answer: its status and its body.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub body: Bytes,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json<T: serde::de::DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Returns the word of an error.
    pub fn code(&self) -> String {
        self.json::<Value>()["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Server {
    pub async fn start(store: Arc<dyn Store>) -> Server {
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
        let policy = QueuePolicy { jobs_per_machine: 1_024, max_machines: 1, ..QueuePolicy::default() };
        let manifest = Manifest {
            format: manifest::FORMAT,
            wasmtime: "48".into(),
            config_hash: String::new(),
            cpu: "x86-64-v2".into(),
            modules: [(ModuleName::new("hello").unwrap(), entry)].into(),
            server: manifest::ServerPolicy::default(),
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
            access: Access::Loopback,
            retention: midge_server::Retention::default(),
        };
        let stage = Stage { made: made_send, count: AtomicU64::new(0) };
        let midge = Midge::start(store, Arc::new(stage), settings).await.unwrap();
        Server { midge, made }
    }

    pub async fn call(&self, method: Method, path: &str, body: impl Into<Body>) -> Reply {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "127.0.0.1:7433")
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.into())
            .unwrap();
        let response = self.midge.router().oneshot(request).await.unwrap();
        let status = response.status();
        Reply { status, body: to_bytes(response.into_body(), usize::MAX).await.unwrap() }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.call(Method::GET, path, Body::empty()).await
    }

    pub async fn enqueue(&self, body: &str) -> Reply {
        self.call(Method::POST, "/v1/jobs", body.to_owned()).await
    }

    /// Enqueues a job that is in order, and returns its id.
    pub async fn enqueued(&self, body: &str) -> String {
        let reply = self.enqueue(body).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        reply.json::<Value>()["id"].as_str().unwrap().to_owned()
    }

    /// Waits for the dispatcher to make a Machine, and plays its host.
    pub async fn host(&mut self) -> Host {
        let spec = self.made.recv().await.unwrap();
        Host::of(&self.midge, &spec)
    }
}

/// A host that the test plays.
pub struct Host {
    midge: Midge,
    name: String,
    secret: String,
    seq: u64,
}

impl Host {
    pub fn of(midge: &Midge, spec: &MachineSpec) -> Host {
        Host {
            midge: midge.clone(),
            name: spec.env["MIDGE_MACHINE"].clone(),
            secret: spec.env["MIDGE_SECRET"].clone(),
            seq: 0,
        }
    }

    pub fn request(&mut self, room: u32) -> exchange::Request {
        self.seq += 1;
        exchange::Request {
            boot: BootId(u64::MAX),
            seq: self.seq,
            room,
            wait_ms: 0,
            leaving: false,
            running: Vec::new(),
            finished: Vec::new(),
            log: Vec::new(),
        }
    }

    pub async fn send(&self, body: impl Into<Body>) -> Reply {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("/v1/machines/{}/exchange", self.name))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.secret))
            .header(exchange::PROTOCOL_HEADER, exchange::PROTOCOL.to_string())
            .body(body.into())
            .unwrap();
        let response = self.midge.router().oneshot(request).await.unwrap();
        let status = response.status();
        Reply { status, body: to_bytes(response.into_body(), usize::MAX).await.unwrap() }
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
}
