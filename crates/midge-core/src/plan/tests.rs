mod idle;

use midge_protocol::BootId;

use super::*;
use crate::machine::tests::machine;

const NOW: Timestamp = Timestamp::from_millis(10_000_000);

fn queue() -> QueueName {
    QueueName::default_queue()
}

fn view(due: u64, policy: QueuePolicy, machines: Vec<(Machine, u32)>) -> View {
    View {
        generation: "g1".to_owned(),
        up_since: Timestamp::default(),
        max_machines: 1_000,
        queues: vec![QueueDemand {
            queue: queue(),
            policy,
            due,
            paused: false,
            suspects: 0,
            oldest_due: None,
        }],
        machines,
        strays: Vec::new(),
    }
}

fn boots(actions: &[Action]) -> usize {
    actions.iter().filter(|action| matches!(action, Action::Boot { .. })).count()
}

fn up(name: &str) -> Machine {
    let mut machine = machine(name, MachineState::Up, NOW);
    (machine.boot, machine.heard_at) = (Some(BootId(1)), Some(NOW));
    machine
}

#[test]
fn there_are_no_machines_when_there_is_no_work() {
    assert_eq!(plan(&view(0, QueuePolicy::default(), vec![]), NOW), []);
}

#[test]
fn machines_start_when_there_is_work_and_no_room_up_to_the_limit() {
    let policy = QueuePolicy { max_machines: 4, jobs_per_machine: 2, ..QueuePolicy::default() };
    for (due, expected) in [(1, 1), (2, 1), (3, 2), (1_000_000, 4)] {
        assert_eq!(boots(&plan(&view(due, policy.clone(), vec![]), NOW)), expected, "{due} due");
    }
    let busy = vec![(up("m1"), 2), (up("m2"), 1)];
    assert_eq!(boots(&plan(&view(1, policy.clone(), busy.clone()), NOW)), 0, "a place is free");
    assert_eq!(boots(&plan(&view(9, policy, busy), NOW)), 2);
}

#[test]
fn each_suspect_gets_a_machine_of_its_own_up_to_the_limit() {
    let policy = QueuePolicy { max_machines: 4, jobs_per_machine: 64, ..QueuePolicy::default() };
    let booted = |due, suspects, machines: Vec<(Machine, u32)>| {
        let mut view = view(due, policy.clone(), machines);
        view.queues[0].suspects = suspects;
        boots(&plan(&view, NOW))
    };
    for (due, suspects, expected) in [(3, 3, 3), (64, 64, 4), (10, 1, 2), (2, 0, 1)] {
        assert_eq!(booted(due, suspects, vec![]), expected, "{suspects} of {due}");
    }
    assert_eq!(booted(1, 1, vec![(up("m1"), 0)]), 0, "an empty Machine takes it");
    assert_eq!(booted(2, 1, vec![(up("m1"), 0)]), 1, "and nothing else");
    assert_eq!(booted(1, 1, vec![(up("m1"), 1)]), 1, "one that runs something does not");
    let apart = || vec![(Machine { apart: true, ..up("m1") }, 1)];
    assert_eq!(booted(1, 0, apart()), 1, "the places beside a suspect are not free");
    assert_eq!(booted(1, 1, apart()), 1);
}

#[test]
fn machines_on_their_way_are_counted() {
    let policy = QueuePolicy::default();
    let coming = vec![(machine("m1", MachineState::Creating, NOW), 0)];
    assert_eq!(boots(&plan(&view(2, policy, coming), NOW)), 0);
}

#[test]
fn a_draining_machine_counts_against_the_limit_and_gives_no_room() {
    let policy = QueuePolicy { max_machines: 1, ..QueuePolicy::default() };
    let mut draining = up("m1");
    draining.state = MachineState::Draining;
    assert_eq!(plan(&view(5, policy, vec![(draining, 1)]), NOW), []);
}

