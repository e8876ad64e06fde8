//! A job, and what may happen to it.
//!
//! Invariant: a `Job` holds no bytes. Args, input, result and log live in tables of their own.

mod again;
mod attempt;
mod blame;
mod change;
mod failed;
mod held;
mod links;
mod moved;
mod phase;
mod refused;
mod unique;
mod view;

use std::time::Duration;

use midge_protocol::exchange::Outcome;
use midge_protocol::job::{
    AttemptLimits, AttemptView, Cause, Failed, Failure, Progress, RetryPolicy, State, Usage,
};
use midge_protocol::{
    AttemptNumber, JobId, JobKey, Labels, Lease, MachineName, ModuleName, QueueName, Timestamp,
};
use serde::{Deserialize, Serialize};

pub(crate) use self::again::NOT_TRIED_AGAIN;
pub use self::links::{Dependency, DependencyEnd, Links, TooDeep};
pub use self::phase::Phase;
pub use self::refused::JobRefused;
pub use self::unique::{Met, UniqueHold, UniqueKey};
use crate::report::{bounded, bounded_usage};
use crate::{MachineEnd, in_vain_wait};

/// One request to run a module, durable until it ends. What is as it is for most jobs is left out of its row: every row is
/// written and read three times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The id of the job.
    pub id: JobId,
    /// The module it runs.
    pub module: ModuleName,
    /// The queue it waits in.
    pub queue: QueueName,
    /// How soon it is claimed among those of its queue and key, smaller first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: i8,
    /// What it has in common with others that are limited together and take turns with the rest.
    #[serde(default, skip_serializing_if = "is_default")]
    pub key: Option<JobKey>,
    /// By what people find it again, and what they are shown with it.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// A hash of all that was asked for: to enqueue the same id with another hash is refused.
    pub content_hash: u64,
    /// The time at which the job was enqueued.
    pub enqueued_at: Timestamp,
    /// How often and how soon the job is tried again after a failure.
    pub retry: RetryPolicy,
    /// The time after which the job is not tried again: a failure whose next attempt would be due later is the last.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retry_until: Option<Timestamp>,
    /// The time from which the job does not start any more. Only its first start counts: see [`Job::expiry`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub expires_at: Option<Timestamp>,
    /// What it is the only job of, as long as it holds that: see [`Job::met_by`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub unique: Option<UniqueHold>,
    /// The time and memory that each attempt may use.
    pub limits: AttemptLimits,
    /// Whether its time limit is its own, and not its module's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub has_own_time_limit: bool,
    /// The number of the last attempt. It fences late reports, so it only rises.
    #[serde(default, skip_serializing_if = "is_default")]
    pub attempt: AttemptNumber,
    /// The number of attempts that count against `retry.max_attempts`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub spent: u32,
    /// Whether the job was aboard a Machine that went down, and may have brought it down: it runs alone until it is known.
    #[serde(default, skip_serializing_if = "is_default")]
    pub suspect: bool,
    /// The number of Machines that crashed while it ran there alone, as a suspect.
    #[serde(default, skip_serializing_if = "is_default")]
    pub machine_losses: u32,
    /// The number of Machines that were lost while it ran there alone, as a suspect, and nobody can say why.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unexplained_losses: u32,
    /// The number of attempts in a row that ended through no doing of the job: hosts gave them back, or left with them.
    #[serde(default, alias = "not_begun", skip_serializing_if = "is_default")]
    pub in_vain: u32,
    /// The time at which the last attempt began; nothing before the first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub started_at: Option<Timestamp>,
    /// How the last failed attempt failed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub failure: Option<Failure>,
    /// When that was, and as which others; nothing where an earlier release wrote the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Failed>,
    /// The last progress of the running attempt, where it told any.
    #[serde(default, skip_serializing_if = "is_default")]
    pub progress: Option<Progress>,
    /// What ties it to other jobs.
    #[serde(default, skip_serializing_if = "Links::is_default")]
    pub links: Links,
    /// Whether the job waits, runs or has ended, with what belongs to that.
    pub state: JobState,
}

