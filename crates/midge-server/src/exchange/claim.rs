//! What a host gets: attempts that it lost, jobs that are due, or leave to go.

use std::collections::BTreeSet;

use midge_core::{Claim, Job, JobEvent, MachineEvent, admit, emptier, may_leave};
use midge_protocol::JobId;
use midge_protocol::exchange::{AttemptRef, Grant, Request};
use midge_store::{Content, StoreError};

use super::session::Session;
use crate::expiry::discard_expired;

impl Session<'_> {
    /// Sends again what is leased to the Machine and its host does not know of: the answer that held it was lost.
    pub(super) fn resend(&mut self, request: &Request) -> Result<(), StoreError> {
        let listed: BTreeSet<JobId> = request.running.iter().map(|running| running.attempt.job).collect();
        let unlisted: Vec<Job> =
            self.leased.values().filter(|job| !listed.contains(&job.id)).cloned().collect();
        for job in unlisted {
            let lease = self.lease(reference(&job));
            // What does not fit is not listed the next time either.
            let unlisted = self.apply(job.id, JobEvent::Unlisted { lease })?;
            if unlisted.is_none() && self.carried.has_room() {
                self.give(&job)?;
            }
        }
        Ok(())
    }

    /// Leases jobs that are due, as many as `midge-core` admits and fit into an answer.
    pub(super) fn claim(&mut self, room: u32) -> Result<(), StoreError> {
        let resent = self.done.answer.jobs.len() as u32;
        let claim = Claim {
            machine: &self.machine,
            generation: &self.context.generation,
            running: self.leased.len() as u32,
            room: room.saturating_sub(resent),
            newest: true,
        };
        let room = claim.room();
        if room == 0 || !self.carried.has_room() {
            return Ok(());
        }
        let (queue, now) = (&self.machine.queue, self.now);
        let mut waiting = self.rows.jobs_due(queue, now, room)?;
        if waiting.iter().any(|job| job.has_expired(now)) {
            // They would hold up those behind them until the dispatcher comes by.
            self.done.ended.extend(discard_expired(self.rows, now)?);
            waiting = self.rows.jobs_due(queue, now, room)?;
        }
        let mut emptier_machines = 0;
        if waiting.iter().any(Job::is_suspect) {
            let all = self.rows.machines()?;
            emptier_machines = emptier(&self.machine, claim.running, claim.generation, all.iter());
            waiting = self.rows.jobs_due(queue, now, room.saturating_add(emptier_machines))?;
        }
        let admitted = admit(&claim, emptier_machines, &waiting, now);
        let mut claimed = Vec::with_capacity(admitted.len());
        for job in waiting.iter().filter(|job| admitted.contains(&job.id)) {
            if !self.carried.has_room() {
                break;
            }
            let event = JobEvent::Claimed { machine: self.machine.name.clone() };
            let Ok(change) = job.apply(event, self.now) else { continue };
            self.give(&change.job)?;
            claimed.push(change.job);
        }
        self.rows.put_jobs(&claimed)?;
        let (attempts, apart) = (claimed.len() as u64, claimed.iter().any(Job::is_suspect));
        if attempts > 0
            && let Ok(change) = self.machine.apply(MachineEvent::Granted { attempts, apart }, now)
        {
            self.machine = change.machine;
        }
        // What came behind it in line may go on at other Machines.
        self.done.unblocked |= apart;
        self.leased.extend(claimed.into_iter().map(|job| (job.id, job)));
        Ok(())
    }

    /// Puts the grant of a leased job into the answer.
    fn give(&mut self, job: &Job) -> Result<(), StoreError> {
        let grant = self.grant(job)?;
        self.carried.add(&grant);
        self.done.answer.jobs.push(grant);
        Ok(())
    }

    fn grant(&mut self, job: &Job) -> Result<Grant, StoreError> {
        let args = self.rows.content(job.id, Content::Args)?.unwrap_or_default();
        Ok(Grant {
            attempt: reference(job),
            module: job.module.clone(),
            queue: job.queue.clone(),
            args: String::from_utf8_lossy(&args).into_owned(),
            input: self.rows.content(job.id, Content::Input)?,
            limits: job.limits,
        })
    }

    /// Lets the host go, where it asked to and there is nothing for it.
    pub(super) fn leave(&mut self, request: &Request) -> Result<(), StoreError> {
        if !request.leaving || !self.leased.is_empty() || !request.running.is_empty() {
            return Ok(());
        }
        let machines = self.rows.machines()?;
        let policy = self.context.policies.get(&self.machine.queue).cloned().unwrap_or_default();
        let all = machines.iter().map(|(machine, _)| machine);
        if may_leave(&self.machine, &policy, &self.context.generation, all)
            && let Ok(left) = self.machine.apply(MachineEvent::Left, self.now)
        {
            self.machine = left.machine;
            self.done.answer.left = true;
            self.done.changed = true;
        }
        Ok(())
    }
}

fn reference(job: &Job) -> AttemptRef {
    AttemptRef { job: job.id, attempt: job.attempt }
}
