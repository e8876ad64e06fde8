//! `midge bench`: measures what midge promises, on this computer.
//!
//! It is a part of the `midge` command: `memory` starts its own program again, as `midge serve`.

mod boot;
mod dispatch;
mod memory;
mod network;
mod throughput;
mod vm;

mod lab;
mod modules;
mod processes;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use midge_cli::checkout::{Missing, NETWORK_PROGRAM, host_program};
use midge_cli::config;
use midge_cli::output::{note, say, say_json};
use midge_cli::runtime::{calling, serving};
use midge_cli::stop::StopSignal;
use tokio::task::spawn_blocking;

use self::report::{Earlier, Report, Row};

/// Measure boot latency, dispatch, throughput, memory and guests' requests on this computer
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each takes some minutes, makes its own guests, server and database in a temporary
folder (set TMPDIR for another disk), and names what it would compare with but does not find.
Figures of a busy computer are those of a busy computer: the load is in the report.

What moved since an earlier run is told figure by figure. A median is known to lie within an
interval, with 99 % confidence and whatever the distribution; one that was timed once, within
a tenth. Where two intervals overlap the change is noise; where they do not, and it is 5 % or
more, it is `better` or `worse`. Sizes are exact. Figures in `x floor` are ratios to a program
that does nothing, of the same run: the computer's own speed cancels out.

Examples:
  midge bench boot
  midge bench boot --vm
  midge bench dispatch --save before.json
  midge bench dispatch --compare before.json
  midge bench throughput --json > throughput.json
  midge bench memory
  midge bench network")]
pub struct Args {
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
    Network(network::Args),
}

/// The flags that every measurement takes.
#[derive(Debug, clap::Args)]
struct CommonArgs {
    /// Write JSON
    #[arg(long, global = true)]
    json: bool,
    /// Also write the report to a file, as JSON, for a later `--compare`
    #[arg(long, value_name = "PATH", global = true)]
    save: Option<PathBuf>,
    /// Tell what moved since a run that was saved
    #[arg(long, value_name = "PATH", global = true)]
    compare: Option<PathBuf>,
    /// The host program [default: the one beside midge, or built from its source]
    #[arg(long, value_name = "PATH", env = "MIDGE_HOST", global = true)]
    host_program: Option<PathBuf>,
}

impl Args {
    /// Measures what was asked for, shows the report on stdout, and returns what the process is to exit with: a failure
    /// where somebody asked to stop. Whoever calls it has begun to write a log.
    pub fn run(self) -> Result<ExitCode> {
        if cfg!(debug_assertions) {
            note("this midge is a debug build: for figures that mean something, `cargo build --release`");
        }
        let common = &self.common;
        // Before anything is measured in vain.
        let earlier = common.compare.as_deref().map(|path| Earlier::read(path, self.what.name()));
        let earlier = &earlier.transpose()?;
        let Some(bench) = serving(Bench::prepare(common))? else { return Ok(ExitCode::FAILURE) };
        let bench = &bench;
        match self.what {
            What::Boot(args) if args.vm.is_asked() => {
                calling(async { common.show(args.vm.run(args.runs, bench).await?, earlier) })
            }
            What::Boot(args) => calling(async { common.show(args.run(bench).await?, earlier) }),
            What::Dispatch(args) => serving(async { common.show(args.run(bench).await?, earlier) }),
            What::Throughput(args) => serving(async { common.show(args.run(bench).await?, earlier) }),
            What::Memory(args) => calling(async { common.show(args.run(bench).await?, earlier) }),
            What::Network(args) => serving(async { common.show(args.run(bench).await?, earlier) }),
        }
    }
}

impl What {
    fn name(&self) -> &'static str {
        match self {
            What::Boot(args) if args.vm.is_asked() => vm::NAME,
            What::Boot(_) => "boot",
            What::Dispatch(_) => "dispatch",
            What::Throughput(_) => "throughput",
            What::Memory(_) => "memory",
            What::Network(_) => "network",
        }
    }
}

impl CommonArgs {
    /// Shows a report, and keeps it; there is none where somebody asked to stop.
    fn show<R: Row>(&self, report: Option<Report<R>>, earlier: &Option<Earlier>) -> Result<ExitCode> {
        let Some(mut report) = report else { return Ok(ExitCode::FAILURE) };
        if let Some(earlier) = earlier {
            report.compare(earlier);
        }
        if self.json {
            say_json(&report.written())?;
        } else {
            say(report.text())?;
        }
        // Only then: what was measured is shown even if it cannot be kept.
        if let Some(path) = &self.save {
            report.save(path)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What all measurements need: a temporary folder, the guests compiled in it, and a copy of the host program.
struct Bench {
    folder: tempfile::TempDir,
    /// The folder of the compiled guests.
    modules: PathBuf,
    /// The host program. A copy, since the pages of one that runs elsewhere too could not be made cold.
    host: PathBuf,
}

impl Bench {
    /// Makes the folder, the guests and the copy; nothing where somebody asks to stop meanwhile.
    async fn prepare(common: &CommonArgs) -> Result<Option<Bench>> {
        let mut stop = StopSignal::listen()?;
        let named = common.host_program.clone();
        let host =
            spawn_blocking(move || host_program(named.as_deref(), Missing::Build, &config::environment()));
        let Some(host) = stop.or(host).await else { return Ok(None) };
        let host = host.context("the build of the host program panicked")??;
        let folder = tempfile::Builder::new().prefix("midge-bench-").tempdir();
        let folder = folder.context("cannot make a temporary folder: set TMPDIR")?;
        let copy = folder.path().join("midge-host");
        std::fs::copy(&host, &copy).with_context(|| format!("cannot copy {}", host.display()))?;
        // Beside it, where it is looked for. Who measures no requests can do without.
        let network = host.with_file_name(NETWORK_PROGRAM);
        if network.is_file() {
            let copy = folder.path().join(NETWORK_PROGRAM);
            std::fs::copy(&network, &copy).with_context(|| format!("cannot copy {}", network.display()))?;
        }
        let path = folder.path().to_owned();
        let modules = blocking(&mut stop, move || modules::compile(&path)).await?;
        Ok(modules.map(|modules| Bench { folder, modules, host: copy }))
    }
}

/// Does what blocks; nothing comes of it where somebody asks to stop meanwhile. Even then it is waited for: it writes
/// into a folder that can only be removed when nobody does.
async fn blocking<T: Send + 'static>(
    stop: &mut StopSignal,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<Option<T>> {
    let mut work = spawn_blocking(work);
    match stop.or(&mut work).await {
        Some(done) => done.context("a part of the preparation panicked")?.map(Some),
        None => {
            let _ = work.await;
            Ok(None)
        }
    }
}
