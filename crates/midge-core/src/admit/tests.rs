use super::*;
use crate::job::tests::new_job;
use crate::machine::tests::machine;
use crate::{JobEvent, JobState};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

#[test]
fn a_job_that_did_not_wait_in_a_queue_needs_room_there_and_one_that_ran_has_its_place() {
    let job = Job::new(new_job(1, NOW), NOW);
    let moved = Job { queue: midge_protocol::QueueName::new("other").unwrap(), ..job.clone() };
    let claimed = JobEvent::Claimed { machine: midge_protocol::MachineName::new("m").unwrap() };
    let running = job.apply(claimed, NOW).unwrap().job;
    let cancelled = job.apply(JobEvent::CancelAsked, NOW).unwrap().job;
    assert!(needs_room(&cancelled, &job) && needs_room(&job, &moved) && needs_room(&cancelled, &moved));
    assert!(!needs_room(&job, &job) && !needs_room(&running, &job) && !needs_room(&job, &cancelled));
    assert!(!needs_room(&job.clone().pending(), &job), "a pending one waits, too");
}

fn waiting(count: u8) -> Vec<Job> {
    (0..count).map(|n| Job::new(new_job(n, NOW), NOW)).collect()
}

fn claim(machine: &Machine) -> Claim<'_> {
    Claim { machine, generation: "g1", running: 0, room: 10, newest: true }
}

const NOTHING: [u8; 0] = [];

fn with_suspects(count: u8, suspects: &[usize]) -> Vec<Job> {
    let mut jobs = waiting(count);
    suspects.iter().for_each(|suspect| jobs[*suspect].suspect = true);
    jobs
}

fn admitted(claim: &Claim<'_>, emptier: usize, waiting: &[Job]) -> Vec<u8> {
    numbers(&admission(claim, emptier, waiting))
}

fn admission(claim: &Claim<'_>, emptier: usize, waiting: &[Job]) -> Admission {
    let (policy, row) = (QueuePolicy::default(), QueueRow::default());
    let gate = Gate { policy: &policy, row: &row, running: 0, last_turn: None };
    let head =
        LaneHead { lane: None, turn: Turn::at(NOW), jobs: waiting.to_vec(), next_due: None, is_whole: true };
    admit(claim, &gate, emptier, &[head], NOW)
}

fn numbers(admission: &Admission) -> Vec<u8> {
    admission.jobs.iter().map(|id| id.as_bytes()[0]).collect()
}

/// A lane with so many jobs that are due, whose ids begin with a number.
fn head(key: &str, first: u8, waiting: u8) -> LaneHead {
    let queue = midge_protocol::QueueName::default_queue();
    let key = midge_protocol::JobKey::new(key).unwrap();
    let jobs: Vec<Job> = (first..first + waiting)
        .map(|n| Job { key: Some(key.clone()), ..Job::new(new_job(n, NOW), NOW) })
        .collect();
    let mut lane = Lane::new(queue, key);
    for job in &jobs {
        lane.count(None, Some(crate::InLane { phase: job.phase(), due: job.due() }));
    }
    LaneHead { turn: lane.turn.unwrap_or_default(), lane: Some(lane), jobs, next_due: None, is_whole: true }
}

fn keyless(first: u8, waiting: u8) -> LaneHead {
    LaneHead { lane: None, ..head("none", first, waiting) }
}

/// What a Machine with ten places gets.
fn of(policy: &QueuePolicy, row: &QueueRow, running: u64, heads: &[LaneHead]) -> Admission {
    let mut up = machine("m", MachineState::Up, NOW);
    up.places = 10;
    let gate = Gate { policy, row, running, last_turn: Some(Turn::at(NOW)) };
    admit(&claim(&up), &gate, 0, heads, NOW)
}

