//! `midge run`: one attempt at a module, here and without a server.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use midge_build::Project;
use midge_cli::build::{Builder, project};
use midge_cli::checkout::{Missing, host_program};
use midge_cli::output::path;
use midge_protocol::{ModuleName, nearest};

use super::own_folder;
use crate::arguments::{ContentArgs, key_value, time_limit};

/// Build a module and run it once, here, without a server
#[derive(Debug, clap::Args)]
#[command(after_help = "\
stdin is the input and stdout the result, as in a job; the log goes to stderr. The exit code
is the guest's. Only this module is built, into .midge/run beside midge.toml.

Of the variables that its `env` names the guest sees what [env] of midge.toml says, as on a
Machine, else what is set here; --env goes before both.

Examples:
  midge run greet --args '{\"name\": \"you\"}'
  midge run resize --args '{\"width\": 320}' < photo.jpg > small.jpg
  midge run plain --env LOG=debug --dir ./data::/data -- --verbose")]
pub(crate) struct Args {
    /// The module
    module: ModuleName,
    #[command(flatten)]
    content: ContentArgs,
    /// A variable that the guest sees
    #[arg(long, value_name = "K=V", value_parser = key_value)]
    env: Vec<(String, String)>,
    /// A folder that the guest sees
    #[arg(long, value_name = "HOST::GUEST")]
    dir: Vec<String>,
    /// A folder in which the guest can only read
    #[arg(long, value_name = "HOST::GUEST")]
    read_only_dir: Vec<String>,
    /// How long it may run [default: what midge.toml says]
    #[arg(long, value_name = "DURATION", value_parser = time_limit)]
    time_limit: Option<Duration>,
    /// The folder of midge.toml [default: the nearest from here upward]
    #[arg(long, value_name = "PATH")]
    project: Option<PathBuf>,
    /// The host program [default: the one beside midge, or built from its source]
    #[arg(long, value_name = "PATH", env = "MIDGE_HOST")]
    host_program: Option<PathBuf>,
    /// A rustc that has the target wasm32-wasip1
    #[arg(long, value_name = "PATH", env = "MIDGE_GUEST_RUSTC")]
    rustc: Option<PathBuf>,
    /// More arguments for the guest, after those that every job has
    #[arg(last = true, value_name = "GUEST ARGS")]
    pub(crate) guest_args: Vec<String>,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let project = project(self.project.as_deref())?;
        is_there(&project, &self.module)?;
        let env = project.env.clone();
        // Not where `midge build` puts all of them: the others would go.
        let out = own_folder(&project.file)?.join("run").join(self.module.as_str());
        let builder = Builder::new(self.rustc.clone())?.out(Some(out));
        let built = builder.build(&project.only(&self.module))?;
        let host = host_program(self.host_program.as_deref(), Missing::Build, builder.environment())?;
        let mut command = self.command(&host, &built.out)?;
        // The host gives the guest those of its env that the module declares.
        command.envs(&env);
        // Returns only where it fails: signals, stdin, stdout and the exit code are then the host's own.
        let error = command.exec();
        Err(error).with_context(|| format!("cannot start {}", host.display()))
    }

    fn command(&self, host: &Path, modules: &Path) -> Result<Command> {
        let mut command = Command::new(host);
        command.arg("run").arg(self.module.as_str()).arg("--modules").arg(modules);
        if self.content.args.is_some() {
            command.arg("--args").arg(self.content.args()?.get());
        }
        for (key, value) in &self.env {
            command.arg("--env").arg(format!("{key}={value}"));
        }
        for dir in &self.dir {
            command.arg("--dir").arg(dir);
        }
        for dir in &self.read_only_dir {
            command.arg("--read-only-dir").arg(dir);
        }
        if let Some(limit) = self.time_limit {
            command.arg("--time-limit").arg(format!("{}ms", limit.as_millis()));
        }
        if let Some(input) = self.content.input.as_deref().filter(|input| *input != Path::new("-")) {
            let file = File::open(input)
                .with_context(|| format!("cannot read the input from {}", input.display()))?;
            command.stdin(Stdio::from(file));
        }
        if !self.guest_args.is_empty() {
            command.arg("--").args(&self.guest_args);
        }
        Ok(command)
    }
}

/// Fails where a project has no such module: before anything is built.
pub(super) fn is_there(project: &Project, module: &ModuleName) -> Result<()> {
    if project.modules.contains_key(module) {
        return Ok(());
    }
    let known: Vec<&str> = project.modules.keys().map(ModuleName::as_str).collect();
    let hint = match nearest(module.as_str(), known.iter().copied()) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("there are {}", known.join(", ")),
    };
    bail!("there is no module `{module}` in {}: {hint}", path(&project.file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_is_not_there_is_told_with_the_nearest_before_anything_is_built() {
        let text = "[modules.resize]\nwasm = \"a\"\n[modules.greet]\nwasm = \"b\"";
        let project = Project::parse(Path::new("app/midge.toml"), text).unwrap();
        let says =
            |name| is_there(&project, &ModuleName::new(name).unwrap()).map_err(|error| error.to_string());
        let no = "there is no module";
        assert_eq!(says("greet"), Ok(()));
        assert_eq!(says("resise"), Err(format!("{no} `resise` in app/midge.toml: did you mean `resize`?")));
        assert_eq!(says("nope"), Err(format!("{no} `nope` in app/midge.toml: there are greet, resize")));
    }
}
