//! What moved since an earlier run, and whether that is noise.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use midge_cli::output::{bold, dim};
use serde::{Deserialize, Serialize};

use super::{Better, Computer, FORMAT, Interval, Measure, Part, Unit};

/// The least part by which a figure must change to be called better or worse. Two runs of one program may differ by
/// less though nothing moved: memory is laid out anew, the computer is warmer.
const CHANGE_MIN: f64 = 0.05;

/// A report of an earlier run, as `--save` wrote it.
#[derive(Debug, Deserialize)]
pub(crate) struct Earlier {
    #[serde(skip)]
    path: PathBuf,
    bench: String,
    computer: Computer,
    measures: Vec<EarlierMeasure>,
}

#[derive(Debug, Deserialize)]
struct EarlierMeasure {
    row: String,
    name: String,
    unit: Unit,
    #[serde(flatten)]
    interval: Interval,
}

/// A figure before and now.
#[derive(Debug, Serialize)]
struct Change {
    row: String,
    figure: String,
    unit: Unit,
    before: Option<f64>,
    now: Option<f64>,
    /// The part by which it rose; below 0 it fell.
    change: Option<f64>,
    #[serde(rename = "verdict")]
    moved: Moved,
}

/// Whether a figure moved since the earlier run, and which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Moved {
    /// Beyond noise, and in the direction that is better.
    Better,
    /// Beyond noise, and in the other direction.
    Worse,
    /// Beyond the noise of each run, but less than two runs may well differ by.
    Small,
    /// Either run could have given the other's figure.
    Noise,
    /// Not in the earlier run.
    New,
    /// In the earlier run only.
    Gone,
}

impl Earlier {
    /// Reads what `--save` wrote, for a comparison with another run of the same bench.
    pub(crate) fn read(path: &Path, bench: &str) -> Result<Earlier> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let no_report = || {
            format!(
                "{} is no report of `midge bench`: make one with `midge bench {bench} --save PATH`",
                path.display()
            )
        };
        let Format { format } = serde_json::from_slice(&text).with_context(no_report)?;
        if format != FORMAT {
            bail!(
                "{} is a report of format {format}, and this midge reads format {FORMAT}: make a new one with `--save`",
                path.display()
            );
        }
        let earlier: Earlier = serde_json::from_slice(&text).with_context(no_report)?;
        if earlier.bench != bench {
            bail!("{} is a report of `midge bench {}`, not of {bench}", path.display(), earlier.bench);
        }
        Ok(Earlier { path: path.to_owned(), ..earlier })
    }

    /// Returns what moved since, with notes about how far the two can be compared.
    pub(crate) fn compare(&self, now: &[(String, Measure)], computer: &Computer) -> (Part, Vec<String>) {
        let changes = self.changes(now);
        let mut counts: BTreeMap<Moved, usize> = BTreeMap::new();
        for change in &changes {
            *counts.entry(change.moved).or_default() += 1;
        }
        let counts = counts.iter().map(|(moved, count)| format!("{count} {}", moved.as_str()));
        let counts = counts.collect::<Vec<_>>().join(", ");
        let path = self.path.display();
        let mut notes = vec![format!(
            "since {path} ({}, load {} then): {counts}; better and worse are changes of {:.0} % at least between intervals that do not overlap: 99 % confidence of a median, and 10 % up and down for what was timed once",
            self.computer.versions(),
            self.computer.load(),
            CHANGE_MIN * 100.0
        )];
        let others = computer.differences(&self.computer);
        if !others.is_empty() {
            notes.push(format!(
                "NOT THE SAME COMPUTER: {}; only figures in `x floor` and sizes say anything",
                others.join(", ")
            ));
        }
        let lines = changes.iter().map(Change::cells).collect();
        let heads = ["ROW", "FIGURE", ">BEFORE", ">NOW", ">CHANGE", "IS"].map(str::to_owned).to_vec();
        let title = format!("compared with {path}");
        (
            Part { key: "changes", title, heads, lines, rows: super::value(&changes), measures: Vec::new() },
            notes,
        )
    }

    fn changes(&self, now: &[(String, Measure)]) -> Vec<Change> {
        let mut changes = Vec::new();
        for (row, measure) in now {
            let same = |before: &&EarlierMeasure| {
                before.row == *row && before.name == measure.name && before.unit == measure.unit
            };
            let before = self.measures.iter().find(same).map(|before| before.interval);
            changes.push(Change {
                row: row.clone(),
                figure: measure.name.to_owned(),
                unit: measure.unit,
                before: before.map(|before| before.middle),
                now: Some(measure.interval.middle),
                change: before.and_then(|before| part(before.middle, measure.interval.middle)),
                moved: before.map_or(Moved::New, |before| moved(before, measure.interval, measure.better)),
            });
        }
        let is_gone = |before: &&EarlierMeasure| {
            !now.iter().any(|(row, measure)| {
                before.row == *row && before.name == measure.name && before.unit == measure.unit
            })
        };
        changes.extend(self.measures.iter().filter(is_gone).map(|before| Change {
            row: before.row.clone(),
            figure: before.name.clone(),
            unit: before.unit,
            before: Some(before.interval.middle),
            now: None,
            change: None,
            moved: Moved::Gone,
        }));
        changes
    }
}

