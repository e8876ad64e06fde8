//! How many bytes the requests of one attempt may send and receive: gigabytes, and a server that never ends.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use midge_engine::Attempt;
use midge_protocol::exchange::{self, Outcome};
use midge_protocol::job::{Cause, Failure};
use midge_protocol::limits::{RECEIVED_BYTES_MAX, SENT_BYTES_MAX};
use midge_protocol::line::{BODY_FRAME_BYTES_MAX, Head, Kind};

use crate::requests::{End, LOCALS, OPEN, PRINT_ERROR, lines, requesting};
use crate::support::{attempt, load, run};

/// Runs a guest to the bound that it goes over, and returns how it failed, and how many bytes whoever is at the other end counted.
fn over(body: &str, serve: impl Fn(End, &AtomicU64) + Send + Sync + 'static) -> (Failure, u64) {
    let counted = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&counted);
    let (lines, _) = lines(move |end| serve(end, &count));
    let body = format!("(local.set $r {OPEN}) {body} {PRINT_ERROR}");
    let (_folder, _modules, module) = load(&requesting(LOCALS, &body));
    match run(Attempt { lines: Some(lines), ..attempt(module) }).0.outcome {
        Outcome::Failed(failure) => (failure, counted.load(Ordering::SeqCst)),
        other => panic!("it should have failed: {other:?}"),
    }
}

#[test]
fn an_attempt_sends_so_many_bytes_in_all_and_no_more() {
    let body = "(loop $on
        (local.set $n (call $http_write (local.get $r) (i32.const 8192) (i32.const 65536)))
        (br_if $on (i32.eqz (local.get $n))))";
    let (failure, _) = over(body, |mut end, _| {
        let mut room = vec![0; 1 << 20];
        while matches!(end.0.read(&mut room), Ok(1..)) {}
    });
    assert_eq!((failure.cause, failure.exit_code), (Cause::OverSent, Some(11)));
    assert_eq!(
        failure.message,
        format!("wanted to send more than {} MiB, which is the limit", SENT_BYTES_MAX >> 20)
    );
}

#[test]
fn an_attempt_receives_so_many_bytes_in_all_and_no_more_of_a_server_that_never_ends() {
    let body = "(drop (call $http_send (local.get $r)))
      (loop $on
        (local.set $n (call $http_read (local.get $r) (i32.const 8192) (i32.const 65536)))
        (br_if $on (i32.gt_s (local.get $n) (i32.const 0))))";
    let (failure, sent) = over(body, |mut end, sent| {
        end.request();
        let head = exchange::encode(&Head { status: 200, url: String::new(), headers: Vec::new() });
        let zeros = vec![0; BODY_FRAME_BYTES_MAX];
        let piece = [&Kind::Body.prefix(zeros.len())[..], &zeros].concat();
        let _ = end.0.write_all(&[&Kind::Head.prefix(head.len())[..], &head].concat());
        while end.0.write_all(&piece).is_ok() {
            sent.fetch_add(zeros.len() as u64, Ordering::SeqCst);
        }
    });
    assert_eq!((failure.cause, failure.exit_code), (Cause::OverReceived, Some(11)));
    let limit = RECEIVED_BYTES_MAX >> 20;
    assert_eq!(failure.message, format!("wanted to receive more than {limit} MiB, which is the limit"));
    // What its line had room for came too, and was not read.
    assert!(sent < RECEIVED_BYTES_MAX + (16 << 20), "{sent}");
}