#[test]
fn warm_machines_are_kept_and_ready_ones_started_first() {
    let policy = QueuePolicy { warm_machines: 1, ready_machines: 1, ..QueuePolicy::default() };
    let cold = plan(&view(0, policy.clone(), vec![]), NOW);
    assert_eq!(cold, [Action::Boot { queue: queue() }, Action::Prepare { queue: queue() }]);
    let ready = machine("m1", MachineState::Ready, NOW);
    let actions = plan(&view(0, policy, vec![(ready.clone(), 0)]), NOW);
    assert_eq!(actions, [Action::Start(ready.name), Action::Prepare { queue: queue() }]);
}

#[test]
fn what_is_stopped_and_not_wanted_is_destroyed() {
    let ready = machine("m1", MachineState::Ready, NOW);
    let actions = plan(&view(0, QueuePolicy::default(), vec![(ready.clone(), 0)]), NOW);
    assert_eq!(actions, [Action::Destroy(ready.name)]);
}

#[test]
fn an_old_generation_is_drained_and_its_ready_ones_destroyed() {
    let policy = QueuePolicy { ready_machines: 1, ..QueuePolicy::default() };
    let old = |mut machine: Machine| {
        machine.generation = "g0".to_owned();
        (machine, 0)
    };
    let machines = vec![old(up("m1")), old(machine("m2", MachineState::Ready, NOW))];
    let actions = plan(&view(0, policy, machines), NOW);
    assert!(actions.contains(&Action::Drain(MachineName::new("m1").unwrap())));
    assert!(actions.contains(&Action::Destroy(MachineName::new("m2").unwrap())));
}

#[test]
fn a_host_that_is_not_heard_of_for_a_lease_is_given_up_but_not_by_a_server_that_was_away() {
    let mut silent = up("m1");
    silent.heard_at = Some(Timestamp::from_millis(NOW.as_millis() - 31_000));
    let mut view = view(0, QueuePolicy::default(), vec![(silent, 1)]);
    assert!(matches!(plan(&view, NOW)[..], [Action::GiveUp(..)]));
    view.up_since = Timestamp::from_millis(NOW.as_millis() - 29_000);
    assert_eq!(plan(&view, NOW), []);
}

#[test]
fn a_machine_that_is_being_made_has_places_for_the_jobs_it_is_made_for() {
    let later = NOW.after(Duration::from_secs(60));
    let making = machine("m1", MachineState::Creating, NOW);
    let making = Machine { id: None, calling: true, act_at: later, ..making };
    assert_eq!(plan(&view(2, QueuePolicy::default(), vec![(making, 0)]), NOW), []);
}

/// It was started, and another generation came before its host phoned home.
#[test]
fn a_machine_that_drains_before_its_host_was_heard_of_is_given_up_a_lease_later() {
    let draining = machine("m1", MachineState::Draining, NOW);
    let view = view(0, QueuePolicy::default(), vec![(draining, 0)]);
    assert_eq!(plan(&view, NOW.after(limits::LEASE)), []);
    let later = NOW.after(limits::LEASE + Duration::from_millis(1));
    assert!(matches!(plan(&view, later)[..], [Action::GiveUp(..)]));
}

#[test]
fn a_refused_create_is_repeated_a_lost_one_given_up_and_a_slow_boot_too() {
    let mut refused = machine("m1", MachineState::Creating, NOW);
    (refused.id, refused.act_failures) = (None, 1);
    let view_of = |machine: &Machine| view(0, QueuePolicy::default(), vec![(machine.clone(), 0)]);
    assert_eq!(plan(&view_of(&refused), NOW), [Action::Create(refused.name.clone())]);
    let waiting = Machine { act_at: NOW.after(Duration::from_secs(1)), ..refused.clone() };
    assert_eq!(plan(&view_of(&waiting), NOW), []);
    let lost = Machine { act_failures: 0, ..refused };
    assert!(matches!(plan(&view_of(&lost), NOW)[..], [Action::GiveUp(..)]));
    let slow = machine("m2", MachineState::Starting, Timestamp::from_millis(NOW.as_millis() - 121_000));
    let actions = plan(&view(0, QueuePolicy::default(), vec![(slow, 0)]), NOW);
    assert!(matches!(actions[..], [Action::GiveUp(..)]));
}

