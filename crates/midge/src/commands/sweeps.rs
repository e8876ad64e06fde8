//! `midge sweeps`: what is done to all jobs that fit a filter, how far that is, and to wait for its end.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use midge_cli::output::{bold, note, say, say_json, say_table};
use midge_cli::progress;
use midge_cli::stop::StopSignal;
use midge_cli::table::{Table, first_line};
use midge_cli::words;
use midge_client::Client;
use midge_protocol::api::{Action, DryRun, NotDone, SweepRequest, SweepView};
use midge_protocol::{Timestamp, shown};

use super::builds;
use super::jobs::{self, none_of};
use crate::arguments::ServerArgs;
use crate::connection::Answered;

/// How soon one looks again how far a sweep is, and how long it takes at most until the next look.
const FIRST_LOOK: Duration = Duration::from_millis(20);
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A server that is restarted meanwhile is waited for, for about half a minute.
const WAIT_TRIES: u32 = 20;
/// What the command exits with where the sweep goes on: as `midge jobs wait` does.
const NOT_ENDED: u8 = 5;

/// The flags of whatever is done to all jobs that fit a filter.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct SweepFlags {
    /// Do it to every job, where no other flag says to which
    #[arg(long)]
    pub(crate) all: bool,
    /// Only say to how many jobs it would be done, and show some
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Write JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// List what was done to all jobs that fit a filter, and how far what goes on is
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
`midge jobs retry`, `cancel`, `delete`, `priority` and `move` begin a sweep where flags say which
jobs are meant. It goes on in the server, whether somebody waits for it or not.

Examples:
  midge jobs retry --state discarded --module resize    begins one, and waits for it
  midge sweeps
  midge sweeps show 7
  midge sweeps cancel 7                                  what is done by then stays done")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the sweeps that go on, and the last that ended
    List(ListArgs),
    /// Show a sweep, how far it is, and what it could not do
    Show(OneArgs),
    /// Wait for a sweep to end
    Wait(OneArgs),
    /// End a sweep before it is through: what is done by then stays done
    Cancel(OneArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct OneArgs {
    /// The sweep's number
    #[arg(value_parser = parse_number)]
    number: u64,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

fn parse_number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "use a number such as 7, as `midge sweeps` lists them".to_owned())
}

