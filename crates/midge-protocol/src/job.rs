//! A job as people and programs see it: its states, how attempts end, and what is kept of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::api::UniqueStates;
pub use crate::cause::{Cause, NotTriedAgain, UnknownCause};
use crate::object::objects;
pub use crate::retry::{Backoff, InvalidBackoff, RetryPolicy};
use crate::{
    AttemptNumber, BatchId, Dollars, Fingerprint, JobId, JobKey, Labels, MachineName, ModuleName, QueueName,
    ScheduleName, Timestamp, limits,
};

/// The public states of a job, as in Oban and River.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case")]
pub enum State {
    /// Waits for other jobs, or for a batch.
    Pending,
    /// Waits for a time that was asked for.
    Scheduled,
    /// Is due, and waits for a place in a Machine.
    Available,
    /// Failed or was put off, and waits to be tried again.
    Retryable,
    /// An attempt is leased to a Machine.
    Running,
    /// Ended with a result.
    Completed,
    /// Ended because somebody asked for it.
    Cancelled,
    /// Ended without a result: out of attempts, or refused for good. The dead set.
    Discarded,
}

impl State {
    /// All states, in the order in which people list them.
    pub const ALL: [State; 8] = [
        State::Pending,
        State::Scheduled,
        State::Available,
        State::Retryable,
        State::Running,
        State::Completed,
        State::Cancelled,
        State::Discarded,
    ];

    /// Returns whether nothing will happen to the job any more, unless somebody retries it by hand.
    pub const fn is_ended(self) -> bool {
        matches!(self, State::Completed | State::Cancelled | State::Discarded)
    }

    /// Returns the word used in API, CLI and dashboard.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Scheduled => "scheduled",
            State::Available => "available",
            State::Retryable => "retryable",
            State::Running => "running",
            State::Completed => "completed",
            State::Cancelled => "cancelled",
            State::Discarded => "discarded",
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<State, String> {
        State::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
            let words = State::ALL.map(State::as_str).join(", ");
            format!("`{}` is not a job state: use one of {words}", crate::shown::cut(text))
        })
    }
}

objects!(State, AfterFailed, Failure, Progress, Usage, AttemptLimits);

/// How an attempt failed: its cause for programs, and a message for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Failure {
    /// The kind of failure, such as a trap or a time limit. Some are not tried again: [`Cause::is_final`].
    pub cause: Cause,
    /// What a person reads: the guest's own message where it gave one. At most [`limits::MESSAGE_BYTES_MAX`] bytes.
    pub message: String,
    /// The guest's exit code, where it got as far as exiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The wait before the next attempt that the guest asked for, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Failure {
    /// Makes a failure, cutting the message to its bound.
    pub fn new(cause: Cause, message: impl Into<String>) -> Failure {
        let mut failure = Failure { cause, message: message.into(), exit_code: None, retry_after_ms: None };
        cut(&mut failure.message);
        failure
    }

    /// Returns what is kept of a failure that a host reported: its message and its wait are cut to their bounds, and a
    /// cause that no failure can have is renamed.
    #[must_use]
    pub fn bounded(self) -> Failure {
        let most = limits::PUT_OFF_MAX.as_millis() as u64;
        Failure {
            exit_code: self.exit_code,
            retry_after_ms: self.retry_after_ms.map(|millis| millis.min(most)),
            ..Failure::new(self.cause.of_a_failure(), self.message)
        }
    }
}

/// When an attempt failed, and as which others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The time at which the server took note of it.
    pub at: Timestamp,
    /// What it has in common with failures that are alike; nothing for an end that is none of the guest's or the Machine's,
    /// such as a snooze.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
}

/// Cuts a message to its bound.
fn cut(message: &mut String) {
    message.truncate(message.floor_char_boundary(limits::MESSAGE_BYTES_MAX));
}

/// How far a running attempt says it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Progress {
    /// How much is done, in whatever unit the guest counts.
    pub done: u64,
    /// How much there is in all, in the same unit; 0 where the guest does not know.
    pub total: u64,
    /// What the guest says that it is doing; may be empty. At most [`limits::MESSAGE_BYTES_MAX`] bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl Progress {
    /// Returns what is kept of a progress that a host reported: its message is cut to its bound.
    #[must_use]
    pub fn bounded(mut self) -> Progress {
        cut(&mut self.message);
        self
    }
}

/// What an attempt used, as the host measured it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Usage {
    /// The time from the start of the attempt in the host to its end, in microseconds.
    pub ran_us: u64,
    /// CPU time of the attempt's thread, in microseconds.
    pub cpu_us: u64,
    /// The largest size that the guest's linear memory reached, in bytes.
    pub memory_peak_bytes: u64,
    /// Its share of the time of its Machine, in microseconds: of the time in which `n` attempts ran side by side, each has an
    /// `n`th. 0 where its host does not know.
    #[serde(default, skip_serializing_if = "is_unknown")]
    pub share_us: u64,
}

