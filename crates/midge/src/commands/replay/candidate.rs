//! The modules that jobs are replayed with, and one attempt at a job with them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use midge_engine::{self as engine, Attempt, Difference, Dir, Loaded, Modules, Place, Replay, World};
use midge_protocol::ModuleName;
use midge_protocol::exchange::{AttemptRef, FollowUp, Outcome};
use midge_protocol::job::AttemptLimits;
use midge_protocol::manifest::{Manifest, ModuleEntry};
use serde::Deserialize;
use tokio::sync::Notify;

use super::is_folder;
use super::live::Live;
use super::places::Places;
use crate::commands::pulled::Pulled;
use crate::config;

/// How much of a log is shown at once.
const LOG_PIECE_BYTES: usize = 64 * 1024;

/// Modules, and what their guests see here.
pub(super) struct Candidate {
    modules: Modules,
    places: Places,
    /// The way to the real network, where requests go there; nothing where the recording answers them.
    live: Option<Live>,
    judge: engine::Judge,
    env: Vec<(String, String)>,
    dirs: Vec<Dir>,
}

/// How an attempt ended here.
pub(super) struct Replayed {
    pub(super) outcome: Outcome,
    /// How its requests differed from those that were recorded.
    pub(super) differences: Vec<Difference>,
    /// How many requests it made, and how many were recorded; nothing where they were made once more, and nobody counts them.
    pub(super) requests: Option<(usize, usize)>,
    /// What of the answers it was not told, where it completed all the same.
    pub(super) went_without: Option<String>,
    /// How many jobs it would enqueue, by their module.
    pub(super) enqueues: BTreeMap<String, usize>,
}

impl Candidate {
    /// Opens a folder of modules. Where a program is named that has the network, requests are made by it.
    pub(super) fn open(
        dir: &Path,
        network: Option<PathBuf>,
        env: Vec<(String, String)>,
        dirs: Vec<Dir>,
    ) -> Result<Candidate> {
        is_folder(dir)?;
        let modules = Modules::open(dir)?;
        let judge = midge_net::Judge::of(dir)?;
        let judge: engine::Judge = Arc::new(move |request| judge.refuses(request));
        let live = network.map(|program| Live::new(program, dir, modules.manifest()));
        Ok(Candidate { modules, places: Places::default(), live, judge, env, dirs })
    }

    /// Returns whether there is such a module.
    pub(super) fn has(&self, module: &ModuleName) -> bool {
        self.manifest().modules.contains_key(module)
    }

    /// Returns in words what guests of a module do without here, of what it declares.
    pub(super) fn missing(&self, module: &ModuleName) -> Vec<String> {
        let Some(entry) = self.manifest().modules.get(module) else { return Vec::new() };
        let env = entry.env.iter().filter(|name| self.variable(name).is_none());
        let env = env.map(|name| format!("`{name}` is not set here: guests of `{module}` do without"));
        let secrets = self.live.iter().flat_map(|live| live.missing(entry));
        let secrets = secrets.map(|why| format!("{why}: jobs of `{module}` are not replayed until then"));
        env.chain(secrets).collect()
    }

    /// Runs the attempt of a job that was pulled, and shows its log as it comes.
    pub(super) async fn replay(&self, pulled: &Pulled, log: impl FnMut(&[u8])) -> Result<Replayed> {
        let place = self.places.take().context("cannot start a thread")?;
        let replayed = self.replay_at(&place, pulled, log).await;
        self.places.give_back(place);
        replayed
    }

