//! `midge jobs`: what became of jobs, and what to do about them.

mod retry;
mod show;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use midge_cli::output::{dim, note, say, say_json, state, write_bytes};
use midge_cli::table::{Table, cut};
use midge_cli::words;
use midge_client::Client;
use midge_protocol::api::{JobFilter, PAGE_JOBS_MAX};
use midge_protocol::job::{Cause, JobView, State};
use midge_protocol::{AttemptNumber, BatchId, JobId, ModuleName, QueueName, Timestamp, nearest};

use super::enqueue::{self, Told};
use crate::arguments::ServerArgs;
use crate::connection::Answered;

/// The width of a note in the table; `midge jobs show` has all of it.
const NOTE_WIDTH_MAX: usize = 60;

/// List jobs, look at one, cancel, retry or delete some
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Without a subcommand it lists.

Examples:
  midge jobs                                          the newest jobs
  midge jobs --state running --queue mail --json
  midge jobs show 0190b3e4-7d5c-7c3a-9f00-0123456789ab
  midge jobs result 0190b3e4-7d5c-7c3a-9f00-0123456789ab > result.json
  midge jobs retry --state discarded --module resize  run what failed for good once more")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List jobs, newest first where their ids begin with their time, as midge's do
    List(ListArgs),
    /// Show a job: its attempts, its failure, its log
    Show(ShowArgs),
    /// Write the log of a job's last attempt, or of another one, to stdout
    Log(LogArgs),
    /// Write the result of a completed job to stdout
    Result(IdArgs),
    /// Wait for a job to end, and write its result to stdout; exits as `midge enqueue --wait` does
    Wait(WaitArgs),
    /// Cancel jobs, whether they wait or run
    Cancel(IdsArgs),
    /// Run jobs again that ended, or waiting ones at once
    Retry(retry::Args),
    /// Delete jobs that do not run, with all that belongs to them
    Delete(IdsArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(PAGE_JOBS_MAX)))]
    limit: u32,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// The flags that say which jobs are meant.
#[derive(Debug, clap::Args)]
struct FilterArgs {
    /// Only jobs in this state
    #[arg(long, value_name = "STATE")]
    state: Option<State>,
    /// Only jobs of this queue
    #[arg(long, value_name = "NAME")]
    queue: Option<QueueName>,
    /// Only jobs of this module
    #[arg(long, value_name = "NAME")]
    module: Option<ModuleName>,
    /// Only jobs of this batch
    #[arg(long, value_name = "ID")]
    batch: Option<BatchId>,
}

impl FilterArgs {
    fn filter(self, limit: u32) -> JobFilter {
        let FilterArgs { state, queue, module, batch } = self;
        JobFilter { state, queue, module, batch, before: None, limit: Some(limit) }
    }
}

