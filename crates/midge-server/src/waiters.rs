//! Who waits for what, in this process: a hint that something may have changed, never the truth.
//!
//! Whoever is woken looks at the store; whoever is not, looks when its wait is over.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use midge_protocol::{JobId, MachineName, QueueName};
use tokio::sync::Notify;

/// All that somebody may wait for.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    /// Work may be due in a queue.
    pub(crate) queues: Waiters<QueueName>,
    /// A Machine may have to be told something.
    pub(crate) machines: Waiters<MachineName>,
    /// A job may have ended, or somebody has asked something of it.
    pub(crate) jobs: Waiters<JobId>,
    /// There may be news of a job for who follows it: its state, its log or its progress.
    pub(crate) news: Waiters<JobId>,
    /// The dispatcher may have something to decide.
    pub(crate) dispatcher: Notify,
}

/// Those who wait, by what they wait for. An entry lives while somebody holds its notifier.
#[derive(Debug)]
pub(crate) struct Waiters<K>(Mutex<HashMap<K, Weak<Notify>>>);

impl<K> Default for Waiters<K> {
    fn default() -> Waiters<K> {
        Waiters(Mutex::default())
    }
}

/// Above this, notifiers that nobody holds any more are swept out before one is added.
const SWEEP_LEN: usize = 256;

impl<K: Eq + Hash + Clone> Waiters<K> {
    /// Returns the notifier to wait on for `key`. Enable its `notified()` before looking at the store.
    pub(crate) fn notifier(&self, key: &K) -> Arc<Notify> {
        let mut notifiers = self.lock();
        if let Some(notifier) = notifiers.get(key).and_then(Weak::upgrade) {
            return notifier;
        }
        if notifiers.len() >= SWEEP_LEN && notifiers.len() == notifiers.capacity() {
            notifiers.retain(|_, notifier| notifier.strong_count() > 0);
        }
        let notifier = Arc::new(Notify::new());
        notifiers.insert(key.clone(), Arc::downgrade(&notifier));
        notifier
    }

    /// Wakes all who wait for `key`.
    pub(crate) fn wake(&self, key: &K) {
        let notifier = self.lock().get(key).and_then(Weak::upgrade);
        if let Some(notifier) = notifier {
            notifier.notify_waiters();
        }
    }

    /// Wakes all who wait for any of `keys`.
    pub(crate) fn wake_each<'a>(&self, keys: impl IntoIterator<Item = &'a K>)
    where
        K: 'a,
    {
        let notifiers = self.lock();
        if notifiers.is_empty() {
            return;
        }
        for notifier in keys.into_iter().filter_map(|key| notifiers.get(key).and_then(Weak::upgrade)) {
            notifier.notify_waiters();
        }
    }

    /// Returns whether somebody waits for any of `keys`.
    pub(crate) fn is_any_waited_for<'a>(&self, keys: impl IntoIterator<Item = &'a K>) -> bool
    where
        K: 'a,
    {
        let notifiers = self.lock();
        let is_held =
            |key| notifiers.get(key).is_some_and(|notifier: &Weak<Notify>| notifier.strong_count() > 0);
        !notifiers.is_empty() && keys.into_iter().any(is_held)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Weak<Notify>>> {
        self.0.lock().expect("nobody panics with the notifiers in hand")
    }
}
