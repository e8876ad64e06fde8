//! How often calls may come, where flylet limits them as Fly does.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use midge_machines::pace::{Bucket, CallLimit};
use tokio::time::Instant;

use crate::call::Action;

/// More than callers keep in use. Beyond it those are forgotten that are full, which changes nothing.
const BUCKETS_MAX: usize = 4096;

/// The calls so far.
#[derive(Debug)]
pub(crate) struct Limits {
    /// How many times faster than on Fly calls may come; 0 for no limit.
    pub(crate) speed: f64,
    began: Instant,
    buckets: Mutex<HashMap<(Action, String), Bucket>>,
}

impl Limits {
    pub(crate) fn new(limits_calls: bool, speed: f64) -> Limits {
        let speed = if limits_calls { speed } else { 0.0 };
        Limits { speed, began: Instant::now(), buckets: Mutex::default() }
    }

    /// Counts a call on a Machine, or on the app where there is no id. Returns whether it may be.
    pub(crate) fn admit(&self, action: Action, id: Option<&str>) -> bool {
        self.admit_at(action, id, self.began.elapsed())
    }

    fn admit_at(&self, action: Action, id: Option<&str>, now: Duration) -> bool {
        let limit = if action == Action::Get { CallLimit::GET } else { CallLimit::OTHER };
        let Some(limit) = limit.faster(self.speed) else { return true };
        let buckets = &mut *self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= BUCKETS_MAX {
            buckets.retain(|_, bucket| !bucket.is_full(now));
        }
        let key = (action, id.unwrap_or_default().to_owned());
        buckets.entry(key).or_default().take(limit, now).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_for_each_action_on_each_machine() {
        let limits = Limits::new(true, 2.0);
        let at = |millis, action, id| {
            let now = Duration::from_millis(millis);
            (0..20).filter(|_| limits.admit_at(action, id, now)).count()
        };
        let admitted = |action, id| at(0, action, id);
        assert_eq!(admitted(Action::Start, Some("a")), 3);
        assert_eq!(admitted(Action::Start, Some("b")), 3);
        assert_eq!(admitted(Action::Stop, Some("a")), 3);
        assert_eq!(admitted(Action::Get, Some("a")), 10);
        assert_eq!(admitted(Action::Create, None), 3);
        assert_eq!(at(1000, Action::Start, Some("a")), 2, "at twice Fly's speed");
        let none = Limits::new(false, 1.0);
        assert!((0..1000).all(|_| none.admit(Action::Create, None)));
    }
}
