//! How often a Machine is made again before it counts as lost.

use super::CallFailure;

/// A create whose fate is not known is repeated so often, under the same name and secret: the name is unique, so that
/// the Machine is made once.
const TRIES_MAX: u32 = 3;

/// The tries at one create, all under the same name and secret.
#[derive(Debug, Clone, Copy, Default)]
pub struct CreateTries {
    failed: u32,
    /// Whether one of them may have been heard.
    ambiguous: bool,
}

impl CreateTries {
    /// Takes note that a try failed. Returns how the create has failed as a whole; nothing where it is to be tried again.
    pub fn failed(&mut self, failure: CallFailure) -> Option<CallFailure> {
        self.failed += 1;
        if failure == CallFailure::Ambiguous {
            self.ambiguous = true;
            return (self.failed >= TRIES_MAX).then_some(failure);
        }
        // A try before may have made it, whatever became of this one: under a new secret it would be another Machine's.
        Some(if self.ambiguous { CallFailure::Ambiguous } else { failure })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_create_whose_fate_is_not_known_is_tried_three_times() {
        let mut tries = CreateTries::default();
        let answers = [0; 3].map(|_| tries.failed(CallFailure::Ambiguous));
        assert_eq!(answers, [None, None, Some(CallFailure::Ambiguous)]);
    }

    #[test]
    fn a_create_that_was_refused_is_not_repeated_and_one_that_may_have_been_heard_was_not_refused() {
        let limited = CallFailure::RateLimited(None);
        assert_eq!(CreateTries::default().failed(limited), Some(limited));
        let mut tries = CreateTries::default();
        assert_eq!(tries.failed(CallFailure::Ambiguous), None);
        assert_eq!(tries.failed(limited), Some(CallFailure::Ambiguous));
    }
}
