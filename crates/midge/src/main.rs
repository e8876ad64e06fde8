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

/// What is exited with where output was cut because nobody reads it: what a shell says of a program that SIGPIPE ended.
const UNREAD: u8 = 128 + 13;

fn main() -> ExitCode {
    let asked = match cli::read(std::env::args_os()) {
        Ok(asked) => asked,
        Err(answer) => return cli::tell(&answer),
    };
    if !asked.only_shows {
        output::go_on_unread();
    }
    match commands::run(asked.command) {
        Ok(code) => code,
        // Whoever read our output has had enough of it.
        Err(error) if error.is::<output::Unread>() => ExitCode::from(UNREAD),
        Err(error) => {
            output::show_error(&error);
            ExitCode::FAILURE
        }
    }
}
