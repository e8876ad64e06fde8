//! Who waits for what, in this process: a hint that something may have changed, never the truth.
//!
//! Whoever is woken looks at the store; whoever is not, looks when its wait is over.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
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
    /// A sweep may have begun.
    pub(crate) sweeps: Notify,
}

/// Those who wait, by what they wait for. An entry lives while somebody holds its notifier.
#[derive(Debug)]
pub(crate) struct Waiters<K> {
    notifiers: Mutex<HashMap<K, Weak<Notify>>>,
    wakes: AtomicU64,
}

impl<K> Default for Waiters<K> {
    fn default() -> Waiters<K> {
        Waiters { notifiers: Mutex::default(), wakes: AtomicU64::new(0) }
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
        let notifier = Arc::new(Notify::new());
        insert(&mut notifiers, key, &notifier);
        notifier
    }

    /// Has a notifier be the one for `key` from now on, and wakes who waits on the one before.
    pub(crate) fn replace(&self, key: &K, notifier: &Arc<Notify>) {
        self.wakes.fetch_add(1, Ordering::SeqCst);
        let before = insert(&mut self.lock(), key, notifier);
        if let Some(before) = before.and_then(|before| before.upgrade()) {
            before.notify_waiters();
        }
    }

    /// Returns whether a notifier is the one for `key`: no other has replaced it.
    pub(crate) fn has(&self, key: &K, notifier: &Arc<Notify>) -> bool {
        self.lock().get(key).is_some_and(|has| std::ptr::eq(has.as_ptr(), Arc::as_ptr(notifier)))
    }

    /// Returns how often anybody was woken. Where it is the same before a look at the store and after `notified()` was
    /// enabled, nothing has come between that would be missed.
    pub(crate) fn wakes(&self) -> u64 {
        self.wakes.load(Ordering::SeqCst)
    }

    /// Wakes all who wait for `key`.
    pub(crate) fn wake(&self, key: &K) {
        self.wakes.fetch_add(1, Ordering::SeqCst);
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
        self.wakes.fetch_add(1, Ordering::SeqCst);
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
        self.notifiers.lock().expect("nobody panics with the notifiers in hand")
    }
}

/// Puts a notifier in, and returns the one before. Those that nobody holds any more are swept out now and then.
fn insert<K: Eq + Hash + Clone>(
    notifiers: &mut HashMap<K, Weak<Notify>>,
    key: &K,
    notifier: &Arc<Notify>,
) -> Option<Weak<Notify>> {
    if notifiers.len() >= SWEEP_LEN && notifiers.len() == notifiers.capacity() {
        notifiers.retain(|_, notifier| notifier.strong_count() > 0);
    }
    notifiers.insert(key.clone(), Arc::downgrade(notifier))
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn whoever_replaces_a_notifier_wakes_those_on_the_one_before_and_is_woken_in_its_place() {
        let waiters = Waiters::<u32>::default();
        let (older, newer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        waiters.replace(&7, &older);
        assert!(waiters.has(&7, &older));
        let mut told = pin!(older.notified());
        told.as_mut().enable();
        waiters.replace(&7, &newer);
        assert!(told.now_or_never().is_some());
        assert!(waiters.has(&7, &newer) && !waiters.has(&7, &older));
        let mut told = pin!(newer.notified());
        told.as_mut().enable();
        waiters.wake(&7);
        assert!(told.now_or_never().is_some());
    }

    #[test]
    fn each_wake_is_counted_whether_anybody_waits_or_not() {
        let waiters = Waiters::<u32>::default();
        let before = waiters.wakes();
        waiters.wake(&1);
        waiters.wake_each(&[2, 3]);
        waiters.replace(&1, &Arc::new(Notify::new()));
        assert_eq!(waiters.wakes(), before + 3);
    }
}
