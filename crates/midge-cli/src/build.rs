//! Runs midge-build with progress on the terminal.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use midge_build::{Built, Environment, Options, Project};

use crate::config;
use crate::progress::BuildProgress;

/// Builds guests, with what a build needs to know: where toolchains are kept, which rustc is used, and the
/// environment of the programs that are started.
#[derive(Debug, Clone)]
pub struct Builder {
    options: Options,
}

impl Builder {
    /// Makes a builder. It uses this rustc, or finds or fetches one where none is named.
    pub fn new(rustc: Option<PathBuf>) -> Result<Builder> {
        let mut options = Options::new(config::cache_dir()?, config::environment());
        options.rustc = rustc;
        Ok(Builder { options })
    }

    /// Sets the folder that compiled modules go to; without one they go to the project's own.
    pub fn out(mut self, out: Option<PathBuf>) -> Builder {
        self.options.out = out;
        self
    }

    /// Returns the environment of the programs that a build starts.
    pub fn environment(&self) -> &Environment {
        &self.options.environment
    }

    /// Returns whether a build of this project's packages would find a toolchain without fetching one.
    pub fn has_toolchain(&self, project: &Project) -> bool {
        midge_build::has_toolchain(project, &self.options)
    }

    /// Builds a project, shows the progress on stderr, and returns what was made. This blocks.
    pub fn build(&self, project: &Project) -> Result<Built> {
        let progress = BuildProgress::default();
        Ok(midge_build::build(project, &self.options, &|event| progress.event(event))?)
    }
}

/// Reads a project: the named file or folder, or, where none is named, the nearest `midge.toml` from here upward.
pub fn project(path: Option<&Path>) -> Result<Project> {
    Ok(Project::read(&project_file(path)?)?)
}

/// Returns the `midge.toml` of a project, whatever is in it.
pub fn project_file(path: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = path {
        return Ok(if path.is_dir() { path.join(midge_build::PROJECT_FILE) } else { path.to_owned() });
    }
    let here = std::env::current_dir().context("there is no current folder")?;
    let found = here.ancestors().map(|folder| folder.join(midge_build::PROJECT_FILE));
    found.into_iter().find(|file| file.is_file()).with_context(|| {
        format!(
            "there is no midge.toml in {} or above: name the folder that has one, or make a job with `midge new NAME`",
            here.display()
        )
    })
}
