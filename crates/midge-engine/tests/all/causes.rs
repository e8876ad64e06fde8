//! Every way in which an attempt ends has its own cause, and no neighbour notices.

use midge_engine::{Attempt, Place, Stop};
use midge_protocol::exchange::Outcome;
use midge_protocol::job::Cause;
use midge_protocol::limits;

use crate::support::*;

#[test]
fn a_guest_that_returns_has_completed_with_what_it_printed() {
    let (ended, _) = run_guest(
        r#"(module (import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1) (data (i32.const 0) "\08\00\00\00\03\00\00\00yes")
            (func (export "_start") (drop (call $w (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 100)))))"#,
    );
    assert_eq!(result(&ended), b"yes");
    assert_eq!(ended.usage.memory_peak_bytes, 65_536);
}

#[test]
fn exit_0_completes_and_any_other_code_is_its_own_cause() {
    let (ended, _) = run_guest(&guest("(call $proc_exit (i32.const 0))"));
    assert_eq!(result(&ended), b"");
    for code in [1, 75, 200, -1] {
        let failure = failure(&guest(&format!("(call $proc_exit (i32.const {code}))")));
        assert_eq!((failure.cause, failure.exit_code), (Cause::Exit, Some(code)));
        assert_eq!(failure.message, format!("exited with code {code}"));
    }
}

#[test]
fn exit_65_asks_not_to_be_retried() {
    let failure = failure(&guest("(call $proc_exit (i32.const 65))"));
    assert_eq!((failure.cause, failure.exit_code), (Cause::Refused, Some(65)));
}

#[test]
fn the_last_line_of_stderr_is_the_message() {
    let text =
        guest("(call $write (i32.const 2) (i32.const 64) (i32.const 13)) (call $proc_exit (i32.const 1))")
            .replace(
                "(memory (export \"memory\") 1)",
                "(memory (export \"memory\") 1) (data (i32.const 64) \"one\\nno width\\n\")",
            );
    assert_eq!(failure(&text).message, "no width");
}

#[test]
fn an_error_that_the_guest_names_is_the_message() {
    let text = guest(
        "(call $error (i32.const 64) (i32.const 8)) (call $retry_after (i64.const 1500)) (unreachable)",
    )
    .replace(
        "(memory (export \"memory\") 1)",
        "(memory (export \"memory\") 1) (data (i32.const 64) \"no width\")",
    );
    let failure = failure(&text);
    assert_eq!(failure.cause, Cause::Trap);
    assert!(failure.message.starts_with("no width (wasm trap: "), "{}", failure.message);
    assert_eq!(failure.retry_after_ms, Some(1500));
}

#[test]
fn a_trap_says_which() {
    for (body, words) in [
        ("(unreachable)", "unreachable"),
        ("(drop (i32.div_s (i32.const 1) (i32.const 0)))", "divide by zero"),
        ("(drop (i32.load (i32.const 0x7fffffff)))", "out of bounds memory access"),
    ] {
        let failure = failure(&guest(body));
        assert_eq!(failure.cause, Cause::Trap);
        assert!(failure.message.contains(words), "{}", failure.message);
    }
}

#[test]
fn a_trap_names_the_functions_if_the_module_does() {
    let text = r#"(module (func $inner unreachable) (func $outer (export "_start") call $inner))"#;
    assert!(failure(text).message.contains("inner, called by outer"), "{}", failure(text).message);
}

#[test]
fn endless_recursion_is_over_stack() {
    let text = r#"(module (func $down (export "_start") (call $down)))"#;
    assert_eq!(failure(text).cause, Cause::OverStack);
}

#[test]
fn growing_past_the_memory_limit_is_over_memory_whatever_the_guest_does_about_it() {
    let grow = "(if (i32.eq (memory.grow (i32.const 100)) (i32.const -1)) (then ACT))";
    for act in ["(unreachable)", "(call $proc_exit (i32.const 1))"] {
        let failure = failure(&guest(&grow.replace("ACT", act)));
        assert_eq!(failure.cause, Cause::OverMemory);
        assert_eq!(failure.message, "wanted 6.4 MiB of memory, its limit is 1 MiB");
    }
    // A guest that can live with it may.
    let (ended, _) = run_guest(&guest(&grow.replace("ACT", "")));
    assert_eq!(result(&ended), b"");
}

