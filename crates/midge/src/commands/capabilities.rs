//! `midge capabilities`: what each module may do, and how that differs from another build.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use midge_cli::build::project;
use midge_cli::output::{go_on_unread, say, say_json};
use midge_protocol::manifest::{CapabilityChange, FILE_NAME, Manifest, capability_changes};
use midge_protocol::shown;

/// What the command exits with where it is asked whether there is something new, and there is. 1 is an error.
const MAY_DO_MORE: u8 = 7;

/// Say what each module may do, and what is new
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What is listed is all that a module can reach: destinations, secrets, jobs that it may enqueue, env,
folders, and its limits. Hosts refuse all else. With --diff, only what differs from the other build is listed:
`+` for what a module may do now, `-` for what it could do before. With --exit-code it exits with 7
where there is anything with a `+`, so that a pipeline can ask somebody first; what a module may not
do any more is nothing new.

Examples:
  midge capabilities                           of the last build of this project
  midge capabilities /app/modules --json
  midge capabilities --diff release/manifest.json --exit-code")]
pub(crate) struct Args {
    /// The folder that `midge build` wrote, or its manifest [default: that of the nearest midge.toml]
    modules: Option<PathBuf>,
    /// Compare with another build: its folder, or its manifest
    #[arg(long, value_name = "OLD_MANIFEST")]
    diff: Option<PathBuf>,
    /// Exit with 7 where a module may do something that it could not do before
    #[arg(long, requires = "diff")]
    exit_code: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode> {
        if self.exit_code {
            go_on_unread();
        }
        let modules = match self.modules {
            Some(modules) => modules,
            None => project(None)?.out,
        };
        let manifest = read(&modules)?;
        let Some(old) = &self.diff else {
            list(&manifest, self.json)?;
            return Ok(ExitCode::SUCCESS);
        };
        let changes = capability_changes(&read(old)?, &manifest);
        differ(&changes, self.json)?;
        let is_more = changes.iter().any(|change| !change.gained.is_empty());
        Ok(if self.exit_code && is_more { ExitCode::from(MAY_DO_MORE) } else { ExitCode::SUCCESS })
    }
}

/// Reads the manifest of a build, by its folder or itself.
pub(super) fn read(path: &Path) -> Result<Manifest> {
    let file = if path.is_dir() { path.join(FILE_NAME) } else { path.to_owned() };
    let bytes = std::fs::read(&file).with_context(|| {
        format!(
            "cannot read {}: name the folder that `midge build` wrote, or run `midge build` first",
            file.display()
        )
    })?;
    let manifest: Manifest =
        serde_json::from_slice(&bytes).with_context(|| format!("{} is not a manifest", file.display()))?;
    manifest.check().with_context(|| format!("{} is not a manifest", file.display()))?;
    Ok(manifest)
}

fn list(manifest: &Manifest, json: bool) -> Result<()> {
    let all = manifest.modules.iter().map(|(name, entry)| (name, entry.capabilities()));
    if json {
        return say_json(&all.collect::<BTreeMap<_, _>>());
    }
    for (name, capabilities) in all {
        say(name)?;
        for capability in capabilities {
            say(format_args!("  {}", shown::line(&capability.to_string())))?;
        }
    }
    Ok(())
}

fn differ(changes: &[CapabilityChange], json: bool) -> Result<()> {
    if json {
        return say_json(&changes);
    }
    if changes.is_empty() {
        return say("no module may do more or less than before");
    }
    changes.iter().flat_map(change_lines).try_for_each(say)
}

/// Returns how a module's capabilities have changed, in lines.
pub(crate) fn change_lines(change: &CapabilityChange) -> Vec<String> {
    let gained = change.gained.iter().map(|capability| ('+', capability));
    let lost = change.lost.iter().map(|capability| ('-', capability));
    let lines = gained.chain(lost).map(|(sign, capability)| {
        format!("{sign} {}: {}", change.module, shown::line(&capability.to_string()))
    });
    lines.collect()
}
