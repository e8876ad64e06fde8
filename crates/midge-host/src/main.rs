//! The tiny program in a Machine. `midge-host work` phones home, claims, runs, reports and leaves; `midge-host run` runs
//! one module by hand.
//!
//! Invariant: no compiler and no database in here, and nothing is started that the first job does not need.

mod settings;

mod control;
mod work;

mod link;
mod places;
mod run;
mod signals;

use settings::Command;

fn main() {
    let code = match settings::of_this_process() {
        Ok(Command::Help(text)) => run::print(text.as_bytes()),
        Ok(Command::Work(settings)) => on_this_thread(control::work(settings)),
        Ok(Command::Run(settings)) => on_this_thread(run::run(settings)),
        Err(usage) => {
            eprintln!("midge-host: {usage}\nTry `midge-host --help`.");
            Ok(2)
        }
    };
    // Not by returning: a guest that was left behind must not keep the process.
    std::process::exit(code.unwrap_or_else(|error| {
        eprintln!("midge-host: {error:#}");
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
