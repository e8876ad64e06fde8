//! What is kept of a queue and its lanes, under other limits or another time than it was written by.
//!
//! A lane's row says when it is looked at next, so that nobody looks before. That hangs on the limits of keys, which a
//! deploy changes, and on the clock, which can be put back. Then each lane is put anew: a bounded number in a round.

use midge_protocol::manifest::{QueuePolicy, Rate};
use midge_protocol::{JobKey, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Lane, QueueRow, Turn};

/// The limits by which the row of a queue and its lanes were written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Settled {
    rate: Option<Rate>,
    max_running_per_key: Option<u32>,
    rate_per_key: Option<Rate>,
    left: Unsettled,
}

/// The lanes of a queue that are still to be put anew.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unsettled {
    /// None.
    #[default]
    None,
    /// All of them.
    All,
    /// Those whose keys come after this one.
    After(JobKey),
}

impl Settled {
    pub(crate) fn is_default(&self) -> bool {
        *self == Settled::default()
    }

    fn by(policy: &QueuePolicy, left: Unsettled) -> Settled {
        Settled {
            rate: policy.rate,
            max_running_per_key: policy.max_running_per_key,
            rate_per_key: policy.rate_per_key,
            left,
        }
    }
}

impl QueueRow {
    /// Returns which of its lanes are to be put anew under a policy.
    pub fn unsettled(&self, policy: &QueuePolicy) -> Unsettled {
        let left = self.settled.left.clone();
        if self.settled == Settled::by(policy, left.clone()) { left } else { Unsettled::All }
    }

    /// Returns the row of a queue whose lanes are all to be put anew: the clock may have been put back.
    #[must_use]
    pub fn unsettle(self) -> QueueRow {
        QueueRow { settled: Settled { left: Unsettled::All, ..self.settled }, ..self }
    }

    /// Returns the row where its lanes are put anew under a policy but for those that are `left`.
    #[must_use]
    pub fn settle(self, policy: &QueuePolicy, left: Unsettled, now: Timestamp) -> QueueRow {
        QueueRow {
            bucket: policy.rate.map(|rate| self.bucket.within(rate, now)).unwrap_or_default(),
            turn: self.turn.min(Turn::until(now)),
            settled: Settled::by(policy, left),
            ..self
        }
    }
}

impl Lane {
    /// Returns whether it is looked at only later, or when something ends: then it has to be known for [`Lane::settle`]
    /// when the first of its jobs is due.
    pub fn is_put_off(&self, now: Timestamp) -> bool {
        self.waiting > 0 && (self.full || self.turn.is_none_or(|turn| turn > Turn::until(now)))
    }

    /// Returns the lane as it is under a policy: not full where it is not, and looked at when it may have something to
    /// give. `first_due` is when the first of its waiting jobs is due, where it [is put off](Lane::is_put_off).
    #[must_use]
    pub fn settle(self, policy: &QueuePolicy, first_due: Option<Timestamp>, now: Timestamp) -> Lane {
        let is_put_off = self.is_put_off(now);
        let bucket = policy.rate_per_key.map(|rate| self.bucket.within(rate, now)).unwrap_or_default();
        let full = policy.max_running_per_key.is_some_and(|max| self.running >= u64::from(max));
        // A turn of a time that is no more would keep it back until then.
        let served = self.served.map(|served| served.min(Turn::until(now)));
        let mut lane = Lane { bucket, full, served, ..self };
        if lane.waiting == 0 {
            lane.turn = lane.rests_until();
        } else if let Some(due) = first_due.filter(|_| is_put_off) {
            let token = policy.rate_per_key.filter(|rate| bucket.tokens(*rate, now) == 0);
            let turn = due.max(token.map_or(now, |rate| bucket.next(rate)));
            // One that had its turn before stays where it was in line.
            lane.turn = match lane.turn {
                Some(before) if turn <= now && before <= Turn::until(now) => Some(before),
                _ => Some(Turn::at(turn)),
            };
        }
        lane
    }
}

#[cfg(test)]
mod tests {
    use midge_protocol::QueueName;

    use super::*;
    use crate::Bucket;

    const NOW: Timestamp = Timestamp::from_millis(100_000_000);

    fn later(millis: i64) -> Timestamp {
        Timestamp::from_millis(NOW.as_millis() + millis)
    }

    fn lane(turn: i64) -> Lane {
        let empty = Lane::new(QueueName::default_queue(), JobKey::new("tenant").unwrap());
        Lane { waiting: 2, turn: Some(Turn::at(later(turn))), ..empty }
    }

