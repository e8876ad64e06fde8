//! Rules about trying again: which failure is the last.

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
fn a_retry_by_hand_after_retry_until_is_one_attempt() {
    let job = with(|new| new.retry_until = Some(later(20)));
    let discarded = after_failure(&job, Cause::Refused, NOW);
    let retried = discarded.apply(JobEvent::RetryAsked, later(30)).unwrap().job;
    assert_eq!(after_failure(&retried, Cause::Exit, later(30)).state_at(NOW), State::Discarded);
}
