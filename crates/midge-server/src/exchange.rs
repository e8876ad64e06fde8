//! The exchange: what a host reports is written, and what it gets is leased, in one transaction.
//!
//! Invariant: nothing here waits. Whoever holds the connection decides whether an answer that says nothing is sent.

use std::collections::{BTreeMap, BTreeSet};

use midge_core::{
    AttemptEnd, Change, Claim, Event, Job, Machine, MachineEvent, MachineState, admit, may_leave,
};
use midge_protocol::exchange::{Answer, AttemptRef, Finished, Grant, Outcome, Request};
use midge_protocol::manifest::QueuePolicy;
use midge_protocol::{JobId, Lease, MachineName, QueueName, Timestamp, limits};
use midge_store::{Content, Rows, Store, StoreError};

use crate::secret;

/// What an exchange depends on beside the request and the rows.
#[derive(Debug, Clone)]
pub struct Context {
    /// The generation that may claim.
    pub generation: String,
    /// The policies of queues that do not have the default one.
    pub policies: BTreeMap<QueueName, QueuePolicy>,
    /// Spreads retries: at least 0 and less than 1.
    pub jitter: f64,
}

/// What came of an exchange.
#[derive(Debug, Default)]
pub struct Exchanged {
    /// What the host is told.
    pub answer: Answer,
    /// The queue that the Machine serves.
    pub queue: Option<QueueName>,
    /// Jobs that ended.
    pub ended: Vec<JobId>,
    /// Whether jobs came back to the queue, or the Machine's place in the plan changed.
    pub changed: bool,
    /// Whether a newer request of the same Machine has come: this one gets nothing any more.
    pub stale: bool,
}

impl Exchanged {
    /// The host may go, and knows it already or will at once.
    fn left() -> Exchanged {
        let answer = Answer { left: true, ..Answer::default() };
        Exchanged { answer, stale: true, ..Exchanged::default() }
    }
}

/// Why a host is turned away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Nobody knows such a Machine.
    #[error("there is no Machine {0}")]
    Unknown(MachineName),
    /// The secret is not that of the Machine.
    #[error("the secret is not that of Machine {0}")]
    WrongSecret(MachineName),
    /// The Machine left, or was given up.
    #[error("Machine {0} is {1}: its secret is revoked")]
    Revoked(MachineName, &'static str),
}

/// Writes what a host reports and leases to it what it may have.
pub async fn exchange(
    store: &dyn Store,
    context: Context,
    name: MachineName,
    secret_hash: String,
    request: Request,
    now: Timestamp,
) -> Result<Result<Exchanged, Denied>, StoreError> {
    midge_store::write(store, move |rows| {
        let row = match authorise(rows, &name, &secret_hash)? {
            Ok(row) => row,
            Err(denied) => return Ok(Err(denied)),
        };
        let newest = row.boot != Some(request.boot) || request.seq >= row.seq;
        let heard = MachineEvent::Heard { boot: request.boot, seq: request.seq };
        let machine = match row.apply(heard, now) {
            Ok(machine) => machine,
            Err(_) if is_left_behind(&row, &request) => return Ok(Ok(Exchanged::left())),
            Err(refused) => return Ok(Err(Denied::Revoked(name, refused.0.as_str()))),
        };
        let leased = rows.jobs_leased(&name)?.into_iter().map(|job| (job.id, job)).collect();
        let mut session =
            Session { rows, row, machine, leased, jitter: context.jitter, now, done: Exchanged::default() };
        session.report(&request)?;
        session.done.stale = !newest;
        if newest {
            session.resend(&request)?;
            session.claim(&context, request.room)?;
            session.leave(&context, &request)?;
        }
        session.finish(&context)
    })
    .await
}

fn authorise(
    rows: &mut dyn Rows,
    name: &MachineName,
    secret_hash: &str,
) -> Result<Result<Machine, Denied>, StoreError> {
    Ok(match rows.machine(name)? {
        None => Err(Denied::Unknown(name.clone())),
        Some(machine) if !secret::same(&machine.secret_hash, secret_hash) => {
            Err(Denied::WrongSecret(name.clone()))
        }
        Some(machine) => Ok(machine),
    })
}

