//! What a guest sees, and what is seen of it while it runs.

use bytes::Bytes;
use midge_engine::{Attempt, Dir, Place, Stop};
use midge_protocol::exchange::Outcome;
use midge_protocol::limits::LOG_BYTES_MAX;

use crate::support::*;

/// Copies stdin to stdout.
const CAT: &str = "
    (local $n i32)
    (loop $on
      (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 60000))
      (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (local.set $n (i32.load (i32.const 8)))
      (if (local.get $n) (then
        (call $write (i32.const 1) (i32.const 64) (local.get $n))
        (br $on))))";

#[test]
fn stdin_is_the_args_where_there_is_no_input() {
    let (_folder, _modules, module) = load(&guest(CAT));
    let (ended, _) = run(attempt(module.clone()));
    assert_eq!(result(&ended), br#"{"width":320}"#);
    let mut with_input = attempt(module);
    let input = Bytes::from(vec![7; 1_000_000]);
    with_input.input = Some(input.clone());
    let (ended, _) = run(with_input);
    assert_eq!(result(&ended), &input[..]);
}

#[test]
fn argv_is_the_module_its_args_and_what_else_was_given() {
    let (_folder, _modules, module) = load(&guest(
        "(drop (call $args_get (i32.const 512) (i32.const 1024)))
         (call $write (i32.const 1) (i32.const 1024) (i32.const 26))",
    ));
    let mut attempt = attempt(module);
    attempt.guest_args = vec!["--loud".to_owned()];
    let (ended, _) = run(attempt);
    assert_eq!(result(&ended), b"guest\0{\"width\":320}\0--loud");
}

#[test]
fn env_is_midges_own_and_the_declared_but_never_a_secret() {
    let (_folder, _modules, module) = load(&guest(
        "(drop (call $environ_get (i32.const 512) (i32.const 1024)))
         (call $write (i32.const 1) (i32.const 1024) (i32.const 2000))",
    ));
    let mut attempt = attempt(module);
    attempt.env =
        vec![("MIDGE_SECRET".to_owned(), "hunter2".to_owned()), ("COLOUR".to_owned(), "red".to_owned())];
    let job = attempt.id.job;
    let (ended, _) = run(attempt);
    let text = String::from_utf8_lossy(result(&ended)).into_owned();
    let env: Vec<&str> = text.split('\0').filter(|var| !var.is_empty()).collect();
    assert_eq!(
        env[..3],
        [format!("MIDGE_JOB_ID={job}"), "MIDGE_ATTEMPT=3".into(), "MIDGE_QUEUE=default".into()]
    );
    assert!(
        env[3]
            .strip_prefix("MIDGE_DEADLINE_MS=")
            .is_some_and(|ms| ms.parse::<u64>().unwrap() > 1_700_000_000_000)
    );
    assert_eq!(env[4..], ["COLOUR=red"]);
}

#[test]
fn a_declared_folder_is_there_and_what_is_above_it_is_not() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    std::fs::write(folder.path().join("data/a"), "inside").unwrap();
    std::fs::write(folder.path().join("b"), "outside").unwrap();
    let text = r#"(module
        (import "wasi_snapshot_preview1" "path_open"
          (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "a../b")
        (data (i32.const 16) "\40\00\00\00\06\00\00\00")
        (func $try (param $path i32) (param $length i32) (result i32)
          (call $open (i32.const 3) (i32.const 0) (local.get $path) (local.get $length)
            (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 32)))
        (func (export "_start")
          (if (call $try (i32.const 0) (i32.const 1)) (then (unreachable)))
          (drop (call $read (i32.load (i32.const 32)) (i32.const 16) (i32.const 1) (i32.const 8)))
          (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 8)))
          (if (i32.eqz (call $try (i32.const 1) (i32.const 4))) (then (unreachable)))))"#;
    let (_folder, _modules, module) = load(text);
    let mut attempt = attempt(module);
    attempt.dirs = vec![Dir { host: folder.path().join("data"), guest: "/data".into(), read_only: false }];
    let (ended, _) = run(attempt);
    assert_eq!(result(&ended), b"inside");
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let (_folder, _modules, module) = load(&guest(""));
    let mut attempt = attempt(module);
    attempt.dirs = vec![Dir { host: "/no/such/folder".into(), guest: "/data".into(), read_only: false }];
    let (ended, _) = run(attempt);
    assert!(format!("{:?}", ended.outcome).contains("/no/such/folder"), "{:?}", ended.outcome);
}

#[test]
fn log_and_progress_are_seen_while_the_guest_runs() {
    let (_folder, _modules, module) = load(&with_hello(&format!(
        "(call $write (i32.const 2) (i32.const 64) (i32.const 5))
         (call $progress (i64.const 3) (i64.const 10) (i32.const 64) (i32.const 5)) {SLEEP}"
    )));
    let place = Place::start(0).unwrap();
    let attempt = attempt(module);
    let changed = attempt.changed.clone();
    let running = place.run(attempt);
    let control = running.control();
    let progress = block_on(async {
        loop {
            changed.notified().await;
            if let Some(progress) = control.take_progress() {
                return progress;
            }
        }
    });
    assert_eq!((progress.done, progress.total, progress.message.as_str()), (3, 10, "hello"));
    assert_eq!(&control.log_from(0, 100)[..], b"hello");
    assert_eq!(&control.log_from(2, 2)[..], b"ll");
    assert!(control.take_progress().is_none());
    control.stop(Stop::Cancelled);
    wait(running);
}

