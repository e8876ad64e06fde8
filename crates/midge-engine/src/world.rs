//! Where an attempt has its time and its randomness from: the Machine, a recording, or the Machine with all of it recorded.
//!
//! Invariant: an attempt in the real world pays nothing for there being others.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::vec::IntoIter;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use midge_protocol::recording::{Recording, Seed};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtxBuilder};

use crate::recorder::Recorder;

/// Where an attempt has its time and its randomness from, and whether what it is told is written down.
#[derive(Debug, Clone, Default)]
pub enum World {
    /// From the Machine.
    #[default]
    Real,
    /// From the Machine; and what the guest is told, by its clock and by the answers to its requests, goes with the report
    /// where the attempt fails.
    Recorded,
    /// From a recording, to the nanosecond and to the byte, as far as that goes. Then the clock goes on from there.
    Replayed(Arc<Recording>),
}

/// The world of one attempt, where it is not simply the real one.
pub(crate) struct OwnWorld {
    began: Instant,
    began_at: Duration,
    random: Mutex<ChaCha20Rng>,
    clock: Mutex<Clock>,
    /// What is recorded; nothing where it is replayed.
    recorded: Option<Mutex<Recorder>>,
}

/// What a clock showed, or has to show.
enum Clock {
    Recorded,
    Replayed {
        readings: IntoIter<u64>,
        last_ns: u64,
        /// When the last of the readings was taken.
        at: Instant,
    },
}

impl OwnWorld {
    /// Begins the world of an attempt, of which a recording is made from its seed and the time in nanoseconds since the Unix
    /// epoch. Where the Machine has no randomness for a seed, nothing is recorded: a guest that asks
    /// for some is told so.
    pub(crate) fn begin(
        world: &World,
        recording: impl FnOnce(Seed, u64) -> Recording,
    ) -> Option<Arc<OwnWorld>> {
        let began = Instant::now();
        let (seed, began_at, clock, recorded) = match world {
            World::Real => return None,
            World::Recorded => {
                let mut seed = [0; 32];
                getrandom::fill(&mut seed).ok()?;
                let began_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let recording = recording(Seed(seed), nanos(began_at));
                (seed, began_at, Clock::Recorded, Some(Mutex::new(Recorder::new(recording))))
            }
            World::Replayed(recording) => {
                let readings = recording.clock_ns.clone().into_iter();
                let clock = Clock::Replayed { readings, last_ns: 0, at: began };
                (recording.seed.0, Duration::from_nanos(recording.began_at_ns), clock, None)
            }
        };
        let random = Mutex::new(ChaCha20Rng::from_seed(seed));
        Some(Arc::new(OwnWorld { began, began_at, random, clock: Mutex::new(clock), recorded }))
    }

    /// Returns what the wall clock showed when the attempt began.
    pub(crate) fn began_at(&self) -> Duration {
        self.began_at
    }

    /// Returns the time since the Unix epoch, as the guest would be shown it. It is no reading of the guest's.
    pub(crate) fn time(&self) -> Duration {
        let elapsed_ns = match &*lock(&self.clock) {
            Clock::Recorded => nanos(self.began.elapsed()),
            Clock::Replayed { last_ns, .. } => *last_ns,
        };
        self.began_at.saturating_add(Duration::from_nanos(elapsed_ns))
    }

    /// Returns how long ago the attempt began, in microseconds. It is no reading of the guest's.
    pub(crate) fn elapsed_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Fills bytes with what the guest is told is random.
    pub(crate) fn fill_random(&self, bytes: &mut [u8]) {
        lock(&self.random).fill_bytes(bytes);
    }

    /// Gives a guest its clocks.
    pub(crate) fn give_clocks(self: &Arc<OwnWorld>, wasi: &mut WasiCtxBuilder) {
        wasi.wall_clock(Clocks(Arc::clone(self))).monotonic_clock(Clocks(Arc::clone(self)));
    }

    /// Returns whether what the guest is told is written down.
    pub(crate) fn is_recorded(&self) -> bool {
        self.recorded.is_some()
    }

    /// Writes something down, where anything is.
    pub(crate) fn recorded<T>(&self, note: impl FnOnce(&mut Recorder) -> T) -> Option<T> {
        self.recorded.as_ref().map(|recorder| note(&mut lock(recorder)))
    }

    /// Reads the guest's clock: how long ago its attempt began, in nanoseconds.
    fn read_clock(&self) -> u64 {
        match &mut *lock(&self.clock) {
            Clock::Recorded => {
                let elapsed = nanos(self.began.elapsed());
                self.recorded(|recorder| recorder.clock(elapsed));
                elapsed
            }
            Clock::Replayed { readings, last_ns, at } => match readings.next() {
                Some(reading) => {
                    (*last_ns, *at) = (reading, Instant::now());
                    reading
                }
                None => last_ns.saturating_add(nanos(at.elapsed())),
            },
        }
    }
}

/// Both clocks of a guest.
struct Clocks(Arc<OwnWorld>);

impl HostWallClock for Clocks {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        self.0.began_at.saturating_add(Duration::from_nanos(self.0.read_clock()))
    }
}

impl HostMonotonicClock for Clocks {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        self.0.read_clock()
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A panic under one of these locks leaves something behind that is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
