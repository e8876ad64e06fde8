//! Jobs that a guest enqueues: what is taken, what is refused and how, and that only a guest which completes enqueues any.

use midge_engine::{Attempt, Place};
use midge_protocol::exchange::{Finished, FollowUp, Outcome};
use midge_protocol::job::AttemptLimits;
use midge_protocol::limits;

use crate::support::{Folder, HEAD, attempt, name, result, wait};

const GOOD: &str = r#"{"module": "resize", "args": {"width": 64}, "key": "acme"}"#;

/// Runs a guest that has `texts` one after the other from 1024 on, each in a kilobyte, and may enqueue `resize` and itself.
fn run(texts: &[&str], body: &str) -> Finished {
    let data: String = texts
        .iter()
        .enumerate()
        .map(|(n, text)| format!("(data (i32.const {}) \"{}\")", 1024 * (n + 1), text.replace('"', "\\\"")))
        .collect();
    let text = format!(
        r#"(module {HEAD} (memory (export "memory") 200) {data}
          (func $is (param $code i32) (param $expected i32)
            (if (i32.ne (local.get $code) (local.get $expected)) (then unreachable)))
          (func (export "_start") {body}))"#
    );
    let mut folder = Folder::with(&[("guest", &text)]);
    let entry = folder.manifest.modules.values_mut().next().unwrap();
    entry.enqueues = ["guest", "resize"].map(name).into();
    folder.save();
    let module = folder.open().load(&name("guest")).unwrap();
    let limits = AttemptLimits { time_ms: 300_000, memory_bytes: 64 << 20 };
    wait(Place::start(0).unwrap().run(Attempt { limits, ..attempt(module) }))
}

/// Enqueues the text at an address, with an input of so many bytes, and has the code be as expected. The id comes to 512.
fn enqueue(at: usize, length: usize, input: usize, code: i32) -> String {
    format!(
        "(call $is (call $enqueue (i32.const {at}) (i32.const {length}) (i32.const 600) (i32.const {input}) (i32.const 512))
                   (i32.const {code}))"
    )
}

/// Writes why the last one was refused.
const SAY_WHY: &str =
    "(call $write (i32.const 1) (i32.const 8192) (call $enqueue_error (i32.const 8192) (i32.const 4096)))";

#[test]
fn a_guest_that_completes_has_enqueued_what_it_named_in_that_order_and_knows_the_ids() {
    let own = r#"{"module": "guest"}"#;
    let body = format!(
        "(call $is (call $enqueue_error (i32.const 0) (i32.const 0)) (i32.const -1))
        (i32.store8 (i32.const 600) (i32.const 255)) {} {}
        (call $write (i32.const 1) (i32.const 512) (i32.const 36))",
        enqueue(1024, GOOD.len(), 2, 0),
        enqueue(2048, own.len(), 0, 0),
    );
    let ended = run(&[GOOD, own], &body);
    let requests: Vec<_> =
        ended.jobs.iter().map(|FollowUp { request, input, .. }| (&**request, input.as_deref())).collect();
    assert_eq!(requests, [(GOOD, Some(&[255, 0][..])), (own, None)]);
    assert_eq!(result(&ended), ended.jobs[1].id.to_string().as_bytes());
    assert_ne!(ended.jobs[0].id, ended.jobs[1].id);
}

#[test]
fn a_guest_that_does_not_complete_enqueues_nothing() {
    for end in [
        "(call $proc_exit (i32.const 1))",
        "(call $snooze (i64.const 1)) (call $proc_exit (i32.const 1))",
        "unreachable",
    ] {
        let ended = run(&[GOOD], &format!("{} {end}", enqueue(1024, GOOD.len(), 0, 0)));
        assert!(!matches!(ended.outcome, Outcome::Completed { .. }));
        assert_eq!(ended.jobs, [], "{end}");
    }
    let exit = format!("{} (call $proc_exit (i32.const 0))", enqueue(1024, GOOD.len(), 0, 0));
    assert_eq!(run(&[GOOD], &exit).jobs.len(), 1);
}

