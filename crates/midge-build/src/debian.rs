//! Debian's guest toolchain in a cache folder: fetched and checked by the machine's own apt, unpacked beside the system.
//!
//! Invariant: nothing outside the cache folder is written, and no address or key is known here: the mirror and the
//! keyring are the ones that the machine already trusts.

mod sources;

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use self::sources::Mirror;
use crate::environment::Environment;
use crate::process::{self, Ended, Tick};
use crate::progress::{Event, Progress};

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
/// The folder while it is made. Only a rename makes it the one above, so that half a toolchain never looks whole.
const FOLDER_NEW: &str = "guest-debian-trixie-1.new";
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

/// Why Debian's toolchain is not there.
#[derive(Debug, thiserror::Error)]
pub enum DebianError {
    /// Not a Debian, or a very small one.
    #[error("`{0}` is not installed, so Debian's packages cannot be used")]
    NoProgram(&'static str),
    /// The machine's apt knows no Debian.
    #[error("no apt source in `{0}` names a mirror of Debian (with component `main`)")]
    NoMirror(PathBuf),
    /// Nothing to check signatures with.
    #[error("Debian's keyring is missing: install the package debian-archive-keyring")]
    NoKeyring,
    /// apt or dpkg did not do it.
    #[error("{step} failed:\n{output}")]
    Failed {
        /// What was tried.
        step: String,
        /// What the program wrote.
        output: String,
    },
    /// The cache folder could not be written.
    #[error("cannot write the toolchain cache `{path}`: {source}")]
    Cache {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Returns the wrapper that runs Debian's rustc, if the whole toolchain is in the cache.
pub(crate) fn cached(cache: &Path) -> Option<PathBuf> {
    let rustc = cache.join(FOLDER).join("rustc");
    rustc.is_file().then_some(rustc)
}

/// Returns whether the programs are there that [`fetch`] needs.
pub(crate) fn missing_program(environment: &Environment) -> Option<&'static str> {
    ["apt-get", "dpkg-deb"].into_iter().find(|program| !environment.has_program(program))
}

/// Fetches the toolchain into the cache, unless it is there, and returns the wrapper that runs its rustc.
///
/// Two at once is one that works and one that waits for it.
pub(crate) fn fetch(
    cache: &Path,
    apt: &Path,
    environment: &Environment,
    progress: Progress<'_>,
) -> Result<PathBuf, DebianError> {
    if let Some(program) = missing_program(environment) {
        return Err(DebianError::NoProgram(program));
    }
    let mirror = Mirror::find(apt).ok_or_else(|| DebianError::NoMirror(apt.to_owned()))?;
    let keyring = mirror.keyring().ok_or(DebianError::NoKeyring)?;

    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| DebianError::Cache { path, source }
    };
    fs::create_dir_all(cache).map_err(at(cache))?;
    // Apt wants paths that do not depend on where it is started.
    let cache = &cache.canonicalize().map_err(at(cache))?;
    let lock = File::create(cache.join(LOCK)).map_err(at(cache))?;
    if lock.try_lock().is_err() {
        progress(Event::Step("waiting for another midge that fetches the guest toolchain"));
        lock.lock().map_err(at(cache))?;
    }
    if let Some(rustc) = cached(cache) {
        return Ok(rustc);
    }
    let folder = cache.join(FOLDER_NEW);
    remove(&folder).map_err(at(&folder))?;
    let root = AptRoot::create(&folder.join("apt"), &mirror.uri, &keyring).map_err(at(&folder))?;
    root.download(environment, progress)?;
    root.unpack(&folder.join(SYSTEM), environment, progress)?;

    // What is left is made to look finished only once it has been seen to work.
    let finish = || -> io::Result<()> {
        for target in OTHER_TARGETS {
            remove(&folder.join(SYSTEM).join("usr/lib/rustlib").join(target))?;
        }
        fs::write(folder.join("rustc"), WRAPPER)?;
        fs::set_permissions(folder.join("rustc"), Permissions::from_mode(0o755))?;
        remove(&root.folder)
    };
    finish().map_err(at(&folder))?;
    progress(Event::Step("trying the guest toolchain"));
    let mut version = environment.command(folder.join("rustc"));
    run(version.arg("-vV"), "running Debian's rustc", &mut |_| {})?;
    let whole = cache.join(FOLDER);
    remove(&whole).and_then(|()| fs::rename(&folder, &whole)).map_err(at(&whole))?;
    Ok(whole.join("rustc"))
}

/// A root of apt's own: lists, packages and status apart from the system's.
struct AptRoot {
    folder: PathBuf,
}

impl AptRoot {
    fn create(folder: &Path, mirror: &str, keyring: &Path) -> io::Result<AptRoot> {
        for part in ["lists/partial", "archives/partial", "state", "empty"] {
            fs::create_dir_all(folder.join(part))?;
        }
        fs::write(folder.join("status"), "")?;
        let source = format!(
            "deb [arch=amd64 lang=none target=Packages signed-by={}] {mirror} {SUITE} main\n",
            keyring.display()
        );
        fs::write(folder.join("sources.list"), source)?;
        fs::write(folder.join("apt.conf"), Self::settings(folder))?;
        Ok(AptRoot { folder: folder.to_owned() })
    }

