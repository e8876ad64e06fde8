//! The subcommands, one file each.

pub(crate) mod demo;
pub(crate) mod new;

pub(crate) mod dev;

pub(crate) mod build;
pub(crate) mod run;

pub(crate) mod flylet;
pub(crate) mod serve;

pub(crate) mod enqueue;
pub(crate) mod jobs;
pub(crate) mod machines;
pub(crate) mod queues;

pub(crate) mod bench;

pub(crate) mod completions;

use std::process::ExitCode;

use anyhow::{Context, Result};
use midge_cli::progress::LogWriter;
use midge_cli::runtime::{calling, serving};
use tracing_subscriber::EnvFilter;

use crate::cli::Command;

/// Does what was asked for, and returns what the process is to exit with.
pub(crate) fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Demo(args) => serving(args.run()),
        Command::New(args) => args.run(),
        Command::Dev(args) => serving(args.run()),
        Command::Build(args) => args.run(),
        Command::Run(args) => args.run(),
        Command::Serve(args) => serving(args.run()),
        Command::Flylet(args) => serving(args.run()),
        Command::Enqueue(args) => calling(args.run()),
        Command::Jobs(args) => calling(args.run()),
        Command::Queues(args) => calling(args.run()),
        Command::Machines(args) => calling(args.run()),
        Command::Bench(args) => bench::run(args),
        Command::Completions(args) => args.run(),
    }
}

/// Begins to write log lines to stderr.
fn start_log(filter: &str) -> Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| {
        format!("`{filter}` is not a log filter: use one such as info or midge_server=debug")
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| LogWriter)
        .with_ansi(anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never)
        .init();
    Ok(())
}
