//! The header `Idempotency-Key`, which does for an enqueue what an id in its body does.

use axum::http::{HeaderMap, HeaderName};
use midge_protocol::{JobId, limits};
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};

use super::answer::Failed;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Returns the id that a request's header names; nothing where it has none.
pub(super) fn id_named(headers: &HeaderMap, body: &[u8]) -> Result<Option<JobId>, Failed> {
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

/// Refuses the header where many jobs are enqueued at once.
pub(super) fn none_named(headers: &HeaderMap) -> Result<(), Failed> {
    match headers.contains_key(IDEMPOTENCY_KEY) {
        true => Err(Failed::invalid(
            "`Idempotency-Key` is for one job: give each of `jobs` its own `id`, a UUID, and repeat the request as it is",
        )),
        false => Ok(()),
    }
}

/// Returns the id of a key: itself where it is a UUID; else one of version 8 (RFC 9562), from a hash that nobody can make
/// collide.
fn id_of(key: &str) -> JobId {
    if let Ok(id) = key.parse() {
        return id;
    }
    let hash = Sha256::digest(key.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    bytes[6] = 0x80 | bytes[6] & 0x0f;
    bytes[8] = 0x80 | bytes[8] & 0x3f;
    JobId::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_an_id_and_always_the_same() {
        let uuid = "0190b3e4-7d5c-7c3a-9f00-0123456789ab";
        assert_eq!(id_of(uuid).to_string(), uuid);
        let id = id_of("order 17").to_string();
        assert_eq!(id, id_of("order 17").to_string());
        assert_ne!(id, id_of("order 18").to_string());
        let version_and_variant = (&id[14..15], matches!(&id[19..20], "8" | "9" | "a" | "b"));
        assert_eq!(version_and_variant, ("8", true), "{id}");
    }
}
