//! `midge jobs cancel`, `retry`, `delete`, `priority` and `move`: of some jobs by id, or of all that fit a filter.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::Result;
use futures_util::StreamExt;
use midge_cli::output::{say, show_error, state};
use midge_cli::progress;
use midge_client::{Client, ClientError};
use midge_protocol::api::{Action, SweepRequest};
use midge_protocol::{JobId, ModuleName};

use super::filter::FilterArgs;
use crate::arguments::ServerArgs;
use crate::commands::builds;
use crate::commands::sweeps::{self, SweepFlags};
use crate::connection::Answered;

/// Calls that are on their way at once.
const CALLS_MAX: usize = 16;

/// The jobs to which something is done.
#[derive(Debug, clap::Args)]
pub(super) struct ActArgs {
    /// The jobs
    #[arg(
        required_unless_present_any = ["FilterArgs", "all", "dry_run"],
        conflicts_with_all = ["FilterArgs", "SweepFlags"]
    )]
    ids: Vec<JobId>,
    #[command(flatten)]
    sweep: SweepFlags,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    server: ServerArgs,
}

/// Does it, and returns what to exit with.
pub(super) async fn act(action: Action, args: ActArgs) -> Result<ExitCode> {
    let client = args.server.client()?;
    if !args.ids.is_empty() {
        return to_each(&client, &action, &args.ids).await;
    }
    let SweepFlags { all, dry_run, json } = args.sweep;
    let request = SweepRequest { action, filter: args.filter.filter(), dry_run, all };
    sweeps::sweep(&client, request, json).await
}

async fn to_each(client: &Client, action: &Action, ids: &[JobId]) -> Result<ExitCode> {
    let bar = progress::bar(ids.len() as u64, "jobs");
    let mut calls = futures_util::stream::iter(ids)
        .map(|id| async move { (id, to_one(client, action, *id).await.answered()) })
        .buffered(CALLS_MAX);
    let (mut code, mut retried) = (ExitCode::SUCCESS, BTreeSet::new());
    while let Some((id, answer)) = calls.next().await {
        bar.inc(1);
        match answer {
            Ok((is, module)) => {
                progress::above(|| say(format_args!("{id} {is}")))?;
                retried.extend(module);
            }
            Err(error) => {
                show_error(&error);
                code = ExitCode::FAILURE;
            }
        }
    }
    bar.finish_and_clear();
    if !retried.is_empty() {
        builds::tell_of_others(client, &retried).await;
    }
    Ok(code)
}

/// Does it to one job, and returns what became of it, in words, and which module is to run again for it.
async fn to_one(
    client: &Client,
    action: &Action,
    id: JobId,
) -> Result<(String, Option<ModuleName>), ClientError> {
    let is = match action {
        Action::Cancel => {
            let job = client.cancel(id).await?;
            match job.state.is_ended() {
                true => format!("is {}", state(job.state)),
                false => "is being cancelled: it ends once its Machine has heard of it".to_owned(),
            }
        }
        Action::Retry => {
            let job = client.retry(id).await?;
            return Ok((format!("is {}", state(job.state)), Some(job.module)));
        }
        Action::Delete => {
            client.delete(id).await?;
            "is deleted".to_owned()
        }
        Action::Priority(priority) => {
            let job = client.set_priority(id, *priority).await?;
            format!("is {} with priority {}", state(job.state), job.priority)
        }
        Action::Move(queue) => {
            let job = client.move_job(id, queue).await?;
            format!("is {} in queue {}", state(job.state), job.queue)
        }
    };
    Ok((is, None))
}
