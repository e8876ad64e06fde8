//! What a module may do, as a list that people read and that two builds are compared by.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::{Destination, Folder, Manifest, ModuleEntry};
use crate::{ModuleName, SecretName};

/// One thing that a module may do, or may use so much of. There is nothing else that its guests can reach.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// Make requests there.
    Http(Destination),
    /// Have a secret put into requests to there.
    Secret {
        /// The name of the secret.
        name: SecretName,
        /// Where it may go.
        to: Destination,
    },
    /// Enqueue jobs of a module.
    Enqueue(ModuleName),
    /// See a variable of the Machine's env.
    Env(String),
    /// See a folder of the Machine.
    Folder {
        /// The path under which it sees it.
        guest: String,
        /// The folder's path in the Machine.
        path: String,
        /// Whether it can only read there.
        read_only: bool,
    },
    /// Run so long, in milliseconds.
    TimeMs(u64),
    /// Have so much memory, in bytes.
    MemoryBytes(u64),
}

impl ModuleEntry {
    /// Returns all that its guests may do.
    pub fn capabilities(&self) -> BTreeSet<Capability> {
        let http = self.http.iter().cloned().map(Capability::Http);
        let secrets = self.secrets.iter().flat_map(|(name, destinations)| {
            destinations.iter().map(|to| Capability::Secret { name: name.clone(), to: to.clone() })
        });
        let enqueues = self.enqueues.iter().cloned().map(Capability::Enqueue);
        let env = self.env.iter().cloned().map(Capability::Env);
        let folders = self.dirs.iter().map(|(guest, Folder { path, read_only })| Capability::Folder {
            guest: guest.clone(),
            path: path.clone(),
            read_only: *read_only,
        });
        let limits =
            [Capability::TimeMs(self.limits.time_ms), Capability::MemoryBytes(self.limits.memory_bytes)];
        http.chain(secrets).chain(enqueues).chain(env).chain(folders).chain(limits).collect()
    }
}

/// How what a module may do differs between two builds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CapabilityChange {
    /// The module.
    pub module: ModuleName,
    /// What it may do now, and could not before.
    pub gained: BTreeSet<Capability>,
    /// What it could do before, and may not any more.
    pub lost: BTreeSet<Capability>,
}

/// Returns how what modules may do differs from an earlier build, for those of which it does. One that is new gains all; one
/// that is gone loses all.
pub fn capability_changes(before: &Manifest, now: &Manifest) -> Vec<CapabilityChange> {
    let names: BTreeSet<&ModuleName> = before.modules.keys().chain(now.modules.keys()).collect();
    let of = |manifest: &Manifest, name: &ModuleName| {
        manifest.modules.get(name).map(ModuleEntry::capabilities).unwrap_or_default()
    };
    let changes = names.into_iter().map(|name| {
        let (old, new) = (of(before, name), of(now, name));
        CapabilityChange {
            module: name.clone(),
            gained: new.difference(&old).cloned().collect(),
            lost: old.difference(&new).cloned().collect(),
        }
    });
    changes.filter(|change| !change.gained.is_empty() || !change.lost.is_empty()).collect()
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Capability::Http(to) => write!(f, "requests to {to}"),
            Capability::Secret { name, to } => write!(f, "secret {name} to {to}"),
            Capability::Enqueue(module) => write!(f, "enqueue jobs of {module}"),
            Capability::Env(name) => write!(f, "env {name}"),
            Capability::Folder { guest, path, read_only } => {
                let only = if *read_only { " (read only)" } else { "" };
                write!(f, "folder {guest} is {path}{only}")
            }
            Capability::TimeMs(ms) => write!(f, "time {} s", *ms as f64 / 1000.0),
            Capability::MemoryBytes(bytes) => write!(f, "memory {} MiB", *bytes as f64 / f64::from(1 << 20)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(modules: serde_json::Value) -> Manifest {
        let entry = |more: &serde_json::Value| {
            let mut entry = serde_json::json!({"file": "", "size": 0, "sha256": "", "xxh3": "", "source_sha256": "",
                "queue": "default", "limits": {"time_ms": 1500, "memory_bytes": 1 << 20},
                "retry": {"max_attempts": 1, "backoff": "none"}});
            entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            entry
        };
        let modules: serde_json::Map<_, _> =
            modules.as_object().unwrap().iter().map(|(name, more)| (name.clone(), entry(more))).collect();
        serde_json::from_value(serde_json::json!({"format": 3, "wasmtime": "", "config_hash": "", "cpu": "",
            "modules": modules}))
        .unwrap()
    }

    #[test]
    fn what_a_module_may_do_is_all_that_is_declared_and_its_limits() {
        let all = manifest(serde_json::json!({"charge": {
            "http": ["https://api.example.com"], "secrets": {"KEY": ["https://api.example.com/v1/"]},
            "enqueues": ["mail"], "env": ["LOG"], "dirs": {"/data": "/srv/data", "/fonts": {"path": "/usr/share/fonts", "read_only": true}},
        }}));
        let said: Vec<String> =
            all.modules["charge"].capabilities().iter().map(Capability::to_string).collect();
        assert_eq!(
            said,
            [
                "requests to https://api.example.com",
                "secret KEY to https://api.example.com/v1/",
                "enqueue jobs of mail",
                "env LOG",
                "folder /data is /srv/data",
                "folder /fonts is /usr/share/fonts (read only)",
                "time 1.5 s",
                "memory 1 MiB",
            ]
        );
    }

    #[test]
    fn a_change_is_what_was_gained_and_what_was_lost() {
        let before = manifest(serde_json::json!({"a": {"env": ["LOG"]}, "same": {}, "gone": {}}));
        let now = manifest(serde_json::json!({"a": {"env": ["KEY"]}, "same": {}, "new": {}}));
        let changes = capability_changes(&before, &now);
        let said: Vec<_> = changes
            .iter()
            .map(|change| (change.module.as_str(), change.gained.len(), change.lost.len()))
            .collect();
        assert_eq!(said, [("a", 1, 1), ("gone", 0, 2), ("new", 2, 0)]);
        assert_eq!(capability_changes(&now, &now), []);
    }
}
