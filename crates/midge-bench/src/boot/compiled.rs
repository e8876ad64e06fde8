//! Ahead of time against on the spot: the same module, loaded by a fresh engine, with and without Cranelift before.
//!
//! Both in this process, since a host has no compiler. It is the one that `midge build` has.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use midge_cli::progress::bar;
use midge_engine::{Cpu, Modules, Place};

use super::program::nanos;
use super::turns::turns;
use super::{Cache, Figures, place};
use crate::modules;
use crate::report::Spread;

/// When a module is compiled to machine code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compiled {
    Ahead,
    OnTheSpot,
}

/// Measures how long these modules take to run in a fresh engine, compiled ahead of time and compiled on the spot, in
/// turns. `folder` has their WebAssembly and `compiled` their machine code.
pub(super) async fn measure(
    folder: &Path,
    compiled: &Path,
    names: &[&str],
    runs: u32,
) -> Result<Vec<Figures>> {
    let mut rows = Vec::new();
    for name in names {
        let wasm = std::fs::read(modules::wasm_path(folder, name))?;
        let (_, tried) = run(compiled, name, &wasm, Compiled::OnTheSpot).await?;
        let runs = turns(tried, runs);
        let bar = bar(u64::from(runs), "rounds");
        bar.set_prefix("on the spot");
        let (mut ahead, mut on_the_spot) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
        for _ in 0..runs {
            for (when, times) in [(Compiled::Ahead, &mut ahead), (Compiled::OnTheSpot, &mut on_the_spot)] {
                let (first, exit) = run(compiled, name, &wasm, when).await?;
                times.0.push(first);
                times.1.push(exit);
                // Here a Ctrl-C is heard.
                tokio::task::yield_now().await;
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        let size = std::fs::metadata(modules::compiled_path(compiled, name)).map(|data| data.len()).ok();
        for (what, (firsts, exits)) in [("loaded", ahead), ("compiled and loaded", on_the_spot)] {
            rows.push(Figures {
                program: format!("{name} {what} in a running process"),
                cache: Cache::Running,
                module_bytes: size,
                first: Spread::of(firsts),
                exit: Spread::of(exits),
                first_to_floor: None,
                exit_to_floor: None,
            });
        }
    }
    Ok(rows)
}

/// Runs a module in a fresh engine, and returns how long it took to the guest's first instruction, and to its outcome.
async fn run(compiled: &Path, name: &str, wasm: &[u8], when: Compiled) -> Result<(Duration, Duration)> {
    let began_at = SystemTime::now();
    let began = Instant::now();
    if when == Compiled::OnTheSpot {
        // What comes of it is, to the byte, what lies in the folder: the rest goes on with that.
        midge_build::compile(wasm, Cpu::default()).map_err(|reason| anyhow!("{name}: {reason}"))?;
    }
    let module = Modules::open(compiled)?.load(&modules::name(name))?;
    let place = Place::start(0)?;
    let result = place::run(&place, &module).await?;
    let exit = began.elapsed();
    let stamp = modules::stamp(&result).with_context(|| format!("{name} wrote no time"))?;
    let began_at = began_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    Ok((nanos(stamp.saturating_sub(began_at)), exit))
}
