//! What is kept of what a host reports: every part of it has a bound, whoever the host is.

use midge_protocol::exchange::Outcome;
use midge_protocol::job::{Cause, Failure};
use midge_protocol::limits;

/// Returns what is kept of an outcome. A result that is too large is none: the attempt has failed.
pub(crate) fn bounded(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Completed { result } if result.len() > limits::RESULT_BYTES_MAX => {
            let (bytes, max) = (result.len(), limits::RESULT_BYTES_MAX);
            let message = format!("the result is {bytes} bytes, and at most {max} are kept");
            Outcome::Failed(Failure::new(Cause::OverOutput, message))
        }
        Outcome::Failed(failure) => Outcome::Failed(failure.bounded()),
        Outcome::Snoozed { after_ms } => {
            Outcome::Snoozed { after_ms: after_ms.min(limits::PUT_OFF_MAX.as_millis() as u64) }
        }
        outcome => outcome,
    }
}

/// Returns what is kept of a piece of a log that begins at `offset`: a log ends at [`limits::LOG_BYTES_MAX`].
pub fn kept_of_log(offset: u64, piece: &[u8]) -> &[u8] {
    let room = (limits::LOG_BYTES_MAX as u64).saturating_sub(offset);
    &piece[..piece.len().min(usize::try_from(room).unwrap_or(usize::MAX))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_ends_at_its_bound() {
        let most = limits::LOG_BYTES_MAX as u64;
        assert_eq!(kept_of_log(0, b"abc"), b"abc");
        assert_eq!(kept_of_log(most - 2, b"abc"), b"ab");
        assert_eq!(kept_of_log(most, b"abc"), b"");
        assert_eq!(kept_of_log(u64::MAX, b"abc"), b"");
        assert_eq!(kept_of_log(0, &vec![0; limits::LOG_BYTES_MAX + 1]).len(), limits::LOG_BYTES_MAX);
    }
}
