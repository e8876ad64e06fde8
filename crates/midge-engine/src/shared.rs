//! What the control thread and the thread that runs an attempt share while it runs.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use midge_protocol::job::Progress;
use tokio::sync::Notify;
use wasmtime::Engine;

use crate::lines::{Hangup, Line};
use crate::log::Log;
use crate::over::Over;
use crate::stop::Stop;

/// A handle on an attempt that runs or ran: stops it, and reads what it said. It works from any thread.
#[derive(Clone)]
pub struct Control {
    pub(crate) shared: Arc<Shared>,
    pub(crate) engine: Engine,
}

impl Control {
    /// Stops the attempt. The first reason counts; an attempt that ended just before stays as it ended.
    pub fn stop(&self, stop: Stop) {
        self.shared.ask_to_stop(stop);
        // Every guest of the engine looks up once, and all but this one go on.
        self.engine.increment_epoch();
    }

    /// Stops an attempt that computes, from a signal handler too: nothing is locked or allocated here. A bump of the epoch
    /// that falls between a guest's look and its next deadline is lost, so that this is to be done again.
    pub fn interrupt(&self, stop: Stop) {
        self.shared.set_stop(stop);
        self.engine.increment_epoch();
    }

    /// Returns the log from the byte `offset` on, at most `bytes_max` bytes of it; nothing where the log ends before.
    pub fn log_from(&self, offset: u64, bytes_max: usize) -> Bytes {
        self.shared.log().bytes_from(offset, bytes_max)
    }

    /// Returns the length of the log in bytes, as far as it is kept.
    pub fn log_len(&self) -> u64 {
        self.shared.log().len()
    }

    /// Returns what the guest said last about its progress, unless that was returned before.
    pub fn take_progress(&self) -> Option<Progress> {
        lock(&self.shared.progress).take()
    }

    /// Returns what the guest saves, unless that was returned before. It waits for [`Control::saved`].
    pub fn take_saving(&self) -> Option<Bytes> {
        lock(&self.shared.saving).take()
    }

    /// Lets the guest go on: what it saved is safe.
    pub fn saved(&self) {
        self.shared.saved.notify_one();
    }

    /// Returns what the guest was told that the Machine lacks, where it completed all the same.
    pub fn went_without(&self) -> Option<&str> {
        self.shared.went_without.get().map(String::as_str)
    }
}

/// The shared state itself.
pub(crate) struct Shared {
    stop: AtomicU8,
    /// Wakes the thread that runs the attempt, which then drops a guest that sleeps.
    pub(crate) place_wakes: Notify,
    /// Wakes the control thread's wait for the end, which then sees to it that the guest stops.
    pub(crate) control_wakes: Notify,
    news: News,
    log: Mutex<Log>,
    progress: Mutex<Option<Progress>>,
    /// What the guest saves, until somebody takes it to the server.
    saving: Mutex<Option<Bytes>>,
    /// Wakes the guest that saves.
    saved: Notify,
    /// The lines on which its requests are under way.
    lines: Mutex<Vec<Hangup>>,
    memory_peak_bytes: AtomicU64,
    /// What the Machine lacked for the guest, where that completed all the same.
    pub(crate) went_without: OnceLock<String>,
}

/// Is given what is added to a log.
type ShowLog = dyn Fn(&[u8]) + Send + Sync;

/// Who hears of more log or progress.
enum News {
    /// The control thread; one for all attempts, if it likes.
    Tell(Arc<Notify>),
    /// Somebody who is shown what is added to the log, on the guest's thread.
    Show(Box<ShowLog>),
}

impl Shared {
    pub(crate) fn new(changed: Arc<Notify>) -> Shared {
        Shared::with(News::Tell(changed))
    }

    pub(crate) fn showing(shown: Box<ShowLog>) -> Shared {
        Shared::with(News::Show(shown))
    }

    fn with(news: News) -> Shared {
        Shared {
            stop: AtomicU8::new(0),
            place_wakes: Notify::new(),
            control_wakes: Notify::new(),
            news,
            log: Mutex::default(),
            progress: Mutex::default(),
            saving: Mutex::default(),
            saved: Notify::new(),
            lines: Mutex::default(),
            memory_peak_bytes: AtomicU64::new(0),
            went_without: OnceLock::new(),
        }
    }

    fn ask_to_stop(&self, stop: Stop) {
        self.set_stop(stop);
        // Even if there was a reason: an interrupt gives one and wakes nobody.
        self.place_wakes.notify_one();
        self.control_wakes.notify_one();
        // A guest that waits for an answer hears that there is none.
        lock(&self.lines).iter().for_each(Hangup::hang_up);
    }

    /// Sets the reason, if it is the first.
    pub(crate) fn set_stop(&self, stop: Stop) {
        let code = match stop {
            Stop::OverTime => 1,
            Stop::Cancelled => 2,
            Stop::HandedBack => 3,
        };
        // Before the epoch rises, so that the guest sees it when it looks up.
        let _ = self.stop.compare_exchange(0, code, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Returns why the attempt is to stop, if it is.
    pub(crate) fn stop(&self) -> Option<Stop> {
        match self.stop.load(Ordering::SeqCst) {
            0 => None,
            1 => Some(Stop::OverTime),
            2 => Some(Stop::Cancelled),
            _ => Some(Stop::HandedBack),
        }
    }

    /// Fails where the attempt is to stop: for host calls that take long.
    pub(crate) fn go_on(&self) -> Result<(), Over> {
        if self.stop().is_some() { Err(Over::Stopped) } else { Ok(()) }
    }

    pub(crate) fn write_log(&self, bytes: &[u8]) {
        let mut log = self.log();
        let before = log.len();
        if log.write(bytes) {
            match &self.news {
                News::Tell(changed) => changed.notify_one(),
                News::Show(shown) => shown(&log.bytes_from(before, usize::MAX)),
            }
        }
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        lock(&self.log)
    }

    pub(crate) fn set_progress(&self, progress: Progress) {
        *lock(&self.progress) = Some(progress);
        if let News::Tell(changed) = &self.news {
            changed.notify_one();
        }
    }

    /// Has a state saved, and waits until it is safe. Where an attempt is run by hand, there is nobody to keep it.
    pub(crate) async fn save(&self, state: Bytes) {
        if let News::Tell(changed) = &self.news {
            *lock(&self.saving) = Some(state);
            changed.notify_one();
            self.saved.notified().await;
        }
    }

    /// Takes note of a line on which a request of the guest begins.
    pub(crate) fn add_line(&self, line: Hangup) {
        lock(&self.lines).push(line);
    }

    /// Takes note that nothing is under way any more on a line.
    pub(crate) fn remove_line(&self, line: &Line) {
        lock(&self.lines).retain(|hangup| !hangup.is_of(line));
    }

    pub(crate) fn memory_is(&self, bytes: u64) {
        self.memory_peak_bytes.fetch_max(bytes, Ordering::Relaxed);
    }

    pub(crate) fn memory_peak_bytes(&self) -> u64 {
        self.memory_peak_bytes.load(Ordering::Relaxed)
    }
}

/// A panic under one of these locks leaves plain bytes or a plain value behind, which are still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
