//! What can go wrong, by what the caller does next.

use midge_protocol::api::ApiError;
use midge_protocol::job::JobView;

/// An error of any kind, as the source of another.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a call did not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server says no, and why. Mend the request, or, where the status is 429 or 5xx, try again later.
    #[error("{error}")]
    Refused {
        /// The HTTP status of the answer.
        status: u16,
        /// The server's words for people, and its code for programs.
        error: ApiError,
    },
    /// No answer. The call may have been carried out; an enqueue can be repeated under the same id all the same.
    #[error("no midge server answers at {url}")]
    Unreachable {
        /// The URL of the server that was called.
        url: String,
        /// What happened instead of an answer.
        #[source]
        source: BoxError,
    },
    /// Something answers that does not speak as a midge server does: look at the URL.
    #[error("what answers at {url} is not a midge server: {why}")]
    Malformed {
        /// The URL that was called.
        url: String,
        /// What was wrong with the answer.
        why: String,
    },
    /// The URL, the token or the request cannot be sent; the text says why. Nothing was.
    #[error("{0}")]
    Invalid(String),
}

impl ClientError {
    /// Returns the server's word for its refusal, such as `unknown_module`; nothing for other errors.
    pub fn code(&self) -> Option<&str> {
        match self {
            ClientError::Refused { error, .. } => Some(&error.code),
            _ => None,
        }
    }
}

/// Why there is no typed result.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// A call failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The job ended without a result, and [`JobView::failure`] says why; or it goes on, and may be waited for again.
    #[error("job {} of module {} {}", .0.id, .0.module, how(.0))]
    NotCompleted(Box<JobView>),
    /// The result is not what was expected; [`crate::Client::result_bytes`] has it as it is.
    #[error("the result of job {id} is not of the type that was asked for")]
    NotTheType {
        /// The id of the job.
        id: midge_protocol::JobId,
        /// What does not fit the type.
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
