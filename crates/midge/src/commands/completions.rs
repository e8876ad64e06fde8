//! `midge completions`: what a shell needs to complete midge's arguments.

use std::process::ExitCode;

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;
use midge_cli::output::write_bytes;

use crate::cli::Cli;

/// Write the completions for a shell to stdout
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  midge completions bash > ~/.local/share/bash-completion/completions/midge
  midge completions zsh > ~/.zfunc/_midge
  midge completions fish > ~/.config/fish/completions/midge.fish")]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "midge", &mut script);
        write_bytes(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}
