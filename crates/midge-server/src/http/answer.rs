//! Errors as answers, requests that are not what they should be, and what every answer carries.

use std::str::FromStr;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, OriginalUri, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use midge_core::BatchRefused;
use midge_protocol::api::ApiError;
use midge_protocol::{InvalidName, JobId};
use midge_store::StoreError;
use serde::de::DeserializeOwned;

use super::bodies::Held;
use super::wrong::{self, Wrong};
use crate::error::ServiceError;
use crate::midge::Midge;

/// What is said of an error.
const ERROR_BYTES_MAX: usize = 800;

/// An error answer: a status, a word for programs, a sentence for people.
#[derive(Debug)]
pub(crate) struct Failed {
    status: StatusCode,
    body: ApiError,
}

impl Failed {
    /// Makes an error answer. What is wrong with a request may be quoted in it, but not all of a large one.
    pub(crate) fn new(status: StatusCode, code: &str, error: impl Into<String>) -> Failed {
        Failed { status, body: ApiError { code: code.to_owned(), error: shortened(error.into()) } }
    }

    pub(crate) fn invalid(error: impl Into<String>) -> Failed {
        Failed::new(StatusCode::BAD_REQUEST, "invalid", error)
    }

    /// Makes the answer to a request that has not the right form, or has it and a value that cannot be.
    fn wrong(wrong: Wrong) -> Failed {
        let status =
            if wrong.is_out_of_bounds { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::BAD_REQUEST };
        Failed::new(status, "invalid", wrong.text)
    }

    pub(crate) fn not_found(error: impl Into<String>) -> Failed {
        Failed::new(StatusCode::NOT_FOUND, "not_found", error)
    }

    /// Makes the answer to what may be tried again in a second.
    pub(crate) fn busy(error: impl Into<String>) -> Failed {
        Failed::new(StatusCode::SERVICE_UNAVAILABLE, "busy", error)
    }

    /// Makes the answer to a host that asks for more at once than one host may.
    pub(crate) fn too_many_exchanges(error: impl Into<String>) -> Failed {
        Failed::new(StatusCode::TOO_MANY_REQUESTS, "too_many_exchanges", error)
    }

    /// Makes the answer to whatever the store fails. What the database says, and where it is, is for the log and not for
    /// the caller.
    pub(crate) fn of_the_store(error: &StoreError) -> Failed {
        let (code, text) = match error {
            StoreError::Lost { .. } => (
                "store_lost",
                "the server's database was deleted, moved or replaced, so that it takes nothing: its log says what to do; \
                 then try again",
            ),
            StoreError::Damaged { .. } => (
                "store_damaged",
                "the server's database is damaged, so that it takes nothing: its log says what to do; then try again",
            ),
            _ => {
                ("store_failed", "the store failed: nothing was changed; see the server's log, and try again")
            }
        };
        Failed::new(StatusCode::SERVICE_UNAVAILABLE, code, text)
    }

    #[cfg(test)]
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }
}

/// Leaves the middle out of a sentence that is too long: it repeats what a caller sent, and says at its end what is wrong
/// with it.
fn shortened(error: String) -> String {
    if error.len() <= ERROR_BYTES_MAX {
        return error;
    }
    let head = error.floor_char_boundary(ERROR_BYTES_MAX / 2);
    let tail = error.ceil_char_boundary(error.len() - ERROR_BYTES_MAX / 2);
    format!("{} … {}", &error[..head], &error[tail..])
}

impl From<ServiceError> for Failed {
    fn from(error: ServiceError) -> Failed {
        Failed::from(&error)
    }
}

