//! How long ended jobs are kept.

use std::time::Duration;

use midge_protocol::Timestamp;
use midge_protocol::manifest::Keep;

use crate::Phase;

/// How long ended jobs are kept before they are deleted with all that belongs to them, where their queue does not say.
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
    /// Returns how long a job of a queue is kept after it ended in a phase: as its queue says, else as this does. Nothing
    /// for one that has not ended.
    pub fn kept(&self, keep: &Keep, phase: Phase) -> Option<Duration> {
        let (of_queue, usual) = match phase {
            Phase::Completed => (keep.completed_ms, self.ended),
            Phase::Cancelled => (keep.cancelled_ms, self.ended),
            Phase::Discarded => (keep.discarded_ms, self.discarded),
            Phase::Fresh | Phase::Retrying | Phase::Held | Phase::Running => return None,
        };
        Some(of_queue.map_or(usual, Duration::from_millis))
    }

    /// Returns the phases of ended jobs, each with the time before which those of a queue ended that are to be deleted at
    /// `now`.
    pub fn over(&self, keep: &Keep, now: Timestamp) -> Vec<(Phase, Timestamp)> {
        let before = |phase| Some((phase, now.before(self.kept(keep, phase)?)));
        Phase::ALL.into_iter().filter_map(before).collect()
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
        assert_eq!(kept.over(&Keep::default(), now), over);
    }

    #[test]
    fn a_queue_says_for_itself_how_long_its_jobs_are_kept_by_how_they_ended() {
        let kept = Retention { ended: Duration::from_secs(1), discarded: Duration::MAX };
        let all = |completed_ms, cancelled_ms, discarded_ms| {
            let keep = Keep { completed_ms, cancelled_ms, discarded_ms };
            [Phase::Completed, Phase::Cancelled, Phase::Discarded]
                .map(|phase| kept.kept(&keep, phase).unwrap())
        };
        let [second, millis] = [1_000, 7].map(Duration::from_millis);
        assert_eq!(all(Some(7), None, None), [millis, second, Duration::MAX]);
        assert_eq!(all(None, Some(7), Some(7)), [second, millis, millis]);
        let most = Keep { discarded_ms: Some(u64::MAX), ..Keep::default() };
        let now = Timestamp::from_millis(10_000);
        assert!(kept.over(&most, now)[2].1 < Timestamp::default());
        assert_eq!(kept.kept(&most, Phase::Running), None);
    }

    #[test]
    fn what_is_kept_for_ever_is_never_over() {
        let kept = Retention { ended: Duration::MAX, discarded: Duration::MAX };
        let now = Timestamp::from_millis(10_000);
        assert!(kept.over(&Keep::default(), now).iter().all(|(_, before)| *before < Timestamp::default()));
    }
}