#[derive(Debug, clap::Args)]
struct IdArgs {
    /// The job
    id: JobId,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct IdsArgs {
    /// The jobs
    #[arg(required = true)]
    ids: Vec<JobId>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// The job
    id: JobId,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct LogArgs {
    /// The job
    id: JobId,
    /// Which attempt [default: the last]
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct WaitArgs {
    /// The job
    id: JobId,
    /// Give up waiting after so long; the job goes on
    #[arg(long, value_name = "DURATION", value_parser = words::parse_duration)]
    timeout: Option<Duration>,
    /// Write the job as JSON instead of its result
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

impl Args {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        match self.command.unwrap_or(Command::List(self.list)) {
            Command::List(args) => list(args).await?,
            Command::Show(args) => show::show(&args.server.client()?, args.id, args.json).await?,
            Command::Log(args) => {
                let log =
                    args.server.client()?.log(args.id, args.attempt.map(AttemptNumber)).await.answered()?;
                write_bytes(&log)?;
            }
            Command::Result(args) => {
                write_bytes(&args.server.client()?.result_bytes(args.id).await.answered()?)?;
            }
            Command::Wait(args) => {
                let client = args.server.client()?;
                return enqueue::wait(&client, args.id, Told::all_so_far(), args.timeout, args.json).await;
            }
            Command::Cancel(args) => return cancel(args).await,
            Command::Retry(args) => return retry::retry(args).await,
            Command::Delete(args) => return delete(args).await,
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn list(args: ListArgs) -> Result<()> {
    let client = args.server.client()?;
    let filter = args.filter.filter(args.limit);
    let page = client.jobs(&filter).await.answered()?;
    if args.json {
        return say_json(&page);
    }
    if page.jobs.is_empty() {
        note(none_of(&client, &filter).await?);
        return Ok(());
    }
    say(table(&page.jobs, words::now()))?;
    if page.next.is_some() {
        note(dim("there are more: use --limit, --state, --queue or --module"));
    }
    Ok(())
}

/// Says that there are no jobs of a kind, and, where it names what is not there, what was likely meant.
async fn none_of(client: &Client, filter: &JobFilter) -> Result<String> {
    if let Some(module) = &filter.module {
        let known = client.modules().await.answered()?.modules;
        if known.iter().all(|known| known.name != *module) {
            return Ok(no_jobs("module", module.as_str(), known.iter().map(|known| known.name.as_str())));
        }
    }
    if let Some(queue) = &filter.queue {
        let known = client.queues().await.answered()?.queues;
        if !known.iter().any(|known| known.name == *queue) {
            return Ok(no_jobs("queue", queue.as_str(), known.iter().map(|queue| queue.name.as_str())));
        }
    }
    Ok("there are no such jobs".to_owned())
}

fn no_jobs<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let hint = nearest(name, known).map(|nearest| format!(": did you mean `{nearest}`?")).unwrap_or_default();
    format!("there is no {what} `{name}`, and there are no jobs of it{hint}")
}

fn table(jobs: &[JobView], now: Timestamp) -> Table {
    let mut table = Table::new(&["ID", "MODULE", "QUEUE", "STATE", ">SPENT", "ENQUEUED", ">RAN", "NOTE"]);
    for job in jobs {
        let ran = job.started_at.map(|started| words::duration(job.ended_at.unwrap_or(now).since(started)));
        let runs_or_ran = job.state == State::Running || job.ended_at.is_some();
        table.row([
            job.id.to_string(),
            job.module.to_string(),
            job.queue.to_string(),
            state(job.state),
            format!("{}/{}", job.spent, job.max_attempts),
            words::relative(job.enqueued_at, now),
            ran.filter(|_| runs_or_ran).unwrap_or_else(|| "-".to_owned()),
            cut(&remark(job, now), NOTE_WIDTH_MAX),
        ]);
    }
    table
}

/// Returns what there is to say about a job beside its state.
fn remark(job: &JobView, now: Timestamp) -> String {
    if let Some(why) = &job.unreadable {
        return format!("its row cannot be read: {why}");
    }
    match job.state {
        State::Running if job.cancelling => "is being cancelled".to_owned(),
        State::Running => match &job.progress {
            Some(progress) if progress.total > 0 => {
                let percent = u128::from(progress.done) * 100 / u128::from(progress.total);
                format!("{percent} % {}", progress.message)
            }
            Some(progress) => progress.message.clone(),
            None => String::new(),
        },
        State::Scheduled => words::relative(job.scheduled_at, now),
        State::Available | State::Retryable | State::Discarded => match &job.failure {
            Some(failure) if job.state == State::Retryable => {
                format!("{}; {}: {}", words::relative(job.scheduled_at, now), failure.cause, failure.message)
            }
            Some(failure) => format!("{}: {}", failure.cause, failure.message),
            None => String::new(),
        },
        State::Completed => {
            job.result_bytes.map(|bytes| format!("result of {}", words::bytes(bytes))).unwrap_or_default()
        }
        State::Pending => job.waits.as_ref().map(|waits| waits.text.clone()).unwrap_or_default(),
        State::Cancelled => match &job.failure {
            Some(failure) if failure.cause == Cause::Unmet => failure.message.clone(),
            _ => String::new(),
        },
    }
}

async fn cancel(args: IdsArgs) -> Result<ExitCode> {
    let client = args.server.client()?;
    let mut code = ExitCode::SUCCESS;
    for id in args.ids {
        match client.cancel(id).await.answered() {
            Ok(job) if job.state.is_ended() => say(format_args!("{id} is {}", state(job.state)))?,
            Ok(_) => say(format_args!("{id} is being cancelled: it ends once its Machine has heard of it"))?,
            Err(error) => {
                midge_cli::output::show_error(&error);
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

async fn delete(args: IdsArgs) -> Result<ExitCode> {
    let client = args.server.client()?;
    let mut code = ExitCode::SUCCESS;
    for id in args.ids {
        match client.delete(id).await.answered() {
            Ok(()) => say(format_args!("{id} is deleted"))?,
            Err(error) => {
                midge_cli::output::show_error(&error);
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    pub(super) fn job(more: Value) -> JobView {
        let mut job = json!({
            "id": JobId::generate(), "module": "hello", "queue": "default", "state": "running", "attempt": 1,
            "spent": 0, "max_attempts": 25, "enqueued_at": "2030-01-01T00:00:00Z",
            "scheduled_at": "2030-01-01T00:00:00Z",
        });
        job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(job).unwrap()
    }

    #[test]
    fn a_job_that_cannot_be_read_is_said_to_be_one() {
        let job = job(json!({"state": "discarded", "unreadable": "it is no JSON"}));
        assert_eq!(remark(&job, words::now()), "its row cannot be read: it is no JSON");
    }

    #[test]
    fn a_name_that_nothing_has_is_told_with_the_nearest() {
        let none = |name| no_jobs("module", name, ["resize", "hello"].into_iter());
        assert_eq!(
            none("resise"),
            "there is no module `resise`, and there are no jobs of it: did you mean `resize`?"
        );
        assert_eq!(none("x"), "there is no module `x`, and there are no jobs of it");
    }

    #[test]
    fn any_progress_can_be_shown() {
        let most = job(json!({"progress": {"done": u64::MAX, "total": 1, "message": "m"}}));
        assert_eq!(remark(&most, words::now()), "1844674407370955161500 % m");
        let half = job(json!({"progress": {"done": 1, "total": 2}}));
        assert_eq!(remark(&half, words::now()), "50 % ");
    }
}
