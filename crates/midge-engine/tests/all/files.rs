//! What a guest with folders can take from its host and from its neighbours, and what it cannot.

use midge_engine::Dir;
use midge_protocol::exchange::{Finished, Outcome};
use midge_protocol::job::Cause;
use midge_protocol::limits::OPEN_FILES_MAX;

use crate::support::*;

/// A guest with a folder as 3, in which is a file `a`, and `$try`, which opens a path of it.
fn with_folder(body: &str) -> Finished {
    let text = format!(
        r#"(module
          (import "wasi_snapshot_preview1" "path_open"
            (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "path_create_directory" (func $create (param i32 i32 i32) (result i32)))
          {HEAD}
          (memory (export "memory") 16) (data (i32.const 200) "a")
          (func $try (param $path i32) (param $length i32) (result i32)
            (call $open (i32.const 3) (i32.const 0) (local.get $path) (local.get $length)
              (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 100)))
          (func (export "_start") (local $n i32) {body}))"#
    );
    let (folder, _modules, module) = load(&text);
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("a"), "inside").unwrap();
    let mut attempt = attempt(module);
    attempt.dirs = vec![Dir { host: data, guest: "/data".into(), read_only: false }];
    run(attempt).0
}

/// Opens files until that fails, and then does this.
fn opens_all(then: &str) -> String {
    format!("(loop $on (br_if $on (i32.eqz (call $try (i32.const 200) (i32.const 1))))) {then}")
}

#[test]
fn too_many_open_files_are_over_files_whatever_the_guest_does_about_it() {
    for act in ["(unreachable)", "(call $proc_exit (i32.const 1))"] {
        let ended = with_folder(&opens_all(act));
        let Outcome::Failed(failure) = ended.outcome else { panic!("it should have failed: {ended:?}") };
        assert_eq!(failure.cause, Cause::OverFiles);
        assert!(
            failure.message.contains(&format!("more than {OPEN_FILES_MAX} files")),
            "{}",
            failure.message
        );
    }
    // A guest that can live with it may.
    assert_eq!(result(&with_folder(&opens_all(""))), b"");
}

#[test]
fn a_path_that_no_system_takes_is_not_copied_first() {
    const NAMETOOLONG: i32 = 37;
    for call in [
        "(call $try (i32.const 200) (i32.const 4097))",
        "(call $unlink (i32.const 3) (i32.const 200) (i32.const 900000))",
        "(call $create (i32.const 3) (i32.const 200) (i32.const 0x7fffffff))",
        "(call $create (i32.const 3) (i32.const 200) (i32.const -1))",
    ] {
        let ended =
            with_folder(&format!("(if (i32.ne {call} (i32.const {NAMETOOLONG})) (then (unreachable)))"));
        assert_eq!(result(&ended), b"", "{call}");
    }
}

#[test]
fn a_guest_waits_for_no_more_than_is_worth_keeping() {
    const INVAL: i32 = 28;
    for count in ["1025", "1000000", "-1"] {
        let call =
            format!("(call $poll_oneoff (i32.const 0) (i32.const 0) (i32.const {count}) (i32.const 100))");
        let ended = with_folder(&format!("(if (i32.ne {call} (i32.const {INVAL})) (then (unreachable)))"));
        assert_eq!(result(&ended), b"", "{count}");
    }
}

#[test]
fn a_sleep_ends_when_it_should_and_says_which_it_was() {
    // A subscription to a relative clock of 1 ms, with 7 as its name.
    let body = "
        (i64.store (i32.const 300) (i64.const 7))
        (i32.store (i32.const 316) (i32.const 1))
        (i64.store (i32.const 324) (i64.const 1000000))
        (if (call $poll_oneoff (i32.const 300) (i32.const 400) (i32.const 1) (i32.const 500)) (then (unreachable)))
        (if (i32.ne (i32.load (i32.const 500)) (i32.const 1)) (then (unreachable)))
        (if (i64.ne (i64.load (i32.const 400)) (i64.const 7)) (then (unreachable)))
        (if (i32.load (i32.const 408)) (then (unreachable)))";
    assert_eq!(result(&with_folder(body)), b"");
    // There is no such memory.
    for (subscription, event, count) in [(-8, 400, 500), (300, -8, 500), (300, 400, -2)] {
        let body = format!(
            "(i32.store (i32.const 316) (i32.const 1))
             (if (i32.ne (i32.const 21) (call $poll_oneoff (i32.const {subscription}) (i32.const {event})
               (i32.const 1) (i32.const {count}))) (then (unreachable)))"
        );
        assert_eq!(result(&with_folder(&body)), b"");
    }
}