#[test]
fn a_module_that_begins_over_the_memory_limit_is_over_memory() {
    let text = r#"(module (memory (export "memory") 1000) (func (export "_start")))"#;
    assert_eq!(failure(text).cause, Cause::OverMemory);
}

#[test]
fn growing_tables_past_the_limit_is_over_table() {
    let text = r#"(module (table $t 10 funcref) (table $u 10 funcref)
        (func (export "_start")
          (drop (table.grow $u (ref.null func) (i32.const 600000)))
          (if (i32.eq (table.grow $t (ref.null func) (i32.const 600000)) (i32.const -1)) (then (unreachable)))))"#;
    assert_eq!(failure(text).cause, Cause::OverTable);
    let text = r#"(module (table 2000000 funcref) (func (export "_start")))"#;
    assert_eq!(failure(text).cause, Cause::OverTable);
}

#[test]
fn flooding_stdout_is_over_output() {
    assert_eq!(failure(&flood(1)).cause, Cause::OverOutput);
}

#[test]
fn asking_for_a_gigabyte_of_randomness_is_over_random() {
    let failure = failure(&guest("(drop (call $random_get (i32.const 0) (i32.const 0x40000000)))"));
    assert_eq!(failure.cause, Cause::OverRandom);
    assert!(failure.message.contains("1073741824"), "{}", failure.message);
}

#[test]
fn randomness_outside_of_memory_is_an_error_of_the_guest() {
    let (ended, _) = run_guest(&guest(
        "(if (i32.ne (call $random_get (i32.const 60000) (i32.const 60000)) (i32.const 21)) (then (unreachable)))",
    ));
    assert_eq!(result(&ended), b"");
}

#[test]
fn a_snoozed_guest_that_exits_is_put_off_not_failed() {
    let (ended, _) = run_guest(&guest("(call $snooze (i64.const 60000)) (call $proc_exit (i32.const 75))"));
    assert_eq!(ended.outcome, Outcome::Snoozed { after_ms: 60_000 });
    let (ended, _) = run_guest(&guest("(call $snooze (i64.const 60000))"));
    assert_eq!(result(&ended), b"");
}

#[test]
fn a_message_outside_of_memory_is_a_trap_not_a_panic() {
    let failure = failure(&guest("(call $error (i32.const -1) (i32.const -1))"));
    assert_eq!(failure.cause, Cause::Trap);
    assert!(failure.message.contains("beyond the guest's memory"), "{}", failure.message);
}

/// Guests that never end, each in its own way. Memory is made large for those that fill it.
fn endless() -> Vec<(&'static str, String)> {
    let page = "(memory (export \"memory\") 1)";
    let fill = "(loop $on (memory.fill (i32.const 0) (i32.const 1) (i32.const 0x10000000)) (br $on))";
    let copy = "(loop $on (memory.copy (i32.const 1) (i32.const 0) (i32.const 0x0ffffff0)) (br $on))";
    let random = "(loop $on (drop (call $random_get (i32.const 0) (i32.const 0x4000000))) (br $on))";
    let large = |body| guest(body).replace(page, "(memory (export \"memory\") 4096)");
    vec![
        ("spins", guest(SPIN)),
        ("sleeps", guest(SLEEP)),
        ("floods stderr", flood(2)),
        ("fills memory", large(fill)),
        ("copies memory", large(copy)),
        ("eats randomness", large(random)),
        (
            "sleeps before it starts",
            guest("")
                .replace("(func (export", "(func $s (export")
                .replacen("(module", "(module (start $init)", 1)
                .replace(page, &format!("{page} (func $init {SLEEP})")),
        ),
    ]
}

