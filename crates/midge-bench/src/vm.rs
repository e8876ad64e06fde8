//! `midge bench boot --vm`: the host as the only program of a virtual machine, from power-on to its guest's result.

mod console;
mod initramfs;
mod programs;
mod qemu;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use midge_cli::config;
use midge_cli::output::note;
use midge_cli::progress::{BuildProgress, bar};
use midge_cli::stop::StopSignal;
use serde::Serialize;
use tokio::task::spawn_blocking;

use self::console::Start;
use self::programs::Program;
use self::qemu::{Accelerator, Way};
use super::Bench;
use super::report::{Measure, Report, Row, Spread, millis, or_dash};

/// apt's settings, which name Debian's mirror.
const APT: &str = "/etc/apt";
/// The name of this bench in its report.
pub(super) const NAME: &str = "boot --vm";
/// How often each program is started, unless somebody says otherwise: in emulation a start takes four seconds.
pub(super) const RUNS: &str = "5";

const WHAT_IT_MEANS: &str = "milliseconds, medians but for RESULT. Each phase begins where the one before ends: KERNEL is from power-on to the kernel's first line on the serial port (qemu's own start, the firmware, and the kernel unpacking itself), MAIN from there to main, GUEST from there to the guest's first instruction; RESULT is all of them. By this computer's clock, but GUEST by the virtual machine's; what the result's line needs to get out, some milliseconds, is in MAIN";
const IN_EMULATION: &str = "in emulation: qemu translates every instruction, so these figures are no CPU's; what can be compared is one program with the other";

/// The flags of `midge bench boot` that have a virtual machine used instead of a process.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Start the host as the only program of a virtual machine (qemu's), instead of as a process
    #[arg(long)]
    vm: bool,
    /// The kernel of the virtual machine [default: Debian's linux-image-cloud-amd64, fetched once by apt]
    #[arg(long, value_name = "PATH", requires = "vm")]
    kernel: Option<PathBuf>,
}

/// The phases that were measured of one program's start in a virtual machine.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    program: String,
    accelerator: Accelerator,
    /// From power-on to the kernel's first line.
    kernel: Option<Spread>,
    /// From the kernel's first line to the program's main.
    main: Option<Spread>,
    /// From main to the guest's first instruction, where there is a guest.
    guest: Option<Spread>,
    /// From power-on until the result is read here.
    result: Option<Spread>,
    /// From the start of the kernel's clock to main; that clock begins some time after the kernel's first line.
    booted: Option<Spread>,
    /// The parts of `guest` up to the host's call of it, in order.
    parts: Vec<Part>,
}

/// A part of the time from main to the guest.
#[derive(Debug, Serialize)]
struct Part {
    phase: &'static str,
    spent: Option<Spread>,
}

impl Row for Figures {
    const HEADS: &'static [&'static str] =
        &["PROGRAM", "BY", ">KERNEL", ">MAIN", ">GUEST", ">RESULT p10", ">p50", ">p99"];

    fn cells(&self) -> Vec<String> {
        let p50 = |spread: Option<Spread>| or_dash(spread, |s| millis(s.p50_us));
        let phases = [self.kernel, self.main, self.guest].map(p50);
        let result = [|s: Spread| Some(s.p10_us), |s: Spread| Some(s.p50_us), Spread::p99];
        let result = result.map(|of| or_dash(self.result.and_then(of), millis));
        let words = [self.program.clone(), self.accelerator.as_str().to_owned()];
        words.into_iter().chain(phases).chain(result).collect()
    }

    fn name(&self) -> String {
        format!("{}, {}", self.program, self.accelerator.as_str())
    }

    fn measures(&self) -> Vec<Measure> {
        let all =
            [("kernel", self.kernel), ("main", self.main), ("guest", self.guest), ("result", self.result)];
        all.into_iter().filter_map(|(name, spread)| Some(Measure::median(name, spread?))).collect()
    }
}

impl Args {
    /// Returns whether a virtual machine is to be used.
    pub(super) fn is_asked(&self) -> bool {
        self.vm
    }

    pub(super) async fn run(&self, runs: u32, bench: &Bench) -> Result<Option<Report<Figures>>> {
        let mut stop = StopSignal::listen()?;
        let mut report = Report::new(NAME);
        let mut missing = |error: anyhow::Error| {
            report.notes.push(format!("nothing was measured: {error:#}"));
        };
        let qemu = match qemu::version() {
            Ok(qemu) => qemu,
            Err(error) => {
                missing(error);
                return Ok(Some(report));
            }
        };
        let Some(kernel) = stop.or(self.kernel()).await else { return Ok(None) };
        let kernel = match kernel {
            Ok(kernel) => kernel,
            Err(error) if self.kernel.is_none() => {
                missing(error);
                return Ok(Some(report));
            }
            Err(error) => return Err(error),
        };
        let host = programs::host(bench.folder.path(), &bench.host)?;
        let files = format!("the whole filesystem of the host's: {}", host.files);
        let mut programs = vec![host];
        match programs::floor(bench.folder.path()) {
            Ok(floor) => programs.insert(0, floor),
            Err(error) => report.notes.push(format!("no floor: {error:#}")),
        }
        let Some(measured) = stop.or(measure(&programs, &kernel, runs)).await else { return Ok(None) };
        let Measured { way, version, rows, failed } = measured?;
        report.rows = rows;
        report.notes.push(WHAT_IT_MEANS.to_owned());
        report.notes.push(format!(
            "Linux {version} in {qemu} ({}), one CPU, {} MiB of memory, no disk, no network; {files}",
            way.kind,
            qemu::MEMORY_MIB
        ));
        report.notes.extend(failed);
        if way.accelerator == Accelerator::Emulation {
            report.notes.push(IN_EMULATION.to_owned());
        }
        Ok(Some(report))
    }

