//! `midge jobs retry`: some jobs by id, or all of a kind.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use futures_util::StreamExt;
use midge_cli::output::{note, say, show_error, state};
use midge_cli::progress;
use midge_cli::words;
use midge_client::Client;
use midge_protocol::JobId;
use midge_protocol::api::{JobFilter, PAGE_JOBS_MAX};

use super::{FilterArgs, none_of};
use crate::arguments::ServerArgs;
use crate::connection::Answered;

/// Calls that are on their way at once.
const CALLS_MAX: usize = 16;

/// Run jobs again that ended, or waiting ones at once
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  midge jobs retry 0190b3e4-7d5c-7c3a-9f00-0123456789ab
  midge jobs retry --state discarded --module resize")]
pub(super) struct Args {
    /// The jobs
    #[arg(required_unless_present_any = ["state", "queue", "module"], conflicts_with_all = ["state", "queue", "module"])]
    ids: Vec<JobId>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn retry(args: Args) -> Result<ExitCode> {
    ensure!(
        !args.ids.is_empty() || args.filter.state.is_some(),
        "say in which state the jobs are that are to be retried, such as --state discarded"
    );
    let client = args.server.client()?;
    let by_filter = args.ids.is_empty();
    let filter = args.filter.filter(PAGE_JOBS_MAX);
    let ids = if by_filter { all(&client, filter.clone()).await? } else { args.ids };
    if ids.is_empty() {
        note(none_of(&client, &filter).await?);
        return Ok(ExitCode::SUCCESS);
    }
    let bar = progress::bar(ids.len() as u64, "jobs");
    let client = &client;
    let mut calls = futures_util::stream::iter(&ids)
        .map(|id| async move { (id, client.retry(*id).await.answered()) })
        .buffered(CALLS_MAX);
    let mut failed = 0;
    while let Some((id, answer)) = calls.next().await {
        bar.inc(1);
        match answer {
            Ok(job) => progress::above(|| say(format_args!("{id} is {}", state(job.state))))?,
            Err(error) => {
                failed += 1;
                show_error(&error);
            }
        }
    }
    bar.finish_and_clear();
    if by_filter {
        note(format_args!("retried {}", words::count(ids.len() - failed, "job")));
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns all jobs of a kind. They are found before the first is retried, since it is then of another kind.
async fn all(client: &Client, mut filter: JobFilter) -> Result<Vec<JobId>> {
    let mut ids = Vec::new();
    loop {
        let page = client.jobs(&filter).await.answered()?;
        ids.extend(page.jobs.iter().map(|job| job.id));
        filter.before = page.next;
        if filter.before.is_none() {
            return Ok(ids);
        }
    }
}
