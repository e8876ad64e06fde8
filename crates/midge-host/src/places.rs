//! The places of this host, and the modules that run at them. Both begin with the first job.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use midge_engine::{Attempt, Control, Loaded, Modules, Place, RunningAttempt, Stop};
use midge_protocol::ModuleName;
use midge_protocol::exchange::{AttemptRef, Grant};
use midge_protocol::job::Progress;
use tokio::sync::Notify;

use crate::errors;
use crate::settings::{dirs, guest_env};

/// Places, modules, and the attempts that the server does not know all about.
pub struct Places {
    modules_dir: PathBuf,
    modules: Option<Modules>,
    places: Vec<Place>,
    places_max: usize,
    controls: HashMap<AttemptRef, Control>,
    changed: Arc<Notify>,
}

/// Why an attempt did not begin, in words for its failure or for the log.
pub enum NotBegun {
    /// The attempt's module cannot be loaded: its file is missing, damaged, or of another release.
    NotLoadable(String),
    /// Every place is taken, or no thread can be started for another.
    NoRoom(String),
}

impl Places {
    /// Makes room for at most `places_max` places. No thread is started and no module read yet.
    pub fn new(modules_dir: PathBuf, places_max: u32) -> Places {
        Places {
            modules_dir,
            modules: None,
            places: Vec::new(),
            places_max: places_max as usize,
            controls: HashMap::new(),
            changed: Arc::default(),
        }
    }

    /// Returns what is notified whenever a guest has written to its log or told its progress.
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
        let module = self.load(&grant.module).map_err(NotBegun::NotLoadable)?;
        let env = guest_env(&module.entry.env);
        let attempt = Attempt {
            id: grant.attempt,
            queue: grant.queue,
            args: grant.args,
            input: grant.input,
            guest_args: Vec::new(),
            env,
            dirs: dirs(&module),
            limits: grant.limits,
            changed: Arc::clone(&self.changed),
            module,
        };
        let place = self.free_place().map_err(NotBegun::NoRoom)?;
        let id = attempt.id;
        let running = place.run(attempt);
        self.controls.insert(id, running.control());
        Ok(running)
    }

    fn load(&mut self, name: &ModuleName) -> Result<Arc<Loaded>, String> {
        let modules = match &mut self.modules {
            Some(modules) => modules,
            none => {
                let modules = Modules::open(&self.modules_dir).map_err(|e| errors::whole(&e))?;
                none.insert(modules)
            }
        };
        modules.load(name).map_err(|e| errors::whole(&e))
    }

    fn free_place(&mut self) -> Result<&Place, String> {
        let index = match self.places.iter().position(Place::is_free) {
            Some(index) => index,
            None if self.places.len() < self.places_max => {
                let place = Place::start(self.places.len());
                self.places.push(place.map_err(|e| format!("no thread can be started: {e}"))?);
                self.places.len() - 1
            }
            None => return Err("every place is taken".to_owned()),
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

    /// Returns the progress that attempts made and that was not taken yet.
    pub fn take_progress(&self) -> Vec<(AttemptRef, Progress)> {
        let progress = self.controls.iter();
        progress.filter_map(|(attempt, control)| Some((*attempt, control.take_progress()?))).collect()
    }
}
