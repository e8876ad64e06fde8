//! The rules of the host's side of the exchange, in virtual time.

mod follow_ups;
mod lacks;
mod lost;
mod saves;
mod still;

use std::sync::atomic::{AtomicU8, Ordering};

use midge_protocol::job::AttemptLimits;
use midge_protocol::{AttemptNumber, JobId, ModuleName, QueueName};

use super::lost::{ALONE_MAX, LOST_AFTER, STOP_PATIENCE};
use super::*;

struct Host {
    side: HostSide,
    now: Timestamp,
    room: u32,
    logs: BTreeMap<AttemptRef, Vec<u8>>,
}

impl Host {
    fn new(wait: Wait) -> Host {
        let now = Timestamp::from_millis(1_000_000);
        Host { side: HostSide::new(BootId(7), wait, now), now, room: 2, logs: BTreeMap::new() }
    }

    fn next(&mut self) -> Next {
        let logs = &self.logs;
        self.side.next(self.now, self.room, &|attempt, offset, max| {
            let log = logs.get(&attempt).map(Vec::as_slice).unwrap_or_default();
            let start = (offset as usize).min(log.len());
            Bytes::copy_from_slice(&log[start..log.len().min(start + max)])
        })
    }

    fn sends(&mut self) -> Request {
        match self.next() {
            Next::Send(request) => *request,
            other => panic!("it should have sent something: {other:?}"),
        }
    }

    fn waits(&mut self) -> Option<Duration> {
        match self.next() {
            Next::Wait(at) => at.map(|at| at.since(self.now)),
            other => panic!("it should have waited: {other:?}"),
        }
    }

    fn answer(&mut self, request: &Request, answer: Answer) -> Vec<Todo> {
        self.side.answered(request.seq, answer, self.now)
    }

    fn fails(&mut self, request: &Request) {
        self.side.failed(request.seq, false, self.now);
    }

    fn passes(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }

    /// Has the server give it a job, and its parked request sent again.
    fn begins(&mut self) -> AttemptRef {
        let request = self.sends();
        let grant = grant();
        let attempt = grant.attempt;
        let todos = self.answer(&request, Answer { jobs: vec![grant], ..Answer::default() });
        assert!(matches!(todos[..], [Todo::Begin(_)]));
        attempt
    }

    fn completes(&mut self, attempt: AttemptRef, result: &'static [u8]) {
        let outcome = Outcome::Completed { result: Bytes::from_static(result) };
        self.side.ended(Finished::new(attempt, outcome, Usage::default()), self.now);
    }
}

/// Returns the attempts that a request gives back.
fn given_back(request: &Request) -> Vec<AttemptRef> {
    let back =
        request.finished.iter().filter(|finished| matches!(finished.outcome, Outcome::HandedBack { .. }));
    back.map(|finished| finished.attempt).collect()
}

/// Makes a grant of another job each time.
fn grant() -> Grant {
    static NUMBER: AtomicU8 = AtomicU8::new(0);
    let job = JobId::from_bytes([NUMBER.fetch_add(1, Ordering::Relaxed); 16]);
    Grant {
        attempt: AttemptRef::new(job, AttemptNumber(1)),
        module: ModuleName::new("hello").unwrap(),
        queue: QueueName::default_queue(),
        args: "null".to_owned(),
        input: None,
        saved: None,
        limits: AttemptLimits::default(),
        record: false,
    }
}

fn gives(grant: &Grant) -> Answer {
    Answer { jobs: vec![grant.clone()], ..Answer::default() }
}

