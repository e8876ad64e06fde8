//! Where the time from starting the host to a guest's first instruction goes.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use midge_engine::start::StartPhase;
use serde::{Deserialize, Serialize};

use super::program::nanos;
use super::{Cache, Figures};
use crate::report::{Measure, Part, Spread, millis, or_dash, value};

/// The name of the phase from starting the process to its `main`: the kernel's work and the C library's.
pub(super) const EXEC: &str = "exec";
/// The name of the phase from the host's call of the guest to the time that the guest's first instruction reads.
pub(super) const CALL: &str = "first call";

/// The line that `midge-host run --timings` writes.
#[derive(Debug, Deserialize)]
pub(super) struct Timings {
    /// When `main` began, in nanoseconds since the Unix epoch.
    main_at: u64,
    /// Nanoseconds of each phase.
    spent: BTreeMap<String, u64>,
}

/// The phases of one run, in order, each with the time that it took.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Phases(pub(super) Vec<(&'static str, Duration)>);

impl Timings {
    /// Reads the timings from the last line of what a host wrote to stderr.
    pub(super) fn read(said: &[u8]) -> Result<Timings> {
        let said = String::from_utf8_lossy(said);
        let line = said.lines().next_back().context("the host wrote nothing to stderr")?;
        serde_json::from_str(line).with_context(|| format!("this is no line of timings: {line}"))
    }

    /// Returns the phases of a run that was started at `started`, with the guest's first instruction at `first` if that
    /// is known: both in nanoseconds since the Unix epoch.
    pub(super) fn phases(&self, started: u128, first: Option<u128>) -> Phases {
        let main_at = u128::from(self.main_at);
        let mut phases = vec![(EXEC, nanos(main_at.saturating_sub(started)))];
        let mut called_at = main_at;
        for phase in StartPhase::ALL {
            let spent = self.spent.get(phase.as_str()).copied().unwrap_or(0);
            called_at += u128::from(spent);
            phases.push((phase.as_str(), Duration::from_nanos(spent)));
        }
        phases.extend(first.map(|first| (CALL, nanos(first.saturating_sub(called_at)))));
        Phases(phases)
    }
}

impl Phases {
    /// Returns how long all phases took together: from starting the process to the guest's first instruction.
    pub(super) fn to_first(&self) -> Duration {
        self.0.iter().map(|(_, spent)| spent).sum()
    }
}

/// How long the phases of one program's runs take.
#[derive(Debug, Clone, Serialize)]
pub(super) struct PhaseFigures {
    pub(super) program: String,
    pub(super) cache: Cache,
    /// The phases, in order.
    pub(super) phases: Vec<PhaseFigure>,
    /// From starting the process to the guest's first instruction, of the very same runs.
    pub(super) first: Option<Spread>,
    /// From starting the process to its exit, of the very same runs.
    pub(super) exit: Option<Spread>,
}

/// How long one phase takes, over many runs.
#[derive(Debug, Clone, Serialize)]
pub(super) struct PhaseFigure {
    pub(super) phase: &'static str,
    pub(super) spent: Spread,
}

impl PhaseFigures {
    /// Makes figures of runs that all have the same phases; nothing where there are none.
    pub(super) fn of(runs: &[Phases]) -> Vec<PhaseFigure> {
        let names = runs.first().into_iter().flat_map(|phases| phases.0.iter().map(|(name, _)| *name));
        let figure = |(index, phase): (usize, &'static str)| {
            let spent = runs.iter().filter_map(|phases| Some(phases.0.get(index)?.1)).collect();
            Some(PhaseFigure { phase, spent: Spread::of(spent)? })
        };
        names.enumerate().filter_map(figure).collect()
    }

    fn name(&self) -> String {
        format!("{}, {}", self.program, self.cache.as_str())
    }

    fn median(&self, phase: &str) -> Option<f64> {
        let found = self.phases.iter().find(|figure| figure.phase == phase);
        found.map(|figure| figure.spent.p50_us)
    }
}

