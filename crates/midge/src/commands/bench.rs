//! `midge bench`: measures what midge promises, on this computer.

mod boot;
mod dispatch;
mod memory;
mod throughput;

mod lab;
mod modules;
mod processes;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use self::report::{Report, Row};
use super::{calling, serving, start_log};
use crate::checkout::{Missing, host_program};
use crate::config;
use crate::output::{note, say, say_json};

/// Measure boot latency, dispatch, throughput and memory on this computer
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each takes less than three minutes, makes its own guests, server and database in a temporary
folder (set TMPDIR for another disk), and names what it would compare with but does not find.
Figures of a busy computer are those of a busy computer: the load is in the report.

Examples:
  midge bench boot
  midge bench dispatch
  midge bench throughput --json > throughput.json
  midge bench memory")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Boot(boot::Args),
    Dispatch(dispatch::Args),
    Throughput(throughput::Args),
    Memory(memory::Args),
}

/// What every measurement takes.
#[derive(Debug, clap::Args)]
struct CommonArgs {
    /// Write JSON
    #[arg(long, global = true)]
    json: bool,
    /// The host program [default: the one beside midge, or built from its source]
    #[arg(long, value_name = "PATH", env = "MIDGE_HOST", global = true)]
    host_program: Option<PathBuf>,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode> {
        start_log("warn")?;
        if cfg!(debug_assertions) {
            note("this midge is a debug build: for figures that mean something, `cargo build --release`");
        }
        let bench = Bench::prepare(&self.common)?;
        let json = self.common.json;
        match self.what {
            What::Boot(args) => calling(async { show(args.run(&bench).await?, json) }),
            What::Dispatch(args) => serving(async { show(args.run(&bench).await?, json) }),
            What::Throughput(args) => serving(async { show(args.run(&bench).await?, json) }),
            What::Memory(args) => calling(async { show(args.run(&bench).await?, json) }),
        }
    }
}

/// Shows a report; there is none where somebody asked to stop.
fn show<R: Row>(report: Option<Report<R>>, json: bool) -> Result<ExitCode> {
    let Some(report) = report else { return Ok(ExitCode::FAILURE) };
    if json {
        say_json(&report.written())?;
    } else {
        say(report.text())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is measured with: a temporary folder, the guests compiled in it, and a copy of the host program.
struct Bench {
    folder: tempfile::TempDir,
    /// The folder of the compiled guests.
    modules: PathBuf,
    /// The host program. A copy, since the pages of one that runs elsewhere too could not be made cold.
    host: PathBuf,
}

impl Bench {
    fn prepare(common: &CommonArgs) -> Result<Bench> {
        let host = host_program(common.host_program.as_deref(), Missing::Build, &config::environment())?;
        let folder = tempfile::Builder::new().prefix("midge-bench-").tempdir();
        let folder = folder.context("cannot make a temporary folder: set TMPDIR")?;
        let copy = folder.path().join("midge-host");
        std::fs::copy(&host, &copy).with_context(|| format!("cannot copy {}", host.display()))?;
        let modules = modules::compile(folder.path())?;
        Ok(Bench { folder, modules, host: copy })
    }
}
