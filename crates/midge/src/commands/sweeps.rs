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
                    say(format_args!("sweep {number} {}", how_far(&sweep)))?;
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
    let mut table = Table::new(&["SWEEP", "ACTION", "STARTED", "IS", ">DONE", ">COULD NOT", "OF JOBS WITH"]);
    for sweep in &sweeps.sweeps {
        table.row([
            sweep.id.to_string(),
            sweep.action.to_string(),
            words::relative(sweep.started_at, now),
            is(sweep).to_owned(),
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
        ("is", is(sweep).to_owned()),
    ];
    facts.extend(sweep.ended_at.map(|at| ("ended", time(at))));
    for (name, value) in facts {
        say(format_args!("{} {value}", bold(format_args!("{name:<9}"))))?;
    }
    say_not_done(&sweep.first_not, sweep.could_not)
}

fn is(sweep: &SweepView) -> &'static str {
    match sweep.ended_at {
        None => "going on",
        Some(_) if sweep.cancelled => "cancelled",
        Some(_) => "through",
    }
}

fn filter(sweep: &SweepView) -> String {
    let pairs = sweep.filter.pairs();
    if pairs.is_empty() {
        return "anything: all of them".to_owned();
    }
    pairs.iter().map(|(name, value)| format!("{name}={}", shown::line(value))).collect::<Vec<_>>().join(" ")
}

fn how_far(sweep: &SweepView) -> String {
    format!("is {}: done to {}", is(sweep), words::count(sweep.done as usize, "job"))
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
        Action::Priority(priority) => format!("give priority {priority} to"),
        Action::Move(queue) => format!("move into {queue}"),
        action => action.to_string(),
    }
}

fn did(action: &Action, jobs: &str) -> String {
    match action {
        Action::Retry => format!("retried {jobs}"),
        Action::Cancel => format!("cancelled {jobs}"),
        Action::Delete => format!("deleted {jobs}"),
        Action::Priority(priority) => format!("gave priority {priority} to {jobs}"),
        Action::Move(queue) => format!("moved {jobs} into {queue}"),
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
        note(did(&sweep.action, &words::count(sweep.done as usize, "job")));
        let left = sweep.found.saturating_sub(sweep.done + sweep.could_not);
        if left > 0 {
            note(format_args!(
                "left {} alone: it is not for their state",
                words::count(left as usize, "job")
            ));
        }
        if sweep.cancelled {
            note(format_args!("sweep {id} was cancelled before it was through"));
        }
        say_not_done(&sweep.first_not, sweep.could_not)?;
    }
    Ok(if sweep.could_not == 0 && !sweep.cancelled { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
