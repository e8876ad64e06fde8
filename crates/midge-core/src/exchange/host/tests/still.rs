//! A host stands by while its Machine is suspended, and finds that it stood still.

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);

fn rest() -> Answer {
    Answer { rest: true, ..Answer::default() }
}

/// A host that has waited in vain, and is told to stand by.
fn standing_by() -> Host {
    let mut host = Host::new(Wait::Millis(1_000));
    let first = host.sends();
    host.answer(&first, Answer::default());
    host.passes(Duration::from_secs(1));
    let leaving = host.sends();
    assert!(leaving.leaving);
    host.answer(&leaving, rest());
    host
}

#[test]
fn a_host_that_stands_by_has_nothing_under_way_and_asks_again_soon() {
    let mut host = standing_by();
    for _ in 0..3 {
        assert_eq!(host.waits(), Some(Duration::from_millis(250)), "what is under way would be lost");
        host.passes(Duration::from_millis(250));
        let asks = host.sends();
        assert!(asks.leaving && asks.wait_ms == 0);
        host.answer(&asks, rest());
    }
}

#[test]
fn a_host_that_stands_by_and_is_told_to_go_leaves() {
    let mut host = standing_by();
    host.passes(Duration::from_millis(250));
    let asks = host.sends();
    host.answer(&asks, Answer { left: true, ..Answer::default() });
    assert_eq!(host.next(), Next::Exit(Departure::Left));
}

#[test]
fn a_host_that_stands_by_and_is_given_a_job_goes_on() {
    let mut host = standing_by();
    host.passes(Duration::from_millis(250));
    let asks = host.sends();
    assert_eq!(asks.room, 2);
    let todos = host.answer(&asks, Answer { jobs: vec![grant()], ..Answer::default() });
    assert!(matches!(todos[..], [Todo::Begin(_)]));
    assert!(!host.sends().leaving);
}

#[test]
fn a_host_that_stands_by_and_is_told_to_stop_leaves_at_once() {
    let mut host = standing_by();
    host.side.stop(Duration::from_secs(5), host.now);
    let leaving = loop {
        let request = host.sends();
        if request.leaving {
            break request;
        }
        host.answer(&request, Answer::default());
    };
    host.answer(&leaving, rest());
    assert_eq!(host.next(), Next::Exit(Departure::Left));
}

#[test]
fn a_host_that_stood_still_gives_up_what_was_under_way_and_waits_for_a_job_anew() {
    let mut host = standing_by();
    host.waits();
    host.passes(HOUR);
    assert_eq!(host.next(), Next::Reconnect, "it does not take its server for lost");
    let first = host.sends();
    assert!(!first.leaving && first.wait_ms > 0 && first.room == 2);
    host.answer(&first, Answer::default());
    let again = host.sends();
    assert!(!again.leaving, "it has waited for nothing since");
}

#[test]
fn a_host_that_stood_still_while_jobs_ran_says_what_it_runs_and_hears_what_is_not_its_any_more() {
    let mut host = Host::new(Wait::Millis(1_000));
    let attempt = host.begins();
    let parked = host.sends();
    host.waits();
    // Nothing wakes a host that runs something and has a request under way, but what tells it of the clock.
    host.passes(HOUR);
    host.side.stood_still(host.now);
    assert_eq!(host.next(), Next::Reconnect);
    assert!(host.answer(&parked, Answer { jobs: vec![grant()], ..Answer::default() }).is_empty(), "given up");
    let again = host.sends();
    assert!(again.running.iter().any(|running| running.attempt == attempt));
    assert!(again.seq > parked.seq);
    let gone = Answer { cancel: vec![attempt], ..Answer::default() };
    assert_eq!(host.answer(&again, gone), [Todo::Cancel(attempt)]);
}

#[test]
fn what_was_told_in_a_request_that_was_given_up_is_told_again() {
    let mut host = Host::new(Wait::Millis(1_000));
    let attempt = host.begins();
    host.logs.insert(attempt, b"a line".to_vec());
    host.side.has_news([]);
    let speaks = host.sends();
    assert_eq!(speaks.log.len(), 1);
    host.side.stood_still(host.now);
    assert_eq!(host.next(), Next::Reconnect);
    let said: Vec<Request> = std::iter::from_fn(|| {
        host.passes(Duration::from_secs(1));
        match host.next() {
            Next::Send(request) => Some(*request),
            _ => None,
        }
    })
    .take(3)
    .collect();
    assert!(said.iter().any(|request| request.log == speaks.log), "{said:?}");
}

#[test]
fn a_busy_computer_is_no_sleep() {
    let mut host = standing_by();
    host.waits();
    host.passes(Duration::from_secs(5));
    assert!(host.sends().leaving);
}
