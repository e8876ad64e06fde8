//! `midge bench boot`: how long it takes from starting a process to a guest's first instruction, and to the exit.

mod floor;
mod hello;
mod program;
mod programs;
mod rails;

mod phases;
mod turns;

mod compiled;
mod place;

mod picture;
mod readme;
mod sum;

use std::path::PathBuf;

use anyhow::{Result, bail};
use midge_cli::stop::StopSignal;
use midge_cli::words;
use serde::Serialize;

use self::phases::PhaseFigures;
use self::program::Program;
use self::programs::Programs;
use self::readme::Readme;
use self::turns::Times;
use super::report::{Interval, Measure, Report, Row, Spread, millis, or_dash};
use super::{Bench, modules, vm};

/// One run in so many is repeated with a cold page cache, which takes longer.
const WARM_RUNS_PER_COLD: u32 = 5;

/// Measure from starting a process to the guest's first instruction, and to the exit
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Programs take turns within one run, so that they meet the same computer. `floor` is a static C
program that stamps the time in its main and ends. Stamps are of the real-time clock, taken
before the process is started and by the guest's (or script's) first instruction. Where the
time goes is told by further runs of the host, with --timings, between the others. A program
that is slow takes part in fewer rounds: no more than 15 seconds of each kind.

--readme writes table, picture and sum into a Markdown file, between the lines
<!-- midge bench boot --> and <!-- /midge bench boot -->.

Examples:
  midge bench boot
  midge bench boot --runs 1000 --json
  midge bench boot --picture boot.svg
  midge bench boot --readme README.md
  midge bench boot --vm")]
// Else clap would call it as it calls the one that is flattened into it.
#[group(id = "boot")]
pub(super) struct Args {
    /// How often each program is run with a warm page cache, a fifth of it with a cold one; with --vm, how often each
    /// is started, by default 5 times
    #[arg(
        long, value_name = "N", default_value = "200", default_value_if("vm", "true", vm::RUNS),
        value_parser = words::whole::<u32>(1..=10_000)
    )]
    pub(super) runs: u32,
    /// Also draw where the time goes, as SVG
    #[arg(long, value_name = "PATH", conflicts_with = "vm")]
    picture: Option<PathBuf>,
    /// Also write the figures into this Markdown file, and the picture to docs/boot.svg beside it
    #[arg(long, value_name = "PATH", conflicts_with = "vm")]
    readme: Option<PathBuf>,
    #[command(flatten)]
    pub(super) vm: vm::Args,
}

/// The start-up times that were measured of one program, and their ratios to the floor's.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Figures {
    program: String,
    cache: Cache,
    /// The size of the compiled module in bytes, where the program runs one.
    module_bytes: Option<u64>,
    /// From starting the process to the first instruction of the guest, script or main.
    first: Option<Spread>,
    /// From starting the process to its exit, as its parent sees it.
    exit: Option<Spread>,
    /// The median of `first`, divided by the floor's median of the same.
    first_to_floor: Option<Interval>,
    /// The median of `exit`, divided by the floor's median of the same.
    exit_to_floor: Option<Interval>,
}

/// Whether a program's files are in memory when it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Cache {
    Warm,
    Cold,
    /// The program is running already, and is not started.
    Running,
}

impl Row for Figures {
    const HEADS: &'static [&'static str] = &[
        "PROGRAM",
        "CACHE",
        ">MODULE",
        ">FIRST p10",
        ">p50",
        ">p99",
        ">x FLOOR",
        ">EXIT p10",
        ">p50",
        ">p99",
        ">x FLOOR",
    ];

    fn cells(&self) -> Vec<String> {
        let cache = self.cache.as_str().to_owned();
        let mut cells = vec![self.program.clone(), cache, or_dash(self.module_bytes, words::bytes)];
        for (spread, ratio) in [(self.first, self.first_to_floor), (self.exit, self.exit_to_floor)] {
            cells.extend([
                or_dash(spread, |s| millis(s.p10_us)),
                or_dash(spread, |s| millis(s.p50_us)),
                or_dash(spread.and_then(Spread::p99), millis),
                or_dash(ratio, |ratio| format!("{:.2}", ratio.middle)),
            ]);
        }
        cells
    }

    fn name(&self) -> String {
        format!("{}, {}", self.program, self.cache.as_str())
    }

    fn measures(&self) -> Vec<Measure> {
        // A floor's own ratio is 1 whatever happens.
        let is_floor = self.program.starts_with("floor");
        let measure = |name, spread: Option<Spread>, ratio: Option<Interval>| match ratio {
            Some(ratio) if !is_floor => Some(Measure::floors(name, ratio)),
            _ => spread.map(|spread| Measure::median(name, spread)),
        };
        let first = measure("first", self.first, self.first_to_floor);
        let exit = measure("exit", self.exit, self.exit_to_floor);
        first.into_iter().chain(exit).collect()
    }
}

