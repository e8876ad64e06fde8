//! Rules about trying again: which failure is the last, and by when a job has to be started.

use std::time::Duration;

use super::*;

fn with(change: impl FnOnce(&mut NewJob)) -> Job {
    let mut new = new_job(7, NOW);
    change(&mut new);
    Job::new(new, NOW)
}

fn after_failure(job: &Job, cause: Cause, now: Timestamp) -> Job {
    let running = claimed(job, "m1", now);
    finish(&running, "m1", running.attempt.0, failed(cause), now).unwrap().job
}

fn later(millis: u64) -> Timestamp {
    NOW.after(Duration::from_millis(millis))
}

#[test]
fn a_failure_whose_next_attempt_would_be_after_retry_until_is_the_last() {
    let job = with(|new| new.retry_until = Some(later(1_000)));
    let once = after_failure(&job, Cause::Exit, NOW);
    assert_eq!(once.state, JobState::Waiting { due: later(1_000) });
    let late = after_failure(&job, Cause::Exit, later(1));
    assert_eq!((late.state_at(NOW), late.spent), (State::Discarded, 1));
    let says = late.failure.unwrap().message;
    let why = format!("; not tried again: the next attempt would be due after {}", later(1_000));
    assert!(says.ends_with(&why), "{says}");
}

#[test]
fn a_job_that_is_cancelled_is_not_said_to_be_out_of_time() {
    let job = with(|new| new.retry_until = Some(later(1)));
    let cancelled = claimed(&job, "m1", NOW).apply(JobEvent::CancelAsked, NOW).unwrap().job;
    let job = finish(&cancelled, "m1", 1, failed(Cause::Exit), later(2)).unwrap().job;
    assert_eq!(job.state_at(NOW), State::Cancelled);
    let says = job.failure.unwrap().message;
    assert!(!says.contains("not tried again"), "{says}");
}

#[test]
fn the_last_failure_is_alike_to_those_that_were_tried_again() {
    let job = with(|new| new.retry_until = Some(later(1_000)));
    let tried_again = after_failure(&job, Cause::Exit, NOW).fingerprint();
    let last = after_failure(&job, Cause::Exit, later(1));
    assert!(last.ended_at().is_some());
    assert_eq!((last.fingerprint(), tried_again.is_some()), (tried_again, true));
}

#[test]
fn what_is_not_spent_goes_on_after_retry_until() {
    let job = with(|new| new.retry_until = Some(NOW));
    let running = claimed(&job, "m1", later(1));
    for outcome in [Outcome::Snoozed { after_ms: 5 }, Outcome::HANDED_BACK] {
        let job = finish(&running, "m1", 1, outcome, later(2)).unwrap().job;
        assert!(matches!(job.state, JobState::Waiting { .. }));
    }
}

#[test]
fn a_cause_without_backoff_discards_at_once_also_where_the_guest_asks_to_be_tried_again() {
    let job = with(|new| {
        new.retry.backoff_by_cause = [(Cause::Trap, Backoff::None)].into();
    });
    assert_eq!(after_failure(&job, Cause::Trap, NOW).state_at(NOW), State::Discarded);
    assert!(matches!(after_failure(&job, Cause::Exit, NOW).state, JobState::Waiting { .. }));
    let failure = Failure { retry_after_ms: Some(5), ..Failure::new(Cause::Trap, "later") };
    let change = finish(&claimed(&job, "m1", NOW), "m1", 1, Outcome::Failed(failure), NOW).unwrap();
    assert_eq!(change.job.state_at(NOW), State::Discarded);
}

#[test]
fn a_job_is_not_started_from_the_time_that_it_expires() {
    let job = with(|new| new.expires_at = Some(later(10)));
    let claim = |now| job.apply(JobEvent::Claimed { machine: machine("m1") }, now);
    assert!(claim(later(9)).is_ok());
    assert_eq!(claim(later(10)), Err(JobRefused::Expired(later(10))));
    assert_eq!((job.has_expired(later(9)), job.has_expired(later(10))), (false, true));
}

#[test]
fn a_job_that_expires_is_discarded_with_its_cause_and_nothing_is_spent() {
    let job = with(|new| new.expires_at = Some(later(10)));
    assert_eq!(job.apply(JobEvent::Expired, later(9)), Err(JobRefused::NotExpired));
    let change = job.apply(JobEvent::Expired, later(11)).unwrap();
    assert_eq!((change.job.state_at(NOW), change.attempt), (State::Discarded, None));
    assert_eq!((change.job.spent, change.job.attempt.0), (0, 0));
    let failure = change.job.failure.unwrap();
    assert_eq!(failure.cause, Cause::Expired);
    assert!(failure.message.contains(&later(10).to_string()), "{}", failure.message);
}

#[test]
fn only_the_first_start_counts_so_a_retry_never_expires() {
    let job = with(|new| new.expires_at = Some(later(10)));
    let waits = after_failure(&job, Cause::Exit, NOW);
    let handed_back = finish(&claimed(&job, "m1", NOW), "m1", 1, Outcome::HANDED_BACK, NOW).unwrap().job;
    for job in [waits, handed_back] {
        let now = later(5_000);
        assert_eq!((job.expiry(), job.apply(JobEvent::Expired, now)), (None, Err(JobRefused::NotExpired)));
        assert!(job.apply(JobEvent::Claimed { machine: machine("m1") }, now).is_ok());
    }
}

#[test]
fn a_job_that_runs_or_has_ended_does_not_expire() {
    let job = with(|new| new.expires_at = Some(later(10)));
    let running = claimed(&job, "m1", NOW);
    let cancelled = job.apply(JobEvent::CancelAsked, NOW).unwrap().job;
    for job in [running, cancelled] {
        assert_eq!(job.apply(JobEvent::Expired, later(11)), Err(JobRefused::NotExpired));
    }
}

#[test]
fn a_retry_by_hand_takes_the_expiry_away_and_leaves_retry_until() {
    let job = with(|new| {
        new.expires_at = Some(later(10));
        new.retry_until = Some(later(20));
    });
    let expired = job.apply(JobEvent::Expired, later(10)).unwrap().job;
    let retried = expired.apply(JobEvent::RetryAsked, later(30)).unwrap().job;
    assert_eq!((retried.expires_at, retried.retry_until), (None, Some(later(20))));
    assert_eq!(after_failure(&retried, Cause::Exit, later(30)).state_at(NOW), State::Discarded);
}
