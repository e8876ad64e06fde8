//! The `midge` command: reads what was asked for, and says what went wrong.
//!
//! Invariant: nothing else ends the process, and, but for `cli` and `config`, nothing reads the environment.

mod cli;
mod commands;
mod config;
mod fly;

mod arguments;
mod connection;

use std::process::ExitCode;

use midge_cli::output;

fn main() -> ExitCode {
    let cli = match cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(answer) => return cli::tell(&answer),
    };
    match commands::run(cli.command) {
        Ok(code) => code,
        // Whoever read our output has had enough of it.
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::show_error(&error);
            ExitCode::FAILURE
        }
    }
}