impl Figures {
    /// Returns whether these are the figures of the program that does nothing, with this page cache.
    fn is_floor(&self, cache: Cache) -> bool {
        self.program == floor::NAME && self.cache == cache
    }
}

impl Cache {
    fn as_str(self) -> &'static str {
        match self {
            Cache::Warm => "warm",
            Cache::Cold => "cold",
            Cache::Running => "running",
        }
    }
}

/// How much Linux reads at once from a disk unless it is told otherwise, in KiB.
const READ_AHEAD_KIB: u64 = 128;

/// All figures of one run of `midge bench boot`, and the notes about them.
#[derive(Default)]
struct Found {
    rows: Vec<Figures>,
    phases: Vec<PhaseFigures>,
    notes: Vec<String>,
}

impl Args {
    pub(super) async fn run(&self, bench: &Bench) -> Result<Option<Report<Figures>>> {
        let mut stop = StopSignal::listen()?;
        let readme = self.readme.as_deref().map(Readme::read).transpose()?;
        let picture = self.picture.clone().or(readme.as_ref().map(Readme::picture));
        let mut report = Report::new("boot");
        let folder = bench.folder.path().to_owned();
        // What cannot be built is missing, and no error.
        let hello = super::blocking(&mut stop, move || Ok(hello::build(&folder))).await?;
        let Some(hello) = hello else { return Ok(None) };
        let Some(found) = stop.or(self.measure(bench, hello)).await else { return Ok(None) };
        let found = found?;
        let sums = sum::sums(&found.rows);
        if let Some(path) = &picture {
            picture::draw(path, &found, &report.computer)?;
        }
        if let (Some(readme), Some(path)) = (readme, &picture) {
            readme.write((&found.rows, &found.notes), &sums, &report.computer, path)?;
        }
        report.parts = vec![phases::part(&found.phases, &found.rows), sum::part(&sums)];
        report.rows = found.rows;
        report.notes = found.notes;
        Ok(Some(report))
    }

    async fn measure(&self, bench: &Bench, hello: Result<hello::Hello>) -> Result<Found> {
        let Programs { there, telling, missing } = Programs::find(bench, hello).await;
        // What is to be measured must be there; all else is only compared.
        if telling.is_empty() {
            bail!("midge's own host does not run: {}", missing.join("; "));
        }
        let mut found = Found { notes: missing, ..Found::default() };
        found.add(&there, &telling, Cache::Warm, self.runs).await?;
        if turns::is_in_memory(bench.folder.path()) {
            found.notes.push("no cold page cache: the temporary folder is in memory, set TMPDIR".to_owned());
        } else {
            found.add(&there, &telling, Cache::Cold, (self.runs / WARM_RUNS_PER_COLD).max(1)).await?;
            found.notes.extend(turns::read_ahead_kib(bench.folder.path()).map(|kib| {
                format!("cold: this disk is read {kib} KiB at a time; Linux' default is {READ_AHEAD_KIB}, with which less of a program is read")
            }));
        }
        let (folder, guests) = (bench.folder.path(), [modules::STAMP, modules::STAMP_LARGE]);
        let mut compiled = compiled::measure(folder, &bench.modules, &guests, self.runs).await?;
        compare(&mut compiled, found.rows.iter().find(|row| row.is_floor(Cache::Warm)));
        found.rows.extend(compiled);
        let attempts = place::attempts(&bench.modules, &[modules::NOOP, modules::STAMP], self.runs).await?;
        found.rows.extend(attempts);
        found.notes.extend(NOTES.map(str::to_owned));
        found.notes.push(sum::NOTE.to_owned());
        Ok(found)
    }
}

