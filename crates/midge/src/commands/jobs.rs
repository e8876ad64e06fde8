//! `midge jobs`: what became of jobs, and what to do about them.

mod act;
mod filter;
mod pull;
mod show;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use midge_cli::output::{dim, note, say, say_json, say_table, state, write_bytes, write_result};
use midge_cli::table::{Table, first_line};
use midge_cli::words;
use midge_client::{Client, Position};
use midge_protocol::api::{Action, Cursor, JobFilter, JobPage, PAGE_JOBS_MAX};
use midge_protocol::job::{Failure, JobView, MODULE_LACKS, State};
use midge_protocol::{AttemptNumber, JobId, QueueName, Timestamp, shown};

use self::act::{ActArgs, act};
use self::filter::for_people;
pub(super) use self::filter::{FilterArgs, none_of};
use super::enqueue::{self, Told};
use super::follow::{LogTo, follow};
use crate::arguments::{ServerArgs, priority};
use crate::connection::Answered;

/// A server that is restarted while somebody follows is waited for, for about half a minute.
const FOLLOW_TRIES: u32 = 20;
/// How often a server that stops early is asked to go on: over a million jobs, some seconds.
const PAGES_MAX: usize = 250;

/// List jobs, look at one, cancel, retry, delete or move some
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Without a subcommand it lists.

