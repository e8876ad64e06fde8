//! Runs programs in turns, so that each meets the same computer as the others.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use midge_cli::progress::bar;
use rand::seq::SliceRandom;
use rustix::fs::{Advice, fadvise, statfs};

use super::Cache;
use super::phases::Phases;
use super::program::Program;

/// Rounds that are not counted: the first ones fill caches.
const ROUNDS_UNCOUNTED: u32 = 3;
/// No program is given more time than this; a slow one takes part in fewer rounds.
const TIME_MAX: Duration = Duration::from_secs(15);
/// However slow it is, a program takes part in so many rounds, or its figures would say nothing.
const TURNS_MIN: u32 = 5;
/// What `statfs` says of a file system in memory (tmpfs), which keeps its pages nowhere else: they never are cold.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// What all counted runs of one program took.
#[derive(Debug, Clone, Default)]
pub(super) struct Times {
    /// From the start to the first instruction, of each run that says it.
    pub(super) firsts: Vec<Duration>,
    /// From the start to the exit, of each run.
    pub(super) exits: Vec<Duration>,
    /// The phases of each run that says them.
    pub(super) phases: Vec<Phases>,
}

/// Runs each program once in each round, or less often where it is slow, and returns the times of each.
pub(super) async fn take(programs: &[&Program], cache: Cache, rounds: u32) -> Result<Vec<Times>> {
    let mut order: Vec<usize> = (0..programs.len()).collect();
    let mut times = vec![Times::default(); programs.len()];
    let bar = bar(u64::from(rounds), "rounds");
    bar.set_prefix(cache.as_str());
    for round in 0..ROUNDS_UNCOUNTED + rounds {
        // In another order each time: a program finds the CPU's caches as the one before left them.
        order.shuffle(&mut rand::rng());
        let counted = round.checked_sub(ROUNDS_UNCOUNTED);
        for &index in &order {
            let program = programs[index];
            let turns = turns(program.tried, rounds);
            if counted.is_some_and(|round| !has_turn(round, turns, rounds)) {
                continue;
            }
            if cache == Cache::Cold {
                program.files.iter().try_for_each(|file| make_cold(file))?;
            }
            let run = program.run()?;
            if counted.is_some() {
                times[index].firsts.extend(run.first);
                times[index].exits.push(run.exit);
                times[index].phases.extend(run.phases);
            }
            // Here a Ctrl-C is heard.
            tokio::task::yield_now().await;
        }
        bar.inc(u64::from(counted.is_some()));
    }
    bar.finish_and_clear();
    Ok(times)
}

/// Returns in how many of the rounds a program takes part whose run takes `took`.
pub(super) fn turns(took: Duration, rounds: u32) -> u32 {
    let fit = TIME_MAX.as_nanos() / took.as_nanos().max(1);
    u32::try_from(fit).unwrap_or(u32::MAX).max(TURNS_MIN).min(rounds)
}

/// Returns whether a round is one of the `turns` that are spread evenly over all.
fn has_turn(round: u32, turns: u32, rounds: u32) -> bool {
    let before = |round: u32| u64::from(round) * u64::from(turns) / u64::from(rounds);
    before(round + 1) > before(round)
}

/// Drops a file's pages from memory, once they are on the disk.
fn make_cold(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    // Pages that are still to be written would stay.
    file.sync_all()?;
    fadvise(&file, 0, None, Advice::DontNeed).with_context(|| format!("cannot make {} cold", path.display()))
}

/// Returns whether a folder's files are nowhere but in memory.
pub(super) fn is_in_memory(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.f_type as u64 == TMPFS_MAGIC)
}

/// Returns how much of a file the kernel reads at once from the disk that a folder is on, in KiB, where it says so.
pub(super) fn read_ahead_kib(folder: &Path) -> Option<u64> {
    let device = std::fs::metadata(folder).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let text = std::fs::read_to_string(format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb")).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_slow_takes_part_in_fewer_rounds() {
        assert_eq!(turns(Duration::from_millis(1), 200), 200);
        assert_eq!(turns(Duration::from_millis(1500), 200), 10);
        assert_eq!(turns(Duration::from_secs(60), 200), TURNS_MIN);
        assert_eq!(turns(Duration::from_secs(60), 3), 3);
        assert_eq!(turns(Duration::ZERO, 200), 200);
    }

    #[test]
    fn turns_are_spread_over_all_rounds() {
        for (turns, rounds) in [(200, 200), (10, 200), (7, 40), (1, 3)] {
            let taken: Vec<u32> = (0..rounds).filter(|round| has_turn(*round, turns, rounds)).collect();
            assert_eq!(taken.len() as u32, turns);
            assert!(taken.windows(2).all(|pair| pair[1] - pair[0] <= rounds.div_ceil(turns)), "{taken:?}");
        }
    }
}
