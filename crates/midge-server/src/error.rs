//! Why something that was asked of a server is not done.

use midge_core::{BatchRefused, JobRefused};
use midge_protocol::api::{BatchEvent, InvalidRequest};
use midge_protocol::job::State;
use midge_protocol::{
    AttemptNumber, BatchId, Fingerprint, JobId, MachineName, ModuleName, QueueName, ScheduleName, limits,
};
use midge_store::StoreError;

/// Why something that was asked for is not done. Every text says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// There is no such module in the image.
    #[error("there is no module `{name}`{}", did_you_mean(.nearest))]
    UnknownModule {
        /// The name that was asked for.
        name: ModuleName,
        /// The name that was likely meant, if one is near enough.
        nearest: Option<String>,
    },
    /// The manifest declares queues, and this is none of them.
    #[error("there is no queue `{name}`{}", declare_or(.name, .nearest))]
    UnknownQueue {
        /// The name that was asked for.
        name: QueueName,
        /// The name that was likely meant, if one is near enough.
        nearest: Option<String>,
    },
    /// So many queues have been named by jobs that no other may be.
    #[error(
        "queue `{name}` would be one too many: jobs of {max} queues that midge.toml does not declare are there already; \
         declare it as [queues.{name}], or use one that is there"
    )]
    TooManyQueues {
        /// The name that was asked for.
        name: QueueName,
        /// The most queues that need not be declared.
        max: usize,
    },
    /// A part of the request is over its bound.
    #[error("{what} is {bytes} bytes, and at most {max} are allowed{hint}")]
    TooLarge {
        /// The part of the request, such as `args`.
        what: &'static str,
        /// The bytes that this part has.
        bytes: usize,
        /// The most bytes that it may have.
        max: usize,
        /// The end of the message, which says what to do instead; may be empty.
        hint: &'static str,
    },
    /// More jobs are asked for at once than may be.
    #[error("more than {max} jobs in one bulk enqueue: send several")]
    TooManyJobs {
        /// The most jobs that one bulk enqueue may have.
        max: usize,
    },
    /// One of many jobs that were to be enqueued at once cannot be, and so none is.
    #[error("`jobs[{index}]` ({id}): {error}")]
    OfMany {
        /// Which of them, from 0.
        index: usize,
        /// The id of the job.
        id: JobId,
        /// Why it cannot be enqueued.
        error: Box<ServiceError>,
    },
    /// The id belongs to a job that was enqueued with other content.
    #[error("job {0} is already there with other content: make a new id for a new job")]
    Conflict(JobId),
    /// So many jobs wait in the queue that the new ones have no room until some of them have begun.
    #[error(
        "queue `{queue}` {}; try again later, or raise its max_jobs or max_machines",
        no_room(*.max, *.waiting, *.new)
    )]
    QueueFull {
        /// The queue that has no room.
        queue: QueueName,
        /// The most jobs that may wait in the queue.
        max: u64,
        /// The jobs that wait in it.
        waiting: u64,
        /// The jobs that were to wait there too, all or none: no more than `max`.
        new: u64,
    },
    /// There is no sweep of that number.
    #[error("there is no sweep {0}: it never was, or ended so long ago that it is forgotten")]
    NoSuchSweep(u64),
    /// No failure of that fingerprint was seen.
    #[error("no failure {0} was seen here, or it was so long ago that it is forgotten")]
    NoSuchFailure(Fingerprint),
    /// As many sweeps go on as may.
    #[error("{max} sweeps go on, and no more may at once: wait for one to end, or cancel one")]
    TooManySweeps {
        /// The most sweeps that may go on at once.
        max: usize,
    },
    /// No schedule of that name is served.
    #[error("there is no schedule `{name}`{}", schedule_hint(.name, .nearest))]
    NoSuchSchedule {
        /// The name that was asked for.
        name: ScheduleName,
        /// The name that was likely meant, if one is near enough.
        nearest: Option<String>,
    },
    /// A job is to run after one that there is not.
    #[error(
        "there is no job {0} to run after: name jobs that are there, or that come earlier in the same bulk; one that ended \
         long ago may be deleted"
    )]
    NoSuchDependency(JobId),
    /// There is no batch of that id.
    #[error("there is no batch {0}: it was never made here, or ended so long ago that it was deleted")]
    NoSuchBatch(BatchId),
    /// The batch does not allow what was asked for.
    #[error(transparent)]
    BatchRefused(#[from] BatchRefused),
    /// The id belongs to a batch that was made with other content.
    #[error("batch {0} is already there with other content: make a new id for a new batch")]
    BatchConflict(BatchId),
    /// So many batches have not ended that no other may be made.
    #[error("{max} batches have not ended: close or cancel some (`midge batches`), and try again")]
    TooManyBatches {
        /// The most that may be.
        max: u64,
    },
    /// A job that a batch is to run cannot be enqueued.
    #[error("`{}`: {error}", .when.field())]
    OfCallback {
        /// When the batch was to run it.
        when: BatchEvent,
        /// Why it cannot be enqueued.
        error: Box<ServiceError>,
    },
    /// There is no job of that id: it never was, or has been deleted since it ended.
    #[error("there is no job {0}: it was never enqueued here, or ended so long ago that it was deleted")]
    NoSuchJob(JobId),
    /// The job is there, but does not have what was asked for, such as a result.
    #[error("job {0} has no {1}")]
    NoContent(JobId, &'static str),
    /// The job has no result: it has not ended, or it ended without one.
    #[error("job {0} is {1} and has no result{yet}", yet = if .1.is_ended() { "" } else { " yet" })]
    NoResult(JobId, State),
    /// The job never had that attempt.
    #[error("job {id} has no attempt {attempt}: {}", attempts_of(*.begun))]
    NoSuchAttempt {
        /// The job that was asked about.
        id: JobId,
        /// The attempt that was asked for.
        attempt: AttemptNumber,
        /// The number of attempts that have begun.
        begun: u32,
    },
    /// The attempt and its log were deleted, since the job had many more.
    #[error(
        "attempt {attempt} of job {id} is not kept any more, nor its log: of a job's attempts the first {} and the last \
         {} are",
        limits::ATTEMPTS_KEPT_FIRST,
        limits::ATTEMPTS_KEPT_LAST
    )]
    ForgottenAttempt {
        /// The job that was asked about.
        id: JobId,
        /// The attempt that was asked for.
        attempt: AttemptNumber,
    },
    /// As many callers follow jobs as may.
    #[error(
        "{max} callers follow jobs already, as many as may at once: try again later, or wait for the job to end"
    )]
    TooManyFollowers {
        /// The most that may.
        max: usize,
    },
    /// The job's state does not allow what was asked for.
    #[error("job {0}{why}", why = refused(.1))]
    Refused(JobId, JobRefused),
    /// There is no Machine of that name.
    #[error(
        "there is no Machine `{0}`: it never was, or went so long ago that it is forgotten; see which there are"
    )]
    NoSuchMachine(MachineName),
    /// The Machine is being destroyed already, or is gone.
    #[error("Machine `{name}` is {state} already")]
    MachineGoes {
        /// The name of the Machine.
        name: MachineName,
        /// The state that it is in, in a word.
        state: &'static str,
    },
    /// The request contradicts itself or breaks a rule, as the text says.
    #[error("{0}")]
    Invalid(String),
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<InvalidRequest> for ServiceError {
    fn from(error: InvalidRequest) -> ServiceError {
        match error {
            InvalidRequest::TooLarge { what, bytes, max, hint } => {
                ServiceError::TooLarge { what, bytes, max, hint }
            }
            InvalidRequest::Wrong(why) => ServiceError::Invalid(why),
        }
    }
}

