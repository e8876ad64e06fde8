use midge_protocol::job::Backoff;
use midge_protocol::limits;

use super::*;

mod again;
mod blame;
mod held;
mod links;
mod unique;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

/// What a job of the module `hello` in the default queue begins with.
pub(crate) fn new_job(id: u8, due: Timestamp) -> NewJob {
    NewJob {
        id: JobId::from_bytes([id; 16]),
        module: ModuleName::new("hello").unwrap(),
        queue: QueueName::default_queue(),
        priority: 0,
        key: None,
        labels: Labels::default(),
        content_hash: 1,
        retry: RetryPolicy { max_attempts: 3, backoff: "1s".parse().unwrap(), ..RetryPolicy::default() },
        limits: AttemptLimits::default(),
        has_own_time_limit: false,
        due,
        retry_until: None,
        expires_at: None,
        unique: None,
        links: Links::default(),
    }
}

fn job() -> Job {
    Job::new(new_job(7, NOW), NOW)
}

fn machine(name: &str) -> MachineName {
    MachineName::new(name).unwrap()
}

fn claimed(job: &Job, by: &str, now: Timestamp) -> Job {
    job.apply(JobEvent::Claimed { machine: machine(by) }, now).unwrap().job
}

fn finish(job: &Job, by: &str, attempt: u32, outcome: Outcome, now: Timestamp) -> Result<Change, JobRefused> {
    let lease = Lease { machine: machine(by), attempt: AttemptNumber(attempt) };
    job.apply(JobEvent::Finished { lease, outcome, usage: None, jitter: 0.0 }, now)
}

fn failed(cause: Cause) -> Outcome {
    Outcome::Failed(Failure::new(cause, "it did not work"))
}

fn lost(end: MachineEnd) -> JobEvent {
    JobEvent::MachineLost { machine: machine("m1"), end, note: "gone".into() }
}

const DONE: Outcome = Outcome::Completed { result: bytes::Bytes::from_static(b"ok") };

#[test]
fn a_claimed_job_completes_under_its_lease() {
    let job = claimed(&job(), "m1", NOW);
    let change = finish(&job, "m1", 1, DONE, NOW).unwrap();
    assert_eq!(change.job.state_at(NOW), State::Completed);
    assert!(change.attempt.unwrap().spent);
}

#[test]
fn a_late_report_cannot_finish_the_next_attempt() {
    let first = claimed(&job(), "m1", NOW);
    let lost = lost(MachineEnd::Own);
    let back = first.apply(lost, NOW).unwrap().job;
    let second = claimed(&back, "m2", NOW);
    assert_eq!(finish(&second, "m1", 1, DONE, NOW), Err(JobRefused::NotLeased));
    // Nor may the same Machine, under the number of its older attempt.
    let again = claimed(&back, "m1", NOW);
    assert_eq!(finish(&again, "m1", 1, DONE, NOW), Err(JobRefused::NotLeased));
    assert!(finish(&again, "m1", 2, DONE, NOW).is_ok());
}

#[test]
fn a_job_is_not_claimed_before_it_is_due_nor_twice() {
    let mut early = job();
    early.state = JobState::Waiting { due: NOW.after(Duration::from_secs(1)) };
    let claim = JobEvent::Claimed { machine: machine("m1") };
    assert!(matches!(early.apply(claim.clone(), NOW), Err(JobRefused::NotDue(_))));
    assert_eq!(early.state_at(NOW), State::Scheduled);
    let running = claimed(&job(), "m1", NOW);
    assert_eq!(running.apply(claim, NOW), Err(JobRefused::Running));
}

#[test]
fn failures_are_spent_until_the_job_is_discarded() {
    let mut job = job();
    let mut now = NOW;
    for attempt in 1..=3 {
        job = finish(&claimed(&job, "m1", now), "m1", attempt, failed(Cause::Trap), now).unwrap().job;
        if attempt < 3 {
            assert_eq!(job.state_at(now), State::Retryable);
            assert_eq!(job.due().since(now).as_millis(), 1_000 << (attempt - 1));
            now = job.due();
            assert_eq!(job.state_at(now), State::Available);
        }
    }
    assert_eq!(job.state_at(now), State::Discarded);
    assert_eq!(job.failure.as_ref().unwrap().cause, Cause::Trap);
}

#[test]
fn a_guest_that_refuses_is_not_tried_again() {
    let change = finish(&claimed(&job(), "m1", NOW), "m1", 1, failed(Cause::Refused), NOW).unwrap();
    assert_eq!(change.job.state_at(NOW), State::Discarded);
}

#[test]
fn a_guest_decides_when_it_is_retried() {
    let mut failure = Failure::new(Cause::Exit, "busy");
    failure.retry_after_ms = Some(77);
    let change = finish(&claimed(&job(), "m1", NOW), "m1", 1, Outcome::Failed(failure), NOW).unwrap();
    assert_eq!(change.job.due().since(NOW), Duration::from_millis(77));
}