#[test]
fn a_machine_gets_no_more_than_its_places() {
    let up = machine("m", MachineState::Up, NOW);
    assert_eq!(admitted(&claim(&up), 0, &waiting(5)), [0, 1]);
    assert_eq!(admitted(&Claim { running: 1, ..claim(&up) }, 0, &waiting(5)), [0]);
    assert_eq!(admitted(&Claim { running: 9, ..claim(&up) }, 0, &waiting(5)), NOTHING);
    assert_eq!(admitted(&Claim { room: 0, ..claim(&up) }, 0, &waiting(5)), NOTHING);
    assert!(waiting(5).iter().all(|job| job.phase() == Phase::Fresh));
}

#[test]
fn a_suspect_is_claimed_alone_and_its_machine_gets_nothing_else() {
    let mut up = machine("m", MachineState::Up, NOW);
    assert_eq!(admitted(&claim(&up), 0, &with_suspects(3, &[0])), [0]);
    assert_eq!(admitted(&claim(&up), 5, &with_suspects(3, &[0, 1, 2])), [0], "not even another");
    up.apart = true;
    assert_eq!(admitted(&Claim { running: 1, ..claim(&up) }, 5, &waiting(3)), NOTHING);
    assert_eq!(admitted(&claim(&up), 0, &waiting(3)), [0, 1], "it has ended");
}

#[test]
fn a_suspect_is_not_given_to_a_machine_that_runs_something_or_has_left_something_behind() {
    let up = machine("m", MachineState::Up, NOW);
    for emptier in 0..3 {
        let busy = Claim { running: 1, ..claim(&up) };
        assert_eq!(admitted(&busy, emptier, &with_suspects(1, &[0])), NOTHING, "{emptier} emptier");
        let left_behind = Claim { room: 1, ..claim(&up) };
        assert_eq!(admitted(&left_behind, emptier, &with_suspects(1, &[0])), NOTHING, "{emptier} emptier");
    }
}

#[test]
fn a_suspect_that_is_first_in_line_waits_for_no_job_that_comes_after_it() {
    let up = machine("m", MachineState::Up, NOW);
    let busy = Claim { running: 1, ..claim(&up) };
    assert_eq!(admitted(&busy, 0, &with_suspects(3, &[0])), NOTHING, "it is emptied");
    assert_eq!(admitted(&claim(&up), 0, &with_suspects(3, &[1])), [0], "what is before it goes first");
}

#[test]
fn a_machine_that_is_emptied_for_a_suspect_says_so_for_the_other_queues_of_its_pool() {
    let up = machine("m", MachineState::Up, NOW);
    let busy = Claim { running: 1, ..claim(&up) };
    assert!(admission(&busy, 0, &with_suspects(3, &[0])).empties);
    assert!(!admission(&busy, 1, &with_suspects(3, &[0])).empties, "another one is emptied");
    assert!(!admission(&claim(&up), 0, &with_suspects(3, &[0])).empties, "it gets the suspect");
    assert!(!admission(&busy, 0, &waiting(3)).empties);
}

#[test]
fn only_as_many_machines_are_emptied_as_there_are_suspects() {
    let mut up = machine("m", MachineState::Up, NOW);
    up.places = 5;
    let busy = Claim { running: 2, ..claim(&up) };
    assert_eq!(admitted(&busy, 1, &with_suspects(3, &[0])), [1, 2]);
    assert_eq!(admitted(&busy, 1, &with_suspects(4, &[0, 2])), [1]);
    assert_eq!(admitted(&busy, 1, &with_suspects(4, &[0, 1])), NOTHING);
    assert_eq!(admitted(&busy, 2, &with_suspects(4, &[0, 1])), [2, 3]);
}

#[test]
fn the_machines_that_run_least_are_emptied_and_of_equal_ones_always_the_same() {
    let up = |name| machine(name, MachineState::Up, NOW);
    let other_queue = midge_protocol::QueueName::new("other").unwrap();
    let all = [
        (up("a"), 2),
        (up("b"), 1),
        (up("c"), 1),
        (Machine { apart: true, ..up("d") }, 1),
        (machine("e", MachineState::Draining, NOW), 0),
        (Machine { queue: other_queue, ..up("f") }, 0),
        (Machine { single_use: true, attempts: 1, ..up("g") }, 0),
    ];
    let emptier_than = |index: usize, generation| {
        let (machine, running) = &all[index];
        emptier(machine, *running, generation, all.iter())
    };
    assert_eq!([0, 1, 2].map(|index| emptier_than(index, "g1")), [2, 0, 1]);
    assert_eq!(emptier_than(0, "g2"), 0, "one of an old generation takes no suspect");
}