#[test]
fn a_slow_boot_is_not_held_against_a_machine_while_the_server_was_away() {
    let before = |seconds: i64| Timestamp::from_millis(NOW.as_millis() - seconds * 1_000);
    let starting = machine("m1", MachineState::Starting, before(121));
    let view = View { up_since: before(5), ..view(0, QueuePolicy::default(), vec![(starting, 0)]) };
    assert_eq!(plan(&view, NOW), []);
    assert!(matches!(plan(&view, NOW.after(Duration::from_secs(116)))[..], [Action::GiveUp(..)]));
}

#[test]
fn a_server_that_is_restarted_often_gives_up_what_does_not_boot_too() {
    let before = |seconds: i64| Timestamp::from_millis(NOW.as_millis() - seconds * 1_000);
    let starting = machine("m1", MachineState::Starting, before(121));
    let view = View { up_since: before(16), ..view(0, QueuePolicy::default(), vec![(starting, 0)]) };
    assert!(matches!(&plan(&view, NOW)[..], [Action::GiveUp(_, why)] if why.ends_with("in 2m")));
}

#[test]
fn a_queue_s_machines_have_its_own_deadline_to_boot() {
    let starting = machine("m1", MachineState::Starting, NOW.before(Duration::from_secs(31)));
    let given_up = |boot_deadline_ms| {
        let policy = QueuePolicy { boot_deadline_ms, ..QueuePolicy::default() };
        !plan(&view(0, policy, vec![(starting.clone(), 0)]), NOW).is_empty()
    };
    assert!(given_up(30_000) && !given_up(60_000));
    let asleep = Machine { sleep: Sleep::Asleep, ..machine("m1", MachineState::Ready, Timestamp::default()) };
    let policy = QueuePolicy { ready_machines: 1, idle: Idle::Suspend, ..QueuePolicy::default() };
    assert_eq!(plan(&view(0, policy, vec![(asleep, 0)]), NOW), [], "asleep it has no deadline");
}

#[test]
fn machines_that_do_not_come_up_are_begun_ever_more_slowly() {
    let failed = |name: &str| {
        let mut machine = machine(name, MachineState::Gone, NOW);
        machine.boot_failed = true;
        (machine, 0)
    };
    let machines = vec![failed("m1"), failed("m2"), failed("m3")];
    let view = view(1, QueuePolicy::default(), machines);
    let after = |seconds| NOW.after(Duration::from_secs(seconds));
    assert_eq!(boots(&plan(&view, after(3))), 0);
    assert_eq!(boots(&plan(&view, after(4))), 1);
}

#[test]
fn a_machine_that_was_made_ahead_and_not_needed_did_not_fail_to_boot() {
    let unused = machine("m1", MachineState::Gone, NOW);
    assert_eq!(boots(&plan(&view(1, QueuePolicy::default(), vec![(unused, 0)]), NOW)), 1);
}

#[test]
fn every_action_is_given_once_while_its_call_is_under_way() {
    let mut doomed = machine("m1", MachineState::Destroying, NOW);
    doomed.act_at = NOW.after(Duration::from_secs(60));
    assert_eq!(plan(&view(0, QueuePolicy::default(), vec![(doomed, 0)]), NOW), []);
}

