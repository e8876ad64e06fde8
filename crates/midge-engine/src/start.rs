//! Where the time of a process's start goes, from its `main` to its first guest's first instruction.
//!
//! Invariant: it is measured always, since it costs less than to ask whether to: nine looks at a clock that need no
//! system call. Only the first guest of a process counts, so the whole is one line of phases, whatever the thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// A piece of work between `main` and the first instruction of the first guest, in the order of their first ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartPhase {
    /// The command line and the environment are read.
    Settings,
    /// The manifest is read and checked.
    Manifest,
    /// wasmtime's engine is made.
    Engine,
    /// The module is opened, and its size and checksum are compared with the manifest.
    Check,
    /// The module's machine code is mapped.
    Load,
    /// The host functions that the module imports are made.
    Link,
    /// The guest is given its input, its WASI and its store, and at a place its thread.
    Prepare,
    /// The instance is made: its memory, its tables and its globals.
    Instantiate,
}

impl StartPhase {
    /// Every phase, in the order in which they end for the first time.
    pub const ALL: [StartPhase; 8] = [
        StartPhase::Settings,
        StartPhase::Manifest,
        StartPhase::Engine,
        StartPhase::Check,
        StartPhase::Load,
        StartPhase::Link,
        StartPhase::Prepare,
        StartPhase::Instantiate,
    ];

    /// Returns the word for the phase in reports, such as `settings`.
    pub const fn as_str(self) -> &'static str {
        match self {
            StartPhase::Settings => "settings",
            StartPhase::Manifest => "manifest",
            StartPhase::Engine => "engine",
            StartPhase::Link => "link",
            StartPhase::Check => "check",
            StartPhase::Load => "load",
            StartPhase::Prepare => "prepare",
            StartPhase::Instantiate => "instantiate",
        }
    }
}

/// The start of this process.
static THIS: Recorder = Recorder::new();

/// Says that `main` begins. Without this call nothing is measured.
pub fn begin() {
    THIS.begin();
}

/// Says that a phase, or a part of it, has ended. Its time is counted from the end of the phase before.
pub fn ended(phase: StartPhase) {
    THIS.ended(phase);
}

/// Says that a guest is called now.
pub(crate) fn calls() {
    THIS.called.store(true, Ordering::Relaxed);
}

/// Returns how this process started, as far as it has.
pub fn start() -> Start {
    THIS.start()
}

/// The times of the start of this process, by the real-time clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// When `main` began, in nanoseconds since the Unix epoch; 0 where [`begin`] was not called.
    pub main_at: u64,
    /// How long the kernel had been up when `main` began, in nanoseconds: in a virtual machine of one's own, the time
    /// of its boot.
    pub booted: u64,
    /// How long each phase took, in nanoseconds; 0 for one that has not ended.
    pub spent: Vec<(StartPhase, u64)>,
}

/// Moments are in nanoseconds since the Unix epoch; 0 is not yet.
struct Recorder {
    began: AtomicU64,
    /// The end of the last phase.
    last: AtomicU64,
    spent: [AtomicU64; StartPhase::ALL.len()],
    called: AtomicBool,
}

impl Recorder {
    const fn new() -> Recorder {
        Recorder {
            began: AtomicU64::new(0),
            last: AtomicU64::new(0),
            spent: [const { AtomicU64::new(0) }; StartPhase::ALL.len()],
            called: AtomicBool::new(false),
        }
    }

    fn begin(&self) {
        let now = now();
        self.began.store(now, Ordering::Relaxed);
        self.last.store(now, Ordering::Relaxed);
    }

    fn ended(&self, phase: StartPhase) {
        if self.began.load(Ordering::Relaxed) == 0 || self.called.load(Ordering::Relaxed) {
            return;
        }
        let now = now();
        let spent = now.saturating_sub(self.last.swap(now, Ordering::Relaxed));
        self.spent[phase as usize].fetch_add(spent, Ordering::Relaxed);
    }

    fn start(&self) -> Start {
        let spent = StartPhase::ALL.map(|phase| (phase, self.spent[phase as usize].load(Ordering::Relaxed)));
        let main_at = self.began.load(Ordering::Relaxed);
        let since_boot = clock_gettime(ClockId::Boottime);
        let since_boot = since_boot.tv_sec as u64 * 1_000_000_000 + since_boot.tv_nsec as u64;
        Start {
            main_at,
            booted: since_boot.saturating_sub(now().saturating_sub(main_at)),
            spent: spent.to_vec(),
        }
    }
}

/// The real-time clock: it is the one that a guest can read too, and other processes.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_add_up_until_the_first_guest_is_called() {
        let recorder = Recorder::new();
        recorder.ended(StartPhase::Engine);
        assert!(recorder.start().spent.iter().all(|(_, spent)| *spent == 0), "nothing has begun");
        recorder.begin();
        for phase in StartPhase::ALL {
            recorder.ended(phase);
        }
        recorder.ended(StartPhase::Link);
        let at_call = recorder.start();
        assert!(at_call.booted > 0);
        let spent: u64 = at_call.spent.iter().map(|(_, spent)| spent).sum();
        assert_eq!(at_call.main_at + spent, recorder.last.load(Ordering::Relaxed));
        recorder.called.store(true, Ordering::Relaxed);
        recorder.ended(StartPhase::Link);
        assert_eq!(recorder.start().spent, at_call.spent);
    }
}
