//! Finds a Rust toolchain that can build guests, and gets one where there is none.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::debian::{self, DebianError};
use crate::environment::Environment;
use crate::process;
use crate::progress::{Event, OnEvent};

/// The target that guests are built for, as rustc names it.
pub const GUEST_TARGET: &str = "wasm32-wasip1";

/// `rustup target add` fetches about 20 MB; longer than this means a network that will not give them.
const RUSTUP_TIME_MAX: Duration = Duration::from_secs(120);
/// For how long a failure of rustup is remembered, so that not every build waits for it again.
const RUSTUP_FAILED_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// Remembers that failure: the sysroot that it was about.
const RUSTUP_FAILED: &str = "rustup-failed";

/// What a toolchain is looked for with.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// A rustc to use, whatever else there is.
    pub rustc: Option<&'a Path>,
    /// The folder in which rustc is asked, since a folder can have a toolchain of its own (`rust-toolchain.toml`).
    pub folder: &'a Path,
    /// The folder where a fetched toolchain is kept.
    pub cache: &'a Path,
    /// The folder of apt's settings: `/etc/apt`.
    pub apt: &'a Path,
    /// The environment that rustc, rustup and apt are started with.
    pub environment: &'a Environment,
}

/// A toolchain that can build guests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolchain {
    /// How it was found.
    pub origin: Origin,
    /// Its rustc; none where it is the current one.
    pub rustc: Option<PathBuf>,
    /// The linker to use; none where rustc brings its own.
    pub linker: Option<PathBuf>,
}

/// How a guest toolchain was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A setting names its rustc.
    Explicit,
    /// The current toolchain had the target already.
    Current,
    /// rustup added the target to the current toolchain just now.
    Rustup,
    /// Debian's packages were fetched into the cache, now or earlier.
    Debian,
}

/// Why there is no guest toolchain.
#[derive(Debug, thiserror::Error)]
pub enum ToolchainError {
    /// rustc does not run, so that nothing can be built at all; the text says why.
    #[error("`rustc` does not run ({0}): install Rust, see https://rust-lang.org/tools/install")]
    NoRust(String),
    /// The rustc that was set cannot build guests.
    #[error("`{rustc}` cannot build guests: {reason}; set `rustc` under [build] to one that has the target {GUEST_TARGET}, or remove the setting", rustc = .rustc.display())]
    Unusable {
        /// The rustc that was set.
        rustc: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing that was tried gave a toolchain.
    #[error(
        "no Rust toolchain for {GUEST_TARGET}: the current one does not have the target; {rustup}; {debian}\n{ADVICE}"
    )]
    NotFound {
        /// Why rustup did not, in words for a message.
        rustup: String,
        /// Why Debian's packages did not.
        debian: DebianError,
    },
    /// Debian's rustc does not bring a linker.
    #[error("no linker for {GUEST_TARGET}: the current toolchain has no `rust-lld`; install the package lld")]
    NoLinker,
}

const ADVICE: &str = "run `rustup target add wasm32-wasip1` where there is a network, \
    or set `rustc` under [build] in midge.toml (or MIDGE_GUEST_RUSTC) to a rustc that has the target";

impl Toolchain {
    /// Makes a cargo command build guests with this toolchain.
    pub(crate) fn apply(&self, cargo: &mut Command) {
        if let Some(rustc) = &self.rustc {
            cargo.env("RUSTC", rustc);
        }
        if let Some(linker) = &self.linker {
            cargo.env("CARGO_TARGET_WASM32_WASIP1_LINKER", linker);
        }
    }
}

/// What is known when the next step is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Known {
    explicit: bool,
    current_has_target: bool,
    debian_is_cached: bool,
    rustup_is_there: bool,
    rustup_failed: bool,
}

/// The next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    UseExplicit,
    UseCurrent,
    UseDebian,
    AddWithRustup,
    FetchDebian,
}

