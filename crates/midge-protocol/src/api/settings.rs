//! What the API takes and gives about settings of queues that are changed while a server runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Timestamp;
use crate::object::{objects, or_default};

/// `POST /v1/queues/{name}/settings`: changes settings of a queue, all or none, until they are unset again.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct SettingsRequest {
    /// The settings, each with its value as midge.toml would have it.
    #[serde(deserialize_with = "or_default")]
    pub set: BTreeMap<String, Value>,
    /// The settings that are to be as midge.toml says again.
    #[serde(deserialize_with = "or_default")]
    pub unset: Vec<String>,
    /// Why, for people; at most [`crate::limits::PAUSE_BYTES_MAX`] bytes, and so is `by`.
    #[serde(deserialize_with = "or_default")]
    pub reason: String,
    /// Who changes it, for people.
    #[serde(deserialize_with = "or_default")]
    pub by: String,
}

objects!(SettingsRequest);

/// A setting of a queue that was set while a server ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetSetting {
    /// Its name in midge.toml.
    pub name: String,
    /// Its value.
    pub value: Value,
    /// What midge.toml says, or the default; `null` where that is no such limit.
    pub declared: Value,
}

/// The answer of `GET` and `POST /v1/queues/{name}/settings`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueSettings {
    /// The settings that were set, in the order of their names.
    pub set: Vec<SetSetting>,
    /// Why they do not count, where they do not go with what midge.toml says by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unusable: Option<String>,
    /// The last changes, newest first.
    pub changes: Vec<SettingsChange>,
}

/// That somebody changed settings of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsChange {
    /// The time.
    pub at: Timestamp,
    /// Who, as they said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// Why, as they said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What was changed.
    pub changed: Vec<ChangedSetting>,
}

/// One setting that was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedSetting {
    /// Its name in midge.toml.
    pub name: String,
    /// What held before; `null` where it was no such limit.
    pub from: Value,
    /// What has held since; `null` where it is no such limit.
    pub to: Value,
    /// Whether it is as midge.toml says again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unset: bool,
}
