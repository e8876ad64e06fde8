//! The folder of compiled modules: one build at a time, nothing half written, and checked to the last byte.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use midge_protocol::ModuleName;
use midge_protocol::manifest::{FILE_NAME, FORMAT, Manifest, ModuleEntry};
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_64;

use crate::progress::{Event, OnEvent};

const LOCK: &str = ".lock";
/// New modules are written and tried in here, and then renamed to where they belong.
const STAGING: &str = ".new";
const EXTENSION: &str = "cwasm";

/// The error of an output folder that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write `{path}`: {source}; what was built before is as it was", path = .path.display())]
pub struct OutputError {
    /// The file or folder that could not be written.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> OutputError {
    let path = path.to_owned();
    move |source| OutputError { path, source }
}

/// The output folder, held by this build alone.
pub(crate) struct OutFolder {
    folder: PathBuf,
    // Unlocked when it is dropped, however the build ends.
    _lock: File,
}

impl OutFolder {
    /// Makes the folder where it is missing, and waits for its turn.
    pub(crate) fn lock(folder: &Path, progress: OnEvent<'_>) -> Result<OutFolder, OutputError> {
        fs::create_dir_all(folder).map_err(at(folder))?;
        let path = folder.join(LOCK);
        let lock = File::create(&path).map_err(at(&path))?;
        if lock.try_lock().is_err() {
            progress(Event::Step("waiting for another build of this project"));
            lock.lock().map_err(at(&path))?;
        }
        Ok(OutFolder { folder: folder.to_owned(), _lock: lock })
    }

    /// Returns what was built before, if it can be read.
    pub(crate) fn manifest(&self) -> Option<Manifest> {
        read_manifest(&self.folder).ok()
    }

    /// Returns whether a module's file is, to the byte, what its entry says.
    pub(crate) fn is_whole(&self, name: &ModuleName, entry: &ModuleEntry) -> bool {
        check_file(&self.folder, name, entry).is_ok()
    }

    /// Writes new modules with a manifest of their own into the staging folder, which it returns.
    pub(crate) fn stage(
        &self,
        files: &BTreeMap<ModuleName, Vec<u8>>,
        manifest: &Manifest,
    ) -> Result<PathBuf, OutputError> {
        let staging = self.folder.join(STAGING);
        self.clear_staging()?;
        fs::create_dir(&staging).map_err(at(&staging))?;
        for (name, bytes) in files {
            let path = staging.join(file_name(name));
            write_synced(&path, bytes).map_err(at(&path))?;
        }
        let path = staging.join(FILE_NAME);
        write_synced(&path, &to_json(manifest)).map_err(at(&path))?;
        Ok(staging)
    }

    /// Moves staged modules to where they belong, then the manifest, and removes what it does not name.
    ///
    /// Between the first rename and the last, the old manifest names a new file: whoever loads it then is refused by
    /// its checksum, and if midge is killed there, the next build mends it.
    pub(crate) fn install(
        &self,
        files: &BTreeMap<ModuleName, Vec<u8>>,
        manifest: &Manifest,
    ) -> Result<(), OutputError> {
        let staging = self.folder.join(STAGING);
        // All that can fail for want of room is done before the first rename.
        let new = self.folder.join(format!("{FILE_NAME}.new"));
        write_synced(&new, &to_json(manifest)).map_err(at(&new))?;
        for name in files.keys() {
            let path = self.folder.join(file_name(name));
            fs::rename(staging.join(file_name(name)), &path).map_err(at(&path))?;
        }
        let path = self.folder.join(FILE_NAME);
        fs::rename(&new, &path).map_err(at(&path))?;
        self.clear_staging()?;
        self.remove_stale(manifest)
    }

