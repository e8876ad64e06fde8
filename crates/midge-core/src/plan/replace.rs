//! How the Machines that a queue keeps ready are replaced after a deploy: a few at a time, so that a queue is never without
//! most of them, and the Machines API is not asked for all at once.

use std::time::Duration;

use midge_protocol::Timestamp;

use crate::fleet::QueueFleet;
use crate::{Machine, MachineState};

/// So many ready Machines of a queue are on their way at once, and half of them at most: about what the Machines API makes in
/// the seconds that it takes to make one.
pub(super) const REPLACED_AT_ONCE: u32 = 4;

/// One that is not destroyed by then is stuck, and holds up nothing.
const DESTROYED_WITHIN: Duration = Duration::from_secs(60);

/// What is to be done about the ready Machines of a queue.
pub(super) struct Replacement<'a> {
    /// Those of an older generation that go now.
    pub(super) go: Vec<&'a Machine>,
    /// Those of an older generation that stay for now.
    pub(super) stay: Vec<&'a Machine>,
    /// How many new ones may be made, beside those that rest or are on their way to it.
    pub(super) to_make: u32,
}

/// Returns which Machines of an older generation go, and how many take their places, where a queue keeps so many ready. An old
/// one that stays is no use to new jobs, but it is there where the deploy is rolled back. `pool` are the new ones that rest or
/// are on their way to it.
pub(super) fn replace<'a>(
    ours: &QueueFleet<'a>,
    generation: &str,
    keeps: u32,
    pool: u32,
    now: Timestamp,
) -> Replacement<'a> {
    let all = || ours.machines.iter().map(|(machine, _)| machine);
    let rests = |machine: &Machine| machine.state == MachineState::Ready && machine.act_at <= now;
    let outdated: Vec<&Machine> =
        all().filter(|machine| machine.is_outdated(generation) && rests(machine)).collect();
    // Room for those that are kept until others have come.
    let kept = keeps.saturating_sub(pool).min(outdated.len() as u32);
    let is_on_its_way = |machine: &&Machine| match machine.state {
        MachineState::Preparing => !machine.is_outdated(generation) && !machine.is_refused(),
        MachineState::Destroying => {
            machine.is_outdated(generation) && now.since(machine.since) < DESTROYED_WITHIN
        }
        _ => false,
    };
    let on_their_way = all().filter(is_on_its_way).count() as u32;
    let may_go = REPLACED_AT_ONCE.min(keeps.div_ceil(2)).saturating_sub(on_their_way).min(kept);
    let (mut go, mut stay) = (Vec::new(), Vec::new());
    for (place, machine) in outdated.iter().enumerate() {
        let is_surplus = place as u32 >= kept;
        if is_surplus || (place as u32) < may_go { go.push(*machine) } else { stay.push(*machine) }
    }
    let to_make = keeps.saturating_sub(pool).saturating_sub(stay.len() as u32);
    Replacement { go, stay, to_make }
}

#[cfg(test)]
mod tests {
    use midge_protocol::manifest::QueuePolicy;
    use midge_protocol::{MachineName, QueueName};

    use super::*;
    use crate::machine::tests::machine;
    use crate::plan::{Action, QueueDemand, View, plan};

    const NOW: Timestamp = Timestamp::from_millis(10_000_000);

