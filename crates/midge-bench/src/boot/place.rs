//! One more attempt where an engine and a module are there already, as in a host that has run one before.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use midge_engine::{Attempt, Loaded, Modules, Place};
use midge_protocol::exchange::{AttemptRef, Outcome};
use midge_protocol::{AttemptNumber, JobId};
use tokio::sync::oneshot;

use super::{Cache, Figures};
use crate::modules;
use crate::report::Spread;

/// Attempts of one kind in a row, in each round: they take a hundredth of a process's time.
const ATTEMPTS_PER_ROUND: usize = 20;
/// Rounds before the first that counts: they start the thread and touch the pages.
const ROUNDS_UNCOUNTED: u32 = 5;
/// The name of the row with which attempts are compared.
const FLOOR: &str = "floor: to a thread and back";

/// Measures attempts at these modules, and in turns with them what handing anything to a thread costs at least.
pub(super) async fn attempts(folder: &Path, names: &[&str], rounds: u32) -> Result<Vec<Figures>> {
    let modules = Modules::open(folder)?;
    let loaded: Vec<Arc<Loaded>> =
        names.iter().map(|name| modules.load(&modules::name(name))).collect::<Result<_, _>>()?;
    let (place, floor) = (Place::start(0)?, Floor::start());
    // One for each round; the floor's, and those of each module.
    let (mut floors, mut blocks) = (Vec::new(), vec![Vec::new(); loaded.len()]);
    for round in 0..ROUNDS_UNCOUNTED + rounds {
        let mut block = Vec::new();
        for _ in 0..ATTEMPTS_PER_ROUND {
            let began = Instant::now();
            floor.there_and_back().await?;
            block.push(began.elapsed());
        }
        floors.extend((round >= ROUNDS_UNCOUNTED).then_some(block));
        for (module, blocks) in loaded.iter().zip(&mut blocks) {
            let mut block = Vec::new();
            for _ in 0..ATTEMPTS_PER_ROUND {
                let began = Instant::now();
                run(&place, module).await?;
                block.push(began.elapsed());
            }
            blocks.extend((round >= ROUNDS_UNCOUNTED).then_some(block));
        }
        // Here a Ctrl-C is heard.
        tokio::task::yield_now().await;
    }
    let mut rows = vec![figures(FLOOR.to_owned(), None, &floors)];
    for (module, blocks) in loaded.iter().zip(&blocks) {
        rows.push(figures(self::name(module.name.as_str()), Some(module.entry.size), blocks));
    }
    let floor = rows[0].exit;
    for row in &mut rows {
        row.exit_to_floor = row.exit.zip(floor).map(|(exit, floor)| exit.median().over(floor.median()));
    }
    Ok(rows)
}

/// A thread that is handed nothing, by the channels that a place has.
struct Floor {
    sender: mpsc::Sender<oneshot::Sender<()>>,
}

impl Floor {
    /// Starts the thread. It ends with this.
    fn start() -> Floor {
        let (sender, receiver) = mpsc::channel::<oneshot::Sender<()>>();
        std::thread::spawn(move || {
            while let Ok(done) = receiver.recv() {
                // Whoever waits for it does so to the end.
                let _ = done.send(());
            }
        });
        Floor { sender }
    }

    async fn there_and_back(&self) -> Result<()> {
        let (done, waits) = oneshot::channel();
        self.sender.send(done).context("the thread has ended")?;
        Ok(waits.await?)
    }
}

/// Returns the name of the row of attempts at a module.
pub(super) fn name(module: &str) -> String {
    format!("one more attempt at {module}")
}

/// Runs one attempt at a module to its end in a place, and returns the guest's result.
pub(super) async fn run(place: &Place, module: &Arc<Loaded>) -> Result<Bytes> {
    match place.run(attempt(module)).ended().await.outcome {
        Outcome::Completed { result } => Ok(result),
        outcome => bail!("an attempt at {} did not complete: {outcome:?}", module.name),
    }
}

fn figures(program: String, module_bytes: Option<u64>, blocks: &[Vec<Duration>]) -> Figures {
    Figures {
        program,
        cache: Cache::Running,
        module_bytes,
        first: None,
        exit: Spread::of_blocks(blocks),
        first_to_floor: None,
        exit_to_floor: None,
    }
}

fn attempt(module: &Arc<Loaded>) -> Attempt {
    Attempt {
        id: AttemptRef::new(JobId::generate(), AttemptNumber(1)),
        queue: module.entry.queue.clone(),
        module: Arc::clone(module),
        args: "null".to_owned(),
        input: None,
        guest_args: Vec::new(),
        saved: None,
        env: Vec::new(),
        dirs: Vec::new(),
        lines: None,
        world: Default::default(),
        limits: module.entry.limits,
        changed: Arc::default(),
    }
}