    /// The machine's settings stay (a proxy, for one), but for its folders, and for its hooks, which would act on
    /// the system: Docker's images have one that empties the system's package cache.
    fn settings(folder: &Path) -> String {
        let folder = folder.display();
        format!(
            r##"#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Architectures;
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Sandbox::User "";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::State::lists "{folder}/lists";
Dir::Cache "{folder}";
Dir::Cache::archives "{folder}/archives";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "{folder}/empty";
Dir::Etc::preferences "{folder}/empty/none";
Dir::Etc::preferencesparts "{folder}/empty";
"##
        )
    }

    fn apt_get(&self, environment: &Environment, arguments: &[&str]) -> Command {
        let mut command = environment.command("apt-get");
        // `apt-get download` puts packages into the current folder.
        command.current_dir(self.packages()).env("LC_ALL", "C");
        command.arg("-qq").arg("-c").arg(self.folder.join("apt.conf")).args(arguments);
        command
    }

    fn packages(&self) -> PathBuf {
        self.folder.join("archives")
    }

    fn download(&self, environment: &Environment, progress: Progress<'_>) -> Result<(), DebianError> {
        progress(Event::Step("reading Debian's package list"));
        let mut update = self.apt_get(environment, &["-o", "APT::Update::Error-Mode=any", "update"]);
        run(&mut update, "reading Debian's package list (apt-get update)", &mut |_| {})?;

        let mut uris = self.apt_get(environment, &["download", "--print-uris"]);
        let uris = run(uris.args(PACKAGES), "finding Debian's rustc (apt-get download)", &mut |_| {})?;
        let total = bytes_of_uris(&uris.text());

        progress(Event::Step("fetching the guest toolchain (Debian's rustc for WASI)"));
        let mut download = self.apt_get(environment, &["download"]);
        let mut tick = |_: Tick<'_>| {
            progress(Event::Bytes { done: folder_bytes(&self.packages()).min(total), total });
        };
        run(download.args(PACKAGES), "fetching Debian's packages (apt-get download)", &mut tick)?;
        let fetched = self.deb_files()?.len();
        if fetched < PACKAGES.len() {
            let step = format!("fetching {} packages", PACKAGES.len());
            return Err(DebianError::Failed { step, output: format!("apt-get fetched only {fetched}") });
        }
        Ok(())
    }

    fn deb_files(&self) -> Result<Vec<PathBuf>, DebianError> {
        let folder = self.packages();
        let read = || -> io::Result<Vec<PathBuf>> {
            let paths =
                fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
            Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|e| e == "deb")).collect())
        };
        read().map_err(|source| DebianError::Cache { path: folder.clone(), source })
    }

    fn unpack(
        &self,
        system: &Path,
        environment: &Environment,
        progress: Progress<'_>,
    ) -> Result<(), DebianError> {
        progress(Event::Step("unpacking the guest toolchain"));
        let packages = self.deb_files()?;
        let total = folder_bytes(&self.packages());
        let mut done = 0;
        for package in packages {
            let mut unpack = environment.command("dpkg-deb");
            unpack.arg("--extract").arg(&package).arg(system);
            run(&mut unpack, &format!("unpacking `{}` (dpkg-deb)", package.display()), &mut |_| {})?;
            done += fs::metadata(&package).map_or(0, |metadata| metadata.len());
            progress(Event::Bytes { done, total });
        }
        Ok(())
    }
}

/// apt has its own time limits for a mirror that says nothing; a slow one may take as long as it needs.
fn run(command: &mut Command, step: &str, tick: &mut dyn FnMut(Tick<'_>)) -> Result<Ended, DebianError> {
    let failed = |output| DebianError::Failed { step: step.to_owned(), output };
    let ended = process::run_with(command, Duration::MAX, tick).map_err(|e| failed(e.to_string()))?;
    if ended.status.success() { Ok(ended) } else { Err(failed(ended.stderr)) }
}

/// Adds up the sizes in lines of `'URI' FILE SIZE HASH`.
fn bytes_of_uris(uris: &str) -> u64 {
    uris.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok()).sum()
}

/// The bytes in a folder and in apt's `partial` below it.
fn folder_bytes(folder: &Path) -> u64 {
    let files = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    files(folder)
        .chain(files(&folder.join("partial")))
        .filter_map(|entry| entry.metadata().ok())
        .filter(|metadata| metadata.is_file())
        .map(|metadata| metadata.len())
        .sum()
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
