//! What can go wrong, by what the caller does next.

use midge_protocol::api::ApiError;
use midge_protocol::job::JobView;

/// Any error, boxed.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A call that did not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server says no, and why. Mend the request, or, where the status is 429 or 5xx, try again later.
    #[error("{error}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The server's words, and a code for programs.
        error: ApiError,
    },
    /// No answer. The call may have been carried out; an enqueue can be repeated under the same id all the same.
    #[error("no midge server answers at {url}")]
    Unreachable {
        /// Where one was looked for.
        url: String,
        /// What happened instead.
        #[source]
        source: BoxError,
    },
    /// Something answers that does not speak as a midge server does: look at the URL.
    #[error("what answers at {url} is not a midge server: {why}")]
    Malformed {
        /// What was asked.
        url: String,
        /// What was wrong with the answer.
        why: String,
    },
    /// The client's own settings cannot be used.
    #[error("{0}")]
    Invalid(String),
}

impl ClientError {
    /// Returns the server's word for its refusal, such as `unknown_module`.
    pub fn code(&self) -> Option<&str> {
        match self {
            ClientError::Refused { error, .. } => Some(&error.code),
            _ => None,
        }
    }
}

/// A typed result that there is not.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The server could not be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The job ended without a result, and [`JobView::failure`] says why; or it goes on, and may be waited for again.
    #[error("job {} of module {} {}", .0.id, .0.module, how(.0))]
    NotCompleted(Box<JobView>),
    /// The result is not what was expected; [`crate::Client::result_bytes`] has it as it is.
    #[error("the result of job {id} is not of the type that was asked for")]
    NotTheType {
        /// The job.
        id: midge_protocol::JobId,
        /// What was wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

fn how(job: &JobView) -> String {
    match &job.failure {
        _ if !job.state.is_ended() => {
            format!("is still {}: it goes on, and can be waited for again", job.state)
        }
        Some(failure) => format!("was {}: {}: {}", job.state, failure.cause, failure.message),
        None => format!("was {}", job.state),
    }
}
