//! `midge.toml`: which modules a project has, and how their queues are served.
//!
//! Invariant: a `Project` that exists is right: every key was known, every value in its range.

mod enqueues;
mod modules;
mod prices;
mod queues;
mod reach;
mod schedules;
mod section;
mod units;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use midge_engine::Cpu;
use midge_protocol::job::{AttemptLimits, RetryPolicy};
use midge_protocol::manifest::{
    Destination, Folder, Prices, QueuePolicy, ScheduleEntry, SecretSource, ServerPolicy,
};
use midge_protocol::{ModuleName, QueueName, ScheduleName, SecretName};
use toml::de::DeTable;

use self::section::{Section, Source};

/// The name of the file that describes a project.
pub const PROJECT_FILE: &str = "midge.toml";
/// The most that a project file may have, in bytes: more is no file that somebody wrote.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Where compiled modules go if nothing else is said, relative to `midge.toml`.
const OUT_DEFAULT: &str = "target/midge";

/// A project, as its `midge.toml` describes it. Its relative paths are relative to the current folder, not to that file.
#[derive(Debug, Clone, PartialEq)]
pub struct Project {
    /// The path of the `midge.toml`.
    pub file: PathBuf,
    /// The folder of the `midge.toml`.
    pub folder: PathBuf,
    /// The folder that compiled modules and the manifest are written to.
    pub out: PathBuf,
    /// The CPU that modules are compiled for.
    pub cpu: Cpu,
    /// The rustc that compiles guests, where one is set.
    pub rustc: Option<PathBuf>,
    /// The env that every Machine is given.
    pub env: BTreeMap<String, String>,
    /// Where Machines find the secrets that are put into requests of guests.
    pub secrets: BTreeMap<SecretName, SecretSource>,
    /// What holds for all queues together.
    pub server: ServerPolicy,
    /// What its Machines cost.
    pub prices: Prices,
    /// The queues that are declared, with their policies.
    pub queues: BTreeMap<QueueName, QueuePolicy>,
    /// The schedules, which enqueue jobs by themselves.
    pub schedules: BTreeMap<ScheduleName, ScheduleEntry>,
    /// The modules, by the names that jobs call them. There is at least one.
    pub modules: BTreeMap<ModuleName, ProjectModule>,
}

/// A module of a project.
#[derive(Debug, Clone, PartialEq)]
pub struct ProjectModule {
    /// What it is made from.
    pub source: ModuleSource,
    /// The queue of jobs that name none.
    pub queue: QueueName,
    /// How long each attempt may run, and how much memory its guest may have.
    pub limits: AttemptLimits,
    /// How often a failed job is tried again, and after how long.
    pub retry: RetryPolicy,
    /// Names of the Machine's env variables that the guest sees too.
    pub env: Vec<String>,
    /// Folders of the Machine that the guest sees, by the path under which it sees them.
    pub dirs: BTreeMap<String, Folder>,
    /// The modules of the jobs that its guests may enqueue.
    pub enqueues: BTreeSet<ModuleName>,
    /// Where its guests' requests may go.
    pub http: Vec<Destination>,
    /// The secrets that are put into its guests' requests, each with the destinations to which it may go.
    pub secrets: BTreeMap<SecretName, Vec<Destination>>,
}

/// What a module is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModuleSource {
    /// A cargo package.
    Package {
        /// The folder of its `Cargo.toml`.
        folder: PathBuf,
        /// The name of its program. Where it is missing: the one with the package's name, or the only one.
        bin: Option<String>,
    },
    /// A `.wasm` file that is there already.
    Wasm(PathBuf),
}

/// What is wrong with a `midge.toml`.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no such file.
    #[error("there is no `{}`: run `midge new NAME` to make a job with one, or name the folder it is in", .0.display())]
    NotThere(PathBuf),
    /// The file cannot be read.
    #[error("cannot read `{path}`: {source}", path = .path.display())]
    Unreadable {
        /// The file that cannot be read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file says something that it may not.
    #[error("{path}:{line}: {message}", path = .path.display())]
    Wrong {
        /// The file that was read.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, and what is expected.
        message: String,
    },
}

impl Project {
    /// Returns the project as if it had this module only, and no schedules, which may be of others.
    pub fn only(&self, module: &ModuleName) -> Project {
        let mut only = Project { schedules: BTreeMap::new(), ..self.clone() };
        only.modules.retain(|name, _| name == module);
        only
    }

    /// Reads a `midge.toml`, or the one in a folder.
    ///
    /// # Errors
    /// [`ConfigError`] where it is missing or cannot be read, and for the first key or value that is wrong, with its
    /// line.
    pub fn read(path: &Path) -> Result<Project, ConfigError> {
        let file = if path.is_dir() { path.join(PROJECT_FILE) } else { path.to_owned() };
        let text = read(&file).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ConfigError::NotThere(file.clone()),
            _ => ConfigError::Unreadable { path: file.clone(), source },
        })?;
        Project::parse(&file, &text)
    }

    /// Reads the text of a `midge.toml`. The name of its file goes into errors, and its paths are relative to the
    /// file's folder.
    ///
    /// # Errors
    /// [`ConfigError::Wrong`] for the first key or value that is wrong, with its line.
    pub fn parse(file: &Path, text: &str) -> Result<Project, ConfigError> {
        let source = Source { path: file, text };
        let document = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            source.wrong(at, format!("this is not TOML: {}", error.message().replace('\n', ", ")))
        })?;
        let top = Section::top(&source, document.get_ref());
        top.only(&[
            "build",
            "env",
            "server",
            "prices",
            "pools",
            "queues",
            "modules",
            "schedules",
            "secrets",
        ])?;

        let folder = match file.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let build = top.section("build")?;
        build.only(&["out", "cpu", "rustc"])?;
        let out = folder.join(build.text("out")?.unwrap_or(OUT_DEFAULT));
        let cpu =
            build.parsed("cpu", "one of \"x86-64-v2\" and \"x86-64-v3\"", str::parse)?.unwrap_or_default();
        let rustc = build.text("rustc")?.map(|rustc| folder.join(rustc));

        let env = modules::machine_env(&top.section("env")?)?;
        let secrets = reach::secrets(&top.section("secrets")?, &env)?;
        let server = queues::server(&top.section("server")?)?;
        let prices = prices::read(&top.section("prices")?)?;
        let queues = queues::read(&top.section("queues")?, &top.section("pools")?)?;
        let modules = modules::read(&top.section("modules")?, &folder, &queues, &secrets)?;
        if modules.is_empty() {
            return Err(source.wrong(0, "it names no module: add a section like [modules.hello]".to_owned()));
        }
        let known = schedules::Known { modules: &modules, queues: &queues, server: &server };
        let schedules = schedules::read(&top.section("schedules")?, &known)?;
        Ok(Project {
            file: file.to_owned(),
            folder,
            out,
            cpu,
            rustc,
            env,
            secrets,
            server,
            prices,
            queues,
            schedules,
            modules,
        })
    }
}

fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(file)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
