//! Faults that are put into the server deliberately: each is one that somebody might make, and that a seed must find.
//!
//! Invariant: the server's own functions run as they are. A fault changes rows, settings or a request around them, so that
//! what comes of it is what would have come of the fault.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use midge_core::{Job, JobState, Lane, Links, QueueRow, Schedule, Turn};
use midge_protocol::api::Pause;
use midge_protocol::exchange::{Outcome, Request};
use midge_protocol::job::Cause;
use midge_protocol::{AttemptRange, JobId, QueueName, ScheduleName, Timestamp};
use midge_server::Catalog;
use midge_store::{Content, StoreError};

use super::after::Asked;
use super::ledger::{Broken, is_given_back};
use super::messages::Sender;
use super::schedules::{MODULE, time_of};
use super::world::{Event, World};

/// What is wrong with the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nobody checks attempt numbers: a late report is one of the attempt that is leased now.
    FenceNotChecked,
    /// Nobody looks when the job of a report was enqueued: one that was deleted is taken for the one that has its id now.
    EnqueueNotChecked,
    /// How many jobs of a queue run is read before the transaction that claims more of them.
    LimitReadOutside,
    /// The end of an attempt is taken twice.
    DoubleFinish,
    /// The jobs of a Machine that is lost are not given back.
    LostHandBack,
    /// A tick's job is not written with the state of its schedule, and its id is no function of schedule and tick.
    TickFiredTwice,
    /// A tick's job is not written with the state of its schedule: the one half of the fault before, which does no harm.
    TickStateLost,
    /// The time that fills the bucket of a queue's rate is counted twice.
    BucketRefilledTwice,
    /// The end of a job is counted twice in its batch.
    BatchCountedTwice,
    /// A claim does not look whether its queue is paused.
    PausedQueueClaims,
    /// Keys do not take turns: their lanes are always looked at in the same order, those without a key last.
    LanesInOneOrder,
    /// Nobody checks whether an attempt that enqueues jobs still has its own: who comes too late, or says the same again,
    /// enqueues all the same.
    EnqueuesWithoutRight,
    /// How long a job has waited does not count against its priority: a step is worth more than any wait.
    AgeingForgotten,
}

/// What a fault remembers from one exchange to the next.
#[derive(Default)]
pub(super) struct Remembered {
    running: BTreeMap<QueueName, u64>,
    filled_at: BTreeMap<QueueName, Timestamp>,
    /// What people asked for, by the job that it is.
    asked: BTreeMap<JobId, Asked>,
}

/// What a fault did before an exchange, to be dealt with after it.
#[derive(Default)]
pub(super) struct Before {
    pause: Option<(QueueName, Pause)>,
    /// The jobs whose attempts end with the exchange, as they were.
    running: Vec<Job>,
    /// The jobs whose priorities count too much.
    too_good: Vec<JobId>,
}

/// A step of priority counts so much more where ageing is forgotten: a day.
const STEPS_FOR_ONE: i8 = 24;

impl World {
    /// Returns the jobs that run, if the fault of this run is that they are forgotten when their Machine is lost.
    pub(super) fn may_be_forgotten(&self) -> Vec<Job> {
        if self.fault != Some(Fault::LostHandBack) {
            return Vec::new();
        }
        self.store.look(|rows| {
            let mut running = Vec::new();
            for (machine, _) in rows.machines()? {
                running.extend(rows.jobs_leased(&machine.name)?);
            }
            Ok(running)
        })
    }

    /// Has those of the jobs run on that a lost Machine gave back, as if nobody had written that it did.
    pub(super) fn forget_given_back(&mut self, running: Vec<Job>) {
        self.store.tamper(move |rows| {
            for before in running {
                let Some(after) = rows.jobs(&[before.id])?.pop().flatten() else { continue };
                let lost = after.failure.as_ref().is_some_and(|failure| failure.cause == Cause::MachineLost);
                if lost && after.lease().is_none() && after.attempt == before.attempt {
                    let range = AttemptRange { first: before.attempt, last: before.attempt };
                    rows.delete_attempts(before.id, range)?;
                    rows.put_jobs(&[before])?;
                }
            }
            Ok(())
        });
    }