Examples:
  midge jobs                                          the newest jobs
  midge jobs --state running --queue mail --json
  midge jobs --tag customer:42 --since 2h
  midge jobs --state discarded --text 'connection refused'
  midge jobs show 0190b3e4-7d5c-7c3a-9f00-0123456789ab
  midge jobs log -f 0190b3e4-7d5c-7c3a-9f00-0123456789ab      as it comes, until the job ends
  midge jobs result 0190b3e4-7d5c-7c3a-9f00-0123456789ab > result.json
  midge jobs pull 0190b3e4-7d5c-7c3a-9f00-0123456789ab        to run it again here
  midge jobs retry --state discarded --module resize  run what failed for good once more
  midge jobs cancel --tag campaign:7 --dry-run        how many that would be
  midge jobs move slow --queue mail --key acme")]
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
    /// Write what it takes to run a job's last attempt again here into a folder, for `midge replay`
    Pull(pull::PullArgs),
    /// Write the result of a completed job to stdout
    Result(IdArgs),
    /// Wait for a job to end, and write its result to stdout; exits as `midge enqueue --wait` does
    Wait(WaitArgs),
    /// Say how many jobs there are
    Count(CountArgs),
    /// Cancel jobs, whether they wait or run
    Cancel(ActArgs),
    /// Run jobs again that ended, or waiting ones at once
    Retry(ActArgs),
    /// Delete jobs that do not run, with all that belongs to them
    Delete(ActArgs),
    /// Give waiting jobs another priority
    Priority(PriorityArgs),
    /// Put waiting jobs into another queue
    Move(MoveArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// How many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = words::whole::<u32>(1..=i64::from(PAGE_JOBS_MAX)))]
    limit: u32,
    /// Only jobs after this point of the list: the `next` of the page before
    #[arg(long, value_name = "NEXT")]
    before: Option<Cursor>,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct CountArgs {
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct IdArgs {
    /// The job
    id: JobId,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct PriorityArgs {
    /// The new priority, from -100 to 100; smaller first
    #[arg(allow_hyphen_values = true, value_parser = priority)]
    priority: i8,
    #[command(flatten)]
    act: ActArgs,
}

#[derive(Debug, clap::Args)]
struct MoveArgs {
    /// The queue to wait in
    queue_name: QueueName,
    #[command(flatten)]
    act: ActArgs,
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
    #[arg(long, value_name = "N", value_parser = words::whole::<u32>(1..=i64::from(u32::MAX)))]
    attempt: Option<u32>,
    /// Go on with what comes, over all attempts, until the job has ended
    #[arg(long, short)]
    follow: bool,
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
            Command::Log(args) if args.follow => follow_log(args).await?,
            Command::Log(args) => {
                let log =
                    args.server.client()?.log(args.id, args.attempt.map(AttemptNumber)).await.answered()?;
                write_bytes(&log)?;
            }
            Command::Pull(args) => pull::pull(args).await?,
            Command::Result(args) => {
                write_result(&args.server.client()?.result_bytes(args.id).await.answered()?)?;
            }
            Command::Wait(args) => {
                let client = args.server.client()?;
                return enqueue::wait(&client, args.id, Told::all_so_far(), args.timeout, args.json).await;
            }
            Command::Count(args) => {
                let count = args.server.client()?.count_jobs(&args.filter.filter()).await.answered()?;
                if args.json { say_json(&count)? } else { say(count)? }
            }
            Command::Cancel(args) => return act(Action::Cancel, args).await,
            Command::Retry(args) => return act(Action::Retry, args).await,
            Command::Delete(args) => return act(Action::Delete, args).await,
            Command::Priority(args) => return act(Action::Priority(args.priority), args.act).await,
            Command::Move(args) => return act(Action::Move(args.queue_name), args.act).await,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes a log as it comes, from the last attempt on or from the one that was named.
async fn follow_log(args: LogArgs) -> Result<()> {
    let client = args.server.client()?;
    let job = client.wait(args.id, Some(Duration::ZERO)).await.answered()?;
    if let Some(waits) = &job.waits {
        note(dim(format_args!("{} waits: {}", job.module, shown::line(&waits.text))));
    }
    let from = Position::before(args.attempt.map_or(job.attempt, AttemptNumber));
    let job = follow(&client.tries(FOLLOW_TRIES), args.id, from, LogTo::Stdout).await?;
    let why = job.ended_by().map(|failure| format!(": {}: {}", failure.cause, failure.message));
    note(dim(format_args!("{} is {}{}", job.module, job.state, shown::line(&why.unwrap_or_default()))));
    Ok(())
}

async fn list(args: ListArgs) -> Result<()> {
    let client = args.server.client()?;
    let filter =
        JobFilter { limit: Some(args.limit), before: args.before, ..for_people(args.filter.filter()) };
    let page = pages(&client, &filter).await?;
    if args.json {
        return say_json(&page);
    }
    if page.jobs.is_empty() && !page.stopped_early && args.before.is_some() {
        note("no more jobs");
        return Ok(());
    }
    if page.jobs.is_empty() && !page.stopped_early {
        note(none_of(&client, &filter).await?);
        return Ok(());
    }
    if !page.jobs.is_empty() {
        say_table(table(&page.jobs, words::now()))?;
    }
    if page.stopped_early {
        note(dim("looked at many jobs and stopped: there may be more, so say more of those that are meant"));
    } else if let Some(next) = page.next {
        note(dim(format_args!("there are more: --before={next}")));
    }
    Ok(())
}

/// Returns as many jobs as are asked for, in one page. Where the server stops early, it is asked to go on.
async fn pages(client: &Client, filter: &JobFilter) -> Result<JobPage> {
    let mut page = client.jobs(filter).await.answered()?;
    let wanted = filter.page_len().unwrap_or_default();
    for _ in 1..PAGES_MAX {
        if !page.stopped_early || page.jobs.len() >= wanted {
            break;
        }
        let limit = u32::try_from(wanted - page.jobs.len()).ok();
        let rest = JobFilter { before: page.next, limit, ..filter.clone() };
        let JobPage { jobs, next, stopped_early } = client.jobs(&rest).await.answered()?;
        page.jobs.extend(jobs);
        (page.next, page.stopped_early) = (next, stopped_early);
    }
    Ok(page)
}

/// Returns jobs as a table.
pub(super) fn table(jobs: &[JobView], now: Timestamp) -> Table {
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
            first_line(&remark(job, now)),
        ]);
    }
    table
}

/// Returns why a job waits.
fn why_it_waits(job: &JobView) -> String {
    job.waits.as_ref().map(|waits| waits.text.clone()).unwrap_or_default()
}

/// Returns the words of a failure that matter first: of a Rust panic its message, without thread and place.
fn gist(message: &str) -> &str {
    let thread = message.strip_prefix("thread '").and_then(|rest| rest.split_once("panicked at "));
    let panic = thread.map(|(_, place)| place).or_else(|| message.strip_prefix("panicked at "));
    panic.and_then(|place| place.split_once(": ")).map_or(message, |(_, said)| said)
}

/// Returns a failure in a few words.
fn said(failure: &Failure) -> String {
    format!("{}: {}", failure.cause, gist(&failure.message))
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
        State::Retryable => {
            let when = words::relative(job.scheduled_at, now);
            job.failure.as_ref().map_or(when.clone(), |failure| format!("{when}; {}", said(failure)))
        }
        // What it was given back for is what it waits for.
        State::Available if job.waits.as_ref().is_some_and(|waits| waits.code == MODULE_LACKS) => {
            why_it_waits(job)
        }
        State::Available => match (why_it_waits(job), &job.failure) {
            (why, Some(failure)) if why.is_empty() => format!("failed before: {}", said(failure)),
            (why, Some(failure)) => format!("{why}; failed before: {}", said(failure)),
            (why, None) => why,
        },
        State::Discarded => job.ended_by().map(said).unwrap_or_default(),
        State::Completed => {
            job.result_bytes.map(|bytes| format!("result of {}", words::bytes(bytes))).unwrap_or_default()
        }
        State::Pending => why_it_waits(job),
        State::Cancelled => job.ended_by().map(|failure| failure.message.clone()).unwrap_or_default(),
    }
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
    fn a_job_that_is_due_is_shown_with_why_it_waits_where_it_did_not_fail() {
        let waits =
            json!({"code": "module_not_served", "text": "no module of this name is served now: add it"});
        let due = job(json!({"state": "available", "waits": waits}));
        assert_eq!(remark(&due, words::now()), "no module of this name is served now: add it");
    }

    #[test]
    fn what_an_earlier_attempt_failed_of_is_not_said_of_a_job_as_if_it_were_now() {
        let failure = json!({"cause": "exit", "message": "no luck"});
        let of = |state: &str, more: Value| {
            let mut job = json!({"state": state, "failure": failure});
            job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            remark(&self::job(job), words::now())
        };
        let waits = json!({"waits": {"code": "machine_starts", "text": "a Machine starts"}});
        assert_eq!(of("available", waits), "a Machine starts; failed before: exit: no luck");
        assert_eq!(of("available", json!({})), "failed before: exit: no luck");
        let lacks = json!({"waits": {"code": "module_lacks", "text": "Machines lack a secret"}});
        assert_eq!(of("available", lacks), "Machines lack a secret", "it is not said twice");
        assert_eq!(of("discarded", json!({})), "exit: no luck");
        assert!(of("retryable", json!({})).ends_with("; exit: no luck"));
        assert_eq!(of("cancelled", json!({})), "");
        let unmet = json!({"failure": {"cause": "unmet", "message": "job x was discarded"}});
        assert_eq!(of("cancelled", unmet), "job x was discarded");
    }

    #[test]
    fn a_panic_is_told_by_its_message() {
        assert_eq!(
            gist("thread 'main' (1) panicked at src/main.rs:3:5: no such width: 0"),
            "no such width: 0"
        );
        assert_eq!(gist("panicked at src/main.rs:3:5: no such width: 0"), "no such width: 0");
        assert_eq!(gist("exited with 3: no"), "exited with 3: no");
    }

    #[test]
    fn any_progress_can_be_shown() {
        let most = job(json!({"progress": {"done": u64::MAX, "total": 1, "message": "m"}}));
        assert_eq!(remark(&most, words::now()), "1844674407370955161500 % m");
        let half = job(json!({"progress": {"done": 1, "total": 2}}));
        assert_eq!(remark(&half, words::now()), "50 % ");
    }
}
