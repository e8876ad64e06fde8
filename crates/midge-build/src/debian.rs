//! What comes from Debian, the guest toolchain above all, in a cache folder: fetched and checked by the machine's own
//! apt, unpacked beside the system.
//!
//! Invariant: nothing outside the cache folder is written, and no address or key is known here: the mirror and the
//! keyring are the ones that the machine already trusts.

mod apt;
mod kernel;
mod sources;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use self::apt::AptRoot;
pub use self::kernel::find_kernel;
use self::sources::Mirror;
use crate::environment::Environment;
use crate::process::write_program;
use crate::progress::{Event, OnEvent};

/// The suite whose packages are used, on any Debian: names and versions of [`PACKAGES`] are this suite's.
const SUITE: &str = "trixie";
/// rustc with the library for WASI, the library for proc macros, and every shared object that rustc links. Not what
/// else apt would add: the C compiler that links proc macros is the machine's.
const PACKAGES: [&str; 18] = [
    "rustc",
    "libstd-rust-1.85",
    "libstd-rust-dev",
    "libstd-rust-dev-wasm32",
    "libllvm19",
    "libc6",
    "libgcc-s1",
    "libstdc++6",
    "zlib1g",
    "libzstd1",
    "libxml2",
    "libffi8",
    "libedit2",
    "libtinfo6",
    "liblzma5",
    "libbsd0",
    "libmd0",
    "libz3-4",
];
/// The folder of the whole toolchain. The number rises when what is in it changes.
const FOLDER: &str = "guest-debian-trixie-1";
/// What people are told of it.
const WHAT: &str = "the guest toolchain";
const LOCK: &str = "guest-debian.lock";
/// Where the system tree begins, inside the folder.
const SYSTEM: &str = "system";
/// Targets that come with the packages and that midge does not build for: half of the folder.
const OTHER_TARGETS: [&str; 2] = ["wasm32-unknown-unknown", "wasm32-wasip2"];

/// Runs the rustc of the folder with its own loader and libraries, so that the system's do not matter.
const WRAPPER: &str = r#"#!/bin/sh
system=${0%/*}/system
libraries=$system/usr/lib/x86_64-linux-gnu
exec "$libraries/ld-linux-x86-64.so.2" --library-path "$libraries" "$system/usr/bin/rustc" --sysroot "$system/usr" "$@"
"#;

/// Why something of Debian's could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum DebianError {
    /// A program that it takes is not installed: this is no Debian, or a very small one.
    #[error("`{0}` is not installed, so Debian's packages cannot be used")]
    NoProgram(&'static str),
    /// No apt source names a mirror of Debian. The path is that of apt's settings.
    #[error("no apt source in `{0}` names a mirror of Debian (with component `main`)")]
    NoMirror(PathBuf),
    /// Debian's keyring is missing, so that no signature can be checked.
    #[error("Debian's keyring is missing: install the package debian-archive-keyring")]
    NoKeyring,
    /// apt or dpkg failed.
    #[error("{step} failed:\n{output}")]
    Failed {
        /// The step that failed, in words for a message.
        step: String,
        /// What the program wrote.
        output: String,
    },
    /// The cache folder could not be written.
    #[error("cannot write the cache `{path}`: {source}")]
    Cache {
        /// The file or folder that could not be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Returns the wrapper that runs Debian's rustc, if the whole toolchain is in the cache.
pub(crate) fn cached(cache: &Path) -> Option<PathBuf> {
    rustc_in(&cache.join(FOLDER))
}

fn rustc_in(folder: &Path) -> Option<PathBuf> {
    let rustc = folder.join("rustc");
    rustc.is_file().then_some(rustc)
}

/// Returns whether the programs are there that [`fetch`] needs.
pub(crate) fn missing_program(environment: &Environment) -> Option<&'static str> {
    ["apt-get", "dpkg-deb"].into_iter().find(|program| !environment.has_program(program))
}

/// Fetches the toolchain into the cache, unless it is there, and returns the wrapper that runs its rustc.
pub(crate) fn fetch(
    cache: &Path,
    apt: &Path,
    environment: &Environment,
    progress: OnEvent<'_>,
) -> Result<PathBuf, DebianError> {
    once(Once { folder: FOLDER, find: rustc_in, cache, apt, environment, progress }, |root, folder| {
        root.update()?;
        root.download(&PACKAGES, &format!("{WHAT} (Debian's rustc for WASI)"))?;
        root.unpack(&folder.join(SYSTEM), WHAT)?;
        let finish = || -> io::Result<()> {
            for target in OTHER_TARGETS {
                remove(&folder.join(SYSTEM).join("usr/lib/rustlib").join(target))?;
            }
            write_program(&folder.join("rustc"), WRAPPER)
        };
        finish().map_err(|source| DebianError::Cache { path: folder.to_owned(), source })?;
        progress(Event::Step("trying the guest toolchain"));
        let mut version = environment.command(folder.join("rustc"));
        apt::run(version.arg("-vV"), "running Debian's rustc", &mut |_| {}).map(|_| ())
    })
}

/// Something that is made once, in a folder of the cache.
struct Once<'a> {
    folder: &'static str,
    /// Finds what is wanted in the folder.
    find: fn(&Path) -> Option<PathBuf>,
    cache: &'a Path,
    /// apt's folder.
    apt: &'a Path,
    environment: &'a Environment,
    progress: OnEvent<'a>,
}

/// Makes a folder of the cache with what apt fetches, unless it is there, and returns what is wanted of it.
///
/// Two at once is one that works and one that waits for it. `make` is given another folder: only a rename makes it the
/// one that is looked for, so that half of something never looks whole.
fn once(
    what: Once<'_>,
    make: impl FnOnce(&AptRoot<'_>, &Path) -> Result<(), DebianError>,
) -> Result<PathBuf, DebianError> {
    let Once { environment, progress, .. } = what;
    if let Some(program) = missing_program(environment) {
        return Err(DebianError::NoProgram(program));
    }
    let mirror = Mirror::find(what.apt).ok_or_else(|| DebianError::NoMirror(what.apt.to_owned()))?;
    let keyring = mirror.keyring().ok_or(DebianError::NoKeyring)?;

    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| DebianError::Cache { path, source }
    };
    fs::create_dir_all(what.cache).map_err(at(what.cache))?;
    // Apt wants paths that do not depend on where it is started.
    let cache = &what.cache.canonicalize().map_err(at(what.cache))?;
    let lock = File::create(cache.join(LOCK)).map_err(at(cache))?;
    if lock.try_lock().is_err() {
        progress(Event::Step("waiting for another midge that fetches from Debian"));
        lock.lock().map_err(at(cache))?;
    }
    let whole = cache.join(what.folder);
    if let Some(found) = (what.find)(&whole) {
        return Ok(found);
    }
    let folder = cache.join(format!("{}.new", what.folder));
    remove(&folder).map_err(at(&folder))?;
    let root = AptRoot { folder: folder.join("apt"), environment, progress };
    root.create(&mirror.uri, &keyring).map_err(at(&folder))?;
    make(&root, &folder)?;
    let finish = || -> io::Result<Option<PathBuf>> {
        remove(&root.folder)?;
        remove(&whole)?;
        fs::rename(&folder, &whole)?;
        Ok((what.find)(&whole))
    };
    let missing = || io::Error::new(io::ErrorKind::NotFound, "what was fetched is not in it");
    finish().and_then(|found| found.ok_or_else(missing)).map_err(at(&whole))
}

/// Removes a folder with all that is in it; that it is not there is just as well.
fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
