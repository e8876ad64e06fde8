//! Which jobs a Machine gets next, and whether it may go when there are none.

use std::collections::VecDeque;

use midge_protocol::manifest::QueuePolicy;
use midge_protocol::{JobId, Timestamp, limits};

use crate::{Job, Lane, Machine, MachineState, Phase, QueueRow, Turn};

/// Jobs at the head of a queue's line among which suspects are looked for when Machines are planned: so many may get a
/// Machine each at a time. Those further back have their turn later.
pub const LINE_HEAD: usize = 64;

/// A Machine's claim.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The Machine as it is.
    pub machine: &'a Machine,
    /// The generation that the server runs now.
    pub generation: &'a str,
    /// Attempts that are leased to it.
    pub running: u32,
    /// How many more its host says it can begin.
    pub room: u32,
    /// Whether the request is the newest of the Machine: an older one, still parked, gets nothing.
    pub newest: bool,
}

impl Claim<'_> {
    /// Returns the most jobs it can get, before anybody looks for jobs.
    pub fn room(&self) -> usize {
        let machine = self.machine;
        let open = self.newest
            && machine.state == MachineState::Up
            && !machine.is_outdated(self.generation)
            && !machine.is_taken(self.running);
        if open { self.room.min(machine.places.saturating_sub(self.running)) as usize } else { 0 }
    }

    /// Returns whether the Machine can take a suspect: nothing runs there, and nothing that was stopped is left behind.
    fn is_empty(&self) -> bool {
        self.running == 0 && self.room >= self.machine.places
    }
}

/// Returns what a lane's waiting jobs are found and claimed by, smallest first: priority and due time together, then the
/// smaller id.
///
/// A step of priority is worth [`limits::PRIORITY_STEP`] of waiting. So a job of a better priority goes first, but not
/// before one that has waited so much longer: no job waits for ever behind others that keep coming.
///
/// Every store finds jobs in this order, and the conformance suite compares.
pub fn claim_order(job: &Job) -> impl Ord + use<> {
    let step = limits::PRIORITY_STEP.as_millis() as i64;
    (job.due().as_millis() + i64::from(job.priority) * step, job.id)
}

/// A lane whose turn has come, with the first of its jobs.
#[derive(Debug, Clone)]
pub struct LaneHead {
    /// The lane's row; nothing for the jobs without a key.
    pub lane: Option<Lane>,
    /// Its first jobs that are due, in [`claim_order`].
    pub jobs: Vec<Job>,
    /// When the first of those is due that are not yet; nothing where all are, or `jobs` are not all that are due.
    pub next_due: Option<Timestamp>,
    /// Whether `jobs` are all of its jobs that are due.
    pub is_whole: bool,
}

/// Puts the jobs without a key among the lanes, which are in the order of their turns: at the turn that the queue has for
/// them, which is its row's. They have none where there is no such job.
pub fn in_turn(row: &QueueRow, mut lanes: Vec<LaneHead>, keyless: LaneHead) -> Vec<LaneHead> {
    if !keyless.jobs.is_empty() {
        let turn = |head: &LaneHead| head.lane.as_ref().and_then(|lane| lane.turn);
        let is_before = |head: &&LaneHead| turn(head).is_some_and(|turn| turn <= row.turn);
        lanes.insert(lanes.iter().take_while(is_before).count(), keyless);
    }
    lanes
}

/// What a claim comes to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Admission {
    /// The jobs that the Machine gets.
    pub jobs: Vec<JobId>,
    /// The lanes that were looked at, as they are from then on, but for the numbers of their jobs.
    pub lanes: Vec<Lane>,
    /// The row of the queue, where it is another from then on.
    pub queue: Option<QueueRow>,
}

/// What bounds the jobs of a queue, all Machines together.
#[derive(Debug, Clone)]
pub struct Gate<'a> {
    /// The policy of the queue.
    pub policy: &'a QueuePolicy,
    /// The row of the queue.
    pub row: &'a QueueRow,
    /// The number of its jobs that run.
    pub running: u64,
    /// The last turn of its lanes that has come.
    pub last_turn: Option<Turn>,
}