    /// Puts the fault of this run into what an exchange is about to see.
    pub(super) fn spoil_before(
        &mut self,
        sender: &Sender,
        request: &Request,
        catalog: &mut Arc<Catalog>,
    ) -> Before {
        let (mut before, now) = (Before::default(), self.now);
        let (Some(fault), name) = (self.fault, sender.name.clone()) else { return before };
        let Some(machine) = self.store.look(move |rows| rows.machine(&name)) else { return before };
        let queue = machine.queue;
        let of = queue.clone();
        let (row, running) = self.store.look(move |rows| Ok((rows.queue(&of)?, rows.jobs_running(&of)?)));
        match fault {
            Fault::LimitReadOutside => {
                let read = self.remembered.running.insert(queue.clone(), running).unwrap_or(running);
                let policy = Arc::make_mut(catalog).manifest.queues.get_mut(&queue);
                if let Some(max) = policy.and_then(|policy| policy.max_running.as_mut()) {
                    // What is free by what was read, beside those that run by now.
                    *max = max.saturating_add(u32::try_from(running.saturating_sub(read)).unwrap_or(0));
                }
            }
            Fault::BucketRefilledTwice => {
                let filled_at = self.remembered.filled_at.insert(queue.clone(), now).unwrap_or(now);
                let mut row = row;
                row.bucket.full_at_us -= now.since(filled_at).as_micros() as i64;
                self.put_queue(queue, row);
            }
            Fault::PausedQueueClaims => {
                before.pause = row.pause.clone().map(|pause| (queue.clone(), pause));
                if before.pause.is_some() {
                    self.put_queue(queue, QueueRow { pause: None, ..row });
                }
            }
            Fault::LanesInOneOrder => self.puts_lanes_in_order(queue, row),
            Fault::AgeingForgotten => before.too_good = self.ageing_is_forgotten(&queue),
            Fault::EnqueuesWithoutRight => self.enqueues_without_right(&machine.name, request),
            Fault::DoubleFinish | Fault::BatchCountedTwice => {
                let ids: Vec<_> = request.finished.iter().map(|finished| finished.attempt.job).collect();
                let jobs = self.store.look(move |rows| rows.jobs(&ids)).into_iter().flatten();
                before.running = jobs.filter(|job| job.lease().is_some()).collect();
            }
            Fault::FenceNotChecked
            | Fault::EnqueueNotChecked
            | Fault::LostHandBack
            | Fault::TickFiredTwice
            | Fault::TickStateLost => {}
        }
        before
    }

    /// Takes back what is not to be seen, and returns whether the same exchange is to be made once more.
    pub(super) fn spoil_after(&mut self, before: Before) -> bool {
        if self.fault.is_none() {
            return false;
        }
        if let Some((queue, pause)) = before.pause {
            let of = queue.clone();
            let row = self.store.look(move |rows| rows.queue(&of));
            self.put_queue(queue, QueueRow { pause: Some(pause), ..row });
        }
        self.ageing_counts_again(before.too_good);
        let ids: Vec<_> = before.running.iter().map(|job| job.id).collect();
        let after = self.store.look(move |rows| rows.jobs(&ids));
        let ended = before.running.into_iter().zip(after);
        let ended = ended
            .filter_map(|(before, after)| Some((before, after.filter(|after| after.lease().is_none())?)));
        if self.fault == Some(Fault::BatchCountedTwice) {
            let again =
                ended.filter(|(_, after)| after.ended_at().is_some()).map(|(_, after)| another(after));
            self.count_again(again.collect());
            return false;
        }
        // All is written but that it runs no more.
        let again: Vec<Job> = ended.map(|(before, after)| Job { state: before.state, ..after }).collect();
        let is_again = !again.is_empty();
        self.store.tamper(move |rows| rows.put_jobs(&again));
        is_again
    }

