//! Opens a folder of compiled modules and maps those that are asked for, after every check.
//!
//! Invariant: a module is found by its validated name through the manifest, never by a path that came from
//! elsewhere; nothing is mapped before manifest, size, checksum and CPU are right; and what is checked is the very
//! file that is mapped, since it is opened once.

// Mapping native code is wasmtime's one unsafe call here.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use midge_protocol::ModuleName;
use midge_protocol::manifest::{self, Manifest, ModuleEntry};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use serde::Deserialize;
use wasmtime::{Engine, InstancePre, Module};
use xxhash_rust::xxh3::xxh3_64;

use crate::config::{Cpu, WASMTIME_VERSION, config, config_hash};
use crate::guest::Guest;
use crate::imports::{self, NotLinked, Unfit};
use crate::lacks;
use crate::start::{self, StartPhase};

/// A folder of compiled modules, as `midge build` wrote it, and the engine that runs them.
pub struct Modules {
    dir: PathBuf,
    manifest: Manifest,
    cpu: Cpu,
    engine: Engine,
    loaded: Mutex<BTreeMap<ModuleName, Arc<Loaded>>>,
}

/// A module that passed every check and is ready to run.
pub struct Loaded {
    /// The name of the module in the manifest.
    pub name: ModuleName,
    /// The manifest's entry: queue, limits, retry policy, and what of the Machine the guest sees.
    pub entry: ModuleEntry,
    pub(crate) pre: InstancePre<Guest>,
}

#[cfg(test)]
impl Loaded {
    /// Makes a module that came from no file.
    pub(crate) fn for_test(name: &str, pre: InstancePre<Guest>) -> Loaded {
        let entry = serde_json::from_str(
            r#"{"file": "", "size": 0, "sha256": "", "xxh3": "", "source_sha256": "", "queue": "default",
                "limits": {"time_ms": 1, "memory_bytes": 1}, "retry": {"max_attempts": 1, "backoff": "sidekiq"}}"#,
        );
        Loaded { name: name.parse().unwrap(), entry: entry.unwrap(), pre }
    }
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Loaded({})", self.name)
    }
}

impl Modules {
    /// Opens a folder of modules: reads and checks its manifest, and starts the engine. No module is touched yet.
    ///
    /// # Errors
    /// [`LoadError`] where the manifest is missing, malformed, of another release, wasmtime or configuration, or
    /// names a CPU that this midge does not know.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Modules, LoadError> {
        let dir = dir.into();
        let manifest = read_manifest(&dir)?;
        start::ended(StartPhase::Manifest);
        let cpu = manifest.cpu.parse().map_err(|_| LoadError::OtherCpu {
            what: format!("the modules in {}", dir.display()),
            cpu: manifest.cpu.clone(),
            missing: "unknown to this midge".to_owned(),
        })?;
        let engine = Engine::new(&config()).map_err(|e| {
            let what = lacks::of(e.as_ref()).unwrap_or_else(|| format!("what the engine takes ({e:#})"));
            LoadError::Lacks { doing: "start the engine".to_owned(), what }
        })?;
        start::ended(StartPhase::Engine);
        Ok(Modules { dir, manifest, cpu, engine, loaded: Mutex::default() })
    }

    /// Returns the manifest of the folder.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns a module. The first call for it checks its file and maps it.
    ///
    /// A module that could not be loaded is tried again the next time: the error may have been mended.
    ///
    /// # Errors
    /// [`LoadError`] where the manifest has no such module, its file is not the one that was built, or it cannot run
    /// here.
    pub fn load(&self, name: &ModuleName) -> Result<Arc<Loaded>, LoadError> {
        // Held while loading, so that two first jobs of a module do not both load it. Nothing in here can leave the
        // map half changed.
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = loaded.get(name.as_str()) {
            return Ok(Arc::clone(module));
        }
        let entry = self.manifest.modules.get(name.as_str()).ok_or_else(|| self.unknown(name))?;
        let module = Arc::new(self.map(name, entry)?);
        loaded.insert(name.clone(), Arc::clone(&module));
        Ok(module)
    }

    fn map(&self, name: &ModuleName, entry: &ModuleEntry) -> Result<Loaded, LoadError> {
        if let Some(missing) = self.cpu.missing_here() {
            let what = format!("module `{name}`");
            return Err(LoadError::OtherCpu {
                what,
                cpu: self.cpu.to_string(),
                missing: format!("no {missing}"),
            });
        }
        let file = checked_file(&self.dir, name, entry)?;
        start::ended(StartPhase::Check);
        // SAFETY: the file is what `midge build` wrote, to the byte (size and checksum are those of its manifest), for
        // this wasmtime and configuration (the manifest said so, and wasmtime compares again). That nobody changes
        // it while it is mapped is the image's promise: whoever can write there owns the host anyway.
        let module =
            unsafe { Module::deserialize_open_file(&self.engine, file) }.map_err(|e| refused(name, &e))?;
        start::ended(StartPhase::Load);
        let pre = imports::link(&module).map_err(|e| match e {
            NotLinked::Unfit(source) => LoadError::Unfit { name: name.clone(), source },
            NotLinked::Refused(e) => refused(name, &e),
        })?;
        start::ended(StartPhase::Link);
        Ok(Loaded { name: name.clone(), entry: entry.clone(), pre })
    }

    fn unknown(&self, name: &ModuleName) -> LoadError {
        let names = self.manifest.modules.keys().map(ModuleName::as_str);
        let nearest = midge_protocol::nearest(name.as_str(), names).map(str::to_owned);
        LoadError::UnknownModule { name: name.clone(), nearest }
    }
}

