//! The folders of modules that were served lately. A running host reads the folder that it was started with, so a
//! rebuild must not touch it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use midge_protocol::api::MachineView;
use midge_server::Catalog;

use crate::commands::serve::copy_modules;

/// How many generations are kept although no Machine uses them.
const KEPT: usize = 3;

#[derive(Debug)]
pub(super) struct Generations {
    folder: PathBuf,
}

impl Generations {
    pub(super) fn new(folder: PathBuf) -> Generations {
        Generations { folder }
    }

    /// Keeps what a build made as a generation of its own, and opens it.
    pub(super) fn keep(&self, built: &Path) -> Result<Catalog> {
        let generation = Catalog::open(built)?.generation;
        let kept = self.folder.join(&generation);
        if let Ok(catalog) = Catalog::open(&kept) {
            return Ok(catalog);
        }
        // Whole or not at all: what a killed process left half done has another name.
        let half = self.folder.join(format!("{generation}.half"));
        let cannot = || format!("cannot copy the modules to {}", kept.display());
        let _ = fs::remove_dir_all(&half);
        let _ = fs::remove_dir_all(&kept);
        copy_modules(built, &half).and_then(|()| fs::rename(&half, &kept)).with_context(cannot)?;
        Ok(Catalog::open(&kept)?)
    }

    /// Deletes generations that are neither served, nor used by a Machine, nor of the last few.
    pub(super) fn tidy(&self, served: &str, machines: &[MachineView]) {
        let used = |name: &str| {
            name == served || machines.iter().any(|machine| machine.generation == name && !machine.is_gone())
        };
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut found: Vec<(SystemTime, String)> = entries
            .filter_map(|entry| {
                Some((entry.metadata().ok()?.modified().ok()?, entry.file_name().into_string().ok()?))
            })
            .collect();
        found.sort();
        let old = found.len().saturating_sub(KEPT);
        for (_, name) in found.into_iter().take(old).filter(|(_, name)| !used(name)) {
            if let Err(error) = fs::remove_dir_all(self.folder.join(&name)) {
                tracing::warn!(%error, generation = name, "cannot delete an old generation");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use midge_protocol::manifest::{FILE_NAME, FORMAT, Manifest};

    use super::*;

    fn built(folder: &Path, cpu: &str) {
        let manifest = Manifest {
            format: FORMAT,
            wasmtime: "1".to_owned(),
            config_hash: "x".to_owned(),
            cpu: cpu.to_owned(),
            modules: Default::default(),
            server: Default::default(),
            prices: Default::default(),
            queues: Default::default(),
            schedules: Default::default(),
            env: Default::default(),
            secrets: Default::default(),
        };
        // As the build does: another file under the same name.
        let new = folder.join("new");
        fs::write(&new, serde_json::to_vec(&manifest).unwrap()).unwrap();
        fs::rename(new, folder.join(FILE_NAME)).unwrap();
    }

    fn machine(generation: &str, state: &str) -> MachineView {
        serde_json::from_value(serde_json::json!({
            "name": "m", "queue": "default", "state": state, "since": "2030-01-01T00:00:00Z", "running": 0,
            "attempts": 0, "generation": generation,
        }))
        .unwrap()
    }

    #[test]
    fn a_rebuild_leaves_the_generation_before_as_it_was() {
        let (out, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let generations = Generations::new(kept.path().to_owned());
        built(out.path(), "one");
        let first = generations.keep(out.path()).unwrap();
        built(out.path(), "two");
        let second = generations.keep(out.path()).unwrap();
        assert_ne!(first.generation, second.generation);
        assert_eq!(Catalog::open(&first.modules_dir).unwrap().manifest.cpu, "one");
        assert_eq!(Catalog::open(&second.modules_dir).unwrap().manifest.cpu, "two");
    }

    #[test]
    fn old_generations_go_once_nothing_uses_them() {
        let (out, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let generations = Generations::new(kept.path().to_owned());
        let names: Vec<String> = (0..6)
            .map(|cpu| {
                built(out.path(), &cpu.to_string());
                let generation = generations.keep(out.path()).unwrap().generation;
                let age = std::time::Duration::from_secs(100 - cpu);
                let folder = fs::File::open(kept.path().join(&generation)).unwrap();
                folder.set_modified(SystemTime::now() - age).unwrap();
                generation
            })
            .collect();
        generations.tidy(&names[0], &[machine(&names[1], "up"), machine(&names[2], "gone")]);
        let there: Vec<bool> = names.iter().map(|name| kept.path().join(name).exists()).collect();
        assert_eq!(there, [true, true, false, true, true, true]);
    }
}