    async fn replay_at(
        &self,
        place: &Place,
        pulled: &Pulled,
        mut log: impl FnMut(&[u8]),
    ) -> Result<Replayed> {
        let about = &pulled.about;
        let module = self.modules.load(&about.module)?;
        let replay = Replay::new(pulled.recording.clone(), Arc::clone(&self.judge));
        let (lines, world) = match &self.live {
            None => (replay.lines(), replay.world()),
            // What is signed with the time of then is refused, and a key that was drawn then is known to others.
            Some(live) => (live.lines(&module.entry)?, World::Real),
        };
        let changed = Arc::new(Notify::new());
        let attempt = Attempt {
            id: AttemptRef::new(about.id, about.attempt),
            queue: about.queue.clone(),
            args: pulled.args.clone(),
            input: pulled.input.clone(),
            saved: pulled.saved.clone(),
            guest_args: Vec::new(),
            env: self.env_of(&module),
            dirs: self.dirs_of(&module),
            lines: Some(lines),
            world,
            limits: limits(&module.entry, pulled),
            changed: Arc::clone(&changed),
            module,
        };
        let running = place.run(attempt);
        let control = running.control();
        let ended = running.ended();
        tokio::pin!(ended);
        let mut shown = 0;
        let mut show = || {
            loop {
                let piece: Bytes = control.log_from(shown, LOG_PIECE_BYTES);
                if piece.is_empty() {
                    return;
                }
                shown += piece.len() as u64;
                log(&piece);
            }
        };
        let ended = loop {
            tokio::select! {
                biased;
                ended = &mut ended => break ended,
                () = changed.notified() => {
                    // Nobody keeps it here, and it waits for that.
                    if control.take_saving().is_some() {
                        control.saved();
                    }
                    show();
                }
            }
        };
        show();
        let requests = self.live.is_none().then(|| replay.requests());
        Ok(Replayed {
            outcome: ended.outcome,
            went_without: control.went_without().map(str::to_owned),
            differences: replay.differences(),
            requests,
            enqueues: by_module(&ended.jobs),
        })
    }

    fn manifest(&self) -> &Manifest {
        self.modules.manifest()
    }

    fn variable(&self, name: &str) -> Option<String> {
        let given = self.env.iter().rev().find(|(given, _)| given == name).map(|(_, value)| value.clone());
        given.or_else(|| self.manifest().env.get(name).cloned()).or_else(|| config::guest_variable(name))
    }

    /// Returns the env of a guest: what it declares, and what was said beside that.
    fn env_of(&self, module: &Loaded) -> Vec<(String, String)> {
        let declared = module.entry.env.iter();
        let declared = declared.filter_map(|name| Some((name.clone(), self.variable(name)?)));
        let others = self.env.iter().filter(|(name, _)| !module.entry.env.contains(name)).cloned();
        declared.chain(others).collect()
    }

    /// Returns the folders of a guest: those that were said, and those of its module in whose place none was.
    fn dirs_of(&self, module: &Loaded) -> Vec<Dir> {
        let declared = module.entry.dirs.iter().map(|(guest, folder)| Dir {
            host: folder.path.clone().into(),
            guest: guest.clone(),
            read_only: folder.read_only,
        });
        let is_said = |guest: &str| self.dirs.iter().any(|dir| dir.guest == guest);
        declared.filter(|dir| !is_said(&dir.guest)).chain(self.dirs.iter().cloned()).collect()
    }
}

/// Returns how many of an attempt's jobs are of each module.
fn by_module(jobs: &[FollowUp]) -> BTreeMap<String, usize> {
    #[derive(Deserialize)]
    struct Named {
        module: String,
    }
    let mut modules = BTreeMap::new();
    for job in jobs {
        // What is none was refused at the guest's call.
        if let Ok(Named { module }) = serde_json::from_str(&job.request) {
            *modules.entry(module).or_default() += 1;
        }
    }
    modules
}

/// Returns what an attempt may use: what this build says, as it is that which is tried, but for a time limit of the job's own.
fn limits(module: &ModuleEntry, pulled: &Pulled) -> AttemptLimits {
    let time_ms = pulled.about.time_limit_ms.unwrap_or(module.limits.time_ms);
    AttemptLimits { time_ms, ..module.limits }
}