#[test]
fn what_was_not_the_jobs_fault_is_not_spent() {
    let running = claimed(&job(), "m1", NOW);
    let snoozed = Outcome::Snoozed { after_ms: 9_000 };
    for end in [Outcome::HANDED_BACK, snoozed] {
        let change = finish(&running, "m1", 1, end, NOW).unwrap();
        assert_eq!((change.job.spent, change.job.attempt), (0, AttemptNumber(1)));
        assert!(!change.attempt.unwrap().spent);
    }
    for end in [MachineEnd::Own, MachineEnd::Crashed, MachineEnd::Unexplained] {
        assert_eq!(running.apply(lost(end), NOW).unwrap().job.spent, 0);
    }
}

#[test]
fn an_attempt_that_was_given_back_says_why() {
    let running = claimed(&job(), "m1", NOW);
    let message = |outcome| {
        let failure = finish(&running, "m1", 1, outcome, NOW).unwrap().attempt.unwrap().failure.unwrap();
        assert_eq!(failure.cause, Cause::HandedBack);
        failure.message
    };
    assert_eq!(message(Outcome::HANDED_BACK), "its Machine was told to stop");
    let lacks = Outcome::HandedBack { lacks: Some("no file descriptors".into()) };
    assert_eq!(message(lacks), "its Machine lacks something: no file descriptors");
    let lacks = Outcome::ModuleLacks { what: "the secret `KEY`".into() };
    assert_eq!(message(lacks), "its Machine lacks something: the secret `KEY`");
}

#[test]
fn a_job_whose_module_lacks_something_is_due_at_once_however_often_that_was() {
    let mut job = job();
    for attempt in 1..=5 {
        let lacks = Outcome::ModuleLacks { what: "the secret `KEY`".into() };
        job = finish(&claimed(&job, "m1", NOW), "m1", attempt, lacks, NOW).unwrap().job;
        assert_eq!((job.due(), job.spent, job.in_vain), (NOW, 0, 0), "it is its module's row that waits");
    }
}

#[test]
fn a_waiting_job_is_cancelled_at_once_and_a_running_one_when_its_attempt_ends() {
    let waiting = job().apply(JobEvent::CancelAsked, NOW).unwrap().job;
    assert_eq!(waiting.state_at(NOW), State::Cancelled);
    let running = claimed(&job(), "m1", NOW).apply(JobEvent::CancelAsked, NOW).unwrap().job;
    assert!(running.is_cancelling());
    for end in [Outcome::Cancelled, Outcome::HANDED_BACK, failed(Cause::Trap)] {
        assert_eq!(finish(&running, "m1", 1, end, NOW).unwrap().job.state_at(NOW), State::Cancelled);
    }
    // It was faster than the cancel.
    assert_eq!(finish(&running, "m1", 1, DONE, NOW).unwrap().job.state_at(NOW), State::Completed);
}

#[test]
fn a_retry_by_hand_gives_a_new_allowance_and_keeps_numbers_rising() {
    let refused = finish(&claimed(&job(), "m1", NOW), "m1", 1, failed(Cause::Refused), NOW).unwrap().job;
    let again = refused.apply(JobEvent::RetryAsked, NOW).unwrap().job;
    assert_eq!((again.spent, again.state_at(NOW)), (0, State::Available));
    assert_eq!(claimed(&again, "m1", NOW).attempt, AttemptNumber(2));
    assert_eq!(claimed(&job(), "m1", NOW).apply(JobEvent::RetryAsked, NOW), Err(JobRefused::Running));
}

#[test]
fn an_ended_job_refuses_reports_and_cancels() {
    let running = claimed(&job(), "m1", NOW);
    let done = finish(&running, "m1", 1, DONE, NOW).unwrap().job;
    assert_eq!(finish(&done, "m1", 1, DONE, NOW), Err(JobRefused::NotLeased));
    assert_eq!(done.apply(JobEvent::CancelAsked, NOW), Err(JobRefused::Ended(State::Completed)));
}

#[test]
fn an_attempt_that_its_host_does_not_list_is_granted_again_unless_it_is_to_be_cancelled() {
    let running = claimed(&job(), "m1", NOW);
    let unlisted =
        |by: &str| JobEvent::Unlisted { lease: Lease { machine: machine(by), attempt: AttemptNumber(1) } };
    assert_eq!(running.apply(unlisted("m1"), NOW), Err(JobRefused::ToBegin));
    let cancelling = running.apply(JobEvent::CancelAsked, NOW).unwrap().job;
    assert_eq!(cancelling.apply(unlisted("m2"), NOW), Err(JobRefused::NotLeased));
    let change = cancelling.apply(unlisted("m1"), NOW).unwrap();
    assert_eq!((change.job.state_at(NOW), change.job.spent), (State::Cancelled, 0));
    assert_eq!(change.attempt.unwrap().failure.unwrap().cause, Cause::Cancelled);
}

