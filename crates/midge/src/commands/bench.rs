//! `midge bench`: measures what midge promises, on this computer. All of it is in the crate `midge-bench`, which is
//! there with the cargo feature `bench`.

use std::process::ExitCode;

use anyhow::Result;

/// The arguments of `midge bench`.
#[cfg(feature = "bench")]
pub(crate) type Args = midge_bench::Args;

/// Measures what was asked for, and returns what the process is to exit with.
#[cfg(feature = "bench")]
pub(crate) fn run(args: Args) -> Result<ExitCode> {
    super::start_log("warn")?;
    args.run()
}

/// Measure boot latency, dispatch, throughput and memory on this computer (left out of this midge)
#[cfg(not(feature = "bench"))]
#[derive(Debug, clap::Args)]
#[command(after_help = "\
This midge was built without its cargo feature `bench`, which is on by default.

Examples:
  cargo install --locked --path crates/midge      in midge's source: a midge that has it")]
pub(crate) struct Args {
    /// What would be measured, and how
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    _asked_for: Vec<std::ffi::OsString>,
}

/// Fails, and says how to get a midge that measures.
#[cfg(not(feature = "bench"))]
pub(crate) fn run(_: Args) -> Result<ExitCode> {
    anyhow::bail!(
        "this midge cannot measure: it was built without its cargo feature `bench`, which is on by default; \
         get one that can from midge's source, with `cargo install --locked --path crates/midge`"
    )
}

#[cfg(all(test, not(feature = "bench")))]
mod tests {
    use clap::Parser;

    use super::run;
    use crate::cli::{Cli, Command};

    #[test]
    fn whatever_is_to_be_measured_the_error_says_how_to_get_a_midge_that_does() {
        for line in ["midge bench", "midge bench boot --vm", "midge bench --json memory"] {
            let Command::Bench(args) = Cli::parse_from(line.split(' ')).command else { panic!("{line}") };
            let error = run(args).unwrap_err().to_string();
            assert!(error.contains("`cargo install --locked --path crates/midge`"), "{line}: {error}");
        }
    }
}
