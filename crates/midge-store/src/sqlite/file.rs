//! The file of a database: what it may be, who else has it, who may read it, and whether it is still where it was.
//!
//! Invariant: no SQL. A descriptor of a database is closed only when SQLite has none of it open in this process:
//! closing any ends all of SQLite's own locks on it (fcntl(2)).

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::StoreError;

/// Args, results and logs are nobody else's business.
const MODE: u32 = 0o600;
/// The files that SQLite keeps beside a database: its log, and those of other modes.
const BESIDE: [&str; 3] = [LOG, "-shm", "-journal"];
const LOG: &str = "-wal";
/// Says, beside a database, that a file of it was cut short while a server had it open.
const DAMAGED: &str = "-damaged";
/// The log's file is cut to this when all of it was moved, and never below while it is open.
pub(super) const LOG_BYTES_KEPT: u32 = 32 * 1024 * 1024;
/// How many names are tried for a file that saves what a lost one held.
const SAVED_MAX: usize = 100;

/// The databases that this process has open, whatever they are called.
static HELD: Mutex<BTreeSet<Inode>> = Mutex::new(BTreeSet::new());

/// A file itself, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    fn of(file: &Metadata) -> Inode {
        Inode { device: file.dev(), number: file.ino() }
    }
}

/// A database's file, which no other store has while this lives.
#[derive(Debug)]
pub(super) struct DatabaseFile {
    database: Known,
    /// The log, as the writer's connection found or made it.
    log: OnceLock<Known>,
    /// Locked with flock(2), of which SQLite's locks know nothing: it holds under every name that the file has, a hard
    /// link, a symbolic one or a mount.
    _file: Held,
    /// A locked file with the database's name: the names of the log and its index hang on that, also where the database
    /// itself is another one by now.
    name: Name,
}

/// A file as it was when it was last written.
#[derive(Debug)]
struct Known {
    path: PathBuf,
    inode: Inode,
    /// The bytes that it has at least.
    least: AtomicU64,
}

impl Known {
    fn new(path: PathBuf, there: &Metadata) -> Known {
        Known { path, inode: Inode::of(there), least: AtomicU64::new(there.len()) }
    }

    /// Returns how long the file is. Fails where it is not where it was, or was cut short.
    fn look(&self) -> Result<u64, StoreError> {
        // Before the look: one that grows meanwhile was not cut.
        let least = self.least.load(Ordering::Acquire);
        let bytes = match fs::metadata(&self.path) {
            Ok(there) if Inode::of(&there) == self.inode => there.len(),
            Ok(_) => return Err(lost(&self.path, "was replaced by another file")),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(lost(&self.path, "was deleted or moved"));
            }
            Err(error) => return Err(lost(&self.path, &format!("cannot be found: {error}"))),
        };
        if bytes < least {
            let path = self.path.display();
            return Err(StoreError::Damaged {
                why: format!("{path} was cut short: it had {least} bytes, and has {bytes}"),
            });
        }
        Ok(bytes)
    }
}

/// The locked file that stands for a database's name.
#[derive(Debug)]
struct Name {
    path: PathBuf,
    /// Whether it was made for this store.
    is_new: bool,
    _file: Locked,
}

/// A file that this process has locked.
#[derive(Debug)]
struct Locked(File);

impl Drop for Locked {
    fn drop(&mut self) {
        // What another thread is just starting has a copy of the descriptor until it has become its program: the lock would
        // not end where this one is closed.
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the lock of a database ends with its last descriptor");
        }
    }
}

/// A descriptor of a database. This process opens no other one while it is held.
#[derive(Debug)]
struct Held(Option<Locked>, Inode);

impl Drop for Held {
    fn drop(&mut self) {
        // Under one lock: a file that was deleted ends with its last descriptor, and its number is given to the next
        // file at once, which would then be found to be held.
        let mut held = held();
        self.0 = None;
        held.remove(&self.1);
    }
}

