//! A root of apt's own: the machine's apt reads its lists and fetches packages there, apart from the system's.
//!
//! Invariant: what is fetched is signed by the keyring that was handed in, or apt refuses it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{DebianError, SUITE};
use crate::environment::Environment;
use crate::process::{self, ProcessOutput, Tick};
use crate::progress::{Event, OnEvent};

/// The folder of it, and what its programs are started with.
pub(super) struct AptRoot<'a> {
    pub(super) folder: PathBuf,
    pub(super) environment: &'a Environment,
    pub(super) progress: OnEvent<'a>,
}

impl AptRoot<'_> {
    /// Makes its folder, for packages of one mirror.
    pub(super) fn create(&self, mirror: &str, keyring: &Path) -> io::Result<()> {
        let folder = &self.folder;
        for part in ["lists/partial", "archives/partial", "state", "empty"] {
            fs::create_dir_all(folder.join(part))?;
        }
        fs::write(folder.join("status"), "")?;
        let source = format!(
            "deb [arch=amd64 lang=none target=Packages signed-by={}] {mirror} {SUITE} main\n",
            keyring.display()
        );
        fs::write(folder.join("sources.list"), source)?;
        fs::write(folder.join("apt.conf"), settings(folder))
    }

    fn apt(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = self.environment.command(program);
        // `apt-get download` puts packages into the current folder.
        command.current_dir(self.packages()).env("LC_ALL", "C");
        command.arg("-qq").arg("-c").arg(self.folder.join("apt.conf")).args(arguments);
        command
    }

    fn packages(&self) -> PathBuf {
        self.folder.join("archives")
    }

    /// Reads the mirror's list of packages.
    pub(super) fn update(&self) -> Result<(), DebianError> {
        (self.progress)(Event::Step("reading Debian's package list"));
        let mut update = self.apt("apt-get", &["-o", "APT::Update::Error-Mode=any", "update"]);
        run(&mut update, "reading Debian's package list (apt-get update)", &mut |_| {})?;
        Ok(())
    }

    /// Returns what the list says of a package.
    pub(super) fn show(&self, package: &str) -> Result<String, DebianError> {
        let mut show = self.apt("apt-cache", &["show", "--no-all-versions", package]);
        Ok(run(&mut show, &format!("looking for Debian's {package} (apt-cache show)"), &mut |_| {})?.text())
    }

    /// Fetches packages. `what` is for people.
    pub(super) fn download(&self, packages: &[&str], what: &str) -> Result<(), DebianError> {
        let mut uris = self.apt("apt-get", &["download", "--print-uris"]);
        let uris = run(uris.args(packages), "finding Debian's packages (apt-get download)", &mut |_| {})?;
        let total = bytes_of_uris(&uris.text());

        (self.progress)(Event::Step(&format!("fetching {what}")));
        let mut download = self.apt("apt-get", &["download"]);
        let mut tick = |_: Tick<'_>| {
            (self.progress)(Event::Bytes { done: folder_bytes(&self.packages()).min(total), total });
        };
        run(download.args(packages), "fetching Debian's packages (apt-get download)", &mut tick)?;
        let fetched = self.deb_files()?.len();
        if fetched < packages.len() {
            let step = format!("fetching {} packages", packages.len());
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

    /// Unpacks all that was fetched into a folder. `what` is for people.
    pub(super) fn unpack(&self, system: &Path, what: &str) -> Result<(), DebianError> {
        (self.progress)(Event::Step(&format!("unpacking {what}")));
        let packages = self.deb_files()?;
        let total = folder_bytes(&self.packages());
        let mut done = 0;
        for package in packages {
            let mut unpack = self.environment.command("dpkg-deb");
            unpack.arg("--extract").arg(&package).arg(system);
            run(&mut unpack, &format!("unpacking `{}` (dpkg-deb)", package.display()), &mut |_| {})?;
            done += fs::metadata(&package).map_or(0, |metadata| metadata.len());
            (self.progress)(Event::Bytes { done, total });
        }
        Ok(())
    }
}

/// The machine's settings stay (a proxy, for one), but for its folders, and for its hooks, which would act on the
/// system: Docker's images have one that empties the system's package cache.
pub(super) fn settings(folder: &Path) -> String {
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

/// apt has its own time limits for a mirror that says nothing; a slow one may take as long as it needs.
pub(super) fn run(
    command: &mut Command,
    step: &str,
    tick: &mut dyn FnMut(Tick<'_>),
) -> Result<ProcessOutput, DebianError> {
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
