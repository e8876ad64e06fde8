//! Rules about jobs whose module starts none.

use super::*;

fn held() -> Job {
    job().apply(JobEvent::Held, NOW).unwrap().job
}

#[test]
fn a_held_job_is_not_claimed_and_goes_on_as_it_was_once_it_is_released() {
    let claim = JobEvent::Claimed { machine: machine("m1") };
    assert_eq!(held().apply(claim, NOW), Err(JobRefused::Held));
    assert_eq!(held().apply(JobEvent::Held, NOW), Err(JobRefused::Held));
    assert_eq!((held().state_at(NOW), held().phase()), (State::Available, Phase::Held));
    assert_eq!(held().apply(JobEvent::Released, NOW).unwrap().job, job());
    assert_eq!(job().apply(JobEvent::Released, NOW), Err(JobRefused::NotHeld));
    let failed = finish(&claimed(&job(), "m1", NOW), "m1", 1, failed(Cause::Exit), NOW).unwrap().job;
    let due = failed.due();
    let held = failed.apply(JobEvent::Held, due).unwrap().job;
    assert_eq!(held.apply(JobEvent::Released, due).unwrap().job, failed, "it is still tried again");
}

#[test]
fn only_what_is_due_and_does_not_run_is_held() {
    let later = Job::new(new_job(1, NOW.after(Duration::from_millis(1))), NOW);
    assert_eq!(later.apply(JobEvent::Held, NOW), Err(JobRefused::NotDue(later.due())));
    assert_eq!(claimed(&job(), "m1", NOW).apply(JobEvent::Held, NOW), Err(JobRefused::Running));
    let cancelled = job().apply(JobEvent::CancelAsked, NOW).unwrap().job;
    assert_eq!(cancelled.apply(JobEvent::Held, NOW), Err(JobRefused::Ended(State::Cancelled)));
}

#[test]
fn a_held_job_can_be_cancelled_deleted_and_expire_and_no_wish_starts_it() {
    assert_eq!(held().apply(JobEvent::CancelAsked, NOW).unwrap().job.state_at(NOW), State::Cancelled);
    assert_eq!(held().may_be_deleted(), Ok(()));
    assert_eq!(held().apply(JobEvent::RetryAsked, NOW).unwrap().job, held());
    let view = held().view(NOW);
    assert_eq!((view.may_cancel, view.may_retry), (true, false));
    let expiring = Job { expires_at: Some(NOW), ..held() };
    assert!(expiring.has_expired(NOW));
    assert_eq!(expiring.apply(JobEvent::Expired, NOW).unwrap().job.state_at(NOW), State::Discarded);
}