/// Whether a job waits, runs or has ended, each with only what that state has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    /// Waits until it is due, then for a place.
    Waiting {
        /// The time before which it is not claimed.
        due: Timestamp,
    },
    /// Waits, whatever its time, until its module starts jobs again: see [`crate::ModuleRow`].
    Held {
        /// The time from which it was due.
        due: Timestamp,
    },
    /// Waits, whatever its time, until what it is to run after has happened.
    Pending {
        /// The time before which it does not run then either.
        due: Timestamp,
    },
    /// Leased to a Machine.
    Running {
        /// The Machine and the attempt that may report on the job.
        lease: Lease,
        /// The time from which the job was due.
        due: Timestamp,
        /// Whether somebody asked for the job to stop.
        cancel: bool,
    },
    /// Ended: nothing happens to it any more, unless somebody retries it by hand.
    Ended {
        /// Which of the three ends it came to.
        how: Ending,
        /// The time from which the job was last due.
        due: Timestamp,
        /// The time at which the job ended.
        at: Timestamp,
    },
}

/// How a job ended: with a result, by request, or without a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// With a result of so many bytes.
    Completed {
        /// Bytes of the result.
        result_bytes: u64,
    },
    /// Because somebody asked for it.
    Cancelled,
    /// Without a result, and not to be tried again by itself.
    Discarded,
}

/// What a job is made from: all that is decided when it is enqueued.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// The id of the job.
    pub id: JobId,
    /// The module it runs.
    pub module: ModuleName,
    /// The queue it waits in.
    pub queue: QueueName,
    /// How soon it is claimed among those of its queue and key, smaller first.
    pub priority: i8,
    /// What it has in common with others that are limited together and take turns with the rest.
    pub key: Option<JobKey>,
    /// By what people find it again, and what they are shown with it.
    pub labels: Labels,
    /// A hash of all that was asked for, by which a repeated enqueue is recognised.
    pub content_hash: u64,
    /// How often and how soon the job is tried again after a failure.
    pub retry: RetryPolicy,
    /// The time and memory that each attempt may use.
    pub limits: AttemptLimits,
    /// Whether its time limit is its own, and not its module's.
    pub has_own_time_limit: bool,
    /// The time before which the job does not run; one that has passed means now.
    pub due: Timestamp,
    /// The time after which the job is not tried again; nothing where it has no bound.
    pub retry_until: Option<Timestamp>,
    /// The time from which the job does not start any more; nothing where it may at any time.
    pub expires_at: Option<Timestamp>,
    /// What it is to be the only job of; nothing where there may be many.
    pub unique: Option<UniqueHold>,
    /// What ties it to other jobs.
    pub links: Links,
}

/// Something that happens to a job.
#[derive(Debug, Clone)]
pub enum JobEvent {
    /// A Machine takes the job, which begins its next attempt.
    Claimed {
        /// The Machine that will run it.
        machine: MachineName,
    },
    /// A Machine reports how an attempt ended. Refused unless the job is running under this very lease.
    Finished {
        /// The Machine that reports, and the attempt it reports on.
        lease: Lease,
        /// How the attempt ended. Of a result only the size is looked at.
        outcome: Outcome,
        /// What the attempt used, where the host knows.
        usage: Option<Usage>,
        /// Spreads retries: at least 0 and less than 1.
        jitter: f64,
    },
    /// A Machine reports how far an attempt is. Refused unless the job is running under this very lease.
    Progressed {
        /// The Machine that reports, and the attempt it reports on.
        lease: Lease,
        /// How far the guest says it is.
        progress: Progress,
    },
    /// The host does not list an attempt that is leased to its Machine: the answer that held its grant was lost. Refused
    /// unless the job is running under this very lease and is to be cancelled: any other attempt is granted again.
    Unlisted {
        /// The Machine whose host it is, and the attempt that it does not list.
        lease: Lease,
    },
    /// The Machine that ran the job is gone, or was given up. Refused unless the job is leased to it.
    MachineLost {
        /// The Machine that is gone.
        machine: MachineName,
        /// Whether the job may have brought it down, by how it ended.
        end: MachineEnd,
        /// What is known of its end, for people.
        note: String,
    },
    /// Its module starts no jobs: it is taken out of its line. Refused unless the job waits and is due.
    Held,
    /// Its module starts jobs again. Refused unless the job is held.
    Released,
    /// Somebody asks for it to be cancelled.
    CancelAsked,
    /// Somebody asks for it to be run again, or now.
    RetryAsked,
    /// Somebody gives it another priority. Refused unless it waits.
    PriorityAsked(i8),
    /// Somebody puts it into another queue. Refused unless it waits.
    MoveAsked(QueueName),
    /// The time has come by which it was to be started. Refused unless it has, and the job waits and was never started.
    Expired,
    /// Another job like it was to be enqueued, and pushes it back. Refused unless the job waits.
    PushedBack {
        /// The time before which the job does not run, where that is later than it was.
        due: Timestamp,
        /// The time from which it does not start any more.
        expires_at: Option<Timestamp>,
        /// The time after which it is not tried again.
        retry_until: Option<Timestamp>,
    },
    /// All that it was to run after has happened. Refused unless it waits for that.
    Met,
    /// Something that it was to run after did not happen, and it is not to run then. Refused unless it waits for that.
    Unmet {
        /// What did not, for people.
        why: String,
    },
}