fn held() -> std::sync::MutexGuard<'static, BTreeSet<Inode>> {
    // A set is whole, whoever panicked.
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

impl DatabaseFile {
    /// Opens a file for one store alone, and makes it where there is none. Nothing is written into it.
    pub(super) fn open(path: &Path) -> Result<DatabaseFile, StoreError> {
        let path = resolve(path)?;
        let in_use = || StoreError::InUse { path: path.display().to_string() };
        // Under one lock from the look to the entry, so that two threads do not both find nothing.
        let mut held = held();
        // Looked at before it is opened, since what is opened would have to be closed again.
        if let Ok(there) = fs::metadata(&path) {
            check_kind(&path, &there)?;
            if held.contains(&Inode::of(&there)) {
                return Err(in_use());
            }
        }
        let name = lock_name(&path)?;
        check_left_behind(&path).and_then(|()| check_mark(&path)).inspect_err(|_| name.leave_as_it_was())?;
        let file = private().read(true).open(&path).map_err(|error| not_opened(&path, &error))?;
        let there = file.metadata().map_err(|error| not_opened(&path, &error))?;
        let inode = Inode::of(&there);
        if held.contains(&inode) {
            // It was put there since it was looked at. Closing it would end the locks of the store that has it.
            std::mem::forget(file);
            return Err(in_use());
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use()),
            Err(TryLockError::Error(error)) => {
                return Err(cannot_open(&path, format!("it cannot be locked: {error}")));
            }
        }
        if there.nlink() > 1 {
            return Err(cannot_open(
                &path,
                format!(
                    "the file has {} names (hard links), and what SQLite keeps beside it is found under one of them \
                     only: remove the others (`find -samefile` finds them), or copy it with `sqlite3 FILE '.backup \
                     COPY'` and open the copy",
                    there.nlink()
                ),
            ));
        }
        held.insert(inode);
        drop(held);
        let file = Held(Some(Locked(file)), inode);
        Ok(DatabaseFile { database: Known::new(path, &there), log: OnceLock::new(), _file: file, name })
    }

    /// Takes everybody's rights to the file, and to what is beside it, but the owner's: once it is known that it is ours.
    pub(super) fn make_private(&self) {
        make_private(self.path());
        for suffix in BESIDE {
            make_private(&beside(self.path(), suffix));
        }
        make_private(&self.name.path);
    }

    /// Leaves nothing of ours beside a file that is refused.
    pub(super) fn leave_as_it_was(&self) {
        self.name.leave_as_it_was();
    }

    pub(super) fn path(&self) -> &Path {
        &self.database.path
    }

    /// Takes note of the log, which SQLite has open by now.
    pub(super) fn note_log(&self) -> Result<(), StoreError> {
        let path = beside(self.path(), LOG);
        let there = fs::metadata(&path).map_err(|error| not_opened(&path, &error))?;
        // Noted once, when the store opens.
        let _ = self.log.set(Known::new(path, &there));
        self.note()
    }

    /// Fails where the file or its log is not where it was, or is shorter than it was: what is written would go where
    /// nobody finds it again.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let look = || {
            self.database.look()?;
            self.log.get().map_or(Ok(0), Known::look).map(drop)
        };
        look().inspect_err(|error| self.mark_cut(error))
    }

    /// Leaves word for the next server that a file was cut short: what is left of a log is a log, of which SQLite says
    /// nothing, and the jobs in the rest of it would be gone without a word.
    fn mark_cut(&self, error: &StoreError) {
        let StoreError::Damaged { why } = error else { return };
        let mark = beside(self.path(), DAMAGED);
        let Ok(mut file) = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&mark) else {
            return;
        };
        if let Err(error) = file.write_all(why.as_bytes()).and_then(|()| file.sync_all()) {
            tracing::error!(path = %mark.display(), %error, "cannot write down that the database is damaged");
        }
    }

    /// Does what [`DatabaseFile::check`] does, and takes note of how long the files are. Only whoever writes them does.
    pub(super) fn note(&self) -> Result<(), StoreError> {
        let look = || {
            let bytes = self.database.look()?;
            self.database.least.store(bytes, Ordering::Release);
            if let Some(log) = self.log.get() {
                let bytes = log.look()?;
                log.least.store(bytes.min(LOG_BYTES_KEPT.into()), Ordering::Release);
            }
            Ok(())
        };
        look().inspect_err(|error| self.mark_cut(error))
    }

    /// Takes note that the log is to be emptied.
    pub(super) fn note_log_emptied(&self) {
        if let Some(log) = self.log.get() {
            log.least.store(0, Ordering::Release);
        }
    }

    /// Makes a copy of what a lost database held beside where that was, and returns its path. It has its name once it is
    /// whole: a part of it would only be taken for all of it.
    pub(super) fn save(
        &self,
        write: impl FnOnce(&Path) -> Result<(), StoreError>,
    ) -> Result<PathBuf, StoreError> {
        let database = self.path().display();
        let path = (1..=SAVED_MAX).map(|number| saved(self.path(), number)).find(|path| !path.exists());
        let path = path
            .ok_or_else(|| StoreError::Failed(format!("there are {SAVED_MAX} files {database}-saved-*")))?;
        let unfinished = beside(self.path(), "-saving");
        let mut empty = OpenOptions::new();
        empty.write(true).create(true).truncate(true).mode(MODE);
        empty.open(&unfinished).map_err(|error| not_opened(&unfinished, &error))?;
        let outcome = write(&unfinished).and_then(|()| {
            fs::rename(&unfinished, &path).map_err(|error| StoreError::Failed(error.to_string()))
        });
        if outcome.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        outcome.map(|()| path)
    }
}

