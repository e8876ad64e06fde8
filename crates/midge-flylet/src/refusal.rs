//! What flylet answers instead, in Fly's words: the client tells errors apart by them.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use midge_machines::SeenState;
use midge_machines::wire::ErrorBody;
use midge_protocol::MachineId;

use crate::faults::Fault;
use crate::fleet::Fleet;
use crate::lease::HeldBy;

/// How long a refused call is to wait, where the answer says so: as long as one call counts on Fly.
const RETRY_AFTER_ON_FLY: Duration = Duration::from_secs(1);

/// An error of the API.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    word: &'static str,
    error: String,
    /// The header `Retry-After`, in seconds.
    retry_after: Option<f64>,
    /// Whether the error is the whole body, as from a proxy, and not JSON.
    bare: bool,
}

impl Refusal {
    fn new(status: StatusCode, error: impl Into<String>) -> Refusal {
        Refusal { status, word: "unknown", error: error.into(), retry_after: None, bare: false }
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
        Refusal { word: "name_taken", ..Refusal::new(StatusCode::CONFLICT, error) }
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

    pub(crate) fn unsupported(why: String) -> Refusal {
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, why)
    }

    pub(crate) fn no_host() -> Refusal {
        let error = "could not find a candidate host: insufficient resources in the regions asked for";
        Refusal { word: "insufficient_capacity", ..Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error) }
    }

    pub(crate) fn region_quota(organization: &str, region: &str, used_mib: u64) -> Refusal {
        let error = format!(
            "organization {organization} is using {used_mib} MB of memory in {region} which is over the allowed quota"
        );
        Refusal::new(StatusCode::FORBIDDEN, error)
    }

    pub(crate) fn host_full() -> Refusal {
        let error = "aborted: could not reserve resource for machine: insufficient CPUs available to fulfill request on \
                     the current host";
        Refusal::new(StatusCode::CONFLICT, error)
    }

    pub(crate) fn being_replaced() -> Refusal {
        let error = "failed_precondition: machine getting replaced, refusing to start";
        Refusal::new(StatusCode::PRECONDITION_FAILED, error)
    }

    pub(crate) fn lease_held(id: &MachineId, held: &HeldBy) -> Refusal {
        let HeldBy { owner, until } = held;
        let error = format!("aborted: machine ID {id} lease currently held by {owner}, expires at {until}");
        Refusal::new(StatusCode::CONFLICT, error)
    }

    pub(crate) fn no_lease() -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, "not_found: lease not found")
    }

    /// The body did not come, or not whole.
    pub(crate) fn body(why: &BytesRejection) -> Refusal {
        match why.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_argument: http: request body too large")
            }
            _ => Refusal::invalid(why),
        }
    }

    pub(crate) fn bad_id(why: impl std::fmt::Display) -> Refusal {
        Refusal::invalid(format_args!("invalid machine ID: {why}"))
    }

    pub(crate) fn no_label() -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, "not_found: metadata key not found")
    }

    pub(crate) fn not_current(expected: &str, current: &str) -> Refusal {
        let error = format!(
            "aborted: current_version `{}` is not the machine's, which is {current}",
            expected.escape_debug()
        );
        Refusal::new(StatusCode::CONFLICT, error)
    }

    pub(crate) fn stale_version() -> Refusal {
        let error = "failed_precondition: machine_version is not the current version of the machine";
        Refusal::new(StatusCode::PRECONDITION_FAILED, error)
    }

    /// The wait is for a version that another has replaced.
    pub(crate) fn replaced() -> Refusal {
        let error = "deadline_exceeded: machine failed to reach desired state, currently replaced";
        Refusal::new(StatusCode::REQUEST_TIMEOUT, error)
    }

    pub(crate) fn dark() -> Refusal {
        Refusal::new(StatusCode::REQUEST_TIMEOUT, "deadline_exceeded: the machine's host did not answer")
    }

    pub(crate) fn rate_limited() -> Refusal {
        Refusal::new(StatusCode::TOO_MANY_REQUESTS, "resource_exhausted: rate limit exceeded")
    }

    pub(crate) fn one_app(app: &str) -> Refusal {
        let error = format!("flylet has the one app that it was started for, {app}");
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error)
    }

    pub(crate) fn app_taken() -> Refusal {
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "Validation failed: Name has already been taken")
    }

    /// Returns what is answered instead of a call that meets a fault.
    pub(crate) fn of_fault(fault: Fault, fleet: &Fleet, id: &str) -> Refusal {
        let conflict = |error: &str| Refusal::new(StatusCode::CONFLICT, error);
        match fault {
            Fault::RateLimited => Refusal {
                retry_after: Some(fleet.scaled(RETRY_AFTER_ON_FLY).as_secs_f64()),
                ..Refusal::rate_limited()
            },
            Fault::Deadline => {
                Refusal::new(StatusCode::REQUEST_TIMEOUT, "deadline_exceeded: request timed out")
            }
            Fault::BadGateway => Refusal {
                bare: true,
                ..Refusal::new(StatusCode::BAD_GATEWAY, "<html>502 Bad Gateway</html>")
            },
            Fault::Denied => {
                Refusal::new(StatusCode::FORBIDDEN, "permission_denied: the token may not do this")
            }
            Fault::LeaseHeld => conflict(&format!(
                "aborted: machine ID {id} lease currently held by somebody@example.com, expires at \
                 2100-01-01T00:00:00Z"
            )),
            Fault::ConcurrentUpdate => conflict("aborted: concurrent update of the machine"),
            Fault::HostFull => Refusal::host_full(),
            Fault::StartBlocked => conflict("aborted: governor policy blocked start"),
            Fault::StillStarting => Refusal::still_starting(),
            Fault::DeploysDisabled => conflict("aborted: deploys to this host are temporarily disabled"),
            Fault::NoCapacity => {
                conflict("aborted: insufficient resources available to fulfill request: no capacity")
            }
            Fault::BeingReplaced => Refusal::being_replaced(),
            Fault::NoHost => Refusal::no_host(),
            Fault::MachineLimit => {
                let error = "Your organization has reached its machine limit. Please contact billing@fly.io";
                Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error)
            }
            Fault::RegionQuota => Refusal::region_quota(fleet.app(), "iad", 40_960),
            Fault::DarkHost => Refusal::dark(),
            _ => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable: the service is not available"),
        }
    }

    pub(crate) fn deadline(wanted: &str, state: &SeenState) -> Refusal {
        let error =
            format!("deadline_exceeded: machine failed to reach desired state, {wanted}, currently {state}");
        Refusal::new(StatusCode::REQUEST_TIMEOUT, error)
    }

    pub(crate) fn unknown_call(what: &str) -> Refusal {
        Refusal::new(StatusCode::NOT_IMPLEMENTED, format!("unimplemented: flylet has no {what}"))
    }

    /// There is the path, for other methods.
    pub(crate) fn wrong_method(what: &str) -> Refusal {
        Refusal::new(StatusCode::METHOD_NOT_ALLOWED, format!("unimplemented: there is no {what}"))
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
        let retry_after = self.retry_after.map(|seconds| [(RETRY_AFTER, seconds.to_string())]);
        if self.bare {
            return (self.status, retry_after, self.error).into_response();
        }
        let body = ErrorBody { error: self.error, status: self.word.to_owned(), message: String::new() };
        (self.status, retry_after, Json(body)).into_response()
    }
}