/// The part of a manifest that tells whether the rest can be understood.
#[derive(Deserialize)]
struct Head {
    format: u32,
    wasmtime: String,
    config_hash: String,
}

fn read_manifest(dir: &Path) -> Result<Manifest, LoadError> {
    let path = dir.join(manifest::FILE_NAME);
    let text = std::fs::read(&path).map_err(|e| match lacks::of(&e) {
        Some(what) => LoadError::Lacks { doing: format!("read {}", path.display()), what },
        None => LoadError::NoManifest { path: path.clone(), source: e },
    })?;
    let malformed = |e| LoadError::MalformedManifest { path: path.clone(), source: e };
    // Read as a whole first: what does not fit this release is the exception.
    let whole: Result<Manifest, _> = serde_json::from_slice(&text);
    let head = match &whole {
        Ok(Manifest { format, wasmtime, config_hash, .. }) => {
            Head { format: *format, wasmtime: wasmtime.clone(), config_hash: config_hash.clone() }
        }
        Err(_) => serde_json::from_slice(&text).map_err(malformed)?,
    };
    if head.format != manifest::FORMAT {
        return Err(LoadError::OtherFormat { path, format: head.format });
    }
    if head.wasmtime != WASMTIME_VERSION {
        return Err(LoadError::OtherWasmtime { path, wasmtime: head.wasmtime });
    }
    if head.config_hash != config_hash() {
        return Err(LoadError::OtherConfiguration { path });
    }
    whole.map_err(malformed)
}

