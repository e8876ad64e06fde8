//! Rules about jobs of which there is one at a time.

use midge_protocol::api::{Conflict, OnConflict, UniqueState, UniqueStates};

use super::*;
use crate::{Met, UniqueHold, UniqueKey};

fn hold(states: &[UniqueState], until: Option<Timestamp>) -> UniqueHold {
    UniqueHold { key: UniqueKey([0xa7; 16]), states: UniqueStates(states.iter().copied().collect()), until }
}

fn unique(id: u8, due: Timestamp, hold: UniqueHold) -> Job {
    Job::new(NewJob { unique: Some(hold), ..new_job(id, due) }, NOW)
}

fn until_it_ended() -> UniqueHold {
    hold(&[UniqueState::Waiting, UniqueState::Running], None)
}

fn later(secs: u64) -> Timestamp {
    NOW.after(Duration::from_secs(secs))
}

#[test]
fn a_job_gives_its_key_up_where_it_is_in_no_state_that_was_chosen_and_never_takes_it_again() {
    let only_waiting = unique(1, NOW, hold(&[UniqueState::Waiting], None));
    assert!(only_waiting.unique.is_some());
    let running = claimed(&only_waiting, "m1", NOW);
    assert_eq!(running.unique, None);
    let waiting = finish(&running, "m1", 1, failed(Cause::Exit), NOW).unwrap().job;
    assert_eq!((waiting.phase(), waiting.unique), (Phase::Retrying, None), "it is never taken again");

    let running = claimed(&unique(1, NOW, until_it_ended()), "m1", NOW);
    assert!(running.unique.is_some());
    let failed = finish(&running, "m1", 1, failed(Cause::Exit), NOW).unwrap().job;
    assert!(failed.unique.is_some(), "it is tried again");
    let done = finish(&running, "m1", 1, DONE, NOW).unwrap().job;
    assert_eq!(done.unique, None);
    let again = done.apply(JobEvent::RetryAsked, NOW).unwrap().job;
    assert_eq!(again.unique, None, "another may hold it by now");

    let kept = hold(&[UniqueState::Waiting, UniqueState::Running, UniqueState::Completed], None);
    let running = claimed(&unique(1, NOW, kept), "m1", NOW);
    assert!(finish(&running, "m1", 1, DONE, NOW).unwrap().job.unique.is_some());
    let cancelled = unique(1, NOW, until_it_ended()).apply(JobEvent::CancelAsked, NOW).unwrap().job;
    assert_eq!(cancelled.unique, None);
}

#[test]
fn a_job_keeps_its_key_for_the_time_that_was_said_and_no_longer() {
    let there = unique(1, later(60), hold(&[UniqueState::Waiting], Some(later(10))));
    let new = unique(2, NOW, until_it_ended());
    let now = NOW.after(Duration::from_millis(9_999));
    let stays = Met::Stays(Box::new(there.clone()), Conflict::Kept);
    assert_eq!(there.met_by(&new, OnConflict::Keep, now), stays);
    let over = Met::Over(Box::new(Job { unique: None, ..there.clone() }));
    assert_eq!(there.met_by(&new, OnConflict::PushBack, later(10)), over);
    assert_eq!(there.view(later(9)).unique.unwrap().until, Some(later(10)));
    assert_eq!(there.view(later(10)).unique, None);
}

#[test]
fn a_job_that_waits_is_pushed_back_and_never_forward() {
    let there = unique(1, later(60), until_it_ended());
    let new = |due| Job {
        expires_at: Some(later(100)),
        retry_until: Some(later(200)),
        ..unique(2, due, until_it_ended())
    };
    let met = |due| match there.met_by(&new(due), OnConflict::PushBack, NOW) {
        Met::Stays(job, Conflict::PushedBack) => *job,
        other => panic!("{other:?}"),
    };
    assert_eq!(met(later(90)).due(), later(90));
    assert_eq!(met(later(30)).due(), later(60));
    let pushed = met(later(90));
    assert_eq!(
        (pushed.id, pushed.expires_at, pushed.retry_until),
        (there.id, Some(later(100)), Some(later(200)))
    );
    assert_eq!(pushed.unique, there.unique);
    let held = unique(1, NOW, until_it_ended()).apply(JobEvent::Held, NOW).unwrap().job;
    let Met::Stays(job, _) = held.met_by(&new(later(5)), OnConflict::ReplaceAndPushBack, NOW) else {
        panic!()
    };
    assert_eq!((job.phase(), job.due()), (Phase::Fresh, later(5)), "it is held again once it is due");
}

#[test]
fn what_runs_or_has_ended_is_kept_as_it_is_whatever_was_asked_for() {
    let all = hold(
        &[UniqueState::Waiting, UniqueState::Running, UniqueState::Completed, UniqueState::Discarded],
        None,
    );
    let new = unique(2, later(60), all.clone());
    let running = claimed(&unique(1, NOW, all), "m1", NOW);
    let completed = finish(&running, "m1", 1, DONE, NOW).unwrap().job;
    let discarded = finish(&running, "m1", 1, failed(Cause::Refused), NOW).unwrap().job;
    for there in [running, completed, discarded] {
        for on_conflict in
            [OnConflict::Keep, OnConflict::Replace, OnConflict::PushBack, OnConflict::ReplaceAndPushBack]
        {
            let stays = Met::Stays(Box::new(there.clone()), Conflict::Kept);
            assert_eq!(there.met_by(&new, on_conflict, NOW), stays);
        }
    }
    let waiting = unique(1, NOW, until_it_ended());
    let met = |on_conflict| match waiting.met_by(&new, on_conflict, NOW) {
        Met::Stays(job, conflict) => (job.due(), conflict),
        Met::Over(_) => panic!("it holds its key"),
    };
    assert_eq!(met(OnConflict::Keep), (NOW, Conflict::Kept));
    assert_eq!(met(OnConflict::Replace), (NOW, Conflict::Replaced));
    assert_eq!(met(OnConflict::ReplaceAndPushBack), (later(60), Conflict::ReplacedAndPushedBack));
}

#[test]
fn a_job_that_waits_for_others_is_pushed_back_and_goes_on_waiting_for_them() {
    let mut there = unique(1, later(60), until_it_ended()).pending();
    assert_eq!(there.phase().unique_state(), UniqueState::Waiting);
    let new = Job {
        expires_at: Some(later(100)),
        retry_until: Some(later(200)),
        ..unique(2, later(90), until_it_ended())
    };
    let met = |there: &Job, then| match there.met_by(&new, then, NOW) {
        Met::Stays(job, conflict) => (*job, conflict),
        over => panic!("{over:?}"),
    };
    assert_eq!(met(&there, OnConflict::Replace), (there.clone(), Conflict::Replaced));
    let (pushed, conflict) = met(&there, OnConflict::ReplaceAndPushBack);
    assert_eq!(
        (pushed.phase(), pushed.due(), conflict),
        (Phase::Pending, later(90), Conflict::ReplacedAndPushedBack)
    );
    assert_eq!((pushed.expires_at, pushed.retry_until), (Some(later(100)), Some(later(200))));
    there.retry.retry_for_ms = Some(5_000);
    let (pushed, _) = met(&there, OnConflict::PushBack);
    let started = pushed.apply(JobEvent::Met, later(95)).unwrap().job;
    assert_eq!(
        (started.due(), started.retry_until),
        (later(95), Some(later(100))),
        "from when it waits for nothing"
    );
    let unmet = there.apply(JobEvent::Unmet { why: String::new() }, NOW).unwrap().job;
    assert_eq!(unmet.unique, None);
}
