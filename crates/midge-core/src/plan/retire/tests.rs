use super::*;
use crate::machine::tests::machine;

const NOW: Timestamp = Timestamp::from_millis(100_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

fn policy() -> QueuePolicy {
    QueuePolicy { max_age_ms: Some(HOUR.as_millis() as u64), warm_machines: 2, ..QueuePolicy::default() }
}

fn aged(name: &str, state: MachineState, age: Duration) -> Machine {
    let machine = machine(name, state, NOW);
    Machine { made_at: Some(NOW.before(age)), heard_at: Some(NOW), ..machine }
}

/// Returns the names of those that are retired or destroyed.
fn retired(policy: &QueuePolicy, machines: &[(Machine, u32)]) -> Vec<String> {
    let fleet = QueueFleet { machines: machines.iter().collect() };
    let rests = |machine: &&Machine| machine.state == MachineState::Ready;
    let mut resting = machines.iter().map(|(machine, _)| machine).filter(rests).collect();
    let actions = retire(&fleet, &mut resting, policy, NOW).into_iter().map(|action| match action {
        Action::Retire(name, _) | Action::Destroy(name) => name.to_string(),
        other => panic!("{other:?}"),
    });
    actions.collect()
}

#[test]
fn of_machines_over_their_age_one_goes_at_a_time_and_only_where_the_others_keep_the_queue_warm() {
    let old = |name| (aged(name, MachineState::Up, HOUR * 3 / 2), 0);
    let young = (aged("m3", MachineState::Up, HOUR / 2), 0);
    assert_eq!(retired(&policy(), &[old("m1"), old("m2"), young.clone()]), ["m1"]);
    let going = (Machine { retired: true, ..aged("m1", MachineState::Draining, HOUR * 2) }, 0);
    assert_eq!(retired(&policy(), &[going, old("m2"), young.clone()]), [""; 0], "the one before is not gone");
    assert_eq!(retired(&policy(), &[old("m1")]), [""; 0], "one of two that are to be warm is missing");
    assert_eq!(retired(&policy(), &[young]), [""; 0]);
}

#[test]
fn a_busy_machine_goes_on_until_it_is_idle_or_twice_as_old() {
    let up = |age| vec![(aged("m1", MachineState::Up, age), 1), (aged("m2", MachineState::Up, HOUR / 2), 1)];
    assert_eq!(retired(&policy(), &up(HOUR * 3 / 2)), [""; 0]);
    assert_eq!(retired(&policy(), &up(HOUR * 5 / 2)), ["m1"]);
}

#[test]
fn one_that_rests_goes_at_its_age_where_the_pool_is_full() {
    let policy = QueuePolicy { ready_machines: 2, warm_machines: 0, ..policy() };
    let ready = |name| (aged(name, MachineState::Ready, HOUR * 2), 0);
    assert_eq!(retired(&policy, &[ready("m1"), ready("m2")]), ["m1"]);
    assert_eq!(retired(&policy, &[ready("m1")]), [""; 0], "the one before has no successor yet");
}

#[test]
fn without_an_age_none_is_too_old_and_a_row_of_before_is_as_old_as_its_state() {
    let ancient = [(aged("m1", MachineState::Up, HOUR * 10_000), 0)];
    let policy_of = |max_age_ms| QueuePolicy { max_age_ms, warm_machines: 0, ..QueuePolicy::default() };
    assert_eq!(retired(&policy_of(None), &ancient), [""; 0]);
    let before = [(Machine { made_at: None, ..machine("m1", MachineState::Up, NOW.before(HOUR * 2)) }, 0)];
    assert_eq!(retired(&policy_of(Some(3_600_000)), &before), ["m1"]);
}

#[test]
fn what_was_made_otherwise_is_replaced_once_it_is_idle() {
    let policy = QueuePolicy { jobs_per_machine: 7, ..QueuePolicy::default() };
    assert_eq!(retired(&policy, &[(machine("m1", MachineState::Up, NOW), 1)]), [""; 0]);
    assert_eq!(retired(&policy, &[(machine("m1", MachineState::Up, NOW), 0)]), ["m1"]);
}
