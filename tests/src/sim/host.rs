//! A host as far as a server can see one: its bookkeeping of attempts, and what it does about answers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use midge_protocol::exchange::{AttemptRef, Finished, Grant, LogChunk, Outcome, Request, Running};
use midge_protocol::job::{Progress, Usage};
use midge_protocol::manifest::Wait;
use midge_protocol::{Attempt, BootId, JobId, MachineName, Secret, Timestamp, limits};

/// Names one attempt, in an order.
pub(super) type Key = (JobId, Attempt);

/// What every attempt says in its result, its failure and its log: a mix-up of two would show.
pub(super) fn words(key: Key) -> String {
    format!("{} {}", key.0, key.1)
}

/// All that an attempt writes to its log.
pub(super) fn log_text(key: Key) -> Bytes {
    Bytes::from(format!("begin {}\nend {}\n", words(key), words(key)))
}

/// One run of a host in a Machine.
pub(super) struct Host {
    pub(super) name: MachineName,
    pub(super) secret_hash: String,
    pub(super) boot: BootId,
    pub(super) run: u32,
    pub(super) places: usize,
    wait: Option<Duration>,
    pub(super) seq: u64,
    /// Attempts that run, each with how much of its log is acknowledged.
    running: BTreeMap<Key, u64>,
    /// Attempts that ended and are not acknowledged.
    finished: BTreeMap<Key, (Finished, u64)>,
    handed_back: BTreeSet<Key>,
    /// All that it ever was given.
    taken: BTreeSet<Key>,
    draining: bool,
    pub(super) stopping: bool,
    idle_since: Timestamp,
    pub(super) heard_at: Timestamp,
    pub(super) cut_off_until: Timestamp,
    /// Requests that are not answered, by number. An answer to an older one counts too.
    sent: BTreeMap<u64, Sent>,
}

/// How many unanswered requests a host remembers: lost ones are never answered.
const SENT_MAX: usize = 10;

/// What a request held.
struct Sent {
    finished: Vec<Key>,
    handed_back: Vec<Key>,
    log: Vec<(Key, u64)>,
    leaving: bool,
}