impl Name {
    fn leave_as_it_was(&self) {
        if self.is_new {
            // Whoever has opened it meanwhile is refused for the same reason.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Returns the path of what was saved of a lost database.
fn saved(path: &Path, number: usize) -> PathBuf {
    beside(path, &format!("-saved-{number}"))
}

/// Returns the one path of a file that may have many, so that all of them meet the same lock.
fn resolve(path: &Path) -> Result<PathBuf, StoreError> {
    match path.canonicalize() {
        Ok(path) => return Ok(path),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(not_opened(path, &error)),
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Ok(target) = fs::read_link(path) {
        // A link whose file is still to be made. One that leads to itself was another error.
        return resolve(&folder.join(target));
    }
    let name = path.file_name().ok_or_else(|| cannot_open(path, "it is not a file's name: name a file"))?;
    match folder.canonicalize() {
        Ok(folder) => Ok(folder.join(name)),
        Err(error) => Err(cannot_open(path, format!("{}: {error}: make the folder first", folder.display()))),
    }
}

/// Refuses what is no file.
fn check_kind(path: &Path, there: &Metadata) -> Result<(), StoreError> {
    let kind = there.file_type();
    let what = match kind {
        _ if kind.is_file() => return Ok(()),
        _ if kind.is_dir() => "a folder",
        _ if kind.is_fifo() => "a FIFO",
        _ if kind.is_socket() => "a socket",
        _ if kind.is_char_device() || kind.is_block_device() => "a device",
        _ => "no file",
    };
    Err(cannot_open(path, format!("it is {what}: name a file")))
}

/// Refuses to begin anew where something is left of a database that is gone, since it holds jobs: its log, which SQLite
/// would empty, or what a server saved of it.
fn check_left_behind(path: &Path) -> Result<(), StoreError> {
    if fs::metadata(path).is_ok_and(|there| there.len() > 0) {
        return Ok(());
    }
    let newest = (1..=SAVED_MAX).rev().map(|number| saved(path, number)).find(|path| path.exists());
    let log = beside(path, LOG);
    let bytes = fs::metadata(&log).map_or(0, |log| log.len());
    let (database, log) = (path.display(), log.display());
    let why = match newest.map(|path| path.display().to_string()) {
        Some(saved) if bytes > 0 => format!(
            "there is nothing in it, and beside it is what was saved of a database that was there, {saved}, and a log, \
             {log}, of {bytes} bytes, in which may be jobs that came after that: put the database back; or give them up \
             and delete the log, and then `mv {saved} {database}` to go on with what was saved, or move that away too to \
             begin anew"
        ),
        Some(saved) => format!(
            "there is nothing in it, and beside it is what was saved of a database that was lost, {saved}: `mv {saved} \
             {database}` to go on with that, or move it away (each {database}-saved-*) to begin anew"
        ),
        None if bytes > 0 => format!(
            "there is nothing in it, and beside it is the log of a database that was there, {log}, of {bytes} bytes: put \
             the database back, or delete the log to begin anew"
        ),
        None => return Ok(()),
    };
    Err(cannot_open(path, why))
}

/// Refuses a database of which a server found that a file was cut short, until somebody has looked at it.
fn check_mark(path: &Path) -> Result<(), StoreError> {
    let mark = beside(path, DAMAGED);
    match fs::read(&mark) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        read => {
            let why =
                read.map_or_else(|error| error.to_string(), |why| String::from_utf8_lossy(&why).into_owned());
            Err(cannot_open(
                path,
                format!(
                    "the server before found it damaged ({}): restore a backup of it, or go on with what is left, without \
                     the jobs that were cut off; then delete {}",
                    midge_protocol::shown::line(&why),
                    mark.display()
                ),
            ))
        }
    }
}

/// Makes sure that no other store has a database of this name. The lock is the kernel's: it ends with the process.
fn lock_name(path: &Path) -> Result<Name, StoreError> {
    let lock_path = beside(path, "-lock");
    let is_new = !lock_path.exists();
    let file = private().open(&lock_path).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            let why = format!(
                "files cannot be made beside it, where SQLite keeps its log: {error}: {WHO_MAY_WRITE}"
            );
            cannot_open(path, why)
        }
        _ => not_opened(&lock_path, &error),
    })?;
    match file.try_lock() {
        Ok(()) => Ok(Name { path: lock_path, is_new, _file: Locked(file) }),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: path.display().to_string() }),
        Err(TryLockError::Error(error)) => {
            Err(cannot_open(&lock_path, format!("it cannot be locked: {error}")))
        }
    }
}

