//! The one thread that writes. It takes all the work that waits, and makes it durable with one commit.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::counts::Counts;
use super::health::{Health, News};
use super::queued::{QueuedWork, Reply, Room, thread_is_gone};
use super::rows::{Guard, SqliteRows};
use crate::work;
use crate::{StoreError, WriteWork};

/// How much work may be queued for the thread. Callers with more wait until there is room.
const WAITING_MAX: usize = 4_096;
/// How much work shares one commit: with more, the commit's part in the cost of each hardly falls.
const COMMIT_WORKS_MAX: usize = 512;
/// How long work is taken into one commit. Whoever came first waits for the last.
const COMMIT_TIME_MAX: Duration = Duration::from_millis(10);

/// How often the thread looks whether the file is where it was, while it has nothing to do.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Hands work to the thread.
#[derive(Debug)]
pub(super) struct Writer {
    health: Arc<Health>,
    /// Nothing once the writer is being dropped: the thread ends when it has no sender any more.
    queue: Option<Sender<QueuedWork>>,
    room: Room,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(connection: Connection, health: Arc<Health>) -> Result<Writer, StoreError> {
        let (sender, queue) = channel();
        let mut thread =
            WriterThread { connection, health: health.clone(), counts: None, wrote: false, queue };
        let thread = std::thread::Builder::new()
            .name("midge-writer".to_owned())
            .spawn(move || thread.run())
            .map_err(|error| StoreError::Failed(format!("cannot start a thread: {error}")))?;
        Ok(Writer { health, queue: Some(sender), room: Room::new(WAITING_MAX), thread: Some(thread) })
    }

    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.health.to_write()
    }

    pub(super) async fn write(&self, work: WriteWork) -> Result<(), StoreError> {
        // The thread may be saving what a lost file held, which takes a while.
        self.health.to_queue()?;
        let queue = self.queue.as_ref().ok_or_else(thread_is_gone)?;
        self.room.wait_for(work, |queued| queue.send(queued).map_err(|_| thread_is_gone())).await
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // Work's panics are caught; another has been shown by the thread itself.
            let _ = thread.join();
        }
    }
}

struct WriterThread {
    // Before the file's own descriptor, which must be closed after it.
    connection: Connection,
    health: Arc<Health>,
    /// The numbers of the file and of the transaction; nothing where they have to be loaded.
    counts: Option<Counts>,
    /// Whether a work that was kept has written in the transaction.
    wrote: bool,
    queue: Receiver<QueuedWork>,
}

impl WriterThread {
    fn run(&mut self) {
        loop {
            match self.queue.recv_timeout(LOOK_EVERY) {
                Ok(first) => self.transaction(first),
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.look();
        if self.health.is_whole().is_err() {
            self.leave_the_log();
        }
    }

    /// Leaves the log of a damaged database as it is when the connection closes: what can be read of both is read from
    /// both, and a part of the log in the file would be neither the old state nor the new one.
    fn leave_the_log(&self) {
        let set = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        if let Err(error) = set {
            tracing::error!(%error, "the log is moved into the damaged database: {error}");
        }
    }

    /// Looks whether the file is where it was. What a lost one held is saved, as long as it is still open.
    fn look(&mut self) {
        if self.health.look() == News::Lost {
            if let Err(error) = self.empty_log() {
                tracing::error!(
                    %error,
                    "the lost database's log could not be emptied: delete it before another file takes the name"
                );
            }
            match self.save() {
                Ok(path) => tracing::error!("all that the lost database held is saved in {path}"),
                Err(error) => {
                    tracing::error!(%error, "what the lost database held cannot be saved: {error}");
                }
            }
        }
    }

    /// Moves what is in the log into the file, wherever that is by now. Whatever gets the name of the file next, SQLite
    /// would take the log for its own.
    fn empty_log(&self) -> Result<(), StoreError> {
        self.health.file().note_log_emptied();
        let is_busy =
            self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0))?;
        if is_busy { Err(StoreError::Failed("somebody still reads it".to_owned())) } else { Ok(()) }
    }

