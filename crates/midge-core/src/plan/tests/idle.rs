//! What becomes of Machines that have nothing to do.

use super::*;
use crate::{Call, CallFailure, MachineEvent};

fn name(name: &str) -> MachineName {
    MachineName::new(name).unwrap()
}

fn suspends(ready_machines: u32) -> QueuePolicy {
    QueuePolicy { idle: Idle::Suspend, ready_machines, ..QueuePolicy::default() }
}

fn ready(name: &str, sleep: Sleep) -> (Machine, u32) {
    (Machine { sleep, heard_at: Some(NOW), ..machine(name, MachineState::Ready, NOW) }, 0)
}

#[test]
fn a_machine_whose_host_stands_by_is_suspended_once() {
    let resting = machine("m1", MachineState::Resting, NOW);
    let planned = |machine: &Machine, now| plan(&view(0, suspends(1), vec![(machine.clone(), 0)]), now);
    assert_eq!(planned(&resting, NOW), [Action::Suspend(name("m1"))]);
    let called = resting.apply(MachineEvent::CallBegun(Call::Suspend), NOW).unwrap().machine;
    assert_eq!(planned(&called, NOW), [], "the call is under way");
    let accepted = called.apply(MachineEvent::SuspendAccepted, NOW).unwrap().machine;
    assert_eq!(planned(&accepted, NOW.after(Duration::from_secs(30))), [], "the rest is the Machines API's");
    let note = "no answer".to_owned();
    let failed = MachineEvent::CallFailed { call: Call::Suspend, failure: CallFailure::Unavailable, note };
    let failed = called.apply(failed, NOW).unwrap().machine;
    assert_eq!(planned(&failed, NOW.after(Duration::from_secs(1))), [Action::Suspend(name("m1"))]);
}

#[test]
fn a_machine_that_is_not_suspended_in_a_minute_stops_instead() {
    let resting = Machine { sleep: Sleep::FallsAsleep, ..machine("m1", MachineState::Resting, NOW) };
    let later = NOW.after(Duration::from_millis(60_001));
    let actions = plan(&view(0, suspends(1), vec![(resting, 0)]), later);
    assert!(
        matches!(&actions[..], [Action::StayAwake(_, why)] if why.contains("in a minute")),
        "{actions:?}"
    );
}

#[test]
fn no_other_is_made_for_one_that_soon_rests_and_none_is_destroyed_before_it_does() {
    let resting = (Machine { sleep: Sleep::FallsAsleep, ..machine("m1", MachineState::Resting, NOW) }, 0);
    assert_eq!(plan(&view(0, suspends(1), vec![resting.clone()]), NOW), []);
    let stopped = ready("m2", Sleep::Awake);
    assert_eq!(plan(&view(0, suspends(1), vec![stopped.clone(), resting]), NOW), []);
    let asleep = ready("m1", Sleep::Asleep);
    let actions = plan(&view(0, suspends(1), vec![stopped, asleep]), NOW);
    assert_eq!(actions, [Action::Destroy(name("m2"))], "it takes the place of the stopped one");
}

#[test]
fn a_suspended_machine_is_not_destroyed_for_one_that_is_being_made() {
    let preparing = (machine("m2", MachineState::Preparing, NOW), 0);
    let machines = vec![ready("m1", Sleep::Asleep), preparing];
    assert_eq!(plan(&view(0, suspends(1), machines), NOW), []);
    let made = vec![ready("m1", Sleep::Asleep), (machine("m2", MachineState::Ready, NOW), 0)];
    assert_eq!(plan(&view(0, suspends(1), made), NOW), [Action::Destroy(name("m2"))]);
}

#[test]
fn what_is_suspended_is_started_before_what_is_stopped() {
    let machines = vec![ready("m1", Sleep::Awake), ready("m2", Sleep::Asleep)];
    let actions = plan(&view(1, suspends(2), machines), NOW);
    assert_eq!(actions[0], Action::Start(name("m2")));
}

#[test]
fn where_idle_machines_are_destroyed_none_runs_twice_and_those_that_never_ran_are_kept() {
    let policy = QueuePolicy { idle: Idle::Destroy, ready_machines: 1, ..QueuePolicy::default() };
    let fresh = (machine("m2", MachineState::Ready, NOW), 0);
    for due in [0, 1] {
        let actions = plan(&view(due, policy.clone(), vec![ready("m1", Sleep::Awake), fresh.clone()]), NOW);
        assert_eq!(actions[0], Action::Destroy(name("m1")), "{due} due");
        assert!(
            !actions.contains(&Action::Start(name("m1"))) && !actions.contains(&Action::Destroy(name("m2")))
        );
    }
}

#[test]
fn an_old_one_that_stands_by_goes() {
    let old = Machine { generation: "g0".to_owned(), ..machine("m1", MachineState::Resting, NOW) };
    assert_eq!(
        plan(&view(0, suspends(1), vec![(old, 0)]), NOW),
        [Action::Drain(name("m1")), Action::Prepare { queue: queue() },]
    );
}
