//! A host in a Machine: the product's own side of the exchange, with guests that only pretend.
//!
//! Invariant: what a host says, when it says it again and when it gives up is decided by [`HostSide`]. Here is only what
//! the real host's places and connections do: guests that run, requests under way.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use midge_core::exchange::{HostSide, Next};
use midge_protocol::exchange::{AttemptRef, Finished, FollowUp, Outcome};
use midge_protocol::job::Usage;
use midge_protocol::{BootId, MachineName, Secret, Timestamp};

/// Names one attempt, in an order.
pub(super) type Key = AttemptRef;

/// What every attempt says in its result, its failure and its log: a mix-up of two would show, and of two jobs under one id
/// too.
pub(super) fn words(key: Key) -> String {
    format!("{} {} {}", key.job, key.attempt, key.enqueued_at_ms.unwrap_or_default())
}

/// All that an attempt writes to its log.
pub(super) fn log_text(key: Key) -> Bytes {
    Bytes::from(format!("begin {}\nend {}\n", words(key), words(key)))
}

/// What an attempt has written to its log while it runs.
fn log_begun(key: Key) -> Bytes {
    let whole = log_text(key);
    whole.slice(..whole.len() / 2)
}

/// One run of a host in a Machine.
pub(super) struct Host {
    pub(super) name: MachineName,
    pub(super) secret_hash: String,
    pub(super) boot: BootId,
    pub(super) run: u32,
    pub(super) side: HostSide,
    places: usize,
    /// Guests that run.
    guests: BTreeSet<Key>,
    /// Guests that wait until what they saved is safe, and the number of that.
    saving: BTreeMap<Key, u64>,
    /// Logs of attempts that ended and are not forgotten.
    ended_logs: BTreeMap<Key, Bytes>,
    /// Requests that were neither answered nor failed.
    under_way: BTreeSet<u64>,
    pub(super) stopping: bool,
    /// Whether its Machine is suspended.
    pub(super) asleep: bool,
    pub(super) cut_off_until: Timestamp,
    /// The newest timer: earlier ones are void.
    pub(super) timer: u64,
}

impl Host {
    /// Makes a host from the env of its Machine, as a real one does.
    pub(super) fn new(
        env: &BTreeMap<String, String>,
        boot: BootId,
        run: u32,
        now: Timestamp,
    ) -> Result<Host, String> {
        let value = |key: &str| env.get(key).ok_or(format!("a Machine was made without {key}"));
        let wait = value("MIDGE_WAIT")?.parse()?;
        Ok(Host {
            name: value("MIDGE_MACHINE")?.parse().map_err(|e| format!("MIDGE_MACHINE: {e}"))?,
            secret_hash: midge_server::secret_hash(&Secret::new(value("MIDGE_SECRET")?.clone())),
            boot,
            run,
            side: HostSide::new(boot, wait, now),
            places: value("MIDGE_PLACES")?.parse().map_err(|e| format!("MIDGE_PLACES: {e}"))?,
            guests: BTreeSet::new(),
            saving: BTreeMap::new(),
            ended_logs: BTreeMap::new(),
            under_way: BTreeSet::new(),
            stopping: false,
            asleep: false,
            cut_off_until: now,
            timer: 0,
        })
    }

    /// Asks what to do next.
    pub(super) fn next(&mut self, now: Timestamp) -> Next {
        let room = self.places.saturating_sub(self.guests.len()) as u32;
        let (guests, ended) = (&self.guests, &self.ended_logs);
        let next = self.side.next(now, room, &|attempt, offset, bytes_max| {
            let begun = || guests.contains(&attempt).then(|| log_begun(attempt));
            let log = ended.get(&attempt).cloned().or_else(begun).unwrap_or_default();
            let start = (offset as usize).min(log.len());
            log.slice(start..log.len().min(start.saturating_add(bytes_max)))
        });
        if let Next::Send(request) = &next {
            self.under_way.insert(request.seq);
        }
        next
    }

    /// Nothing is under way any more.
    pub(super) fn reconnects(&mut self) {
        self.under_way.clear();
    }

    /// A request was answered, or failed. Returns whether it was still under way.
    pub(super) fn landed(&mut self, seq: u64) -> bool {
        self.under_way.remove(&seq)
    }

    /// Begins a guest, if there is a place for it.
    pub(super) fn begin(&mut self, key: Key) -> bool {
        self.guests.len() < self.places && self.guests.insert(key)
    }

    /// Returns whether a guest runs.
    pub(super) fn runs(&self, key: Key) -> bool {
        self.guests.contains(&key)
    }

    /// A guest saves something, unless it waits already.
    pub(super) fn guest_saves(&mut self, key: Key, number: u64, state: Bytes) {
        if self.guests.contains(&key) && !self.saving.contains_key(&key) {
            self.saving.insert(key, number);
            self.side.save(key, state);
        }
    }

    /// What a guest saved is safe. Returns the number of that, where it runs still.
    pub(super) fn is_safe(&mut self, key: Key) -> Option<u64> {
        self.saving.remove(&key)
    }

    /// A guest ends, or is stopped. Returns whether it ran.
    pub(super) fn guest_ends(
        &mut self,
        key: Key,
        outcome: Outcome,
        jobs: Vec<FollowUp>,
        now: Timestamp,
    ) -> bool {
        if !self.guests.remove(&key) {
            return false;
        }
        self.saving.remove(&key);
        self.ended_logs.insert(key, log_text(key));
        let usage = Usage { ran_us: 1, cpu_us: 1, memory_peak_bytes: 1, share_us: 1 };
        self.side.ended(Finished { jobs, ..Finished::new(key, outcome, usage) }, now);
        true
    }

    /// The server knows all about an attempt.
    pub(super) fn forget(&mut self, key: Key) {
        self.ended_logs.remove(&key);
    }
}
