//! `midge failures`: failures that are alike, as groups, and what to do about all jobs of one.

use std::process::ExitCode;

use anyhow::Result;
use midge_cli::output::{bold, dim, note, say, say_json, say_table};
use midge_cli::table::{Table, cut, first_line};
use midge_cli::words;
use midge_protocol::api::{
    Action, FailureView, FailuresCursor, FailuresFilter, JobFilter, PAGE_JOBS_MAX, SweepRequest,
};
use midge_protocol::{Fingerprint, ModuleName, Timestamp, shown};

use super::sweeps;
use crate::arguments::ServerArgs;
use crate::connection::Answered;

/// How much of a generation is shown in the table.
const GENERATION_WIDTH_MAX: usize = 16;

/// List failures that are alike as groups, and retry, cancel or delete the jobs of one
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Failures of a module are alike that have the same cause, and a message that says the same of
different things: numbers, ids, addresses and what is quoted do not matter.

Examples:
  midge failures                                   the one that was seen last first
  midge failures show 0c3fa51b22d07e94
  midge jobs --failure 0c3fa51b22d07e94            the jobs that failed so last
  midge failures retry 0c3fa51b22d07e94 --dry-run  to how many jobs that would be")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List groups of failures, the one that was seen last first
    List(ListArgs),
    /// Show a group: how often, since when, in which generations, and an example
    Show(ShowArgs),
    /// Run the jobs again whose last failure is one of the group
    Retry(ActArgs),
    /// Cancel those of the jobs that wait to be tried again
    Cancel(ActArgs),
    /// Delete the jobs with all that belongs to them
    Delete(ActArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Only failures of this module
    #[arg(long, value_name = "NAME")]
    module: Option<ModuleName>,
    /// How many groups
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = words::whole::<u32>(1..=i64::from(PAGE_JOBS_MAX)))]
    limit: u32,
    /// Only groups after this point of the list: the `next` of the page before
    #[arg(long, value_name = "NEXT")]
    before: Option<FailuresCursor>,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// The group's fingerprint
    fingerprint: Fingerprint,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct ActArgs {
    /// The group's fingerprint
    fingerprint: Fingerprint,
    /// Only say to how many jobs it would be done, and show some
    #[arg(long)]
    dry_run: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

impl Args {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        match self.command.unwrap_or(Command::List(self.list)) {
            Command::List(args) => list(args).await?,
            Command::Show(ShowArgs { fingerprint, json, server }) => {
                let client = server.client()?;
                let group = client.failure(fingerprint).await.answered()?;
                if json {
                    say_json(&group)?;
                } else {
                    show(&group, words::now())?;
                }
            }
            Command::Retry(args) => return act(Action::Retry, args).await,
            Command::Cancel(args) => return act(Action::Cancel, args).await,
            Command::Delete(args) => return act(Action::Delete, args).await,
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn list(args: ListArgs) -> Result<()> {
    let filter = FailuresFilter { module: args.module, before: args.before, limit: Some(args.limit) };
    let failures = args.server.client()?.failures(&filter).await.answered()?;
    if args.json {
        return say_json(&failures);
    }
    if failures.failures.is_empty() {
        note("nothing has failed that is still remembered");
        return Ok(());
    }
    let now = words::now();
    let heads = ["FAILURE", ">COUNT", ">OPEN", "LAST SEEN", "FIRST SEEN", "IN", "MODULE", "CAUSE", "MESSAGE"];
    let mut table = Table::new(&heads);
    for FailureView { group, open } in &failures.failures {
        table.row([
            group.fingerprint.to_string(),
            group.count.to_string(),
            open.short(),
            words::relative(group.last_seen, now),
            words::relative(group.first_seen, now),
            cut(&group.last_generation, GENERATION_WIDTH_MAX),
            group.module.to_string(),
            group.cause.to_string(),
            first_line(&group.message),
        ]);
    }
    say_table(table)?;
    if let Some(next) = failures.next {
        note(dim(format_args!("there are more: --before={next}")));
    }
    Ok(())
}

fn show(FailureView { group, open }: &FailureView, now: Timestamp) -> Result<()> {
    let time = |at: Timestamp, generation: &str| {
        format!("{at} ({}) in generation {}", words::relative(at, now), shown::line(generation))
    };
    let facts = [
        ("failure", group.fingerprint.to_string()),
        ("module", group.module.to_string()),
        ("cause", group.cause.to_string()),
        ("count", group.count.to_string()),
        ("open", format!("{open}: jobs that failed so last, and are neither completed nor deleted since")),
        ("first", time(group.first_seen, &group.first_generation)),
        ("last", time(group.last_seen, &group.last_generation)),
        ("example", format!("{}, see `midge jobs show {}`", group.job, group.job)),
        ("message", shown::text(&group.message).into_owned()),
    ];
    for (name, value) in facts {
        say(format_args!("{} {value}", bold(format_args!("{name:<9}"))))?;
    }
    note(dim(format_args!(
        "`midge jobs --failure {}` lists the jobs that failed so last",
        group.fingerprint
    )));
    Ok(())
}

async fn act(action: Action, args: ActArgs) -> Result<ExitCode> {
    let ActArgs { fingerprint, dry_run, json, server } = args;
    let client = server.client()?;
    let filter = JobFilter { failure: Some(fingerprint), ..JobFilter::default() };
    // Jobs may be there longer than their group is remembered.
    if let Err(unknown) = client.failure(fingerprint).await.answered()
        && client.count_jobs(&filter).await.answered()?.jobs == 0
    {
        return Err(unknown);
    }
    sweeps::sweep(&client, SweepRequest { action, filter, dry_run, all: false }, json).await
}
