//! The places of this host, which begin with the first job, and the modules that run at them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use midge_engine::{Attempt, Control, Lines, LoadError, Loaded, Modules, Place, RunningAttempt, Stop, World};
use midge_protocol::ModuleName;
use midge_protocol::exchange::{AttemptRef, Grant};
use midge_protocol::job::Progress;
use tokio::sync::Notify;

use crate::errors;
use crate::network::{self, Secrets};
use crate::settings::{dirs, guest_env};

/// Places, modules, and the attempts that the server does not know all about.
pub struct Places {
    modules_dir: PathBuf,
    opened: Option<Opened>,
    places: Vec<Place>,
    places_max: usize,
    controls: HashMap<AttemptRef, Control>,
    changed: Arc<Notify>,
}

/// The folder of modules, and what their guests reach.
struct Opened {
    modules: Modules,
    secrets: Secrets,
    lines: Arc<Lines>,
}

/// Why an attempt did not begin, in words for its failure or for the log.
pub enum NotBegun {
    /// The attempt's module cannot be loaded: its file is missing, damaged, or of another release.
    NotLoadable(String),
    /// The Machine lacks what it takes. Nothing is wrong with the job.
    Lacks(String),
    /// The Machine lacks a secret of the attempt's module. Nothing is wrong with other modules.
    ModuleLacks(String),
    /// Every place is taken.
    NoRoom,
}

/// How long a call of a guest that was stopped may go on before the Machine is taken to lack a disk that answers. Filling
/// gigabytes of memory takes less.
const LEFT_BEHIND_MAX: Duration = Duration::from_secs(5);

impl Places {
    /// Makes room for at most `places_max` places. No thread is started and no module read yet.
    pub fn new(modules_dir: PathBuf, places_max: u32) -> Places {
        Places {
            modules_dir,
            opened: None,
            places: Vec::new(),
            places_max: places_max as usize,
            controls: HashMap::new(),
            changed: Arc::default(),
        }
    }

    /// Returns what is notified whenever a guest has written to its log, told its progress or saves something.
    pub fn changed(&self) -> Arc<Notify> {
        Arc::clone(&self.changed)
    }

    /// Returns how many attempts could begin now. A guest that was left behind still takes its place.
    pub fn room(&self, running: usize) -> u32 {
        let busy = self.places.iter().filter(|place| !place.is_free()).count();
        u32::try_from(self.places_max.saturating_sub(busy.max(running))).unwrap_or(u32::MAX)
    }

    /// Begins an attempt.
    pub fn begin(&mut self, grant: Grant) -> Result<RunningAttempt, NotBegun> {
        let (module, lines) = self.load(&grant.module)?;
        let env = guest_env(&module.entry.env);
        let attempt = Attempt {
            id: grant.attempt,
            queue: grant.queue,
            args: grant.args,
            input: grant.input,
            saved: grant.saved,
            guest_args: Vec::new(),
            env,
            dirs: dirs(&module),
            lines: Some(lines),
            world: if grant.record { World::Recorded } else { World::Real },
            limits: grant.limits,
            changed: Arc::clone(&self.changed),
            module,
        };
        let place = self.free_place()?;
        let id = attempt.id;
        let running = place.run(attempt);
        self.controls.insert(id, running.control());
        Ok(running)
    }

    /// Returns what the Machine lacks, where a guest that was stopped has not come back for so long that no call takes it;
    /// and else when to look again, where one has not come back yet.
    pub fn hangs(&self) -> Result<Option<Duration>, String> {
        let left_behind = self.places.iter().filter_map(Place::left_behind);
        let Some(longest) = left_behind.map(|since| since.elapsed()).max() else { return Ok(None) };
        match LEFT_BEHIND_MAX.checked_sub(longest).filter(|left| !left.is_zero()) {
            Some(left) => Ok(Some(left)),
            None => {
                let seconds = LEFT_BEHIND_MAX.as_secs();
                Err(format!(
                    "a disk that answers: a guest's call has not come back {seconds} s after it was stopped"
                ))
            }
        }
    }

    /// Opens the folder of modules, unless it is, and takes the secrets that they name out of the environment. Returns what of
    /// those is missing, in words. What is wrong with the folder is told with the first job.
    pub fn prepare(&mut self) -> Vec<String> {
        self.open().map(|opened| opened.secrets.missing().collect()).unwrap_or_default()
    }

    fn load(&mut self, name: &ModuleName) -> Result<(Arc<Loaded>, Arc<Lines>), NotBegun> {
        let opened = self.open()?;
        let module = opened.modules.load(name).map_err(not_loaded)?;
        match opened.secrets.lacked_by(&module.entry) {
            Some(what) => Err(NotBegun::ModuleLacks(what)),
            None => Ok((module, Arc::clone(&opened.lines))),
        }
    }

    fn open(&mut self) -> Result<&Opened, NotBegun> {
        match &mut self.opened {
            Some(opened) => Ok(opened),
            none => {
                let modules = Modules::open(&self.modules_dir).map_err(not_loaded)?;
                let secrets = Secrets::take(modules.manifest());
                let lines = network::lines(&self.modules_dir, &secrets);
                Ok(none.insert(Opened { modules, secrets, lines }))
            }
        }
    }

    fn free_place(&mut self) -> Result<&Place, NotBegun> {
        let index = match self.places.iter().position(Place::is_free) {
            Some(index) => index,
            None if self.places.len() < self.places_max => {
                let place = Place::start(self.places.len());
                let lacks =
                    |e| NotBegun::Lacks(format!("threads: none can be started for another attempt ({e})"));
                self.places.push(place.map_err(lacks)?);
                self.places.len() - 1
            }
            None => return Err(NotBegun::NoRoom),
        };
        Ok(&self.places[index])
    }

    /// Stops an attempt.
    pub fn stop(&self, attempt: AttemptRef, stop: Stop) {
        if let Some(control) = self.controls.get(&attempt) {
            control.stop(stop);
        }
    }

    /// Stops all attempts, whose ends nobody wants to know any more.
    pub fn stop_all(&self) {
        for control in self.controls.values() {
            control.stop(Stop::HandedBack);
        }
    }

    /// Drops the log of an attempt that the server knows all about.
    pub fn forget(&mut self, attempt: AttemptRef) {
        self.controls.remove(&attempt);
    }

    /// Returns a piece of an attempt's log.
    pub fn log(&self, attempt: AttemptRef, offset: u64, bytes_max: usize) -> Bytes {
        self.controls.get(&attempt).map(|control| control.log_from(offset, bytes_max)).unwrap_or_default()
    }

    /// Returns what guests save and was not taken yet. Each waits for [`Places::saved`].
    pub fn take_saving(&self) -> Vec<(AttemptRef, Bytes)> {
        let saving = self.controls.iter();
        saving.filter_map(|(attempt, control)| Some((*attempt, control.take_saving()?))).collect()
    }

    /// Lets the guest of an attempt go on: what it saved is safe.
    pub fn saved(&self, attempt: AttemptRef) {
        if let Some(control) = self.controls.get(&attempt) {
            control.saved();
        }
    }

    /// Returns the progress that attempts made and that was not taken yet.
    pub fn take_progress(&self) -> Vec<(AttemptRef, Progress)> {
        let progress = self.controls.iter();
        progress.filter_map(|(attempt, control)| Some((*attempt, control.take_progress()?))).collect()
    }
}

fn not_loaded(error: LoadError) -> NotBegun {
    match error {
        LoadError::Lacks { doing, what } => NotBegun::Lacks(format!("{what}, needed to {doing}")),
        error => NotBegun::NotLoadable(errors::whole(&error)),
    }
}
