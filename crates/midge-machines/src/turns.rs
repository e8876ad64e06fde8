//! Each call waits here for its turn, so that the API need not refuse it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::pace::{Bucket, CallLimit};

/// The longest wait for a turn. After that the caller hears of the limit, as it would from the API.
const TURN_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long a call waits after a refusal that does not say.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);
/// No answer keeps calls away for longer: what it says is not ours to believe without end.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// More than are in use in any second. Beyond it those are forgotten that are full, which changes nothing.
const BUCKETS_MAX: usize = 4096;

/// The action, and the Machine's id; empty for an action on the app.
type Key = (&'static str, String);

/// Whose turn it is.
#[derive(Debug)]
pub(crate) struct Turns {
    /// Times in buckets are since then.
    began: Instant,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    buckets: HashMap<Key, Bucket>,
    /// How many times faster than on Fly calls may come; without an end where it is not above zero.
    speed: f64,
}

impl Turns {
    pub(crate) fn new() -> Turns {
        let state = State { buckets: HashMap::new(), speed: 1.0 };
        Turns { began: Instant::now(), state: Mutex::new(state), changed: Notify::new() }
    }

    /// Waits until a call may be made.
    ///
    /// # Errors
    /// How long it would have to wait, where that is too long.
    pub(crate) async fn turn(&self, action: &'static str, id: &str) -> Result<(), Duration> {
        let deadline = Instant::now() + TURN_WAIT_MAX;
        loop {
            let changed = self.changed.notified();
            let Err(wait) = self.take(action, id, self.began.elapsed()) else { return Ok(()) };
            if Instant::now() + wait > deadline {
                return Err(wait);
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = changed => {}
            }
        }
    }

    fn take(&self, action: &'static str, id: &str, now: Duration) -> Result<(), Duration> {
        let state = &mut *self.state();
        let limit = if action == "get" { CallLimit::GET } else { CallLimit::OTHER };
        // One is kept back: calls arrive closer together than they were sent.
        let limit = CallLimit { burst: limit.burst - 1, ..limit };
        // Where there is no limit, a refusal is waited for all the same.
        let limit = limit.faster(state.speed).unwrap_or(CallLimit { every: Duration::ZERO, burst: 1 });
        let key = (action, id.to_owned());
        if state.buckets.len() >= BUCKETS_MAX && !state.buckets.contains_key(&key) {
            state.buckets.retain(|_, bucket| !bucket.is_full(now));
        }
        state.buckets.entry(key).or_default().take(limit, now)
    }

    /// The API refused a call as one too many.
    pub(crate) fn refused(&self, action: &'static str, id: &str, retry_after: Option<Duration>) {
        let wait = retry_after.unwrap_or(RETRY_AFTER_DEFAULT).min(RETRY_AFTER_MAX);
        let until = self.began.elapsed() + wait;
        self.state().buckets.entry((action, id.to_owned())).or_default().hold(until);
    }

    /// The API said how many times faster than on Fly calls may come.
    pub(crate) fn goes_at(&self, speed: f64) {
        let state = &mut *self.state();
        if state.speed != speed {
            // What was free at the old speed costs nothing at the new one, and the other way round.
            let factor = if speed > 0.0 && state.speed > 0.0 { state.speed / speed } else { 0.0 };
            let now = self.began.elapsed();
            state.buckets.values_mut().for_each(|bucket| bucket.rescale(factor, now));
            state.speed = speed;
            self.changed.notify_waiters();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_third_call_waits_and_those_of_other_machines_and_actions_do_not() {
        let turns = Turns::new();
        let now = seconds(10);
        for (action, id) in [("start", "a"), ("start", "a"), ("start", "b"), ("stop", "a")] {
            assert_eq!(turns.take(action, id, now), Ok(()));
        }
        assert_eq!(turns.take("start", "a", now), Err(seconds(1)));
        assert_eq!(turns.take("start", "a", now + seconds(1)), Ok(()));
        assert_eq!((0..20).filter(|_| turns.take("get", "a", now).is_ok()).count(), 9);
    }

    #[tokio::test]
    async fn a_refusal_is_waited_out_and_a_long_one_is_handed_on() {
        let turns = Turns::new();
        let began = Instant::now();
        turns.refused("start", "a", Some(Duration::from_millis(50)));
        turns.turn("start", "a").await.unwrap();
        assert!(began.elapsed() >= Duration::from_millis(50));
        // No longer than anybody would wait, whatever the answer says.
        turns.refused("start", "b", Some(Duration::MAX));
        let wait = turns.turn("start", "b").await.unwrap_err();
        assert!(wait > TURN_WAIT_MAX && wait <= RETRY_AFTER_MAX, "{wait:?}");
    }

    #[tokio::test]
    async fn who_waits_hears_that_there_is_no_limit() {
        let turns = Turns::new();
        while turns.take("create", "", turns.began.elapsed()).is_ok() {}
        let began = Instant::now();
        let (turn, ()) = tokio::join!(turns.turn("create", ""), async { turns.goes_at(0.0) });
        turn.unwrap();
        for _ in 0..100 {
            turns.turn("create", "").await.unwrap();
        }
        assert!(began.elapsed() < seconds(1), "one call a second would have been the limit");
    }

    #[test]
    fn what_is_full_is_forgotten() {
        let turns = Turns::new();
        for number in 0..=BUCKETS_MAX {
            let now = if number == BUCKETS_MAX { seconds(2) } else { seconds(0) };
            turns.take("start", &number.to_string(), now).unwrap();
        }
        assert_eq!(turns.state().buckets.len(), 1);
    }
}
