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
//! | `jobs` | finding, writing, deleting jobs | `listing`, `read`, `rows`, `counts`, `decode` |
//! | `listing` | finding jobs for people | `read`, `rows`, `decode` |
//! | `read` | a job from its row, or what is known of one that cannot be read | `decode` |
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
mod read;

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

/// How a database is used. The default sets no bound.
#[derive(Debug, Clone, Default)]
pub struct SqliteSettings {
    /// The most bytes that the file may have: a write that needs more fails with [`StoreError::Full`]. Without it, the
    /// disk is the bound.
    pub bytes_max: Option<u64>,
}

/// A durable store in one SQLite file. When it is dropped, it waits for the work that has begun and closes the file.
#[derive(Debug)]
pub struct SqliteStore {
    // Fields are dropped in this order: the writer's connection closes last, and SQLite tidies the file up with it.
    readers: Readers,
    writer: Writer,
    _lock: File,
}

impl SqliteStore {
    /// Opens a database, or makes it where there is none. Its folder must be there. A database that an older midge
    /// made is led to the schema of now first, after which the older one cannot open it any more.
    ///
    /// # Errors
    /// [`StoreError::InUse`] where another store has the file, under whatever path; [`StoreError::NotOurs`] where it is
    /// no database of midge's, is damaged, or was made by a newer midge. A file that is refused is left as it is.
    ///
    /// # Examples
    /// ```
    /// use midge_store::{SqliteStore, StoreError, read, write};
    ///
    /// # let folder = tempfile::TempDir::new()?;
    /// # let folder = folder.path();
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let path = folder.join("jobs.db");
    /// let store = SqliteStore::open(&path)?;
    /// write(&store, |rows| rows.put_setting("greeting", "hello")).await?;
    ///
    /// // One store has the file, until it is dropped.
    /// assert!(matches!(SqliteStore::open(&path), Err(StoreError::InUse { .. })));
    /// drop(store);
    ///
    /// let store = SqliteStore::open(&path)?;
    /// let greeting = read(&store, |rows| rows.setting("greeting")).await?;
    /// assert_eq!(greeting.as_deref(), Some("hello"));
    /// # Ok::<(), StoreError>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(path: &Path) -> Result<SqliteStore, StoreError> {
        SqliteStore::open_with(path, &SqliteSettings::default())
    }

    /// Opens a database as [`SqliteStore::open`] does, with settings other than the defaults.
    ///
    /// # Errors
    /// Those of [`SqliteStore::open`].
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
