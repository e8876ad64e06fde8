//! What a guest is told is recorded, and told to it once more.

use std::sync::Arc;

use bytes::Bytes;
use midge_engine::{Attempt, Judge, Lines, Loaded, Replay, World};
use midge_protocol::exchange::{Finished, Outcome};
use midge_protocol::job::Cause;
use midge_protocol::limits::{RECORDED_BODY_BYTES_MAX, RECORDED_READINGS_MAX, RECORDING_BYTES_MAX};
use midge_protocol::line::{Failed, Request, Why};
use midge_protocol::recording::{RecordedRequest, Recording};

use crate::requests::{End, LOCALS, OPEN, PRINT_BODY, PRINT_ERROR, lines, requesting};
use crate::support::*;

/// Says on stderr what both clocks show, what is random, and what its env is.
const SAY_ALL: &str = "
    (drop (call $clock_time_get (i32.const 0) (i64.const 1) (i32.const 2048)))
    (drop (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 2056)))
    (drop (call $random_get (i32.const 2064) (i32.const 100)))
    (drop (call $random_get (i32.const 2164) (i32.const 7)))
    (drop (call $clock_time_get (i32.const 0) (i64.const 1) (i32.const 2176)))
    (call $write (i32.const 2) (i32.const 2048) (i32.const 136))
    (drop (call $environ_get (i32.const 2560) (i32.const 3072)))
    (call $write (i32.const 2) (i32.const 3072) (i32.const 300))";
const FAIL: &str = "(call $proc_exit (i32.const 3))";

/// Sends a request with a body, and reads its answer to the end.
fn post() -> String {
    let read = PRINT_BODY.replace("(call $write (i32.const 1)", "(call $write (i32.const 2)");
    format!(
        "(local.set $r {OPEN})
         (drop (call $http_write (local.get $r) (i32.const 1024) (i32.const 4)))
         (local.set $n (call $http_send (local.get $r)))
         (if (i32.lt_s (local.get $n) (i32.const 0)) (then {PRINT_ERROR}))
         {read} (call $http_close (local.get $r))"
    )
}

fn replaced(text: &str, times: usize) -> String {
    (0..times).map(|time| text.replace("$on", &format!("$on{time}"))).collect()
}

fn answers(pieces: &'static [&'static [u8]]) -> Arc<Lines> {
    lines(move |mut end: End| {
        while end.request().is_some() {
            end.answer(pieces);
        }
    })
    .0
}

fn runs(module: &Arc<Loaded>, world: World, lines: Arc<Lines>) -> (Finished, Bytes) {
    runs_as(Attempt { world, lines: Some(lines), ..attempt(Arc::clone(module)) })
}

fn runs_as(attempt: Attempt) -> (Finished, Bytes) {
    let (ended, control) = run(attempt);
    (ended, control.log_from(0, usize::MAX))
}

fn recorded(text: &str, lines: Arc<Lines>) -> Recording {
    let (_folder, _modules, module) = load(text);
    let (ended, log) = runs(&module, World::Recorded, lines);
    *ended.recording.unwrap_or_else(|| panic!("{:?}: {log:?}", ended.outcome))
}

fn all_is_allowed() -> Judge {
    Arc::new(|_| None)
}

/// Runs a guest with what was told to another one.
fn replayed(text: &str, recording: Recording) -> (Arc<Replay>, Outcome) {
    let (_folder, _modules, module) = load(text);
    let replay = Replay::new(Some(recording), all_is_allowed());
    let (ended, _) = runs(&module, replay.world(), replay.lines());
    assert_eq!(ended.recording, None, "what is replayed is not recorded");
    (replay, ended.outcome)
}

/// Runs a guest that completes with what was told to another one, and returns what it was not told.
fn went_without(text: &str, recording: Recording) -> Option<String> {
    let (_folder, _modules, module) = load(text);
    let replay = Replay::new(Some(recording), all_is_allowed());
    let (world, lines) = (replay.world(), Some(replay.lines()));
    let (ended, control) = run(Attempt { world, lines, ..attempt(module) });
    assert!(matches!(ended.outcome, Outcome::Completed { .. }), "{:?}", ended.outcome);
    control.went_without().map(str::to_owned)
}

