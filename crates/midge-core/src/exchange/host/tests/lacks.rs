//! What a host does that lacks something: for any job, or for those of one module.

use super::*;

#[test]
fn a_host_that_lacks_something_gives_back_what_it_cannot_run_says_why_and_leaves_when_the_rest_has_ended() {
    let lacks = || Some("no thread can be started".to_owned());
    let reasons = |request: &Request| -> Vec<Outcome> {
        request.finished.iter().map(|finished| finished.outcome.clone()).collect()
    };
    for ended in [false, true] {
        let mut host = Host::new(Wait::Forever);
        let (runs, cannot) = (host.begins(), host.begins());
        let parked = host.sends();
        if ended {
            host.side.ended(handed_back(cannot, lacks()), host.now);
        } else {
            host.side.could_not_begin(cannot, NotBegun::Lacks(lacks().unwrap()), host.now);
        }
        let told = host.sends();
        assert_eq!(told.room, 0, "it takes nothing more");
        assert_eq!(reasons(&told), [Outcome::HandedBack { lacks: lacks() }]);
        // What was on its way is given back for the same reason.
        let late = grant();
        assert_eq!(host.answer(&parked, gives(&late)), []);
        host.answer(&told, nothing());
        let told = host.sends();
        assert_eq!(
            (given_back(&told), reasons(&told)),
            (vec![late.attempt], vec![Outcome::HandedBack { lacks: lacks() }])
        );
        host.answer(&told, nothing());
        // What runs is not its fault.
        assert!(!host.sends().leaving);
        host.completes(runs, b"");
        let told = host.sends();
        host.answer(&told, nothing());
        let asks = host.sends();
        assert!(asks.leaving && asks.room == 0);
        // Even a Machine that is to be kept warm: it is of no use.
        host.answer(&asks, nothing());
        assert_eq!(host.next(), Next::Exit(Departure::Left));
    }
}

#[test]
fn a_host_that_lacks_something_while_nothing_runs_tells_at_once_that_it_takes_nothing_and_leaves() {
    let mut host = Host::new(Wait::Forever);
    let parked = host.sends();
    assert!(host.side.lacks("calls do not return".to_owned()));
    assert!(!host.side.lacks("threads".to_owned()), "the first reason counts");
    let tells = host.sends();
    assert_eq!((tells.room, tells.wait_ms), (0, 0));
    host.answer(&tells, nothing());
    let asks = host.sends();
    assert!(asks.leaving);
    host.answer(&parked, nothing());
    host.answer(&asks, nothing());
    assert_eq!(host.next(), Next::Exit(Departure::Left));
}

#[test]
fn a_host_whose_places_were_only_taken_stays_and_asks_for_nothing_for_a_while() {
    let mut host = Host::new(Wait::Forever);
    let attempt = host.begins();
    let begun = host.now;
    host.side.could_not_begin(attempt, NotBegun::NoRoom, begun);
    let told = host.sends();
    assert_eq!((given_back(&told), told.room), (vec![attempt], 0));
    host.answer(&told, nothing());
    let parked = host.sends();
    assert_eq!((parked.room, parked.leaving), (0, false));
    let Next::Wait(Some(at)) = host.next() else { panic!("it asks again before the wait is over") };
    assert_eq!(at, begun.after(NO_ROOM));
    host.now = at;
    let asks = host.sends();
    assert_eq!((asks.room, asks.wait_ms), (2, 0), "the one that is parked asks for nothing");
}

#[test]
fn a_host_that_lacks_something_for_one_module_goes_on_with_others() {
    let mut host = Host::new(Wait::Forever);
    let (runs, cannot) = (host.begins(), host.begins());
    let parked = host.sends();
    let what = "the secret `KEY`".to_owned();
    host.side.could_not_begin(cannot, NotBegun::ModuleLacks(what.clone()), host.now);
    let told = host.sends();
    let outcomes: Vec<Outcome> = told.finished.iter().map(|finished| finished.outcome.clone()).collect();
    assert_eq!((outcomes, told.room), (vec![Outcome::ModuleLacks { what }], 2));
    host.answer(&told, nothing());
    let next = grant();
    let todos = host.answer(&parked, gives(&next));
    assert!(matches!(&todos[..], [Todo::Begin(begins)] if begins.attempt == next.attempt), "{todos:?}");
    host.completes(runs, b"");
    assert!(!host.sends().leaving);
}
