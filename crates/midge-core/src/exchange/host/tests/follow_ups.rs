//! What attempts enqueue, and how much of that goes into one request.

use midge_protocol::exchange::{FollowUp, encode};

use super::*;

fn jobs(count: usize, input: usize) -> Vec<FollowUp> {
    let input = (input > 0).then(|| Bytes::from(vec![0; input]));
    vec![FollowUp { id: JobId::from_bytes([1; 16]), request: "{}".to_owned(), input }; count]
}

fn ends(host: &mut Host, attempt: AttemptRef, result: usize, jobs: Vec<FollowUp>) {
    let outcome = Outcome::Completed { result: vec![0; result].into() };
    host.side.ended(Finished { jobs, ..Finished::new(attempt, outcome, Usage::default()) }, host.now);
}

/// Has the server give a host so many jobs.
fn begins(host: &mut Host, count: u32) -> Vec<AttemptRef> {
    let attempts: Vec<AttemptRef> = (1..=count)
        .map(|number| AttemptRef::new(JobId::from_bytes([9; 16]), AttemptNumber(number)))
        .collect();
    host.room = count;
    let request = host.sends();
    let jobs = attempts.iter().map(|attempt| Grant { attempt: *attempt, ..grant() }).collect();
    host.answer(&request, Answer { jobs, ..Answer::default() });
    attempts
}

#[test]
fn what_an_attempt_enqueues_is_said_with_its_end_until_that_is_heard() {
    let mut host = Host::new(Wait::Forever);
    let attempt = host.begins();
    host.sends();
    ends(&mut host, attempt, 0, jobs(2, 3));
    let lost = host.sends();
    assert_eq!(lost.finished[0].jobs, jobs(2, 3));
    host.fails(&lost);
    host.passes(RETRY_FIRST);
    let again = host.sends();
    assert_eq!(again.finished, lost.finished);
    assert_eq!(host.answer(&again, nothing()), [Todo::Forget(attempt)]);
}

#[test]
fn the_largest_end_fits_a_body_and_no_request_enqueues_more_than_one_attempt_may() {
    let mut host = Host::new(Wait::Forever);
    let attempts = begins(&mut host, 5);
    let (most, bytes) = (limits::FOLLOW_UPS_MAX, limits::FOLLOW_UP_BYTES_MAX / limits::FOLLOW_UPS_MAX);
    ends(&mut host, attempts[0], limits::RESULT_BYTES_MAX, jobs(most, bytes - 2));
    ends(&mut host, attempts[1], 0, jobs(most, 0));
    ends(&mut host, attempts[2], 0, jobs(most - 10, 0));
    ends(&mut host, attempts[3], 0, jobs(10, 0));
    ends(&mut host, attempts[4], 0, jobs(10, 0));
    let mut said = Vec::new();
    while said.len() < attempts.len() {
        let request = host.sends();
        assert_eq!(request.check(), Ok(()));
        let body = encode(&request).len();
        assert!(body <= limits::EXCHANGE_BODY_BYTES_MAX, "{body}");
        let ended = request.finished.iter().map(|finished| finished.attempt);
        said.push(ended.collect::<Vec<_>>());
        host.answer(&request, nothing());
        if said.concat().len() == attempts.len() {
            break;
        }
    }
    assert_eq!(said[0], attempts[..1]);
    assert_eq!(said[1], attempts[1..2]);
    assert_eq!(said[2], attempts[2..4], "as many as fit");
    assert_eq!(said[3], attempts[4..]);
}