#[test]
fn an_attempt_that_was_recorded_is_told_the_same_again_to_the_byte() {
    let body = format!("{SAY_ALL} {} {SAY_ALL} {FAIL}", replaced(&post(), 2));
    let (_folder, _modules, module) = load(&requesting(LOCALS, &body));
    let first = Attempt {
        world: World::Recorded,
        lines: Some(answers(&[b"one ", b"", b"two\0\xff"])),
        saved: Some("so far".into()),
        ..attempt(Arc::clone(&module))
    };
    let id = first.id;
    let (ended, log) = runs_as(first);
    let recording = *ended.recording.unwrap();
    assert_eq!((recording.attempt, recording.clock_ns.len(), recording.cut), (id.attempt, 6, false));
    assert_eq!(recording.saved.as_ref().map(|saved| &saved.0[..]), Some(&b"so far"[..]));
    let [request, _] = &recording.requests[..] else { panic!("{recording:?}") };
    assert_eq!((request.method.as_str(), request.url.as_str()), ("POST", "http://a.example/x"));
    assert_eq!((&request.body.0[..], request.body_bytes, request.redirects), (&b"POST"[..], 4, 2));
    let answer = request.answer.as_ref().unwrap();
    assert_eq!((answer.status, &answer.body.0[..], answer.ended), (200, &b"one two\0\xff"[..], true));
    assert!(request.began_us <= request.ended_us.unwrap());
    // As it comes back from a server.
    let recording: Recording = serde_json::from_slice(&serde_json::to_vec(&recording).unwrap()).unwrap();
    for _ in 0..2 {
        let replay = Replay::new(Some(recording.clone()), all_is_allowed());
        let (again, said) = runs_as(Attempt {
            id,
            world: replay.world(),
            lines: Some(replay.lines()),
            ..attempt(Arc::clone(&module))
        });
        assert_eq!((again.outcome, said), (ended.outcome.clone(), log.clone()));
        assert_eq!((replay.differences(), replay.requests()), (vec![], (2, 2)));
    }
    let (_, other) = runs(&module, World::Real, answers(&[b"one ", b"two\0\xff"]));
    assert_ne!(other, log);
}

#[test]
fn only_an_attempt_that_failed_and_was_to_be_recorded_has_a_recording() {
    let (_folder, _modules, module) = load(&requesting(LOCALS, &post()));
    let (ended, _) = runs(&module, World::Recorded, answers(&[b"x"]));
    assert_eq!((result(&ended), &ended.recording), (&b""[..], &None));
    let (_folder, _modules, module) = load(&requesting(LOCALS, &(post() + FAIL)));
    let (ended, _) = runs(&module, World::Real, answers(&[b"x"]));
    assert_eq!((cause(&ended), ended.recording), (Cause::Exit, None));
    // One that hangs in a request too.
    let (hangs, _) = lines(|mut end| while end.request().is_some() {});
    let limits = midge_protocol::job::AttemptLimits { time_ms: 20, memory_bytes: 1 << 20 };
    let (ended, _) =
        runs_as(Attempt { world: World::Recorded, lines: Some(hangs), limits, ..attempt(module) });
    assert_eq!(cause(&ended), Cause::OverTime);
    let [request] = &ended.recording.unwrap().requests[..] else { panic!("one began") };
    assert_eq!((&request.body.0[..], &request.answer, &request.failed), (&b"POST"[..], &None, &None));
}

