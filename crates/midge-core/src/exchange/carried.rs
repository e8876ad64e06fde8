//! The server's side of the exchange: how much one answer carries.

use bytes::Bytes;
use midge_protocol::exchange::Grant;
use midge_protocol::limits;

/// What one answer carries, by the args, inputs and states of its grants. Those that are sent again count like new ones: an answer
/// over [`limits::EXCHANGE_BODY_BYTES_MAX`] would be lost each time, and take more with it each time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Carried {
    bytes: usize,
}

impl Carried {
    /// Returns whether another grant goes into the answer, however large. The first always does; what does not goes into
    /// the next answer.
    pub fn has_room(self) -> bool {
        self.bytes < limits::EXCHANGE_INPUT_BYTES_GOAL
    }

    /// Takes note of a grant that went in.
    pub fn add(&mut self, grant: &Grant) {
        let Grant { args, input, saved, .. } = grant;
        let bytes = [input, saved].into_iter().flatten().map(Bytes::len);
        self.bytes += args.len() + bytes.sum::<usize>();
    }
}

#[cfg(test)]
mod tests {
    use midge_protocol::exchange::AttemptRef;
    use midge_protocol::job::AttemptLimits;
    use midge_protocol::{AttemptNumber, JobId, ModuleName, QueueName};

    use super::super::host::CARRIED_BYTES_MAX;
    use super::*;

    fn grant(args: usize, input: usize) -> Grant {
        Grant {
            attempt: AttemptRef::new(JobId::from_bytes([1; 16]), AttemptNumber(1)),
            module: ModuleName::new("hello").unwrap(),
            queue: QueueName::default_queue(),
            args: "x".repeat(args),
            input: (input > 0).then(|| Bytes::from(vec![0; input])),
            saved: None,
            limits: AttemptLimits::default(),
            record: false,
        }
    }

    #[test]
    fn the_largest_grants_fit_a_body_whatever_came_before_them() {
        let state = Some(vec![0; limits::SAVED_BYTES_MAX].into());
        let largest = Grant { saved: state, ..grant(limits::ARGS_BYTES_MAX, limits::INPUT_BYTES_MAX) };
        let mut carried = Carried::default();
        assert!(carried.has_room(), "the first always goes in");
        carried.add(&grant(0, limits::EXCHANGE_INPUT_BYTES_GOAL - 1));
        assert!(carried.has_room());
        carried.add(&largest);
        assert!(!carried.has_room() && carried.bytes <= CARRIED_BYTES_MAX, "{}", carried.bytes);
    }

    #[test]
    fn args_count_as_inputs_do() {
        let (mut carried, args) = (Carried::default(), grant(limits::ARGS_BYTES_MAX, 0));
        let grants = std::iter::from_fn(|| carried.has_room().then(|| carried.add(&args))).count();
        assert_eq!(grants, limits::EXCHANGE_INPUT_BYTES_GOAL / limits::ARGS_BYTES_MAX);
    }
}
