//! The modules of a server that is up, as they were when it began: a build replaces those of the project under it.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use midge_protocol::manifest::FILE_NAME;
use midge_server::Catalog;
use tempfile::TempDir;

/// Folders in a folder of modules that belong to the servers which serve it begin so.
const PREFIX: &str = ".served-";
/// What is locked in such a folder while its server is there.
const LOCK: &str = ".lock";
/// How often one looks whether there was a build: each look wakes a server that is idle.
const LOOK_EVERY: Duration = Duration::from_secs(20);

/// Modules of which no build takes any away. Dropping it deletes them.
pub(super) struct Kept {
    pub(super) catalog: Catalog,
    /// Nothing where the folder cannot be written: then no build does so either.
    _folder: Option<(TempDir, File)>,
}

impl Kept {
    /// Opens a folder of modules, and keeps them in a folder of its own.
    pub(super) fn open(modules: &Path) -> Result<Kept> {
        let catalog = Catalog::open(modules)?;
        let cannot = || format!("cannot copy the modules of {}", modules.display());
        let folder = match tempfile::Builder::new().prefix(PREFIX).tempdir_in(modules) {
            Ok(folder) => folder,
            Err(error) => {
                tracing::info!(%error, "the modules are served from where they are");
                return Ok(Kept { catalog, _folder: None });
            }
        };
        let lock = File::create(folder.path().join(LOCK)).with_context(cannot)?;
        lock.lock().with_context(cannot)?;
        remove_deserted(modules);
        copy_modules(modules, folder.path()).with_context(cannot)?;
        Ok(Kept { catalog: Catalog::open(folder.path())?, _folder: Some((folder, lock)) })
    }

    /// Says whenever a build has made other modules than those that are served. Does not end.
    pub(super) async fn tell_of_builds(&self, modules: &Path) {
        let mut told = self.catalog.generation.clone();
        let mut seen = changed(modules);
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = changed(modules);
            if self._folder.is_none() || now == seen {
                continue;
            }
            seen = now;
            // One that is half written is looked at again.
            let Ok(built) = Catalog::open(modules) else { continue };
            if built.generation != told && built.generation != self.catalog.generation {
                tracing::warn!(
                    generation = self.catalog.generation,
                    built = built.generation,
                    "there was a build: this server keeps to the modules that it began with; start it again to serve the new ones"
                );
            }
            told = built.generation;
        }
    }
}

/// Returns when a folder's manifest was written.
fn changed(modules: &Path) -> Option<std::time::SystemTime> {
    fs::metadata(modules.join(FILE_NAME)).ok()?.modified().ok()
}

/// Deletes what servers left that were killed.
fn remove_deserted(modules: &Path) {
    for entry in fs::read_dir(modules).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        // One without a lock is just being made.
        let deserted = ours && File::open(entry.path().join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
        if deserted && let Err(error) = fs::remove_dir_all(entry.path()) {
            tracing::info!(%error, path = %entry.path().display(), "cannot delete what a server left");
        }
    }
}

/// Copies modules with their manifest. Links share the bytes of modules: a build replaces files rather than change them.
pub(in crate::commands) fn copy_modules(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        // The build's own lock is no part of what it made.
        let is_module = target.extension().is_some_and(|extension| extension == "cwasm");
        if !entry.file_type()?.is_file() || !(is_module || entry.file_name() == FILE_NAME) {
            continue;
        }
        if !is_module || fs::hard_link(entry.path(), &target).is_err() {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use midge_protocol::manifest::{FORMAT, Manifest};

    use super::*;

    /// Writes a manifest without modules, as a build does: another file under the same name.
    fn build(folder: &Path, cpu: &str) {
        let manifest = Manifest {
            format: FORMAT,
            wasmtime: "1".to_owned(),
            config_hash: "x".to_owned(),
            cpu: cpu.to_owned(),
            modules: Default::default(),
            server: Default::default(),
            prices: Default::default(),
            schedules: Default::default(),
            queues: Default::default(),
            env: Default::default(),
            secrets: Default::default(),
        };
        fs::write(folder.join("new"), serde_json::to_vec(&manifest).unwrap()).unwrap();
        fs::rename(folder.join("new"), folder.join(FILE_NAME)).unwrap();
    }

    fn served(folder: &Path) -> usize {
        let names =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(PREFIX)).count()
    }

    #[test]
    fn a_build_leaves_what_is_served_as_it_was_until_it_is_served_no_more() {
        let folder = tempfile::tempdir().unwrap();
        build(folder.path(), "one");
        let first = Kept::open(folder.path()).unwrap();
        build(folder.path(), "two");
        let second = Kept::open(folder.path()).unwrap();
        let cpu = |kept: &Kept| Catalog::open(&kept.catalog.modules_dir).unwrap().manifest.cpu;
        assert_eq!((cpu(&first), cpu(&second)), ("one".to_owned(), "two".to_owned()));
        assert_eq!(served(folder.path()), 2);
        drop((first, second));
        assert_eq!(served(folder.path()), 0);
    }

    #[test]
    fn what_a_killed_server_left_is_deleted_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        build(folder.path(), "one");
        let left = folder.path().join(format!("{PREFIX}left"));
        fs::create_dir(&left).unwrap();
        fs::write(left.join(LOCK), "").unwrap();
        let there = Kept::open(folder.path()).unwrap();
        let more = Kept::open(folder.path()).unwrap();
        assert!(!left.exists() && there.catalog.modules_dir.exists());
        drop((there, more));
    }
}
