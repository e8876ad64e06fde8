//! Why something that was asked of a server is not done.

use midge_protocol::{JobId, ModuleName, QueueName};
use midge_store::StoreError;

/// Why something that was asked for is not done. Every text says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// There is no such module in the image.
    #[error("there is no module `{name}`{}", did_you_mean(.nearest))]
    UnknownModule {
        /// What was asked for.
        name: ModuleName,
        /// What was likely meant.
        nearest: Option<String>,
    },
    /// A part of the request is over its bound.
    #[error("{what} is {bytes} bytes, and at most {max} are allowed{hint}")]
    TooLarge {
        /// The part of the request, such as `args`.
        what: &'static str,
        /// How many bytes it has.
        bytes: usize,
        /// How many bytes it may have.
        max: usize,
        /// What to do instead.
        hint: &'static str,
    },
    /// More jobs are asked for at once than may be.
    #[error("{jobs} jobs in one bulk enqueue, and at most {max} are allowed: send several")]
    TooManyJobs {
        /// How many jobs were asked for.
        jobs: usize,
        /// How many may be.
        max: usize,
    },
    /// The id belongs to another job.
    #[error("job {0} is already there with other content: make a new id for a new job")]
    Conflict(JobId),
    /// The queue holds as many waiting jobs as it may.
    #[error(
        "queue `{queue}` is full: {max} jobs wait; try again later, or raise its max_jobs or max_machines"
    )]
    QueueFull {
        /// The queue that is full.
        queue: QueueName,
        /// How many jobs may wait in it.
        max: u64,
    },
    /// There is no such job.
    #[error("there is no job {0}: it was never enqueued here, or ended so long ago that it was deleted")]
    NoSuchJob(JobId),
    /// There is a job, but not what was asked for.
    #[error("job {0} has no {1}")]
    NoContent(JobId, &'static str),
    /// The job is in no state for this.
    #[error("job {0}: {1}")]
    Refused(JobId, midge_core::JobRefused),
    /// The request contradicts itself or its rules.
    #[error("{0}")]
    Invalid(String),
    /// The store does not work.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn did_you_mean(nearest: &Option<String>) -> String {
    match nearest {
        Some(name) => format!(": did you mean `{name}`?"),
        None => ": add it to midge.toml and run `midge build`".to_owned(),
    }
}
