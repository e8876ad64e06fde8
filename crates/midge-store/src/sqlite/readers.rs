//! Threads that read. They start when there is something to read, and end when there has not been for a while.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::connection::open_reader;
use super::health::Health;
use super::queued::{QueuedWork, Room};
use super::rows::SqliteRows;
use crate::work;
use crate::{ReadWork, StoreError};

/// How many threads may read at once: more would take the processors from the writer.
const THREADS_MAX: usize = 4;
/// How much work may be queued for the threads. Callers with more wait until there is room.
const WAITING_MAX: usize = 1_024;
/// A thread that has nothing to read for so long ends, and its memory with it.
const ENDS_AFTER: Duration = Duration::from_secs(10);

/// Hands work to the threads.
#[derive(Debug)]
pub(super) struct Readers {
    shared: Arc<Shared>,
    room: Room,
}

#[derive(Debug)]
struct Shared {
    health: Arc<Health>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<QueuedWork>,
    /// Threads that have not decided to end.
    threads: usize,
    /// Those of them that wait for work.
    idle: usize,
    /// When there was last work and none of them waited.
    all_busy_at: Option<Instant>,
    closed: bool,
    handles: Vec<JoinHandle<()>>,
}

impl Readers {
    pub(super) fn new(health: Arc<Health>) -> Readers {
        let shared = Shared { health, state: Mutex::default(), changed: Condvar::new() };
        Readers { shared: Arc::new(shared), room: Room::new(WAITING_MAX) }
    }

    pub(super) async fn read(&self, work: ReadWork) -> Result<(), StoreError> {
        self.room.wait_for(work, |queued| self.push(queued)).await
    }

    /// Queues a work, and starts a thread for it where all are busy and there may be more.
    fn push(&self, queued: QueuedWork) -> Result<(), StoreError> {
        let mut state = self.shared.lock();
        let all_busy = state.idle <= state.queue.len();
        if all_busy {
            state.all_busy_at = Some(Instant::now());
        }
        if all_busy && state.threads < THREADS_MAX {
            let shared = self.shared.clone();
            let started =
                std::thread::Builder::new().name("midge-reader".to_owned()).spawn(move || shared.run());
            match started {
                Ok(handle) => {
                    state.handles.retain(|handle| !handle.is_finished());
                    state.handles.push(handle);
                    state.threads += 1;
                }
                Err(error) if state.threads == 0 => {
                    return Err(StoreError::Failed(format!("cannot start a thread: {error}")));
                }
                Err(_) => {} // the others will get to it
            }
        }
        state.queue.push_back(queued);
        self.shared.changed.notify_one();
        Ok(())
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        let handles = {
            let mut state = self.shared.lock();
            state.closed = true;
            std::mem::take(&mut state.handles)
        };
        self.shared.changed.notify_all();
        for handle in handles {
            // Work's panics are caught; another has been shown by the thread itself.
            let _ = handle.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic is done under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut connection = None;
        while let Some(queued) = self.next() {
            let outcome = read(&mut connection, &self.health, queued.work);
            self.health.note();
            // Whoever does not wait any more does not need to know.
            let _ = queued.reply.send(outcome);
        }
    }

    /// Waits for work. Returns nothing where the thread is to end.
    fn next(&self) -> Option<QueuedWork> {
        let mut state = self.lock();
        // Those that wait are woken in turn, so that none of several would ever wait for long.
        let is_one_too_many = state.idle > 0
            && state.queue.is_empty()
            && state.all_busy_at.is_none_or(|at| at.elapsed() > ENDS_AFTER);
        if is_one_too_many {
            state.threads -= 1;
            return None;
        }
        state.idle += 1;
        let waits = |state: &mut State| state.queue.is_empty() && !state.closed;
        let (mut state, _) =
            self.changed.wait_timeout_while(state, ENDS_AFTER, waits).unwrap_or_else(PoisonError::into_inner);
        state.idle -= 1;
        let queued = state.queue.pop_front();
        if queued.is_none() {
            state.threads -= 1;
        }
        queued
    }
}

/// Does a work in a transaction of its own, which sees one state.
fn read(connection: &mut Option<Connection>, health: &Health, work: ReadWork) -> Result<(), StoreError> {
    // Before it is opened by its name, which may be another file's by now.
    health.to_read()?;
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(open_reader(health.file().path())?),
    };
    connection.prepare_cached("BEGIN")?.execute([])?;
    let outcome = work::run(work, &mut SqliteRows::to_read(connection, &mut None));
    // There is nothing to commit, and this cannot fail for want of space.
    connection.prepare_cached("ROLLBACK")?.execute([])?;
    outcome
}