/// The order: a setting; what is there; rustup; Debian. A cached Debian toolchain counts as there, since it was
/// fetched because rustup could not.
fn next(seen: Known) -> Step {
    if seen.explicit {
        Step::UseExplicit
    } else if seen.current_has_target {
        Step::UseCurrent
    } else if seen.debian_is_cached {
        Step::UseDebian
    } else if seen.rustup_is_there && !seen.rustup_failed {
        Step::AddWithRustup
    } else {
        Step::FetchDebian
    }
}

/// Returns whether [`find`] would find one without fetching anything.
pub(crate) fn is_here(wanted: Wanted<'_>) -> bool {
    let current = || Sysroot::ask(&wanted, Path::new("rustc")).is_ok_and(|current| current.has_target());
    wanted.rustc.is_some() || current() || debian::cached(wanted.cache).is_some()
}

/// Finds a toolchain for guests, or gets one: the one that is set, the current one, one from Debian that was fetched
/// before, rustup's, or Debian's.
///
/// # Errors
/// [`ToolchainError`] says what was tried, and what a person can do.
pub fn find(wanted: Wanted<'_>, progress: OnEvent<'_>) -> Result<Toolchain, ToolchainError> {
    let current = Sysroot::ask(&wanted, Path::new("rustc")).map_err(ToolchainError::NoRust);
    let mut seen = Known {
        explicit: wanted.rustc.is_some(),
        current_has_target: current.as_ref().is_ok_and(Sysroot::has_target),
        debian_is_cached: debian::cached(wanted.cache).is_some(),
        rustup_is_there: wanted.environment.has_program("rustup"),
        rustup_failed: false,
    };
    if let (Step::UseExplicit, Some(rustc)) = (next(seen), wanted.rustc) {
        return explicit(&wanted, rustc, current.ok());
    }
    // With no rustc at all there is no cargo either, so nothing that follows would help.
    let current = current?;
    let remembered = Remembered::new(wanted.cache, &current);
    let mut rustup = "there is no rustup".to_owned();
    if seen.rustup_is_there && remembered.is_there() {
        seen.rustup_failed = true;
        rustup = format!("rustup could not add it less than a day ago (`{}`)", remembered.file.display());
    }
    if next(seen) == Step::AddWithRustup {
        match add_with_rustup(&wanted, progress) {
            Ok(()) => return Ok(Toolchain { origin: Origin::Rustup, rustc: None, linker: None }),
            Err(reason) => {
                remembered.write();
                seen.rustup_failed = true;
                rustup = format!("rustup could not add it: {reason}");
            }
        }
    }
    if next(seen) == Step::UseCurrent {
        return Ok(Toolchain { origin: Origin::Current, rustc: None, linker: None });
    }
    let rustc = match debian::cached(wanted.cache) {
        Some(rustc) => rustc,
        None => debian::fetch(wanted.cache, wanted.apt, wanted.environment, progress)
            .map_err(|debian| ToolchainError::NotFound { rustup, debian })?,
    };
    with_debian(&wanted, rustc, &current)
}

fn explicit(
    wanted: &Wanted<'_>,
    rustc: &Path,
    current: Option<Sysroot>,
) -> Result<Toolchain, ToolchainError> {
    // Cargo starts it from another folder.
    let rustc = &absolute(rustc);
    let unusable = |reason| ToolchainError::Unusable { rustc: rustc.to_owned(), reason };
    let sysroot = Sysroot::ask(wanted, rustc).map_err(unusable)?;
    if !sysroot.has_target() {
        return Err(unusable(format!("it has no standard library for {GUEST_TARGET}")));
    }
    let linker = if sysroot.linker().is_some() { None } else { current.and_then(|current| current.linker()) };
    Ok(Toolchain { origin: Origin::Explicit, rustc: Some(rustc.to_owned()), linker })
}