#[test]
fn what_is_refused_is_not_enqueued_and_says_why() {
    for (request, code, says) in [
        ("", 1, "it is not a request for a job: the request is not JSON: it ends too early"),
        ("{\\ff}", 1, "not UTF-8"),
        (r#"{"module": "resize", "argz": 1}"#, 1, "unknown field `argz`: did you mean `args`?"),
        (
            r#"{"module": "resize", "id": "0190b3e4-7d5c-7c3a-9f00-0123456789ab"}"#,
            1,
            "`id` is not for the request",
        ),
        (r#"{"module": "resize", "queue": "No!"}"#, 1, "No!"),
        (
            r#"{"module": "resize", "priority": "high"}"#,
            1,
            "`priority` must be a whole number from -100 to 100, not",
        ),
        (
            r#"{"module": "resize", "priority": 1000}"#,
            1,
            "`priority` must be a whole number from -100 to 100, not",
        ),
        (r#"{"module": "resize", "after": ["x"]}"#, 1, "`after[0]` must be a UUID such as"),
        (
            r#"{"module": "resize", "backoff": {"fixed": {"wait_ms": -1}}}"#,
            1,
            "`backoff.fixed.wait_ms` must be",
        ),
        (r#"{"module": "resize", "in_ms": 18446744073709551615}"#, 1, "`in_ms` is 18446744073709551615, and"),
        (r#"{"module": "resize", "expires_in_ms": 0}"#, 1, "use a larger `expires_in_ms`"),
        (r#"{"module": "resize", "in_ms": 9, "expires_in_ms": 5}"#, 1, "or a smaller `in_ms`"),
        (r#"{"module": "resize", "expires_at": "2001-01-01T00:00:00Z"}"#, 1, "use a later `expires_at`"),
        (r#"{"module": "resize", "retry_until": "2001-01-01T00:00:00Z"}"#, 1, "use a later `retry_until`"),
        (r#"{"module": "resize", "priority": 120}"#, 1, "`priority` is 120: use -100 to 100"),
        (r#"{"module": "resize", "after_failed": "go_on"}"#, 1, "`after` names no job"),
        (r#"{"module": "resise"}"#, 2, "did you mean `resize`?"),
        (
            r#"{"module": "delete"}"#,
            2,
            "module `guest` does not declare that it enqueues `delete`: add it to `enqueues` of [modules.guest] in midge.toml",
        ),
    ] {
        let length = request.len() - if request.contains('\\') { 2 } else { 0 };
        let ended = run(&[request], &format!("{} {SAY_WHY}", enqueue(1024, length, 0, code)));
        let why = String::from_utf8_lossy(result(&ended)).into_owned();
        assert!(why.contains(says), "{request}: {why}");
        assert_eq!(ended.jobs, []);
    }
}

#[test]
fn one_attempt_enqueues_so_many_jobs_and_so_many_bytes_and_no_more() {
    let (max, request) = (limits::FOLLOW_UPS_MAX, r#"{"module":"resize"}"#);
    let body = format!(
        "(local $n i32) (loop $on {} (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br_if $on (i32.lt_u (local.get $n) (i32.const {max})))) {} {SAY_WHY}",
        enqueue(1024, request.len(), 0, 0),
        enqueue(1024, request.len(), 0, 3),
    );
    let ended = run(&[request], &body);
    assert_eq!(ended.jobs.len(), max);
    let why = String::from_utf8_lossy(result(&ended)).into_owned();
    assert!(why.contains("would enqueue 10001 jobs, and may 10000"), "{why}");

    let fits = limits::FOLLOW_UP_BYTES_MAX - request.len();
    let body = format!(
        "{} {} {} {SAY_WHY}",
        enqueue(1024, request.len(), fits + 1, 3),
        enqueue(1024, request.len(), fits, 0),
        enqueue(1024, request.len(), 0, 3),
    );
    let ended = run(&[request], &body);
    assert_eq!(ended.jobs.len(), 1);
    let why = String::from_utf8_lossy(result(&ended)).into_owned();
    assert!(why.contains("and may of 8388608"), "{why}");
}

#[test]
fn what_reaches_beyond_the_memory_is_a_trap_and_enqueues_nothing() {
    let call = |[at, length, input, input_length, id]: [i64; 5]| {
        format!(
            "(drop (call $enqueue (i32.const {at}) (i32.const {length}) (i32.const {input}) (i32.const {input_length})
                                  (i32.const {id})))"
        )
    };
    let (good, last) = (GOOD.len() as i64, 200 * 65_536 - 1);
    for (values, says) in [
        ([last, 2, 0, 0, 512], "a request reaches beyond"),
        ([1024, good, last, 2, 512], "an input reaches beyond"),
        ([1024, good, 0, 0, last - 34], "the room for an id reaches beyond"),
    ] {
        let ended = run(&[GOOD], &call(values));
        let Outcome::Failed(failure) = &ended.outcome else { panic!("{ended:?}") };
        assert!(failure.message.contains(says), "{failure:?}");
        assert_eq!(ended.jobs, []);
    }
    // More than any memory has is told as too much.
    let too_much = "(call $is (call $enqueue (i32.const 0) (i32.const -1) (i32.const 0) (i32.const -1) (i32.const 512)) (i32.const 3))";
    assert_eq!(run(&[GOOD], too_much).jobs, []);
}
