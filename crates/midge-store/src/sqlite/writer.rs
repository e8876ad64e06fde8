//! The one thread that writes. It takes all the work that waits, and makes it durable with one commit.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::counts::Counts;
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

/// Hands work to the thread.
#[derive(Debug)]
pub(super) struct Writer {
    /// Nothing once the writer is being dropped: the thread ends when it has no sender any more.
    queue: Option<Sender<QueuedWork>>,
    room: Room,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(connection: Connection) -> Result<Writer, StoreError> {
        let (sender, queue) = channel();
        let mut thread = WriterThread { connection, counts: None, wrote: false, queue };
        let thread = std::thread::Builder::new()
            .name("midge-writer".to_owned())
            .spawn(move || thread.run())
            .map_err(|error| StoreError::Failed(format!("cannot start a thread: {error}")))?;
        Ok(Writer { queue: Some(sender), room: Room::new(WAITING_MAX), thread: Some(thread) })
    }

    pub(super) async fn write(&self, work: WriteWork) -> Result<(), StoreError> {
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
    connection: Connection,
    /// The numbers of the file and of the transaction; nothing where they have to be loaded.
    counts: Option<Counts>,
    /// Whether a work that was kept has written in the transaction.
    wrote: bool,
    queue: Receiver<QueuedWork>,
}

impl WriterThread {
    fn run(&mut self) {
        while let Ok(first) = self.queue.recv() {
            self.transaction(first);
        }
    }

    /// Does a work, and what else waits, in one transaction. Replies when it is durable.
    fn transaction(&mut self, first: QueuedWork) {
        let begun = Instant::now();
        if let Err(error) = self.begin() {
            let _ = first.reply.send(Err(error));
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
        for (reply, outcome) in done {
            let outcome = outcome.and(ended.as_ref().map(|_| ()).map_err(StoreError::for_another));
            // Whoever does not wait any more does not need to know.
            let _ = reply.send(outcome);
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
