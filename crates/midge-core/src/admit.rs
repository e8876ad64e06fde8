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
    /// When it has its turn.
    pub turn: Turn,
    /// Its first jobs that are due, in [`claim_order`].
    pub jobs: Vec<Job>,
    /// When the first of those is due that are not yet; nothing where all are, or `jobs` are not all that are due.
    pub next_due: Option<Timestamp>,
    /// Whether `jobs` are all of its jobs that are due.
    pub is_whole: bool,
}

/// Puts the jobs without a key among the lanes, which are in the order of their turns. They have none where there is no such
/// job.
pub fn in_turn(mut lanes: Vec<LaneHead>, keyless: LaneHead) -> Vec<LaneHead> {
    if !keyless.jobs.is_empty() {
        lanes.insert(lanes.iter().take_while(|head| head.turn <= keyless.turn).count(), keyless);
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
    /// Whether a suspect is next, for which the Machine is to be empty: until then it gets nothing more, of other queues
    /// neither.
    pub empties: bool,
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
    // The jobs without a key are a lane as well: whoever is served is behind them, too.
    let keyless = heads.iter().find(|head| head.lane.is_none()).map_or(gate.row.turn, |head| head.turn);
    let keyless_came = Some(keyless).filter(|turn| *turn <= Turn::until(now));
    let (mut admitted, mut passed, mut last_turn) = (Vec::new(), 0, gate.last_turn.max(keyless_came));
    let (mut keyless_turn, mut empties) = (None, false);
    while admitted.len() < room
        && let Some(index) = line.pop_front()
    {
        let lane = &mut lanes[index];
        let Some(job) = lane.next() else { continue };
        if job.is_suspect() {
            let alone = claim.is_empty() && admitted.is_empty() && passed == 0;
            if !alone && passed >= emptier {
                empties = true;
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
        empties,
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
        lane.served = self.turn.or(lane.served);
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
mod tests;
