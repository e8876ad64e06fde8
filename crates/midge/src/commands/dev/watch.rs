//! Watches the sources of a project.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use midge_build::{ModuleSource, Project};
use notify::event::{EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Editors save in several steps: a build begins when nothing has happened for so long.
const QUIET: Duration = Duration::from_millis(150);
/// Folders that builds, editors and version control write into.
const IGNORED: &[&str] = &["target", "node_modules"];
/// More folders than this are no sources, and each costs the kernel a watch.
const FOLDERS_MAX: usize = 10_000;

/// A watch on the folders of a project.
pub(super) struct Watch {
    // Watches until it is dropped.
    _watcher: RecommendedWatcher,
    changed: mpsc::UnboundedReceiver<PathBuf>,
}

impl Watch {
    /// Begins to watch the folder of a midge.toml, and packages of its project that lie elsewhere. What jobs may write into is
    /// left out.
    pub(super) fn begin(file: &Path, project: Option<&Project>) -> Result<Watch> {
        let (sender, changed) = mpsc::unbounded_channel();
        let written = written(file, project);
        let is_source =
            move |path: &Path| !written.iter().any(|folder| path.starts_with(folder)) && !is_noise(path);
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

    /// Waits until a file was saved that is meant, or a folder came, and all is quiet again. Returns one that changed.
    pub(super) async fn changed(&mut self, is_meant: impl Fn(&Path) -> bool) -> Result<PathBuf> {
        let is_meant = |path: &Path| path.is_dir() || is_meant(path);
        let mut changed = loop {
            let path = self.changed.recv().await.context("the watch on the sources ended")?;
            if is_meant(&path) {
                break path;
            }
        };
        let mut until = Instant::now() + QUIET;
        while let Ok(Some(next)) = tokio::time::timeout_at(until, self.changed.recv()).await {
            if !is_meant(&next) {
                continue;
            }
            until = Instant::now() + QUIET;
            // Many editors write another file first and then give it the name of the one that is meant. What a folder
            // holds is looked for by whoever asks, so a file is the better answer.
            if !changed.exists() || changed.is_dir() {
                changed = next;
            }
        }
        Ok(changed)
    }
}

/// Returns whether a file is one that builds read. `read` is what the last one did; nothing where it failed: then it may be
/// any file, such as one that the package wants and does not find.
pub(super) fn is_read(file: &Path, midge_toml: &Path, read: Option<&BTreeSet<PathBuf>>) -> bool {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    // Of a new file no build knows yet.
    let by_name =
        matches!(name, "Cargo.toml" | "rust-toolchain" | "rust-toolchain.toml") || name.ends_with(".rs");
    let of_cargo = file.parent().is_some_and(|folder| folder.ends_with(".cargo"));
    // A build script may ask for a whole folder.
    let is_listed = |read: &BTreeSet<PathBuf>| file.ancestors().any(|at| read.contains(at));
    by_name || of_cargo || file == absolute(midge_toml) || read.is_none_or(is_listed)
}

/// Returns what was saved: the file itself, or, of a folder that came, a file in it that is meant; nothing where there is
/// none.
pub(super) fn saved_in(changed: &Path, is_meant: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    if !changed.is_dir() {
        return Some(changed.to_owned());
    }
    let mut folders = vec![changed.to_owned()];
    for _ in 0..FOLDERS_MAX {
        let entries = std::fs::read_dir(folders.pop()?).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()).filter(|path| !is_noise(path)) {
            match path.is_dir() {
                true => folders.push(path),
                false if is_meant(&path) => return Some(path),
                false => {}
            }
        }
    }
    None
}

/// Returns the folders that are written into while a project is built and run: that of its modules, and those that jobs may
/// write into. One that holds the project itself is not among them.
fn written(file: &Path, project: Option<&Project>) -> Vec<PathBuf> {
    let Some(project) = project else { return Vec::new() };
    let dirs = project.modules.values().flat_map(|module| module.dirs.values());
    let dirs = dirs.filter(|dir| !dir.read_only).map(|dir| absolute(Path::new(&dir.path)));
    let midge_toml = absolute(file);
    let mut written: Vec<PathBuf> = dirs.filter(|dir| !midge_toml.starts_with(dir)).collect();
    written.push(absolute(&project.out));
    written
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
        // SQLite's, such as what `midge serve` keeps beside it if it runs here with its defaults.
        || [".db", ".db-wal", ".db-shm", ".db-journal", ".log"].iter().any(|end| name.ends_with(end))
        || name.starts_with('.') && name != ".cargo"
        || name.ends_with('~')
        || name.ends_with(".swp")
        || name.ends_with(".swx")
        || name.ends_with(".tmp")
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
    let written = written(file, project);
    while let Some(folder) = next.pop() {
        if written.contains(&folder)
            || !folder.is_dir()
            || folders.len() == FOLDERS_MAX
            || !folders.insert(folder.clone())
        {
            continue;
        }
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        next.extend(entries.filter_map(|entry| {
            let ignored = is_noise(&entry.path());
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
        for noise in ["Cargo.lock", "main.rs~", ".main.rs.swp", "target", ".git", "app.log", "jobs.db-wal"] {
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
            let seen = tokio::time::timeout(Duration::from_secs(30), watch.changed(|_| true)).await;
            assert_eq!(seen.unwrap().unwrap(), there.file.canonicalize().unwrap(), "{text}");
        }
    }

    #[test]
    fn what_jobs_may_write_into_is_not_watched_unless_the_project_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let there = project(&root);
        fs::create_dir_all(root.join("outbox")).unwrap();
        let text = format!(
            "[modules.a]\npackage = \".\"\ndirs = {{ \"/out\" = \"{0}/outbox\", \"/all\" = \"{0}\" }}\n",
            root.display()
        );
        fs::write(&there.file, text).unwrap();
        let project = Project::read(&there.file).unwrap();
        let watched = folders(&project.file, Some(&project));
        assert!(
            watched.contains(&root.join("src")) && !watched.contains(&root.join("outbox")),
            "{watched:?}"
        );
    }

    #[test]
    fn only_what_a_build_reads_begins_one() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let project = project(&root);
        let read = BTreeSet::from([root.join("src/page.html"), root.join("assets")]);
        let is = |name: &str, read| is_read(&root.join(name), &project.file, read);
        for source in ["midge.toml", "Cargo.toml", "src/new.rs", "src/page.html", "assets/deep/a.png"] {
            assert!(is(source, Some(&read)), "{source}");
        }
        for other in ["README.md", "outbox/1.json", "src/other.html"] {
            assert!(!is(other, Some(&read)), "{other}");
            assert!(is(other, None), "{other}, which may be what the build lacked");
        }
        fs::write(root.join("src/deep/new.rs"), "").unwrap();
        let in_folder =
            |name: &str| saved_in(&root.join(name), |file| is(file.to_str().unwrap(), Some(&read)));
        assert_eq!(in_folder("src"), Some(root.join("src/deep/new.rs")));
        fs::create_dir(root.join("empty")).unwrap();
        assert_eq!(in_folder("empty"), None);
    }

    #[tokio::test]
    async fn what_is_not_meant_neither_begins_a_build_nor_puts_it_off() {
        let folder = tempfile::tempdir().unwrap();
        let project = project(folder.path());
        let mut watch = Watch::begin(&project.file, Some(&project)).unwrap();
        fs::write(folder.path().join("notes.txt"), "a").unwrap();
        fs::write(folder.path().join("src/main.rs"), "fn main() {}").unwrap();
        let changed = watch.changed(|path| path.extension().is_some_and(|end| end == "rs"));
        let seen = tokio::time::timeout(Duration::from_secs(30), changed).await;
        assert!(seen.unwrap().unwrap().ends_with("src/main.rs"));
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
        let seen = tokio::time::timeout(Duration::from_secs(30), watch.changed(|_| true)).await;
        assert_eq!(seen.unwrap().unwrap(), file.canonicalize().unwrap());
    }
}
