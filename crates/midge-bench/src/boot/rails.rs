//! `rails runner` in a new, empty app: what the post that midge's idea is from starts for each job.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::program::{Program, Stamp, said};
use super::programs::{RUBY_PATH, RUBY_STAMP};

/// The name of `rails runner` in reports.
pub(super) const NAME: &str = "rails runner, empty app";

/// Flags of `rails new` that leave out what can be left out: no database, no assets, no tests, and nothing fetched.
const NEW: &[&str] = &[
    "--api",
    "--minimal",
    "--skip-bundle",
    "--skip-git",
    "--skip-active-record",
    "--skip-test",
    "--skip-bootsnap",
    "--quiet",
];
/// A Gemfile with nothing but Rails: a new app's own one names servers and tools that a job does not need.
const GEMFILE: &str = "source \"https://rubygems.org\"\ngem \"rails\"\n";

/// Makes an empty Rails app in a folder, and returns the program that runs one job in it.
pub(super) fn runner(folder: &Path) -> Result<Program> {
    let app = folder.join("empty");
    said(Command::new("rails").arg("new").arg(&app).args(NEW))?;
    std::fs::write(app.join("Gemfile"), GEMFILE).context("`rails new` made no app")?;
    let ruby = said(Command::new("ruby").arg("-e").arg(RUBY_PATH))?;
    let mut program = Program::new(NAME, ruby.trim(), Stamp::Text).args(["bin/rails", "runner", RUBY_STAMP]);
    program.folder = Some(app);
    // As on a Machine. Nothing is encrypted, but Rails wants to have a key.
    program.env = vec![("RAILS_ENV", "production"), ("SECRET_KEY_BASE", "0123456789abcdef0123456789abcdef")];
    Ok(program)
}
