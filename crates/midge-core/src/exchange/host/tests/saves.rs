//! What guests save, and when they go on; and what was recorded of them.

use midge_protocol::exchange;
use midge_protocol::job::{Cause, Failure};
use midge_protocol::recording::{Data, RecordedRequest, Recording, Seed};

use super::*;

#[test]
fn a_guest_that_saves_goes_on_when_the_server_has_it() {
    let mut host = Host::new(Wait::Forever);
    let attempt = host.begins();
    let parked = host.sends();
    host.side.save(attempt, Bytes::from_static(b"so far"));
    let lost = host.sends();
    assert_eq!(lost.saved, [Saved { attempt, state: Bytes::from_static(b"so far") }]);
    assert_eq!((lost.wait_ms, lost.running.len()), (0, 1));
    host.waits();
    host.fails(&lost);
    host.passes(RETRY_FIRST);
    let speaks = host.sends();
    assert_eq!(speaks.saved, lost.saved, "what was not heard is said again");
    assert_eq!(host.answer(&speaks, nothing()), [Todo::Saved(attempt)]);
    host.answer(&parked, nothing());
    let parked = host.sends();
    assert!(parked.wait_ms > 0 && parked.saved.is_empty());
}

#[test]
fn a_guest_without_a_right_is_not_told_that_what_it_saved_is_safe() {
    let mut host = Host::new(Wait::Forever);
    let attempt = host.begins();
    host.side.save(attempt, Bytes::from_static(b"too late"));
    let speaks = host.sends();
    let answer = Answer { cancel: vec![attempt], ..Answer::default() };
    assert_eq!(host.answer(&speaks, answer), [Todo::Cancel(attempt)]);
}

#[test]
fn what_an_attempt_saves_that_was_stopped_is_not_said_after_its_end() {
    let mut host = Host::new(Wait::Forever);
    let attempt = host.begins();
    host.side.save(attempt, Bytes::from_static(b"so far"));
    let outcome = Outcome::Cancelled;
    host.side.ended(Finished::new(attempt, outcome, Usage::default()), host.now);
    host.side.save(attempt, Bytes::from_static(b"later"));
    let speaks = host.sends();
    assert_eq!((speaks.saved.len(), speaks.finished.len()), (0, 1));
    assert_eq!(host.answer(&speaks, nothing()), [Todo::Forget(attempt)]);
}

/// A host all of whose places run something.
fn full() -> (Host, Vec<AttemptRef>) {
    let mut host = Host::new(Wait::Forever);
    host.room = limits::PLACES_MAX;
    let attempts: Vec<AttemptRef> = (1..=limits::PLACES_MAX)
        .map(|number| AttemptRef::new(JobId::from_bytes([9; 16]), AttemptNumber(number)))
        .collect();
    let jobs = attempts.iter().map(|attempt| Grant { attempt: *attempt, ..grant() }).collect();
    let request = host.sends();
    host.answer(&request, Answer { jobs, ..Answer::default() });
    (host, attempts)
}

#[test]
fn what_many_guests_save_at_once_fits_one_request_after_the_other() {
    let (mut host, attempts) = full();
    for attempt in attempts {
        host.side.save(attempt, vec![0; limits::SAVED_BYTES_MAX].into());
    }
    let mut safe = 0;
    while safe < limits::PLACES_MAX as usize {
        let request = host.sends();
        assert!(!request.saved.is_empty() && request.check().is_ok());
        let bytes: usize = request.saved.iter().map(|saved| saved.state.len()).sum();
        assert!(bytes <= CARRIED_BYTES_MAX, "{bytes}");
        safe += host.answer(&request, nothing()).len();
    }
}

#[test]
fn what_was_recorded_of_many_failures_fits_one_request_after_the_other() {
    let (mut host, attempts) = full();
    for attempt in attempts {
        let mut recording = Recording {
            attempt: attempt.attempt,
            sha256: "0".repeat(64),
            source_sha256: "0".repeat(64),
            limits: AttemptLimits::default(),
            began_at_ns: 0,
            seed: Seed([0; 32]),
            saved: None,
            clock_ns: Vec::new(),
            requests: Vec::new(),
            cut: true,
        };
        recording.clock_ns = vec![u64::MAX; limits::RECORDED_READINGS_MAX];
        let request = RecordedRequest {
            method: "POST".to_owned(),
            url: "https://api.example.com/".to_owned(),
            headers: Vec::new(),
            body: Data::default(),
            body_bytes: u64::MAX,
            redirects: 0,
            began_us: 0,
            ended_us: None,
            answer: None,
            failed: None,
        };
        while let Some(room @ 1..) = recording.room().checked_sub(request.counted_bytes()) {
            let body = Data(vec![b'x'; (room * 3 / 4).min(limits::RECORDED_BODY_BYTES_MAX)].into());
            recording.requests.push(RecordedRequest { body, ..request.clone() });
        }
        let outcome = Outcome::Failed(Failure::new(Cause::Exit, "no"));
        let recording = Some(Box::new(recording));
        host.side
            .ended(Finished { recording, ..Finished::new(attempt, outcome, Usage::default()) }, host.now);
    }
    let mut told = 0;
    while told < limits::PLACES_MAX as usize {
        let request = host.sends();
        assert!(!request.finished.is_empty() && request.check().is_ok());
        let bytes = exchange::encode(&request).len();
        assert!(bytes <= limits::EXCHANGE_BODY_BYTES_MAX, "{bytes}");
        told += host.answer(&request, nothing()).len();
    }
}