/// A guest that begins with `hello` at 64.
fn with_hello(body: &str) -> String {
    guest(body).replace(
        "(memory (export \"memory\") 1)",
        "(memory (export \"memory\") 2) (data (i32.const 64) \"hello\")",
    )
}

#[test]
fn a_guest_that_saves_waits_until_that_is_safe_and_finds_it_then() {
    let body = "(if (i32.ne (call $saved (i32.const 0) (i32.const 0)) (i32.const -1)) (then unreachable))
        (if (call $save (i32.const 64) (i32.const 5)) (then unreachable))
        (if (i32.ne (call $saved (i32.const 200) (i32.const 3)) (i32.const 5)) (then unreachable))
        (call $write (i32.const 1) (i32.const 200) (i32.const 5))";
    let (_folder, _modules, module) = load(&with_hello(body));
    let place = Place::start(0).unwrap();
    let attempt = attempt(module);
    let changed = attempt.changed.clone();
    let running = place.run(attempt);
    let control = running.control();
    let state = block_on(async {
        loop {
            changed.notified().await;
            if let Some(state) = control.take_saving() {
                return state;
            }
        }
    });
    assert_eq!((&state[..], control.take_saving()), (&b"hello"[..], None));
    assert!(!place.is_free(), "it waits");
    control.saved();
    assert_eq!(result(&wait(running)), b"hel\0\0", "as much as there is room for is copied");
}

#[test]
fn a_guest_that_waits_for_what_it_saves_can_be_stopped() {
    let (_folder, _modules, module) = load(&with_hello("(drop (call $save (i32.const 64) (i32.const 5)))"));
    let place = Place::start(0).unwrap();
    let attempt = attempt(module);
    let changed = attempt.changed.clone();
    let running = place.run(attempt);
    block_on(changed.notified());
    running.control().stop(Stop::Cancelled);
    assert_eq!(wait(running).outcome, Outcome::Cancelled);
}

#[test]
fn a_state_that_is_too_large_is_not_saved_and_one_beyond_the_memory_is_a_trap() {
    let body = "(if (i32.ne (call $save (i32.const 0) (i32.const 65537)) (i32.const 1)) (then unreachable))
        (if (i32.ne (call $saved (i32.const 0) (i32.const 0)) (i32.const -1)) (then unreachable))";
    assert_eq!(result(&run_guest(&with_hello(body)).0), b"");
    for body in [
        "(drop (call $save (i32.const 131071) (i32.const 2)))",
        "(drop (call $save (i32.const -1) (i32.const -1)))",
    ] {
        let (ended, _) = run_guest(&with_hello(body));
        let Outcome::Failed(failure) = &ended.outcome else { panic!("{ended:?}") };
        assert!(failure.message.contains("a state reaches beyond the guest's memory"), "{failure:?}");
    }
}

#[test]
fn an_attempt_finds_what_one_before_it_saved() {
    let body = "(call $write (i32.const 1) (i32.const 200) (call $saved (i32.const 200) (i32.const 100)))";
    let (_folder, _modules, module) = load(&with_hello(body));
    let place = Place::start(0).unwrap();
    let attempt = Attempt { saved: Some("before".into()), ..attempt(module) };
    assert_eq!(result(&wait(place.run(attempt))), b"before");
    let beyond = "(drop (call $saved (i32.const 131071) (i32.const 9)))";
    let (_folder, _modules, module) = load(&with_hello(beyond));
    let attempt = Attempt { saved: Some("before".into()), ..self::attempt(module) };
    assert!(matches!(wait(place.run(attempt)).outcome, Outcome::Failed(_)));
}

#[test]
fn a_flooded_log_is_cut_and_marked_and_no_failure() {
    let body = "(local $n i32)
        (loop $on (call $write (i32.const 2) (i32.const 64) (i32.const 60000))
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br_if $on (i32.lt_u (local.get $n) (i32.const 100))))";
    let (ended, control) = run_guest(&guest(body));
    assert_eq!(result(&ended), b"");
    assert_eq!(control.log_len() as usize, LOG_BYTES_MAX);
    assert!(control.log_from(0, usize::MAX).ends_with(b"kept]\n"));
}

#[test]
fn the_import_list_is_what_guests_get() {
    let imports = midge_engine::imports();
    let find = |module: &str, name: &str| imports.iter().find(|i| i.module == module && i.name == name);
    for name in
        ["progress", "retry_after", "snooze", "error", "save", "saved", "enqueue", "http_open", "http_read"]
    {
        assert!(find("midge", name).is_some(), "{name}");
    }
    let write = find("wasi_snapshot_preview1", "fd_write").unwrap();
    assert_eq!(write.ty, "(func (param i32 i32 i32 i32) (result i32))");
    assert_eq!(imports.iter().filter(|i| i.name == "random_get").count(), 1);
}
