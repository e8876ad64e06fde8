//! The modules that jobs may name: the manifest of the image that this server runs from, checked at its start.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use midge_protocol::manifest::{self, Manifest, ModuleEntry, QueuePolicy};
use midge_protocol::{ModuleName, QueueName, nearest};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::live::Live;
use crate::secret::hex;

/// A manifest, and the generation that it stands for.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// The manifest that `midge build` wrote: the modules, and the queues with their policies.
    pub manifest: Manifest,
    /// What tells this image from others: the image's digest on Fly, a hash of the manifest elsewhere.
    pub generation: String,
    /// The folder of the modules, as the hosts in the Machines see it.
    pub modules_dir: PathBuf,
    /// What was set of queues while a server ran, in the place of what the manifest says.
    pub live: Live,
}

/// A folder of modules that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The folder has no manifest, or it cannot be read.
    #[error("there is no {0}: run `midge build` first, or name the folder that it wrote")]
    Missing(PathBuf),
    /// The manifest is not JSON of the right form, or of a format that this release does not read.
    #[error("{path} is not a module manifest: {why}; run `midge build` again")]
    Malformed {
        /// The path of the manifest.
        path: PathBuf,
        /// What is wrong with the manifest, for people.
        why: String,
    },
    /// The file of a module is not the one that the manifest describes.
    #[error("{path} does not match the manifest ({why}): run `midge build` again")]
    Mismatch {
        /// The path of the module's file.
        path: PathBuf,
        /// What is wrong with the file, for people.
        why: &'static str,
    },
}

/// The part of a manifest that tells whether the rest can be understood.
#[derive(Deserialize)]
struct Head {
    format: u32,
}

impl Catalog {
    /// Reads the manifest in a folder and checks every module against its SHA-256. The generation is a hash of the
    /// manifest.
    ///
    /// # Errors
    /// [`CatalogError`] says what is missing or differs, and to run `midge build`.
    pub fn open(dir: &Path) -> Result<Catalog, CatalogError> {
        let path = dir.join(manifest::FILE_NAME);
        let text = std::fs::read(&path).map_err(|_| CatalogError::Missing(path.clone()))?;
        let malformed = |why: String| CatalogError::Malformed { path: path.clone(), why };
        // The format first: what another one holds beside it does not fit.
        let Head { format } = serde_json::from_slice(&text).map_err(|e| malformed(e.to_string()))?;
        if format != manifest::FORMAT {
            return Err(malformed(format!("its format is {format}, not {}", manifest::FORMAT)));
        }
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|e| malformed(e.to_string()))?;
        manifest.check().map_err(|e| malformed(e.to_string()))?;
        manifest.check_schedules().map_err(|e| malformed(e.to_string()))?;
        for entry in manifest.modules.values() {
            check(dir, entry)?;
        }
        let generation = hex(&Sha256::digest(&text)[..8]);
        let modules_dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        Ok(Catalog { manifest, generation, modules_dir, live: Live::default() })
    }

    /// Returns what the manifest says of a module.
    ///
    /// # Errors
    /// Where there is no such module: the name that was likely meant, if one is near enough.
    pub fn module(&self, name: &ModuleName) -> Result<&ModuleEntry, Option<&str>> {
        let known = || self.manifest.modules.keys().map(ModuleName::as_str);
        self.manifest.modules.get(name).ok_or_else(|| nearest(name.as_str(), known()))
    }

    /// Returns the generation, where a module is part of it.
    pub(crate) fn serves(&self, name: &ModuleName) -> Option<&str> {
        self.manifest.modules.contains_key(name).then_some(&self.generation)
    }

    /// Returns the queues that are declared or named by a module, and `default`.
    pub fn queues(&self) -> BTreeSet<QueueName> {
        let named = self.manifest.modules.values().map(|module| module.queue.clone());
        let declared = self.manifest.queues.keys().cloned();
        declared.chain(named).chain([QueueName::default_queue()]).collect()
    }

    /// Returns whether the manifest knows a queue, or declares none at all.
    pub fn declares(&self, queue: &QueueName) -> bool {
        self.manifest.queues.is_empty() || self.manifest.knows_queue(queue)
    }

    /// Returns whether new jobs may be put into a queue.
    ///
    /// # Errors
    /// Where only declared queues take jobs and this is none: the name that was likely meant, if one is near enough.
    pub fn takes_jobs(&self, queue: &QueueName) -> Result<(), Option<String>> {
        if !self.manifest.only_declared_queues() || self.manifest.knows_queue(queue) {
            return Ok(());
        }
        let known = self.queues();
        Err(nearest(queue.as_str(), known.iter().map(QueueName::as_str)).map(str::to_owned))
    }

    /// Returns the policy of a queue, or of a pool: the declared one, else the default; with what was set while a server ran, where that
    /// goes with it.
    pub fn policy(&self, queue: &QueueName) -> QueuePolicy {
        let own = self.with_what_is_set(queue, self.manifest.queue(queue));
        match own.pool.clone() {
            Some(pool) => self.with_what_is_set(&pool, own),
            None => own,
        }
    }

    /// Returns the most Machines that all queues may have together, as [`Manifest::max_machines`] does, by the policies
    /// that hold.
    pub fn max_machines(&self) -> u32 {
        self.manifest.max_machines_of(|queue| self.policy(queue))
    }

    fn with_what_is_set(&self, name: &QueueName, declared: QueuePolicy) -> QueuePolicy {
        let set = self.live.of(name).map(|set| set.on(&declared));
        set.and_then(Result::ok).unwrap_or(declared)
    }
}

fn check(dir: &Path, entry: &ModuleEntry) -> Result<(), CatalogError> {
    let path = dir.join(&entry.file);
    let mismatch = |why| CatalogError::Mismatch { path: path.clone(), why };
    let bytes = std::fs::read(&path).map_err(|_| mismatch("it cannot be read"))?;
    if bytes.len() as u64 != entry.size {
        return Err(mismatch("its size differs"));
    }
    if hex(&Sha256::digest(&bytes)) != entry.sha256 {
        return Err(mismatch("its SHA-256 differs"));
    }
    Ok(())
}

/// The catalog that is served now. `midge dev` replaces it at each rebuild.
#[derive(Debug)]
pub(crate) struct Current(RwLock<Arc<Catalog>>);

impl Current {
    pub(crate) fn new(catalog: Catalog) -> Current {
        Current(RwLock::new(Arc::new(catalog)))
    }

    pub(crate) fn get(&self) -> Arc<Catalog> {
        // A lock is poisoned by a panic while it is held, and nothing here can panic.
        self.0.read().expect("nobody panics with the catalog in hand").clone()
    }

    /// Serves another catalog. What was set of queues holds over it.
    pub(crate) fn set(&self, catalog: Catalog) {
        let mut current = self.0.write().expect("nobody panics with the catalog in hand");
        let live = current.live.clone();
        *current = Arc::new(Catalog { live, ..catalog });
    }

    /// Goes by what is set of queues now, unless it is older than what is known.
    pub(crate) fn set_live(&self, live: Live) {
        let mut current = self.0.write().expect("nobody panics with the catalog in hand");
        if live.is_newer_than(&current.live) {
            *current = Arc::new(Catalog { live, ..(**current).clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_of_another_format_is_told_as_such_whatever_else_it_holds() {
        let folder = std::env::temp_dir().join(format!("midge-catalog-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(manifest::FILE_NAME), r#"{"format": 1, "of": "before"}"#).unwrap();
        let error = Catalog::open(&folder).unwrap_err().to_string();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(error.contains("its format is 1") && error.contains("midge build"), "{error}");
    }
}