/// Returns whether a host sent this before the request with which it left. It was still parked, and to be told that the
/// secret is revoked would look to the host as if it had been given up.
fn is_left_behind(row: &Machine, request: &Request) -> bool {
    row.state == MachineState::Left && row.boot == Some(request.boot) && request.seq < row.seq
}

/// One exchange in its transaction.
struct Session<'a> {
    rows: &'a mut dyn Rows,
    /// The Machine as it was.
    row: Machine,
    machine: Machine,
    /// Jobs that are leased to the Machine.
    leased: BTreeMap<JobId, Job>,
    jitter: f64,
    now: Timestamp,
    done: Exchanged,
}

impl Session<'_> {
    /// Writes what the host reports. A report without a lease is an answer to nobody: it is left out.
    fn report(&mut self, request: &Request) -> Result<(), StoreError> {
        for chunk in &request.log {
            if self.is_leased(chunk.attempt) {
                self.rows.append_log(chunk.attempt.job, chunk.attempt.attempt, chunk.offset, &chunk.bytes)?;
            }
        }
        for finished in &request.finished {
            self.attempt_finished(finished)?;
        }
        for &attempt in &request.handed_back {
            self.attempt_ended(attempt, AttemptEnd::HandedBack, None)?;
            self.done.changed = true;
        }
        for running in &request.running {
            if !self.is_leased(running.attempt) {
                self.done.answer.cancel.push(running.attempt);
                continue;
            }
            if let Some(progress) = &running.progress {
                let event =
                    Event::Progressed { lease: self.lease(running.attempt), progress: progress.clone() };
                self.apply(running.attempt.job, event)?;
            }
            if self.leased.get(&running.attempt.job).is_some_and(Job::is_cancelling) {
                self.done.answer.cancel.push(running.attempt);
            }
        }
        Ok(())
    }

    fn attempt_finished(&mut self, finished: &Finished) -> Result<(), StoreError> {
        let end = match &finished.outcome {
            Outcome::Completed { result } => AttemptEnd::Completed { result_bytes: result.len() as u64 },
            Outcome::Failed(failure) => AttemptEnd::Failed(failure.clone()),
            Outcome::Snoozed { after_ms } => {
                AttemptEnd::Snoozed { after: std::time::Duration::from_millis(*after_ms) }
            }
            Outcome::Cancelled => AttemptEnd::Cancelled,
        };
        let applied = self.attempt_ended(finished.attempt, end, Some(finished.usage))?;
        if let (true, Outcome::Completed { result }) = (applied, &finished.outcome) {
            self.rows.put_content(finished.attempt.job, Content::Result, result)?;
        }
        Ok(())
    }

    /// Ends an attempt that is leased to the Machine. Returns whether it was.
    fn attempt_ended(
        &mut self,
        attempt: AttemptRef,
        end: AttemptEnd,
        usage: Option<midge_protocol::job::Usage>,
    ) -> Result<bool, StoreError> {
        let event = Event::Finished { lease: self.lease(attempt), end, usage, jitter: self.jitter };
        self.apply(attempt.job, event)
    }

    /// Applies an event to a leased job and writes what changed. Returns whether it applied.
    fn apply(&mut self, id: JobId, event: Event) -> Result<bool, StoreError> {
        let Some(job) = self.leased.get(&id) else { return Ok(false) };
        let Ok(Change { job, attempt }) = job.apply(event, self.now) else { return Ok(false) };
        self.rows.put_jobs(std::slice::from_ref(&job))?;
        if let Some(attempt) = attempt {
            self.rows.put_attempt(id, &attempt)?;
        }
        if job.lease().is_some() {
            self.leased.insert(id, job);
        } else {
            self.leased.remove(&id);
            match job.ended_at() {
                Some(_) => self.done.ended.push(id),
                None => self.done.changed = true,
            }
        }
        Ok(true)
    }

    fn lease(&self, attempt: AttemptRef) -> Lease {
        Lease { machine: self.machine.name.clone(), attempt: attempt.attempt }
    }

    fn is_leased(&self, attempt: AttemptRef) -> bool {
        self.leased.get(&attempt.job).and_then(Job::lease) == Some(&self.lease(attempt))
    }

    /// Sends again what is leased to the Machine and its host does not know of: the answer that held it was lost.
    fn resend(&mut self, request: &Request) -> Result<(), StoreError> {
        let running: BTreeSet<JobId> = request.running.iter().map(|running| running.attempt.job).collect();
        let unknown: Vec<Job> =
            self.leased.values().filter(|job| !running.contains(&job.id)).cloned().collect();
        for job in unknown {
            if job.is_cancelling() {
                self.attempt_ended(reference(&job), AttemptEnd::HandedBack, None)?;
            } else {
                let grant = self.grant(&job)?;
                self.done.answer.jobs.push(grant);
            }
        }
        Ok(())
    }

    /// Leases jobs that are due, as many as `midge-core` admits and fit into an answer.
    fn claim(&mut self, context: &Context, room: u32) -> Result<(), StoreError> {
        let resent = self.done.answer.jobs.len() as u32;
        let claim = Claim {
            machine: &self.machine,
            generation: &context.generation,
            running: self.leased.len() as u32,
            room: room.saturating_sub(resent),
            newest: true,
        };
        let room = claim.room();
        if room == 0 {
            return Ok(());
        }
        let waiting = self.rows.jobs_due(&self.machine.queue, self.now, room)?;
        let admitted = admit(&claim, &waiting, self.now);
        let mut claimed = Vec::with_capacity(admitted.len());
        let mut input_bytes = 0;
        for job in waiting.iter().filter(|job| admitted.contains(&job.id)) {
            if input_bytes > limits::EXCHANGE_INPUT_BYTES_GOAL {
                break;
            }
            let event = Event::Claimed { machine: self.machine.name.clone() };
            let Ok(change) = job.apply(event, self.now) else { continue };
            let grant = self.grant(&change.job)?;
            input_bytes += grant.input.as_ref().map_or(0, bytes::Bytes::len);
            self.done.answer.jobs.push(grant);
            claimed.push(change.job);
        }
        self.rows.put_jobs(&claimed)?;
        let attempts = claimed.len() as u64;
        if let Ok(machine) = self.machine.apply(MachineEvent::Granted { attempts }, self.now) {
            self.machine = machine;
        }
        self.leased.extend(claimed.into_iter().map(|job| (job.id, job)));
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
    fn leave(&mut self, context: &Context, request: &Request) -> Result<(), StoreError> {
        if !request.leaving || !self.leased.is_empty() || !request.running.is_empty() {
            return Ok(());
        }
        let machines = self.rows.machines()?;
        let up = machines.iter().filter(|(machine, _)| {
            machine.queue == self.machine.queue
                && machine.generation == context.generation
                && (machine.state == MachineState::Up || machine.name == self.machine.name)
        });
        let up = up.count() as u32;
        let policy = context.policies.get(&self.machine.queue).cloned().unwrap_or_default();
        if may_leave(&self.machine, &policy, &context.generation, up)
            && let Ok(left) = self.machine.apply(MachineEvent::Left, self.now)
        {
            self.machine = left;
            self.done.answer.left = true;
            self.done.changed = true;
        }
        Ok(())
    }

    fn finish(mut self, context: &Context) -> Result<Result<Exchanged, Denied>, StoreError> {
        // A host does not forget that it was told to drain, so the row must not either, whatever is deployed next.
        if self.machine.state == MachineState::Up && self.machine.generation != context.generation {
            let note = "a new generation takes its place".to_owned();
            if let Ok(draining) = self.machine.apply(MachineEvent::DrainAsked { note }, self.now) {
                self.machine = draining;
            }
        }
        // A parked request that looks again and finds nothing writes nothing: then there is nothing to make durable.
        if self.machine.is_news_to(&self.row) {
            self.rows.put_machine(&self.machine)?;
        }
        let mut done = self.done;
        done.answer.drain = self.machine.state == MachineState::Draining;
        done.queue = Some(self.machine.queue);
        Ok(Ok(done))
    }
}

fn reference(job: &Job) -> AttemptRef {
    AttemptRef { job: job.id, attempt: job.attempt }
}
