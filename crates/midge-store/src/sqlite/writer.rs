//! The one thread that writes. It takes all the work that waits, and makes it durable with one commit.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::counts::Counts;
use super::rows::{Guard, SqliteRows};
use crate::work;
use crate::{StoreError, WriteWork};

/// Work that may wait for the thread. Others wait before they hand theirs in.
const WAITING_MAX: usize = 4_096;
/// Work in one commit: beyond, a commit costs little for each.
const COMMIT_WORKS_MAX: usize = 512;
/// How long work is taken into one commit: those who were first wait for the last.
const COMMIT_TIME_MAX: Duration = Duration::from_millis(10);

/// Hands work to the thread.
#[derive(Debug)]
pub(super) struct Writer {
    /// Taken when it is dropped, which ends the thread.
    requests: Option<Sender<Request>>,
    places: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
}

struct Request {
    work: WriteWork,
    answer: Answer,
    _place: OwnedSemaphorePermit,
}

type Answer = oneshot::Sender<Result<(), StoreError>>;

impl Writer {
    pub(super) fn start(connection: Connection) -> Result<Writer, StoreError> {
        let (sender, requests) = channel();
        let mut thread = WriterThread { connection, counts: None, wrote: false, requests };
        let thread = std::thread::Builder::new()
            .name("midge-writer".to_owned())
            .spawn(move || thread.run())
            .map_err(|error| StoreError::Failed(format!("cannot start a thread: {error}")))?;
        let places = Arc::new(Semaphore::new(WAITING_MAX));
        Ok(Writer { requests: Some(sender), places, thread: Some(thread) })
    }

    pub(super) async fn write(&self, work: WriteWork) -> Result<(), StoreError> {
        let gone = || StoreError::Failed("the store's thread is gone".to_owned());
        let place = self.places.clone().acquire_owned().await.map_err(|_| gone())?;
        let (answer, answered) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or_else(gone)?;
        requests.send(Request { work, answer, _place: place }).map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // Work's panics are caught; another has been shown by the thread itself.
            let _ = thread.join();
        }
    }
}

struct WriterThread {
    connection: Connection,
    /// As the file has them; nothing where that is not known.
    counts: Option<Counts>,
    /// Whether the transaction has written anything.
    wrote: bool,
    requests: Receiver<Request>,
}

impl WriterThread {
    fn run(&mut self) {
        while let Ok(request) = self.requests.recv() {
            self.transaction(request);
        }
    }

    /// Does a work, and what else waits, in one transaction. Answers when it is durable.
    fn transaction(&mut self, first: Request) {
        let begun = Instant::now();
        if let Err(error) = self.begin() {
            let _ = first.answer.send(Err(error));
            return;
        }
        let mut done: Vec<(Answer, Result<(), StoreError>)> = Vec::new();
        let mut next = Some(first);
        let mut ended = Ok(());
        while let Some(request) = next.take() {
            let outcome = self.work(request.work);
            // SQLite gave up the whole transaction, as it may where the disk is full.
            let lost = self.connection.is_autocommit();
            if let (true, Err(error)) = (lost, &outcome) {
                ended = Err(again(error));
            }
            done.push((request.answer, outcome));
            if !lost && done.len() < COMMIT_WORKS_MAX && begun.elapsed() < COMMIT_TIME_MAX {
                next = self.requests.try_recv().ok();
            }
        }
        let ended = ended.and_then(|()| self.commit());
        if ended.is_err() {
            self.roll_back();
        }
        for (answer, outcome) in done {
            let outcome = outcome.and(ended.as_ref().map(|_| ()).map_err(again));
            // Who does not wait any more does not need to know.
            let _ = answer.send(outcome);
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

    /// Undoes the whole transaction, or what is left of it.
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

/// The same error for one more of those whose work shared a transaction.
pub(super) fn again(error: &StoreError) -> StoreError {
    match error {
        StoreError::Full => StoreError::Full,
        other => StoreError::Failed(other.to_string()),
    }
}
