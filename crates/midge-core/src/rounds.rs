//! When the dispatcher's rounds come, and which of them look at the Machines.

use std::time::Duration;

use midge_protocol::Timestamp;

/// With Machines there, the Machines API is asked this often what they do: it is how soon a dead one is noticed. Fly's API
/// answers one list a second, and for a short time three.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After a call to the Machines API a look comes earlier, to see what came of it: no closer to the one before than this, and
/// the next ones twice as far apart each.
const LOOK_GAP: Duration = Duration::from_millis(100);
/// However many hints there are, one round comes in this time: each goes by all rows, and speaks for all hints before it.
const ROUND_GAP: Duration = Duration::from_millis(5);
/// Rounds that were not needed for so long may come at once: one look, the ends of its calls and the job that waited for
/// them do not hold each other up.
const ROUND_SLACK: Duration = Duration::from_millis(15);
/// Without Machines, only time can bring work that nobody announced.
const IDLE_ROUND_EVERY: Duration = Duration::from_secs(10);
/// After a round that the store failed.
const ROUND_AFTER_FAILURE: Duration = Duration::from_secs(2);

/// The dispatcher's timetable.
#[derive(Debug, Clone, Copy)]
pub struct Rounds {
    begun_at: Timestamp,
    /// When the gaps of all rounds until now are over.
    gaps_over_at: Timestamp,
    /// When the next round comes without a hint.
    due_at: Timestamp,
    /// Whether something may have changed since the last round began.
    hinted: bool,
    /// When a round last looked at the Machines; nothing where none has.
    looked_at: Option<Timestamp>,
    /// How long after that the next look is.
    look_gap: Duration,
}

/// What a round found, as far as the next one depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing: the store failed.
    Failed,
    /// This is what there is.
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
        Rounds {
            begun_at: now,
            gaps_over_at: now,
            due_at: now,
            hinted: false,
            looked_at: None,
            look_gap: LOOK_EVERY,
        }
    }

    /// Takes note that a round begins. What is hinted from now on is for the next one. Returns whether it looks at the
    /// Machines: most rounds are hinted by new jobs, and go by what is known.
    pub fn begin(&mut self, now: Timestamp) -> bool {
        self.begun_at = now;
        self.gaps_over_at = self.gaps_over_at.max(now).after(ROUND_GAP);
        self.hinted = false;
        let looks = self.look_at().is_none_or(|at| at <= now);
        if looks {
            self.looked_at = Some(now);
            self.look_gap = LOOK_EVERY.min(self.look_gap * 2);
        }
        looks
    }

    /// Takes what the round found.
    pub fn end(&mut self, found: Found, now: Timestamp) {
        self.due_at = match found {
            Found::Failed => now.after(ROUND_AFTER_FAILURE),
            Found::Seen { machines, next_due } => {
                let look_at = self.look_at().filter(|_| machines || self.look_gap < LOOK_EVERY);
                let idle = now.after(IDLE_ROUND_EVERY);
                [look_at, next_due].into_iter().flatten().fold(idle, Timestamp::min)
            }
        };
    }

    /// Takes note that there may be something to decide.
    pub fn hint(&mut self) {
        self.hinted = true;
    }

    /// Takes note that a call to the Machines API has ended, which is a hint.
    pub fn call_ended(&mut self) {
        (self.hinted, self.look_gap) = (true, LOOK_GAP);
    }

    /// Returns whether the next round comes as soon as the gap is over: another hint would change nothing.
    pub fn is_hinted(&self) -> bool {
        self.hinted
    }

    /// Returns how long it is until the next round. One comes soon where the clock was put back since the last.
    pub fn wait(&mut self, now: Timestamp) -> Duration {
        if now < self.begun_at {
            (self.begun_at, self.gaps_over_at, self.due_at) = (now, now, now);
            self.looked_at = self.looked_at.map(|at| at.min(now));
        }
        self.next_at().since(now)
    }

    /// Returns when the next round is to begin.
    fn next_at(&self) -> Timestamp {
        let wanted = if self.hinted { self.begun_at } else { self.due_at };
        wanted.max(self.gaps_over_at.before(ROUND_SLACK))
    }

    /// Returns from when on a round looks at the Machines; nothing where the next one does.
    fn look_at(&self) -> Option<Timestamp> {
        self.looked_at.map(|at| at.after(self.look_gap))
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
        assert_eq!(rounds.wait(long_before), Duration::ZERO);
    }

    #[test]
    fn a_few_hints_are_not_held_up_and_many_bring_a_round_every_gap() {
        let mut rounds = ended(Found::Seen { machines: true, next_due: None });
        let mut begun = Vec::new();
        for millis in 1..1_000 {
            rounds.hint();
            if rounds.wait(after(millis)).is_zero() {
                rounds.begin(after(millis));
                rounds.end(Found::Seen { machines: true, next_due: None }, after(millis));
                begun.push(millis);
            }
        }
        assert_eq!(begun[..6], [1, 2, 3, 5, 10, 15]);
        assert_eq!(begun.len(), 3 + 199, "a second has two hundred gaps");
    }

    #[test]
    fn a_hint_after_a_quiet_time_changes_nothing_about_the_next_look() {
        let mut rounds = ended(Found::Seen { machines: true, next_due: None });
        rounds.hint();
        rounds.begin(after(500));
        rounds.end(Found::Seen { machines: true, next_due: None }, after(501));
        assert_eq!(rounds.next_at(), after(1_000), "a look comes a second after the one before");
    }

    #[test]
    fn however_many_hints_there_are_the_machines_are_looked_at_once_a_second() {
        let mut rounds = Rounds::new(NOW);
        let mut looks = Vec::new();
        for millis in 5..3_500 {
            rounds.hint();
            if rounds.wait(after(millis)).is_zero() {
                if rounds.begin(after(millis)) {
                    looks.push(millis);
                }
                rounds.end(Found::Seen { machines: true, next_due: None }, after(millis));
            }
        }
        assert_eq!(looks, [5, 1_005, 2_005, 3_005]);
    }

    #[test]
    fn what_came_of_a_call_is_looked_for_soon_and_of_many_together() {
        let mut rounds = ended(Found::Seen { machines: true, next_due: None });
        let mut looks = Vec::new();
        for millis in 1..2_000 {
            if millis <= 300 {
                rounds.call_ended();
            }
            if rounds.wait(after(millis)).is_zero() {
                if rounds.begin(after(millis)) {
                    looks.push(millis);
                }
                rounds.end(Found::Seen { machines: true, next_due: None }, after(millis));
            }
        }
        assert_eq!(looks, [100, 200, 300, 500, 900, 1_700]);
    }

    #[test]
    fn a_hint_during_a_round_is_for_the_next_one() {
        let mut rounds = Rounds::new(NOW);
        rounds.begin(NOW);
        assert!(!rounds.is_hinted());
        rounds.hint();
        rounds.end(Found::Seen { machines: false, next_due: None }, after(2));
        assert!(rounds.is_hinted());
        assert_eq!(rounds.wait(after(2)), Duration::ZERO);
    }
}