#[test]
fn people_are_offered_what_would_change_the_job() {
    let offered = |job: &Job| (job.view(NOW).may_cancel, job.view(NOW).may_retry);
    let running = claimed(&job(), "m1", NOW);
    let cancelling = running.apply(JobEvent::CancelAsked, NOW).unwrap().job;
    let scheduled = Job::new(new_job(8, NOW.after(Duration::from_secs(1))), NOW);
    let retryable = finish(&running, "m1", 1, failed(Cause::Trap), NOW).unwrap().job;
    let done = finish(&running, "m1", 1, DONE, NOW).unwrap().job;
    assert_eq!(offered(&job()), (true, false), "it is due already");
    assert_eq!(offered(&scheduled), (true, true));
    assert_eq!(offered(&retryable), (true, true));
    assert_eq!(offered(&running), (true, false));
    assert_eq!(offered(&cancelling), (false, false));
    assert_eq!(offered(&done), (false, true));
}

#[test]
fn a_wait_that_a_host_asks_for_has_a_bound() {
    let running = claimed(&job(), "m1", NOW);
    let latest = NOW.after(limits::PUT_OFF_MAX);
    for millis in [limits::PUT_OFF_MAX.as_millis() as u64 + 1, 253_402_300_800_000, u64::MAX] {
        let snoozed = finish(&running, "m1", 1, Outcome::Snoozed { after_ms: millis }, NOW).unwrap();
        assert_eq!(snoozed.job.due(), latest);
        let failure = Failure { retry_after_ms: Some(millis), ..Failure::new(Cause::Exit, "later") };
        let failed = finish(&running, "m1", 1, Outcome::Failed(failure), NOW).unwrap();
        assert_eq!(failed.job.due(), latest);
    }
}

#[test]
fn no_retry_policy_makes_a_time_that_cannot_be_shown() {
    for backoff in [Backoff::Sidekiq, Backoff::Exponential { base_ms: u64::MAX, cap_ms: u64::MAX }] {
        let retry = RetryPolicy { max_attempts: u32::MAX, backoff, ..RetryPolicy::default() };
        let mut job = Job::new(NewJob { retry, ..new_job(7, Timestamp::LATEST) }, Timestamp::LATEST);
        job.spent = u32::MAX - 2;
        let running = claimed(&job, "m1", Timestamp::LATEST);
        let failed = finish(&running, "m1", 1, failed(Cause::Exit), Timestamp::LATEST).unwrap();
        assert_eq!(failed.job.due(), Timestamp::LATEST);
    }
}

#[test]
fn a_result_over_its_bound_is_a_failure() {
    let running = claimed(&job(), "m1", NOW);
    let of = |bytes: usize| Outcome::Completed { result: vec![0; bytes].into() };
    let most = finish(&running, "m1", 1, of(limits::RESULT_BYTES_MAX), NOW).unwrap();
    assert_eq!(most.job.state_at(NOW), State::Completed);
    let over = finish(&running, "m1", 1, of(limits::RESULT_BYTES_MAX + 1), NOW).unwrap();
    assert_eq!(over.job.failure.map(|failure| failure.cause), Some(Cause::OverOutput));
    assert!(over.attempt.unwrap().spent);
}

#[test]
fn what_a_host_says_is_cut_to_its_bound() {
    let running = claimed(&job(), "m1", NOW);
    let long = "é".repeat(limits::MESSAGE_BYTES_MAX);
    let failure = Failure { message: long.clone(), ..Failure::new(Cause::Exit, "") };
    let change = finish(&running, "m1", 1, Outcome::Failed(failure), NOW).unwrap();
    for kept in [change.job.failure, change.attempt.unwrap().failure] {
        assert_eq!(kept.unwrap().message.len(), limits::MESSAGE_BYTES_MAX);
    }
    let lease = running.lease().unwrap().clone();
    let progress = Progress { done: u64::MAX, total: u64::MAX, message: long };
    let job = running.apply(JobEvent::Progressed { lease, progress }, NOW).unwrap().job;
    assert_eq!(job.progress.unwrap().message.len(), limits::MESSAGE_BYTES_MAX);
}

#[test]
fn a_failure_is_spent_whatever_its_host_calls_it() {
    let running = claimed(&job(), "m1", NOW);
    for cause in [Cause::Snoozed, Cause::HandedBack, Cause::MachineLost, Cause::Cancelled] {
        let change = finish(&running, "m1", 1, failed(cause.clone()), NOW).unwrap();
        assert_eq!((change.job.spent, change.job.suspicion()), (1, None));
        let kept = change.attempt.unwrap();
        assert!(kept.spent);
        assert_eq!(kept.failure.unwrap().cause.to_string(), format!("host_{cause}"));
    }
}

#[test]
fn a_job_may_be_deleted_but_while_it_runs() {
    let running = claimed(&job(), "m1", NOW);
    assert_eq!(running.may_be_deleted(), Err(JobRefused::Running));
    let ended = finish(&running, "m1", 1, DONE, NOW).unwrap().job;
    assert_eq!((job().may_be_deleted(), ended.may_be_deleted()), (Ok(()), Ok(())));
}
