//! Which jobs a Machine gets next, and whether it may go when there are none.

use midge_protocol::manifest::QueuePolicy;
use midge_protocol::{JobId, Timestamp};

use crate::{Job, Machine, MachineState};

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

/// Returns what a queue's waiting jobs are found and claimed by, smallest first: longest due, then the smaller id.
///
/// Every store finds jobs in this order: SQL and indexes name the same columns, and the conformance suite compares.
pub fn claim_order(job: &Job) -> impl Ord + use<> {
    (job.due(), job.id)
}

/// Returns the jobs that the Machine gets. `waiting` are the first jobs of its queue, in [`claim_order`]: as many as it has
/// [`Claim::room`] for, and `emptier` more. Those are the Machines that are [`emptier`] than it.
///
/// One that has expired is never among them. A queue is one lane today, so that order is all there is to fairness, but that a suspect needs a Machine for itself:
/// * A Machine that is empty gets the suspect that is first in line, and nothing else.
/// * One that is not passes by as many suspects as there are Machines that will be empty sooner. Behind the next one it
///   gets nothing, until it is empty itself. So no suspect waits for ever, and no more Machines are emptied than it takes.
pub fn admit(claim: &Claim<'_>, emptier: usize, waiting: &[Job], now: Timestamp) -> Vec<JobId> {
    let (room, mut passed, mut admitted) = (claim.room(), 0, Vec::new());
    let may_start =
        |job: &&Job| job.due() <= now && !job.has_expired(now) && job.queue == claim.machine.queue;
    for job in waiting.iter().filter(may_start) {
        if admitted.len() >= room {
            break;
        }
        if !job.is_suspect() {
            admitted.push(job.id);
        } else if claim.is_empty() && admitted.is_empty() && passed == 0 {
            return vec![job.id];
        } else if passed >= emptier {
            break;
        } else {
            passed += 1;
        }
    }
    admitted
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
    machine.state == MachineState::Draining
        || machine.is_outdated(generation)
        || machine.single_use && machine.attempts > 0
        || others_up >= policy.warm_machines.min(policy.max_machines) as usize
}

/// Returns whether a queue in which so many jobs wait, due or not, has no room for so many new ones. `max_jobs` is its
/// [`QueuePolicy::max_jobs`].
pub fn is_full(max_jobs: u64, waiting: u64, new: u64) -> bool {
    waiting.saturating_add(new) > max_jobs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::tests::new_job;
    use crate::machine::tests::machine;
    use crate::{JobState, Phase};

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn waiting(count: u8) -> Vec<Job> {
        (0..count).map(|n| Job::new(new_job(n, NOW), NOW)).collect()
    }

    fn claim(machine: &Machine) -> Claim<'_> {
        Claim { machine, generation: "g1", running: 0, room: 10, newest: true }
    }

    #[test]
    fn a_job_that_has_expired_takes_nobodys_place() {
        let machine = machine("m1", MachineState::Up, NOW);
        let mut jobs = waiting(3);
        jobs[0].expires_at = Some(NOW);
        jobs[1].expires_at = Some(NOW.after(std::time::Duration::from_millis(1)));
        let claim = Claim { room: 1, ..claim(&machine) };
        assert_eq!(admit(&claim, 0, &jobs, NOW), vec![jobs[1].id]);
    }

    const NOTHING: [u8; 0] = [];

    fn with_suspects(count: u8, suspects: &[usize]) -> Vec<Job> {
        let mut jobs = waiting(count);
        suspects.iter().for_each(|suspect| jobs[*suspect].suspect = true);
        jobs
    }

    fn admitted(claim: &Claim<'_>, emptier: usize, waiting: &[Job]) -> Vec<u8> {
        admit(claim, emptier, waiting, NOW).iter().map(|id| id.as_bytes()[0]).collect()
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
        once.attempts = 1;
        assert_eq!(admitted(&claim(&once), 0, &waiting(5)), NOTHING);
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
