//! Who waits for what, in this process: a hint that something may have changed, never the truth.
//!
//! Whoever is woken looks at the store; whoever is not, looks when its wait is over.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, Weak};

use midge_protocol::{JobId, MachineName, QueueName};
use tokio::sync::Notify;

/// All the places where somebody may wait.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    /// Work may be due in a queue.
    pub(crate) queues: Places<QueueName>,
    /// A Machine may have to be told something.
    pub(crate) machines: Places<MachineName>,
    /// A job may have ended.
    pub(crate) jobs: Places<JobId>,
    /// The dispatcher may have something to decide.
    pub(crate) dispatcher: Notify,
}

/// Places to wait, by what is waited for. A place lives while somebody holds it.
#[derive(Debug)]
pub(crate) struct Places<K>(Mutex<HashMap<K, Weak<Notify>>>);

impl<K> Default for Places<K> {
    fn default() -> Places<K> {
        Places(Mutex::default())
    }
}

/// Above this, places that nobody holds any more are swept out before one is added.
const SWEEP_LEN: usize = 256;

impl<K: Eq + Hash + Clone> Places<K> {
    /// Returns the place to wait for `key`. Enable its `notified()` before looking at the store.
    pub(crate) fn place(&self, key: &K) -> Arc<Notify> {
        let mut places = self.0.lock().expect("nobody panics with the places in hand");
        if let Some(place) = places.get(key).and_then(Weak::upgrade) {
            return place;
        }
        if places.len() >= SWEEP_LEN && places.len() == places.capacity() {
            places.retain(|_, place| place.strong_count() > 0);
        }
        let place = Arc::new(Notify::new());
        places.insert(key.clone(), Arc::downgrade(&place));
        place
    }

    /// Wakes all who wait for `key`.
    pub(crate) fn wake(&self, key: &K) {
        let place = self.0.lock().expect("nobody panics with the places in hand").get(key).cloned();
        if let Some(place) = place.and_then(|place| place.upgrade()) {
            place.notify_waiters();
        }
    }
}
