//! What flylet answers instead, in Fly's words: the client tells errors apart by them.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use midge_machines::SeenState;
use midge_machines::wire::ErrorBody;
use midge_protocol::MachineId;

/// An error of the API.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    word: &'static str,
    error: String,
}

impl Refusal {
    fn new(status: StatusCode, error: impl Into<String>) -> Refusal {
        Refusal { status, word: "unknown", error: error.into() }
    }

    pub(crate) fn invalid(why: impl std::fmt::Display) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, format!("invalid_argument: {why}"))
    }

    pub(crate) fn wrong_token() -> Refusal {
        Refusal::new(StatusCode::UNAUTHORIZED, "unauthenticated: invalid token")
    }

    pub(crate) fn no_app() -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, "not_found: app not found")
    }

    pub(crate) fn no_machine() -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, "not_found: machine not found")
    }

    pub(crate) fn name_taken(name: &str, id: &MachineId) -> Refusal {
        let error = format!(
            "already_exists: unique machine name violation, machine ID {id} already exists with name \"{name}\""
        );
        Refusal { status: StatusCode::CONFLICT, word: "name_taken", error }
    }

    pub(crate) fn still_starting() -> Refusal {
        Refusal::new(StatusCode::CONFLICT, "aborted: machine still attempting to start")
    }

    pub(crate) fn wrong_state(verb: &str, state: &SeenState) -> Refusal {
        let error = format!("failed_precondition: unable to {verb} machine from current state: '{state}'");
        Refusal::new(StatusCode::PRECONDITION_FAILED, error)
    }

    pub(crate) fn machine_limit() -> Refusal {
        let error = "Your organization has reached its machine limit. This flylet was given one.";
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error)
    }

    pub(crate) fn deadline(wanted: &str, state: &SeenState) -> Refusal {
        let error =
            format!("deadline_exceeded: machine failed to reach desired state, {wanted}, currently {state}");
        Refusal::new(StatusCode::REQUEST_TIMEOUT, error)
    }

    pub(crate) fn unknown_call(what: &str) -> Refusal {
        Refusal::new(StatusCode::NOT_IMPLEMENTED, format!("unimplemented: flylet has no {what}"))
    }

    pub(crate) fn busy(why: impl std::fmt::Display) -> Refusal {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, format!("unavailable: {why}"))
    }

    pub(crate) fn closing() -> Refusal {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable: flylet is shutting down")
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = ErrorBody { error: self.error, status: self.word.to_owned(), message: String::new() };
        (self.status, Json(body)).into_response()
    }
}
