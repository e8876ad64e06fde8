use midge_protocol::manifest::QueuePolicy;
use midge_protocol::{BootId, MachineId, QueueName};

use crate::machine::tests::machine as machine_of_default;
use crate::plan::{Action, QueueDemand, View, plan};
use crate::{Call, Machine, MachineEvent, MachineState};

use super::*;

const NOW: Timestamp = Timestamp::from_millis(10_000_000);

fn machine(name: &str, queue: &str, state: MachineState) -> Machine {
    let machine = machine_of_default(name, state, NOW);
    let heard_at = matches!(state, MachineState::Up | MachineState::Draining).then_some(NOW);
    Machine { queue: QueueName::new(queue).unwrap(), boot: Some(BootId(1)), heard_at, ..machine }
}

fn demand(queue: &str, due: u64) -> QueueDemand {
    let policy = QueuePolicy { max_machines: 100, jobs_per_machine: 1, ..QueuePolicy::default() };
    QueueDemand {
        queue: QueueName::new(queue).unwrap(),
        policy,
        due,
        paused: false,
        suspects: 0,
        oldest_due: Some(NOW),
    }
}

fn view(max_machines: u32, queues: Vec<QueueDemand>, machines: Vec<(Machine, u32)>) -> View {
    let (generation, up_since) = ("g1".to_owned(), Timestamp::default());
    View { generation, up_since, max_machines, queues, machines, strays: Vec::new() }
}

/// Returns how many Machines are begun for each queue.
fn begun(actions: &[Action]) -> Vec<(String, usize)> {
    let mut queues: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    for action in actions {
        if let Action::Boot { queue } | Action::Prepare { queue } = action {
            *queues.entry(queue.to_string()).or_default() += 1;
        }
    }
    queues.into_iter().collect()
}

/// Returns the names of the Machines that give way.
fn give_way(actions: &[Action]) -> Vec<&str> {
    let given = actions.iter().filter_map(|action| match action {
        Action::GiveWay(name) | Action::Destroy(name) | Action::GiveUp(name, _) => Some(name.as_str()),
        _ => None,
    });
    given.collect()
}

#[test]
fn sixty_queues_have_no_more_machines_than_the_server_may() {
    let queues: Vec<QueueDemand> = (0..60).map(|n| demand(&format!("q{n:02}"), 1_000)).collect();
    let total = |actions: &[Action]| begun(actions).iter().map(|(_, count)| count).sum::<usize>();
    assert_eq!(total(&plan(&view(20, queues.clone(), vec![]), NOW)), 20);
    let states = [
        MachineState::Creating,
        MachineState::Preparing,
        MachineState::Ready,
        MachineState::Starting,
        MachineState::Up,
        MachineState::Draining,
        MachineState::Left,
        MachineState::Resting,
        MachineState::Destroying,
    ];
    for state in states {
        let there = (0..15).map(|n| (machine(&format!("m{n}"), "gone", state), 1)).collect();
        assert_eq!(total(&plan(&view(20, queues.clone(), there), NOW)), 5, "one that is {state:?} counts");
    }
    let gone = (0..15).map(|n| (machine(&format!("m{n}"), "q00", MachineState::Gone), 0)).collect();
    assert_eq!(total(&plan(&view(20, queues, gone), NOW)), 20);
}

#[test]
fn room_goes_to_the_queue_that_has_the_fewest_machines() {
    let three = vec![demand("many", 1_000), demand("one", 1), demand("some", 3)];
    let shares = [("many", 5), ("one", 1), ("some", 3)].map(|(name, count)| (name.to_owned(), count));
    assert_eq!(begun(&plan(&view(9, three.clone(), vec![]), NOW)), shares);
    let up = (0..6).map(|n| (machine(&format!("m{n}"), "many", MachineState::Up), 1)).collect();
    let shares = [("one", 1), ("some", 2)].map(|(name, count)| (name.to_owned(), count));
    assert_eq!(begun(&plan(&view(9, three, up), NOW)), shares, "it has six already");
}

#[test]
fn waiting_jobs_come_before_warm_and_ready_machines() {
    let mut warm = demand("a", 0);
    (warm.policy.warm_machines, warm.policy.ready_machines) = (2, 2);
    let actions = plan(&view(3, vec![warm, demand("b", 2)], vec![]), NOW);
    assert_eq!(begun(&actions), [("a".to_owned(), 1), ("b".to_owned(), 2)]);
}

#[test]
fn what_nobody_uses_gives_way_to_waiting_jobs_of_another_queue() {
    let mut warm = demand("a", 0);
    warm.policy.jobs_per_machine = QueuePolicy::default().jobs_per_machine;
    (warm.policy.warm_machines, warm.policy.ready_machines) = (1, 1);
    let there =
        || vec![(machine("ready", "a", MachineState::Ready), 0), (machine("warm", "a", MachineState::Up), 0)];
    let of = |due, there| plan(&view(2, vec![warm.clone(), demand("b", due)], there), NOW);
    assert_eq!(of(0, there()), []);
    assert_eq!(give_way(&of(1, there())), ["ready"]);
    assert_eq!(give_way(&of(2, there())), ["ready", "warm"]);
    let mut busy = there();
    busy[1].1 = 1;
    assert_eq!(give_way(&of(2, busy)), ["ready"], "one that runs a job keeps its room, one to one");
    let mut leaving = there();
    leaving.push((machine("left", "c", MachineState::Left), 0));
    let three = view(3, vec![warm.clone(), demand("b", 1), demand("c", 0)], leaving);
    assert_eq!(plan(&three, NOW), [], "there will be room in a moment");
}