    /// Removes what a build that failed or was killed left.
    pub(crate) fn clear_staging(&self) -> Result<(), OutputError> {
        let staging = self.folder.join(STAGING);
        match fs::remove_dir_all(&staging) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&staging)(error)),
            _ => Ok(()),
        }
    }

    /// Removes compiled modules that are no longer in the project. Other files in the folder are not ours.
    fn remove_stale(&self, manifest: &Manifest) -> Result<(), OutputError> {
        for entry in fs::read_dir(&self.folder).map_err(at(&self.folder))? {
            let path = entry.map_err(at(&self.folder))?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let ours = path.extension().is_some_and(|e| e == EXTENSION) && ModuleName::new(stem).is_ok();
            if ours && !manifest.modules.contains_key(stem) {
                fs::remove_file(&path).map_err(at(&path))?;
            }
        }
        Ok(())
    }
}

/// Returns the name of a module's file.
pub(crate) fn file_name(name: &ModuleName) -> String {
    format!("{name}.{EXTENSION}")
}

/// Returns SHA-256 in hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns XXH3-64 in hex.
pub(crate) fn xxh3(bytes: &[u8]) -> String {
    format!("{:016x}", xxh3_64(bytes))
}

/// Writes a file whose bytes are on disk when it returns, so that a rename never shows an empty one.
fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_data()
}

fn to_json(manifest: &Manifest) -> Vec<u8> {
    let mut json = serde_json::to_vec_pretty(manifest).expect("a manifest has only text keys");
    json.push(b'\n');
    json
}

fn read_manifest(folder: &Path) -> Result<Manifest, VerifyError> {
    let path = folder.join(FILE_NAME);
    let bytes = fs::read(&path).map_err(|source| VerifyError::Unreadable { path: path.clone(), source })?;
    let manifest: Manifest = serde_json::from_slice(&bytes)
        .map_err(|error| VerifyError::Malformed { path: path.clone(), reason: error.to_string() })?;
    if manifest.format != FORMAT {
        let reason = format!("it has format {}, this midge writes {FORMAT}", manifest.format);
        return Err(VerifyError::Malformed { path, reason });
    }
    Ok(manifest)
}

/// Why a folder is not what `midge build` made.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The manifest is missing or cannot be read.
    #[error("cannot read `{path}`: {source}: run `midge build`", path = .path.display())]
    Unreadable {
        /// The file that should be the manifest.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The manifest is not what this release of `midge build` writes.
    #[error("`{path}` is not a manifest: {reason}: run `midge build`", path = .path.display())]
    Malformed {
        /// The file that was read.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Files of modules differ from the manifest: all that do.
    #[error("{}: run `midge build`", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Different(Vec<Difference>),
}

/// How one module's file differs from the manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("module `{module}` {what}")]
pub struct Difference {
    /// The module whose file differs.
    pub module: ModuleName,
    /// How it differs, in words that follow "module NAME".
    pub what: String,
}

/// Compares every file with the manifest, to the last byte, and returns the manifest.
///
/// Whether this midge can load them is not asked here: that is `midge_engine::Modules::open`.
pub fn verify(folder: &Path) -> Result<Manifest, VerifyError> {
    let manifest = read_manifest(folder)?;
    let different: Vec<Difference> = manifest
        .modules
        .iter()
        .filter_map(|(name, entry)| {
            let what = check_file(folder, name, entry).err()?;
            Some(Difference { module: name.clone(), what })
        })
        .collect();
    if different.is_empty() { Ok(manifest) } else { Err(VerifyError::Different(different)) }
}

fn check_file(folder: &Path, name: &ModuleName, entry: &ModuleEntry) -> Result<(), String> {
    let file = file_name(name);
    if entry.file != file {
        return Err(format!("has the file `{}` in the manifest, not `{file}`", entry.file));
    }
    let bytes = fs::read(folder.join(&file)).map_err(|error| format!("cannot be read: {error}"))?;
    let size = bytes.len() as u64;
    if size != entry.size {
        return Err(format!("has {size} bytes where the manifest has {}", entry.size));
    }
    if sha256(&bytes) != entry.sha256 {
        return Err("was altered: its SHA-256 is not the manifest's".to_owned());
    }
    if xxh3(&bytes) != entry.xxh3 {
        return Err("has another XXH3 than the manifest".to_owned());
    }
    Ok(())
}
