//! How long a host goes on that does not hear of its server, and when it exits.

use std::time::Duration;

use midge_protocol::{Timestamp, limits};

use super::{Departure, HostSide};

/// How long a host without anything to run goes on trying to reach its server: two leases, after which the server has
/// given it up.
pub(super) const LOST_AFTER: Duration = limits::LEASE.saturating_mul(2);
/// How long what runs here goes on without any word of the server, of which nobody else knows any more. A deploy takes minutes,
/// and whoever mends a server that is down by hand takes less than this as a rule.
pub(super) const ALONE_MAX: Duration = Duration::from_secs(60 * 60);
/// How long a host may go on that reaches no server: until it has stopped what runs, and given up to say so.
pub(crate) const GONE_AFTER: Duration = ALONE_MAX.saturating_add(STOP_PATIENCE);
/// How long a host that is told to stop tries to give back what it could not finish, or just to say goodbye.
pub(super) const STOP_PATIENCE: Duration = Duration::from_secs(3);

impl HostSide {
    pub(super) fn exit(&self, now: Timestamp) -> Option<Departure> {
        if self.left {
            return Some(Departure::Left);
        }
        if self.running() > 0 {
            return None;
        }
        let lost = now >= self.lost_at();
        let too_late = self.gives_up_at().is_some_and(|at| now >= at);
        (lost || too_late).then_some(Departure::Lost)
    }

    /// Returns when a host that was told to stop, and runs nothing, exits whatever its server has heard.
    pub(super) fn gives_up_at(&self) -> Option<Timestamp> {
        let stop = self.stop?;
        let since =
            if self.attempts.is_empty() { stop.asked_at.max(self.idle_since) } else { stop.hand_back_at };
        Some(since.after(STOP_PATIENCE))
    }

    /// Returns when a host without anything to run gives its server up, if it does not hear of it before.
    pub(super) fn lost_at(&self) -> Timestamp {
        self.heard_at.unwrap_or(self.begun_at).max(self.idle_since).after(LOST_AFTER)
    }

    /// Returns when what runs here is stopped, since the server has not been heard of for too long.
    pub(super) fn alone_at(&self) -> Timestamp {
        self.heard_at.unwrap_or(self.begun_at).after(ALONE_MAX)
    }
}