fn nothing() -> Answer {
    Answer::default()
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_host_parks_a_request_with_its_room_and_only_one() {
    let mut host = Host::new(Wait::Forever);
    let request = host.sends();
    assert_eq!((request.seq, request.room, request.wait_ms, request.leaving), (1, 2, 10_000, false));
    host.waits();
    host.answer(&request, nothing());
    assert_eq!(host.sends().seq, 2);
}

#[test]
fn a_host_without_room_keeps_a_request_parked_for_cancellations() {
    let mut host = Host::new(Wait::Millis(0));
    let attempt = host.begins();
    host.room = 0;
    let request = host.sends();
    assert_eq!((request.room, request.wait_ms), (0, 10_000));
    assert_eq!(request.running.len(), 1);
    let todos = host.answer(&request, Answer { cancel: vec![attempt], ..Answer::default() });
    assert_eq!(todos, [Todo::Cancel(attempt)]);
}

#[test]
fn an_end_is_told_at_once_beside_the_parked_request() {
    let mut host = Host::new(Wait::Forever);
    let attempt = host.begins();
    let parked = host.sends();
    host.completes(attempt, b"yes");
    let speaks = host.sends();
    assert_eq!((speaks.wait_ms, speaks.finished.len()), (0, 1));
    assert!(speaks.seq > parked.seq && speaks.running.is_empty());
    host.waits();
    host.answer(&parked, nothing());
    host.waits();
    assert_eq!(host.answer(&speaks, nothing()), [Todo::Forget(attempt)]);
    assert!(host.sends().finished.is_empty());
}

#[test]
fn a_lost_answer_loses_no_end() {
    let mut host = Host::new(Wait::Forever);
    let attempt = host.begins();
    host.completes(attempt, b"yes");
    let first = host.sends();
    host.fails(&first);
    assert_eq!(host.waits(), Some(RETRY_FIRST));
    host.passes(RETRY_FIRST);
    let second = host.sends();
    assert!(second.seq > first.seq);
    assert_eq!(second.finished, first.finished);
    host.answer(&second, nothing());
    assert!(host.sends().finished.is_empty());
}

#[test]
fn an_end_that_comes_while_another_is_told_is_told_next() {
    let mut host = Host::new(Wait::Forever);
    let (one, two) = (host.begins(), host.begins());
    host.completes(one, b"1");
    let first = host.sends();
    host.completes(two, b"2");
    host.waits();
    host.answer(&first, nothing());
    let second = host.sends();
    assert_eq!(second.finished.iter().map(|f| f.attempt).collect::<Vec<_>>(), [two]);
}

#[test]
fn a_grant_seen_twice_runs_once() {
    let mut host = Host::new(Wait::Forever);
    let grant = grant();
    let first = host.sends();
    assert_eq!(host.answer(&first, gives(&grant)).len(), 1);
    // While it runs, while its end is told, and after.
    let second = host.sends();
    assert_eq!(host.answer(&second, gives(&grant)), []);
    let parked = host.sends();
    host.completes(grant.attempt, b"");
    let third = host.sends();
    assert_eq!(host.answer(&third, gives(&grant)), [Todo::Forget(grant.attempt)]);
    assert_eq!(host.answer(&parked, gives(&grant)), []);
    // Who answers this one knows how it ended: the job was deleted, and another enqueued under its id.
    let fourth = host.sends();
    assert_eq!(host.answer(&fourth, gives(&grant)).len(), 1);
    // So is what says that it was enqueued at another time, whoever answers; and the next attempt at the same job.
    let mut another = grant.clone();
    another.attempt.enqueued_at_ms = Some(7);
    assert_eq!(host.answer(&second, gives(&another)).len(), 1);
    let mut next = grant.clone();
    next.attempt.attempt = AttemptNumber(2);
    let fifth = host.sends();
    assert_eq!(host.answer(&fifth, gives(&next)).len(), 1);
}

#[test]
fn log_and_progress_are_told_once_a_second_and_only_what_is_new() {
    let mut host = Host::new(Wait::Forever);
    let attempt = host.begins();
    host.sends();
    host.logs.insert(attempt, b"one".to_vec());
    let progress = Progress { done: 1, total: 2, message: String::new() };
    host.side.has_news([(attempt, progress.clone())]);
    let first = host.sends();
    assert_eq!((first.log[0].offset, &first.log[0].bytes[..]), (0, &b"one"[..]));
    assert_eq!(first.running[0].progress, Some(progress));
    host.answer(&first, nothing());

    host.logs.insert(attempt, b"one two".to_vec());
    host.side.has_news([]);
    assert_eq!(host.waits(), Some(NEWS_EVERY));
    host.passes(NEWS_EVERY);
    let second = host.sends();
    assert_eq!((second.log[0].offset, &second.log[0].bytes[..]), (3, &b" two"[..]));
    assert_eq!(second.running[0].progress, None);
    host.fails(&second);
    host.passes(RETRY_MAX);
    host.completes(attempt, b"");
    // Together with the end comes all of the log that is not known to have been heard.
    let third = host.sends();
    assert_eq!((third.log[0].offset, third.finished.len()), (3, 1));
}

#[test]
fn while_somebody_follows_news_is_told_five_times_a_second_and_no_exchange_is_made_for_want_of_any() {
    let mut host = Host::new(Wait::Forever);
    let attempt = host.begins();
    let parked = host.sends();
    host.logs.insert(attempt, b"one".to_vec());
    host.side.has_news([]);
    let first = host.sends();
    host.answer(&first, Answer { followed: true, ..Answer::default() });
    assert_eq!(host.waits(), Some(ALONE_MAX), "there is nothing new");
    host.side.has_news([]);
    assert_eq!(host.waits(), Some(FOLLOWED_NEWS_EVERY));
    // What was parked before somebody followed says nothing of it.
    host.answer(&parked, nothing());
    host.sends();
    host.passes(FOLLOWED_NEWS_EVERY);
    let second = host.sends();
    host.answer(&second, nothing());
    host.side.has_news([]);
    assert_eq!(host.waits(), Some(NEWS_EVERY), "nobody follows any more");
}

#[test]
fn results_that_do_not_fit_into_one_body_go_into_the_next() {
    let mut host = Host::new(Wait::Forever);
    let request = host.sends();
    let grants: Vec<Grant> = (0..5).map(|_| grant()).collect();
    host.answer(&request, Answer { jobs: grants.clone(), ..Answer::default() });
    let result = Bytes::from(vec![0; limits::RESULT_BYTES_MAX]);
    for grant in &grants {
        let outcome = Outcome::Completed { result: result.clone() };
        host.side.ended(Finished::new(grant.attempt, outcome, Usage::default()), host.now);
    }
    let mut told = Vec::new();
    for _ in 0..3 {
        let request = host.sends();
        let bytes = midge_protocol::exchange::encode(&request).len();
        assert!(bytes <= limits::EXCHANGE_BODY_BYTES_MAX, "{bytes}");
        // What is not told yet still runs, as far as the server knows.
        assert_eq!(request.finished.len() + request.running.len() + told.len(), 5);
        told.extend(request.finished.iter().map(|finished| finished.attempt));
        host.answer(&request, nothing());
    }
    assert!(grants.iter().all(|grant| told.contains(&grant.attempt)));
}

#[test]
fn progress_counts_into_the_bound_of_a_request_and_what_does_not_fit_is_told_in_the_next() {
    let mut host = Host::new(Wait::Forever);
    let grants: Vec<Grant> = (0..u128::from(limits::PLACES_MAX))
        .map(|number| {
            let job = JobId::from_bytes(number.to_be_bytes());
            Grant { attempt: AttemptRef::new(job, AttemptNumber(1)), ..grant() }
        })
        .collect();
    let request = host.sends();
    host.answer(&request, Answer { jobs: grants.clone(), ..nothing() });
    let said = Progress { done: 1, total: 2, message: "x".repeat(limits::MESSAGE_BYTES_MAX) };
    host.side.has_news(grants.iter().map(|grant| (grant.attempt, said.clone())));
    for grant in &grants[..2] {
        host.completes(grant.attempt, &[7; limits::RESULT_BYTES_MAX]);
    }
    for grant in &grants[2..64] {
        host.logs.insert(grant.attempt, vec![7; LOG_CHUNK_BYTES_MAX - 1]);
    }
    let mut told = Vec::new();
    for _ in 0..3 {
        let request = host.sends();
        let bytes = midge_protocol::exchange::encode(&request).len();
        assert!(bytes <= limits::EXCHANGE_BODY_BYTES_MAX, "{bytes}");
        let progress = request.running.iter().filter(|running| running.progress.is_some());
        told.extend(progress.map(|running| running.attempt));
        host.answer(&request, nothing());
        host.passes(NEWS_EVERY);
    }
    assert_eq!(told.len(), grants.len() - 2);
}

#[test]
fn a_host_that_has_waited_asks_to_leave_and_exits_when_it_may() {
    let mut host = Host::new(Wait::Millis(3000));
    let first = host.sends();
    assert_eq!(first.wait_ms, 3000);
    host.passes(3 * SECOND);
    host.answer(&first, nothing());
    let asks = host.sends();
    assert!(asks.leaving && asks.running.is_empty());
    assert_eq!(asks.room, 2, "it would still take a job");
    host.answer(&asks, Answer { left: true, ..Answer::default() });
    assert_eq!(host.next(), Next::Exit(Departure::Left));
}

#[test]
fn a_host_that_gets_a_job_instead_of_leave_runs_it_and_waits_anew() {
    let mut host = Host::new(Wait::Millis(3000));
    let first = host.sends();
    host.passes(3 * SECOND);
    host.answer(&first, nothing());
    let asks = host.sends();
    let grant = grant();
    assert_eq!(host.answer(&asks, gives(&grant)).len(), 1);
    host.passes(5 * SECOND);
    host.completes(grant.attempt, b"");
    let told = host.sends();
    host.answer(&told, nothing());
    assert_eq!(host.sends().wait_ms, 3000);
}

#[test]
fn a_host_with_no_time_to_wait_asks_for_a_job_before_it_asks_to_leave() {
    let mut host = Host::new(Wait::Millis(0));
    let first = host.sends();
    assert!(!first.leaving);
    host.answer(&first, nothing());
    let asks = host.sends();
    assert!(asks.leaving);
    // A warm Machine is not let go. It does not ask again in a busy loop.
    host.answer(&asks, nothing());
    let parked = host.sends();
    assert!(!parked.leaving);
    assert_eq!(u128::from(parked.wait_ms), LEAVE_AGAIN.as_millis());
}

#[test]
fn a_host_that_waits_for_ever_never_asks_to_leave() {
    let mut host = Host::new(Wait::Forever);
    for _ in 0..100 {
        let request = host.sends();
        assert!(!request.leaving);
        host.passes(10 * SECOND);
        host.answer(&request, nothing());
    }
}

#[test]
fn a_drained_host_takes_nothing_more_finishes_and_leaves() {
    let mut host = Host::new(Wait::Forever);
    let attempt = host.begins();
    let request = host.sends();
    host.answer(&request, Answer { drain: true, ..Answer::default() });
    let parked = host.sends();
    assert_eq!((parked.room, parked.leaving), (0, false));
    host.completes(attempt, b"");
    let told = host.sends();
    assert!(!told.leaving);
    host.answer(&told, nothing());
    let asks = host.sends();
    assert!(asks.leaving && asks.room == 0);
    host.answer(&asks, Answer { left: true, ..Answer::default() });
    assert_eq!(host.next(), Next::Exit(Departure::Left));
}

#[test]
fn a_stopped_host_closes_at_once_finishes_within_the_grace_and_gives_the_rest_back() {
    let mut host = Host::new(Wait::Forever);
    let (fast, slow) = (host.begins(), host.begins());
    let parked = host.sends();
    host.side.stop(10 * SECOND, host.now);
    let closes = host.sends();
    assert_eq!((closes.room, closes.wait_ms), (0, 0));
    // A job that was already on its way is given back unbegun.
    let late = grant();
    assert_eq!(host.answer(&parked, gives(&late)), []);
    host.answer(&closes, nothing());
    let told = host.sends();
    assert_eq!(given_back(&told), [late.attempt]);
    host.answer(&told, nothing());

    host.completes(fast, b"");
    let told = host.sends();
    assert_eq!((told.finished.len(), told.running.len()), (1, 1));
    host.answer(&told, nothing());
    host.sends();
    host.passes(10 * SECOND);
    assert_eq!(host.next(), Next::HandBack(vec![slow]));
    host.side.ended(handed_back(slow, None), host.now);
    let told = host.sends();
    assert_eq!(given_back(&told), [slow]);
    host.answer(&told, nothing());
    let asks = host.sends();
    assert!(asks.leaving);
    // Let go or not: the platform wants it gone.
    host.answer(&asks, nothing());
    assert_eq!(host.next(), Next::Exit(Departure::Left));
}

#[test]
fn a_stopped_host_that_has_nothing_to_report_does_not_wait_for_a_lost_server() {
    // It is known to be lost.
    let mut host = Host::new(Wait::Forever);
    let request = host.sends();
    host.fails(&request);
    host.side.stop(10 * SECOND, host.now);
    assert_eq!(host.next(), Next::Exit(Departure::Left));
    // It is found to be lost by the goodbye.
    let mut host = Host::new(Wait::Forever);
    let parked = host.sends();
    host.side.stop(10 * SECOND, host.now);
    let goodbye = host.sends();
    host.fails(&parked);
    assert!(matches!(host.next(), Next::Wait(_)), "the goodbye may still arrive");
    host.fails(&goodbye);
    assert_eq!(host.next(), Next::Exit(Departure::Left));
    // It says nothing at all.
    let mut host = Host::new(Wait::Forever);
    host.sends();
    host.side.stop(10 * SECOND, host.now);
    host.sends();
    assert_eq!(host.waits(), Some(STOP_PATIENCE));
    host.passes(STOP_PATIENCE);
    assert_eq!(host.next(), Next::Exit(Departure::Lost));
}

#[test]
fn a_stopped_host_that_has_something_to_report_tries_for_the_whole_grace_and_no_longer() {
    let mut host = Host::new(Wait::Forever);
    let attempt = host.begins();
    host.side.stop(10 * SECOND, host.now);
    let stopped = host.now;
    host.completes(attempt, b"");
    for _ in 0..100 {
        match host.next() {
            Next::Send(request) => host.fails(&request),
            Next::Wait(at) => host.now = at.expect("it has a time to wake"),
            Next::Exit(exit) => {
                assert_eq!(exit, Departure::Lost);
                return assert_eq!(host.now.since(stopped), 10 * SECOND + STOP_PATIENCE);
            }
            other => panic!("there is nothing to give back, and time goes on: {other:?}"),
        }
    }
    panic!("it should have exited");
}

#[test]
fn retries_back_off_and_an_answer_ends_that() {
    let mut host = Host::new(Wait::Forever);
    let mut waits = Vec::new();
    for _ in 0..7 {
        let request = host.sends();
        host.fails(&request);
        waits.push(host.waits().unwrap());
        host.passes(waits[waits.len() - 1]);
    }
    assert_eq!(waits, [100, 200, 400, 800, 1600, 2000, 2000].map(Duration::from_millis));
    let request = host.sends();
    host.answer(&request, nothing());
    let request = host.sends();
    host.fails(&request);
    assert_eq!(host.waits(), Some(RETRY_FIRST));
}

#[test]
fn a_connection_that_went_stale_is_tried_again_at_once_but_not_twice() {
    let mut host = Host::new(Wait::Forever);
    let request = host.sends();
    host.side.failed(request.seq, true, host.now);
    let request = host.sends();
    host.side.failed(request.seq, true, host.now);
    assert!(host.waits().is_some());
}
