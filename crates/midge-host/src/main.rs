//! The tiny program in a Machine. `midge-host work` phones home, claims, runs, reports and leaves; `midge-host run` runs
//! one module by hand.
//!
//! Invariant: no compiler and no database in here, and nothing is started that the first job does not need: not even
//! what Rust's own start would prepare, which reads the memory map of the process to find where its stack ends.

// A test's `main` is the test runner's.
#![cfg_attr(not(test), no_main)]

mod errors;
mod process;
mod settings;

mod control;

mod link;
mod network;
mod places;
mod run;
mod signals;

use midge_engine::start::{self, StartPhase};
use midge_protocol::shown;
use settings::Command;

/// Where the C library comes in. It has given the standard library the arguments already.
#[allow(unsafe_code)]
// SAFETY: there is no other `main`, and the C library calls this one once, with the arguments that a `main` has.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[cfg_attr(test, allow(dead_code))]
extern "C" fn main(_count: std::ffi::c_int, _args: *const *const std::ffi::c_char) -> std::ffi::c_int {
    start::begin();
    process::keep_standard_streams();
    process::ignore_broken_pipes();
    let settings = settings::of_this_process();
    start::ended(StartPhase::Settings);
    let code = match settings {
        Ok(Command::Help(text)) => run::print(text.as_bytes()),
        Ok(Command::Work(settings)) => on_this_thread(control::work(settings)),
        Ok(Command::Run(settings)) => run::run(settings),
        Err(usage) => {
            eprintln!("midge-host: {}\nTry `midge-host --help`.", shown::line(&usage.to_string()));
            Ok(2)
        }
    };
    exit(code)
}

/// Ends the process. Not by returning from `main`: a guest that was left behind must not keep it.
fn exit(code: anyhow::Result<i32>) -> ! {
    std::process::exit(code.unwrap_or_else(|error| {
        eprintln!("midge-host: {}", shown::line(&format!("{error:#}")));
        1
    }))
}

/// Runs the control thread, which is this one.
fn on_this_thread(future: impl Future<Output = anyhow::Result<i32>>) -> anyhow::Result<i32> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(future);
    // Without waiting for a name lookup that may still be under way.
    runtime.shutdown_background();
    code
}