fn is_unknown(share_us: &u64) -> bool {
    *share_us == 0
}

/// What speaks against a suspect: a job that was aboard a Machine that went down, and may have brought it down. It runs
/// alone, so that no neighbour is hit and none is taken for it, until an attempt at it ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Suspicion {
    /// The number of Machines that crashed while the job ran there alone: at [`limits::MACHINE_LOSSES_MAX`] it is
    /// discarded.
    pub crashes: u32,
    /// The number of Machines that were lost while the job ran there alone, and nobody can say why: at
    /// [`limits::UNEXPLAINED_LOSSES_MAX`] it is discarded.
    pub unexplained: u32,
}

impl Suspicion {
    /// Returns whether the job is taken for poison: it, and no neighbour, brings its Machines down.
    pub const fn is_poison(&self) -> bool {
        self.crashes >= limits::MACHINE_LOSSES_MAX || self.unexplained >= limits::UNEXPLAINED_LOSSES_MAX
    }
}

impl std::fmt::Display for Suspicion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Suspicion { crashes, unexplained } = self;
        write!(
            f,
            "may bring its Machine down, so it runs alone: {crashes} of {} crashes and {unexplained} of {} losses that \
             nobody can explain so far",
            limits::MACHINE_LOSSES_MAX,
            limits::UNEXPLAINED_LOSSES_MAX
        )
    }
}

/// What each attempt at a job may use. An attempt that goes over a limit is stopped and has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct AttemptLimits {
    /// The longest that an attempt may run, in milliseconds.
    pub time_ms: u64,
    /// The most linear memory that the guest may have, in bytes.
    pub memory_bytes: u64,
}

impl Default for AttemptLimits {
    fn default() -> AttemptLimits {
        AttemptLimits {
            time_ms: limits::TIME_LIMIT_DEFAULT.as_millis() as u64,
            memory_bytes: limits::MEMORY_LIMIT_DEFAULT,
        }
    }
}

/// One attempt that ended, as it is kept and shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptView {
    /// The number of the attempt, from 1.
    pub attempt: AttemptNumber,
    /// The Machine that ran it.
    pub machine: MachineName,
    /// The time from which the job was due.
    pub scheduled_at: Timestamp,
    /// The time at which the attempt was leased to the Machine.
    pub started_at: Timestamp,
    /// The time at which the server took note of the attempt's end.
    pub ended_at: Timestamp,
    /// Whether the attempt counts against `max_attempts`.
    pub spent: bool,
    /// How the attempt failed; nothing where it gave a result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The time and memory that the attempt used, where its host could report them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What its share of its Machine's time cost, at the prices that held when it ended; nothing where the share is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Dollars>,
}

/// What becomes of a job where one that it is to run after was cancelled or discarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case")]
pub enum AfterFailed {
    /// It is cancelled, and so are those that are to run after it, unless they say otherwise.
    #[default]
    Cancel,
    /// It runs as if that one had completed.
    GoOn,
    /// It waits until somebody retries that one and it completes. Where that one is deleted, it is cancelled.
    Wait,
}

impl AfterFailed {
    /// Returns whether it is what a job has that says nothing else.
    pub fn is_default(&self) -> bool {
        *self == AfterFailed::default()
    }

    /// Returns the word used in API and command.
    pub const fn as_str(self) -> &'static str {
        match self {
            AfterFailed::Cancel => "cancel",
            AfterFailed::GoOn => "go_on",
            AfterFailed::Wait => "wait",
        }
    }
}

/// Why a job that waits does not start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waits {
    /// A word for programs, such as `queue_is_busy`. A later release may have more.
    pub code: String,
    /// The reason for people, such as `the queue has its 4 of 4 Machines, all busy`.
    pub text: String,
}

/// The word of [`Waits`] for jobs that are held for what Machines lack of what their module's guests are given.
pub const MODULE_LACKS: &str = "module_lacks";
/// What is to be done about that. It is the same for each such job, so that lists need not repeat it.
pub const LACK_REMEDY: &str = "set it where Machines have their env from: at Fly by `fly secrets set`, elsewhere where the server is \
                               started, which is to be started again then. `midge modules resume NAME` has one job try at once";

impl Waits {
    /// Returns what is to be done about it, where that is more than the reason says.
    pub fn remedy(&self) -> Option<&'static str> {
        (self.code == MODULE_LACKS).then_some(LACK_REMEDY)
    }
}

pub(crate) fn is_zero(priority: &i8) -> bool {
    *priority == 0
}