fn with_debian(wanted: &Wanted<'_>, rustc: PathBuf, current: &Sysroot) -> Result<Toolchain, ToolchainError> {
    let installed = || wanted.environment.has_program("wasm-ld").then(|| PathBuf::from("wasm-ld"));
    let linker = current.linker().or_else(installed).ok_or(ToolchainError::NoLinker)?;
    Ok(Toolchain { origin: Origin::Debian, rustc: Some(absolute(&rustc)), linker: Some(linker) })
}

/// Makes a path independent of the current folder. A bare name is looked up in `PATH` and stays as it is.
fn absolute(program: &Path) -> PathBuf {
    let bare = program.components().count() == 1 && program.is_relative();
    let absolute = if bare { None } else { std::path::absolute(program).ok() };
    absolute.unwrap_or_else(|| program.to_owned())
}

fn add_with_rustup(wanted: &Wanted<'_>, progress: OnEvent<'_>) -> Result<(), String> {
    progress(Event::Step("adding the target wasm32-wasip1 (rustup)"));
    let mut rustup = wanted.environment.command("rustup");
    rustup.current_dir(wanted.folder).args(["target", "add", GUEST_TARGET]);
    let ended = process::run_with(&mut rustup, RUSTUP_TIME_MAX, &mut |_| {}).map_err(|e| e.to_string())?;
    if !ended.status.success() {
        // rustup writes what it does first and what went wrong last.
        let reason = ended.stderr.lines().rev().find(|line| line.contains("error")).unwrap_or("it failed");
        return Err(reason.trim().to_owned());
    }
    let sysroot = Sysroot::ask(wanted, Path::new("rustc"))?;
    if sysroot.has_target() { Ok(()) } else { Err("the current rustc is not rustup's".to_owned()) }
}

/// Where a rustc keeps its libraries and tools.
struct Sysroot {
    /// The sysroot itself.
    path: PathBuf,
    /// The libraries of the guest target, if they are there.
    target_libraries: PathBuf,
}

impl Sysroot {
    fn ask(wanted: &Wanted<'_>, rustc: &Path) -> Result<Sysroot, String> {
        let mut command = wanted.environment.command(rustc);
        command.current_dir(wanted.folder);
        command.args(["--print", "sysroot", "--print", "target-libdir", "--target", GUEST_TARGET]);
        let ended = process::run(&mut command).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => "it is not there".to_owned(),
            _ => error.to_string(),
        })?;
        if !ended.status.success() {
            return Err(ended.stderr.trim().to_owned());
        }
        match ended.text().lines().collect::<Vec<_>>()[..] {
            [sysroot, libraries] => Ok(Sysroot { path: sysroot.into(), target_libraries: libraries.into() }),
            _ => Err("it does not answer as rustc does".to_owned()),
        }
    }

    fn has_target(&self) -> bool {
        let entries = fs::read_dir(&self.target_libraries).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.into_iter().any(|name| name.starts_with("libstd-") && name.ends_with(".rlib"))
    }

    fn linker(&self) -> Option<PathBuf> {
        // midge runs on Linux on x86-64 only, and so does what it calls.
        let linker = self.path.join("lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld");
        linker.is_file().then_some(linker)
    }
}

/// The note that rustup could not add the target to this toolchain.
struct Remembered {
    file: PathBuf,
    sysroot: String,
}

impl Remembered {
    fn new(cache: &Path, current: &Sysroot) -> Remembered {
        Remembered { file: cache.join(RUSTUP_FAILED), sysroot: current.path.display().to_string() }
    }

    fn is_there(&self) -> bool {
        let age = fs::metadata(&self.file).and_then(|metadata| metadata.modified()).ok();
        let fresh = age
            .is_some_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age < RUSTUP_FAILED_FOR));
        fresh && fs::read_to_string(&self.file).is_ok_and(|sysroot| sysroot == self.sysroot)
    }

    fn write(&self) {
        // Without the note the next build only waits once more.
        let _ = fs::create_dir_all(self.file.parent().unwrap_or(Path::new(".")))
            .and_then(|()| fs::write(&self.file, &self.sysroot));
    }
}

#[cfg(test)]
mod tests;