/// Opens a module's file and compares size and checksum, on that one open file.
fn checked_file(dir: &Path, name: &ModuleName, entry: &ModuleEntry) -> Result<File, LoadError> {
    // Not `entry.file`: a manifest must not be able to point out of its folder.
    let path = dir.join(format!("{name}.cwasm"));
    let failed = |e| match lacks::of(&e) {
        Some(what) => {
            LoadError::Lacks { doing: format!("read module `{name}` from {}", path.display()), what }
        }
        None => LoadError::File { name: name.clone(), path: path.clone(), source: e },
    };
    let file = File::open(&path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    if size < entry.size {
        return Err(LoadError::Truncated { name: name.clone(), size, expected: entry.size });
    }
    if size != entry.size || xxh3_hex(&file, size).map_err(failed)? != entry.xxh3 {
        return Err(LoadError::Altered { name: name.clone() });
    }
    Ok(file)
}

/// Says why wasmtime did not take a module.
fn refused(name: &ModuleName, error: &wasmtime::Error) -> LoadError {
    match lacks::of(error.as_ref()) {
        Some(what) => LoadError::Lacks { doing: format!("load module `{name}`"), what },
        None => LoadError::Refused { name: name.clone(), reason: format!("{error:#}") },
    }
}

/// Returns the checksum of a file's first `size` bytes. Mapped, since what is already in memory is not to be copied.
fn xxh3_hex(file: &File, size: u64) -> std::io::Result<String> {
    let Some(size) = usize::try_from(size).ok().filter(|size| *size > 0) else {
        return Ok(format!("{:016x}", xxh3_64(&[])));
    };
    // SAFETY: nothing is at that address; the kernel chooses it.
    let address = unsafe {
        mmap(std::ptr::null_mut(), size, ProtFlags::READ, MapFlags::PRIVATE | MapFlags::POPULATE, file, 0)
    }?;
    // SAFETY: so many bytes are mapped there, readable, until the call below. Should somebody change them meanwhile, the
    // checksum is wrong, and should somebody cut the file, the process ends; whoever can write there owns it anyway.
    let checksum = xxh3_64(unsafe { std::slice::from_raw_parts(address.cast(), size) });
    // SAFETY: it was mapped above, and nothing points into it any more.
    unsafe { munmap(address, size) }?;
    Ok(format!("{checksum:016x}"))
}

/// Why modules could not be opened or a module not be loaded. Nothing of it ran.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The manifest is missing or cannot be read.
    #[error("cannot read {path}: run `midge build`, or name the folder that holds its output")]
    NoManifest {
        /// The file that should be the manifest.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The manifest is not the JSON that `midge build` writes.
    #[error("{path} is not a manifest: run `midge build` ({source})")]
    MalformedManifest {
        /// The file that was read.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The manifest has the format of another release of midge.
    #[error(
        "{path} has manifest format {format}, this midge reads {}: run this release's `midge build`",
        manifest::FORMAT
    )]
    OtherFormat {
        /// The file that was read.
        path: PathBuf,
        /// The number of its format. This midge reads [`manifest::FORMAT`].
        format: u32,
    },
    /// The modules were compiled by another wasmtime than [`WASMTIME_VERSION`].
    #[error(
        "the modules of {path} were compiled by wasmtime {wasmtime}, this midge has {WASMTIME_VERSION}: run `midge build`"
    )]
    OtherWasmtime {
        /// The manifest that says so.
        path: PathBuf,
        /// The version of wasmtime that compiled them.
        wasmtime: String,
    },
    /// The modules were compiled under another configuration: the hash in the manifest is not [`config_hash`].
    #[error(
        "the modules of {path} were compiled for another configuration of the engine: run this release's `midge build`"
    )]
    OtherConfiguration {
        /// The manifest that says so.
        path: PathBuf,
    },
    /// The modules were compiled for a CPU that this Machine's is not.
    #[error(
        "{what} was compiled for {cpu}, which this CPU is not ({missing}): set a lower `cpu` in midge.toml and run `midge build`"
    )]
    OtherCpu {
        /// The module or the folder, in words for a message.
        what: String,
        /// The level that it was compiled for, such as `x86-64-v3`.
        cpu: String,
        /// What this CPU lacks, in words for a message.
        missing: String,
    },
    /// The manifest holds no module of that name.
    #[error("there is no module `{name}`{}", nearest.as_ref().map(|n| format!(": did you mean `{n}`?")).unwrap_or_default())]
    UnknownModule {
        /// The name that was asked for.
        name: ModuleName,
        /// The name of the module that was probably meant, if one is like it.
        nearest: Option<String>,
    },
    /// The module's file is missing or cannot be read.
    #[error("cannot read module `{name}` from {path}: run `midge build` ({source})")]
    File {
        /// The name of the module.
        name: ModuleName,
        /// The file that should be there.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The module's file is shorter than the manifest says.
    #[error("module `{name}` is truncated, {size} of {expected} bytes are there: run `midge build`")]
    Truncated {
        /// The name of the module.
        name: ModuleName,
        /// The size of the file, in bytes.
        size: u64,
        /// The size in the manifest, in bytes.
        expected: u64,
    },
    /// The module's file is not the one that was built: its checksum differs from the manifest's.
    #[error("module `{name}` was altered, its checksum is not the manifest's: run `midge build`")]
    Altered {
        /// The name of the module.
        name: ModuleName,
    },
    /// The module is no command, or imports what a guest cannot import.
    #[error("module `{name}` cannot run here")]
    Unfit {
        /// The name of the module.
        name: ModuleName,
        /// What does not fit.
        source: Unfit,
    },
    /// wasmtime refused the module, although the manifest promised that it fits.
    #[error("module `{name}` was refused: {reason}: run `midge build`")]
    Refused {
        /// The name of the module.
        name: ModuleName,
        /// wasmtime's reason.
        reason: String,
    },
    /// This Machine lacks what it takes. Nothing is wrong with the module, and another Machine may be able to.
    #[error("cannot {doing}, for want of {what}")]
    Lacks {
        /// What it was needed for, such as "load module `resize`".
        doing: String,
        /// What is lacking, in words, with what the system said.
        what: String,
    },
}
