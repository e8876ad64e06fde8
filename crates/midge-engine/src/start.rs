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
    /// Reading the command line and the environment.
    Settings,
    /// Reading the manifest.
    Manifest,
    /// Making the engine.
    Engine,
    /// Opening the module and comparing size and checksum.
    Check,
    /// Mapping the module's code.
    Load,
    /// Making the host functions that the module imports.
    Link,
    /// Giving the guest its input, its WASI and its store, and in a place its thread.
    Prepare,
    /// Making the instance.
    Instantiate,
}

impl StartPhase {
    /// Every phase, in order.
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

    /// Returns the word for it.
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

/// Says that `main` begins. Without it nothing is measured.
pub fn begin() {
    THIS.begin();
}

/// Says that a phase ended, or a part of it. It began when the one before ended.
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

/// The start of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// When `main` began, in nanoseconds since the Unix epoch.
    pub main_at: u64,
    /// Nanoseconds from the kernel's start to `main`.
    pub booted: u64,
    /// Nanoseconds of each phase.
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
