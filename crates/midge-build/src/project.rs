//! `midge.toml`: which modules a project has, and how their queues are served.
//!
//! Invariant: a `Project` that exists is right: every key was known, every value in its range.

mod modules;
mod queues;
mod section;
mod units;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use midge_engine::Cpu;
use midge_protocol::job::{AttemptLimits, RetryPolicy};
use midge_protocol::manifest::QueuePolicy;
use midge_protocol::{ModuleName, QueueName};
use toml::de::DeTable;

use self::section::{Section, Source};

/// The file's name.
pub const PROJECT_FILE: &str = "midge.toml";
/// Where compiled modules go if nothing else is said, relative to `midge.toml`.
const OUT_DEFAULT: &str = "target/midge";

/// A project, as its `midge.toml` describes it. Paths in it are relative to nothing but the current folder.
#[derive(Debug, Clone, PartialEq)]
pub struct Project {
    /// The file itself.
    pub file: PathBuf,
    /// The folder that it is in.
    pub folder: PathBuf,
    /// Where compiled modules and the manifest go.
    pub out: PathBuf,
    /// The CPU that modules are compiled for.
    pub cpu: Cpu,
    /// The rustc for guests, where one is set.
    pub rustc: Option<PathBuf>,
    /// The env of every Machine.
    pub env: BTreeMap<String, String>,
    /// The queues that are declared.
    pub queues: BTreeMap<QueueName, QueuePolicy>,
    /// The modules. There is at least one.
    pub modules: BTreeMap<ModuleName, ProjectModule>,
}

/// A module of a project.
#[derive(Debug, Clone, PartialEq)]
pub struct ProjectModule {
    /// What it is made from.
    pub source: ModuleSource,
    /// The queue of jobs that name none.
    pub queue: QueueName,
    /// Bounds of each attempt.
    pub limits: AttemptLimits,
    /// When a failed attempt is tried again.
    pub retry: RetryPolicy,
    /// Names of the Machine's env that the guest sees too.
    pub env: Vec<String>,
    /// Folders of the Machine that the guest sees: guest path to Machine path.
    pub dirs: BTreeMap<String, String>,
}

/// What a module is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModuleSource {
    /// A cargo package.
    Package {
        /// The folder of its `Cargo.toml`.
        folder: PathBuf,
        /// Which of its programs; the package's own name, or its only one, where this is missing.
        bin: Option<String>,
    },
    /// A `.wasm` file that is there already.
    Wasm(PathBuf),
}

/// What is wrong with a `midge.toml`.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is none.
    #[error("there is no `{}`: run `midge new NAME` to make a job with one, or name the folder it is in", .0.display())]
    NotThere(PathBuf),
    /// It cannot be read.
    #[error("cannot read `{path}`: {source}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something in it is wrong.
    #[error("{path}:{line}: {message}", path = .path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, and what is expected.
        message: String,
    },
}

impl Project {
    /// Reads a `midge.toml`, or the one in a folder.
    pub fn read(path: &Path) -> Result<Project, ConfigError> {
        let file = if path.is_dir() { path.join(PROJECT_FILE) } else { path.to_owned() };
        let text = fs::read_to_string(&file).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ConfigError::NotThere(file.clone()),
            _ => ConfigError::Unreadable { path: file.clone(), source },
        })?;
        Project::parse(&file, &text)
    }

    /// Reads the text of a `midge.toml`. The file's name goes into errors, and paths are relative to its folder.
    pub fn parse(file: &Path, text: &str) -> Result<Project, ConfigError> {
        let source = Source { path: file, text };
        let document = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            source.wrong(at, format!("this is not TOML: {}", error.message().replace('\n', ", ")))
        })?;
        let top = Section::top(&source, document.get_ref());
        top.only(&["build", "env", "queues", "modules"])?;

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
        let queues = queues::read(&top.section("queues")?)?;
        let modules = modules::read(&top.section("modules")?, &folder, &queues)?;
        if modules.is_empty() {
            return Err(source.wrong(0, "it names no module: add a section like [modules.hello]".to_owned()));
        }
        Ok(Project { file: file.to_owned(), folder, out, cpu, rustc, env, queues, modules })
    }
}

#[cfg(test)]
mod tests;
