//! The header `Idempotency-Key`, which does for a request what an id in its body does.

use axum::http::{HeaderMap, HeaderName, StatusCode};
use midge_protocol::{JobId, limits};
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};

use super::answer::Failed;
use crate::error::ServiceError;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Returns the id that a request's header names; nothing where it has none.
pub(super) fn id_named(headers: &HeaderMap, body: &[u8]) -> Result<Option<[u8; 16]>, Failed> {
    #[derive(Deserialize)]
    struct IdOnly {
        id: Option<IgnoredAny>,
    }
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.as_bytes();
    let is_text = key.iter().all(|byte| (b' '..=b'~').contains(byte));
    if values.next().is_some() || !is_text || key.is_empty() || key.len() > limits::IDEMPOTENCY_KEY_BYTES_MAX
    {
        let max = limits::IDEMPOTENCY_KEY_BYTES_MAX;
        return Err(Failed::invalid(format!(
            "`Idempotency-Key` must be there once, with 1 to {max} bytes of ASCII"
        )));
    }
    if serde_json::from_slice::<IdOnly>(body).is_ok_and(|body| body.id.is_some()) {
        return Err(Failed::invalid("use one of `Idempotency-Key` and `id`"));
    }
    // As a string of structured fields (RFC 8941) it stands between quotes.
    let key = value.to_str().unwrap_or_default();
    Ok(Some(id_of(key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key))))
}

/// Makes the answer to an error: where the header named the id, it speaks of the header.
pub(super) fn failed(error: ServiceError, is_named: bool) -> Failed {
    let conflict = |what: &str, id: String| {
        let error = format!(
            "`Idempotency-Key` was used before, for {what} {id} with other content: use another key for a new {what}"
        );
        Failed::new(StatusCode::CONFLICT, "conflict", error)
    };
    match error {
        ServiceError::Conflict(id) if is_named => conflict("job", id.to_string()),
        ServiceError::BatchConflict(id) if is_named => conflict("batch", id.to_string()),
        error => error.into(),
    }
}

/// Refuses the header where a request has no id that it could stand for, and is another one if it is repeated. `instead` says
/// what to do.
pub(super) fn none_named(headers: &HeaderMap, instead: &str) -> Result<(), Failed> {
    match headers.contains_key(IDEMPOTENCY_KEY) {
        true => Err(Failed::invalid(format!("`Idempotency-Key` is not for this request: {instead}"))),
        false => Ok(()),
    }
}

/// Returns the id of a key: itself where it is a UUID; else one of version 8 (RFC 9562), from a hash that nobody can make
/// collide.
fn id_of(key: &str) -> [u8; 16] {
    if let Ok(id) = key.parse::<JobId>() {
        return *id.as_bytes();
    }
    let hash = Sha256::digest(key.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    bytes[6] = 0x80 | bytes[6] & 0x0f;
    bytes[8] = 0x80 | bytes[8] & 0x3f;
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_an_id_and_always_the_same() {
        let uuid = "0190b3e4-7d5c-7c3a-9f00-0123456789ab";
        let id_of = |key| JobId::from_bytes(id_of(key)).to_string();
        assert_eq!(id_of(uuid), uuid);
        let id = id_of("order 17");
        assert_eq!(id, id_of("order 17"));
        assert_ne!(id, id_of("order 18"));
        let version_and_variant = (&id[14..15], matches!(&id[19..20], "8" | "9" | "a" | "b"));
        assert_eq!(version_and_variant, ("8", true), "{id}");
    }
}