impl From<&ServiceError> for Failed {
    fn from(error: &ServiceError) -> Failed {
        let (status, code) = match error {
            ServiceError::OfMany { index, id, error } => {
                let Failed { status, body } = Failed::from(&**error);
                return Failed::new(status, &body.code, format!("`jobs[{index}]` ({id}): {}", body.error));
            }
            ServiceError::UnknownModule { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "unknown_module"),
            ServiceError::UnknownQueue { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "unknown_queue"),
            ServiceError::TooManyQueues { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "too_many_queues"),
            ServiceError::TooLarge { .. } | ServiceError::TooManyJobs { .. } => {
                (StatusCode::PAYLOAD_TOO_LARGE, "too_large")
            }
            ServiceError::Conflict(_) => (StatusCode::CONFLICT, "conflict"),
            ServiceError::QueueFull { .. } => (StatusCode::TOO_MANY_REQUESTS, "queue_full"),
            ServiceError::TooManyFollowers { .. } => (StatusCode::TOO_MANY_REQUESTS, "too_many_followers"),
            ServiceError::OfCallback { when, error } => {
                let Failed { status, body } = Failed::from(&**error);
                return Failed::new(status, &body.code, format!("`{}`: {}", when.field(), body.error));
            }
            ServiceError::NoSuchBatch(_) => (StatusCode::NOT_FOUND, "no_such_batch"),
            ServiceError::BatchRefused(BatchRefused::Circle(_)) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "circle")
            }
            ServiceError::BatchRefused(_) => (StatusCode::CONFLICT, "refused"),
            ServiceError::BatchConflict(_) => (StatusCode::CONFLICT, "conflict"),
            ServiceError::TooManyBatches { .. } => (StatusCode::TOO_MANY_REQUESTS, "too_many_batches"),
            ServiceError::NoSuchDependency(_) => (StatusCode::UNPROCESSABLE_ENTITY, "no_such_dependency"),
            ServiceError::NoSuchJob(_) => (StatusCode::NOT_FOUND, "no_such_job"),
            ServiceError::NoSuchAttempt { .. } | ServiceError::ForgottenAttempt { .. } => {
                (StatusCode::NOT_FOUND, "no_such_attempt")
            }
            ServiceError::NoSuchSweep(_) => (StatusCode::NOT_FOUND, "no_such_sweep"),
            ServiceError::NoSuchFailure(_) => (StatusCode::NOT_FOUND, "no_such_failure"),
            ServiceError::TooManySweeps { .. } => (StatusCode::TOO_MANY_REQUESTS, "too_many_sweeps"),
            ServiceError::NoSuchSchedule { .. } => (StatusCode::NOT_FOUND, "no_such_schedule"),
            ServiceError::NoContent(..) | ServiceError::NoResult(..) => (StatusCode::NOT_FOUND, "no_content"),
            ServiceError::NoSuchMachine(_) => (StatusCode::NOT_FOUND, "no_such_machine"),
            ServiceError::Refused(..) | ServiceError::MachineGoes { .. } => (StatusCode::CONFLICT, "refused"),
            ServiceError::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            ServiceError::Store(StoreError::Unreadable(_)) => (StatusCode::CONFLICT, "unreadable"),
            ServiceError::Store(StoreError::Full) => (StatusCode::INSUFFICIENT_STORAGE, "store_full"),
            ServiceError::Store(error) => {
                tracing::error!(%error, "the store failed a request");
                return Failed::of_the_store(error);
            }
        };
        Failed::new(status, code, error.to_string())
    }
}

impl From<InvalidName> for Failed {
    fn from(error: InvalidName) -> Failed {
        Failed::invalid(error.to_string())
    }
}

impl From<PathRejection> for Failed {
    fn from(_: PathRejection) -> Failed {
        Failed::invalid(
            "the path holds bytes that are no UTF-8: write them as text, with % where a URL needs it",
        )
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        let headers = response.headers_mut();
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let ask = HeaderValue::from_static("Basic realm=\"midge\", charset=\"UTF-8\"");
            headers.insert(header::WWW_AUTHENTICATE, ask);
        }
        response
    }
}

/// The answer to a path of which nothing is known.
pub(crate) async fn nothing_here(OriginalUri(uri): OriginalUri) -> Failed {
    Failed::not_found(format!("there is nothing at {}: the API is described in docs/api.md", uri.path()))
}