    /// Gives the lanes whose turn has come the turns of their places in the alphabet.
    fn puts_lanes_in_order(&mut self, queue: QueueName, row: QueueRow) {
        let (of, now) = (queue.clone(), self.told());
        self.store.tamper(move |rows| {
            let mut lanes = rows.lanes_come(&of, now, usize::MAX)?.lanes;
            lanes.sort_by(|a, b| a.key.cmp(&b.key));
            let in_order = (0..).zip(lanes).map(|(place, lane)| Lane { turn: Some(Turn(place)), ..lane });
            rows.put_lanes(&in_order.collect::<Vec<_>>(), now)
        });
        self.put_queue(queue, QueueRow { turn: Turn::until(now), ..row });
    }

    /// Has the priorities of a queue's waiting jobs count more than any wait. Returns whose those are.
    fn ageing_is_forgotten(&self, queue: &QueueName) -> Vec<JobId> {
        let waiting = |job: &&Job| job.queue == *queue && job.phase().is_in_line();
        let ids: Vec<JobId> = self.ledger.jobs().filter(waiting).map(|job| job.id).collect();
        self.set_priorities(ids.clone(), |priority| priority * STEPS_FOR_ONE);
        ids
    }

    fn ageing_counts_again(&self, too_good: Vec<JobId>) {
        self.set_priorities(too_good, |priority| priority / STEPS_FOR_ONE);
    }

    fn set_priorities(&self, ids: Vec<JobId>, set: fn(i8) -> i8) {
        self.store.tamper(move |rows| {
            let jobs = rows.jobs(&ids)?.into_iter().flatten();
            let jobs = jobs.map(|job| Job { priority: set(job.priority), ..job });
            rows.put_jobs(&jobs.collect::<Vec<_>>())
        });
    }

    /// Has jobs been there that nobody saw: their batches have counted them.
    fn count_again(&mut self, ended: Vec<Job>) {
        self.store.tamper(move |rows| {
            rows.put_jobs(&ended)?;
            ended.iter().try_for_each(|job| rows.delete_job(job.id).map(drop))
        });
    }

    /// Returns whether the fault of this run is one of ticks.
    pub(super) fn spoils_ticks(&self) -> bool {
        matches!(self.fault, Some(Fault::TickFiredTwice | Fault::TickStateLost))
    }

    /// Spoils what a tick left: its state, as if that were not written with its job, and the job's id too, as if that were
    /// none of the tick's.
    pub(super) fn spoil_ticks(&mut self, new: &[Job]) {
        for job in new {
            let Some(name) = job.module.as_str().strip_prefix(MODULE) else { continue };
            if self.quiet || self.chance.below(3) > 0 {
                continue;
            }
            let name = ScheduleName::new(name).expect("a module is called as its schedule");
            let number = u128::from(self.chance.number()) << 64 | u128::from(self.chance.number());
            let (job, ids_too, now) = (job.clone(), self.fault == Some(Fault::TickFiredTwice), self.told());
            self.trace.say(self.now, format_args!("the tick of {name} at {} is spoilt", time_of(job.id)));
            self.trace.count("ticks that were spoilt");
            self.store.tamper(move |rows| {
                if let Some(schedule) = rows.schedule(&name)? {
                    let done = Timestamp::from_millis(
                        schedule.done.as_millis().min(time_of(job.id).as_millis() - 1),
                    );
                    let next = schedule.next.map(|_| now);
                    rows.put_schedule(&Schedule { done, next, ..schedule })?;
                }
                if ids_too {
                    rows.delete_job(job.id)?;
                    let mut bytes = number.to_be_bytes();
                    bytes[..6].copy_from_slice(&job.id.as_bytes()[..6]);
                    let id = JobId::from_bytes(bytes);
                    rows.put_jobs(&[Job { id, ..job }])?;
                    rows.put_content(id, Content::Args, b"null")?;
                }
                Ok::<_, StoreError>(())
            });
        }
    }

