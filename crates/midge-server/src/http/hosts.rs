//! The exchange over HTTP: who may make one, and which protocol it speaks.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use midge_listen::{Connection, Peer};
use midge_protocol::MachineName;
use midge_protocol::exchange::{CONTENT_TYPE, PROTOCOL, PROTOCOL_HEADER, Request, decode, encode};

use super::access::connection_of;
use super::answer::Failed;
use crate::error::ServiceError;
use crate::exchange::{Denied, ExchangeError};
use crate::midge::Midge;
use crate::secret;

/// `POST /v1/machines/{name}/exchange`
pub(crate) async fn exchange(
    State(midge): State<Midge>,
    name: Result<Path<String>, PathRejection>,
    request: axum::extract::Request,
) -> Result<Response, Failed> {
    let (parts, body) = request.into_parts();
    let name = MachineName::new(name?.0)?;
    let secret = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let secret = secret.and_then(|value| value.strip_prefix("Bearer ")).ok_or_else(|| {
        Failed::new(
            StatusCode::UNAUTHORIZED,
            "no_secret",
            "a host sends its Machine's secret as a bearer token",
        )
    })?;
    let secret_hash = secret::hash_text(secret);
    let host = Peer::Host(format!("{name} {secret_hash}").into());
    // Once for each connection: after that it is known to be this host's, and the exchange itself looks each time.
    if parts.extensions.get::<Connection>().and_then(Connection::peer).as_ref() != Some(&host) {
        midge.authorise_host(&name, &secret_hash).await?;
        connection_of(&parts.extensions, &host)?;
    }
    // A stranger is not told which release this is.
    check_protocol(&parts.headers)?;
    let held = midge.inner.bodies.read_of_host(&name, body).await?;
    let request: Request = decode(&held.bytes).map_err(|error| Failed::invalid(error.to_string()))?;
    request.check().map_err(|error| Failed::invalid(error.to_string()))?;
    let answer = midge.answer_host(name, secret_hash, request).await?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE)),
        (header::HeaderName::from_static(PROTOCOL_HEADER), HeaderValue::from(PROTOCOL)),
    ];
    Ok((headers, encode(&answer)).into_response())
}

fn check_protocol(headers: &HeaderMap) -> Result<(), Failed> {
    let spoken = headers.get(PROTOCOL_HEADER).and_then(|value| value.to_str().ok());
    if spoken.and_then(|text| text.parse().ok()) == Some(PROTOCOL) {
        return Ok(());
    }
    let spoken = spoken.unwrap_or("none");
    let error = format!(
        "this server speaks exchange protocol {PROTOCOL} and the host speaks {spoken}: \
         build the image with the host and the server of one release"
    );
    Err(Failed::new(StatusCode::UPGRADE_REQUIRED, "protocol", error))
}

impl From<ExchangeError> for Failed {
    fn from(error: ExchangeError) -> Failed {
        match error {
            ExchangeError::Denied(denied) => self::denied(&denied),
            ExchangeError::Store(error) => Failed::from(ServiceError::Store(error)),
        }
    }
}

fn denied(denied: &Denied) -> Failed {
    let (status, code) = match denied {
        Denied::Unknown(_) => (StatusCode::NOT_FOUND, "unknown_machine"),
        Denied::WrongSecret(_) => (StatusCode::FORBIDDEN, "wrong_secret"),
        Denied::Revoked(..) => (StatusCode::GONE, "revoked"),
    };
    Failed::new(status, code, denied.to_string())
}
