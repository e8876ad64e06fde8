//! The subcommands, one file each.

pub(crate) mod demo;
pub(crate) mod new;

pub(crate) mod dev;

pub(crate) mod build;
pub(crate) mod capabilities;
pub(crate) mod replay;
pub(crate) mod run;

pub(crate) mod doctor;
pub(crate) mod flylet;
pub(crate) mod serve;

pub(crate) mod batches;
mod builds;
pub(crate) mod cost;
pub(crate) mod enqueue;
pub(crate) mod failures;
mod follow;
pub(crate) mod jobs;
pub(crate) mod machines;
pub(crate) mod modules;
mod pause;
mod pulled;
pub(crate) mod queues;
pub(crate) mod schedules;
pub(crate) mod sweeps;

pub(crate) mod bench;

pub(crate) mod completions;

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use midge_cli::progress::LogWriter;
use midge_cli::runtime::{calling, serving};
use midge_protocol::shown;
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

use crate::cli::Command;

/// Does what was asked for, and returns what the process is to exit with.
pub(crate) fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Demo(args) => serving(args.run()),
        Command::New(args) => args.run(),
        Command::Dev(args) => serving(args.run()),
        Command::Build(args) => args.run(),
        Command::Capabilities(args) => args.run(),
        Command::Replay(args) => calling(args.run()),
        Command::Run(args) => args.run(),
        Command::Serve(args) => serving(args.run()),
        Command::Doctor(args) => calling(args.run()),
        Command::Flylet(args) => serving(args.run()),
        Command::Enqueue(args) => calling(args.run()),
        Command::Batches(args) => calling(args.run()),
        Command::Jobs(args) => calling(args.run()),
        Command::Failures(args) => calling(args.run()),
        Command::Sweeps(args) => calling(args.run()),
        Command::Queues(args) => calling(args.run()),
        Command::Modules(args) => calling(args.run()),
        Command::Schedules(args) => calling(args.run()),
        Command::Machines(args) => calling(args.run()),
        Command::Cost(args) => calling(args.run()),
        Command::Bench(args) => bench::run(args),
        Command::Completions(args) => args.run(),
    }
}

/// What `midge dev` and `midge run` keep, beside midge.toml.
const OWN_FOLDER: &str = ".midge";

/// Makes the folder beside a midge.toml in which commands keep what is theirs, out of version control.
fn own_folder(project_file: &Path) -> Result<PathBuf> {
    let folder = project_file.with_file_name(OWN_FOLDER);
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(folder.join(".gitignore"), "*\n"))
        .with_context(|| format!("cannot write into {}", folder.display()))?;
    Ok(folder)
}

/// Writes a field of an event: its value may be text of a guest, a caller or a remote API, and one event is one line.
fn value(to: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> std::fmt::Result {
    let value = format!("{value:?}");
    let value = shown::line(&value);
    match field.name() {
        "message" => write!(to, "{value}"),
        name => write!(to, "{name}={value}"),
    }
}

/// Begins to write log lines to stderr.
fn start_log(filter: &str) -> Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| {
        format!("`{filter}` is not a log filter: use one such as info or midge_server=debug")
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .fmt_fields(debug_fn(value).delimited(" "))
        .with_writer(|| LogWriter)
        .with_ansi(anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never)
        .init();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_one_line_that_no_terminal_obeys_whatever_its_values() {
        let kept = Kept::default();
        let to = kept.clone();
        let log = tracing_subscriber::fmt()
            .fmt_fields(debug_fn(value).delimited(" "))
            .with_writer(move || to.clone())
            .with_ansi(false)
            .finish();
        let evil = "no\u{1b}[2J\u{202e}\rINFO\nINFO all is well";
        tracing::subscriber::with_default(log, || tracing::warn!(error = %evil, "it failed: {evil}"));
        let said = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let shown = "no\u{fffd}[2J\u{fffd}\u{fffd}INFO INFO all is well";
        assert!(said.ends_with(&format!("it failed: {shown} error={shown}\n")), "{said:?}");
    }
}
