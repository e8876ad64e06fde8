//! When a host stands still: told to, because its Machine is about to be suspended; and when it finds that it did.

use std::time::Duration;

use midge_protocol::Timestamp;

use super::{HostSide, Next};

/// How often a host that stands by asks whether it is to go on. It is the longest that a job waits for a Machine that was
/// suspended and cannot tell by its clock, and a Machine is soon suspended.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// A host that is woken so much later than it wanted to be stood still: longer than a busy computer keeps a process waiting,
/// and shorter than a lease.
const STOOD_STILL: Duration = Duration::from_secs(5);

/// What is known of standing still.
#[derive(Debug, Default)]
pub(super) struct Stillness {
    /// When to ask again whether to go on; nothing where the host does not stand by.
    ask_at: Option<Timestamp>,
    /// When the host wanted to be woken at the latest.
    wake_by: Option<Timestamp>,
    /// Whether what was under way is to be given up.
    reconnect: bool,
    /// The last request that was given up: what its answer would have said is asked for again.
    gave_up: u64,
}

impl Stillness {
    /// Takes what the server says to a host that asked to leave.
    pub(super) fn rests(&mut self, rests: bool, now: Timestamp) {
        self.ask_at = rests.then(|| now.after(ASK_EVERY));
    }

    /// Returns when to ask again whether to go on.
    pub(super) fn ask_at(&self) -> Option<Timestamp> {
        self.ask_at
    }

    /// Returns whether the host was woken so late that it stood still.
    pub(super) fn is_over(&mut self, now: Timestamp) -> bool {
        self.wake_by.take().is_some_and(|at| now > at.after(STOOD_STILL))
    }

    /// Returns whether a request was given up: nothing of it is heard any more.
    pub(super) fn gave_up(&self, seq: u64) -> bool {
        seq <= self.gave_up
    }

    /// Returns whether what was under way is to be given up, once.
    pub(super) fn is_to_reconnect(&mut self) -> bool {
        std::mem::take(&mut self.reconnect)
    }

    /// Takes note of when the host is to be woken, by what it was told to do.
    pub(super) fn asleep_until(&mut self, next: &Next) {
        self.wake_by = if let Next::Wait(at) = next { *at } else { None };
    }
}

impl HostSide {
    /// Takes note that this Machine stood still until now: it was suspended, or its time jumped. The host gives up what was
    /// under way and says at once what it has; time in which it stood still counts neither against its server nor as waiting
    /// for a job. What it no longer holds, the answer tells.
    pub fn stood_still(&mut self, now: Timestamp) {
        let has_told =
            self.flights.iter().any(|flight| !flight.log.is_empty() || !flight.progress.is_empty());
        self.flights.clear();
        self.has_news |= has_told;
        (self.failures, self.retry_at, self.no_room_until) = (0, None, None);
        (self.begun_at, self.heard_at) = (now, self.heard_at.map(|_| now));
        (self.idle_since, self.leave_not_before) = (now, now);
        (self.still.ask_at, self.still.reconnect, self.still.gave_up) = (None, true, self.seq);
    }
}
