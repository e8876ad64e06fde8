//! What a host gets: attempts that it lost, jobs that are due, or leave to go.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use midge_core::{
    Claim, Gate, Job, JobEvent, Lane, LaneHead, MachineEvent, MachineState, QueueRow, Turn, admit, emptier,
    in_turn, may_leave, may_rest,
};
use midge_protocol::exchange::{AttemptRef, Grant, Request};
use midge_protocol::manifest::QueuePolicy;
use midge_protocol::{JobId, QueueName, Timestamp};
use midge_store::{Content, LanesCome, StoreError};

use super::session::Session;
use crate::expiry::discard_expired;
use crate::held::Holds;

/// Looks for jobs in one claim: each finds some, or puts lanes off that have nothing to give just now.
const LOOKS_MAX: usize = 16;
/// Lanes that are looked at together, where fewer jobs are wanted: so that those that have nothing to give are soon passed.
const LANES_AT_ONCE: usize = 8;

/// Where a look may find more jobs.
enum More {
    /// In the queue that was looked at, or another.
    OfThis,
    /// In other queues that the Machine serves.
    OfOthers,
    /// Nowhere: there is no room, or the Machine is to be empty first.
    Nothing,
}

impl Session<'_> {
    /// Sends again what is leased to the Machine and its host does not know of: the answer that held it was lost.
    pub(super) fn resend(&mut self, request: &Request) -> Result<(), StoreError> {
        let is_leased =
            |attempt: &AttemptRef| self.leased.get(&attempt.job).is_some_and(|job| job.is_meant_by(*attempt));
        let listed = request.running.iter().map(|running| running.attempt).filter(is_leased);
        let listed: BTreeSet<JobId> = listed.map(|attempt| attempt.job).collect();
        let unlisted: Vec<Job> =
            self.leased.values().filter(|job| !listed.contains(&job.id)).cloned().collect();
        for job in unlisted {
            let lease = self.lease(job.attempt_ref());
            // What does not fit is not listed the next time either.
            let unlisted = self.apply(job.id, JobEvent::Unlisted { lease })?;
            if unlisted.is_none() && self.carried.has_room() {
                // A host that was started again runs the same attempt again, which may have saved something itself.
                let saved = self.rows.content(job.id, Content::Saved)?;
                self.give(&job, saved)?;
            }
        }
        Ok(())
    }

    /// Leases jobs that are due, as many as `midge-core` admits and fit into an answer.
    pub(super) fn claim(&mut self, room: u32) -> Result<(), StoreError> {
        let mut open = self.queues_in_turn()?;
        let several = open.len() > 1;
        // One look for each finds most of them empty.
        for _ in 0..LOOKS_MAX + open.len() {
            let Some((queue, policy)) = open.pop_front() else { return Ok(()) };
            // Each queue has its part; what it does not need is for the others.
            let left = room.saturating_sub(self.done.answer.jobs.len() as u32) as usize;
            let most = left.div_ceil(open.len() + 1).max(1);
            let given = self.done.answer.jobs.len();
            match self.look(&queue, &policy, room, most)? {
                More::OfThis => open.push_back((queue.clone(), policy)),
                More::OfOthers => {}
                // Else the others would keep it from being empty for ever. It is the first of them the next time.
                More::Nothing => open.clear(),
            }
            if several && self.done.answer.jobs.len() > given {
                self.was_served(&queue)?;
            }
        }
        // Others wait for the transaction.
        self.done.look_at = Some(self.now);
        Ok(())
    }

    /// Returns the queues that the Machine serves, the one first that was served longest ago.
    fn queues_in_turn(&mut self) -> Result<VecDeque<(QueueName, QueuePolicy)>, StoreError> {
        let catalog = &self.context.catalog;
        let mut queues = catalog.manifest.queues_served_as(&self.machine.queue);
        if queues.len() > 1 {
            let rows = self.rows.queues()?;
            queues.sort_by_key(|queue| rows.get(queue).map(|row| row.served));
        }
        Ok(queues.into_iter().map(|queue| (queue.clone(), catalog.policy(&queue))).collect())
    }

    /// Has a queue be served behind all others of its pool.
    fn was_served(&mut self, queue: &QueueName) -> Result<(), StoreError> {
        let rows = self.rows.queues()?;
        let last = rows.values().map(|row| row.served).max();
        let row = rows.get(queue).cloned().unwrap_or_default();
        self.rows.put_queue(queue, &QueueRow { served: Turn::behind(last, self.now), ..row })
    }

    /// Looks again at this time at the latest, if nothing happens before.
    fn looks_again(&mut self, at: Option<Timestamp>) {
        self.done.look_at = [self.done.look_at, at].into_iter().flatten().min();
    }

    /// Looks once for jobs of a queue, and takes `most` at most. Returns where another look may find more.
    fn look(
        &mut self,
        queue: &QueueName,
        policy: &QueuePolicy,
        room: u32,
        most: usize,
    ) -> Result<More, StoreError> {
        let now = self.now;
        let claim = Claim {
            machine: &self.machine.clone(),
            generation: &self.context.catalog.generation,
            running: self.leased.len() as u32,
            room: room.saturating_sub(self.done.answer.jobs.len() as u32),
            newest: true,
        };
        if claim.room() == 0 || !self.carried.has_room() {
            return Ok(More::Nothing);
        }
        let row = self.rows.queue(queue)?;
        let running = if policy.max_running.is_some() { self.rows.jobs_running(queue)? } else { 0 };
        let mut gate = Gate { policy, row: &row, running, last_turn: None };
        let wanted = gate.room(&claim, now);
        if wanted == 0 {
            self.looks_again(row.room_at(policy, running, now));
            return Ok(More::OfOthers);
        }
        let LanesCome { lanes, last, next: next_turn } =
            self.rows.lanes_come(queue, now, wanted.max(LANES_AT_ONCE))?;
        gate.last_turn = last;
        let mut heads = self.heads(queue, &lanes, &gate, wanted, 0)?;
        if heads.iter().flat_map(|head| &head.jobs).any(|job| job.has_expired(now)) {
            // They would hold up those behind them until the dispatcher comes by.
            self.done.ended.extend(discard_expired(self.rows, &self.context.catalog.generation, now)?);
            heads = self.heads(queue, &lanes, &gate, wanted, 0)?;
        }
        if lanes.is_empty() && heads.is_empty() {
            // As most parked hosts find it.
            self.looks_again(next_turn.map(Turn::comes));
            return Ok(More::OfOthers);
        }
        let mut emptier_machines = 0;
        if heads.iter().flat_map(|head| &head.jobs).any(Job::is_suspect) {
            let all = self.rows.machines()?;
            emptier_machines = emptier(&self.machine, claim.running, claim.generation, all.iter());
            heads = self.heads(queue, &lanes, &gate, wanted, emptier_machines)?;
        }
        let holds = Holds::read(self.rows, &self.context.catalog, now)?;
        if holds.hold_behind(self.rows, queue, &heads)? {
            // Others are behind them, and perhaps in other lanes: the next look finds those.
            return Ok(More::OfThis);
        }
        let mut admission = admit(&claim, &gate, emptier_machines, &heads, now);
        let cut = admission.jobs.len() > most;
        if cut {
            // A suspect is given alone, and so is never cut.
            admission = admit(&Claim { room: most as u32, ..claim }, &gate, emptier_machines, &heads, now);
        }
        let claimed = self.lease_all(&admission.jobs, &heads)?;
        if claimed.len() < admission.jobs.len() {
            // The answer is full: the others were not taken, and nothing is to be counted for them.
            let room = claimed.len() as u32;
            admission = admit(&Claim { room, ..claim }, &gate, emptier_machines, &heads, now);
        }
        self.rows.put_jobs(&claimed)?;
        self.rows.put_lanes(&admission.lanes, now)?;
        if let Some(row) = &admission.queue {
            self.rows.put_queue(queue, row)?;
        }
        let (attempts, apart) = (claimed.len() as u64, claimed.iter().any(Job::is_suspect));
        if attempts > 0
            && let Ok(change) = self.machine.apply(MachineEvent::Granted { attempts, apart }, now)
        {
            self.machine = change.machine;
        }
        // What came behind it in line may go on at other Machines.
        self.done.unblocked |= apart;
        self.done.news.extend(claimed.iter().map(|job| job.id));
        self.leased.extend(claimed.into_iter().map(|job| (job.id, job)));
        self.looks_again(next_turn.map(Turn::comes));
        let is_whole = lanes.is_empty() && heads.iter().all(|head| head.is_whole);
        Ok(match cut || !is_whole && (attempts > 0 || !admission.lanes.is_empty()) {
            _ if admission.empties => More::Nothing,
            true => More::OfThis,
            false => More::OfOthers,
        })
    }

    /// Finds the first jobs of the lanes whose turn has come, and of those without a key, in the order of their turns.
    fn heads(
        &mut self,
        queue: &QueueName,
        lanes: &[Lane],
        gate: &Gate<'_>,
        wanted: usize,
        emptier: usize,
    ) -> Result<Vec<LaneHead>, StoreError> {
        let now = self.now;
        // What a lane has not got is given to others by another look.
        let each = wanted.div_ceil(lanes.len() + 1).saturating_add(emptier);
        let mut heads = Vec::with_capacity(lanes.len() + 1);
        for lane in lanes {
            let jobs = self.rows.jobs_due(queue, Some(&lane.key), now, each)?;
            let is_whole = jobs.len() < each;
            let next_due = match is_whole {
                true => self.rows.first_due(queue, Some(&lane.key), Some(now))?,
                false => None,
            };
            let turn = lane.turn.unwrap_or_default();
            heads.push(LaneHead { lane: Some(lane.clone()), turn, jobs, next_due, is_whole });
        }
        let jobs = self.rows.jobs_due(queue, None, now, each)?;
        let is_whole = jobs.len() < each;
        // Whose turn it is matters only where there is another lane.
        let first_due = match heads.is_empty() || jobs.is_empty() {
            true => None,
            false => self.rows.first_due(queue, None, None)?,
        };
        let turn = gate.row.keyless_turn(first_due);
        Ok(in_turn(heads, LaneHead { lane: None, turn, jobs, next_due: None, is_whole }))
    }

    /// Leases the jobs that were admitted, in their order, as many as fit into the answer.
    fn lease_all(&mut self, admitted: &[JobId], heads: &[LaneHead]) -> Result<Vec<Job>, StoreError> {
        let jobs: BTreeMap<JobId, &Job> =
            heads.iter().flat_map(|head| &head.jobs).map(|job| (job.id, job)).collect();
        let mut claimed = Vec::with_capacity(admitted.len());
        for job in admitted.iter().filter_map(|id| jobs.get(id)) {
            if !self.carried.has_room() {
                break;
            }
            let event = JobEvent::Claimed { machine: self.machine.name.clone() };
            let Ok(change) = job.apply(event, self.now) else { break };
            let finds = change.job.may_find_saved();
            let saved = if finds { self.rows.content(job.id, Content::Saved)? } else { None };
            self.give(&change.job, saved)?;
            claimed.push(change.job);
        }
        Ok(claimed)
    }

    /// Puts the grant of a leased job into the answer.
    fn give(&mut self, job: &Job, saved: Option<Bytes>) -> Result<(), StoreError> {
        let grant = self.grant(job, saved)?;
        self.carried.add(&grant);
        self.done.answer.jobs.push(grant);
        Ok(())
    }

    fn grant(&mut self, job: &Job, saved: Option<Bytes>) -> Result<Grant, StoreError> {
        let args = self.rows.content(job.id, Content::Args)?.unwrap_or_default();
        Ok(Grant {
            attempt: job.attempt_ref(),
            module: job.module.clone(),
            queue: job.queue.clone(),
            args: String::from_utf8_lossy(&args).into_owned(),
            input: self.rows.content(job.id, Content::Input)?,
            saved,
            limits: job.limits,
            record: self.context.catalog.policy(&job.queue).record,
        })
    }

    /// Lets the host go, or has it stand by, where it asked to leave and there is nothing for it.
    pub(super) fn leave(&mut self, request: &Request) -> Result<(), StoreError> {
        if !request.leaving || !self.leased.is_empty() || !request.running.is_empty() {
            return Ok(());
        }
        if self.machine.state == MachineState::Resting {
            self.done.answer.rest = true;
            return Ok(());
        }
        let machines = self.rows.machines()?;
        let policy = self.context.catalog.policy(&self.machine.queue);
        let all = || machines.iter().map(|(machine, _)| machine);
        let generation = &self.context.catalog.generation;
        if !may_leave(&self.machine, &policy, generation, all()) {
            return Ok(());
        }
        let rests = may_rest(&self.machine, &policy, generation, all());
        // One that does not know that it stood still was started for a job, which it has not seen yet.
        if rests && self.has_just_come() {
            return Ok(());
        }
        let event = if rests { MachineEvent::Rests } else { MachineEvent::Left };
        if let Ok(change) = self.machine.apply(event, self.now) {
            self.machine = change.machine;
            (self.done.answer.rest, self.done.answer.left) = (rests, !rests);
            self.done.changed = true;
        }
        Ok(())
    }
}