    /// Writes all that the database holds into a new file beside it, and returns its path.
    fn save(&self) -> Result<String, StoreError> {
        let saved = self.health.file().save(|path| {
            let path = path.to_str().ok_or_else(|| StoreError::Failed("its path is not UTF-8".to_owned()))?;
            self.connection.execute("VACUUM INTO ?1", [path])?;
            Ok(())
        })?;
        Ok(saved.display().to_string())
    }

    /// Does a work, and what else waits, in one transaction. Replies when it is durable.
    fn transaction(&mut self, first: QueuedWork) {
        let begun = Instant::now();
        if let Err(error) = self.health.to_write().and_then(|()| self.begin()) {
            self.health.note();
            let _ = first.reply.send(Err(error));
            self.look();
            return;
        }
        let mut done: Vec<(Reply, Result<(), StoreError>)> = Vec::new();
        let mut next = Some(first);
        let mut ended = Ok(());
        while let Some(queued) = next.take() {
            let outcome = self.work(queued.work);
            // SQLite itself may undo the whole transaction, such as where the disk is full.
            let lost = self.connection.is_autocommit();
            if let (true, Err(error)) = (lost, &outcome) {
                ended = Err(error.for_another());
            }
            done.push((queued.reply, outcome));
            if !lost && done.len() < COMMIT_WORKS_MAX && begun.elapsed() < COMMIT_TIME_MAX {
                next = self.queue.try_recv().ok();
            }
        }
        let ended = ended.and_then(|()| self.commit());
        if ended.is_err() {
            self.roll_back();
        }
        self.health.note();
        // Nothing is answered that went where nobody finds it again.
        let ended = ended.and_then(|()| self.health.wrote());
        for (reply, outcome) in done {
            let outcome = outcome.and(ended.as_ref().map(|_| ()).map_err(StoreError::for_another));
            // Whoever does not wait any more does not need to know.
            let _ = reply.send(outcome);
        }
        if ended.is_err() {
            self.look();
        }
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        self.wrote = false;
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(())
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        if let Some(counts) = &mut self.counts {
            counts.flush(&self.connection)?;
        }
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }

    /// Undoes the whole transaction, unless SQLite did so itself.
    fn roll_back(&mut self) {
        self.counts = None;
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "the store could not undo a transaction: {error}");
        }
    }

    /// Does one work. Where it fails, nothing of it is in the transaction.
    fn work(&mut self, work: WriteWork) -> Result<(), StoreError> {
        let guard = if self.wrote { Guard::Savepoint } else { Guard::Transaction };
        let mut rows = SqliteRows::to_write(&self.connection, &mut self.counts, guard);
        let outcome = work::run(work, &mut rows);
        let (guard, outcome) = rows.end(outcome);
        let settled = match &outcome {
            Ok(()) => self.keep(guard),
            Err(_) if self.connection.is_autocommit() => Ok(()),
            Err(_) => self.undo(guard),
        };
        if let Err(error) = settled {
            tracing::error!(%error, "the store could not end a work: {error}");
            self.roll_back();
            return Err(error);
        }
        outcome
    }

    fn keep(&mut self, guard: Guard) -> Result<(), StoreError> {
        if let Some(counts) = &mut self.counts {
            counts.keep();
        }
        match guard {
            Guard::Transaction | Guard::Savepoint => {}
            Guard::TransactionUsed => self.wrote = true,
            Guard::SavepointMade => {
                self.connection.prepare_cached("RELEASE work")?.execute([])?;
            }
        }
        Ok(())
    }

    fn undo(&mut self, guard: Guard) -> Result<(), StoreError> {
        if let Some(counts) = &mut self.counts {
            counts.undo();
        }
        match guard {
            Guard::Transaction | Guard::Savepoint => {}
            Guard::TransactionUsed => {
                self.connection.prepare_cached("ROLLBACK")?.execute([])?;
                self.begin()?;
            }
            Guard::SavepointMade => {
                self.connection.prepare_cached("ROLLBACK TO work")?.execute([])?;
                self.connection.prepare_cached("RELEASE work")?.execute([])?;
            }
        }
        Ok(())
    }
}
