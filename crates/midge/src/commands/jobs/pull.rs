//! `midge jobs pull`: writes what it takes to run a job's last attempt again here.

use std::path::PathBuf;

use anyhow::Result;
use midge_cli::output::{note, path, say};
use midge_protocol::job::State;
use midge_protocol::{JobId, shown};

use crate::arguments::ServerArgs;
use crate::commands::pulled::Pulled;
use crate::connection::Answered;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The attempt is the one that was recorded, else the last that ended. Written are its args, input and
saved state, what is known of its module, and, where its queue says `record = true` and it failed,
what the world told it: clock, randomness and the answers to its requests. No secret is in it, and
of env only the names; but what the job was given and told is, so mind who can read the folder.

Examples:
  midge jobs pull 0190b3e4-7d5c-7c3a-9f00-0123456789ab
  midge jobs pull 0190b3e4-7d5c-7c3a-9f00-0123456789ab --to failed
  midge replay failed")]
pub(super) struct PullArgs {
    /// The job
    id: JobId,
    /// The folder to write into: a new one, or one that is empty [default: job-ID]
    #[arg(long, value_name = "FOLDER")]
    to: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn pull(args: PullArgs) -> Result<()> {
    let client = args.server.client()?;
    let modules = client.modules().await.answered()?;
    let pulled = Pulled::ask(&client, args.id, &modules).await?;
    let folder = args.to.unwrap_or_else(|| format!("job-{}", args.id).into());
    for name in pulled.write(&folder)? {
        say(path(&folder.join(name)))?;
    }
    let about = &pulled.about;
    if let Some(failure) = &about.failure {
        let said = shown::line(&failure.message);
        note(format_args!("{} {} failed: {}: {said}", about.module, about.which(), failure.cause));
    }
    if pulled.recording.is_none() && about.state == State::Completed {
        note("there is no recording: only attempts that fail have one");
    } else if pulled.recording.is_none() {
        note("it was not recorded: a queue says `record = true` for that, before its jobs run");
    }
    note(format_args!("run it again with `midge replay {}`", path(&folder)));
    Ok(())
}