/// What an event changed: all of it is written in one transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The job as it is after the event.
    pub job: Job,
    /// The attempt that ended with the event, to be kept beside the job.
    pub attempt: Option<AttemptView>,
}

impl Job {
    /// Makes a job that waits until it is due, which is never before `now`.
    pub fn new(new: NewJob, now: Timestamp) -> Job {
        Job {
            id: new.id,
            module: new.module,
            queue: new.queue,
            priority: new.priority,
            key: new.key,
            labels: new.labels,
            content_hash: new.content_hash,
            enqueued_at: now,
            retry: new.retry,
            retry_until: new.retry_until,
            expires_at: new.expires_at,
            unique: new.unique,
            limits: new.limits,
            has_own_time_limit: new.has_own_time_limit,
            attempt: AttemptNumber(0),
            spent: 0,
            suspect: false,
            machine_losses: 0,
            unexplained_losses: 0,
            in_vain: 0,
            started_at: None,
            failure: None,
            failed: None,
            progress: None,
            links: new.links,
            state: JobState::Waiting { due: new.due.max(now) },
        }
    }

    /// Returns what an event makes of the job. The job itself is left as it is.
    ///
    /// # Errors
    /// [`JobRefused`] says why the event does not apply, which is an answer and changes nothing.
    pub fn apply(&self, event: JobEvent, now: Timestamp) -> Result<Change, JobRefused> {
        let mut change = self.applied(event, now)?;
        change.job.gives_up_where_it_must();
        Ok(change)
    }

    fn applied(&self, event: JobEvent, now: Timestamp) -> Result<Change, JobRefused> {
        match event {
            JobEvent::Claimed { machine } => self.claimed(machine, now),
            JobEvent::Finished { lease, outcome, usage, jitter } => {
                self.finished(&lease, outcome, usage, jitter, now)
            }
            JobEvent::Progressed { lease, progress } => {
                self.leased(&lease)?;
                let progress = Some(progress.bounded());
                Ok(Change { job: Job { progress, ..self.clone() }, attempt: None })
            }
            JobEvent::Unlisted { lease } => self.unlisted(&lease, now),
            JobEvent::MachineLost { machine, end, note } => self.machine_lost(&machine, end, note, now),
            JobEvent::Held => self.held(now),
            JobEvent::Released => self.released(),
            JobEvent::CancelAsked => self.cancel_asked(now),
            JobEvent::RetryAsked => self.retry_asked(now),
            JobEvent::PriorityAsked(priority) => self.priority_asked(priority, now),
            JobEvent::MoveAsked(queue) => self.move_asked(queue, now),
            JobEvent::Expired => self.expired(now),
            JobEvent::PushedBack { due, expires_at, retry_until } => {
                self.pushed_back(due, expires_at, retry_until, now)
            }
            JobEvent::Met => self.met(now),
            JobEvent::Unmet { why } => self.unmet(why, now),
        }
    }

    /// Returns since when the job may be claimed.
    fn in_line(&self, now: Timestamp) -> Result<Timestamp, JobRefused> {
        match self.state {
            JobState::Waiting { due } if due <= now => Ok(due),
            JobState::Waiting { due } => Err(JobRefused::NotDue(due)),
            JobState::Held { .. } => Err(JobRefused::Held),
            JobState::Pending { .. } => Err(JobRefused::Pending),
            JobState::Running { .. } => Err(JobRefused::Running),
            JobState::Ended { .. } => Err(JobRefused::Ended(self.state_at(now))),
        }
    }