impl Args {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        match self.command.unwrap_or(Command::List(self.list)) {
            Command::List(args) => list(args).await?,
            Command::Show(OneArgs { number, json, server }) => {
                let sweep = server.client()?.sweep(number).await.answered()?;
                if json {
                    say_json(&sweep)?;
                } else {
                    show(&sweep, words::now())?;
                }
            }
            Command::Wait(OneArgs { number, json, server }) => {
                let client = server.client()?;
                let sweep = client.sweep(number).await.answered()?;
                return wait(&client, sweep, json).await;
            }
            Command::Cancel(OneArgs { number, json, server }) => {
                let sweep = server.client()?.cancel_sweep(number).await.answered()?;
                if json {
                    say_json(&sweep)?;
                } else {
                    let jobs = words::count(sweep.done as usize, "job");
                    say(format_args!("sweep {number} {}: done to {jobs}", has(&sweep)))?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn list(args: ListArgs) -> Result<()> {
    let sweeps = args.server.client()?.sweeps().await.answered()?;
    if args.json {
        return say_json(&sweeps);
    }
    if sweeps.sweeps.is_empty() {
        note("there are no sweeps: `midge help sweeps` says how to begin one");
        return Ok(());
    }
    let now = words::now();
    let mut table =
        Table::new(&["SWEEP", "ACTION", "STARTED", "STATE", ">DONE", ">COULD NOT", "OF JOBS WITH"]);
    for sweep in &sweeps.sweeps {
        table.row([
            sweep.id.to_string(),
            sweep.action.to_string(),
            words::relative(sweep.started_at, now),
            sweep.state().to_owned(),
            sweep.done.to_string(),
            sweep.could_not.to_string(),
            first_line(&filter(sweep)),
        ]);
    }
    say_table(table)
}

fn show(sweep: &SweepView, now: Timestamp) -> Result<()> {
    let time = |at: Timestamp| format!("{at} ({})", words::relative(at, now));
    let mut facts = vec![
        ("sweep", sweep.id.to_string()),
        ("action", sweep.action.to_string()),
        ("jobs with", filter(sweep)),
        ("fitted", sweep.fitted.to_string()),
        ("found", sweep.found.to_string()),
        ("done", sweep.done.to_string()),
        ("could not", sweep.could_not.to_string()),
        ("started", time(sweep.started_at)),
        ("state", sweep.state().to_owned()),
    ];
    if sweep.asked > 0 {
        facts.push(("asked", format!("{} that ran to stop", words::count(sweep.asked as usize, "job"))));
    }
    facts.extend(sweep.ended_at.map(|at| ("ended", time(at))));
    for (name, value) in facts {
        say(format_args!("{} {value}", bold(format_args!("{name:<9}"))))?;
    }
    say_not_done(&sweep.first_not, sweep.could_not)
}

fn has(sweep: &SweepView) -> &'static str {
    match sweep.ended_at {
        None => "goes on",
        Some(_) if sweep.cancelled => "is cancelled",
        Some(_) => "has ended",
    }
}

fn filter(sweep: &SweepView) -> String {
    let pairs = sweep.filter.pairs();
    if pairs.is_empty() {
        return "anything: all of them".to_owned();
    }
    pairs.iter().map(|(name, value)| format!("{name}={}", shown::line(value))).collect::<Vec<_>>().join(" ")
}

fn say_not_done(first: &[NotDone], all: u64) -> Result<()> {
    for NotDone { job, why } in first {
        say(format_args!("  not {job}: {}", shown::line(why)))?;
    }
    let more = all.saturating_sub(first.len() as u64);
    if more > 0 {
        say(format_args!("  and not {} more", words::count(more as usize, "job")))?;
    }
    Ok(())
}

/// Begins a sweep and waits for its end, or says what it would do.
pub(super) async fn sweep(client: &Client, request: SweepRequest, json: bool) -> Result<ExitCode> {
    if request.dry_run {
        let dry_run = client.dry_run(&request).await.answered()?;
        if json {
            say_json(&dry_run)?;
        } else {
            show_dry_run(&request.action, &dry_run)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let sweep = client.begin_sweep(&request).await.answered()?;
    wait(client, sweep, json).await
}

fn show_dry_run(action: &Action, dry_run: &DryRun) -> Result<()> {
    let DryRun { would, first, could_not, first_not } = dry_run;
    let jobs = if would.jobs == 1 && would.exact { "job" } else { "jobs" };
    say(format_args!("would {}: {would} {jobs}", would_do(action)))?;
    if !first.is_empty() {
        say_table(jobs::table(first, words::now()))?;
    }
    say_not_done(first_not, *could_not)
}

fn would_do(action: &Action) -> String {
    match action {
        Action::Cancel => "cancel, or ask to stop where they run".to_owned(),
        Action::Priority(priority) => format!("give priority {priority} to"),
        Action::Move(queue) => format!("move into {queue}"),
        action => action.to_string(),
    }
}

fn did(sweep: &SweepView) -> String {
    let jobs = words::count(sweep.done.saturating_sub(sweep.asked) as usize, "job");
    match &sweep.action {
        Action::Cancel if sweep.asked > 0 => {
            format!(
                "cancelled {jobs}, and asked {} to stop: those may complete before they hear of it",
                running(sweep.asked)
            )
        }
        Action::Retry => format!("retried {jobs}"),
        Action::Cancel => format!("cancelled {jobs}"),
        Action::Delete => format!("deleted {jobs}"),
        Action::Priority(priority) => format!("gave priority {priority} to {jobs}"),
        Action::Move(queue) => format!("moved {jobs} into {queue}"),
    }
}

fn running(jobs: u64) -> String {
    if jobs == 1 { "1 that runs".to_owned() } else { format!("{jobs} that run") }
}

/// Returns why a sweep may have left jobs alone.
fn why_left(action: &Action) -> &'static str {
    match action {
        Action::Retry => {
            "they run; or have completed, wait for others or were cancelled with what they were to follow, which `--state \
             completed`, `pending` or `cancelled` would mean; or are callbacks of batches whose time did not come"
        }
        Action::Cancel => "they have ended, or are being cancelled already",
        Action::Delete => "they run",
        Action::Priority(_) => "they do not wait, or have that priority already",
        Action::Move(_) => "they do not wait, or are in that queue already",
    }
}

/// Waits for a sweep to end, shows how far it is, and returns what to exit with.
async fn wait(client: &Client, begun: SweepView, json: bool) -> Result<ExitCode> {
    let id = begun.id;
    let bar = progress::bar(begun.fitted.jobs, "jobs");
    let patient = client.clone().tries(WAIT_TRIES);
    let ended = async {
        let (mut sweep, mut pause) = (begun, FIRST_LOOK);
        while sweep.ended_at.is_none() {
            bar.set_length(sweep.fitted.jobs.max(sweep.found));
            bar.set_position(sweep.found);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_EVERY);
            sweep = patient.sweep(id).await.answered()?;
        }
        anyhow::Ok(sweep)
    };
    let ended = StopSignal::listen()?.or(ended).await;
    bar.finish_and_clear();
    let Some(sweep) = ended.transpose()? else {
        note(format_args!(
            "sweep {id} goes on in the server: `midge sweeps show {id}` says how far it is, `midge sweeps cancel {id}` ends it"
        ));
        return Ok(ExitCode::from(NOT_ENDED));
    };
    if json {
        say_json(&sweep)?;
    } else if sweep.found == 0 && !sweep.cancelled {
        note(none_of(client, &sweep.filter).await?);
    } else {
        note(did(&sweep));
        let left = sweep.found.saturating_sub(sweep.done + sweep.could_not);
        if left > 0 {
            let jobs = words::count(left as usize, "job");
            note(format_args!("left {jobs} alone: {}", why_left(&sweep.action)));
        }
        if sweep.cancelled {
            note(format_args!("sweep {id} was cancelled before it was through"));
        }
        say_not_done(&sweep.first_not, sweep.could_not)?;
    }
    if sweep.action == Action::Retry && sweep.done > 0 {
        builds::tell_of_others(client, &sweep.filter.module.iter().cloned().collect()).await;
    }
    Ok(if sweep.could_not == 0 && !sweep.cancelled { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn jobs_that_were_only_asked_to_stop_are_not_said_to_be_cancelled() {
        let sweep = |done, asked| -> SweepView {
            serde_json::from_value(json!({
                "id": 7, "action": "cancel", "filter": {}, "fitted": {"jobs": done, "exact": true},
                "found": done, "done": done, "asked": asked, "could_not": 0, "started_at": "2030-01-01T00:00:00Z",
            }))
            .unwrap()
        };
        assert_eq!(did(&sweep(5, 0)), "cancelled 5 jobs");
        assert!(did(&sweep(5, 2)).starts_with("cancelled 3 jobs, and asked 2 that run to stop"));
        assert!(did(&sweep(1, 1)).starts_with("cancelled 0 jobs, and asked 1 that runs to stop"));
    }
}