    fn per_key(jobs: u32, per_ms: u64) -> QueuePolicy {
        QueuePolicy { rate_per_key: Some(Rate::new(jobs, per_ms)), ..QueuePolicy::default() }
    }

    const HOUR: i64 = 3_600_000;

    #[test]
    fn a_lane_that_a_limit_put_off_is_looked_at_when_the_limits_of_now_allow_it() {
        let hourly = per_key(1, HOUR as u64);
        let bucket = Bucket::default().take(hourly.rate_per_key.unwrap(), 1, NOW);
        let waits = Lane { bucket, ..lane(HOUR) };
        let turn = |policy: &QueuePolicy, due| waits.clone().settle(policy, Some(due), NOW).turn;
        assert_eq!(turn(&hourly, later(-5)), Some(Turn::at(later(HOUR))), "the same limit holds");
        assert_eq!(turn(&QueuePolicy::default(), later(-5)), Some(Turn::at(NOW)));
        assert_eq!(turn(&per_key(1, 1_000), later(-5)), Some(Turn::at(later(1_000))));
        assert_eq!(
            turn(&QueuePolicy::default(), later(70)),
            Some(Turn::at(later(70))),
            "nothing is due before"
        );
        assert_eq!(waits.settle(&QueuePolicy::default(), Some(NOW), NOW).bucket, Bucket::default());
    }

    #[test]
    fn a_lane_is_full_by_the_limits_of_now() {
        let full = |max| {
            Lane { running: 1, full: true, ..lane(-5) }.settle(
                &QueuePolicy { max_running_per_key: max, ..QueuePolicy::default() },
                Some(later(-5)),
                NOW,
            )
        };
        assert!(full(Some(1)).full && !full(Some(4)).full && !full(None).full);
        assert_eq!(full(Some(4)).turn, lane(-5).turn, "it keeps its place in line");
    }

    #[test]
    fn a_lane_that_was_put_off_by_a_clock_ahead_is_looked_at_now() {
        let ahead = Lane { served: lane(24 * HOUR).turn, ..lane(24 * HOUR) };
        assert!(ahead.is_put_off(NOW) && !lane(0).is_put_off(NOW));
        let settled = ahead.settle(&QueuePolicy::default(), Some(NOW), NOW);
        assert_eq!((settled.turn, settled.served), (Some(Turn::at(NOW)), Some(Turn::until(NOW))));
        let rate = Rate::new(1, 60_000);
        let bucket = Bucket::default().take(rate, 1, later(24 * HOUR));
        let rests = Lane { waiting: 0, bucket, ..lane(24 * HOUR) };
        let rests = rests.settle(&per_key(1, 60_000), None, NOW);
        assert_eq!(rests.turn, Some(Turn::at(later(60_000))));
    }

    #[test]
    fn a_queue_is_settled_until_its_limits_change_or_it_is_said_not_to_be() {
        let (none, some) = (QueuePolicy::default(), per_key(1, 1_000));
        let new = QueueRow::default();
        assert_eq!((new.unsettled(&none), new.unsettled(&some)), (Unsettled::None, Unsettled::All));
        let key = JobKey::new("b").unwrap();
        let half = new.clone().settle(&some, Unsettled::After(key.clone()), NOW);
        assert_eq!((half.unsettled(&some), half.unsettled(&none)), (Unsettled::After(key), Unsettled::All));
        let whole = half.settle(&some, Unsettled::None, NOW);
        assert_eq!((whole.unsettled(&some), whole.unsettled(&none)), (Unsettled::None, Unsettled::All));
        assert_eq!(whole.clone().unsettle().unsettled(&some), Unsettled::All);
        assert_eq!(whole.settle(&none, Unsettled::None, NOW), new, "nothing is kept of it");
    }

    #[test]
    fn a_queue_does_not_wait_for_a_rate_that_holds_no_more_or_a_time_that_is_no_more() {
        let hourly = Rate::new(1, HOUR as u64);
        let row = QueueRow {
            bucket: Bucket::default().take(hourly, 1, NOW),
            turn: Turn::at(later(HOUR)),
            ..QueueRow::default()
        };
        let rate = |rate| QueuePolicy { rate, ..QueuePolicy::default() };
        let fast = rate(Some(Rate::new(1_000, 1_000)));
        let settled = row.clone().settle(&fast, Unsettled::None, NOW);
        assert_eq!((settled.room(&fast, 0, NOW), settled.room(&fast, 0, later(1))), (0, 1));
        assert_eq!(settled.turn, Turn::until(NOW));
        assert_eq!(row.settle(&rate(None), Unsettled::None, NOW).bucket, Bucket::default());
    }
}
