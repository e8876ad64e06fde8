//! The modules that jobs may name: the manifest of the image that this server runs from, checked at its start.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use midge_protocol::manifest::{self, Manifest, ModuleEntry, QueuePolicy};
use midge_protocol::{ModuleName, QueueName, nearest};
use sha2::{Digest, Sha256};

use crate::secret::hex;

/// A manifest, and the generation that it stands for.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// What `midge build` wrote.
    pub manifest: Manifest,
    /// What tells this image from others: the image's digest on Fly, a hash of the manifest elsewhere.
    pub generation: String,
    /// The folder of the modules, as the hosts see it.
    pub modules_dir: PathBuf,
}

/// A folder of modules that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// There is none.
    #[error("there is no {0}: run `midge build` first, or name the folder that it wrote")]
    Missing(PathBuf),
    /// It does not read.
    #[error("{path} is not a module manifest: {why}; run `midge build` again")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A module is not what the manifest says.
    #[error("{path} does not match the manifest ({why}): run `midge build` again")]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Catalog {
    /// Reads the manifest in a folder and checks every module against its SHA-256.
    pub fn open(dir: &Path) -> Result<Catalog, CatalogError> {
        let path = dir.join(manifest::FILE_NAME);
        let text = std::fs::read(&path).map_err(|_| CatalogError::Missing(path.clone()))?;
        let malformed = |why: String| CatalogError::Malformed { path: path.clone(), why };
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|e| malformed(e.to_string()))?;
        if manifest.format != manifest::FORMAT {
            return Err(malformed(format!("its format is {}, not {}", manifest.format, manifest::FORMAT)));
        }
        for entry in manifest.modules.values() {
            check(dir, entry)?;
        }
        let generation = hex(&Sha256::digest(&text)[..8]);
        let modules_dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        Ok(Catalog { manifest, generation, modules_dir })
    }

    /// Returns a module, or the nearest name that there is.
    pub fn module(&self, name: &ModuleName) -> Result<&ModuleEntry, Option<&str>> {
        let known = || self.manifest.modules.keys().map(ModuleName::as_str);
        self.manifest.modules.get(name).ok_or_else(|| nearest(name.as_str(), known()))
    }

    /// Returns the queues that are declared or named by a module, and `default`.
    pub fn queues(&self) -> BTreeSet<QueueName> {
        let named = self.manifest.modules.values().map(|module| module.queue.clone());
        let declared = self.manifest.queues.keys().cloned();
        declared.chain(named).chain([QueueName::default_queue()]).collect()
    }

    /// Returns the policy of a queue.
    pub fn policy(&self, queue: &QueueName) -> QueuePolicy {
        self.manifest.queue(queue)
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

    pub(crate) fn set(&self, catalog: Catalog) {
        *self.0.write().expect("nobody panics with the catalog in hand") = Arc::new(catalog);
    }
}