#[test]
fn only_the_newest_request_of_an_open_machine_of_this_generation_claims() {
    let up = machine("m", MachineState::Up, NOW);
    assert_eq!(Claim { newest: false, ..claim(&up) }.room(), 0);
    assert_eq!(Claim { generation: "g2", ..claim(&up) }.room(), 0);
    assert_eq!(claim(&machine("m", MachineState::Draining, NOW)).room(), 0);
}

#[test]
fn a_single_use_machine_gets_one_job_in_its_life() {
    let mut once = machine("m", MachineState::Up, NOW);
    (once.single_use, once.places) = (true, 1);
    assert_eq!(admitted(&claim(&once), 0, &waiting(5)), [0]);
    assert!(!once.is_to_drain());
    once.attempts = 1;
    assert_eq!(admitted(&claim(&once), 0, &waiting(5)), NOTHING);
    let keeps_it_warm = QueuePolicy { warm_machines: 1, ..QueuePolicy::default() };
    assert!(once.is_to_drain(), "it does not wait for another");
    assert!(may_leave(&once, &keeps_it_warm, "g1", [&once].into_iter()), "nor is it kept");
}

#[test]
fn the_job_that_is_due_longest_comes_first_and_of_two_the_smaller_id() {
    let mut jobs = waiting(3);
    jobs[2].state = JobState::Waiting { due: Timestamp::from_millis(NOW.as_millis() - 1) };
    jobs.swap(0, 1);
    jobs.sort_by_key(claim_order);
    let first: Vec<u8> = jobs.iter().map(|job| job.id.as_bytes()[0]).collect();
    assert_eq!(first, [2, 0, 1]);
}

#[test]
fn a_better_priority_goes_first_unless_another_job_has_waited_an_hour_longer_for_each_step() {
    let job = |n, waited_minutes: i64, priority| {
        let due = Timestamp::from_millis(NOW.as_millis() - waited_minutes * 60_000);
        Job { priority, ..Job::new(new_job(n, due), due) }
    };
    let mut jobs = [job(0, 0, 0), job(1, 61, 1), job(2, 59, 1), job(3, 0, -1), job(4, 60, 1), job(5, 0, 100)];
    jobs.sort_by_key(claim_order);
    let order: Vec<u8> = jobs.iter().map(|job| job.id.as_bytes()[0]).collect();
    assert_eq!(order, [3, 1, 0, 4, 2, 5]);
}

#[test]
fn keys_take_turns_however_many_jobs_each_has() {
    let heads = [head("a", 0, 50), head("b", 100, 1), keyless(110, 50), head("c", 200, 3)];
    let admission = of(&QueuePolicy::default(), &QueueRow::default(), 0, &heads);
    assert_eq!(numbers(&admission), [0, 100, 110, 200, 1, 111, 201, 2, 112, 202]);
    let turns: Vec<_> = admission.lanes.iter().map(|lane| (lane.key.as_str(), lane.turn)).collect();
    let behind = |places| Some(Turn(Turn::at(NOW).0 + places));
    assert_eq!(turns, [("a", behind(8)), ("b", None), ("c", None)], "b and c have nothing more");
    assert_eq!(admission.queue.unwrap().turn, Turn(Turn::at(NOW).0 + 9));
}

