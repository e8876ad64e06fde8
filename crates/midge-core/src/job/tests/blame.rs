//! Rules about blame: which losses are counted against a job, and what clears it; and waits of what no host can begin.

use midge_protocol::job::Suspicion;

use super::*;

/// The job after its Machine ended so while it ran.
fn after_loss(job: &Job, end: MachineEnd) -> Job {
    claimed(job, "m1", job.due()).apply(lost(end), job.due()).unwrap().job
}

fn suspect() -> Job {
    after_loss(&job(), MachineEnd::Crashed)
}

#[test]
fn a_loss_with_others_aboard_makes_a_suspect_and_is_not_counted() {
    for end in [MachineEnd::Crashed, MachineEnd::Unexplained] {
        let job = after_loss(&job(), end);
        assert_eq!((job.state_at(NOW), job.suspicion()), (State::Available, Some(Suspicion::default())));
        assert_eq!(job.view(NOW).suspicion, Some(Suspicion::default()));
    }
    // An earlier release counted losses whoever was aboard.
    let old = Job { machine_losses: 2, ..job() };
    assert_eq!(after_loss(&old, MachineEnd::Crashed).suspicion(), Some(Suspicion::default()));
}

#[test]
fn a_job_whose_machines_crash_while_it_runs_alone_is_discarded_as_poison() {
    let mut job = suspect();
    for crashes in 0..limits::MACHINE_LOSSES_MAX {
        assert_eq!((job.state_at(NOW), job.suspicion().unwrap().crashes), (State::Available, crashes));
        job = after_loss(&job, MachineEnd::Crashed);
    }
    assert_eq!(job.state_at(NOW), State::Discarded);
    assert_eq!(job.failure.unwrap().cause, Cause::MachineLost);
}

#[test]
fn losses_that_nobody_can_explain_are_held_against_a_suspect_more_slowly() {
    let mut job = suspect();
    for unexplained in 0..limits::UNEXPLAINED_LOSSES_MAX {
        assert_eq!(
            (job.state_at(NOW), job.suspicion().unwrap().unexplained),
            (State::Available, unexplained)
        );
        job = after_loss(&job, MachineEnd::Unexplained);
    }
    assert_eq!(job.state_at(NOW), State::Discarded);
}

#[test]
fn however_losses_are_mixed_a_suspect_ends() {
    let mut job = suspect();
    let mut losses = 0;
    while job.ended_at().is_none() {
        let ends = [MachineEnd::Unexplained, MachineEnd::Unexplained, MachineEnd::Own, MachineEnd::Crashed];
        let end = ends[losses as usize % ends.len()];
        job = after_loss(&job, end);
        losses += 1;
    }
    assert!(losses <= 2 * (limits::MACHINE_LOSSES_MAX + limits::UNEXPLAINED_LOSSES_MAX), "{losses}");
}

#[test]
fn a_machines_own_end_is_held_against_no_job_and_clears_none() {
    let (mut innocent, mut suspect) = (job(), suspect());
    let before = suspect.suspicion();
    for _ in 0..20 {
        innocent = after_loss(&innocent, MachineEnd::Own);
        suspect = after_loss(&suspect, MachineEnd::Own);
    }
    assert_eq!((innocent.state_at(innocent.due()), innocent.suspicion()), (State::Available, None));
    assert_eq!((suspect.state_at(suspect.due()), suspect.suspicion()), (State::Available, before));
}

#[test]
fn a_suspect_whose_attempt_ends_by_itself_is_cleared() {
    let running = claimed(&after_loss(&suspect(), MachineEnd::Crashed), "m1", NOW);
    for outcome in [DONE, failed(Cause::Trap), Outcome::Snoozed { after_ms: 1 }] {
        let job = finish(&running, "m1", 3, outcome, NOW).unwrap().job;
        assert_eq!((job.suspicion(), job.machine_losses), (None, 0), "{:?}", job.failure);
    }
    for stopped in [Outcome::HANDED_BACK, Outcome::Cancelled] {
        let job = finish(&running, "m1", 3, stopped, NOW).unwrap().job;
        assert_eq!(job.suspicion().unwrap().crashes, 1, "it was stopped: that shows nothing");
    }
}

