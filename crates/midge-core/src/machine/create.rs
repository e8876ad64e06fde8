//! How often a Machine is made again before it counts as lost, and in which region the first time.

use std::time::Duration;

use midge_protocol::Timestamp;

use super::{CallFailure, Machine};

/// A create whose fate is not known is repeated so often, under the same name and secret: the name is unique, so that
/// the Machine is made once.
const TRIES_MAX: u32 = 3;
/// No other try is begun after this: one that is not answered takes a minute, and a Machine that is not made in two is
/// given up.
const TRIES_WITHIN: Duration = Duration::from_secs(30);

/// For how long a region is passed by in which there was no room for a Machine of the queue: one call in five minutes is not
/// too much to find out that there is again.
const PASSED_BY: Duration = Duration::from_secs(5 * 60);

/// Returns which of its regions a new Machine of a queue is made in first, by place in their list: the one whose turn it was
/// after the last refusal, where that is not long ago. `machines` are those of the queue.
pub fn first_region<'a>(machines: impl Iterator<Item = &'a Machine>, now: Timestamp) -> u32 {
    let last = machines.max_by_key(|machine| machine.no_room_at);
    let lately = |machine: &&Machine| machine.no_room_at.is_some_and(|at| now.since(at) < PASSED_BY);
    last.filter(lately).map_or(0, |machine| machine.no_room)
}

/// The tries at one create, all under the same name and secret.
#[derive(Debug, Clone, Copy)]
pub struct CreateTries {
    begun_at: Timestamp,
    failed: u32,
    /// Whether one of them may have been heard.
    ambiguous: bool,
}

impl CreateTries {
    /// Begins with the first try.
    pub fn new(now: Timestamp) -> CreateTries {
        CreateTries { begun_at: now, failed: 0, ambiguous: false }
    }

    /// Takes note that a try failed. Returns how the create has failed as a whole; nothing where it is to be tried again.
    pub fn failed(&mut self, failure: CallFailure, now: Timestamp) -> Option<CallFailure> {
        self.failed += 1;
        if failure == CallFailure::Ambiguous {
            self.ambiguous = true;
            let is_last = self.failed >= TRIES_MAX || now.since(self.begun_at) > TRIES_WITHIN;
            return is_last.then_some(failure);
        }
        // A try before may have made it, whatever became of this one: under a new secret it would be another Machine's.
        Some(if self.ambiguous { CallFailure::Ambiguous } else { failure })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    #[test]
    fn a_create_whose_fate_is_not_known_is_tried_three_times() {
        let mut tries = CreateTries::new(NOW);
        let answers = [0; 3].map(|_| tries.failed(CallFailure::Ambiguous, NOW));
        assert_eq!(answers, [None, None, Some(CallFailure::Ambiguous)]);
    }

    #[test]
    fn no_try_is_begun_that_could_outlast_what_a_machine_has_to_come_up() {
        let mut tries = CreateTries::new(NOW);
        let soon = NOW.after(TRIES_WITHIN);
        assert_eq!(tries.failed(CallFailure::Ambiguous, soon), None);
        let later = soon.after(Duration::from_millis(1));
        assert_eq!(tries.failed(CallFailure::Ambiguous, later), Some(CallFailure::Ambiguous));
    }

    #[test]
    fn a_create_that_was_refused_is_not_repeated_and_one_that_may_have_been_heard_was_not_refused() {
        let limited = CallFailure::RateLimited(None);
        assert_eq!(CreateTries::new(NOW).failed(limited, NOW), Some(limited));
        let mut tries = CreateTries::new(NOW);
        assert_eq!(tries.failed(CallFailure::Ambiguous, NOW), None);
        assert_eq!(tries.failed(limited, NOW), Some(CallFailure::Ambiguous));
    }
}
