//! Bytes as text in base64, where there may be none.

use base64::Engine as _;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serializer};

pub(super) fn serialize<S: Serializer>(bytes: &Option<Bytes>, serializer: S) -> Result<S::Ok, S::Error> {
    match bytes {
        Some(bytes) => serializer.serialize_str(&base64::prelude::BASE64_STANDARD.encode(bytes)),
        None => serializer.serialize_none(),
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
    let Some(text) = Option::<std::borrow::Cow<'de, str>>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let bytes = base64::prelude::BASE64_STANDARD
        .decode(text.as_bytes())
        .map_err(|e| serde::de::Error::custom(format!("`input` is not base64: {e}")))?;
    Ok(Some(bytes.into()))
}
