//! Every way in which a guest can end, as the cause that the whole system keeps of it.

use midge_protocol::job::{Cause, State};
use midge_tests::support::{FOUR, Guest, Modules, Server, block_on, eventually, request};
use serde_json::Value;

/// For guests that are to end with their first attempt.
const ONCE: &str = "max_attempts = 1\ntime_limit = \"500ms\"\nmemory_limit = \"128MiB\"\n\
                    dirs = { \"/all\" = { path = \"/\", read_only = true } }";
const EXIT: (&str, &str) = ("proc_exit", "(param i32)");

/// Guests that end badly: the cause, and what the message says.
fn unruly() -> Vec<(Guest, Cause, &'static str)> {
    let plain = |name, parts, start| Guest::new(name, &[], parts, start);
    let random = [("random_get", "(param i32 i32) (result i32)")];
    let sixty_four_mib = "(memory (export \"memory\") 1024)";
    vec![
        (plain("trap", "", "unreachable"), Cause::Trap, "unreachable"),
        (plain("divide", "", "(drop (i32.div_u (i32.const 1) (i32.const 0)))"), Cause::Trap, "divide by zero"),
        (plain("beyond", "", "(drop (i32.load (i32.const 70000)))"), Cause::Trap, "out of bounds"),
        (plain("loop", "", "(loop (br 0))"), Cause::OverTime, "0.5 s"),
        (Guest::nap("nap", 3_600_000), Cause::OverTime, "0.5 s"),
        (
            plain(
                "fill",
                sixty_four_mib,
                "(loop (memory.fill (i32.const 0) (i32.const 7) (i32.const 67108864)) (br 0))",
            ),
            Cause::OverTime,
            "0.5 s",
        ),
        (
            plain(
                "recurse",
                "(func $deep (param i32) (result i32)
                   (i32.add (local.get 0) (call $deep (i32.add (local.get 0) (i32.const 1)))))",
                "(drop (call $deep (i32.const 0)))",
            ),
            Cause::OverStack,
            "stack",
        ),
        (
            plain("grow", "", "(if (i32.eq (memory.grow (i32.const 4096)) (i32.const -1)) (then unreachable))"),
            Cause::OverMemory,
            "128 MiB",
        ),
        (
            plain(
                "tables",
                "(table 1 funcref)",
                "(if (i32.eq (table.grow (ref.null func) (i32.const 2000000)) (i32.const -1)) (then unreachable))",
            ),
            Cause::OverTable,
            "1000000",
        ),
        (
            Guest::new("random", &random, "", "(drop (call $random_get (i32.const 0) (i32.const 1073741824)))"),
            Cause::OverRandom,
            "64 MiB",
        ),
        (
            Guest::new(
                "output",
                &[("fd_write", FOUR)],
                sixty_four_mib,
                "(i32.store (i32.const 4) (i32.const 1048576))
                 (loop (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (br 0))",
            ),
            Cause::OverOutput,
            "16 MiB",
        ),
        (
            Guest::new(
                "files",
                &[("path_open", "(param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)")],
                "(data (i32.const 8) \".\")",
                "(loop (br_if 0 (i32.eqz (call $path_open (i32.const 3) (i32.const 0) (i32.const 8) (i32.const 1)
                   (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 0))))) unreachable",
            ),
            Cause::OverFiles,
            "256 files",
        ),
        (
            Guest::new(
                "create",
                &[("path_create_directory", "(param i32 i32 i32) (result i32)"), EXIT],
                "(data (i32.const 8) \"new\")",
                "(call $proc_exit (call $path_create_directory (i32.const 3) (i32.const 8) (i32.const 3)))",
            ),
            Cause::Exit,
            "63",
        ),
        (Guest::new("exit", &[EXIT], "", "(call $proc_exit (i32.const 3))"), Cause::Exit, "3"),
        (Guest::new("refuse", &[EXIT], "", "(call $proc_exit (i32.const 65))"), Cause::Refused, ""),
        (
            Guest::new(
                "say",
                &[EXIT, ("midge.error", "(param i32 i32)")],
                "(data (i32.const 8) \"the moon is full\")",
                "(call $error (i32.const 8) (i32.const 16)) (call $proc_exit (i32.const 1))",
            ),
            Cause::Exit,
            "the moon is full",
        ),
    ]
}