#[test]
fn a_request_that_differs_is_told_with_both_and_has_no_answer() {
    let recording = recorded(&requesting(LOCALS, &(post() + FAIL)), answers(&[b"x"]));
    let head = |from: &str, to: &str| {
        requesting(LOCALS, &post()).replace(from, to).replace("(i32.const 36)", &{
            let grown = 36 + to.replace("\\0a", "n").len() - from.replace("\\0a", "n").len();
            format!("(i32.const {grown})")
        })
    };
    for (text, what) in [
        (head("POST http:", "PUT http:"), "its method is `PUT`, and was `POST`"),
        (head("/x\\0a", "/y\\0a"), "its URL is `http://a.example/y`, and was `http://a.example/x`"),
        (head("*/*", "*/html"), "one of its headers is `accept: */html`, and was `accept: */*`"),
        (
            requesting(LOCALS, &post())
                .replace("(i32.const 1024) (i32.const 4)", "(i32.const 1025) (i32.const 4)"),
            "its body is `OST `, and was `POST`",
        ),
        (
            requesting(LOCALS, &post()).replace("(i32.const 2) (i64.const 0)", "(i32.const 3) (i64.const 0)"),
            "the number of redirects that it follows is `3`, and was `2`",
        ),
    ] {
        let (replay, outcome) = replayed(&text, recording.clone());
        let differences: Vec<String> = replay.differences().iter().map(ToString::to_string).collect();
        let expected = format!("request 1 is not the one that was made there: {what}");
        assert_eq!(differences, [expected.as_str()]);
        let lacks = format!("an answer in the recording: {expected}");
        assert_eq!(outcome, Outcome::HandedBack { lacks: Some(lacks) });
    }
    let (replay, outcome) = replayed(&requesting(LOCALS, &replaced(&post(), 2)), recording.clone());
    assert!(matches!(outcome, Outcome::HandedBack { .. }), "{outcome:?}");
    assert_eq!(
        replay.differences()[0].to_string(),
        "request 2 (POST http://a.example/x) is new: there it made 1"
    );
    // One that is not made any more is no difference to what was told.
    let (replay, outcome) = replayed(&guest(""), recording);
    assert!(matches!(outcome, Outcome::Completed { .. }));
    assert_eq!((replay.differences(), replay.requests()), (vec![], (0, 1)));
}

#[test]
fn why_a_request_failed_is_told_again() {
    let text = requesting(LOCALS, &post());
    let (fails, _) = lines(|mut end| {
        end.request();
        end.fail(Why::Refused, "nobody is there");
    });
    let recording = recorded(&text, fails);
    assert_eq!(recording.requests[0].failed.as_ref().unwrap().why, Why::Refused);
    let (_, Outcome::Failed(failure)) = replayed(&text, recording) else { panic!("it fails again") };
    assert_eq!((failure.exit_code, failure.message.as_str()), (Some(4), "nobody is there"));
}

#[test]
fn a_request_is_judged_as_it_is_now_and_not_as_it_was() {
    let text = requesting(LOCALS, &(post() + FAIL));
    let refusing = |why| {
        lines(move |mut end| {
            end.request();
            end.fail(why, "no");
        })
        .0
    };
    let judged = |recording: Recording, judge: Judge| {
        let (_folder, _modules, module) = load(&text);
        let replay = Replay::new(Some(recording), judge);
        let (ended, _) = runs(&module, replay.world(), replay.lines());
        (replay.differences(), ended.outcome)
    };
    // It was answered, and is not allowed any more.
    let refused =
        |request: &Request| Some(Failed { why: Why::NotAllowed, message: format!("not to {}", request.url) });
    let (differences, outcome) = judged(recorded(&text, answers(&[b"one"])), Arc::new(refused));
    let Outcome::Failed(failure) = outcome else { panic!("{outcome:?}") };
    assert_eq!((differences, failure.message.as_str()), (vec![], "not to http://a.example/x"));
    // It was refused, and is allowed now: nobody knows what would have been answered.
    let recording = recorded(&text, refusing(Why::NotAllowed));
    let (differences, outcome) = judged(recording, all_is_allowed());
    assert!(matches!(outcome, Outcome::HandedBack { .. }), "{outcome:?}");
    let words = "request 1 (POST http://a.example/x) was refused there, and is allowed now";
    assert_eq!(differences[0].to_string(), words);
}

