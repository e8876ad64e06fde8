//! Which jobs a Machine gets next, and whether it may go when there are none.

use midge_protocol::manifest::QueuePolicy;
use midge_protocol::{JobId, Timestamp};

use crate::{Job, Machine, MachineState};

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
            && !(machine.single_use && machine.attempts > 0);
        if open { self.room.min(machine.places.saturating_sub(self.running)) as usize } else { 0 }
    }
}

/// Returns what a queue's waiting jobs are found and claimed by, smallest first: longest due, then the smaller id.
///
/// Every store finds jobs in this order: SQL and indexes name the same columns, and the conformance suite compares.
pub fn claim_order(job: &Job) -> impl Ord + use<> {
    (job.due(), job.id)
}

/// Returns the jobs that the Machine gets. `waiting` are jobs of its queue, in [`claim_order`].
///
/// A queue is one lane today, so that order is all there is to fairness.
pub fn admit(claim: &Claim<'_>, waiting: &[Job], now: Timestamp) -> Vec<JobId> {
    let due = waiting.iter().filter(|job| job.due() <= now && job.queue == claim.machine.queue);
    due.take(claim.room()).map(|job| job.id).collect()
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
    fn a_machine_gets_no_more_than_its_places() {
        let up = machine("m", MachineState::Up, NOW);
        assert_eq!(admit(&claim(&up), &waiting(5), NOW).len(), 2);
        assert_eq!(admit(&Claim { running: 1, ..claim(&up) }, &waiting(5), NOW).len(), 1);
        assert_eq!(admit(&Claim { running: 9, ..claim(&up) }, &waiting(5), NOW).len(), 0);
        assert_eq!(admit(&Claim { room: 0, ..claim(&up) }, &waiting(5), NOW).len(), 0);
        assert!(waiting(5).iter().all(|job| job.phase() == Phase::Fresh));
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
        assert_eq!(admit(&claim(&once), &waiting(5), NOW).len(), 1);
        once.attempts = 1;
        assert_eq!(admit(&claim(&once), &waiting(5), NOW).len(), 0);
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
