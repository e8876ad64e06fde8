//! `midge batches`: groups of jobs, and what to do about them.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use midge_cli::output::{dim, note, say, say_json, say_table};
use midge_cli::table::{Table, cut};
use midge_cli::words;
use midge_client::{Client, EnqueueRequest};
use midge_protocol::api::{BatchEvent, BatchFilter, BatchRequest, BatchView, PAGE_JOBS_MAX};
use midge_protocol::job::{Cause, JobView, State};
use midge_protocol::{BatchId, JobId, ModuleName, Timestamp, shown};

use crate::arguments::ServerArgs;
use crate::connection::Answered;

/// The width of a name in the table; `midge batches show` has all of it.
const NAME_WIDTH_MAX: usize = 40;

/// List batches of jobs, look at one, make, close or cancel some
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Without a subcommand it lists. A batch ends when it is closed and all of its jobs have ended.

Examples:
  ID=$(midge batches new --name import --on-completed report --on-failure '{\"module\": \"mail\", \"args\": \"ops\"}')
  midge enqueue --jsonl rows.jsonl --batch $ID && midge batches close $ID
  midge batches show $ID
  midge jobs --batch $ID --state discarded                   those of its jobs that failed for good
  midge batches cancel $ID")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List batches, newest first
    List(ListArgs),
    /// Show a batch: how many of its jobs are in which state, and its callbacks
    Show(ShowArgs),
    /// Make a batch, which is open, and write its id to stdout
    New(Box<NewArgs>),
    /// Close a batch: no job can be added, and it ends when all of its jobs have
    Close(IdArgs),
    /// Close a batch and cancel its jobs
    Cancel(IdArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = words::whole::<u32>(1..=i64::from(PAGE_JOBS_MAX)))]
    limit: u32,
    /// Only those whose id sorts before this one
    #[arg(long, value_name = "ID")]
    before: Option<BatchId>,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// The batch
    id: BatchId,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct NewArgs {
    /// What it is, for people
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    /// A job to run when all of its jobs have completed: a module, or JSON as for `enqueue --jsonl`
    #[arg(long, value_name = "JOB", value_parser = parse_job)]
    on_completed: Option<EnqueueRequest>,
    /// A job to run when all of its jobs have ended, whatever became of them
    #[arg(long, value_name = "JOB", value_parser = parse_job)]
    on_ended: Option<EnqueueRequest>,
    /// A job to run when the first of its jobs is discarded
    #[arg(long, value_name = "JOB", value_parser = parse_job)]
    on_failure: Option<EnqueueRequest>,
    /// The batch's id, a UUID: making the same again is then the same batch
    #[arg(long)]
    id: Option<BatchId>,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct IdArgs {
    /// The batch
    id: BatchId,
    #[command(flatten)]
    server: ServerArgs,
}

impl Args {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        match self.command {
            None => list(self.list).await?,
            Some(Command::List(args)) => list(args).await?,
            Some(Command::Show(args)) => {
                let client = args.server.client()?;
                let batch = client.batch(args.id).await.answered()?;
                if args.json {
                    say_json(&batch)?;
                } else {
                    let mut callbacks = BTreeMap::new();
                    for job in batch.callbacks.values() {
                        callbacks.extend(callback(&client, *job).await?.map(|callback| (*job, callback)));
                    }
                    for (name, value) in facts(&batch, &callbacks, words::now()) {
                        say(format_args!("{} {value}", dim(format_args!("{name:<12}"))))?;
                    }
                }
            }
            Some(Command::New(args)) => new(*args).await?,
            Some(Command::Close(args)) => {
                let batch = args.server.client()?.close_batch(args.id).await.answered()?;
                say(became(&batch))?;
            }
            Some(Command::Cancel(args)) => {
                let batch = args.server.client()?.cancel_batch(args.id).await.answered()?;
                say(became(&batch))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn new(args: NewArgs) -> Result<()> {
    let client = args.server.client()?;
    let mut request = BatchRequest::new(args.name);
    request.id = args.id.unwrap_or(request.id);
    request.on_completed = args.on_completed.map(Box::new);
    request.on_ended = args.on_ended.map(Box::new);
    request.on_failure = args.on_failure.map(Box::new);
    let made = client.make_batch(&request).await.answered()?;
    if args.json { say_json(&made) } else { say(made.id) }
}

async fn list(args: ListArgs) -> Result<()> {
    let client = args.server.client()?;
    let filter = BatchFilter { before: args.before, limit: Some(args.limit) };
    let page = client.batches(&filter).await.answered()?;
    if args.json {
        return say_json(&page);
    }
    if page.batches.is_empty() {
        note("no batches");
        return Ok(());
    }
    say_table(table(&page.batches, words::now()))?;
    if let Some(next) = page.next {
        note(dim(format_args!("`midge batches --before {next}` lists older ones")));
    }
    Ok(())
}

fn became(batch: &BatchView) -> String {
    let left = words::count(usize::try_from(batch.jobs.unended()).unwrap_or(usize::MAX), "job");
    match (batch.ended_at, batch.cancelled) {
        (Some(_), _) => format!("{} has ended", batch.id),
        (None, true) => format!("{} is being cancelled: {left} did not end yet", batch.id),
        (None, false) => format!("{} is {}: {left} did not end yet", batch.id, batch.state),
    }
}

fn table(batches: &[BatchView], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        "BATCH",
        "NAME",
        "STATE",
        ">JOBS",
        ">WAITING",
        ">RUNNING",
        ">COMPLETED",
        ">DISCARDED",
        ">CANCELLED",
        "MADE",
    ]);
    for batch in batches {
        let jobs = &batch.jobs;
        table.row([
            batch.id.to_string(),
            cut(&batch.name, NAME_WIDTH_MAX),
            state(batch),
            batch.total.to_string(),
            (jobs.waiting + jobs.pending).to_string(),
            jobs.running.to_string(),
            jobs.completed.to_string(),
            jobs.discarded.to_string(),
            jobs.cancelled.to_string(),
            words::relative(batch.created_at, now),
        ]);
    }
    table
}

fn state(batch: &BatchView) -> String {
    format!("{}{}", batch.state, if batch.cancelled { ", cancelled" } else { "" })
}

/// Looks at the job that is a callback; nothing where it is deleted.
async fn callback(client: &Client, job: JobId) -> Result<Option<JobView>> {
    match client.wait(job, Some(Duration::ZERO)).await {
        Err(error) if error.code() == Some("no_such_job") => Ok(None),
        answer => Ok(Some(answer.answered()?)),
    }
}

/// Says whether a callback was called, and what became of its job.
fn called(job: JobId, callback: Option<&JobView>) -> String {
    let Some(callback) = callback else { return format!("{job}, which is deleted") };
    let is_unmet = callback.failure.as_ref().is_some_and(|failure| failure.cause == Cause::Unmet);
    match callback.state {
        State::Pending => format!("{job}, not called yet"),
        State::Cancelled if is_unmet => format!("{job}, not called: its time did not come"),
        state => format!("{job}, called: it is {state}"),
    }
}

fn facts(
    batch: &BatchView,
    callbacks: &BTreeMap<JobId, JobView>,
    now: Timestamp,
) -> Vec<(&'static str, String)> {
    let time = |at: Timestamp| format!("{at} ({})", words::relative(at, now));
    let mut facts = vec![("batch", batch.id.to_string())];
    if !batch.name.is_empty() {
        facts.push(("name", shown::line(&batch.name).into_owned()));
    }
    let is_open = batch.closed_at.is_none() && !batch.cancelled;
    let waits = if is_open { ": it ends when it is closed, by `midge batches close`" } else { "" };
    facts.push(("state", format!("{}{waits}", state(batch))));
    let jobs = &batch.jobs;
    let numbers = [
        (jobs.pending, "pending"),
        (jobs.waiting, "waiting"),
        (jobs.running, "running"),
        (jobs.completed, "completed"),
        (jobs.discarded, "discarded"),
        (jobs.cancelled, "cancelled"),
    ];
    let numbers = numbers.iter().filter(|(number, _)| *number > 0);
    let numbers: Vec<String> = numbers.map(|(number, state)| format!("{number} {state}")).collect();
    let numbers = if numbers.is_empty() { String::new() } else { format!(": {}", numbers.join(", ")) };
    facts.push(("jobs", format!("{}{numbers}", batch.total)));
    facts.push(("made", time(batch.created_at)));
    facts.extend(batch.closed_at.map(|at| ("closed", time(at))));
    facts.extend(batch.failed_at.map(|at| ("failed", time(at))));
    facts.extend(batch.ended_at.map(|at| ("ended", time(at))));
    for when in BatchEvent::ALL {
        let callback = batch.callbacks.get(&when);
        facts.extend(callback.map(|job| (when.field(), called(*job, callbacks.get(job)))));
    }
    facts
}

/// Reads a job: the name of a module, or a request in JSON.
fn parse_job(text: &str) -> Result<EnqueueRequest, String> {
    if let Ok(module) = text.parse::<ModuleName>() {
        return Ok(EnqueueRequest::new(module));
    }
    midge_server::read_json(text.as_bytes())
        .map_err(|error| format!("use a module or a job such as {{\"module\": \"hello\"}}: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn batch(more: serde_json::Value) -> BatchView {
        let mut batch = json!({
            "id": "0190b3e4-7d5c-7c3a-9f00-0123456789ab", "state": "open", "jobs": {}, "total": 0,
            "created_at": "2030-01-01T00:00:00Z",
        });
        batch.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(batch).unwrap()
    }

    #[test]
    fn a_batch_is_shown_with_what_there_is_of_it() {
        let job = "0190b3e4-7d5c-7c3a-9f00-0123456789ac";
        let jobs = json!({"completed": 2, "discarded": 1});
        let more = json!({"jobs": jobs, "total": 3, "callbacks": {"ended": job}, "name": "a\u{1b}b"});
        let facts = facts(&batch(more), &BTreeMap::new(), words::now());
        let fact = |name| facts.iter().find(|(fact, _)| *fact == name).unwrap().1.as_str();
        assert_eq!(fact("jobs"), "3: 2 completed, 1 discarded");
        let deleted = format!("{job}, which is deleted");
        assert_eq!((fact("on_ended"), fact("name")), (&*deleted, "a\u{fffd}b"));
        assert!(facts.iter().all(|(fact, _)| *fact != "closed"));
    }

    #[test]
    fn a_callback_is_shown_with_whether_it_was_called() {
        let said = |state: &str, cause: Option<&str>| {
            let mut job = json!({
                "id": "0190b3e4-7d5c-7c3a-9f00-0123456789ac", "module": "mail", "queue": "default", "state": state,
                "attempt": 0, "spent": 0, "max_attempts": 25, "enqueued_at": "2030-01-01T00:00:00Z",
                "scheduled_at": "2030-01-01T00:00:00Z",
            });
            if let Some(cause) = cause {
                job["failure"] = json!({"cause": cause, "message": ""});
            }
            let job: JobView = serde_json::from_value(job).unwrap();
            called(job.id, Some(&job)).split_once(", ").unwrap().1.to_owned()
        };
        assert_eq!(said("pending", None), "not called yet");
        assert_eq!(said("completed", None), "called: it is completed");
        assert_eq!(said("cancelled", Some("unmet")), "not called: its time did not come");
        assert_eq!(said("cancelled", Some("trap")), "called: it is cancelled");
    }

    #[test]
    fn a_callback_is_a_module_or_a_job() {
        assert_eq!(parse_job("report").unwrap().module.as_str(), "report");
        let job = parse_job(r#"{"module": "mail", "args": "ops", "priority": -1}"#).unwrap();
        assert_eq!((job.args.get(), job.priority), ("\"ops\"", -1));
        let error = parse_job(r#"{"arg": 1}"#).unwrap_err();
        assert!(error.contains("unknown field `arg`: did you mean `args`? at line 1 column 6"), "{error}");
        let error = parse_job("[]").unwrap_err();
        assert!(error.ends_with(": it must be an object, not a list"), "{error}");
    }

    #[test]
    fn what_became_of_a_batch_is_said() {
        let closed = batch(json!({"state": "closed", "jobs": {"running": 1, "waiting": 2}}));
        assert!(became(&closed).ends_with("is closed: 3 jobs did not end yet"));
        let ended = batch(json!({"state": "ended", "ended_at": "2030-01-01T00:00:00Z"}));
        assert!(became(&ended).ends_with("has ended"));
    }
}
