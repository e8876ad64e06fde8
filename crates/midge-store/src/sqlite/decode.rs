//! Reads what stands in columns, and writes what stands in the columns named `body`.

use std::str::FromStr;

use midge_core::Phase;
use midge_protocol::{InvalidName, JobId};
use rusqlite::types::ValueRef;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::StoreError;

/// How much is said of why a row cannot be read.
const WHY_CHARS_MAX: usize = 200;

/// Writes a value as the JSON of a `body`.
pub(super) fn to_json<T: Serialize>(row: &T) -> String {
    // Our own types, into memory: there is nothing that could fail.
    serde_json::to_string(row).expect("rows can always be written as JSON")
}

/// Reads the JSON of a `body`. Where it cannot be read, the error says why, for people.
pub(super) fn from_json<T: DeserializeOwned>(body: ValueRef<'_>) -> Result<T, String> {
    // Cut, since an error may repeat what stands in the row.
    let why = |error: &dyn std::fmt::Display| error.to_string().chars().take(WHY_CHARS_MAX).collect();
    let text = body.as_str().map_err(|error| why(&error))?;
    serde_json::from_str(text).map_err(|error| why(&error))
}

/// Reads a column that is text, without a copy.
pub(super) fn text(value: ValueRef<'_>) -> Result<&str, StoreError> {
    value.as_str().map_err(|error| StoreError::Failed(format!("a column cannot be read: {error}")))
}

/// Reads a phase from its number. A number that no phase has is an error.
pub(super) fn phase(number: i64) -> Result<Phase, StoreError> {
    let phase = usize::try_from(number).ok().and_then(|index| Phase::ALL.get(index).copied());
    phase.ok_or_else(|| StoreError::Failed(format!("a job has phase {number}, which does not exist")))
}

/// Reads the name of a queue, a module or a Machine, and checks it.
pub(super) fn name<T: FromStr<Err = InvalidName>>(name: &str) -> Result<T, StoreError> {
    name.parse().map_err(|error: InvalidName| StoreError::Failed(error.to_string()))
}

/// Reads a job's id from its 16 bytes.
pub(super) fn id(bytes: ValueRef<'_>) -> Result<JobId, StoreError> {
    let bytes = bytes.as_blob().ok().and_then(|bytes| bytes.try_into().ok());
    bytes.map(JobId::from_bytes).ok_or_else(|| StoreError::Failed("a job's id is not 16 bytes".to_owned()))
}