    fn claimed(&self, machine: MachineName, now: Timestamp) -> Result<Change, JobRefused> {
        let due = self.in_line(now)?;
        if let Some(at) = self.expiry().filter(|at| *at <= now) {
            return Err(JobRefused::Expired(at));
        }
        let mut job = self.clone();
        job.attempt = self.attempt.next(); // never reused: it is what fences a late report
        job.started_at = Some(now);
        job.progress = None;
        job.state = JobState::Running { lease: Lease { machine, attempt: job.attempt }, due, cancel: false };
        Ok(Change { job, attempt: None })
    }

    fn finished(
        &self,
        reported: &Lease,
        outcome: Outcome,
        usage: Option<Usage>,
        jitter: f64,
        now: Timestamp,
    ) -> Result<Change, JobRefused> {
        let cancel = self.leased(reported)?;
        match bounded(outcome) {
            Outcome::Completed { result } => {
                let result_bytes = result.len() as u64;
                let change = self.attempt_ended(None, Spent::Yes, usage, now).cleared();
                Ok(change.ended(Ending::Completed { result_bytes }, now))
            }
            Outcome::Failed(mut failure) => {
                // Of one that is cancelled it is not for the time that it is not tried again.
                let next = if cancel { None } else { self.tried_again(&mut failure, jitter, now) };
                let change = self.attempt_ended(Some(failure), Spent::Yes, usage, now).cleared();
                Ok(match next {
                    _ if cancel => change.ended(Ending::Cancelled, now),
                    Some(due) => change.waiting(due),
                    None => change.ended(Ending::Discarded, now),
                })
            }
            Outcome::Snoozed { after_ms } => {
                let due = now.after(Duration::from_millis(after_ms));
                let failure = Failure::new(Cause::Snoozed, "the job asked to be run again later");
                let change = self.attempt_ended(Some(failure), Spent::No, usage, now).cleared();
                Ok(change.cancelled_or_waiting(cancel, due, now))
            }
            outcome @ (Outcome::Cancelled | Outcome::HandedBack { .. }) => {
                let failure = match outcome {
                    _ if cancel => {
                        Failure::new(Cause::Cancelled, "somebody asked for the job to be cancelled")
                    }
                    Outcome::HandedBack { lacks: Some(lacks) } => {
                        Failure::new(Cause::HandedBack, format!("its Machine lacks something: {lacks}"))
                    }
                    _ => Failure::new(Cause::HandedBack, "its Machine was told to stop"),
                };
                let mut change = self.attempt_ended(Some(failure), Spent::No, usage, now);
                let due = change.job.due_again_after_another_in_vain(now);
                Ok(change.cancelled_or_waiting(cancel, due, now))
            }
            Outcome::ModuleLacks { what } => {
                let failure = Failure::new(Cause::HandedBack, format!("its Machine lacks something: {what}"));
                let change = self.attempt_ended(Some(failure), Spent::No, usage, now);
                // How often that happens is bounded by its module's row.
                Ok(change.cancelled_or_waiting(cancel, now, now))
            }
        }
    }

    fn unlisted(&self, reported: &Lease, now: Timestamp) -> Result<Change, JobRefused> {
        if !self.leased(reported)? {
            return Err(JobRefused::ToBegin);
        }
        // No guest has run, so nothing is spent; jitter spreads retries only.
        self.finished(reported, Outcome::Cancelled, None, 0.0, now)
    }

    fn machine_lost(
        &self,
        machine: &MachineName,
        end: MachineEnd,
        note: String,
        now: Timestamp,
    ) -> Result<Change, JobRefused> {
        let cancel = match &self.state {
            JobState::Running { lease, cancel, .. } if lease.machine == *machine => *cancel,
            _ => return Err(JobRefused::NotLeased),
        };
        let failure = Failure::new(Cause::MachineLost, note);
        let mut change = self.attempt_ended(Some(failure), Spent::No, None, now);
        change.job.is_blamed_for(end);
        if !cancel && change.job.suspicion().is_some_and(|suspicion| suspicion.is_poison()) {
            return Ok(change.ended(Ending::Discarded, now));
        }
        let due = match end {
            MachineEnd::Own => change.job.due_again_after_another_in_vain(now),
            // These end it after a few.
            MachineEnd::Crashed | MachineEnd::Unexplained => now,
        };
        Ok(change.cancelled_or_waiting(cancel, due, now))
    }

