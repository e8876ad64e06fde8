//! Compiles guests into a folder of modules, and runs attempts at them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use midge_engine::{Attempt, Control, Cpu, Loaded, Modules, Place, RunningAttempt, TARGET, WASMTIME_VERSION};
use midge_protocol::exchange::{AttemptRef, Finished, Outcome};
use midge_protocol::job::{AttemptLimits, Cause, Failure, RetryPolicy};
use midge_protocol::manifest::{FILE_NAME, FORMAT, Manifest, ModuleEntry};
use midge_protocol::{AttemptNumber, JobId, ModuleName, QueueName};
use tempfile::TempDir;
use xxhash_rust::xxh3::xxh3_64;

/// What every guest begins with: the WASI calls used here, a memory, and a few words in it.
pub const HEAD: &str = r#"
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))
  (import "midge" "progress" (func $progress (param i64 i64 i32 i32)))
  (import "midge" "retry_after" (func $retry_after (param i64)))
  (import "midge" "snooze" (func $snooze (param i64)))
  (import "midge" "error" (func $error (param i32 i32)))
  (import "midge" "save" (func $save (param i32 i32) (result i32)))
  (import "midge" "saved" (func $saved (param i32 i32) (result i32)))
  (import "midge" "enqueue" (func $enqueue (param i32 i32 i32 i32 i32) (result i32)))
  (import "midge" "enqueue_error" (func $enqueue_error (param i32 i32) (result i32)))
  (import "midge" "http_open" (func $http_open (param i32 i32 i32 i64) (result i32)))
  (import "midge" "http_write" (func $http_write (param i32 i32 i32) (result i32)))
  (import "midge" "http_send" (func $http_send (param i32) (result i32)))
  (import "midge" "http_head" (func $http_head (param i32 i32 i32) (result i32)))
  (import "midge" "http_read" (func $http_read (param i32 i32 i32) (result i32)))
  (import "midge" "http_close" (func $http_close (param i32)))
  (import "midge" "http_error" (func $http_error (param i32 i32) (result i32)))
  (func $write (param $fd i32) (param $ptr i32) (param $len i32)
    (i32.store (i32.const 0) (local.get $ptr))
    (i32.store (i32.const 4) (local.get $len))
    (drop (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
"#;

/// A guest with one page of memory and this body of `_start`.
pub fn guest(body: &str) -> String {
    format!(r#"(module {HEAD} (memory (export "memory") 1) (func (export "_start") {body}))"#)
}

/// Prints `count` bytes at `ptr` forever, on fd 1 or 2.
pub fn flood(fd: u32) -> String {
    guest(&format!("(loop $on (call $write (i32.const {fd}) (i32.const 64) (i32.const 60000)) (br $on))"))
}

pub const SPIN: &str = "(loop $on (br $on))";
/// One subscription to a relative clock, of about 292 years.
pub const SLEEP: &str = "
    (i32.store (i32.const 64) (i32.const 7))
    (i32.store (i32.const 80) (i32.const 1))
    (i64.store (i32.const 88) (i64.const 0x7fffffffffffffff))
    (drop (call $poll_oneoff (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 60)))";

/// A folder of modules.
pub struct Folder {
    pub dir: TempDir,
    pub manifest: Manifest,
}

impl Folder {
    pub fn with(guests: &[(&str, &str)]) -> Folder {
        let mut folder = Folder {
            dir: tempfile::tempdir().unwrap(),
            manifest: Manifest {
                format: FORMAT,
                wasmtime: WASMTIME_VERSION.to_owned(),
                config_hash: midge_engine::config_hash(),
                cpu: Cpu::V2.to_string(),
                modules: BTreeMap::new(),
                server: Default::default(),
                prices: Default::default(),
                queues: BTreeMap::new(),
                schedules: BTreeMap::new(),
                env: BTreeMap::new(),
                secrets: BTreeMap::new(),
            },
        };
        for (name, text) in guests {
            folder.add(name, &compile(text, midge_engine::config()));
        }
        folder.save();
        folder
    }

    pub fn add(&mut self, name: &str, code: &[u8]) {
        let file = format!("{name}.cwasm");
        std::fs::write(self.dir.path().join(&file), code).unwrap();
        let entry = ModuleEntry {
            file,
            size: code.len() as u64,
            sha256: String::new(),
            xxh3: format!("{:016x}", xxh3_64(code)),
            source_sha256: String::new(),
            queue: QueueName::default_queue(),
            limits: AttemptLimits::default(),
            retry: RetryPolicy::default(),
            env: Vec::new(),
            dirs: BTreeMap::new(),
            enqueues: Default::default(),
            http: Vec::new(),
            secrets: BTreeMap::new(),
        };
        self.manifest.modules.insert(name.parse().unwrap(), entry);
    }

    pub fn save(&self) {
        std::fs::write(self.path().join(FILE_NAME), serde_json::to_vec(&self.manifest).unwrap()).unwrap();
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn open(&self) -> Modules {
        Modules::open(self.path()).unwrap()
    }
}

/// Compiles as `midge-build` does.
pub fn compile(text: &str, mut config: wasmtime::Config) -> Vec<u8> {
    config.target(TARGET).unwrap();
    #[allow(unsafe_code)]
    for flag in Cpu::V2.flags() {
        // SAFETY: a flag that x86-64 has; the CPU of the test is checked at load.
        unsafe { config.cranelift_flag_enable(flag) };
    }
    let wasm = wat::parse_str(text).unwrap();
    wasmtime::Engine::new(&config).unwrap().precompile_module(&wasm).unwrap()
}

/// One guest, loaded.
pub fn load(text: &str) -> (Folder, Modules, Arc<Loaded>) {
    let folder = Folder::with(&[("guest", text)]);
    let modules = folder.open();
    let module = modules.load(&name("guest")).unwrap();
    (folder, modules, module)
}

pub fn name(name: &str) -> ModuleName {
    ModuleName::new(name).unwrap()
}

pub fn attempt(module: Arc<Loaded>) -> Attempt {
    Attempt {
        id: AttemptRef::new(JobId::generate(), AttemptNumber(3)),
        queue: QueueName::default_queue(),
        module,
        args: r#"{"width":320}"#.to_owned(),
        input: None,
        guest_args: Vec::new(),
        saved: None,
        env: Vec::new(),
        dirs: Vec::new(),
        lines: None,
        world: Default::default(),
        limits: AttemptLimits { time_ms: 300_000, memory_bytes: 1 << 20 },
        changed: Arc::default(),
    }
}

/// Runs an attempt at a place of its own, to the end.
pub fn run(attempt: Attempt) -> (Finished, Control) {
    let place = Place::start(0).unwrap();
    let running = place.run(attempt);
    let control = running.control();
    (wait(running), control)
}

/// Runs a guest with this body to the end.
pub fn run_guest(text: &str) -> (Finished, Control) {
    let (_folder, _modules, module) = load(text);
    run(attempt(module))
}

pub fn failure(text: &str) -> Failure {
    match run_guest(text).0.outcome {
        Outcome::Failed(failure) => failure,
        other => panic!("it should have failed: {other:?}"),
    }
}

pub fn result(ended: &Finished) -> &[u8] {
    match &ended.outcome {
        Outcome::Completed { result } => result,
        other => panic!("it should have completed: {other:?}"),
    }
}

pub fn cause(ended: &Finished) -> Cause {
    match &ended.outcome {
        Outcome::Failed(failure) => failure.cause.clone(),
        other => panic!("it should have failed: {other:?}"),
    }
}

/// Waits for an end on this thread, as a control thread does.
pub fn wait(running: RunningAttempt) -> Finished {
    block_on(running.ended())
}

/// No test waits longer than this.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime
        .block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("the test waited too long") })
}
