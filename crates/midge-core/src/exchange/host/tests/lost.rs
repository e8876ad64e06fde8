//! What a host does that hears of its server no more.

use super::*;

#[test]
fn a_host_that_lost_its_server_goes_on_running_and_then_gives_up() {
    let mut host = Host::new(Wait::Millis(1000));
    let attempt = host.begins();
    let mut ran = Duration::ZERO;
    let begun = host.now;
    while ran < LOST_AFTER * 3 {
        match host.next() {
            Next::Send(request) => host.fails(&request),
            Next::Wait(at) => host.now = at.expect("it has a time to wake"),
            other => panic!("it should have gone on: {other:?}"),
        }
        ran = host.now.since(begun);
    }
    host.completes(attempt, b"");
    let ended = host.now;
    loop {
        match host.next() {
            Next::Send(request) => {
                assert_eq!(request.finished.len(), 1, "it goes on reporting");
                host.fails(&request);
            }
            Next::Wait(at) => host.now = at.expect("it has a time to wake"),
            Next::Exit(exit) => {
                assert_eq!(exit, Departure::Lost);
                break assert_eq!(host.now.since(ended), LOST_AFTER);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_host_that_hears_of_its_server_no_more_stops_what_runs_after_an_hour_and_exits() {
    let mut host = Host::new(Wait::Forever);
    let attempt = host.begins();
    let begun = host.now;
    let stopped = loop {
        match host.next() {
            Next::Send(request) => host.fails(&request),
            Next::Wait(at) => host.now = at.expect("it has a time to wake"),
            Next::HandBack(attempts) => break attempts,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((stopped, host.now.since(begun)), (vec![attempt], ALONE_MAX));
    host.side.ended(handed_back(attempt, None), host.now);
    loop {
        match host.next() {
            Next::Send(request) => host.fails(&request),
            Next::Wait(at) => host.now = at.expect("it has a time to wake"),
            Next::Exit(exit) => break assert_eq!(exit, Departure::Lost),
            other => panic!("{other:?}"),
        }
    }
    assert!(host.now.since(begun) <= ALONE_MAX + STOP_PATIENCE, "{:?}", host.now.since(begun));
}
