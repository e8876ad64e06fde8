//! What a measurement found: figures, where they were taken, and how they are shown.

mod computer;
mod measure;
mod spread;

use std::fmt::Write as _;

use serde::Serialize;

pub(super) use self::computer::Computer;
pub(super) use self::measure::{Better, Interval, Measure, Unit};
pub(super) use self::spread::Spread;
use crate::output::{bold, dim};
use crate::table::Table;

/// The version of a report in JSON. Another number is another format.
const FORMAT: u32 = 1;

/// A line of figures.
pub(super) trait Row: Serialize {
    /// The heads of its cells, as [`Table::new`] takes them.
    const HEADS: &'static [&'static str];

    /// Returns its cells.
    fn cells(&self) -> Vec<String>;

    /// Returns what tells this row from the others of its report.
    fn name(&self) -> String;

    /// Returns its figures, as they are compared with an earlier run's.
    fn measures(&self) -> Vec<Measure>;
}

/// All that a measurement found.
#[derive(Debug)]
pub(super) struct Report<R> {
    /// What was measured.
    pub(super) bench: &'static str,
    pub(super) rows: Vec<R>,
    /// What the figures mean, and what is missing.
    pub(super) notes: Vec<String>,
    pub(super) computer: Computer,
}

/// A report as it is written to a file.
#[derive(Debug, Serialize)]
pub(super) struct Written<'a, R> {
    format: u32,
    bench: &'static str,
    computer: &'a Computer,
    rows: &'a [R],
    measures: Vec<(String, Measure)>,
    notes: &'a [String],
}

impl<R: Row> Report<R> {
    /// Begins a report; the load is that of now.
    pub(super) fn new(bench: &'static str) -> Report<R> {
        Report { bench, rows: Vec::new(), notes: Vec::new(), computer: Computer::here() }
    }

    /// Returns it as programs read it.
    pub(super) fn written(&self) -> Written<'_, R> {
        let measures =
            self.rows.iter().flat_map(|row| row.measures().into_iter().map(|measure| (row.name(), measure)));
        Written {
            format: FORMAT,
            bench: self.bench,
            computer: &self.computer,
            rows: &self.rows,
            measures: measures.collect(),
            notes: &self.notes,
        }
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

/// Returns microseconds as milliseconds, for a table.
pub(super) fn millis(micros: f64) -> String {
    let places = if micros < 100.0 { 3 } else { 2 };
    format!("{:.places$}", micros / 1e3)
}

/// Returns a cell, or a dash where there is nothing to put there.
pub(super) fn or_dash<T>(value: Option<T>, cell: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), cell)
}
