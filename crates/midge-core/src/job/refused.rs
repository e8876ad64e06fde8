//! Why something that happens to a job changes nothing.

use midge_protocol::Timestamp;
use midge_protocol::job::State;

/// Why an event does not apply. It is an answer, not an error: a late report from a fenced attempt is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobRefused {
    /// A claim came before the job is due.
    #[error("not due before {0}")]
    NotDue(Timestamp),
    /// The attempt is not, or no longer, leased to whom reports on it.
    #[error("the attempt is not leased to this Machine")]
    NotLeased,
    /// The job has ended, in this state.
    #[error("the job is {0} already")]
    Ended(State),
    /// The job runs.
    #[error("the job is running: cancel it first")]
    Running,
    /// The attempt has not begun and nobody asked for it to stop: it is granted again, under the same number.
    #[error("the attempt is still to begin")]
    ToBegin,
    /// The job waits, so there is nothing to report on.
    #[error("the job is waiting")]
    Waiting,
    /// The job is held, since its module starts none.
    #[error("the job is held until its module starts jobs again")]
    Held,
    /// The job is not held.
    #[error("the job is not held")]
    NotHeld,
    /// A claim came when the job was not to be started any more.
    #[error("it was to be started by {0}")]
    Expired(Timestamp),
    /// The job waits for others, so that it is in no line.
    #[error("the job waits for other jobs to end")]
    Pending,
    /// The job does not wait for others.
    #[error("the job does not wait for other jobs")]
    NotPending,
    /// The job does not expire, or not yet.
    #[error("the job has not expired")]
    NotExpired,
}
