//! How long ended jobs are kept.

use std::time::Duration;

use midge_protocol::Timestamp;

use crate::Phase;

/// How long ended jobs are kept before they are deleted with all that belongs to them.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// The time for which completed and cancelled jobs are kept after they ended; by default a day.
    pub ended: Duration,
    /// The time for which discarded jobs, the dead set, are kept after they ended; by default a week.
    pub discarded: Duration,
}

impl Default for Retention {
    fn default() -> Retention {
        // As River has them.
        Retention { ended: Duration::from_secs(24 * 3600), discarded: Duration::from_secs(7 * 24 * 3600) }
    }
}

impl Retention {
    /// Returns how long a job in a phase is kept after it ended; nothing for one that has not ended.
    pub const fn kept(&self, phase: Phase) -> Option<Duration> {
        match phase {
            Phase::Completed | Phase::Cancelled => Some(self.ended),
            Phase::Discarded => Some(self.discarded),
            Phase::Fresh | Phase::Retrying | Phase::Held | Phase::Pending | Phase::Running => None,
        }
    }

    /// Returns the phases of ended jobs, each with the time before which those ended that are to be deleted at `now`.
    pub fn over(&self, now: Timestamp) -> Vec<(Phase, Timestamp)> {
        Phase::ALL.into_iter().filter_map(|phase| Some((phase, now.before(self.kept(phase)?)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dead_set_is_kept_longer_and_what_has_not_ended_for_ever() {
        let now = Timestamp::from_millis(10_000);
        let kept = Retention { ended: Duration::from_secs(1), discarded: Duration::from_secs(7) };
        let (ended, discarded) = (Timestamp::from_millis(9_000), Timestamp::from_millis(3_000));
        let over = [(Phase::Completed, ended), (Phase::Cancelled, ended), (Phase::Discarded, discarded)];
        assert_eq!(kept.over(now), over);
    }

    #[test]
    fn what_is_kept_for_ever_is_never_over() {
        let kept = Retention { ended: Duration::MAX, discarded: Duration::MAX };
        let now = Timestamp::from_millis(10_000);
        assert!(kept.over(now).iter().all(|(_, before)| *before < Timestamp::default()));
    }
}