    /// Makes a report of an earlier attempt one of the attempt that is leased now.
    pub(super) fn forge_late_reports(
        &mut self,
        sender: &Sender,
        request: &mut Request,
    ) -> Result<(), Broken> {
        let mut forged = Vec::new();
        for finished in std::mem::take(&mut request.finished) {
            let id = finished.attempt.job;
            let (job, machines) =
                self.store.look(move |rows| Ok((rows.jobs(&[id])?.pop(), rows.machines()?)));
            match job.flatten().map(|job| job.state) {
                _ if is_given_back(&finished.outcome) => request.finished.push(finished),
                Some(JobState::Running { lease, .. })
                    if lease.attempt != finished.attempt.attempt || lease.machine != sender.name =>
                {
                    let holder = machines.into_iter().find(|(machine, _)| machine.name == lease.machine);
                    forged.extend(holder.map(|(machine, _)| (machine, lease.attempt, finished)));
                }
                _ => request.finished.push(finished),
            }
        }
        for (machine, attempt, mut finished) in forged {
            let words = match &finished.outcome {
                Outcome::Completed { .. } => "completed",
                _ => "failed",
            };
            self.trace
                .say(self.now, format_args!("a late report ({words}) is made one of attempt {attempt}"));
            self.trace.count("late reports that were forged");
            finished.attempt.attempt = attempt;
            let holder = Sender {
                name: machine.name,
                secret_hash: machine.secret_hash,
                boot: machine.boot.unwrap_or(request.boot),
                id: sender.id.clone(),
            };
            let report = Request {
                boot: holder.boot,
                seq: 0,
                room: 0,
                wait_ms: 0,
                leaving: false,
                running: Vec::new(),
                finished: vec![finished],
                log: Vec::new(),
                saved: Vec::new(),
            };
            self.exchange(&holder, &report)?;
        }
        Ok(())
    }

    /// Remembers what somebody asks for, if the fault of this run is about jobs that are asked for again.
    pub(super) fn remember(&mut self, asked: &Asked) {
        if self.fault == Some(Fault::EnqueueNotChecked) {
            self.remembered.asked.insert(asked.job.id, asked.clone());
        }
    }

    /// Makes what a host says of an attempt be about the job that has its id now. Somebody deletes each job that has ended, once,
    /// and wants it again, while the report comes once more: what else is rare.
    pub(super) fn forge_enqueues(&mut self, sender: &Sender, request: &mut Request) {
        for finished in &request.finished {
            if let Some(asked) = self.remembered.asked.remove(&finished.attempt.job) {
                let soon = Duration::from_millis;
                self.after(soon(1), Event::Delete { job: asked.job.id });
                self.after(soon(2), Event::Enqueue(Box::new(asked)));
                let late = self.chance.millis(3, 300);
                self.after(late, Event::Request { sender: sender.clone(), request: request.clone() });
            }
        }
        let running = request.running.iter_mut().map(|running| &mut running.attempt);
        let finished = request.finished.iter_mut().map(|finished| &mut finished.attempt);
        let log = request.log.iter_mut().map(|chunk| &mut chunk.attempt);
        let saved = request.saved.iter_mut().map(|saved| &mut saved.attempt);
        for attempt in running.chain(finished).chain(log).chain(saved) {
            let id = attempt.job;
            if let Some(job) = self.store.look(move |rows| rows.jobs(&[id])).into_iter().flatten().next() {
                attempt.enqueued_at_ms = Some(job.enqueued_at.as_millis());
            }
        }
    }

    fn put_queue(&mut self, queue: QueueName, row: QueueRow) {
        self.store.tamper(move |rows| rows.put_queue(&queue, &row));
    }
}

/// Returns a job that ended as another did, in its batch.
fn another(job: Job) -> Job {
    let mut id = *job.id.as_bytes();
    id[15] ^= 0xff;
    let links = Links { batch: job.links.batch, ..Links::default() };
    Job { id: JobId::from_bytes(id), unique: None, key: None, links, ..job }
}
