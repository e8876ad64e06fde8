//! A server for one Machine: it leases what is enqueued, parks exchanges, and takes what is reported.

use std::collections::HashMap;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use midge_protocol::exchange::{self, Answer, AttemptRef, Finished, Grant, Outcome, Request};
use midge_protocol::job::AttemptLimits;
use midge_protocol::{AttemptNumber, JobId, ModuleName, QueueName};
use tempfile::TempDir;
use tokio::sync::watch;

/// No test waits longer than this.
const PATIENCE: Duration = Duration::from_secs(60);

/// The secret that the guest `spend` has.
pub const SPEND_KEY: &str = "sk-test-hunter2";

#[derive(Default)]
pub struct Seen {
    waiting: Vec<Grant>,
    pub leased: HashMap<AttemptRef, Grant>,
    pub cancelled: Vec<AttemptRef>,
    pub drains: bool,
    /// Answers every request with this instead.
    pub refuses: Option<u16>,
    /// Takes what is reported, but drops so many answers.
    pub loses: usize,
    /// Drops so many answers to guests that save.
    pub loses_saves: usize,
    newest: u64,
    pub requests: Vec<Request>,
    pub finished: Vec<Finished>,
    pub handed_back: Vec<AttemptRef>,
    /// What hosts said that they lack.
    pub lacks: Vec<String>,
    pub log: HashMap<AttemptRef, Vec<u8>>,
    pub left: bool,
}

pub struct Server {
    shared: Arc<Shared>,
    address: String,
    pub folder: TempDir,
    runtime: tokio::runtime::Runtime,
}

struct Shared {
    seen: Mutex<Seen>,
    version: watch::Sender<u64>,
}

impl Server {
    pub fn start() -> Server {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared { seen: Mutex::default(), version: watch::Sender::new(0) });
        let router = Router::new()
            .route("/app/v1/machines/m-1/exchange", post(exchange))
            .layer(axum::extract::DefaultBodyLimit::max(midge_protocol::limits::EXCHANGE_BODY_BYTES_MAX))
            .with_state(Arc::clone(&shared));
        let server = Server { shared, address, folder: crate::guests::folder(), runtime };
        let handle = server.runtime.handle().clone();
        handle.spawn(async move { axum::serve(listener, router).await });
        server
    }

    /// Changes what the server does.
    pub fn set(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.shared.seen.lock().unwrap());
        self.shared.tell();
    }

    pub fn enqueue(&self, module: &str, args: &str) -> AttemptRef {
        self.enqueue_with(module, args, AttemptLimits::default())
    }

    pub fn enqueue_with(&self, module: &str, args: &str, limits: AttemptLimits) -> AttemptRef {
        let attempt = AttemptRef::new(JobId::generate(), AttemptNumber(1));
        let grant = Grant {
            attempt,
            module: ModuleName::new(module).unwrap(),
            queue: QueueName::default_queue(),
            args: args.to_owned(),
            input: None,
            saved: None,
            limits,
            record: false,
        };
        self.set(|seen| seen.waiting.push(grant));
        attempt
    }

    /// Starts a host that works for this server.
    pub fn host(&self, flags: &[&str]) -> Host {
        self.spawn(Command::new(env!("CARGO_BIN_EXE_midge-host")), flags)
    }

    /// Starts one with mounts of its own, which a shell makes: `$DATA` is the folder of the guests that have one.
    pub fn host_with_mounts(&self, script: &str, flags: &[&str]) -> Host {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--mount", "sh", "-ec"]);
        unshare.arg(format!("{script}; exec \"$0\" \"$@\"")).arg(env!("CARGO_BIN_EXE_midge-host"));
        unshare.env("DATA", self.folder.path().join("data"));
        self.spawn(unshare, flags)
    }

    /// Starts one that a shell makes ready.
    pub fn host_after(&self, script: &str, flags: &[&str]) -> Host {
        let mut shell = Command::new("sh");
        shell.args(["-ec", &format!("{script}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_midge-host")]);
        self.spawn(shell, flags)
    }

    fn spawn(&self, mut command: Command, flags: &[&str]) -> Host {
        let child = command
            .arg("work")
            .args(flags)
            .env("MIDGE_SERVER", format!("http://{}/app", self.address))
            .env("MIDGE_MACHINE", "m-1")
            .env("MIDGE_SECRET", "hunter2")
            .env("MIDGE_MODULES", self.folder.path())
            .env("MIDGE_LEASH_FD", "0")
            .env("COLOUR", "red")
            .env("SPEND_KEY", SPEND_KEY)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Host { child: Some(child) }
    }

    /// Runs the server until this is so.
    pub fn until<T>(&self, what: &str, mut is_so: impl FnMut(&Seen) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut version = self.shared.version.subscribe();
        self.runtime.block_on(async {
            loop {
                version.mark_unchanged();
                if let Some(answer) = is_so(&self.shared.seen.lock().unwrap()) {
                    return answer;
                }
                let more = tokio::time::timeout_at(deadline.into(), version.changed()).await;
                more.unwrap_or_else(|_| panic!("waited too long until {what}")).unwrap();
            }
        })
    }

    /// Runs the server until the host has exited.
    pub fn until_exit(&self, host: &mut Host) -> (Option<i32>, String) {
        let mut child = host.child.take().unwrap();
        // Kept open, as whoever holds the leash does.
        let stdin = child.stdin.take();
        let waiting = self.runtime.handle().spawn_blocking(move || child.wait_with_output().unwrap());
        let output = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, waiting).await });
        drop(stdin);
        let output = output.expect("the host did not exit").unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// A host as a process. It is killed if a test fails before it exits.
