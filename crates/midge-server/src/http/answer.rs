//! Errors as answers, and requests that are not what they should be.

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use midge_protocol::api::ApiError;
use midge_store::StoreError;
use serde::de::DeserializeOwned;

use crate::error::ServiceError;

/// An error answer: a status, a word for programs, a sentence for people.
#[derive(Debug)]
pub(crate) struct Failed {
    status: StatusCode,
    body: ApiError,
}

impl Failed {
    pub(crate) fn new(status: StatusCode, code: &str, error: impl Into<String>) -> Failed {
        Failed { status, body: ApiError { code: code.to_owned(), error: error.into() } }
    }

    pub(crate) fn invalid(error: impl Into<String>) -> Failed {
        Failed::new(StatusCode::BAD_REQUEST, "invalid", error)
    }

    pub(crate) fn not_found(error: impl Into<String>) -> Failed {
        Failed::new(StatusCode::NOT_FOUND, "not_found", error)
    }
}

impl From<ServiceError> for Failed {
    fn from(error: ServiceError) -> Failed {
        let (status, code) = match &error {
            ServiceError::UnknownModule { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "unknown_module"),
            ServiceError::TooLarge { .. } | ServiceError::TooManyJobs { .. } => {
                (StatusCode::PAYLOAD_TOO_LARGE, "too_large")
            }
            ServiceError::Conflict(_) => (StatusCode::CONFLICT, "conflict"),
            ServiceError::QueueFull { .. } => (StatusCode::TOO_MANY_REQUESTS, "queue_full"),
            ServiceError::NoSuchJob(_) => (StatusCode::NOT_FOUND, "no_such_job"),
            ServiceError::NoContent(..) => (StatusCode::NOT_FOUND, "no_content"),
            ServiceError::Refused(..) => (StatusCode::CONFLICT, "refused"),
            ServiceError::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            ServiceError::Store(StoreError::Full) => (StatusCode::INSUFFICIENT_STORAGE, "store_full"),
            ServiceError::Store(error) => {
                // What the database says is for the log, not for the caller.
                tracing::error!(%error, "the store failed a request");
                let text = "the store failed: nothing was changed; see the server's log, and try again";
                return Failed::new(StatusCode::SERVICE_UNAVAILABLE, "store_failed", text);
            }
        };
        Failed::new(status, code, error.to_string())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let ask = HeaderValue::from_static("Basic realm=\"midge\", charset=\"UTF-8\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, ask);
        }
        response
    }
}

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Failed;

    async fn from_request(request: Request, state: &S) -> Result<Body<T>, Failed> {
        let bytes = bytes::Bytes::from_request(request, state).await.map_err(|rejection| {
            let status = rejection.status();
            let max = midge_protocol::limits::ENQUEUE_BODY_BYTES_MAX;
            if status == StatusCode::PAYLOAD_TOO_LARGE {
                Failed::new(
                    status,
                    "too_large",
                    format!("the body is larger than {max} bytes: send less at once"),
                )
            } else {
                Failed::new(status, "invalid", rejection.body_text())
            }
        })?;
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Body(value)),
            Err(error) => Err(Failed::invalid(format!("the body is not what it should be: {error}"))),
        }
    }
}

/// The parameters of a query.
pub(crate) struct Params<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Params<T>, Failed> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Params(value)),
            Err(rejection) => Err(Failed::invalid(rejection.body_text())),
        }
    }
}