fn refused(refused: &JobRefused) -> String {
    match refused {
        JobRefused::Ended(state) => format!(" is {state} already"),
        JobRefused::Running => " is running: cancel it first".to_owned(),
        other => format!(": {other}"),
    }
}

fn no_room(max: u64, waiting: u64, new: u64) -> String {
    match max.saturating_sub(waiting) {
        0 => format!("is full: {waiting} jobs wait"),
        room => {
            format!("has room for {room} more, and these are {new} jobs: {waiting} wait, of at most {max}")
        }
    }
}

fn attempts_of(begun: u32) -> String {
    match begun {
        0 => "none was begun yet".to_owned(),
        1 => "only attempt 1 was begun".to_owned(),
        last => format!("attempts 1 to {last} were begun"),
    }
}

/// How what is added to midge.toml is served.
const BUILD: &str = "run `midge build`, and start the server again";

fn declare_or(name: &QueueName, nearest: &Option<String>) -> String {
    let declare = format!("declare it in midge.toml as [queues.{name}], {BUILD}");
    match nearest {
        Some(nearest) => format!(": did you mean `{nearest}`? If not, {declare}"),
        None => format!(": {declare}"),
    }
}

fn schedule_hint(name: &ScheduleName, nearest: &Option<String>) -> String {
    match nearest {
        Some(nearest) => format!(": did you mean `{nearest}`?"),
        None => format!(": declare it in midge.toml as [schedules.{name}], {BUILD}"),
    }
}

fn did_you_mean(nearest: &Option<String>) -> String {
    match nearest {
        Some(name) => format!(": did you mean `{name}`?"),
        None => format!(": add it to midge.toml, {BUILD}"),
    }
}
