//! A job, and what may happen to it.
//!
//! Invariant: a `Job` holds no bytes. Args, input, result and log live in tables of their own.

use std::time::Duration;

use midge_protocol::job::{
    AttemptLimits, AttemptView, Cause, Failure, JobView, Progress, RetryPolicy, State, Usage,
};
use midge_protocol::{Attempt, JobId, Lease, MachineName, ModuleName, QueueName, Timestamp, limits};
use serde::{Deserialize, Serialize};

use crate::backoff;

/// One request to run a module, durable until it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// The module it runs.
    pub module: ModuleName,
    /// The queue it waits in.
    pub queue: QueueName,
    /// A hash of all that was asked for: the same id with another hash is another job, and an error.
    pub content_hash: u64,
    /// When it was enqueued.
    pub enqueued_at: Timestamp,
    /// When a failed attempt is tried again.
    pub retry: RetryPolicy,
    /// Bounds of each attempt.
    pub limits: AttemptLimits,
    /// The number of the last attempt. It fences late reports, so it only rises.
    pub attempt: Attempt,
    /// How many attempts count against `retry.attempts_max`.
    pub spent: u32,
    /// How many Machines went down with it.
    pub machine_losses: u32,
    /// When the last attempt began.
    pub started_at: Option<Timestamp>,
    /// How the last failed attempt failed.
    pub failure: Option<Failure>,
    /// What the running attempt said last.
    pub progress: Option<Progress>,
    /// Its state.
    pub state: JobState,
}

/// What a job's state is, with only what that state has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    /// Waits until it is due, then for a place.
    Waiting {
        /// Not before this.
        due: Timestamp,
    },
    /// Leased to a Machine.
    Running {
        /// Who may report on it.
        lease: Lease,
        /// When it was due.
        due: Timestamp,
        /// Whether somebody asked for it to stop.
        cancel: bool,
    },
    /// Ended.
    Ended {
        /// How.
        how: Ending,
        /// When it was last due.
        due: Timestamp,
        /// When it ended.
        at: Timestamp,
    },
}

/// How a job ended.
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

/// What SQL may search and count by: a job's public state without the part that depends on the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Waiting, and has not failed: scheduled or available.
    Fresh = 0,
    /// Waiting after a failure or a snooze: retryable or available.
    Retrying = 1,
    /// Running.
    Running = 2,
    /// Completed.
    Completed = 3,
    /// Cancelled.
    Cancelled = 4,
    /// Discarded.
    Discarded = 5,
}

/// What a job begins with.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Its id.
    pub id: JobId,
    /// The module it runs.
    pub module: ModuleName,
    /// The queue it waits in.
    pub queue: QueueName,
    /// A hash of all that was asked for.
    pub content_hash: u64,
    /// When a failed attempt is tried again.
    pub retry: RetryPolicy,
    /// Bounds of each attempt.
    pub limits: AttemptLimits,
    /// Not before this.
    pub due: Timestamp,
}

/// Something that happens to a job.
#[derive(Debug, Clone)]
pub enum Event {
    /// A Machine takes it.
    Claimed {
        /// Which.
        machine: MachineName,
    },
    /// A Machine reports how an attempt ended.
    Finished {
        /// By what right.
        lease: Lease,
        /// How.
        end: AttemptEnd,
        /// What it used, where the host knows.
        usage: Option<Usage>,
        /// Spreads retries: at least 0 and less than 1.
        jitter: f64,
    },
    /// A Machine reports how far an attempt is.
    Progressed {
        /// By what right.
        lease: Lease,
        /// How far.
        progress: Progress,
    },
    /// The Machine that ran it is gone.
    MachineLost {
        /// Which.
        machine: MachineName,
        /// Whether the job may have taken it down: it ended by itself, and not because it was told to.
        suspect: bool,
        /// What is known of it.
        note: String,
    },
    /// Somebody asks for it to be cancelled.
    CancelAsked,
    /// Somebody asks for it to be run again, or now.
    RetryAsked,
}

/// How an attempt ended, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptEnd {
    /// With a result.
    Completed {
        /// Bytes of the result.
        result_bytes: u64,
    },
    /// With a failure.
    Failed(Failure),
    /// The guest asked to be run again later.
    Snoozed {
        /// How much later.
        after: Duration,
    },
    /// The host stopped it because the server asked for it.
    Cancelled,
    /// The host gave it back unfinished.
    HandedBack,
}

/// What an event changed: all of it is written in one transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The job as it is now.
    pub job: Job,
    /// The attempt that ended with the event.
    pub attempt: Option<AttemptView>,
}