/// The answer to a method that a path does not have. Which it has, the router adds in `Allow`.
pub(crate) async fn not_allowed(method: Method, OriginalUri(uri): OriginalUri) -> Failed {
    let mut segments = uri.path().rsplit('/');
    // All three: the whole API may be mounted at `/jobs`.
    if let (Some(id), Some("jobs"), Some("v1")) = (segments.next(), segments.next(), segments.next())
        && !["bulk", "count"].contains(&id)
        && id.parse::<JobId>().is_err()
    {
        let shown = midge_protocol::shown::cut(id);
        return Failed::not_found(format!(
            "`{shown}` is no id of a job, and nothing else is there: see docs/api.md"
        ));
    }
    let error = format!("{} takes no {method}: the header `Allow` says what it takes", uri.path());
    Failed::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", error)
}

/// What an answer carries that does not say otherwise. Whatever a guest wrote is never to be taken for a page of ours, is
/// kept by no cache, and is shown and loaded by no page of another site.
const ON_ALL: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CACHE_CONTROL, "no-store"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    // Not `no-referrer`, with which a browser would not say either from which origin a form comes.
    (header::REFERRER_POLICY, "same-origin"),
];

/// Adds what every answer carries.
pub(crate) fn with_headers(mut response: Response) -> Response {
    for (name, value) in ON_ALL {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// A JSON body. It is read by whoever has come so far: the right to send it is checked before.
pub(crate) struct Body<T> {
    pub(crate) value: T,
    /// The room of the body is taken until what was asked for is done.
    pub(crate) held: Held,
}

impl<T: DeserializeOwned> FromRequest<Midge> for Body<T> {
    type Rejection = Failed;

    async fn from_request(request: Request, midge: &Midge) -> Result<Body<T>, Failed> {
        let held = midge.inner.bodies.callers.read(request.into_body()).await?;
        // Who asks for nothing in particular need not write that.
        let bytes: &[u8] = if held.bytes.is_empty() { b"{}" } else { &held.bytes };
        match serde_json::from_slice(bytes) {
            Ok(value) => Ok(Body { value, held }),
            Err(error) if held.bytes.is_empty() => Err(Failed::invalid(wrong::without_body(&error))),
            Err(error) => Err(Failed::wrong(wrong::in_body::<T>(bytes, &error))),
        }
    }
}

/// The parameters of a query.
pub(crate) struct Params<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Params<T>, Failed> {
        let query = parts.uri.query().unwrap_or_default().to_owned();
        if let Some(error) = wrong::no_text_in_query(&query) {
            return Err(Failed::invalid(error));
        }
        match Query::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Params(value)),
            Err(rejection) => {
                // What it adds to its source is in axum's words.
                let told = std::error::Error::source(&rejection).map(ToString::to_string);
                let told = told.unwrap_or_else(|| rejection.body_text());
                Err(Failed::wrong(wrong::in_query(&query, &told)))
            }
        }
    }
}

/// The id of a job, from the path.
pub(crate) struct Id(pub(crate) JobId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Id, Failed> {
        let Path(text) = Path::<String>::from_request_parts(parts, state).await?;
        Ok(Id(text.parse()?))
    }
}

/// The number of a sweep, from the path.
pub(crate) struct Number(pub(crate) u64);

impl<S: Send + Sync> FromRequestParts<S> for Number {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Number, Failed> {
        let Path(text) = Path::<String>::from_request_parts(parts, state).await?;
        let number = text.parse().ok().filter(|number| *number <= i64::MAX as u64);
        number.map(Number).ok_or_else(|| {
            let shown = midge_protocol::shown::cut(&text);
            Failed::invalid(format!("`{shown}` is not the number of a sweep: use one such as 7"))
        })
    }
}

/// A name from the path, such as a queue's.
pub(crate) struct Name<T>(pub(crate) T);

impl<S: Send + Sync, T: FromStr<Err = InvalidName>> FromRequestParts<S> for Name<T> {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Name<T>, Failed> {
        let Path(text) = Path::<String>::from_request_parts(parts, state).await?;
        Ok(Name(text.parse()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_quotes_no_more_than_people_read() {
        let failed = Failed::invalid("é".repeat(1_000_000));
        assert!(failed.body.error.len() < 2 * ERROR_BYTES_MAX && failed.body.error.contains("é … é"));
        assert_eq!(Failed::invalid("short").body.error, "short");
    }
}