    /// Plays rounds: what is to be destroyed is gone in the next one, and what is made rests in the one after that. Returns for
    /// each round how many rest, of the old generation and of the new one.
    fn rounds(
        keeps: u32,
        generation: &str,
        machines: &mut Vec<(Machine, u32)>,
        count: usize,
    ) -> Vec<(u32, u32)> {
        let policy = QueuePolicy { ready_machines: keeps, max_machines: 100, ..QueuePolicy::default() };
        let mut seen = Vec::new();
        for round in 0..count {
            let now = NOW.after(Duration::from_secs(round as u64));
            let view = View {
                generation: generation.to_owned(),
                up_since: Timestamp::default(),
                max_machines: 1_000,
                queues: vec![QueueDemand {
                    queue: QueueName::default_queue(),
                    policy: policy.clone(),
                    due: 0,
                    paused: false,
                    suspects: 0,
                    oldest_due: None,
                }],
                machines: machines.clone(),
                strays: Vec::new(),
            };
            let rest = |old: bool| {
                let rests = |machine: &Machine| {
                    machine.state == MachineState::Ready && machine.is_outdated(generation) == old
                };
                machines.iter().filter(|(machine, _)| rests(machine)).count() as u32
            };
            seen.push((rest(true), rest(false)));
            let actions = plan(&view, now);
            for (made, _) in
                machines.iter_mut().filter(|(machine, _)| machine.state == MachineState::Preparing)
            {
                made.state = MachineState::Ready;
            }
            for (number, action) in actions.into_iter().enumerate() {
                match action {
                    Action::Destroy(name) | Action::Drain(name) => {
                        machines.retain(|(machine, _)| machine.name != name)
                    }
                    Action::Prepare { .. } => {
                        let made =
                            machine(&format!("{generation}-{round}-{number}"), MachineState::Preparing, now);
                        machines.push((Machine { generation: generation.to_owned(), ..made }, 0));
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        seen
    }

    fn old(count: u32) -> Vec<(Machine, u32)> {
        let named = |number| machine(&format!("o{number}"), MachineState::Ready, NOW);
        (0..count).map(|number| (Machine { generation: "g0".to_owned(), ..named(number) }, 0)).collect()
    }

    #[test]
    fn ready_machines_are_replaced_a_few_at_a_time_and_all_in_the_end() {
        let seen = rounds(10, "g1", &mut old(10), 20);
        assert_eq!(seen[0], (10, 0));
        assert_eq!(*seen.last().unwrap(), (0, 10));
        for (old, new) in &seen {
            assert!(old + new >= 10 - REPLACED_AT_ONCE && old + new <= 10, "{seen:?}");
        }
    }

    #[test]
    fn what_no_queue_keeps_ready_goes_at_once() {
        assert_eq!(rounds(0, "g1", &mut old(10), 2), [(10, 0), (0, 0)]);
        assert_eq!(
            rounds(3, "g1", &mut old(10), 2)[1],
            (1, 0),
            "it keeps fewer now: those beyond go at once"
        );
    }

    #[test]
    fn a_deploy_that_is_rolled_back_half_way_finds_those_that_stayed() {
        let mut machines = old(10);
        let deployed = *rounds(10, "g1", &mut machines, 3).last().unwrap();
        let mut back = rounds(10, "g0", &mut machines, 20);
        assert!(deployed.0 > 0, "{deployed:?}");
        assert!(back[0].1 >= deployed.0.saturating_sub(REPLACED_AT_ONCE), "{back:?}");
        assert_eq!(back.pop(), Some((0, 10)));
    }

    #[test]
    fn where_no_new_ones_can_be_made_old_ones_go_all_the_same_a_few_at_a_time() {
        let refused = machine("r", MachineState::Preparing, NOW);
        let refused = Machine { id: None, refused: true, act_failures: 1, ..refused };
        let mut machines = old(10);
        machines.push((refused, 0));
        let mut went = Vec::new();
        for _ in 0..4 {
            let ours = QueueFleet { machines: machines.iter().collect() };
            let go = replace(&ours, "g1", 10, 1, NOW).go;
            let names: Vec<MachineName> = go.iter().map(|machine| machine.name.clone()).collect();
            machines.retain(|(machine, _)| !names.contains(&machine.name));
            went.push(names.len());
        }
        assert_eq!(went, [5, 4, 1, 0], "one is in the place of the refused one, and four go at once");
    }

    #[test]
    fn one_that_is_not_destroyed_in_time_holds_up_nothing() {
        let going = |number| {
            let machine = machine(&format!("d{number}"), MachineState::Destroying, NOW);
            (Machine { generation: "g0".to_owned(), ..machine }, 0)
        };
        let mut machines = old(10);
        machines.extend((0..4).map(going));
        let ours = QueueFleet { machines: machines.iter().collect() };
        let go_at = |now| replace(&ours, "g1", 10, 0, now).go.len();
        assert_eq!((go_at(NOW), go_at(NOW.after(DESTROYED_WITHIN))), (0, 4));
    }
}