#[test]
fn a_lane_that_was_served_is_behind_the_jobs_without_a_key_too() {
    let row = QueueRow { turn: Turn(Turn::at(NOW).0 + 7), ..QueueRow::default() };
    let policy = QueuePolicy { max_running: Some(1), ..QueuePolicy::default() };
    let behind = |row: &QueueRow| LaneHead { turn: row.keyless_turn(Some(NOW)), ..keyless(100, 5) };
    let admission = of(&policy, &row, 0, &[head("a", 0, 5), behind(&row)]);
    assert_eq!((numbers(&admission), admission.queue), (vec![0], None));
    assert_eq!(admission.lanes[0].turn, Some(Turn(row.turn.0 + 1)));
    // Not behind a time that has yet to come again: the clock was put back.
    let row = QueueRow { turn: Turn(Turn::at(NOW).0 + 9_000_000), ..row };
    let admission = of(&policy, &row, 0, &[head("a", 0, 5), behind(&row)]);
    assert_eq!(admission.lanes[0].turn, Some(Turn(Turn::at(NOW).0 + 1)));
}

#[test]
fn jobs_without_a_key_have_their_turn_when_the_first_is_due_and_not_before_they_were_served() {
    let ago = |ms: i64| Timestamp::from_millis(NOW.as_millis() - ms);
    let lane = |key: &str, first, since| LaneHead { turn: Turn::at(ago(since)), ..head(key, first, 1) };
    let order = |row: &QueueRow, first_due| {
        let keyless = LaneHead { turn: row.keyless_turn(Some(first_due)), ..keyless(0, 1) };
        let heads = in_turn(vec![lane("a", 10, 30), lane("b", 20, 20)], keyless);
        numbers(&of(&QueuePolicy::default(), row, 0, &heads))
    };
    let never_served = QueueRow::default();
    assert_eq!(order(&never_served, ago(40)), [0, 10, 20]);
    assert_eq!(order(&never_served, ago(25)), [10, 0, 20], "a has waited longer");
    assert_eq!(order(&never_served, ago(1)), [10, 20, 0]);
    let served = QueueRow { turn: Turn::at(ago(10)), ..QueueRow::default() };
    assert_eq!(order(&served, ago(40)), [10, 20, 0]);
    assert_eq!(in_turn(vec![lane("a", 10, 30)], keyless(0, 0)).len(), 1);
}

#[test]
fn jobs_without_a_key_alone_cost_no_row() {
    let admission = of(&QueuePolicy::default(), &QueueRow::default(), 0, &[keyless(0, 50)]);
    assert_eq!((admission.jobs.len(), admission.lanes, admission.queue), (10, vec![], None));
}

#[test]
fn no_limit_is_exceeded_and_all_hold_at_once() {
    let per_second = |jobs, burst| Some(midge_protocol::manifest::Rate { jobs, per_ms: 1_000, burst });
    let none = QueuePolicy::default();
    let heads = || [head("a", 0, 20), head("b", 100, 20), keyless(200, 20)];
    let table: [(QueuePolicy, u64, &[u8]); 7] = [
        (QueuePolicy { max_running: Some(5), ..none.clone() }, 2, &[0, 100, 200]),
        (QueuePolicy { max_running: Some(5), ..none.clone() }, 9, &[]),
        (
            QueuePolicy { max_running_per_key: Some(1), ..none.clone() },
            0,
            &[0, 100, 200, 201, 202, 203, 204, 205, 206, 207],
        ),
        (QueuePolicy { rate: per_second(1, 2), ..none.clone() }, 0, &[0, 100]),
        (
            QueuePolicy { rate_per_key: per_second(1, 2), max_running: Some(8), ..none.clone() },
            0,
            &[0, 100, 200, 1, 101, 201, 202, 203],
        ),
        (
            QueuePolicy {
                rate_per_key: per_second(1, 3),
                max_running_per_key: Some(2),
                max_running: Some(9),
                rate: per_second(9, 6),
                ..none.clone()
            },
            4,
            &[0, 100, 200, 1, 101],
        ),
        (
            QueuePolicy { rate: per_second(5, 100), max_running_per_key: Some(3), ..none },
            0,
            &[0, 100, 200, 1, 101, 201, 2, 102, 202, 203],
        ),
    ];
    for (policy, running, expected) in table {
        let admission = of(&policy, &QueueRow::default(), running, &heads());
        assert_eq!(numbers(&admission), expected, "{policy:?}");
    }
}

