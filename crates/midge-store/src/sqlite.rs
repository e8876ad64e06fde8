//! Rows in one SQLite file: a thread that writes, a few that read when somebody asks.
//!
//! Invariant: one store has the file, by a lock on a file beside it. SQL finds and counts; it holds no rule.
//!
//! Each file uses only files below it:
//!
//! | file | what is in it | uses |
//! |---|---|---|
//! | `writer` | the thread that writes, and its commits | `queued`, `rows`, `counts` |
//! | `readers` | the threads that read | `connection`, `queued`, `rows` |
//! | `connection` | opening a file, and leading it to the newest schema | |
//! | `queued` | work on its way to a thread and back | |
//! | `jobs` | finding, writing, deleting jobs | `listing`, `rows`, `counts`, `decode` |
//! | `listing` | finding jobs for people | `rows`, `decode` |
//! | `contents` | bytes, logs and attempts | `rows`, `decode` |
//! | `machines` | Machines and settings | `rows`, `decode` |
//! | `rows` | one work's part of a transaction, and how it is undone | `counts` |
//! | `counts` | the numbers that every transaction keeps | `decode` |
//! | `decode` | columns | |

mod readers;
mod writer;

mod connection;
mod queued;

mod jobs;
mod listing;

mod contents;
mod machines;

mod rows;

mod counts;
mod decode;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use self::readers::Readers;
use self::writer::Writer;
use crate::{ReadWork, Store, StoreError, WriteWork};

/// How a database is used.
#[derive(Debug, Clone, Default)]
pub struct SqliteSettings {
    /// The most bytes that it may have: beyond, it is as if the disk were full. Nothing is no bound of its own.
    pub bytes_max: Option<u64>,
}

/// A durable store in one SQLite file. Dropping it waits for the work that was begun, and gives the file free.
#[derive(Debug)]
pub struct SqliteStore {
    // In this order they are dropped: the last connection to close, the writer's, tidies the file up.
    readers: Readers,
    writer: Writer,
    _lock: File,
}

impl SqliteStore {
    /// Opens a database, or makes it where there is none, in a folder that is there.
    pub fn open(path: &Path) -> Result<SqliteStore, StoreError> {
        SqliteStore::open_with(path, &SqliteSettings::default())
    }

    /// Opens a database with settings other than the defaults.
    pub fn open_with(path: &Path, settings: &SqliteSettings) -> Result<SqliteStore, StoreError> {
        let path = &resolve(path)?;
        let lock = lock(path)?;
        let connection = connection::open_writer(path, settings)?;
        let writer = Writer::start(connection)?;
        Ok(SqliteStore { readers: Readers::new(path.clone()), writer, _lock: lock })
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn write_boxed(&self, work: WriteWork) -> Result<(), StoreError> {
        self.writer.write(work).await
    }

    async fn read_boxed(&self, work: ReadWork) -> Result<(), StoreError> {
        self.readers.read(work).await
    }
}

/// Returns the one path of a file that may have many, so that all of them meet the same lock.
fn resolve(path: &Path) -> Result<PathBuf, StoreError> {
    let cannot = |why: &str| StoreError::Failed(format!("cannot open {}: {why}", path.display()));
    if path.is_dir() {
        return Err(cannot("it is a folder: name a file"));
    }
    if let Ok(path) = path.canonicalize() {
        return Ok(path);
    }
    let name = path.file_name().ok_or_else(|| cannot("it is not a file's name"))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match folder.canonicalize() {
        Ok(folder) => Ok(folder.join(name)),
        Err(error) => Err(cannot(&format!("{}: {error}: make the folder first", folder.display()))),
    }
}

/// Makes sure that no other store has the file. The lock is the kernel's: it ends with the process.
fn lock(path: &Path) -> Result<File, StoreError> {
    // Not a lock on the database itself: closing any descriptor of that file would end SQLite's own locks.
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push("-lock");
    let lock_path = PathBuf::from(lock_path);
    let failed =
        |error: std::io::Error| StoreError::Failed(format!("cannot lock {}: {error}", lock_path.display()));
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).open(&lock_path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: path.display().to_string() }),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}
