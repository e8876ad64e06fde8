//! Watches the sources of a project.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use midge_build::{ModuleSource, Project};
use notify::event::{EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// Editors save in several steps: a build begins when nothing has happened for so long.
const QUIET: Duration = Duration::from_millis(150);
/// Folders that builds, editors and version control write into.
const IGNORED: &[&str] = &["target", ".midge", ".git", ".jj", ".hg", ".idea", ".vscode", "node_modules"];
/// More folders than this are no sources, and each costs the kernel a watch.
const FOLDERS_MAX: usize = 10_000;

/// A watch on the folders of a project.
pub(super) struct Watch {
    // Watches until it is dropped.
    _watcher: RecommendedWatcher,
    changed: mpsc::UnboundedReceiver<PathBuf>,
}

impl Watch {
    /// Begins to watch the folder of a midge.toml, and packages of its project that lie elsewhere.
    pub(super) fn begin(file: &Path, project: Option<&Project>) -> Result<Watch> {
        let (sender, changed) = mpsc::unbounded_channel();
        let out = project.map(|project| absolute(&project.out));
        let is_source =
            move |path: &Path| !out.as_ref().is_some_and(|out| path.starts_with(out)) && !is_noise(path);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            if is_change(event.kind)
                && let Some(path) = event.paths.into_iter().find(|path| is_source(path))
            {
                // That nobody listens any more is an end like any other.
                let _ = sender.send(path);
            }
        })
        .context("cannot watch files")?;
        for folder in folders(file, project) {
            watcher.watch(&folder, RecursiveMode::NonRecursive).with_context(|| {
                format!("cannot watch {}: is fs.inotify.max_user_watches too low?", folder.display())
            })?;
        }
        Ok(Watch { _watcher: watcher, changed })
    }

    /// Waits until something was saved and all is quiet again, and returns a file that changed.
    pub(super) async fn changed(&mut self) -> Result<PathBuf> {
        let mut changed = self.changed.recv().await.context("the watch on the sources ended")?;
        while let Ok(Some(next)) = tokio::time::timeout(QUIET, self.changed.recv()).await {
            // Many editors write another file first and then give it the name of the one that is meant.
            if !changed.exists() {
                changed = next;
            }
        }
        Ok(changed)
    }
}

/// Returns whether an event is about what files hold. Builds read files, which must not begin a build.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Create(_) | EventKind::Remove(_) => true,
        EventKind::Modify(modify) => !matches!(modify, ModifyKind::Other),
        EventKind::Any | EventKind::Access(_) | EventKind::Other => false,
    }
}

/// Returns whether a file is written by tools rather than by people.
fn is_noise(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // cargo writes Cargo.lock while it builds; the others are editors' swap and backup files.
    name == "Cargo.lock"
        // What `midge serve` keeps beside it, if it runs here with its defaults.
        || name.starts_with("midge.db")
        || name.ends_with('~')
        || name.ends_with(".swp")
        || name.ends_with(".swx")
        || name.ends_with(".tmp")
        || name.starts_with(".#")
        || name == "4913"
        || IGNORED.contains(&&*name)
}

/// Returns all folders with sources. One that is not there is none: the midge.toml that names it is to be mended first.
fn folders(file: &Path, project: Option<&Project>) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    let mut next: Vec<PathBuf> = absolute(file).parent().map(Path::to_owned).into_iter().collect();
    for module in project.iter().flat_map(|project| project.modules.values()) {
        match &module.source {
            ModuleSource::Package { folder, .. } => next.push(absolute(folder)),
            ModuleSource::Wasm(file) => next.extend(absolute(file).parent().map(Path::to_owned)),
        }
    }
    let out = project.map(|project| absolute(&project.out));
    while let Some(folder) = next.pop() {
        let is_out = out.as_ref() == Some(&folder);
        if is_out || !folder.is_dir() || folders.len() == FOLDERS_MAX || !folders.insert(folder.clone()) {
            continue;
        }
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        next.extend(entries.filter_map(|entry| {
            let ignored = IGNORED.contains(&entry.file_name().to_str()?);
            (entry.file_type().ok()?.is_dir() && !ignored).then(|| entry.path())
        }));
    }
    folders
}

fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use notify::event::{AccessKind, CreateKind, DataChange};

    use super::*;

    fn project(folder: &Path) -> Project {
        fs::create_dir_all(folder.join("src/deep")).unwrap();
        fs::create_dir_all(folder.join("target/release")).unwrap();
        let file = folder.join("midge.toml");
        fs::write(&file, "[modules.a]\npackage = \".\"\n").unwrap();
        fs::write(folder.join("Cargo.toml"), "[package]\nname = \"a\"\n").unwrap();
        Project::read(&file).unwrap()
    }

    #[test]
    fn sources_are_watched_and_what_builds_write_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let project = project(folder.path());
        let root = folder.path().canonicalize().unwrap();
        let watched = folders(&project.file, Some(&project));
        assert!(watched.contains(&root) && watched.contains(&root.join("src/deep")));
        assert!(!watched.iter().any(|folder| folder.starts_with(root.join("target"))));
        for noise in ["Cargo.lock", "main.rs~", ".main.rs.swp", "target"] {
            assert!(is_noise(&root.join(noise)), "{noise}");
        }
        assert!(!is_noise(&root.join("src/main.rs")) && !is_noise(&root.join("midge.toml")));
    }

    #[tokio::test]
    async fn a_midge_toml_that_is_wrong_is_watched_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let there = project(folder.path());
        for text in ["[modules.a]\npackage = \"../nope\"\n", "[modules"] {
            fs::write(&there.file, text).unwrap();
            let project = Project::read(&there.file).ok();
            let mut watch = Watch::begin(&there.file, project.as_ref()).unwrap();
            fs::write(&there.file, "[modules.a]\npackage = \".\"\n").unwrap();
            let seen = tokio::time::timeout(Duration::from_secs(30), watch.changed()).await;
            assert_eq!(seen.unwrap().unwrap(), there.file.canonicalize().unwrap(), "{text}");
        }
    }

    #[test]
    fn reading_is_no_change() {
        assert!(!is_change(EventKind::Access(AccessKind::Any)));
        assert!(is_change(EventKind::Create(CreateKind::File)));
        assert!(is_change(EventKind::Modify(ModifyKind::Data(DataChange::Any))));
    }

    #[tokio::test]
    async fn a_save_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let project = project(folder.path());
        let mut watch = Watch::begin(&project.file, Some(&project)).unwrap();
        let file = folder.path().join("src/main.rs");
        fs::write(&file, "fn main() {}").unwrap();
        let seen = tokio::time::timeout(Duration::from_secs(30), watch.changed()).await;
        assert_eq!(seen.unwrap().unwrap(), file.canonicalize().unwrap());
    }
}
