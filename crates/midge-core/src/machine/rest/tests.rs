use std::time::Duration;

use midge_protocol::{MachineName, Timestamp};

use super::*;
use crate::machine::tests::machine;
use crate::{Call, CallFailure, Exit, MachineEvent, Sight};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);
const LATER: Timestamp = Timestamp::from_millis(1_005_000);

fn policy(ready_machines: u32) -> QueuePolicy {
    QueuePolicy { idle: Idle::Suspend, ready_machines, ..QueuePolicy::default() }
}

fn asleep(name: &str) -> Machine {
    Machine { sleep: Sleep::Asleep, ..machine(name, MachineState::Ready, NOW) }
}

fn after(machine: &Machine, event: MachineEvent) -> Machine {
    machine.apply(event, LATER).unwrap().machine
}

fn seen(sight: Sight) -> MachineEvent {
    MachineEvent::Seen { id: None, region: None, sight, looked_at: LATER }
}

fn not_suspended(failure: CallFailure) -> MachineEvent {
    MachineEvent::CallFailed { call: Call::Suspend, failure, note: "it has swap".into() }
}

#[test]
fn no_more_machines_rest_suspended_than_the_queue_keeps_ready() {
    let me = machine("m", MachineState::Up, NOW);
    let rests = |policy: &QueuePolicy, others: &[Machine]| may_rest(&me, policy, "g1", others.iter());
    assert!(rests(&policy(1), std::slice::from_ref(&me)), "itself is not another");
    assert!(!rests(&policy(1), &[asleep("n")]));
    assert!(!rests(&policy(1), &[machine("n", MachineState::Resting, NOW)]), "it soon will");
    assert!(rests(&policy(2), &[asleep("n")]));
    assert!(
        rests(&policy(1), &[machine("n", MachineState::Ready, NOW)]),
        "it takes the place of a stopped one"
    );
    let old = Machine { generation: "g0".into(), ..asleep("n") };
    let of_another = Machine { queue: QueueName::new("other").unwrap(), ..asleep("n") };
    assert!(rests(&policy(1), &[old, of_another]));
    assert!(!rests(&QueuePolicy { idle: Idle::Stop, ..policy(1) }, &[]));
}

#[test]
fn a_machine_that_is_to_go_does_not_rest() {
    let up = machine("m", MachineState::Up, NOW);
    for me in [
        machine("m", MachineState::Draining, NOW),
        Machine { generation: "g0".into(), ..up.clone() },
        Machine { single_use: true, ..up.clone() },
        Machine { sleep: Sleep::StaysAwake, ..up.clone() },
        Machine { drained: true, ..up },
    ] {
        assert!(!may_rest(&me, &policy(4), "g1", [].iter()), "{me:?}");
    }
}

#[test]
fn a_machine_rests_is_suspended_and_is_up_again_when_its_host_is_heard_after_a_start() {
    let resting = after(&machine("m", MachineState::Up, NOW), MachineEvent::Rests);
    assert_eq!(resting.state, MachineState::Resting);
    let heard = || MachineEvent::Heard { boot: midge_protocol::BootId(1), seq: 9, generation: "g1".into() };
    assert_eq!(after(&resting, heard()).state, MachineState::Resting, "it says that it is still there");
    let granted = MachineEvent::Granted { attempts: 1, apart: false };
    assert!(resting.apply(granted, LATER).is_err(), "nothing is given to it");
    let called = after(&resting, MachineEvent::CallBegun(Call::Suspend));
    let accepted = after(&called, MachineEvent::SuspendAccepted);
    assert_eq!((accepted.state, accepted.sleep), (MachineState::Resting, Sleep::FallsAsleep));
    let looked_at = LATER.after(Duration::from_millis(1));
    let event = MachineEvent::Seen { id: None, region: None, sight: Sight::Suspended, looked_at };
    let ready = accepted.apply(event, looked_at).unwrap().machine;
    assert_eq!((ready.state, ready.sleep), (MachineState::Ready, Sleep::Asleep));
    let starting = after(&ready, MachineEvent::CallBegun(Call::Start));
    let up = after(&starting, heard());
    assert_eq!((up.state, up.sleep), (MachineState::Up, Sleep::Awake));
}

#[test]
fn a_machine_that_cannot_be_suspended_stops_instead_says_so_and_is_not_asked_again() {
    let resting = machine("m", MachineState::Resting, NOW);
    let stays = after(&resting, not_suspended(CallFailure::NeedsPerson));
    assert_eq!((stays.state, stays.sleep), (MachineState::Draining, Sleep::StaysAwake));
    assert_eq!(stays.note.as_deref(), Some("it is not suspended, and stops instead: it has swap"));
    let left = after(&stays, MachineEvent::Left);
    let exit = Exit { code: Some(0), oom_killed: false, requested: false };
    let looked_at = LATER.after(Duration::from_millis(1));
    let stopped = MachineEvent::Seen { id: None, region: None, sight: Sight::Stopped(Some(exit)), looked_at };
    let ready = left.apply(stopped, looked_at).unwrap().machine;
    assert_eq!((ready.state, ready.sleep), (MachineState::Ready, Sleep::StaysAwake));
    let starting = after(&ready, MachineEvent::CallBegun(Call::Start));
    let heard = MachineEvent::Heard { boot: midge_protocol::BootId(2), seq: 1, generation: "g1".into() };
    assert!(!may_rest(&after(&starting, heard), &policy(4), "g1", [].iter()));
}

#[test]
fn a_suspend_that_may_work_the_next_time_is_tried_again_later() {
    let called = after(&machine("m", MachineState::Resting, NOW), MachineEvent::CallBegun(Call::Suspend));
    let failed = after(&called, not_suspended(CallFailure::Unavailable));
    assert_eq!((failed.state, failed.sleep, failed.act_failures), (MachineState::Resting, Sleep::Awake, 1));
    assert!(failed.act_at > LATER && !failed.calling);
}

#[test]
fn what_becomes_of_a_suspend_matters_no_more_once_the_machine_does_not_rest() {
    let ready = asleep("m");
    for event in [MachineEvent::SuspendAccepted, not_suspended(CallFailure::Unavailable)] {
        let then = after(&ready, event);
        assert_eq!(Machine { meter: None, ..then }, ready, "its next start would have to wait");
    }
}

#[test]
fn a_machine_that_is_suspended_while_it_is_in_use_gives_its_jobs_back() {
    for state in [MachineState::Up, MachineState::Draining] {
        let change = machine("m", state, NOW).apply(seen(Sight::Suspended), LATER).unwrap();
        assert_eq!(change.machine.state, MachineState::Destroying);
        assert!(change.loss.is_some());
    }
    let starting = machine("m", MachineState::Starting, NOW);
    assert_eq!(
        after(&starting, seen(Sight::Suspended)).state,
        MachineState::Starting,
        "it may be from before"
    );
}

#[test]
fn a_machine_that_stands_by_and_is_not_wanted_any_more_is_destroyed() {
    let resting = machine("m", MachineState::Resting, NOW);
    for event in [MachineEvent::Outdated, MachineEvent::DrainAsked] {
        assert_eq!(after(&resting, event).state, MachineState::Destroying);
    }
    assert_eq!(MachineName::new("m").unwrap(), resting.name);
}

#[test]
fn a_suspended_machine_that_is_seen_stopped_has_lost_its_memory() {
    assert_eq!(after(&asleep("m"), seen(Sight::Stopped(None))).sleep, Sleep::Awake);
}
