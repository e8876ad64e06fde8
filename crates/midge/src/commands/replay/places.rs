//! The threads on which attempts are replayed, side by side.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use midge_engine::Place;

/// The most attempts that are replayed at once: each may take up as much memory as its module's limit says.
const SIDE_BY_SIDE_MAX: usize = 16;

/// The places that are free.
#[derive(Default)]
pub(super) struct Places(Mutex<Vec<Place>>);

impl Places {
    /// Returns how many attempts are replayed at once: as many as this computer has cores, within a bound.
    pub(super) fn side_by_side() -> usize {
        std::thread::available_parallelism().map_or(1, usize::from).min(SIDE_BY_SIDE_MAX)
    }

    /// Takes a place, which is started where none is free.
    pub(super) fn take(&self) -> io::Result<Place> {
        let free = self.free().pop();
        free.map_or_else(|| Place::start(0), Ok)
    }

    /// Takes a place back. One that is still taken by a guest that was left behind ends by itself: what would run there next
    /// would wait for it, and its time runs.
    pub(super) fn give_back(&self, place: Place) {
        if place.is_free() {
            self.free().push(place);
        }
    }

    fn free(&self) -> MutexGuard<'_, Vec<Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