/// Returns by which part something rose.
fn part(before: f64, now: f64) -> Option<f64> {
    (before != 0.0).then(|| now / before - 1.0)
}

/// Returns whether a figure moved between two runs, given where it lies in each.
fn moved(before: Interval, now: Interval, better: Better) -> Moved {
    if before.low <= now.high && now.low <= before.high {
        return Moved::Noise;
    }
    // What has no width, such as a size, is known exactly.
    let is_exact = before.low == before.high && now.low == now.high;
    if !is_exact && part(before.middle, now.middle).is_some_and(|change| change.abs() < CHANGE_MIN) {
        return Moved::Small;
    }
    match (now.middle < before.middle, better) {
        (true, Better::Lower) | (false, Better::Higher) => Moved::Better,
        (true, Better::Higher) | (false, Better::Lower) => Moved::Worse,
    }
}

impl Moved {
    fn as_str(self) -> &'static str {
        match self {
            Moved::Better => "better",
            Moved::Worse => "worse",
            Moved::Small => "small",
            Moved::Noise => "noise",
            Moved::New => "new",
            Moved::Gone => "gone",
        }
    }
}

impl Change {
    fn cells(&self) -> Vec<String> {
        let show = |value: Option<f64>| super::or_dash(value, |value| self.unit.show(value));
        let moved = match self.moved {
            Moved::Better | Moved::Worse => bold(self.moved.as_str()),
            _ => dim(self.moved.as_str()),
        };
        vec![
            self.row.clone(),
            self.figure.clone(),
            show(self.before),
            show(self.now),
            super::or_dash(self.change, |change| format!("{:+.1} %", change * 100.0)),
            moved,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(low: f64, middle: f64, high: f64) -> Interval {
        Interval { low, middle, high }
    }

    #[test]
    fn what_either_run_could_have_given_is_noise_however_far_apart() {
        let (before, now) = (interval(90.0, 100.0, 140.0), interval(130.0, 150.0, 160.0));
        assert_eq!(moved(before, now, Better::Lower), Moved::Noise);
        assert_eq!(moved(now, before, Better::Lower), Moved::Noise);
    }

    #[test]
    fn what_is_beyond_noise_is_better_or_worse_as_the_figure_would_have_it() {
        let (low, high) = (interval(99.0, 100.0, 101.0), interval(119.0, 120.0, 121.0));
        assert_eq!(moved(low, high, Better::Lower), Moved::Worse);
        assert_eq!(moved(low, high, Better::Higher), Moved::Better);
        assert_eq!(moved(high, low, Better::Lower), Moved::Better);
        assert_eq!(moved(high, low, Better::Higher), Moved::Worse);
    }

    #[test]
    fn a_change_of_a_few_per_cent_is_small_unless_it_is_of_something_exact() {
        let (before, now) = (interval(99.9, 100.0, 100.1), interval(102.9, 103.0, 103.1));
        assert_eq!(moved(before, now, Better::Lower), Moved::Small);
        let (before, now) = (interval(100.0, 100.0, 100.0), interval(103.0, 103.0, 103.0));
        assert_eq!(moved(before, now, Better::Lower), Moved::Worse);
    }

    /// Writes a report of two figures, reads it back, and compares it with one that has one of them.
    #[test]
    fn a_report_is_compared_with_one_that_was_saved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("boot.json");
        let computer = Computer::here();
        let figures = |size| ("host, file".to_owned(), Measure::size("size", size));
        let other = ("guest, file".to_owned(), Measure::size("size", 7));
        let measures: Vec<super::super::Named> = [figures(100), other].map(super::super::Named::from).into();
        let text = serde_json::json!({
            "format": FORMAT, "bench": "boot", "computer": computer, "measures": measures, "rows": [],
        });
        std::fs::write(&path, text.to_string()).unwrap();
        let earlier = Earlier::read(&path, "boot").unwrap();
        let (part, notes) = earlier.compare(&[figures(90)], &computer);
        assert_eq!(part.rows[0]["verdict"], "better");
        assert_eq!(part.rows[0]["change"], 0.9 - 1.0);
        assert_eq!(part.rows[1]["verdict"], "gone");
        assert!(notes[0].contains("1 better, 1 gone"), "{notes:?}");
        assert_eq!(notes.len(), 1, "it is the same computer");
    }

    #[test]
    fn a_file_that_is_no_report_of_this_bench_is_refused_with_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let error = |text: &str| {
            let path = folder.path().join("a.json");
            std::fs::write(&path, text).unwrap();
            format!("{:#}", Earlier::read(&path, "boot").unwrap_err())
        };
        assert!(error("hello").contains("is no report of `midge bench`"));
        assert!(error("{}").contains("is no report of `midge bench`"));
        assert!(error(r#"{"format": 1}"#).contains("is no report of `midge bench`"));
        assert!(error(r#"{"format": 99}"#).contains("format 99"));
        let computer = serde_json::to_string(&Computer::here()).unwrap();
        let other = format!(r#"{{"format": 1, "bench": "memory", "computer": {computer}, "measures": []}}"#);
        assert!(error(&other).contains("`midge bench memory`, not of boot"));
        let missing = Earlier::read(&folder.path().join("none"), "boot").unwrap_err();
        assert!(format!("{missing:#}").contains("cannot read"));
    }
}