/// What a host does with a grant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Begun,
    Known,
    Declined,
    /// There is no place.
    TooMany,
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
        let wait = match value("MIDGE_WAIT")?.parse()? {
            Wait::Millis(millis) => Some(Duration::from_millis(millis)),
            Wait::Forever => None,
        };
        Ok(Host {
            name: value("MIDGE_MACHINE")?.parse().map_err(|e| format!("MIDGE_MACHINE: {e}"))?,
            secret_hash: midge_server::secret_hash(&Secret::new(value("MIDGE_SECRET")?.clone())),
            boot,
            run,
            places: value("MIDGE_PLACES")?.parse().map_err(|e| format!("MIDGE_PLACES: {e}"))?,
            wait,
            seq: 0,
            running: BTreeMap::new(),
            finished: BTreeMap::new(),
            handed_back: BTreeSet::new(),
            taken: BTreeSet::new(),
            draining: false,
            stopping: false,
            idle_since: now,
            heard_at: now,
            cut_off_until: now,
            sent: BTreeMap::new(),
        })
    }

    /// Returns the next request. The answer to an earlier one is not awaited any more.
    pub(super) fn request(&mut self, now: Timestamp) -> Request {
        self.seq += 1;
        let closed = self.draining || self.stopping;
        let waited = now.since(self.idle_since);
        let leaving = self.running.is_empty() && (closed || self.wait.is_some_and(|wait| waited >= wait));
        let left = self.wait.filter(|_| !leaving).map_or(limits::EXCHANGE_WAIT_MAX, |wait| {
            if self.running.is_empty() { wait.saturating_sub(waited) } else { limits::HEARTBEAT }
        });
        let log = self.log();
        let sent = Sent {
            finished: self.finished.keys().copied().collect(),
            handed_back: self.handed_back.iter().copied().collect(),
            log: log
                .iter()
                .map(|chunk| (key(chunk.attempt), chunk.offset + chunk.bytes.len() as u64))
                .collect(),
            leaving,
        };
        self.sent.insert(self.seq, sent);
        if self.sent.len() > SENT_MAX {
            self.sent.pop_first();
        }
        let progress = || Some(Progress { done: self.seq, total: 0, message: String::new() });
        Request {
            boot: self.boot,
            seq: self.seq,
            room: if closed { 0 } else { self.places.saturating_sub(self.running.len()) as u32 },
            wait_ms: left.min(limits::EXCHANGE_WAIT_MAX).as_millis() as u32,
            leaving,
            running: self
                .running
                .keys()
                .map(|&key| Running { attempt: of(key), progress: progress() })
                .collect(),
            finished: self.finished.values().map(|(finished, _)| finished.clone()).collect(),
            handed_back: self.handed_back.iter().map(|&key| of(key)).collect(),
            log,
        }
    }

    /// The first line of the log of what runs, and the rest of what ended.
    fn log(&self) -> Vec<LogChunk> {
        let running = self.running.iter().map(|(key, acked)| (*key, *acked, log_text(*key).len() / 2));
        let finished = self.finished.iter().map(|(key, (_, acked))| (*key, *acked, log_text(*key).len()));
        let chunk = |(key, acked, end): (Key, u64, usize)| {
            let bytes = log_text(key).slice((acked as usize).min(end)..end);
            (!bytes.is_empty()).then(|| LogChunk { attempt: of(key), offset: acked, bytes })
        };
        running.chain(finished).filter_map(chunk).collect()
    }

    /// An answer came. What the request held is acknowledged; returns whether the host had asked to leave, and
    /// nothing where the request was answered before.
    pub(super) fn acknowledged(&mut self, seq: u64, drain: bool, now: Timestamp) -> Option<bool> {
        let sent = self.sent.remove(&seq)?;
        self.heard_at = now;
        for (key, end) in sent.log {
            let acked = match self.running.get_mut(&key) {
                Some(acked) => Some(acked),
                None => self.finished.get_mut(&key).map(|(_, acked)| acked),
            };
            if let Some(acked) = acked {
                *acked = end.max(*acked);
            }
        }
        self.finished.retain(|key, _| !sent.finished.contains(key));
        self.handed_back.retain(|key| !sent.handed_back.contains(key));
        self.draining |= drain;
        Some(sent.leaving)
    }

    /// A grant came.
    pub(super) fn take(&mut self, grant: &Grant) -> Taken {
        let key = key(grant.attempt);
        // Also one that is over and forgotten: the answer may be that to an old request.
        if !self.taken.insert(key) {
            return Taken::Known;
        }
        if self.stopping {
            self.handed_back.insert(key);
            return Taken::Declined;
        }
        if self.running.len() >= self.places {
            return Taken::TooMany;
        }
        self.running.insert(key, 0);
        Taken::Begun
    }

    /// An attempt ends. Returns whether it ran.
    pub(super) fn ends(&mut self, key: Key, outcome: Outcome, now: Timestamp) -> bool {
        let Some(acked) = self.running.remove(&key) else { return false };
        let usage = Usage { ran_us: 1, cpu_us: 1, memory_peak_bytes: 1 };
        self.finished.insert(key, (Finished { attempt: of(key), outcome, usage }, acked));
        self.idle_since = now;
        true
    }

    /// SIGTERM: nothing more is begun.
    pub(super) fn told_to_stop(&mut self) {
        self.stopping = true;
    }

    /// The grace is over: what still runs is handed back.
    pub(super) fn hands_back(&mut self) {
        self.handed_back.extend(std::mem::take(&mut self.running).into_keys());
    }

    /// Returns whether there is an end that is not acknowledged.
    pub(super) fn has_ended(&self) -> bool {
        !self.finished.is_empty() || !self.handed_back.is_empty()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }
}

pub(super) fn key(attempt: AttemptRef) -> Key {
    (attempt.job, attempt.attempt)
}

fn of((job, attempt): Key) -> AttemptRef {
    AttemptRef { job, attempt }
}