/// Returns the table of phases: one to a line, one program to a column. Compared with another run they are in times of
/// the floor, which is among the rows.
pub(super) fn part(all: &[PhaseFigures], rows: &[Figures]) -> Part {
    let heads = all.iter().map(|figures| format!(">{}, {}", short(&figures.program), figures.cache.as_str()));
    let heads = std::iter::once("PHASE".to_owned()).chain(heads).collect();
    let names = std::iter::once(EXEC).chain(StartPhase::ALL.map(StartPhase::as_str)).chain([CALL]);
    let line = |name: &str, of: &dyn Fn(&PhaseFigures) -> Option<f64>| {
        let cells = all.iter().map(|figures| or_dash(of(figures), millis));
        std::iter::once(name.to_owned()).chain(cells).collect()
    };
    let mut lines: Vec<Vec<String>> =
        names.map(|name| line(name, &|figures: &PhaseFigures| figures.median(name))).collect();
    lines.push(line("to the first instruction", &|figures| Some(figures.first?.p50_us)));
    lines.push(line("to the exit, with --timings", &|figures| Some(figures.exit?.p50_us)));
    let measures = all.iter().flat_map(|figures| {
        let floor = rows.iter().find(|row| row.is_floor(figures.cache));
        let floor = floor.and_then(|floor| floor.first);
        figures.phases.iter().map(move |PhaseFigure { phase, spent }| match floor {
            Some(floor) => (figures.name(), Measure::floors(phase, spent.median().over(floor.median()))),
            None => (figures.name(), Measure::median(phase, *spent)),
        })
    });
    Part {
        key: "phases",
        title: "phases, medians in milliseconds".to_owned(),
        heads,
        lines,
        rows: value(&all),
        measures: measures.collect(),
    }
}

/// Returns a program's name without the `midge-host run` that it may begin with.
pub(super) fn short(program: &str) -> &str {
    program.strip_prefix("midge-host run ").unwrap_or(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"a word of the guest
{"main_at": 5000, "booted": 1, "spent": {"settings": 10, "engine": 200, "load": 3000}}"#;

    #[test]
    fn phases_of_a_run_add_up_to_its_first_instruction() {
        let timings = Timings::read(LINE.as_bytes()).unwrap();
        let phases = timings.phases(1000, Some(8300));
        assert_eq!(phases.to_first(), Duration::from_nanos(7300));
        assert_eq!(phases.0.first(), Some(&(EXEC, Duration::from_nanos(4000))));
        assert_eq!(phases.0.last(), Some(&(CALL, Duration::from_nanos(90))));
        let untimed = timings.phases(1000, None);
        assert_eq!(
            untimed.to_first(),
            Duration::from_nanos(7210),
            "to the call, where the guest says nothing"
        );
    }

    #[test]
    fn what_is_no_line_of_timings_is_an_error_that_shows_it() {
        assert!(Timings::read(b"").is_err());
        let error = format!("{:#}", Timings::read(b"midge-host: no").unwrap_err());
        assert!(error.contains("midge-host: no"), "{error}");
    }

    #[test]
    fn the_table_has_a_column_for_each_program_and_a_dash_for_what_it_has_not() {
        let timings = Timings::read(LINE.as_bytes()).unwrap();
        let figures = |program: &str, first| PhaseFigures {
            program: program.to_owned(),
            cache: Cache::Warm,
            phases: PhaseFigures::of(&[timings.phases(1000, first)]),
            first: None,
            exit: None,
        };
        let all = [figures("midge-host run stamp", Some(8300)), figures("midge-host run hello", None)];
        let part = part(&all, &[]);
        assert_eq!(part.heads, ["PHASE", ">stamp, warm", ">hello, warm"]);
        let load = part.lines.iter().find(|line| line[0] == "load").unwrap();
        assert_eq!(load[1..], ["0.003", "0.003"]);
        let call = part.lines.iter().find(|line| line[0] == CALL).unwrap();
        assert_eq!(call[1..], ["0.000", "-"]);
        assert!(part.measures.iter().any(|(row, _)| row == "midge-host run stamp, warm"));
    }
}
