//! Folders of compiled modules: the examples, and what a test makes of them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use midge_protocol::QueueName;
use midge_protocol::manifest::{FILE_NAME, Manifest, QueuePolicy, Wait};

use super::built::examples;
use super::files::Files;

/// A folder of compiled modules that belongs to one test. It is there as long as a clone of it is.
#[derive(Clone)]
pub struct Modules {
    pub(super) files: Arc<Files>,
}

impl Modules {
    /// Returns the example modules. Machines wait a second for more work, so that a test sees them go.
    pub fn examples() -> Modules {
        let files = Files::new();
        for entry in fs::read_dir(examples()).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), files.path(entry.file_name().to_str().unwrap())).unwrap();
            }
        }
        let modules = Modules::of(files);
        modules.change(|manifest| {
            for policy in manifest.queues.values_mut() {
                policy.wait = Wait::Millis(1_000);
            }
        });
        modules
    }

    /// Takes a folder that `midge build` wrote.
    pub(super) fn of(files: Files) -> Modules {
        Modules { files: Arc::new(files) }
    }

    /// Returns the folder.
    pub fn dir(&self) -> &Path {
        self.files.dir()
    }

    /// Reads the manifest.
    pub fn manifest(&self) -> Manifest {
        serde_json::from_slice(&fs::read(self.files.path(FILE_NAME)).unwrap()).unwrap()
    }

    /// Writes another manifest: another generation of the same modules.
    pub fn change(&self, change: impl FnOnce(&mut Manifest)) {
        let mut manifest = self.manifest();
        change(&mut manifest);
        self.files.write(FILE_NAME, serde_json::to_vec(&manifest).unwrap());
    }

    /// Declares a queue. Its Machines wait a second where the policy says nothing else.
    pub fn queue(self, name: &str, policy: impl FnOnce(&mut QueuePolicy)) -> Modules {
        self.change(|manifest| {
            let queue = manifest.queues.entry(QueueName::new(name).unwrap()).or_default();
            queue.wait = Wait::Millis(1_000);
            policy(queue);
        });
        self
    }
}
