//! When the dispatcher's rounds come.

use std::time::Duration;

use midge_protocol::Timestamp;

/// With Machines to look at, a round comes at least this often: it is how soon a dead one is noticed.
const ROUND_EVERY: Duration = Duration::from_secs(1);
/// However many hints there are, rounds come no closer than this: each looks at all Machines, and speaks for all hints
/// before it. The first hint after a quiet time is not held up.
const ROUND_GAP: Duration = Duration::from_millis(5);
/// Without Machines, only time can bring work that nobody announced.
const IDLE_ROUND_EVERY: Duration = Duration::from_secs(10);
/// After a round that the store failed.
const ROUND_AFTER_FAILURE: Duration = Duration::from_secs(2);

/// The dispatcher's timetable.
#[derive(Debug, Clone, Copy)]
pub struct Rounds {
    begun_at: Timestamp,
    /// When the next round comes without a hint.
    due_at: Timestamp,
    /// Whether something may have changed since the last round began.
    hinted: bool,
}

/// What a round found, as far as the next one depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing: the store failed.
    Failed,
    /// The store and the Machines API were asked, and this is what there is.
    Seen {
        /// Whether there are Machines that may change by themselves.
        machines: bool,
        /// The time at which the next waiting job becomes due or expires; nothing where none waits for its time.
        next_due: Option<Timestamp>,
    },
}

impl Rounds {
    /// Makes the timetable of a dispatcher that starts: its first round is due at once.
    pub fn new(now: Timestamp) -> Rounds {
        Rounds { begun_at: now, due_at: now, hinted: false }
    }

    /// Takes note that a round begins. What is hinted from now on is for the next one.
    pub fn begin(&mut self, now: Timestamp) {
        self.begun_at = now;
        self.hinted = false;
    }

    /// Takes what the round found.
    pub fn end(&mut self, found: Found, now: Timestamp) {
        let wait = match found {
            Found::Failed => ROUND_AFTER_FAILURE,
            Found::Seen { machines, next_due } => {
                let every = if machines { ROUND_EVERY } else { IDLE_ROUND_EVERY };
                next_due.map_or(every, |due| due.since(now)).min(every)
            }
        };
        self.due_at = now.after(wait);
    }

    /// Takes note that there may be something to decide.
    pub fn hint(&mut self) {
        self.hinted = true;
    }

    /// Returns whether the next round comes as soon as the gap is over: another hint would change nothing.
    pub fn is_hinted(&self) -> bool {
        self.hinted
    }

    /// Returns how long it is until the next round. One comes soon where the clock was put back since the last.
    pub fn wait(&mut self, now: Timestamp) -> Duration {
        if now < self.begun_at {
            (self.begun_at, self.due_at) = (now, now);
        }
        self.next_at().since(now)
    }

    /// Returns when the next round is to begin.
    fn next_at(&self) -> Timestamp {
        let wanted = if self.hinted { self.begun_at } else { self.due_at };
        wanted.max(self.begun_at.after(ROUND_GAP))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn after(millis: u64) -> Timestamp {
        NOW.after(Duration::from_millis(millis))
    }

    fn ended(found: Found) -> Rounds {
        let mut rounds = Rounds::new(NOW);
        rounds.begin(NOW);
        rounds.end(found, NOW);
        rounds
    }

    #[test]
    fn a_dead_machine_is_looked_for_every_second_and_nothing_every_ten() {
        assert_eq!(ended(Found::Seen { machines: true, next_due: None }).next_at(), after(1_000));
        assert_eq!(ended(Found::Seen { machines: false, next_due: None }).next_at(), after(10_000));
        assert_eq!(ended(Found::Failed).next_at(), after(2_000));
    }

    #[test]
    fn a_round_comes_when_the_next_job_is_due() {
        let found = |millis| Found::Seen { machines: false, next_due: Some(after(millis)) };
        assert_eq!(ended(found(300)).next_at(), after(300));
        assert_eq!(ended(found(60_000)).next_at(), after(10_000));
    }

    #[test]
    fn a_clock_that_is_put_back_does_not_hold_a_round_up() {
        let mut rounds = ended(Found::Seen { machines: true, next_due: None });
        let long_before = Timestamp::from_millis(5);
        assert_eq!(rounds.wait(NOW), Duration::from_millis(1_000));
        assert_eq!(rounds.wait(long_before), Duration::from_millis(5));
        assert_eq!(rounds.wait(long_before.after(Duration::from_millis(5))), Duration::ZERO);
    }

    #[test]
    fn a_hint_is_not_held_up_and_many_come_no_closer_than_the_gap() {
        let mut rounds = ended(Found::Seen { machines: true, next_due: None });
        rounds.hint();
        assert_eq!(rounds.next_at(), after(5));
        assert!(rounds.next_at() < after(500), "after a quiet time the gap is long over");
        rounds.begin(after(500));
        rounds.end(Found::Seen { machines: true, next_due: None }, after(501));
        assert_eq!(rounds.next_at(), after(1_501));
    }

    #[test]
    fn a_hint_during_a_round_is_for_the_next_one() {
        let mut rounds = Rounds::new(NOW);
        rounds.begin(NOW);
        assert!(!rounds.is_hinted());
        rounds.hint();
        rounds.end(Found::Seen { machines: false, next_due: None }, after(2));
        assert!(rounds.is_hinted());
        assert_eq!(rounds.next_at(), after(5));
    }
}