/// A guest whose folder is `/proc/self`: what it reads of `mem` at 0, where nothing is, is `EIO` to every program. Then it
/// does this.
fn meets_a_broken_disk(then: &str) -> Finished {
    let text = format!(
        r#"(module
          (import "wasi_snapshot_preview1" "path_open"
            (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
          {HEAD}
          (memory (export "memory") 16) (data (i32.const 200) "mem")
          (func (export "_start") (local $n i32)
            (if (call $open (i32.const 3) (i32.const 0) (i32.const 200) (i32.const 3)
                  (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 100))
              (then (unreachable)))
            (i32.store (i32.const 0) (i32.const 300)) (i32.store (i32.const 4) (i32.const 8))
            ;; 29 is EIO.
            (if (i32.ne (call $fd_read (i32.load (i32.const 100)) (i32.const 0) (i32.const 1) (i32.const 8))
                  (i32.const 29))
              (then (loop $on (br $on))))
            {then}))"#
    );
    let (_folder, _modules, module) = load(&text);
    let mut attempt = attempt(module);
    attempt.limits.time_ms = 30_000;
    attempt.dirs = vec![Dir { host: "/proc/self".into(), guest: "/data".into(), read_only: true }];
    run(attempt).0
}

#[test]
fn an_attempt_that_does_not_complete_after_its_disk_failed_is_given_back_however_it_ends() {
    for then in [
        "(call $proc_exit (i32.const 1))",
        "(call $proc_exit (i32.const 65)) (; it refuses the job ;)",
        "(unreachable)",
        "(drop (memory.grow (i32.const 10000))) (unreachable)",
    ] {
        let ended = meets_a_broken_disk(then);
        let Outcome::HandedBack { lacks: Some(lacks) } = ended.outcome else {
            panic!("{then}: it should have been given back: {ended:?}")
        };
        assert!(lacks.contains("a disk that can be read"), "{lacks}");
    }
}

#[test]
fn an_attempt_that_lives_with_a_failed_disk_ends_as_it_says() {
    assert_eq!(
        result(&meets_a_broken_disk("(call $write (i32.const 1) (i32.const 200) (i32.const 3))")),
        b"mem"
    );
    assert_eq!(result(&meets_a_broken_disk("(call $proc_exit (i32.const 0))")), b"");
    let snoozed = "(call $snooze (i64.const 5)) (call $proc_exit (i32.const 1))";
    assert_eq!(meets_a_broken_disk(snoozed).outcome, Outcome::Snoozed { after_ms: 5 });
    // What is over one of its own limits for sure is its own fault.
    let floods = "(loop $on (call $write (i32.const 1) (i32.const 0) (i32.const 1000000)) (br $on))";
    assert_eq!(cause(&meets_a_broken_disk(floods)), Cause::OverOutput);
}

#[test]
fn a_guest_has_no_sockets_whatever_it_takes_for_one() {
    let text = format!(
        r#"(module
          (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "sock_recv" (func $recv (param i32 i32 i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "sock_send" (func $send (param i32 i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "sock_shutdown" (func $shutdown (param i32 i32) (result i32)))
          {HEAD}
          (memory (export "memory") 1)
          (func (export "_start") (local $fd i32)
            (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 8))
            (loop $on
              (if (i32.eqz (call $accept (local.get $fd) (i32.const 0) (i32.const 100))) (then (unreachable)))
              (if (i32.eqz (call $recv (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 100) (i32.const 104)))
                (then (unreachable)))
              (if (i32.eqz (call $send (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 100)))
                (then (unreachable)))
              (if (i32.eqz (call $shutdown (local.get $fd) (i32.const 0))) (then (unreachable)))
              (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
              (br_if $on (i32.lt_u (local.get $fd) (i32.const 16))))))"#
    );
    assert_eq!(result(&run_guest(&text).0), b"");
}
