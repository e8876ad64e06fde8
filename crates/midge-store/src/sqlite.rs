//! Rows in one SQLite file: a thread that writes, a few that read when somebody asks.
//!
//! Invariant: one store has the file, by a lock on the file itself and on its name. SQL finds and counts; it holds no
//! rule.
//!
//! Each file uses only files below it:
//!
//! | file | what is in it | uses |
//! |---|---|---|
//! | `writer` | the thread that writes, and its commits | `health`, `queued`, `rows`, `counts` |
//! | `readers` | the threads that read | `connection`, `health`, `queued`, `rows` |
//! | `checker` | the thread that looks over all pages | `connection`, `health` |
//! | `health` | whether the file can still be used | `connection`, `file` |
//! | `connection` | opening a file, and leading it to the newest schema | `file`, `page_cache`, `counts` |
//! | `page_cache` | SQLite's cache of pages, which is not searched for nothing | |
//! | `file` | the file itself: its locks, its mode, whether it is still there | |
//! | `queued` | work on its way to a thread and back | |
//! | `jobs` | finding, writing, deleting jobs | `put`, `unique`, `ended`, `search`, `batches`, `read`, `rows`, `counts` |
//! | `put` | the row of a job | `entries`, `lanes`, `batches`, `dependencies`, `rows`, `counts` |
//! | `entries` | by what jobs are found that have what most lack | `columns`, `rows` |
//! | `columns` | what stands beside the body of a job | `counts`, `decode` |
//! | `batches` | batches, and the numbers of their jobs | `rows`, `decode` |
//! | `dependencies` | who waits for which job, and is to be told of its end | `read`, `rows`, `counts`, `decode` |
//! | `listing` | finding jobs for people | `read`, `rows`, `decode` |
//! | `read` | a job from its row, or what is known of one that cannot be read | `decode` |
//! | `contents` | bytes, logs and attempts | `rows`, `decode` |
//! | `machines` | Machines and settings | `rows`, `decode` |
//! | `rows` | one work's part of a transaction, and how it is undone | `counts` |
//! | `counts` | the numbers that every transaction keeps | `decode` |
//! | `decode` | columns | |

mod checker;
mod readers;
mod unique;
mod writer;

mod health;

mod connection;
mod file;
mod page_cache;
mod queued;

mod ended;
mod jobs;
mod lanes;
mod listing;
mod put;
mod read;
mod search;

mod batches;
mod columns;
mod contents;
mod costs;
mod dependencies;
mod entries;
mod failures;
mod machines;
mod schedules;

mod rows;

mod counts;
mod decode;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use self::checker::{Checker, check_at_once};
use self::file::DatabaseFile;
use self::health::Health;
use self::readers::Readers;
use self::writer::Writer;
use crate::{ReadWork, Store, StoreError, WriteWork};

/// How a database is used. The default sets no bound, and looks over the file once an hour.
#[derive(Debug, Clone)]
pub struct SqliteSettings {
    /// The most bytes that the file may have: a write that needs more fails with [`StoreError::Full`]. Without it, the
    /// disk is the bound.
    pub bytes_max: Option<u64>,
    /// The time from one look over all pages of the file to the next. A file that takes long to look over is looked over
    /// less often.
    pub check_every: Duration,
}

impl Default for SqliteSettings {
    fn default() -> SqliteSettings {
        SqliteSettings { bytes_max: None, check_every: Duration::from_secs(60 * 60) }
    }
}

/// A durable store in one SQLite file. When it is dropped, it waits for the work that has begun and closes the file.
///
/// Nobody but the file's owner may read the file and those that SQLite keeps beside it. A file that is deleted, moved or
/// replaced while the store has it open is noticed within a second, and before anything is answered: from then on work
/// fails with [`StoreError::Lost`], until the file is back. What the store still has of it is saved beside where it was,
/// in a file whose name ends with `-saved-1`, and no new database is made beside that. One that is cut short is damaged.
///
/// No other program can open the database meanwhile.
///
/// A process that has a limit on the size of its files (`ulimit -f`) is killed by SIGXFSZ where it would exceed it, unless
/// it handles or ignores that signal: then the write fails with [`StoreError::Full`].
#[derive(Debug)]
pub struct SqliteStore {
    // Fields are dropped in this order: the writer's connection closes last, and SQLite tidies the file up with it.
    _checker: Checker,
    readers: Readers,
    writer: Writer,
}

impl SqliteStore {
    /// Opens a database, or makes it where there is none. Its folder must be there. A database that an older midge
    /// made is led to the schema of now first, after which the older one cannot open it any more.
    ///
    /// # Errors
    /// [`StoreError::InUse`] where another store has the file, under whatever name; [`StoreError::NotOurs`] where it is
    /// no database of midge's; [`StoreError::Newer`] where a newer midge made it; [`StoreError::Damaged`] where its pages
    /// are not what they must be; [`StoreError::CannotOpen`] where it is no file, cannot be written, for want of room too, or
    /// has a second hard link. A file that is refused is left as it is.
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
        let health = Arc::new(Health::new(DatabaseFile::open(path)?));
        let path = health.file().path();
        let connection = connection::open_writer(health.file(), settings)
            .inspect_err(|_| health.file().leave_as_it_was())?;
        let first = check_at_once(&connection, path)?;
        health.file().note_log()?;
        let writer = Writer::start(connection, health.clone())?;
        let checker = Checker::start(health.clone(), settings.check_every, first)?;
        Ok(SqliteStore { _checker: checker, readers: Readers::new(health), writer })
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

    fn check(&self) -> Result<(), StoreError> {
        self.writer.check()
    }
}
