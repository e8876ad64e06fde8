//! The runtimes on which subcommands do their work.

use std::future::Future;
use std::process::ExitCode;

use anyhow::{Context, Result};

/// Runs work that serves others, on a thread for each CPU, and returns what came of it.
pub fn serving<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("cannot start threads")?;
    let answer = runtime.block_on(work);
    // A build that somebody has had enough of is not waited for.
    runtime.shutdown_background();
    answer
}

/// Runs work that calls a server and waits, on this thread, and returns what came of it.
pub fn calling(work: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let answer = runtime.block_on(work);
    runtime.shutdown_background();
    answer
}
