//! `midge queues`: the queues of a server.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use midge_cli::output::{say, say_json};
use midge_cli::table::Table;
use midge_cli::words;
use midge_protocol::api::QueueView;
use midge_protocol::job::State;

use crate::arguments::ServerArgs;
use crate::connection::Answered;

/// List the queues: jobs in each state, the longest wait, Machines, and why jobs do not start
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  midge queues
  midge queues --json | jq '.queues[] | {name, waiting: .jobs.available}'")]
pub(crate) struct Args {
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

impl Args {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let queues = self.server.client()?.queues().await.answered()?;
        if self.json {
            say_json(&queues)?;
        } else {
            say(table(&queues.queues))?;
            for (queue, waits) in queues.queues.iter().filter_map(|q| Some((&q.name, q.waits.as_ref()?))) {
                say(format_args!("{queue} waits: {}", waits.text))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn table(queues: &[QueueView]) -> Table {
    let mut table = Table::new(&[
        "QUEUE",
        ">AVAILABLE",
        ">RUNNING",
        ">SCHEDULED",
        ">RETRYABLE",
        ">COMPLETED",
        ">DISCARDED",
        ">OLDEST WAITS",
        ">MACHINES",
    ]);
    for queue in queues {
        let jobs = |state| queue.jobs.get(&state).copied().unwrap_or(0).to_string();
        let oldest = queue.oldest_waits_ms.map(|ms| words::duration(Duration::from_millis(ms)));
        table.row([
            queue.name.to_string(),
            jobs(State::Available),
            jobs(State::Running),
            jobs(State::Scheduled),
            jobs(State::Retryable),
            jobs(State::Completed),
            jobs(State::Discarded),
            oldest.unwrap_or_else(|| "-".to_owned()),
            format!("{} of {}", queue.machines, queue.policy.max_machines),
        ]);
    }
    table
}
