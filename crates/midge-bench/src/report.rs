//! What a measurement found: figures, where they were taken, how they are shown, kept and compared.

mod compare;
mod computer;
mod measure;
mod spread;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use midge_cli::output::{bold, dim};
use midge_cli::table::Table;
use serde::Serialize;

pub(super) use self::compare::Earlier;
pub(super) use self::computer::Computer;
pub(super) use self::measure::{Better, Interval, Measure, Unit};
pub(super) use self::spread::Spread;

/// The version of a report in JSON. Another number is another format.
const FORMAT: u32 = 1;

/// A row of figures in a report's table.
pub(super) trait Row: Serialize {
    /// The heads of the row's cells, as [`Table::new`] takes them.
    const HEADS: &'static [&'static str];

    /// Returns the row's cells, as many as there are heads.
    fn cells(&self) -> Vec<String>;

    /// Returns what tells this row from the others of its report.
    fn name(&self) -> String;

    /// Returns the row's figures, as they are compared with an earlier run's.
    fn measures(&self) -> Vec<Measure>;
}

/// All that a measurement found, with the computer it was made on.
#[derive(Debug)]
pub(super) struct Report<R> {
    /// The name of the measurement, such as `boot`.
    pub(super) bench: &'static str,
    /// The rows of its main table.
    pub(super) rows: Vec<R>,
    /// The tables beside the main one.
    pub(super) parts: Vec<Part>,
    /// What the figures mean, and what is missing.
    pub(super) notes: Vec<String>,
    /// The computer, with its load from before the measurement.
    pub(super) computer: Computer,
}

/// A table of a report beside its main one.
#[derive(Debug)]
pub(super) struct Part {
    /// The table's name in JSON.
    pub(super) key: &'static str,
    /// What is shown above it.
    pub(super) title: String,
    /// The heads of its columns, as [`Table::new`] takes them.
    pub(super) heads: Vec<String>,
    /// The cells of each line, as many as there are heads.
    pub(super) lines: Vec<Vec<String>>,
    /// What the lines say, as it stands in JSON.
    pub(super) rows: serde_json::Value,
    /// The figures that are compared with an earlier run's, with the names of their rows.
    pub(super) measures: Vec<(String, Measure)>,
}

/// A report as it is written to a file.
#[derive(Debug, Serialize)]
struct Written<'a, R> {
    format: u32,
    bench: &'static str,
    computer: &'a Computer,
    rows: &'a [R],
    #[serde(flatten)]
    parts: BTreeMap<&'static str, &'a serde_json::Value>,
    measures: Vec<Named>,
    notes: &'a [String],
}

/// A figure with the name of its row.
#[derive(Debug, Serialize)]
struct Named {
    row: String,
    #[serde(flatten)]
    measure: Measure,
}

impl From<(String, Measure)> for Named {
    fn from((row, measure): (String, Measure)) -> Named {
        Named { row, measure }
    }
}

impl<R: Row> Report<R> {
    /// Begins a report of a measurement with this name, on this computer with its load of now.
    pub(super) fn new(bench: &'static str) -> Report<R> {
        let (rows, parts, notes) = (Vec::new(), Vec::new(), Vec::new());
        Report { bench, rows, parts, notes, computer: Computer::here() }
    }

    /// Adds a table of what moved since an earlier run.
    pub(super) fn compare(&mut self, earlier: &Earlier) {
        let (part, notes) = earlier.compare(&self.measures(), &self.computer);
        self.parts.push(part);
        self.notes.extend(notes);
    }

    /// Returns the report as it is written in JSON.
    pub(super) fn written(&self) -> impl Serialize {
        Written {
            format: FORMAT,
            bench: self.bench,
            computer: &self.computer,
            rows: &self.rows,
            parts: self.parts.iter().map(|part| (part.key, &part.rows)).collect(),
            measures: self.measures().into_iter().map(Named::from).collect(),
            notes: &self.notes,
        }
    }

    /// Writes the report to a file as JSON, for a later comparison.
    pub(super) fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.written())?;
        std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }

    /// Returns the report as people read it.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}\n", bold(format_args!("midge bench {}", self.bench)));
        text += &table(R::HEADS, self.rows.iter().map(Row::cells));
        for part in &self.parts {
            let heads: Vec<&str> = part.heads.iter().map(String::as_str).collect();
            write!(text, "\n{}\n{}", bold(&part.title), table(&heads, part.lines.iter().cloned()))
                .expect("a String takes all that is written");
        }
        if !self.parts.is_empty() {
            text.push('\n');
        }
        for note in &self.notes {
            writeln!(text, "{note}").expect("a String takes all that is written");
        }
        text + &dim(&self.computer)
    }

    fn measures(&self) -> Vec<(String, Measure)> {
        let named = |row: &R| row.measures().into_iter().map(|measure| (row.name(), measure)).collect();
        let rows = self.rows.iter().flat_map(|row| -> Vec<_> { named(row) });
        rows.chain(self.parts.iter().flat_map(|part| part.measures.clone())).collect()
    }
}

fn table(heads: &[&str], lines: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new(heads);
    for line in lines {
        table.row(line);
    }
    format!("{table}\n")
}

/// Returns rows as a value of JSON.
pub(super) fn value(rows: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(rows).expect("figures are numbers and words")
}

/// Returns microseconds as milliseconds in words for a table, with more decimals where there are few.
pub(super) fn millis(micros: f64) -> String {
    let decimals = if micros < 100.0 { 3 } else { 2 };
    format!("{:.decimals$}", micros / 1e3)
}

/// Returns the cell of a value, or a dash where there is no value.
pub(super) fn or_dash<T>(value: Option<T>, cell: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), cell)
}