fn long(text: &str, time_ms: u64) -> (Folder, Attempt) {
    let (folder, _, module) = load(text);
    let mut attempt = attempt(module);
    attempt.limits.time_ms = time_ms;
    attempt.limits.memory_bytes = limits::MEMORY_LIMIT_DEFAULT;
    (folder, attempt)
}

#[test]
fn whatever_never_ends_is_over_time_at_its_deadline() {
    for (what, text) in endless() {
        let (_folder, attempt) = long(&text, 100);
        let (ended, _) = run(attempt);
        assert_eq!(cause(&ended), Cause::OverTime, "{what}");
        assert!(ended.usage.ran_us >= 100_000, "{what}");
    }
}

#[test]
fn whatever_never_ends_can_be_cancelled_and_handed_back() {
    for (what, text) in endless() {
        for stop in [Stop::Cancelled, Stop::HandedBack] {
            let (_folder, attempt) = long(&text, 300_000);
            let place = Place::start(0).unwrap();
            let running = place.run(attempt);
            running.control().stop(stop);
            let ended = wait(running);
            match stop {
                Stop::Cancelled => assert_eq!(ended.outcome, Outcome::Cancelled, "{what}"),
                _ => assert_eq!(ended.outcome, Outcome::HANDED_BACK, "{what}"),
            }
        }
    }
}

#[test]
fn a_neighbour_goes_on_while_all_others_are_stopped() {
    let mut guests = endless();
    guests.push((
        "counts",
        guest(
            "
        (local $n i64)
        (loop $on
          (local.set $n (i64.add (local.get $n) (i64.const 1)))
          (br_if $on (i64.lt_u (local.get $n) (i64.const 300000000))))
        (call $write (i32.const 1) (i32.const 64) (i32.const 3))",
        ),
    ));
    let texts: Vec<(String, &str)> =
        guests.iter().enumerate().map(|(i, (_, text))| (format!("g{i}"), text.as_str())).collect();
    let texts: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (name.as_str(), *text)).collect();
    let folder = Folder::with(&texts);
    let modules = folder.open(); // one engine, one epoch for all
    let places: Vec<Place> = (0..guests.len()).map(|n| Place::start(n).unwrap()).collect();
    let last = guests.len() - 1;
    let running: Vec<_> = (0..guests.len())
        .map(|n| {
            let mut attempt = attempt(modules.load(&name(&format!("g{n}"))).unwrap());
            attempt.limits.memory_bytes = limits::MEMORY_LIMIT_DEFAULT;
            attempt.limits.time_ms = if n == last { 300_000 } else { 50 };
            places[n].run(attempt)
        })
        .collect();
    let ends = block_on(async {
        let waiting: Vec<_> = running.into_iter().map(|r| r.ended()).collect();
        let mut ends = Vec::new();
        let mut set = tokio::task::JoinSet::new();
        for (n, wait) in waiting.into_iter().enumerate() {
            set.spawn(async move { (n, wait.await) });
        }
        while let Some(end) = set.join_next().await {
            ends.push(end.unwrap());
        }
        ends
    });
    for (n, ended) in ends {
        if n == last {
            assert_eq!(result(&ended), [0; 3]);
        } else {
            assert_eq!(cause(&ended), Cause::OverTime, "{}", guests[n].0);
        }
    }
}

#[test]
fn a_place_is_used_again_after_any_end() {
    let folder =
        Folder::with(&[("trap", &guest("(unreachable)")), ("spin", &guest(SPIN)), ("ok", &guest(""))]);
    let modules = folder.open();
    let place = Place::start(0).unwrap();
    for (module, time_ms) in [("trap", 300_000), ("spin", 20), ("ok", 300_000), ("ok", 300_000)] {
        let mut attempt = attempt(modules.load(&name(module)).unwrap());
        attempt.limits.time_ms = time_ms;
        let ended = wait(place.run(attempt));
        match module {
            "ok" => assert_eq!(result(&ended), b""),
            "spin" => assert_eq!(cause(&ended), Cause::OverTime),
            _ => assert_eq!(cause(&ended), Cause::Trap),
        }
        assert!(place.is_free());
    }
}
