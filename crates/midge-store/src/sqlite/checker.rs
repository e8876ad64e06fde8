//! The thread that looks over all pages of a database, now and then.
//!
//! A million jobs with an attempt each are 1.3 GB. To look over them took 2 s of processor and 7 s where the system had
//! the file in memory, 10 s and 40 s where it had not: too long for a start, little enough for once an hour. What is
//! found is that pages are not what they must be. A page's text may have changed all the same: SQLite has no checksums.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use super::connection::open_reader;
use super::health::Health;
use crate::StoreError;

/// A file that has no more is looked over before it is used, in about a tenth of a second.
const AT_ONCE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// At most one part of so many of the time is spent looking, however large the file is.
const SHARE_OF_TIME: u32 = 20;
/// How many steps of SQLite's pass between two looks at whether it is to stop.
const STEPS: i32 = 1_000;

/// Looks over a database until it is dropped.
#[derive(Debug)]
pub(super) struct Checker {
    stopping: Arc<AtomicBool>,
    /// Nothing once it is being dropped: the thread ends when it has no sender any more.
    stay: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checker {
    /// Begins to look over a database, every so often.
    pub(super) fn start(health: Arc<Health>, every: Duration, first: First) -> Result<Checker, StoreError> {
        let stopping = Arc::new(AtomicBool::new(false));
        let (stay, gone) = channel::<()>();
        let stop = stopping.clone();
        let run = move || {
            let mut pause = if first == First::Now { Duration::ZERO } else { every };
            while gone.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let begun = Instant::now();
                look_over(&health, &stop);
                pause = every.max(begun.elapsed() * SHARE_OF_TIME);
            }
        };
        let thread = std::thread::Builder::new()
            .name("midge-checker".to_owned())
            .spawn(run)
            .map_err(|error| StoreError::Failed(format!("cannot start a thread: {error}")))?;
        Ok(Checker { stopping, stay: Some(stay), thread: Some(thread) })
    }
}

/// When a checker looks for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    Now,
    /// After the usual pause, since it has been looked over just now.
    Later,
}

impl Drop for Checker {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.stay = None;
        if let Some(thread) = self.thread.take() {
            // A panic has been shown by the thread itself.
            let _ = thread.join();
        }
    }
}

/// Looks over a database that is small enough to wait for. A larger one is left to the thread.
pub(super) fn check_at_once(connection: &Connection, path: &Path) -> Result<First, StoreError> {
    if std::fs::metadata(path).is_ok_and(|file| file.len() > AT_ONCE_BYTES_MAX) {
        return Ok(First::Now);
    }
    match check(connection)? {
        None => Ok(First::Later),
        Some(why) => Err(StoreError::Damaged { why: format!("{}: {why}", path.display()) }),
    }
}

/// Looks over a database that is in use, and says what is found.
fn look_over(health: &Health, stopping: &Arc<AtomicBool>) {
    // The name of one that was lost may be another's by now.
    if health.to_read().is_err() {
        return;
    }
    let stop = stopping.clone();
    let looked = open_reader(health.file().path()).and_then(|mut connection| {
        connection.progress_handler(STEPS, Some(move || stop.load(Ordering::Relaxed)))?;
        check(&connection)
    });
    match looked {
        Ok(None) => {}
        Ok(Some(why)) => health.damaged(&why),
        Err(_) if stopping.load(Ordering::Relaxed) => {}
        Err(error) => {
            tracing::warn!(%error, "the database could not be looked over");
            health.note();
        }
    }
}

/// Returns what is wrong with the pages of a database.
fn check(connection: &Connection) -> Result<Option<String>, StoreError> {
    match connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)) {
        Ok(said) if said == "ok" => Ok(None),
        // It begins with a headline, and the lines after it are the finding.
        Ok(said) => Ok(Some(said.lines().map(str::trim).collect::<Vec<_>>().join(" "))),
        Err(error) => match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Ok(Some(error.to_string())),
            _ => Err(error.into()),
        },
    }
}