/// Why an event does not apply. It is an answer, not an error: a late report from a fenced attempt is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A claim came too early.
    #[error("not due before {0}")]
    NotDue(Timestamp),
    /// The attempt is not, or no longer, leased to whom reports on it.
    #[error("the attempt is not leased to this Machine")]
    NotLeased,
    /// The job has ended.
    #[error("the job is {0} already")]
    Ended(State),
    /// The job runs.
    #[error("the job is running: cancel it first")]
    Running,
    /// The job waits, so there is nothing to report on.
    #[error("the job is waiting")]
    Waiting,
}

impl Job {
    /// Makes a waiting job.
    pub fn new(new: NewJob, now: Timestamp) -> Job {
        Job {
            id: new.id,
            module: new.module,
            queue: new.queue,
            content_hash: new.content_hash,
            enqueued_at: now,
            retry: new.retry,
            limits: new.limits,
            attempt: Attempt(0),
            spent: 0,
            machine_losses: 0,
            started_at: None,
            failure: None,
            progress: None,
            state: JobState::Waiting { due: new.due.max(now) },
        }
    }

    /// Applies an event, or says why it does not apply. The job itself is left as it is.
    pub fn apply(&self, event: Event, now: Timestamp) -> Result<Change, Refused> {
        match event {
            Event::Claimed { machine } => self.claimed(machine, now),
            Event::Finished { lease, end, usage, jitter } => self.finished(&lease, end, usage, jitter, now),
            Event::Progressed { lease, progress } => {
                self.leased(&lease)?;
                Ok(Change { job: Job { progress: Some(progress), ..self.clone() }, attempt: None })
            }
            Event::MachineLost { machine, suspect, note } => self.machine_lost(&machine, suspect, note, now),
            Event::CancelAsked => self.cancel_asked(now),
            Event::RetryAsked => self.retry_asked(now),
        }
    }

    fn claimed(&self, machine: MachineName, now: Timestamp) -> Result<Change, Refused> {
        let due = match self.state {
            JobState::Waiting { due } if due <= now => due,
            JobState::Waiting { due } => return Err(Refused::NotDue(due)),
            JobState::Running { .. } => return Err(Refused::Running),
            JobState::Ended { .. } => return Err(Refused::Ended(self.state_at(now))),
        };
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
        end: AttemptEnd,
        usage: Option<Usage>,
        jitter: f64,
        now: Timestamp,
    ) -> Result<Change, Refused> {
        let cancel = self.leased(reported)?;
        match end {
            AttemptEnd::Completed { result_bytes } => {
                let mut change = self.attempt_ended(None, Spent::Yes, usage, now);
                change.job.failure = None;
                Ok(change.ended(Ending::Completed { result_bytes }, now))
            }
            AttemptEnd::Failed(failure) => {
                let refused = failure.cause == Cause::Refused;
                let wait = match failure.retry_after_ms {
                    Some(millis) => Duration::from_millis(millis),
                    None => backoff(self.retry.backoff, self.spent + 1, jitter),
                };
                let change = self.attempt_ended(Some(failure), Spent::Yes, usage, now);
                Ok(if cancel {
                    change.ended(Ending::Cancelled, now)
                } else if refused || change.job.spent >= self.retry.attempts_max {
                    change.ended(Ending::Discarded, now)
                } else {
                    change.waiting(now.after(wait))
                })
            }
            AttemptEnd::Snoozed { after } => {
                let failure = Failure::new(Cause::Snoozed, "the job asked to be run again later");
                let change = self.attempt_ended(Some(failure), Spent::No, usage, now);
                Ok(change.cancelled_or_waiting(cancel, now.after(after), now))
            }
            AttemptEnd::Cancelled | AttemptEnd::HandedBack => {
                let failure = if cancel {
                    Failure::new(Cause::Cancelled, "somebody asked for the job to be cancelled")
                } else {
                    Failure::new(Cause::HandedBack, "its Machine was told to stop")
                };
                let change = self.attempt_ended(Some(failure), Spent::No, usage, now);
                Ok(change.cancelled_or_waiting(cancel, now, now))
            }
        }
    }

    fn machine_lost(
        &self,
        machine: &MachineName,
        suspect: bool,
        note: String,
        now: Timestamp,
    ) -> Result<Change, Refused> {
        let cancel = match &self.state {
            JobState::Running { lease, cancel, .. } if lease.machine == *machine => *cancel,
            _ => return Err(Refused::NotLeased),
        };
        let failure = Failure::new(Cause::MachineLost, note);
        let mut change = self.attempt_ended(Some(failure), Spent::No, None, now);
        change.job.machine_losses += u32::from(suspect);
        Ok(if change.job.machine_losses >= limits::MACHINE_LOSSES_MAX && !cancel {
            change.ended(Ending::Discarded, now)
        } else {
            change.cancelled_or_waiting(cancel, now, now)
        })
    }

