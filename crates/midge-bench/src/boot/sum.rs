//! The sum of the post that midge's idea is from: Machine boot + app boot = total, with its app and with ours.

use serde::Serialize;

use super::{Cache, Figures, place, rails};
use crate::modules;
use crate::report::{Part, value};

/// What the post gives for a Machine's boot: "Fly Machines can boot a VM in 500ms",
/// <https://fly.io/ruby-dispatch/rails-background-jobs-with-fly-machines/>. Fly's documentation has "about 300 ms".
const MACHINE_BOOT_US: f64 = 500_000.0;

/// How long it takes from asking for a Machine to a job's first instruction, in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Sum {
    pub(super) what: &'static str,
    pub(super) machine_boot_us: f64,
    pub(super) app_boot_us: f64,
    pub(super) total_us: f64,
    /// What was measured as the app's boot.
    pub(super) app_boot_from: &'static str,
}

/// Returns the sums that can be made of these figures.
pub(super) fn sums(rows: &[Figures]) -> Vec<Sum> {
    let first = |program: &str, cache: Cache| {
        let row = rows.iter().find(|row| row.program == program && row.cache == cache)?;
        Some(row.first?.p50_us)
    };
    let host = format!("midge-host run {}", modules::STAMP);
    let attempt = place::name(modules::STAMP);
    let attempt = rows.iter().find(|row| row.program == attempt).and_then(|row| row.exit);
    let rails = first(rails::NAME, Cache::Warm).map(|rails| {
        sum("Rails, a Machine for each job", MACHINE_BOOT_US, rails, "rails runner, an empty app")
    });
    let cold = first(&host, Cache::Cold).map(|cold| (cold, "host and module read from the disk"));
    let cold = cold.or(first(&host, Cache::Warm).map(|warm| (warm, "host and module in memory")));
    let fresh = cold.map(|(boot, from)| sum("midge, a Machine for each job", MACHINE_BOOT_US, boot, from));
    let up = attempt
        .map(|attempt| sum("midge, a Machine that is up", 0.0, attempt.p50_us, "one more attempt, whole"));
    [rails, fresh, up].into_iter().flatten().collect()
}

fn sum(what: &'static str, machine_boot_us: f64, app_boot_us: f64, app_boot_from: &'static str) -> Sum {
    Sum { what, machine_boot_us, app_boot_us, total_us: machine_boot_us + app_boot_us, app_boot_from }
}

impl Sum {
    /// Returns the cells of the sum's row, under [`HEADS`].
    pub(super) fn cells(&self) -> Vec<String> {
        let millis = |micros: f64| match micros / 1e3 {
            millis if millis < 1.0 && millis > 0.0 => format!("{millis:.2}"),
            millis => format!("{millis:.1}"),
        };
        vec![
            self.what.to_owned(),
            millis(self.machine_boot_us),
            millis(self.app_boot_us),
            millis(self.total_us),
            self.app_boot_from.to_owned(),
        ]
    }
}

/// The heads of the table of sums.
pub(super) const HEADS: [&str; 5] = ["JOB BY", ">MACHINE BOOT", ">APP BOOT", ">TOTAL", "APP BOOT IS"];

/// The note that says what the table of sums means.
pub(super) const NOTE: &str = "Machine boot is the figure of Fly's post (\"boot a VM in 500ms\", fly.io/ruby-dispatch/rails-background-jobs-with-fly-machines), not measured here, and the post gives no figure for its app's boot; app boot is measured here, to the first instruction of the job (of a script given to `rails runner`, of the guest), and leaves out what the queue takes";

/// Returns the sums as a table.
pub(super) fn part(sums: &[Sum]) -> Part {
    Part {
        key: "sum",
        title: "Machine boot + app boot = total, in milliseconds".to_owned(),
        heads: HEADS.map(str::to_owned).to_vec(),
        lines: sums.iter().map(Sum::cells).collect(),
        rows: value(&sums),
        measures: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::report::Spread;

    fn row(program: &str, cache: Cache, micros: u64) -> Figures {
        let spread = Spread::of(vec![Duration::from_micros(micros)]);
        let (first, exit) = (spread, spread);
        Figures {
            program: program.to_owned(),
            cache,
            module_bytes: None,
            first,
            exit,
            first_to_floor: None,
            exit_to_floor: None,
        }
    }

    #[test]
    fn a_sum_is_of_the_published_boot_and_of_what_was_measured() {
        let rows = [
            row("midge-host run stamp", Cache::Warm, 700),
            row("midge-host run stamp", Cache::Cold, 5_000),
            row(rails::NAME, Cache::Warm, 600_000),
            row(&place::name(modules::STAMP), Cache::Running, 20),
        ];
        let totals: Vec<f64> = sums(&rows).iter().map(|sum| sum.total_us).collect();
        assert_eq!(totals, [1_100_000.0, 505_000.0, 20.0]);
    }

    #[test]
    fn there_is_no_sum_of_what_was_not_measured() {
        let sums = sums(&[row("midge-host run stamp", Cache::Warm, 700)]);
        assert_eq!((sums.len(), sums[0].app_boot_us), (1, 700.0));
        assert_eq!(sums[0].app_boot_from, "host and module in memory");
    }
}
