//! What a measurement found: figures, where they were taken, and how they are shown.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::output::{bold, dim};
use crate::table::Table;

/// A line of figures.
pub(super) trait Row: Serialize {
    /// The heads of its cells, as [`Table::new`] takes them.
    const HEADS: &'static [&'static str];

    /// Returns its cells.
    fn cells(&self) -> Vec<String>;
}

/// All that a measurement found.
#[derive(Debug, Serialize)]
pub(super) struct Report<R> {
    /// What was measured.
    pub(super) bench: &'static str,
    pub(super) rows: Vec<R>,
    /// What the figures mean, and what is missing.
    pub(super) notes: Vec<String>,
    pub(super) computer: Computer,
}

impl<R: Row> Report<R> {
    /// Begins a report; the load is that of now.
    pub(super) fn new(bench: &'static str) -> Report<R> {
        Report { bench, rows: Vec::new(), notes: Vec::new(), computer: Computer::here() }
    }

    /// Returns it as people read it.
    pub(super) fn text(&self) -> String {
        let mut table = Table::new(R::HEADS);
        for row in &self.rows {
            table.row(row.cells());
        }
        let mut text = format!("{}\n{table}\n", bold(format_args!("midge bench {}", self.bench)));
        for note in &self.notes {
            writeln!(text, "{note}").expect("a String takes all that is written");
        }
        text + &dim(&self.computer)
    }
}

/// Where something was measured, and with which versions.
#[derive(Debug, Serialize)]
pub(super) struct Computer {
    cpu: String,
    cores: usize,
    kernel: String,
    /// Processes that wanted to run, on average over the minute before.
    load: String,
    midge: &'static str,
    wasmtime: &'static str,
}

impl Computer {
    fn here() -> Computer {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
        let first = |text: String| text.split_whitespace().next().unwrap_or("unknown").to_owned();
        Computer {
            cpu: model.unwrap_or("unknown CPU").to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: first(read("/proc/sys/kernel/osrelease")),
            load: first(read("/proc/loadavg")),
            midge: env!("CARGO_PKG_VERSION"),
            wasmtime: midge_engine::WASMTIME_VERSION,
        }
    }
}

impl std::fmt::Display for Computer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Computer { cpu, cores, kernel, load, midge, wasmtime } = self;
        write!(
            f,
            "{cpu}, {cores} cores, Linux {kernel}, load {load} before; midge {midge}, wasmtime {wasmtime}"
        )
    }
}

/// How durations spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Spread {
    runs: usize,
    pub(super) p10_us: f64,
    pub(super) p50_us: f64,
    pub(super) p95_us: f64,
    pub(super) p99_us: f64,
}

impl Spread {
    /// Returns how these spread; nothing where there are none.
    pub(super) fn of(mut durations: Vec<Duration>) -> Option<Spread> {
        durations.sort_unstable();
        let runs = durations.len();
        // The nearest rank: a figure that was really seen.
        let rank = |percent: usize| (runs * percent).div_ceil(100).clamp(1, runs) - 1;
        let micros = |percent| durations.get(rank(percent)).map(|duration| duration.as_secs_f64() * 1e6);
        if durations.is_empty() {
            return None;
        }
        Some(Spread {
            runs,
            p10_us: micros(10)?,
            p50_us: micros(50)?,
            p95_us: micros(95)?,
            p99_us: micros(99)?,
        })
    }
}

/// Returns microseconds as milliseconds, for a table.
pub(super) fn millis(micros: f64) -> String {
    let places = if micros < 100.0 { 3 } else { 2 };
    format!("{:.places$}", micros / 1e3)
}

/// Returns a cell, or a dash where there is nothing to put there.
pub(super) fn or_dash<T>(value: Option<T>, cell: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), cell)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_figure_that_was_seen() {
        let spread = Spread::of((1..=100).rev().map(Duration::from_micros).collect()).unwrap();
        assert_eq!([spread.p10_us, spread.p50_us, spread.p95_us, spread.p99_us], [10.0, 50.0, 95.0, 99.0]);
        let one = Spread::of(vec![Duration::from_micros(7)]).unwrap();
        assert_eq!([one.p10_us, one.p50_us, one.p99_us], [7.0; 3]);
        assert_eq!(Spread::of(Vec::new()), None);
    }
}