    fn cancel_asked(&self, now: Timestamp) -> Result<Change, Refused> {
        match &self.state {
            JobState::Waiting { .. } => {
                Ok(Change { job: self.clone(), attempt: None }.ended(Ending::Cancelled, now))
            }
            JobState::Running { lease, due, .. } => {
                let state = JobState::Running { lease: lease.clone(), due: *due, cancel: true };
                Ok(Change { job: Job { state, ..self.clone() }, attempt: None })
            }
            JobState::Ended { .. } => Err(Refused::Ended(self.state_at(now))),
        }
    }

    fn retry_asked(&self, now: Timestamp) -> Result<Change, Refused> {
        match self.state {
            JobState::Running { .. } => Err(Refused::Running),
            JobState::Waiting { .. } => {
                Ok(Change { job: self.clone(), attempt: None }.waiting(now.min(self.due())))
            }
            JobState::Ended { .. } => {
                // A fresh allowance, but numbers go on: reports of old attempts stay fenced.
                let job = Job { spent: 0, machine_losses: 0, ..self.clone() };
                Ok(Change { job, attempt: None }.waiting(now))
            }
        }
    }

    /// Checks a right to report. Returns whether the job is to be cancelled.
    fn leased(&self, reported: &Lease) -> Result<bool, Refused> {
        match &self.state {
            JobState::Running { lease, cancel, .. } if lease == reported => Ok(*cancel),
            _ => Err(Refused::NotLeased),
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
        let attempt = AttemptView {
            attempt: lease.attempt,
            machine: lease.machine.clone(),
            due_at: *due,
            started_at: self.started_at.unwrap_or(now),
            ended_at: now,
            spent: spent == Spent::Yes,
            failure: failure.clone(),
            usage,
        };
        let mut job = self.clone();
        job.spent += u32::from(spent == Spent::Yes);
        job.progress = None;
        job.failure = failure;
        Change { job, attempt: Some(attempt) }
    }

    /// Returns when the job is due, or was last.
    pub fn due(&self) -> Timestamp {
        match &self.state {
            JobState::Waiting { due } | JobState::Running { due, .. } | JobState::Ended { due, .. } => *due,
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
            JobState::Running { .. } => Phase::Running,
            JobState::Ended { how: Ending::Completed { .. }, .. } => Phase::Completed,
            JobState::Ended { how: Ending::Cancelled, .. } => Phase::Cancelled,
            JobState::Ended { how: Ending::Discarded, .. } => Phase::Discarded,
        }
    }

    /// Returns the public state at a time.
    pub fn state_at(&self, now: Timestamp) -> State {
        match self.phase() {
            Phase::Fresh | Phase::Retrying if self.due() <= now => State::Available,
            Phase::Fresh => State::Scheduled,
            Phase::Retrying => State::Retryable,
            Phase::Running => State::Running,
            Phase::Completed => State::Completed,
            Phase::Cancelled => State::Cancelled,
            Phase::Discarded => State::Discarded,
        }
    }

    /// Returns the job as the API shows it at a time.
    pub fn view(&self, now: Timestamp) -> JobView {
        JobView {
            id: self.id,
            module: self.module.clone(),
            queue: self.queue.clone(),
            state: self.state_at(now),
            attempt: self.attempt,
            spent: self.spent,
            attempts_max: self.retry.attempts_max,
            enqueued_at: self.enqueued_at,
            due_at: self.due(),
            started_at: self.started_at,
            ended_at: self.ended_at(),
            machine: self.lease().map(|lease| lease.machine.clone()),
            cancelling: self.is_cancelling(),
            progress: self.progress.clone(),
            failure: self.failure.clone(),
            result_bytes: match self.state {
                JobState::Ended { how: Ending::Completed { result_bytes }, .. } => Some(result_bytes),
                _ => None,
            },
        }
    }
}

#[derive(PartialEq, Eq)]
enum Spent {
    Yes,
    No,
}

impl Change {
    fn waiting(mut self, due: Timestamp) -> Change {
        self.job.state = JobState::Waiting { due };
        self
    }

    fn ended(mut self, how: Ending, now: Timestamp) -> Change {
        self.job.state = JobState::Ended { how, due: self.job.due(), at: now };
        self
    }

    fn cancelled_or_waiting(self, cancel: bool, due: Timestamp, now: Timestamp) -> Change {
        if cancel { self.ended(Ending::Cancelled, now) } else { self.waiting(due) }
    }
}

#[cfg(test)]
mod tests;
