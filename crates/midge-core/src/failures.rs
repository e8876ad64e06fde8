//! Failures that are alike, counted together.

use midge_protocol::api::FailureGroup;

use crate::Change;

/// Groups of failures that are remembered. Where there are more, the one that was seen longest ago is forgotten.
pub const FAILURE_GROUPS_MAX: usize = 10_000;
/// How far the jobs of a group are counted that are open: a page of a thousand groups then looks at a million at most.
pub const FAILURE_OPEN_MAX: u64 = 1_000;
/// What a group keeps of a message.
const MESSAGE_BYTES_MAX: usize = 512;
/// What a group keeps of a generation, which is a digest.
const GENERATION_BYTES_MAX: usize = 128;

/// Returns the group of a failure that a change brought, with that failure counted; nothing where it brought none.
/// `before` is the group as it was, and `generation` what the attempt's Machine was made from.
pub fn failure_counted(
    before: Option<FailureGroup>,
    change: &Change,
    generation: &str,
) -> Option<FailureGroup> {
    let (failure, fingerprint) = change.new_failure()?;
    let now = change.job.failed_at()?;
    let cut = |text: &str, max: usize| text[..text.floor_char_boundary(max)].to_owned();
    let generation = cut(generation, GENERATION_BYTES_MAX);
    let (count, first_seen, first_generation) = match before {
        Some(before) => (before.count, before.first_seen, before.first_generation),
        None => (0, now, generation.clone()),
    };
    Some(FailureGroup {
        fingerprint,
        module: change.job.module.clone(),
        cause: failure.cause.clone(),
        message: cut(&failure.message, MESSAGE_BYTES_MAX),
        count: count.saturating_add(1),
        first_seen: first_seen.min(now),
        last_seen: now,
        first_generation,
        last_generation: generation,
        job: change.job.id,
    })
}

#[cfg(test)]
mod tests {
    use midge_protocol::exchange::Outcome;
    use midge_protocol::job::{Cause, Failure};
    use midge_protocol::{Lease, MachineName, Timestamp};

    use super::*;
    use crate::job::tests::new_job;
    use crate::{Job, JobEvent, MachineEnd, NewJob};

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn machine() -> MachineName {
        MachineName::new("m1").unwrap()
    }

    fn running(id: u8) -> Job {
        let job = Job::new(new_job(id, NOW), NOW);
        job.apply(JobEvent::Claimed { machine: machine() }, NOW).unwrap().job
    }

    fn ended(id: u8, outcome: Outcome, now: Timestamp) -> Change {
        let job = running(id);
        let lease = Lease { machine: machine(), attempt: job.attempt };
        job.apply(JobEvent::Finished { lease, outcome, usage: None, jitter: 0.0 }, now).unwrap()
    }

    fn failed(message: &str) -> Outcome {
        Outcome::Failed(Failure::new(Cause::Exit, message))
    }

    #[test]
    fn failures_that_are_alike_are_one_group_with_its_first_and_last() {
        let later = Timestamp::from_millis(1_000_500);
        let first = failure_counted(None, &ended(1, failed("user 42 not found"), NOW), "g1").unwrap();
        let second = ended(2, failed("user 7 not found"), later);
        assert_eq!(second.new_failure().map(|(_, fingerprint)| fingerprint), Some(first.fingerprint));
        let both = failure_counted(Some(first), &second, "g2").unwrap();
        assert_eq!((both.count, both.first_seen, both.last_seen), (2, NOW, later));
        assert_eq!((both.first_generation.as_str(), both.last_generation.as_str()), ("g1", "g2"));
        assert_eq!((both.message.as_str(), both.job), ("user 7 not found", second.job.id));
    }

    #[test]
    fn only_what_somebody_would_look_into_is_a_failure() {
        for outcome in [
            Outcome::Completed { result: "ok".into() },
            Outcome::Snoozed { after_ms: 1_000 },
            Outcome::HANDED_BACK,
            Outcome::Cancelled,
        ] {
            let change = ended(1, outcome, NOW);
            assert_eq!(change.new_failure(), None, "{change:?}");
            assert_eq!(change.job.fingerprint(), None);
        }
        let lost =
            JobEvent::MachineLost { machine: machine(), end: MachineEnd::Crashed, note: "gone".into() };
        assert!(running(1).apply(lost, NOW).unwrap().new_failure().is_some());
    }

    #[test]
    fn a_failure_is_counted_when_it_happens_and_not_again() {
        let change = ended(1, failed("no"), NOW);
        assert!(change.new_failure().is_some());
        let again = change.job.apply(JobEvent::RetryAsked, NOW).unwrap();
        assert_eq!(again.new_failure(), None);
        let expires = NewJob { expires_at: Some(NOW), ..new_job(1, NOW) };
        let expired = Job::new(expires, NOW).apply(JobEvent::Expired, NOW).unwrap();
        assert!(expired.new_failure().is_some());
        assert_eq!(expired.job.apply(JobEvent::RetryAsked, NOW).unwrap().new_failure(), None);
    }

    #[test]
    fn a_group_keeps_no_more_of_a_text_than_people_read() {
        let change = ended(1, failed(&"é".repeat(4_000)), NOW);
        let group = failure_counted(None, &change, &"g".repeat(10_000)).unwrap();
        assert!(
            group.message.len() <= MESSAGE_BYTES_MAX && group.last_generation.len() <= GENERATION_BYTES_MAX
        );
    }
}