#[test]
fn a_suspect_that_is_retried_by_hand_still_runs_alone_and_has_a_new_allowance() {
    let mut job = suspect();
    for _ in 0..limits::MACHINE_LOSSES_MAX {
        job = after_loss(&job, MachineEnd::Crashed);
    }
    let again = job.apply(JobEvent::RetryAsked, NOW).unwrap().job;
    assert_eq!(again.suspicion(), Some(Suspicion::default()));
}

#[test]
fn a_cancelled_job_ends_cancelled_however_its_machine_ended() {
    let mut job = suspect();
    for _ in 1..limits::MACHINE_LOSSES_MAX {
        job = after_loss(&job, MachineEnd::Crashed);
    }
    let cancelled = claimed(&job, "m1", NOW).apply(JobEvent::CancelAsked, NOW).unwrap().job;
    assert_eq!(cancelled.apply(lost(MachineEnd::Crashed), NOW).unwrap().job.state_at(NOW), State::Cancelled);
}

/// The job after a host gave it back, having run it for so long.
fn given_back(job: &Job, lacks: Option<&str>, ran_us: u64) -> Job {
    let running = claimed(job, "m1", job.due());
    let lease = running.lease().unwrap().clone();
    let outcome = Outcome::HandedBack { lacks: lacks.map(str::to_owned) };
    let usage = Some(Usage { ran_us, ..Usage::default() });
    let event = JobEvent::Finished { lease, outcome, usage, jitter: 0.0 };
    running.apply(event, job.due()).unwrap().job
}

#[test]
fn a_job_whose_attempts_end_through_no_doing_of_its_own_waits_ever_longer_and_is_never_discarded() {
    let ways: [fn(&Job) -> Job; 4] = [
        |job| given_back(job, None, 0),
        |job| given_back(job, None, 1_000),
        |job| given_back(job, Some("threads"), 0),
        |job| after_loss(job, MachineEnd::Own),
    ];
    let waits = |ways: &mut dyn Iterator<Item = fn(&Job) -> Job>| {
        let mut job = job();
        let waits: Vec<u64> = ways
            .take(9)
            .map(|way| {
                let before = job.due();
                job = way(&job);
                job.due().since(before).as_secs()
            })
            .collect();
        (waits, job.spent, job.is_suspect())
    };
    let expected = (vec![0, 1, 2, 4, 8, 16, 32, 60, 60], 0, false);
    for way in ways {
        assert_eq!(waits(&mut std::iter::repeat(way)), expected);
    }
    assert_eq!(waits(&mut ways.into_iter().cycle()), expected, "whatever the ways");
}

#[test]
fn an_attempt_that_ended_by_itself_begins_the_waits_anew() {
    let twice = after_loss(&given_back(&job(), None, 0), MachineEnd::Own);
    assert_eq!(twice.in_vain, 2);
    let running = claimed(&twice, "m1", twice.due());
    for outcome in [failed(Cause::Exit), Outcome::Snoozed { after_ms: 0 }] {
        let ended = finish(&running, "m1", running.attempt.0, outcome, twice.due()).unwrap().job;
        assert_eq!(ended.in_vain, 0);
    }
    let now = twice.apply(JobEvent::RetryAsked, NOW).unwrap().job;
    assert_eq!(now.due(), NOW, "somebody may know better");
}

#[test]
fn the_shortest_snooze_is_a_second() {
    for after_ms in [0, 1, 999, 1_000] {
        let snoozed =
            finish(&claimed(&job(), "m1", NOW), "m1", 1, Outcome::Snoozed { after_ms }, NOW).unwrap();
        assert_eq!(snoozed.job.due(), NOW.after(limits::SNOOZE_MIN), "{after_ms}");
    }
}