    /// Takes note that one more attempt ended through no doing of the job, and returns when the next is due. Nothing else
    /// bounds how often that happens.
    fn due_again_after_another_in_vain(&mut self, now: Timestamp) -> Timestamp {
        self.in_vain = self.in_vain.saturating_add(1);
        now.after(in_vain_wait(self.in_vain))
    }

    fn cancel_asked(&self, now: Timestamp) -> Result<Change, JobRefused> {
        match &self.state {
            JobState::Waiting { .. } | JobState::Held { .. } | JobState::Pending { .. } => {
                Ok(Change { job: self.clone(), attempt: None }.ended(Ending::Cancelled, now))
            }
            JobState::Running { lease, due, .. } => {
                let state = JobState::Running { lease: lease.clone(), due: *due, cancel: true };
                Ok(Change { job: Job { state, ..self.clone() }, attempt: None })
            }
            JobState::Ended { .. } => Err(JobRefused::Ended(self.state_at(now))),
        }
    }

    /// Returns whether the job may be deleted, with all that belongs to it: always, but while it runs.
    ///
    /// # Errors
    /// [`JobRefused::Running`]: its host would go on with what nobody waits for.
    pub fn may_be_deleted(&self) -> Result<(), JobRefused> {
        match self.state {
            JobState::Running { .. } => Err(JobRefused::Running),
            _ => Ok(()),
        }
    }

    /// Checks a right to report. Returns whether the job is to be cancelled.
    fn leased(&self, reported: &Lease) -> Result<bool, JobRefused> {
        match &self.state {
            JobState::Running { lease, cancel, .. } if lease == reported => Ok(*cancel),
            _ => Err(JobRefused::NotLeased),
        }
    }

    fn attempt_ended(
        &self,
        failure: Option<Failure>,
        spent: Spent,
        usage: Option<Usage>,
        now: Timestamp,
    ) -> Change {
        let JobState::Running { lease, due, .. } = &self.state else {
            unreachable!("only a running job has an attempt that can end; callers have checked the lease");
        };
        let started_at = self.started_at.unwrap_or(now);
        let attempt = AttemptView {
            attempt: lease.attempt,
            machine: lease.machine.clone(),
            scheduled_at: *due,
            started_at,
            ended_at: now,
            spent: spent == Spent::Yes,
            failure: failure.clone(),
            usage: usage.map(|usage| bounded_usage(usage, now.since(started_at))),
            cost: None,
        };
        let mut job = self.clone();
        job.spent = job.spent.saturating_add(u32::from(spent == Spent::Yes));
        job.progress = None;
        job.fails(failure, now);
        Change { job, attempt: Some(attempt) }
    }

    /// Returns when the job is due, or was last.
    pub fn due(&self) -> Timestamp {
        match &self.state {
            JobState::Waiting { due }
            | JobState::Held { due }
            | JobState::Pending { due }
            | JobState::Running { due, .. }
            | JobState::Ended { due, .. } => *due,
        }
    }

    /// Returns the lease of a running job.
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            JobState::Running { lease, .. } => Some(lease),
            _ => None,
        }
    }

    /// Returns when the job ended.
    pub fn ended_at(&self) -> Option<Timestamp> {
        match self.state {
            JobState::Ended { at, .. } => Some(at),
            _ => None,
        }
    }

    /// Returns whether the job runs and somebody asked for it to stop.
    pub fn is_cancelling(&self) -> bool {
        matches!(self.state, JobState::Running { cancel: true, .. })
    }

    /// Returns what SQL may search by.
    pub fn phase(&self) -> Phase {
        match &self.state {
            JobState::Waiting { .. } if self.failure.is_some() => Phase::Retrying,
            JobState::Waiting { .. } => Phase::Fresh,
            JobState::Held { .. } => Phase::Held,
            JobState::Pending { .. } => Phase::Pending,
            JobState::Running { .. } => Phase::Running,
            JobState::Ended { how: Ending::Completed { .. }, .. } => Phase::Completed,
            JobState::Ended { how: Ending::Cancelled, .. } => Phase::Cancelled,
            JobState::Ended { how: Ending::Discarded, .. } => Phase::Discarded,
        }
    }

    /// Returns the public state at a time.
    pub fn state_at(&self, now: Timestamp) -> State {
        self.phase().state(self.due(), now)
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[derive(PartialEq, Eq)]
enum Spent {
    Yes,
    No,
}

#[cfg(test)]
pub(crate) mod tests;
