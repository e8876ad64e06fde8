//! What a host gets: attempts that it lost, jobs that are due, or leave to go.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use midge_core::{
    Claim, Gate, Job, JobEvent, Lane, LaneHead, MachineEvent, MachineState, Turn, admit, emptier, in_turn,
    may_leave, may_rest,
};
use midge_protocol::exchange::{AttemptRef, Grant, Request};
use midge_protocol::manifest::QueuePolicy;
use midge_protocol::{JobId, QueueName};
use midge_store::{Content, LanesCome, StoreError};

use super::session::Session;
use crate::expiry::discard_expired;
use crate::held::Holds;

/// Looks for jobs in one claim: each finds some, or puts lanes off that have nothing to give just now.
const LOOKS_MAX: usize = 16;
/// Lanes that are looked at together, where fewer jobs are wanted: so that those that have nothing to give are soon passed.
const LANES_AT_ONCE: usize = 8;

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
        let queue = self.machine.queue.clone();
        let policy = self.context.catalog.policy(&queue);
        for _ in 0..LOOKS_MAX {
            if !self.look(&queue, &policy, room)? {
                return Ok(());
            }
        }
        // Others wait for the transaction.
        self.done.look_at = Some(self.now);
        Ok(())
    }

    /// Looks once for jobs. Returns whether another look may find more.
    fn look(&mut self, queue: &QueueName, policy: &QueuePolicy, room: u32) -> Result<bool, StoreError> {
        let now = self.now;
        let claim = Claim {
            machine: &self.machine.clone(),
            generation: &self.context.catalog.generation,
            running: self.leased.len() as u32,
            room: room.saturating_sub(self.done.answer.jobs.len() as u32),
            newest: true,
        };
        if claim.room() == 0 || !self.carried.has_room() {
            return Ok(false);
        }
        let row = self.rows.queue(queue)?;
        let running = if policy.max_running.is_some() { self.rows.jobs_running(queue)? } else { 0 };
        let mut gate = Gate { policy, row: &row, running, last_turn: None };
        let wanted = gate.room(&claim, now);
        if wanted == 0 {
            self.done.look_at = row.room_at(policy, running, now);
            return Ok(false);
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
            self.done.look_at = next_turn.map(Turn::comes);
            return Ok(false);
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
            return Ok(true);
        }
        let mut admission = admit(&claim, &gate, emptier_machines, &heads, now);
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
        self.done.look_at = next_turn.map(Turn::comes);
        let is_whole = lanes.is_empty() && heads.iter().all(|head| head.is_whole);
        Ok(!is_whole && (attempts > 0 || !admission.lanes.is_empty()))
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
            let next_due = if is_whole { self.rows.next_due_of_key(queue, &lane.key, now)? } else { None };
            heads.push(LaneHead { lane: Some(lane.clone()), jobs, next_due, is_whole });
        }
        let jobs = self.rows.jobs_due(queue, None, now, each)?;
        let is_whole = jobs.len() < each;
        let keyless = LaneHead { lane: None, jobs, next_due: None, is_whole };
        Ok(in_turn(gate.row, heads, keyless))
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
