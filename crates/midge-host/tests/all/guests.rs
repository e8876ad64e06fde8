//! Guests in WebAssembly text, compiled into a folder of modules.

use std::collections::BTreeMap;
use std::path::Path;

use midge_engine::{Cpu, TARGET, WASMTIME_VERSION};
use midge_protocol::job::{AttemptLimits, RetryPolicy};
use midge_protocol::manifest::{FILE_NAME, FORMAT, Folder, Manifest, ModuleEntry, SecretSource};
use midge_protocol::{QueueName, SecretName};
use tempfile::TempDir;

/// `cat` copies stdin to stdout, `env` prints its env, `fail` logs and exits with 7, `spin` says so and never ends.
///
/// `open` opens the file `a` of its folder, which is `data` beside the modules. `keep` makes a file `new` there, fills it
/// until that fails, and exits with 51; where it cannot make it, with 50.
///
/// `fan` enqueues `hello` 25 times, and writes the last id.
/// `hold` writes a line to its log and never ends. `spend` is `env` with the secrets `KEY` and `SAME`, which are both in `SPEND_KEY`.
const GUESTS: [(&str, &str); 10] = [
    (
        "hold",
        r#"(i64.store (i32.const 64) (i64.const 0x0a65726568)) (; "here\n" ;)
        (call $write (i32.const 2) (i32.const 64) (i32.const 5)) (loop $on (br $on))"#,
    ),
    ("spend", ENV),
    (
        "keep",
        r#"(i32.store (i32.const 64) (i32.const 0x0077656e))
        (if (call $path_open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 3)
              (i32.const 1) (i64.const 66) (i64.const 0) (i32.const 0) (i32.const 128))
          (then (call $proc_exit (i32.const 50))))
        (i32.store (i32.const 0) (i32.const 0)) (i32.store (i32.const 4) (i32.const 60000))
        (loop $on
          (br_if $on (i32.eqz (call $fd_write (i32.load (i32.const 128)) (i32.const 0) (i32.const 1) (i32.const 8)))))
        (call $proc_exit (i32.const 51))"#,
    ),
    (
        "open",
        r#"(i32.store8 (i32.const 64) (i32.const 97))
        (if (call $path_open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 1)
              (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 128))
          (then (unreachable)))"#,
    ),
    (
        "cat",
        r#"(local $n i32)
        (loop $on
          (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 60000))
          (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
          (local.set $n (i32.load (i32.const 8)))
          (if (local.get $n) (then (call $write (i32.const 1) (i32.const 64) (local.get $n)) (br $on))))"#,
    ),
    ("env", ENV),
    (
        "fail",
        r#"(i64.store (i32.const 64) (i64.const 0x0a68746469772020)) (; "  width\n" ;)
        (call $write (i32.const 2) (i32.const 66) (i32.const 6))
        (call $proc_exit (i32.const 7))"#,
    ),
    (
        "spin",
        r#"(call $progress (i64.const 1) (i64.const 2) (i32.const 0) (i32.const 0)) (loop $on (br $on))"#,
    ),
    (
        "save",
        r#"(call $write (i32.const 1) (i32.const 128) (call $saved (i32.const 128) (i32.const 64)))
        (i64.store (i32.const 64) (i64.const 0x64657661735f6f73)) (; "so_saved" ;)
        (if (call $save (i32.const 64) (i32.const 8)) (then unreachable))"#,
    ),
    (
        "fan",
        r#"(local $n i32)
        (i64.store (i32.const 64) (i64.const 0x656c75646f6d227b)) (; {"module ;)
        (i64.store (i32.const 72) (i64.const 0x6f6c6c6568223a22)) (; ":"hello ;)
        (i32.store16 (i32.const 80) (i32.const 0x7d22)) (; "} ;)
        (loop $on
          (if (call $enqueue (i32.const 64) (i32.const 18) (i32.const 80) (i32.const 2) (i32.const 256)) (then unreachable))
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br_if $on (i32.lt_u (local.get $n) (i32.const 25))))
        (call $write (i32.const 1) (i32.const 256) (i32.const 36))"#,
    ),
];

const ENV: &str = r#"(drop (call $environ_sizes_get (i32.const 0) (i32.const 4)))
        (drop (call $environ_get (i32.const 512) (i32.const 1024)))
        (call $write (i32.const 1) (i32.const 1024) (i32.load (i32.const 4)))"#;

const HEAD: &str = r#"
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "midge" "progress" (func $progress (param i64 i64 i32 i32)))
  (import "midge" "save" (func $save (param i32 i32) (result i32)))
  (import "midge" "saved" (func $saved (param i32 i32) (result i32)))
  (import "midge" "enqueue" (func $enqueue (param i32 i32 i32 i32 i32) (result i32)))
  (func $write (param $fd i32) (param $ptr i32) (param $len i32)
    (i32.store (i32.const 0) (local.get $ptr))
    (i32.store (i32.const 4) (local.get $len))
    (drop (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
"#;

/// Compiles all guests into a folder of their own.
pub fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let modules =
        GUESTS.iter().map(|(name, body)| (name.parse().unwrap(), compile(folder.path(), name, body)));
    let manifest = Manifest {
        format: FORMAT,
        wasmtime: WASMTIME_VERSION.to_owned(),
        config_hash: midge_engine::config_hash(),
        cpu: Cpu::V2.to_string(),
        modules: modules.collect(),
        server: Default::default(),
        prices: Default::default(),
        queues: BTreeMap::new(),
        schedules: BTreeMap::new(),
        env: BTreeMap::new(),
        secrets: ["KEY", "SAME"]
            .map(|name| (secret(name), SecretSource { env: "SPEND_KEY".to_owned() }))
            .into(),
    };
    std::fs::write(folder.path().join(FILE_NAME), serde_json::to_vec(&manifest).unwrap()).unwrap();
    folder
}

fn secret(name: &str) -> SecretName {
    name.parse().unwrap()
}

fn compile(folder: &Path, name: &str, body: &str) -> ModuleEntry {
    let text = format!(r#"(module {HEAD} (memory (export "memory") 1) (func (export "_start") {body}))"#);
    let mut config = midge_engine::config();
    config.target(TARGET).unwrap();
    let code =
        wasmtime::Engine::new(&config).unwrap().precompile_module(&wat::parse_str(text).unwrap()).unwrap();
    let data = folder.join("data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("a"), "inside").unwrap();
    let data = Folder { path: data.to_str().unwrap().to_owned(), read_only: name != "keep" };
    let dirs = BTreeMap::from_iter(["open", "keep"].contains(&name).then(|| ("/data".to_owned(), data)));
    let file = format!("{name}.cwasm");
    std::fs::write(folder.join(&file), &code).unwrap();
    ModuleEntry {
        file,
        size: code.len() as u64,
        sha256: String::new(),
        xxh3: format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&code)),
        source_sha256: String::new(),
        queue: QueueName::default_queue(),
        limits: AttemptLimits::default(),
        retry: RetryPolicy::default(),
        env: vec!["COLOUR".to_owned(), "MIDGE_SECRET".to_owned()],
        dirs,
        enqueues: ["hello".parse().unwrap()].into(),
        http: Vec::new(),
        secrets: BTreeMap::from_iter(
            ["KEY", "SAME"]
                .into_iter()
                .filter(|_| name == "spend")
                .map(|name| (secret(name), vec!["http://a.example".parse().unwrap()])),
        ),
    }
}