    /// Returns the path of the kernel: the one that is named, or Debian's.
    async fn kernel(&self) -> Result<PathBuf> {
        if let Some(named) = &self.kernel {
            if !named.is_file() {
                bail!("there is no kernel at {}: look at --kernel", named.display());
            }
            return Ok(named.clone());
        }
        let cache = config::cache_dir()?;
        let fetch = move || {
            let progress = BuildProgress::default();
            midge_build::find_kernel(&cache, Path::new(APT), &config::environment(), &|event| {
                progress.event(event);
            })
        };
        let kernel = spawn_blocking(fetch).await.context("fetching a kernel panicked")?;
        kernel.context("there is no kernel for a virtual machine: name one with --kernel (a Linux bzImage that has a serial console)")
    }
}

/// The figures, and the virtual machine and kernel that they are of.
struct Measured {
    way: Way,
    /// The kernel's version.
    version: String,
    rows: Vec<Figures>,
    /// A line for each way that was tried before.
    failed: Vec<String>,
}

/// Runs programs in turns, in the first way that works.
async fn measure(programs: &[Program], kernel: &Path, runs: u32) -> Result<Measured> {
    let (way, first, failed) = find_way(&programs[0], kernel).await?;
    let bar = bar(u64::from(runs) * programs.len() as u64, "starts");
    let mut starts: Vec<Vec<Start>> = programs.iter().map(|_| Vec::new()).collect();
    for _ in 0..runs {
        for (program, starts) in programs.iter().zip(&mut starts) {
            let start = qemu::run(way, kernel, program).await;
            starts.push(start.with_context(|| format!("{} in a virtual machine", program.name))?);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let rows = programs.iter().zip(starts).map(|(program, starts)| figures(program, way, &starts)).collect();
    Ok(Measured { way, version: first.kernel, rows, failed })
}

/// Returns the first way that works, the start that showed it, and why those before do not.
async fn find_way(program: &Program, kernel: &Path) -> Result<(Way, Start, Vec<String>)> {
    let mut failed = Vec::new();
    for way in qemu::WAYS {
        match qemu::run(way, kernel, program).await {
            Ok(start) => return Ok((way, start, failed)),
            Err(error) => {
                failed.push(format!("not with {} ({}): {error:#}", way.accelerator.as_str(), way.kind))
            }
        }
    }
    failed.iter().for_each(note);
    bail!("no virtual machine comes to the end of {}", program.name)
}

fn figures(program: &Program, way: Way, starts: &[Start]) -> Figures {
    let spread = |of: &dyn Fn(&Start) -> Option<Duration>| Spread::of(starts.iter().filter_map(of).collect());
    let phases = starts.first().map(|start| start.spent.as_slice()).unwrap_or_default();
    let part = |(index, (phase, _)): (usize, &(&'static str, Duration))| Part {
        phase,
        spent: spread(&|start| Some(start.spent.get(index)?.1)),
    };
    Figures {
        program: program.name.clone(),
        accelerator: way.accelerator,
        kernel: spread(&|start| Some(start.kernel_at)),
        main: spread(&|start| Some(start.main())),
        guest: spread(&|start| start.guest),
        result: spread(&|start| Some(start.result_at)),
        booted: spread(&|start| Some(start.booted)),
        parts: phases.iter().enumerate().map(part).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_medians_of_its_phases_and_a_dash_for_the_guest_that_a_floor_has_not() {
        let start = |guest: Option<u64>, result: u64| Start {
            kernel: "6.12".to_owned(),
            kernel_at: Duration::from_millis(100),
            booted: Duration::from_millis(200),
            guest: guest.map(Duration::from_millis),
            result_at: Duration::from_millis(result),
            spent: vec![("engine", Duration::from_millis(1))],
        };
        let program = Program {
            name: "a".to_owned(),
            initramfs: PathBuf::new(),
            command: Vec::new(),
            files: String::new(),
        };
        let way = qemu::WAYS[2];
        let row = figures(&program, way, &[start(Some(2), 310), start(Some(4), 330), start(Some(3), 320)]);
        assert_eq!(row.cells(), ["a", "emulation", "100.00", "217.00", "3.00", "310.00", "320.00", "-"]);
        assert_eq!(row.cells().len(), Figures::HEADS.len());
        assert_eq!((row.measures().len(), row.parts.len()), (4, 1));
        let floor = figures(&program, way, &[start(None, 310)]);
        assert_eq!(floor.cells()[4], "-");
        assert_eq!(floor.measures().len(), 3);
    }
}
