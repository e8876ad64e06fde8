//! One more attempt where an engine and a module are there already, as in a host that has run one before.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use midge_engine::{Attempt, Loaded, Modules, Place};
use midge_protocol::exchange::{AttemptRef, Outcome};
use midge_protocol::{Attempt as Number, JobId};

use super::{Cache, Figures};
use crate::commands::bench::modules;
use crate::commands::bench::report::Spread;

/// Attempts for each process that was started: they take a hundredth of its time.
const ATTEMPTS_PER_RUN: u32 = 20;
/// Attempts before the first that counts: they start the thread and touch the pages.
const ATTEMPTS_UNCOUNTED: u32 = 100;

/// Runs attempts one after the other at one place.
pub(super) async fn attempts(folder: &Path, name: &str, runs: u32) -> Result<Figures> {
    let loaded = Modules::open(folder)?.load(&modules::name(name))?;
    let place = Place::start(0)?;
    let mut took = Vec::new();
    for number in 0..ATTEMPTS_UNCOUNTED + runs * ATTEMPTS_PER_RUN {
        let one = attempt(&loaded);
        let began = Instant::now();
        let ended = place.run(one).ended().await;
        let elapsed: Duration = began.elapsed();
        if !matches!(ended.outcome, Outcome::Completed { .. }) {
            bail!("an attempt at {name} did not complete: {:?}", ended.outcome);
        }
        if number >= ATTEMPTS_UNCOUNTED {
            took.push(elapsed);
        }
    }
    Ok(Figures {
        program: format!("one more attempt at {name}"),
        cache: Cache::Running,
        module_bytes: Some(loaded.entry.size),
        first: None,
        exit: Spread::of(took),
        first_to_floor: None,
        exit_to_floor: None,
    })
}

fn attempt(module: &Arc<Loaded>) -> Attempt {
    Attempt {
        id: AttemptRef { job: JobId::generate(), attempt: Number(1) },
        queue: module.entry.queue.clone(),
        module: Arc::clone(module),
        args: "null".to_owned(),
        input: None,
        guest_args: Vec::new(),
        env: Vec::new(),
        dirs: Vec::new(),
        limits: module.entry.limits,
        changed: Arc::default(),
    }
}