impl Gate<'_> {
    /// Returns the most jobs that a claim can get, before anybody looks for jobs.
    pub fn room(&self, claim: &Claim<'_>, now: Timestamp) -> usize {
        let room = self.row.room(self.policy, self.running, now);
        claim.room().min(usize::try_from(room).unwrap_or(usize::MAX))
    }
}

/// Returns the jobs that the Machine gets, of lanes whose turn has come, `heads`, in the order of their turns. `emptier`
/// are the Machines that are [`emptier`] than it.
///
/// A job that has expired is never among them. Lanes take turns: each gives one job, and then has its turn behind all
/// others. So it does not matter how many jobs a key has. Within a lane it is [`claim_order`]. None of the limits of the
/// queue or of a key is exceeded: what has no room is passed by, and looked at again when it may have some.
///
/// A suspect needs a Machine for itself:
/// * A Machine that is empty gets the suspect that is first in line, and nothing else.
/// * One that is not passes by as many suspects as there are Machines that will be empty sooner. Behind the next one it
///   gets nothing, until it is empty itself. So no suspect waits for ever, and no more Machines are emptied than it takes.
pub fn admit(
    claim: &Claim<'_>,
    gate: &Gate<'_>,
    emptier: usize,
    heads: &[LaneHead],
    now: Timestamp,
) -> Admission {
    let room = gate.room(claim, now);
    let mut lanes: Vec<Offer<'_>> = heads.iter().map(|head| Offer::new(head, gate.policy, now)).collect();
    let mut line: VecDeque<usize> = (0..lanes.len()).collect();
    let (mut admitted, mut passed, mut last_turn) = (Vec::new(), 0, gate.last_turn);
    let mut keyless_turn = None;
    while admitted.len() < room
        && let Some(index) = line.pop_front()
    {
        let lane = &mut lanes[index];
        let Some(job) = lane.next() else { continue };
        if job.is_suspect() {
            let alone = claim.is_empty() && admitted.is_empty() && passed == 0;
            if !alone && passed >= emptier {
                break;
            }
            if !alone {
                passed += 1;
                line.push_front(index);
                continue;
            }
        }
        admitted.push(job.id);
        last_turn = Some(Turn::behind(last_turn, now));
        lane.served(last_turn);
        if lane.head.lane.is_none() {
            keyless_turn = last_turn;
        }
        if job.is_suspect() {
            break;
        }
        line.push_back(index);
    }
    let begun = admitted.len() as u64;
    let mut row = gate.row.clone();
    if let Some(rate) = gate.policy.rate.filter(|_| begun > 0) {
        row.bucket = row.bucket.take(rate, begun, now);
    }
    // Whose turn it is matters only where there is another lane.
    if let Some(turn) = keyless_turn.filter(|_| heads.len() > 1) {
        row.turn = turn;
    }
    Admission {
        jobs: admitted,
        lanes: lanes.into_iter().filter_map(|lane| lane.after(gate.policy, now)).collect(),
        queue: (row != *gate.row).then_some(row),
    }
}

/// What a lane has to give.
struct Offer<'a> {
    head: &'a LaneHead,
    /// How many of its jobs may begin.
    room: u64,
    /// How many of its jobs were looked at, and how many begin.
    looked_at: usize,
    begun: u64,
    turn: Option<Turn>,
    now: Timestamp,
}

impl<'a> Offer<'a> {
    fn new(head: &'a LaneHead, policy: &QueuePolicy, now: Timestamp) -> Offer<'a> {
        let room = head.lane.as_ref().map_or(u64::MAX, |lane| lane.room(policy, now));
        Offer { head, room, looked_at: 0, begun: 0, turn: None, now }
    }

    /// Returns its next job that may begin.
    fn next(&mut self) -> Option<&'a Job> {
        if self.begun >= self.room {
            return None;
        }
        let left = self.head.jobs.iter().skip(self.looked_at);
        let job = left.inspect(|_| self.looked_at += 1).find(|job| !job.has_expired(self.now))?;
        Some(job)
    }

    fn served(&mut self, turn: Option<Turn>) {
        self.begun += 1;
        self.turn = turn;
    }

