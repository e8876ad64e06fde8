//! The modules that jobs are replayed with, and one attempt at a job with them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use midge_engine::{self as engine, Attempt, Difference, Dir, Lines, Loaded, Modules, Place, Replay};
use midge_protocol::ModuleName;
use midge_protocol::exchange::{AttemptRef, Outcome};
use midge_protocol::line::Setup;
use midge_protocol::manifest::{Manifest, SecretSource};
use tokio::sync::Notify;

use super::is_folder;
use crate::commands::pulled::Pulled;
use crate::config;

/// How much of a log is shown at once.
const LOG_PIECE_BYTES: usize = 64 * 1024;

/// Modules, and what their guests see here.
pub(super) struct Candidate {
    modules: Modules,
    dir: PathBuf,
    place: Place,
    network: Network,
    judge: engine::Judge,
    env: Vec<(String, String)>,
    dirs: Vec<Dir>,
}

/// Where a guest's requests go.
pub(super) enum Network {
    /// To the recording.
    Recorded,
    /// To the world, by the program at this path.
    Live(PathBuf),
}

/// How an attempt ended here.
pub(super) struct Replayed {
    pub(super) outcome: Outcome,
    /// How its requests differed from those that were recorded.
    pub(super) differences: Vec<Difference>,
    /// How many requests it made, and how many were recorded.
    pub(super) requests: (usize, usize),
    pub(super) is_answered_from_recording: bool,
    /// What of the answers it was not told, where it completed all the same.
    pub(super) went_without: Option<String>,
    /// How many jobs it would enqueue.
    pub(super) enqueued: usize,
}

impl Candidate {
    pub(super) fn open(
        dir: &Path,
        network: Network,
        env: Vec<(String, String)>,
        dirs: Vec<Dir>,
    ) -> Result<Candidate> {
        is_folder(dir)?;
        let modules = Modules::open(dir)?;
        let place = Place::start(0).context("cannot start a thread")?;
        let judge = midge_net::Judge::of(dir)?;
        let judge: engine::Judge = Arc::new(move |request| judge.refuses(request));
        Ok(Candidate { modules, dir: dir.to_owned(), place, network, judge, env, dirs })
    }

    /// Returns whether there is such a module.
    pub(super) fn has(&self, module: &ModuleName) -> bool {
        self.manifest().modules.contains_key(module)
    }

    /// Returns the names of env that a module declares and that nobody says here.
    pub(super) fn missing_env(&self, module: &ModuleName) -> Vec<String> {
        let Some(entry) = self.manifest().modules.get(module) else { return Vec::new() };
        entry.env.iter().filter(|name| self.variable(name).is_none()).cloned().collect()
    }

    /// Runs the attempt of a job that was pulled, and shows its log as it comes.
    pub(super) async fn replay(
        &self,
        pulled: &Pulled,
        mut log: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<Replayed> {
        let about = &pulled.about;
        let module = self.modules.load(&about.module)?;
        let replay = Replay::new(pulled.recording.clone(), Arc::clone(&self.judge));
        let (is_answered_from_recording, lines) = match &self.network {
            Network::Recorded => (true, replay.lines()),
            Network::Live(program) => (false, self.live(program, &module)?),
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
            world: replay.world(),
            // Not as it was there: it is this build that is tried.
            limits: module.entry.limits,
            changed: Arc::clone(&changed),
            module,
        };
        let running = self.place.run(attempt);
        let control = running.control();
        let ended = running.ended();
        tokio::pin!(ended);
        let mut shown = 0;
        let mut show = || -> Result<()> {
            loop {
                let piece: Bytes = control.log_from(shown, LOG_PIECE_BYTES);
                if piece.is_empty() {
                    return Ok(());
                }
                shown += piece.len() as u64;
                log(&piece)?;
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
                    show()?;
                }
            }
        };
        show()?;
        let (differences, requests) = (replay.differences(), replay.requests());
        Ok(Replayed {
            outcome: ended.outcome,
            went_without: control.went_without().map(str::to_owned),
            differences,
            requests,
            is_answered_from_recording,
            enqueued: ended.jobs.len(),
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

    /// Returns the way to the real network, with the secrets that the module may use.
    fn live(&self, program: &Path, module: &Loaded) -> Result<Arc<Lines>> {
        let mut secrets = std::collections::BTreeMap::new();
        for name in module.entry.secrets.keys() {
            let Some(SecretSource { env }) = self.manifest().secrets.get(name) else { continue };
            let value = config::guest_variable(env).filter(|value| !value.is_empty());
            let value = value.with_context(|| format!("the secret `{name}` is missing: set `{env}`"))?;
            secrets.insert(name.clone(), Bytes::from(value));
        }
        let setup = Setup { modules: self.dir.display().to_string(), secrets };
        let program = program.to_owned();
        let command = move || {
            let mut command = Command::new(&program);
            command.env_clear().envs(config::network_env());
            Ok(command)
        };
        Ok(Arc::new(Lines::of_program(command, setup)))
    }
}
