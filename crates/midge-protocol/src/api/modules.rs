//! Modules, as the API shows them.

use serde::{Deserialize, Serialize};

use super::Pause;
use crate::manifest::ModuleEntry;
use crate::{ModuleName, Timestamp};

/// The answer of `GET /v1/modules`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modules {
    /// All modules that are served, paused, or have jobs that are held; in the order of their names.
    pub modules: Vec<ModuleView>,
    /// What is served now: the image's digest on Fly, a hash of the manifest elsewhere. Machines that were made from another
    /// generation get no more jobs.
    #[serde(default)]
    pub generation: String,
}

/// A module, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleView {
    /// The name by which jobs name it.
    pub name: ModuleName,
    /// What the manifest says of it; missing where it is not served, so that no job of it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<ModuleEntry>,
    /// That it is paused, and why; missing where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// What Machines lack of what its guests are given, so that no job of it starts but one that tries; missing where that is
    /// nothing, as far as is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacks: Option<ModuleLack>,
    /// The number of its jobs that are due, and wait until it starts jobs again.
    pub held: u64,
}

/// What Machines lack of what a module's guests are given, such as a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleLack {
    /// What it is, in the words of the host that was told to begin a job.
    pub what: String,
    /// How many jobs have tried in vain, one after the other.
    pub times: u32,
    /// The time of the first of them.
    pub since: Timestamp,
    /// The time from which one tries again.
    pub next: Timestamp,
}
