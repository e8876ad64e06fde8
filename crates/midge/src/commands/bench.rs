//! `midge bench`: measures what midge promises, on this computer. All of it is in the crate `midge-bench`.

use std::process::ExitCode;

use anyhow::Result;
pub(crate) use midge_bench::Args;

use super::start_log;

/// Does what was asked for, and returns what the process is to exit with.
pub(crate) fn run(args: Args) -> Result<ExitCode> {
    start_log("warn")?;
    args.run()
}