/// What to do where a file or a folder cannot be written.
pub(super) const WHO_MAY_WRITE: &str = "run midge as the user who may write there, and on a file system that is not read-only, or name another file";

/// Returns how a file is opened that others may not read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(MODE);
    options
}

/// Takes everybody's rights to a file but the owner's. A file of before, or one made under a strange umask, is no reason
/// not to start.
fn make_private(path: &Path) {
    // Not through a link, which may lead anywhere.
    let Ok(there) = fs::symlink_metadata(path) else { return };
    let mode = there.permissions().mode() & 0o777;
    if !there.is_file() || mode == MODE {
        return;
    }
    let outcome = fs::set_permissions(path, PermissionsExt::from_mode(MODE));
    let path = path.display();
    match outcome {
        Ok(()) => {
            tracing::info!(%path, "the file's mode was {mode:o}: only its owner may read it from now on")
        }
        Err(error) => {
            tracing::warn!(%path, %error, "others may read the database (its mode is {mode:o}): chmod 600 it");
        }
    }
}

/// Returns the path of a file that belongs to a database.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

fn lost(path: &Path, what: &str) -> StoreError {
    StoreError::Lost { path: path.display().to_string(), what: what.to_owned() }
}

fn cannot_open(path: &Path, why: impl Into<String>) -> StoreError {
    StoreError::CannotOpen { path: path.display().to_string(), why: why.into() }
}

fn not_opened(path: &Path, error: &io::Error) -> StoreError {
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            cannot_open(path, format!("it cannot be written: {error}: {WHO_MAY_WRITE}"))
        }
        _ => cannot_open(path, error.to_string()),
    }
}