#[test]
fn of_machines_that_are_refused_one_asks_again_and_no_other_is_made_meanwhile() {
    let refused = |name: &str| {
        let new = machine(name, MachineState::Creating, NOW);
        let act_at = NOW.after(Duration::from_secs(30));
        (Machine { id: None, refused: true, act_failures: 1, act_at, ..new }, 0)
    };
    let two = plan(&view(9, QueuePolicy::default(), vec![refused("m1"), refused("m2")]), NOW);
    let m2 = MachineName::new("m2").unwrap();
    assert_eq!(two, [Action::GiveUp(m2, "another one is asked for".to_owned())]);
    let hour = NOW.after(Duration::from_secs(3_600));
    let one = view(9, QueuePolicy::default(), vec![refused("m1")]);
    assert_eq!(plan(&one, NOW), []);
    let m1 = MachineName::new("m1").unwrap();
    assert_eq!(plan(&one, hour), [Action::Create(m1.clone())], "it is not given up for having waited");
    let (mut calling, _) = refused("m1");
    calling.calling = true;
    assert_eq!(
        boots(&plan(&view(9, QueuePolicy::default(), vec![(calling, 0)]), NOW)),
        3,
        "it may be made now"
    );
    let deployed = View { generation: "g2".to_owned(), ..one };
    assert_eq!(boots(&plan(&deployed, NOW)), 3, "what was deployed may mend it");
    assert!(
        plan(&deployed, NOW).contains(&Action::GiveUp(m1, "a new generation takes its place".to_owned()))
    );
}

#[test]
fn the_pause_after_machines_that_do_not_come_up_grows_to_five_minutes() {
    let pause = |failed: usize| {
        let failed: Vec<(Machine, u32)> = (0..failed)
            .map(|n| {
                let gone = machine(&format!("m{n}"), MachineState::Gone, NOW);
                (Machine { boot_failed: true, ..gone }, 0)
            })
            .collect();
        let view = view(1, QueuePolicy::default(), failed);
        let boots_at = |seconds| boots(&plan(&view, NOW.after(Duration::from_secs(seconds)))) > 0;
        (0..=600).find(|seconds| boots_at(*seconds)).unwrap()
    };
    assert_eq!([1, 2, 3, 7, 9, 10, 99].map(pause), [1, 2, 4, 64, 256, 300, 300]);
}

#[test]
fn rows_of_machines_that_are_gone_are_kept_for_the_pause_and_never_more_than_a_thousand() {
    let gone = machine("m1", MachineState::Gone, NOW);
    let failed = Machine { boot_failed: true, ..gone.clone() };
    let minutes = |minutes: u64| NOW.after(Duration::from_secs(minutes * 60 + 1));
    let view_of = |machines| view(0, QueuePolicy::default(), machines);
    assert_eq!(plan(&view_of(vec![(failed.clone(), 0)]), minutes(59)), []);
    assert_eq!(plan(&view_of(vec![(failed, 0)]), minutes(60)).len(), 1);
    let named = |n: usize| (Machine { name: MachineName::new(format!("m{n}")).unwrap(), ..gone.clone() }, 0);
    let oldest = named(0).0.name;
    let many = view_of((0..1_001).map(named).collect());
    assert_eq!(plan(&many, NOW), [Action::Forget(oldest)]);
}

#[test]
fn a_machine_without_a_row_is_destroyed_unless_a_row_was_written_meanwhile() {
    let id = MachineId::new("e1").unwrap();
    let stray = Stray { id: id.clone(), named_at: Timestamp::default() };
    let stray = |machines| View { strays: vec![stray.clone()], ..view(0, QueuePolicy::default(), machines) };
    assert_eq!(plan(&stray(vec![]), NOW), [Action::DestroyStray(id.clone())]);
    // `up` makes Machines that have this very id.
    assert_eq!(plan(&stray(vec![(up("m1"), 1)]), NOW), []);
    let gone = machine("m1", MachineState::Gone, NOW);
    assert_eq!(plan(&stray(vec![(gone, 0)]), NOW), [Action::DestroyStray(id.clone())]);
}