#[test]
fn a_queue_with_more_than_its_share_gives_way_and_one_with_its_share_does_not() {
    let busy = |name: &str, queue: &str| (machine(name, queue, MachineState::Up), 1);
    let two = || vec![demand("a", 1_000), demand("b", 1_000)];
    let all_as = vec![busy("m1", "a"), busy("m2", "a"), busy("m3", "a"), busy("m4", "a")];
    assert_eq!(give_way(&plan(&view(4, two(), all_as), NOW)).len(), 2);
    let even = vec![busy("m1", "a"), busy("m2", "a"), busy("m3", "b"), busy("m4", "b")];
    assert_eq!(plan(&view(4, two(), even), NOW), []);
    let odd = vec![busy("m1", "a"), busy("m2", "a"), busy("m3", "b")];
    assert_eq!(plan(&view(3, two(), odd), NOW), [], "nothing would be gained");
}

#[test]
fn a_machine_that_cannot_be_had_gives_way_before_any_other() {
    let refused = machine("refused", "a", MachineState::Creating);
    let act_at = NOW.after(Duration::from_secs(30));
    let refused = Machine { id: None, refused: true, act_failures: 1, act_at, ..refused };
    let two = vec![demand("a", 9), demand("b", 9)];
    assert_eq!(give_way(&plan(&view(1, two, vec![(refused, 0)]), NOW)), ["refused"]);
}

#[test]
fn with_a_lower_bound_than_before_no_machine_is_begun_and_the_surplus_goes() {
    let there: Vec<(Machine, u32)> = (0..6)
        .map(|n| (machine(&format!("m{n}"), if n < 4 { "a" } else { "b" }, MachineState::Up), 1))
        .collect();
    let two = vec![demand("a", 1_000), demand("b", 1_000)];
    let actions = plan(&view(3, two, there), NOW);
    assert_eq!(begun(&actions), []);
    let ways = give_way(&actions);
    assert_eq!(ways.len(), 3, "{ways:?}");
    let of_a = ["m0", "m1", "m2", "m3"];
    let of_a = ways.iter().filter(|name| of_a.contains(name)).count();
    assert!((2..=3).contains(&of_a), "what is left is shared: {ways:?}");
}

/// More queues than room, all with work without end, in rounds of a second: what the actions bring happens at once.
#[test]
fn where_there_are_more_queues_than_room_each_has_its_turn() {
    const QUEUES: usize = 5;
    let queues: Vec<QueueDemand> = (0..QUEUES).map(|n| demand(&format!("q{n}"), 1_000)).collect();
    let mut machines: Vec<(Machine, u32)> = Vec::new();
    let mut served = std::collections::BTreeSet::new();
    let mut now = NOW;
    for round in 0..QUEUES as u64 * 130 {
        now = NOW.after(Duration::from_secs(round));
        let happens = |machine: &Machine, event| machine.apply(event, now).unwrap().machine;
        for action in plan(&view(2, queues.clone(), machines.clone()), now) {
            match action {
                Action::Boot { queue } => {
                    let new =
                        machine(&format!("m{}", machines.len()), queue.as_str(), MachineState::Creating);
                    let id = MachineId::new(format!("e{}", machines.len())).unwrap();
                    let up = happens(&Machine { since: now, ..new }, MachineEvent::Created { id });
                    let heard = MachineEvent::Heard { boot: BootId(1), seq: 1, generation: "g1".into() };
                    machines.push((happens(&up, heard), 1));
                    served.insert(queue);
                }
                Action::GiveWay(name) => {
                    let (found, running) =
                        machines.iter_mut().find(|(machine, _)| machine.name == name).unwrap();
                    *found = happens(found, MachineEvent::GaveWay);
                    *found = happens(found, MachineEvent::Left);
                    *found = happens(found, MachineEvent::CallBegun(Call::Destroy));
                    *found = happens(found, MachineEvent::Destroyed);
                    *running = 0;
                }
                Action::Forget(name) => machines.retain(|(machine, _)| machine.name != name),
                other => panic!("{other:?}"),
            }
        }
        for (machine, _) in machines.iter_mut().filter(|(machine, _)| machine.state == MachineState::Up) {
            machine.heard_at = Some(now);
        }
        let present = machines.iter().filter(|(machine, _)| machine.state.is_present()).count();
        assert!(present <= 2, "{present} Machines");
    }
    assert_eq!(served.len(), QUEUES, "{served:?} by {now:?}");
}