pub struct Host {
    pub child: Option<Child>,
}

impl Host {
    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(self.child.as_ref().unwrap())
    }

    /// Lets go of the leash.
    pub fn let_go(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        drop(child.stdin.take());
        child.wait().unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Shared {
    fn tell(&self) {
        self.version.send_modify(|version| *version += 1);
    }
}

async fn exchange(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<([(&'static str, String); 1], Vec<u8>), StatusCode> {
    assert_eq!(headers["authorization"], "Bearer hunter2");
    assert_eq!(headers["content-type"], exchange::CONTENT_TYPE);
    assert_eq!(headers[exchange::PROTOCOL_HEADER], exchange::PROTOCOL.to_string());
    let request: Request = exchange::decode(&body).unwrap();
    let until = tokio::time::Instant::now() + Duration::from_millis(request.wait_ms.into());
    shared.seen.lock().unwrap().report(&request);
    let mut version = shared.version.subscribe();
    shared.tell();
    let answer = loop {
        version.mark_unchanged();
        let over = tokio::time::Instant::now() >= until;
        if let Some(answer) = shared.seen.lock().unwrap().answer(&request, over)? {
            break answer;
        }
        let _ = tokio::time::timeout_at(until, version.changed()).await;
    };
    shared.tell();
    let header = (exchange::PROTOCOL_HEADER, exchange::PROTOCOL.to_string());
    Ok(([header], exchange::encode(&answer).to_vec()))
}

impl Seen {
    fn report(&mut self, request: &Request) {
        self.newest = self.newest.max(request.seq);
        self.requests.push(request.clone());
        for chunk in &request.log {
            let log = self.log.entry(chunk.attempt).or_default();
            log.truncate(chunk.offset as usize);
            assert_eq!(log.len() as u64, chunk.offset, "a piece of the log is missing");
            log.extend_from_slice(&chunk.bytes);
        }
        for finished in &request.finished {
            if self.leased.remove(&finished.attempt).is_none() {
                continue;
            }
            match &finished.outcome {
                Outcome::HandedBack { lacks } => {
                    self.handed_back.push(finished.attempt);
                    self.lacks.extend(lacks.clone());
                }
                Outcome::ModuleLacks { what } => {
                    self.handed_back.push(finished.attempt);
                    self.lacks.push(what.clone());
                }
                _ => self.finished.push(finished.clone()),
            }
        }
    }

    fn answer(&mut self, request: &Request, over: bool) -> Result<Option<Answer>, StatusCode> {
        if let Some(status) = self.refuses {
            return Err(StatusCode::from_u16(status).unwrap());
        }
        let mut answer = Answer { drain: self.drains, ..Answer::default() };
        if request.seq < self.newest {
            return Ok(Some(answer));
        }
        let runs = |attempt: &AttemptRef| request.running.iter().any(|running| running.attempt == *attempt);
        let again = self.leased.values().filter(|grant| !runs(&grant.attempt)).cloned();
        answer.jobs.extend(again.collect::<Vec<_>>());
        while answer.jobs.len() < request.room as usize && !self.waiting.is_empty() {
            let grant = self.waiting.remove(0);
            self.leased.insert(grant.attempt, grant.clone());
            answer.jobs.push(grant);
        }
        answer.cancel = self.cancelled.iter().filter(|attempt| runs(attempt)).copied().collect();
        if request.leaving && self.leased.is_empty() {
            answer.left = true;
            self.left = true;
        }
        if !request.saved.is_empty() && self.loses_saves > 0 {
            self.loses_saves -= 1;
            return Err(StatusCode::BAD_GATEWAY);
        }
        let says = !answer.jobs.is_empty() || !answer.cancel.is_empty() || answer.left;
        if says && self.loses > 0 {
            self.loses -= 1;
            return Err(StatusCode::BAD_GATEWAY);
        }
        Ok((says || over || (self.drains && request.room > 0)).then_some(answer))
    }

    /// Gives a job that waits an input.
    pub fn give_input(&mut self, attempt: AttemptRef, input: Vec<u8>) {
        self.waiting_for(attempt).input = Some(input.into());
    }

    /// What a job that waits is to be given.
    pub fn waiting_for(&mut self, attempt: AttemptRef) -> &mut Grant {
        self.waiting.iter_mut().find(|grant| grant.attempt == attempt).unwrap()
    }

    /// The end of an attempt, once it is reported.
    pub fn end(&self, attempt: AttemptRef) -> Option<Outcome> {
        self.finished
            .iter()
            .find(|finished| finished.attempt == attempt)
            .map(|finished| finished.outcome.clone())
    }

    pub fn runs(&self, attempt: AttemptRef) -> Option<()> {
        let newest = self.requests.last()?;
        newest.running.iter().any(|running| running.attempt == attempt).then_some(())
    }
}