#[test]
fn of_an_answer_there_is_what_was_read_of_it() {
    let send = post().split("(loop").next().unwrap().to_owned();
    let some = "(drop (call $http_read (local.get $r) (i32.const 8192) (i32.const 3)))";
    let recording = recorded(&requesting(LOCALS, &format!("{send} {some} {FAIL}")), answers(&[b"four"]));
    let answer = recording.requests[0].answer.as_ref().unwrap();
    assert_eq!((&answer.body.0[..], answer.ended), (&b"fou"[..], false));
    let (replay, outcome) = replayed(&requesting(LOCALS, &format!("{send} {some}")), recording.clone());
    assert!(matches!(outcome, Outcome::Completed { .. }));
    assert_eq!(replay.differences(), []);
    let on = format!(
        "{send} {some} {some} (local.set $n (call $http_read (local.get $r) (i32.const 8192) (i32.const 3))) {PRINT_ERROR}"
    );
    let (_, outcome) = replayed(&requesting(LOCALS, &on), recording);
    let what = "the rest of the answer to request 1: there 3 bytes were read of it";
    assert_eq!(outcome, Outcome::HandedBack { lacks: Some(what.to_owned()) });
}

#[test]
fn an_attempt_that_completes_on_what_is_left_of_an_answer_is_known_to_have_gone_without_the_rest() {
    let send = post().split("(loop").next().unwrap().to_owned();
    let read =
        |bytes: u32| format!("(drop (call $http_read (local.get $r) (i32.const 8192) (i32.const {bytes})))");
    let some = requesting(LOCALS, &format!("{send} {} {FAIL}", read(3)));
    let recording = recorded(&some, answers(&[b"four"]));
    let went_without = |reads: &[u32]| {
        let reads: String = reads.iter().map(|bytes| read(*bytes)).collect();
        went_without(&requesting(LOCALS, &format!("{send} {reads}")), recording.clone())
    };
    // As far as there is something, nothing is missing.
    assert_eq!(went_without(&[1, 2]), None);
    let rest = "the rest of the answer to request 1: there 3 bytes were read of it";
    assert_eq!(went_without(&[2, 2, 1]).as_deref(), Some(rest));
    assert_eq!(went_without(&[]), None);
}

#[test]
fn a_recording_has_its_bounds_and_no_attempt_fails_of_them() {
    let large: &'static [u8] = vec![b'x'; 60_000].leak();
    let pieces: &'static [&'static [u8]] = vec![large; 3].leak();
    let body = requesting(LOCALS, &(post() + FAIL));
    let recording = recorded(&body, answers(pieces));
    let answer = recording.requests[0].answer.as_ref().unwrap();
    assert_eq!((answer.body.0.len(), answer.body_bytes), (RECORDED_BODY_BYTES_MAX, 180_000));
    assert!(recording.cut && answer.ended && !answer.is_whole());
    let (_, outcome) = replayed(&body, recording.clone());
    assert!(matches!(outcome, Outcome::HandedBack { .. }), "the rest is not known: {outcome:?}");
    assert_eq!(
        went_without(&requesting(LOCALS, &post()), recording).as_deref(),
        Some("the rest of the answer to request 1: the recording has 65536 bytes of 180000")
    );

    let again = |times: u32, body: &str| {
        format!(
            "(loop $again {body} (local.set $times (i32.add (local.get $times) (i32.const 1)))
               (br_if $again (i32.lt_u (local.get $times) (i32.const {times})))) {FAIL}"
        )
    };
    let locals = format!("{LOCALS} (local $times i32)");
    let recording = recorded(&requesting(&locals, &again(2_000, &post())), answers(&[b"answer"]));
    let bytes = recording.counted_bytes();
    assert!(recording.cut && (RECORDING_BYTES_MAX - 1_000..=RECORDING_BYTES_MAX).contains(&bytes), "{bytes}");
    assert!(recording.requests[..recording.requests.len() - 1].iter().all(RecordedRequest::is_whole));

    let look = "(drop (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 2048)))";
    let recording = recorded(&requesting(&locals, &again(10_000, look)), answers(&[]));
    assert_eq!((recording.clock_ns.len(), recording.cut), (RECORDED_READINGS_MAX, true));
    assert!(recording.clock_ns.is_sorted());
    let last = recording.clock_ns[RECORDED_READINGS_MAX - 1];
    let say = format!("{} ", look.repeat(RECORDED_READINGS_MAX + 1));
    let text = requesting("", &format!("{say} (call $write (i32.const 1) (i32.const 2048) (i32.const 8))"));
    let (_, Outcome::Completed { result }) = replayed(&text, recording) else { panic!("it completes") };
    assert!(u64::from_le_bytes(result[..].try_into().unwrap()) >= last, "the clock goes on from there");
}