/// Notes that say what the figures mean.
const NOTES: [&str; 4] = [
    "milliseconds; FIRST is from start to the first instruction of main, script or guest, by the real-time clock at both ends; hello takes no stamp, so its FIRST is the host's call of it, by the runs that tell their phases",
    "phases: exec is from start to the host's main, first call from the host's call of the guest to the guest's own stamp; medians of runs with --timings between the others, so they need not add up to the medians above",
    "loaded, and compiled and loaded: by this command, a fresh engine each time, with the compiler that `midge build` has: the host has none",
    "one more attempt: through midge-engine as linked into this command, on one place; EXIT is from handing it over to its outcome, and its floor another one, a thread that is handed nothing and says so; two CPUs that go idle meanwhile have to be woken, one CPU (`taskset -c 0`) has not",
];

impl Found {
    /// Measures programs, with those that tell their phases between them.
    async fn add(&mut self, there: &[Program], telling: &[Program], cache: Cache, runs: u32) -> Result<()> {
        let can = |program: &&Program| cache == Cache::Warm || !program.files.is_empty();
        let (there, telling): (Vec<&Program>, Vec<&Program>) =
            (there.iter().filter(can).collect(), telling.iter().filter(can).collect());
        let all: Vec<&Program> = there.iter().chain(&telling).copied().collect();
        let mut times = turns::take(&all, cache, runs).await?;
        let told = times.split_off(there.len());
        for (program, times) in telling.iter().zip(&told) {
            self.phases.push(PhaseFigures {
                program: program.name.clone(),
                cache,
                phases: PhaseFigures::of(&times.phases),
                first: Spread::of(times.firsts.clone()),
                exit: Spread::of(times.exits.clone()),
            });
        }
        let mut rows: Vec<Figures> =
            there.iter().zip(times).map(|(program, times)| self.figures(program, cache, times)).collect();
        let floor = rows.iter().find(|row| row.is_floor(cache)).cloned();
        compare(&mut rows, floor.as_ref());
        self.rows.extend(rows);
        Ok(())
    }

    fn figures(&self, program: &Program, cache: Cache, times: Times) -> Figures {
        let told = self.phases.iter().find(|told| told.program == program.name && told.cache == cache);
        Figures {
            program: program.name.clone(),
            cache,
            module_bytes: program.module_bytes,
            first: Spread::of(times.firsts).or(told.and_then(|told| told.first)),
            exit: Spread::of(times.exits),
            first_to_floor: None,
            exit_to_floor: None,
        }
    }
}

/// Puts the ratios to the floor in, where there is one.
fn compare(rows: &mut [Figures], floor: Option<&Figures>) {
    let Some(floor) = floor else { return };
    let ratio = |ours: Option<Spread>, floor: Option<Spread>| Some(ours?.median().over(floor?.median()));
    for row in rows {
        row.first_to_floor = ratio(row.first, floor.first);
        row.exit_to_floor = ratio(row.exit, floor.exit);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn programs_are_compared_with_the_floor_of_their_own_run() {
        let row = |program: &str, micros| Figures {
            program: program.to_owned(),
            cache: Cache::Warm,
            module_bytes: None,
            first: None,
            exit: Spread::of(vec![Duration::from_micros(micros)]),
            first_to_floor: None,
            exit_to_floor: None,
        };
        let floor = row(floor::NAME, 100);
        assert!(floor.is_floor(Cache::Warm) && !floor.is_floor(Cache::Cold));
        let mut rows = [floor.clone(), row("other", 250)];
        compare(&mut rows, Some(&floor));
        let ratios = rows.each_ref().map(|row| row.exit_to_floor.map(|ratio| ratio.middle));
        assert_eq!(ratios, [Some(1.0), Some(2.5)]);
        assert_eq!(rows[1].first_to_floor, None);
    }
}