#[test]
fn a_machine_without_a_row_is_left_alone_for_a_minute_after_it_was_named() {
    let id = MachineId::new("e1").unwrap();
    let stray = Stray { id: id.clone(), named_at: NOW };
    let view = View { strays: vec![stray], ..view(0, QueuePolicy::default(), vec![]) };
    assert_eq!(plan(&view, NOW.after(Duration::from_secs(59))), []);
    assert_eq!(plan(&view, NOW.after(Duration::from_secs(60))), [Action::DestroyStray(id)]);
}

#[test]
fn a_machine_that_is_gone_is_shown_for_a_while_and_then_forgotten() {
    let gone = machine("m1", MachineState::Gone, NOW);
    let at = |minutes: u64| NOW.after(Duration::from_secs(minutes * 60 + 1));
    let view = view(0, QueuePolicy::default(), vec![(gone.clone(), 0)]);
    assert_eq!(plan(&view, at(9)), []);
    assert_eq!(plan(&view, at(10)), [Action::Forget(gone.name)]);
}

fn name(name: &str) -> MachineName {
    MachineName::new(name).unwrap()
}

#[test]
fn a_paused_queue_makes_no_machines_and_those_that_are_up_go() {
    let policy = QueuePolicy { warm_machines: 2, ready_machines: 1, ..QueuePolicy::default() };
    let machines = [machine("a", MachineState::Up, NOW), machine("b", MachineState::Ready, NOW)];
    let mut view = view(0, policy, machines.map(|machine| (machine, 0)).to_vec());
    view.queues[0].paused = true;
    let actions = plan(&view, NOW);
    let note = "its queue starts nothing".to_owned();
    assert_eq!(actions, [Action::LetGo(name("a"), note), Action::Destroy(name("b"))]);
}

#[test]
fn a_queue_that_may_have_fewer_machines_lets_those_go_that_run_the_least() {
    let policy = |max_machines| QueuePolicy { max_machines, ..QueuePolicy::default() };
    let starting = (machine("s", MachineState::Starting, NOW), 0);
    let machines = vec![(up("a"), 2), (up("b"), 0), (up("c"), 1), starting];
    for (max_machines, go) in [(4, &[][..]), (3, &["b"]), (2, &["b", "c"]), (0, &["b", "c", "a"])] {
        let note = || "its queue may have fewer Machines".to_owned();
        let expected: Vec<Action> = go.iter().map(|machine| Action::LetGo(name(machine), note())).collect();
        assert_eq!(plan(&view(9, policy(max_machines), machines.clone()), NOW), expected, "{max_machines}");
    }
}

#[test]
fn a_pool_has_the_work_of_its_queues_and_rests_only_where_each_is_paused() {
    let policy = QueuePolicy { max_machines: 9, ready_machines: 8, ..QueuePolicy::default() };
    let of = |due, paused, oldest_due| QueueDemand {
        queue: queue(),
        policy: policy.clone(),
        due,
        paused,
        suspects: due / 2,
        oldest_due,
    };
    let pool = QueueName::new("small").unwrap();
    let of_all =
        |queues: Vec<QueueDemand>| QueueDemand::of_pool(pool.clone(), policy.clone(), queues.into_iter());
    let busy = of_all(vec![of(4, false, Some(NOW)), of(0, true, None), of(3, false, None)]);
    assert_eq!((busy.due, busy.suspects, busy.paused, busy.oldest_due), (7, 3, false, Some(NOW)));
    assert_eq!((busy.queue.as_str(), busy.policy.max_machines), ("small", 9));
    assert!(of_all(vec![of(0, true, None), of(0, true, None)]).paused);
    let slowed = |max_machines| QueueDemand {
        policy: QueuePolicy { max_machines, ..policy.clone() },
        ..of(1, false, None)
    };
    let slow = of_all(vec![slowed(4), slowed(4)]).policy;
    assert_eq!((slow.max_machines, slow.ready_machines), (4, 4), "its budget slows all of them");
    assert_eq!(of_all(vec![slowed(4), slowed(9)]).policy.max_machines, 9);
}