/// How long a job is the only one of its kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UniqueView {
    /// The states in which it is: in others it gives that up.
    pub states: UniqueStates,
    /// The time until which it is; nothing where it is as long as it is in those states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl std::fmt::Display for UniqueView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "while it is {}", self.states)?;
        match self.until {
            Some(until) => write!(f, ", until {until}"),
            None => Ok(()),
        }
    }
}

/// A job as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobView {
    /// The id of the job.
    pub id: JobId,
    /// The module it runs.
    pub module: ModuleName,
    /// The queue it waits in.
    pub queue: QueueName,
    /// How soon it is run among those of its queue and key, smaller first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i8,
    /// What it has in common with others that are limited together and take turns with the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<JobKey>,
    /// The job's tags and meta, as they were enqueued.
    #[serde(flatten)]
    pub labels: Labels,
    /// What becomes of it where a job that it is to run after does not complete.
    #[serde(default, skip_serializing_if = "AfterFailed::is_default")]
    pub after_failed: AfterFailed,
    /// The batch that it is one of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchId>,
    /// The job whose attempt enqueued it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<JobId>,
    /// The batch that it is a callback of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_of: Option<BatchId>,
    /// The schedule that enqueued it; nothing where somebody else did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<OfSchedule>,
    /// The job's state at the time of asking.
    pub state: State,
    /// Why the job does not start, where it waits and that was looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<Waits>,
    /// The number of attempts that were begun, which is the number of the last one; 0 before the first.
    pub attempt: AttemptNumber,
    /// The number of attempts that count against `max_attempts`.
    pub spent: u32,
    /// The number of attempts that may count before the job is discarded.
    pub max_attempts: u32,
    /// The waits between attempts; nothing where they are not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// The most that chance adds to a wait, in percent of it; nothing where that is as usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_percent: Option<u32>,
    /// The waits after failures of certain causes, in place of `backoff`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub backoff_by_cause: BTreeMap<Cause, Backoff>,
    /// The time after which the job is not tried again: one whose next attempt would be due later is discarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_until: Option<Timestamp>,
    /// The time from which the job does not start any more: one that has never been started is discarded then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The time that each attempt may take, in milliseconds, where the job was enqueued with one; nothing where it has its
    /// module's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit_ms: Option<u64>,
    /// How long no other like it is enqueued; nothing where others may be, or may again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<UniqueView>,
    /// The time at which the job was enqueued.
    pub enqueued_at: Timestamp,
    /// The time from which the job is due, or was due last.
    pub scheduled_at: Timestamp,
    /// The time at which the last attempt began; nothing before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// The time at which the job ended; nothing before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// The Machine that runs the job; nothing where it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineName>,
    /// Whether a running job was asked to stop and has not yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelling: bool,
    /// Whether to cancel the job would change anything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_cancel: bool,
    /// Whether to retry the job would change anything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_retry: bool,
    /// The last progress of the running attempt, where it told any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What speaks against the job, where it is a suspect and so runs alone; nothing where it is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspicion: Option<Suspicion>,
    /// How the last failed attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// When that was, and which failures are alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Failed>,
    /// The size of the result in bytes; nothing where the job has not completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_bytes: Option<u64>,
    /// Why the job's row cannot be read, where it cannot: then only its id, module, queue, state, `scheduled_at` and
    /// `ended_at` are known, the rest is 0 or repeats those, and all that can be done is to delete it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

/// Which schedule enqueued a job, and for which tick.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfSchedule {
    /// The name of the schedule.
    pub name: ScheduleName,
    /// The time of the tick; nothing where somebody ran the schedule by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tick: Option<Timestamp>,
}

impl JobView {
    /// Returns the failure with which the job ended; nothing where it has not ended, or for another reason: one that somebody
    /// cancelled while it waited may have failed before.
    pub fn ended_by(&self) -> Option<&Failure> {
        let failure = self.failure.as_ref()?;
        let is_its_end = match self.state {
            State::Discarded => true,
            State::Cancelled => matches!(failure.cause, Cause::Cancelled | Cause::Unmet),
            _ => false,
        };
        is_its_end.then_some(failure)
    }

    /// Returns in words how the job is tried again, such as `sidekiq; none after trap; until 2030-01-31T08:00:00.000Z`;
    /// nothing where that is not known.
    pub fn retries(&self) -> Option<String> {
        let mut words = self.backoff.as_ref()?.to_string();
        if let Some(percent) = self.jitter_percent.filter(|percent| *percent > 0) {
            words += &format!(" plus up to {percent} %");
        }
        for (cause, backoff) in &self.backoff_by_cause {
            words += &format!("; {backoff} after {cause}");
        }
        if let Some(until) = self.retry_until {
            words += &format!("; until {until}");
        }
        Some(words)
    }
}