#[test]
fn every_bad_end_has_a_cause_of_its_own_and_neighbours_go_on() {
    let (mut guests, mut expected) = (Vec::new(), Vec::new());
    for (guest, cause, message) in unruly() {
        expected.push((guest.name().to_owned(), cause, message));
        guests.push(guest.settings(ONCE));
    }
    guests.push(Guest::nap("good", 100));
    let queue = "[queues.default]\nmax_machines = 1\njobs_per_machine = 3\nwait = 1";
    let server = Server::start(&Modules::of_guests(queue, &guests));
    let good: Vec<_> = (0..10).map(|_| server.enqueue("good", Value::Null)).collect();
    let jobs: Vec<_> = expected.iter().map(|(name, ..)| server.enqueue(name, Value::Null)).collect();
    for (id, (name, cause, message)) in jobs.into_iter().zip(expected) {
        let job = server.ended(id);
        assert_eq!((job.job.state, job.attempts.len()), (State::Discarded, 1), "{name}: {job:?}");
        let failure = job.job.failure.unwrap();
        assert_eq!(failure.cause, cause, "{name}: {failure:?}");
        assert!(failure.message.contains(message), "{name}: {failure:?}");
        assert_eq!(
            failure.exit_code,
            match name.as_str() {
                "create" => Some(63),
                "exit" => Some(3),
                "refuse" => Some(65),
                "say" => Some(1),
                _ => None,
            }
        );
    }
    for id in good {
        assert_eq!(&server.result(id)[..], b"done");
        assert_eq!(server.detail(id).attempts.len(), 1, "a neighbour was disturbed");
    }
}

#[test]
fn a_guest_that_asks_not_to_be_retried_is_not() {
    let refuse = Guest::new("refuse", &[EXIT], "", "(call $proc_exit (i32.const 65))");
    let mut server = Server::start(&Modules::of_guests("", &[refuse.settings("max_attempts = 9")]));
    let job = server.ended(server.enqueue("refuse", Value::Null));
    assert_eq!((job.job.state, job.attempts.len()), (State::Discarded, 1));
    let line =
        format!("a job was discarded job.id={} job.module=refuse job.attempt=1 cause=refused", job.job.id);
    server.process().says("which job was discarded, and why", |log| {
        log.lines().any(|told| told.contains("WARN") && told.contains(&line)).then_some(())
    });
}

#[test]
fn a_guest_that_snoozes_runs_again_and_spends_nothing() {
    let imports = [EXIT, ("midge.snooze", "(param i64)")];
    let snooze = "(call $snooze (i64.const 20)) (call $proc_exit (i32.const 1))";
    let guest = Guest::new("snooze", &imports, "", snooze).settings("max_attempts = 2");
    let server = Server::start(&Modules::of_guests("", &[guest]));
    let id = server.enqueue("snooze", Value::Null);
    let attempts = eventually("it snoozed more often than it may fail", || {
        let attempts = server.detail(id).attempts;
        (attempts.len() > 3).then_some(attempts)
    });
    assert!(attempts.iter().all(|attempt| !attempt.spent), "{attempts:?}");
    assert!(attempts.iter().all(|attempt| attempt.failure.as_ref().unwrap().cause == Cause::Snoozed));
    assert_eq!(server.job(id).spent, 0);
    block_on(server.client().cancel(id)).unwrap();
    assert_eq!(server.ended(id).job.state, State::Cancelled);
}

#[test]
fn a_guest_sees_what_the_abi_says_and_only_the_env_that_is_declared() {
    let settings = "[env]\nSHOWN = \"yes\"\nHIDDEN = \"no\"";
    let guests = [
        Guest::environment("environment").settings("env = [\"SHOWN\"]\ntime_limit = \"30s\""),
        Guest::arguments("arguments"),
    ];
    let server = Server::start(&Modules::of_guests(settings, &guests));

    let id = server.enqueue("environment", Value::Null);
    let result = String::from_utf8(server.result(id).to_vec()).unwrap();
    let mut seen: Vec<&str> = result.split_terminator('\0').collect();
    seen.sort_unstable();
    let deadline = seen.remove(1);
    assert!(deadline.starts_with("MIDGE_DEADLINE_MS="), "{deadline}");
    assert_eq!(seen, ["MIDGE_ATTEMPT=1", &format!("MIDGE_JOB_ID={id}"), "MIDGE_QUEUE=default", "SHOWN=yes"]);
    let deadline: i64 = deadline.split_once('=').unwrap().1.parse().unwrap();
    let started = server.detail(id).attempts[0].started_at.as_millis();
    assert!((25_000..=35_000).contains(&(deadline - started)), "{deadline} is not 30 s after {started}");

    let id = server.send(&request("arguments", serde_json::json!({"a": "b c"})));
    assert_eq!(&server.result(id)[..], b"arguments\0{\"a\":\"b c\"}\0");
}