    /// Returns its row from now on; nothing where it has none, or that is as it was.
    fn after(&self, policy: &QueuePolicy, now: Timestamp) -> Option<Lane> {
        let before = self.head.lane.as_ref()?;
        let mut lane = before.clone();
        if let Some(rate) = policy.rate_per_key {
            lane.bucket = lane.bucket.take(rate, self.begun, now);
        }
        lane.turn = self.turn.or(lane.turn);
        lane.full =
            policy.max_running_per_key.is_some_and(|max| before.running + self.begun >= u64::from(max));
        if self.head.is_whole && self.begun as usize >= self.head.jobs.len() {
            lane.turn = self.head.next_due.map(Turn::at).or_else(|| lane.rests_until());
        } else if let Some(rate) = policy.rate_per_key.filter(|rate| lane.bucket.tokens(*rate, now) == 0) {
            lane.turn = Some(Turn::at(lane.bucket.next(rate)));
        }
        (lane != *before).then_some(lane)
    }
}

/// Returns how many other Machines of its queue run less than a Machine that runs so many attempts, and can take a suspect
/// once they are empty. Of those that run the same number, the smaller name counts as emptier. `all` are all Machines, each
/// with how many attempts are leased to it.
pub fn emptier<'a>(
    machine: &Machine,
    running: u32,
    generation: &str,
    all: impl Iterator<Item = &'a (Machine, u32)>,
) -> usize {
    let takes_suspects = |(other, theirs): &&(Machine, u32)| {
        other.queue == machine.queue
            && other.state == MachineState::Up
            && !other.is_outdated(generation)
            && !other.is_taken(*theirs)
    };
    let is_emptier = |(other, theirs): &&(Machine, u32)| (*theirs, &other.name) < (running, &machine.name);
    all.filter(takes_suspects).filter(is_emptier).filter(|(other, _)| other.name != machine.name).count()
}

/// Returns whether a Machine that asks to leave may: always, unless it is needed to keep its queue warm. `all` are all
/// Machines that have a row, itself included or not.
pub fn may_leave<'a>(
    machine: &Machine,
    policy: &QueuePolicy,
    generation: &str,
    all: impl Iterator<Item = &'a Machine>,
) -> bool {
    let others_up = all
        .filter(|other| other.name != machine.name && other.queue == machine.queue)
        .filter(|other| other.state == MachineState::Up && !other.is_outdated(generation))
        .count();
    machine.is_to_drain()
        || machine.is_outdated(generation)
        || others_up >= policy.warm_machines.min(policy.max_machines) as usize
}

/// Returns how many new jobs a queue takes in which so many wait, due or not. `max_jobs` is its
/// [`QueuePolicy::max_jobs`].
pub fn room_for_new(max_jobs: u64, waiting: u64) -> u64 {
    max_jobs.saturating_sub(waiting)
}

/// Returns whether a queue in which so many jobs wait, due or not, has no room for so many new ones.
pub fn is_full(max_jobs: u64, waiting: u64, new: u64) -> bool {
    new > room_for_new(max_jobs, waiting)
}

/// Returns whether a job that becomes another comes to wait in a queue in which it did not wait: it needs room there, as a new
/// one does. One that is tried again after it ran has its place.
pub fn needs_room(before: &Job, after: &Job) -> bool {
    let waited = before.phase().is_waiting() && before.queue == after.queue;
    after.phase().is_waiting() && !waited && before.phase() != Phase::Running
}

#[cfg(test)]
mod tests {
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
        let (policy, row) = (QueuePolicy::default(), QueueRow::default());
        let gate = Gate { policy: &policy, row: &row, running: 0, last_turn: None };
        let head = LaneHead { lane: None, jobs: waiting.to_vec(), next_due: None, is_whole: true };
        numbers(&admit(claim, &gate, emptier, &[head], NOW))
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
        LaneHead { lane: Some(lane), jobs, next_due: None, is_whole: true }
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
            assert_eq!(
                admitted(&left_behind, emptier, &with_suspects(1, &[0])),
                NOTHING,
                "{emptier} emptier"
            );
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
        let mut jobs =
            [job(0, 0, 0), job(1, 61, 1), job(2, 59, 1), job(3, 0, -1), job(4, 60, 1), job(5, 0, 100)];
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
}
