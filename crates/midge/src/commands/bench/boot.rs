//! `midge bench boot`: how long it takes from starting a process to a guest's first instruction, and to the exit.

mod place;
mod program;

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::seq::SliceRandom;
use rustix::fs::{Advice, fadvise, statfs};
use serde::Serialize;

use self::program::{Program, Programs};
use super::report::{Interval, Measure, Report, Row, Spread, millis, or_dash};
use super::{Bench, modules};
use crate::progress::bar;

/// Runs of each program that are not counted: the first ones fill caches.
const RUNS_UNCOUNTED: u32 = 3;
/// One run in so many is repeated with a cold page cache, which takes longer.
const WARM_RUNS_PER_COLD: u32 = 5;
/// A file system in memory has no other place for its pages, so they never are cold.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// Measure from starting a process to the guest's first instruction, and to the exit
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Programs take turns within one run, so that they meet the same computer. `floor` is a static C
program that stamps the time in its main and ends. Stamps are of the real-time clock, taken
before the process is started and by the guest's (or script's) first instruction.

Examples:
  midge bench boot
  midge bench boot --runs 1000 --json")]
pub(super) struct Args {
    /// How often each program is run with a warm page cache; a fifth of it with a cold one
    #[arg(long, value_name = "N", default_value = "200", value_parser = clap::value_parser!(u32).range(5..=10_000))]
    runs: u32,
}

/// What was measured of one program.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    program: String,
    cache: Cache,
    /// The size of the compiled module, where there is one.
    module_bytes: Option<u64>,
    /// From starting the process to the first instruction of the guest, script or main.
    first: Option<Spread>,
    /// From there to the exit too, as the parent sees it.
    exit: Option<Spread>,
    /// The median of `first`, in medians of the floor's.
    first_to_floor: Option<Interval>,
    /// The median of `exit`, in medians of the floor's.
    exit_to_floor: Option<Interval>,
}

/// Whether a program's files are in memory when it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Cache {
    Warm,
    Cold,
    /// It is running already.
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
        let mut cells = vec![self.program.clone(), cache, or_dash(self.module_bytes, crate::words::bytes)];
        for (spread, ratio) in [(self.first, self.first_to_floor), (self.exit, self.exit_to_floor)] {
            cells.extend([
                or_dash(spread, |s| millis(s.p10_us)),
                or_dash(spread, |s| millis(s.p50_us)),
                or_dash(spread, |s| millis(s.p99_us)),
                or_dash(ratio, |ratio| format!("{:.2}", ratio.middle)),
            ]);
        }
        cells
    }

    fn name(&self) -> String {
        format!("{}, {}", self.program, self.cache.as_str())
    }

    fn measures(&self) -> Vec<Measure> {
        // The floor's own ratio is 1 whatever happens.
        let ratio = |ratio: Option<Interval>| ratio.filter(|_| self.program != program::FLOOR);
        let measure = |name, spread: Option<Spread>, ratio| match ratio {
            Some(ratio) => Some(Measure::floors(name, ratio)),
            None => spread.map(|spread| Measure::median(name, spread)),
        };
        let first = measure("first", self.first, ratio(self.first_to_floor));
        let exit = measure("exit", self.exit, ratio(self.exit_to_floor));
        first.into_iter().chain(exit).collect()
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

impl Args {
    pub(super) async fn run(&self, bench: &Bench) -> Result<Option<Report<Figures>>> {
        let mut report = Report::new("boot");
        let Programs { there, missing } = Programs::find(bench);
        report.notes.push("milliseconds; FIRST is from start to the first instruction of main, script or guest, by the real-time clock at both ends".to_owned());
        report.notes.extend(missing);
        report.rows.extend(measure(&there, Cache::Warm, self.runs)?);
        let cold: Vec<Program> = there.into_iter().filter(|program| !program.files.is_empty()).collect();
        if is_in_memory(bench.folder.path()) {
            report.notes.push("no cold page cache: the temporary folder is in memory, set TMPDIR".to_owned());
        } else {
            report.rows.extend(measure(&cold, Cache::Cold, self.runs / WARM_RUNS_PER_COLD)?);
        }
        for name in [modules::NOOP, modules::STAMP] {
            report.rows.push(place::attempts(&bench.modules, name, self.runs).await?);
        }
        report.notes.push("one more attempt: through midge-engine as linked into this command, on one place; EXIT is from handing it over to its outcome".to_owned());
        Ok(Some(report))
    }
}

/// Runs programs in turns.
fn measure(programs: &[Program], cache: Cache, runs: u32) -> Result<Vec<Figures>> {
    let mut order: Vec<usize> = (0..programs.len()).collect();
    let mut times = vec![(Vec::new(), Vec::new()); programs.len()];
    let bar = bar(u64::from(runs), "rounds");
    bar.set_prefix(if cache == Cache::Cold { "cold" } else { "warm" });
    for round in 0..runs + RUNS_UNCOUNTED {
        // In another order each time: a program finds the CPU's caches as the one before left them.
        order.shuffle(&mut rand::rng());
        for &index in &order {
            let (program, (firsts, exits)) = (&programs[index], &mut times[index]);
            if cache == Cache::Cold {
                program.files.iter().try_for_each(|file| make_cold(file))?;
            }
            let run = program.run()?;
            if round >= RUNS_UNCOUNTED {
                firsts.extend(run.first);
                exits.push(run.exit);
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let figures =
        programs.iter().zip(times).map(|(program, (firsts, exits))| figures(program, cache, firsts, exits));
    let mut figures: Vec<Figures> = figures.collect();
    compare(&mut figures);
    Ok(figures)
}

fn figures(program: &Program, cache: Cache, firsts: Vec<Duration>, exits: Vec<Duration>) -> Figures {
    Figures {
        program: program.name.clone(),
        cache,
        module_bytes: program.module_bytes,
        first: Spread::of(firsts),
        exit: Spread::of(exits),
        first_to_floor: None,
        exit_to_floor: None,
    }
}

/// Puts the ratios to the floor in, where there is one.
fn compare(figures: &mut [Figures]) {
    let Some(floor) = figures.iter().find(|figures| figures.program == program::FLOOR) else { return };
    let (first, exit) = (floor.first, floor.exit);
    let ratio = |ours: Option<Spread>, floor: Option<Spread>| Some(ours?.median().over(floor?.median()));
    for figures in figures {
        figures.first_to_floor = ratio(figures.first, first);
        figures.exit_to_floor = ratio(figures.exit, exit);
    }
}

/// Drops a file's pages from memory, once they are on the disk.
fn make_cold(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    // Pages that are still to be written would stay.
    file.sync_all()?;
    fadvise(&file, 0, None, Advice::DontNeed).with_context(|| format!("cannot make {} cold", path.display()))
}

fn is_in_memory(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.f_type as u64 == TMPFS_MAGIC)
}

#[cfg(test)]
mod tests {
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
        let mut rows = [row(program::FLOOR, 100), row("other", 250)];
        compare(&mut rows);
        let ratios = rows.each_ref().map(|row| row.exit_to_floor.map(|ratio| ratio.middle));
        assert_eq!(ratios, [Some(1.0), Some(2.5)]);
        assert_eq!(rows[1].first_to_floor, None);
    }
}