#[test]
fn a_lane_without_room_is_not_looked_at_until_it_may_have_some() {
    let policy = QueuePolicy { max_running_per_key: Some(2), ..QueuePolicy::default() };
    let lane = |admission: &Admission| admission.lanes[0].clone();
    let full = lane(&of(&policy, &QueueRow::default(), 0, &[head("a", 0, 20)]));
    assert!(full.full);
    let mut one_ended = full.clone();
    one_ended.running = 2;
    let job = |phase| Some(crate::InLane { phase, due: NOW });
    one_ended.count(job(Phase::Running), job(Phase::Completed));
    assert!(!one_ended.full && one_ended.running == 1);

    let rate = midge_protocol::manifest::Rate { jobs: 1, per_ms: 60_000, burst: 1 };
    let policy = QueuePolicy { rate_per_key: Some(rate), ..QueuePolicy::default() };
    let waits = lane(&of(&policy, &QueueRow::default(), 0, &[head("a", 0, 20)]));
    let in_a_minute = Timestamp::from_millis(NOW.as_millis() + 60_000);
    assert_eq!((waits.full, waits.turn), (false, Some(Turn::at(in_a_minute))));

    let later = LaneHead { next_due: Some(in_a_minute), ..head("a", 0, 3) };
    let empty = lane(&of(&QueuePolicy::default(), &QueueRow::default(), 0, &[later]));
    assert_eq!(empty.turn, Some(Turn::at(in_a_minute)));
}

#[test]
fn a_job_that_has_expired_takes_nobodys_place() {
    let machine = machine("m1", MachineState::Up, NOW);
    let mut jobs = waiting(3);
    jobs[0].expires_at = Some(NOW);
    jobs[1].expires_at = Some(NOW.after(std::time::Duration::from_millis(1)));
    assert_eq!(admitted(&Claim { room: 1, ..claim(&machine) }, 0, &jobs), [1]);
}

#[test]
fn a_paused_queue_starts_nothing_until_its_pause_is_over() {
    let row = |until| QueueRow {
        pause: Some(midge_protocol::api::Pause {
            since: NOW,
            until,
            reason: String::new(),
            by: String::new(),
        }),
        ..QueueRow::default()
    };
    let policy = QueuePolicy::default();
    let later = Timestamp::from_millis(NOW.as_millis() + 1);
    assert_eq!(numbers(&of(&policy, &row(None), 0, &[keyless(0, 3)])), NOTHING);
    assert_eq!(numbers(&of(&policy, &row(Some(later)), 0, &[keyless(0, 3)])), NOTHING);
    assert_eq!(numbers(&of(&policy, &row(Some(NOW)), 0, &[keyless(0, 3)])), [0, 1, 2]);
    assert_eq!(row(Some(later)).room_at(&policy, 0, NOW), Some(later));
    assert_eq!(row(None).room_at(&policy, 0, NOW), None);
}

#[test]
fn the_last_warm_machine_stays() {
    let up = machine("m", MachineState::Up, NOW);
    let (other, left) = (machine("n", MachineState::Up, NOW), machine("n", MachineState::Left, NOW));
    let policy = QueuePolicy { warm_machines: 1, ..QueuePolicy::default() };
    assert!(!may_leave(&up, &policy, "g1", [&up].into_iter()));
    assert!(!may_leave(&up, &policy, "g1", [&up, &left].into_iter()), "one that left keeps nothing warm");
    assert!(may_leave(&up, &policy, "g1", [&up, &other].into_iter()));
    assert!(may_leave(&up, &policy, "g2", [&up].into_iter()), "nor does an old generation");
    assert!(may_leave(&up, &QueuePolicy::default(), "g1", [&up].into_iter()));
}

#[test]
fn a_queue_is_full_when_more_would_wait_than_may() {
    assert!(!is_full(10, 9, 1));
    assert!(is_full(10, 10, 1));
    assert!(is_full(10, 1, u64::MAX));
}
