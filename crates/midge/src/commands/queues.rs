//! `midge queues`: the queues of a server.

mod settings;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use midge_cli::output::{say, say_json, say_table};
use midge_cli::table::Table;
use midge_cli::words;
use midge_protocol::api::QueueView;
use midge_protocol::job::State;
use midge_protocol::{QueueName, shown};

use super::pause::{Pausing, Waiting, paused, resumed, said};
use crate::arguments::ServerArgs;
use crate::connection::{Answered, no_such};

/// List the queues, pause one, and change how its Machines are while the server runs
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Without a subcommand it lists: jobs in each state, the longest wait, Machines, and why jobs
do not start.

Examples:
  midge queues
  midge queues --json | jq '.queues[] | {name, waiting: .jobs.available}'
  midge queues pause mail --reason 'the mail API is down' --for 30m
  midge queues pause mail --wait         come back when nothing of it runs any more
  midge queues resume mail
  midge queues set mail max_machines=8 ready_machines=2 --reason 'the newsletter'
  midge queues unset mail                as midge.toml says again
  midge queues changes mail              who changed what, and when")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the queues
    List(ListArgs),
    /// Have a queue start nothing: what runs ends, and its Machines go
    Pause(PauseArgs),
    /// Have a paused queue go on
    Resume(ResumeArgs),
    /// Change settings of a queue, at once and until they are unset, over restarts and deploys
    Set(settings::SetArgs),
    /// Have settings of a queue be as midge.toml says again
    Unset(settings::UnsetArgs),
    /// List who changed which settings of a queue, newest first
    Changes(settings::ChangesArgs),
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
struct PauseArgs {
    /// The queue
    name: QueueName,
    #[command(flatten)]
    pausing: Pausing,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct ResumeArgs {
    /// The queue
    name: QueueName,
    #[command(flatten)]
    server: ServerArgs,
}

impl Args {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        match self.command.unwrap_or(Command::List(self.list)) {
            Command::List(args) => list(args).await?,
            Command::Pause(args) => return pause(args).await,
            Command::Resume(args) => resume(args).await?,
            Command::Set(args) => settings::set(args).await?,
            Command::Unset(args) => settings::unset(args).await?,
            Command::Changes(args) => settings::changes(args).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn list(args: ListArgs) -> Result<()> {
    let queues = args.server.client()?.queues().await.answered()?;
    if args.json {
        return say_json(&queues);
    }
    say_table(table(&queues.queues))?;
    for queue in &queues.queues {
        if !queue.declared {
            say(format_args!(
                "{} is not declared: its jobs run by the default policy, without limits",
                queue.name
            ))?;
        }
        for setting in &queue.set {
            say(format_args!("{}: {}", queue.name, settings::in_words(setting)))?;
        }
        if let Some(waits) = &queue.waits {
            let hint = if waits.code == "jobs_are_held" { " (`midge modules` says which)" } else { "" };
            say(format_args!("{} waits: {}{hint}", queue.name, shown::line(&waits.text)))?;
        } else if let Some(pause) = &queue.pause {
            say(format_args!("{} is {}", queue.name, paused(pause)))?;
        }
        if let Some(budget) = queue.budget.as_ref().filter(|budget| budget.warns) {
            say(format_args!("{}: {budget}", queue.name))?;
        }
    }
    Ok(())
}

async fn pause(args: PauseArgs) -> Result<ExitCode> {
    let client = args.server.client()?;
    let pause = client.pause_queue(&args.name, &args.pausing.request()).await.answered()?;
    say(said(&args.name, &pause, &format!("midge queues resume {}", args.name)))?;
    let look = async || {
        let queues = client.queues().await.answered()?.queues;
        let queue = queues.iter().find(|queue| queue.name == args.name);
        Ok(queue.and_then(|queue| queue.jobs.get(&State::Running)).copied().unwrap_or(0))
    };
    args.waiting.until_none_runs(&args.name, look).await
}

async fn resume(args: ResumeArgs) -> Result<()> {
    let client = args.server.client()?;
    let queues = client.queues().await.answered()?.queues;
    let Some(queue) = queues.iter().find(|queue| queue.name == args.name) else {
        let known = queues.iter().map(|queue| queue.name.as_str());
        return Err(no_such("queue", args.name.as_str(), known, "midge queues"));
    };
    client.resume_queue(&args.name).await.answered()?;
    say(resumed(&args.name, queue.pause.as_ref()))
}

fn table(queues: &[QueueView]) -> Table {
    let mut table = Table::new(&[
        "QUEUE",
        ">AVAILABLE",
        ">RUNNING",
        ">PENDING",
        ">SCHEDULED",
        ">RETRYABLE",
        ">COMPLETED",
        ">CANCELLED",
        ">DISCARDED",
        ">OLDEST WAITS",
        ">MACHINES",
    ]);
    for queue in queues {
        let jobs = |state| queue.jobs.get(&state).copied().unwrap_or(0).to_string();
        let oldest = match queue.oldest_waits_ms {
            Some(millis) => words::duration(Duration::from_millis(millis)),
            None if queue.all_due_are_held() => "held".to_owned(),
            None => "-".to_owned(),
        };
        table.row([
            queue.name.to_string(),
            jobs(State::Available),
            jobs(State::Running),
            jobs(State::Pending),
            jobs(State::Scheduled),
            jobs(State::Retryable),
            jobs(State::Completed),
            jobs(State::Cancelled),
            jobs(State::Discarded),
            oldest,
            match &queue.policy.pool {
                Some(pool) => format!("{} of {} ({pool})", queue.machines, queue.policy.max_machines),
                None => format!("{} of {}", queue.machines, queue.policy.max_machines),
            },
        ]);
    }
    table
}
