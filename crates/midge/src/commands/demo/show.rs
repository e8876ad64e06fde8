//! Shows the jobs of the demo: a line for each while they run, and a table at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use anstyle::AnsiColor;
use indicatif::ProgressBar;
use midge_cli::output::{bold, dim, note, state, styled};
use midge_cli::progress::{is_drawn, spinner, style};
use midge_cli::table::{Table, cut};
use midge_cli::words;
use midge_protocol::JobId;
use midge_protocol::job::{JobView, State};

use super::EndedRole;
use super::cast::Part;

/// The most characters of a reason that are shown.
const MESSAGE_WIDTH_MAX: usize = 60;
/// As wide as the longest name in the cast.
const NAME_WIDTH: usize = 10;

/// A line for each job that changes as the job does, or, where there is no terminal, one more line at each change.
#[derive(Default)]
pub(super) struct Lines {
    lines: BTreeMap<JobId, Line>,
}

struct Line {
    bar: Option<ProgressBar>,
    said: String,
}

impl Lines {
    /// Shows the state that a job is in now.
    pub(super) fn update(&mut self, part: &Part, job: &JobView) {
        let line = self.lines.entry(part.id).or_insert_with(|| Line {
            bar: is_drawn().then(|| {
                let bar = spinner("");
                bar.set_prefix(format!("{:NAME_WIDTH$}", part.module.as_str()));
                bar.set_style(style("{spinner} {prefix} {wide_msg}"));
                bar
            }),
            said: String::new(),
        });
        let says = says(job);
        match &line.bar {
            Some(bar) => {
                if let Some(progress) =
                    job.progress.as_ref().filter(|p| p.total > 0 && job.state == State::Running)
                {
                    bar.set_style(style("{spinner} {prefix} {bar:20} {percent:>3}% {wide_msg}"));
                    bar.set_length(progress.total);
                    bar.set_position(progress.done.min(progress.total));
                } else {
                    bar.set_style(style("{spinner} {prefix} {wide_msg}"));
                }
                bar.set_message(says.clone());
                if job.state.is_ended() {
                    // The same line without a wheel that still turns.
                    bar.set_style(style("  {prefix} {wide_msg}"));
                    bar.finish();
                }
            }
            None if line.said != says => note(format_args!("  {:NAME_WIDTH$} {says}", part.module.as_str())),
            None => {}
        }
        line.said = says;
    }

    /// Takes the lines of all jobs away again.
    pub(super) fn clear(&self) {
        for bar in self.lines.values().filter_map(|line| line.bar.as_ref()) {
            bar.finish_and_clear();
        }
    }
}

fn says(job: &JobView) -> String {
    let attempt = if job.attempt.0 > 1 { format!(", attempt {}", job.attempt) } else { String::new() };
    let machine = match (&job.machine, job.state) {
        (Some(machine), State::Running) => dim(format_args!(" in Machine {machine}")),
        _ => String::new(),
    };
    let why = match &job.failure {
        Some(failure) if job.state != State::Completed => {
            format!("  {}: {}", failure.cause, cut(&failure.message, MESSAGE_WIDTH_MAX))
        }
        _ => String::new(),
    };
    format!("{}{attempt}{machine}{}", state(job.state), dim(why))
}

/// Returns the table of all jobs.
pub(super) fn table(ended: &[EndedRole]) -> Table {
    let mut table =
        Table::new(&["", "MODULE", "STATE", "CAUSE", ">ATTEMPTS", ">WAITED", ">RAN", ">MEMORY", "RESULT"]);
    for EndedRole { part, detail, file, fault } in ended {
        let job = &detail.job;
        let usages = || detail.attempts.iter().filter_map(|attempt| attempt.usage);
        let waited: Duration = detail.attempts.iter().map(|a| a.started_at.since(a.scheduled_at)).sum();
        let ran_us = usages().map(|usage| usage.ran_us).sum();
        let memory = usages().map(|usage| usage.memory_peak_bytes).max().unwrap_or(0);
        let cause = job.failure.as_ref().filter(|_| job.state != State::Completed);
        let result = match (file, job.result_bytes) {
            (Some(file), Some(bytes)) => format!("{} {}", file, dim(words::bytes(bytes))),
            _ => dim("as it should be"),
        };
        table.row([
            if fault.is_none() {
                styled("✓", AnsiColor::Green.on_default())
            } else {
                styled("✗", AnsiColor::Red.on_default())
            },
            part.module.to_string(),
            state(job.state),
            cause.map(|failure| failure.cause.to_string()).unwrap_or_default(),
            detail.attempts.len().to_string(),
            words::duration(waited),
            words::duration(Duration::from_micros(ran_us)),
            words::bytes(memory),
            match fault {
                Some(fault) => bold(fault),
                None => result,
            },
        ]);
    }
    table
}
