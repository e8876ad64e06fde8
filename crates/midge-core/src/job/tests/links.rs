//! Rules about jobs that wait for others.

use midge_protocol::job::AfterFailed;

use super::*;

fn pending() -> Job {
    job().pending()
}

fn unmet() -> JobEvent {
    JobEvent::Unmet { why: DependencyEnd::Discarded.why(JobId::from_bytes([9; 16])) }
}

#[test]
fn a_job_that_waits_for_others_is_not_claimed_until_all_of_them_are_met() {
    let claim = JobEvent::Claimed { machine: machine("m1") };
    assert_eq!(pending().apply(claim.clone(), NOW), Err(JobRefused::Pending));
    assert_eq!(pending().apply(JobEvent::Held, NOW), Err(JobRefused::Pending));
    assert_eq!((pending().state_at(NOW), pending().phase()), (State::Pending, Phase::Pending));
    let later = NOW.after(Duration::from_secs(5));
    let met = pending().apply(JobEvent::Met, later).unwrap().job;
    assert_eq!((met.due(), met.state_at(later)), (later, State::Available), "it waits from now on");
    assert!(met.apply(claim, later).is_ok());
}

#[test]
fn a_job_that_is_to_run_later_still_does_once_it_waits_for_nothing() {
    let later = NOW.after(Duration::from_secs(60));
    let met = Job::new(new_job(7, later), NOW).pending().apply(JobEvent::Met, NOW).unwrap().job;
    assert_eq!((met.due(), met.state_at(NOW)), (later, State::Scheduled));
}

#[test]
fn a_job_whose_dependency_failed_is_cancelled_with_the_reason() {
    let job = pending().apply(unmet(), NOW).unwrap().job;
    let failure = job.failure.as_ref().unwrap();
    assert_eq!((job.state_at(NOW), &failure.cause, job.spent), (State::Cancelled, &Cause::Unmet, 0));
    let id = JobId::from_bytes([9; 16]);
    assert_eq!(failure.message, format!("it was to run after job {id}, which was discarded"));
    let retried = job.apply(JobEvent::RetryAsked, NOW).unwrap().job;
    assert_eq!(retried.state_at(NOW), State::Available, "who asks for it knows");
}

#[test]
fn only_a_job_that_waits_for_others_hears_of_them() {
    let running = claimed(&job(), "m1", NOW);
    let ended = job().apply(JobEvent::CancelAsked, NOW).unwrap().job;
    for job in [job(), running, ended] {
        assert_eq!(job.apply(JobEvent::Met, NOW), Err(JobRefused::NotPending));
        assert_eq!(job.apply(unmet(), NOW), Err(JobRefused::NotPending));
    }
}

#[test]
fn what_the_end_of_a_job_means_is_said_by_the_one_that_waits() {
    let means = |after_failed, end| Links { after_failed, ..Links::default() }.dependency(end);
    for end in DependencyEnd::ALL {
        let otherwise = |other| if end == DependencyEnd::Completed { Dependency::Met } else { other };
        assert_eq!(means(AfterFailed::Cancel, end), otherwise(Dependency::Failed), "{end:?}");
        assert_eq!(means(AfterFailed::GoOn, end), Dependency::Met, "{end:?}");
    }
    let waits = DependencyEnd::ALL.map(|end| means(AfterFailed::Wait, end));
    assert_eq!(waits, [Dependency::Met, Dependency::Open, Dependency::Open, Dependency::Failed]);
}

#[test]
fn a_job_that_waits_for_others_can_be_cancelled_deleted_started_by_hand_and_expires() {
    assert_eq!(pending().apply(JobEvent::CancelAsked, NOW).unwrap().job.state_at(NOW), State::Cancelled);
    assert_eq!(pending().may_be_deleted(), Ok(()));
    let later = NOW.after(Duration::from_secs(5));
    let started = pending().apply(JobEvent::RetryAsked, later).unwrap().job;
    assert_eq!((started.due(), started.phase()), (later, Phase::Fresh));
    let expiring = Job { expires_at: Some(NOW), ..pending() };
    assert!(expiring.has_expired(NOW));
    assert_eq!(expiring.apply(JobEvent::Expired, NOW).unwrap().job.state_at(NOW), State::Discarded);
}

#[test]
fn a_job_that_waits_for_others_is_tried_again_for_as_long_as_one_that_does_not() {
    let mut job = pending();
    job.retry.retry_for_ms = Some(60_000);
    let later = NOW.after(Duration::from_secs(3_600));
    for event in [JobEvent::Met, JobEvent::RetryAsked] {
        let met = job.apply(event, later).unwrap().job;
        assert_eq!(met.retry_until, Some(later.after(Duration::from_secs(60))));
        assert_eq!(met.retry.retry_for_ms, None);
    }
}

#[test]
fn jobs_that_enqueue_each_the_next_at_once_have_an_end_and_those_that_rest_have_none() {
    let mut job = job();
    let at_once = |job: &Job| job.depth_of_next(NOW, NOW);
    for depth in 1..=limits::FOLLOW_UP_DEPTH_MAX {
        assert_eq!(at_once(&job), Ok(depth));
        job.links.depth = depth;
    }
    let error = at_once(&job).unwrap_err();
    assert!(error.to_string().contains("more than 1000 jobs in a row"), "{error}");
    let later = |millis| job.depth_of_next(NOW.after(Duration::from_millis(millis)), NOW);
    assert_eq!((later(999), later(1_000)), (Err(error), Ok(0)));
}
