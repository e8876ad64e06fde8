//! A job's attempts: how hosts name them, what one may find, and which are kept.

use midge_protocol::exchange::AttemptRef;
use midge_protocol::{AttemptNumber, AttemptRange, MachineName};

use super::Job;
use crate::report::forgotten_attempts;

impl Job {
    /// Returns how hosts name its last attempt.
    pub fn attempt_ref(&self) -> AttemptRef {
        let enqueued_at_ms = Some(self.enqueued_at.as_millis());
        AttemptRef { job: self.id, attempt: self.attempt, enqueued_at_ms }
    }

    /// Returns whether who names an attempt means this job, and not one that was deleted before it was enqueued under the
    /// same id. Who does not say when its job was enqueued is taken to mean this one.
    pub fn is_meant_by(&self, attempt: AttemptRef) -> bool {
        let enqueued_at_ms = self.enqueued_at.as_millis();
        attempt.job == self.id && attempt.enqueued_at_ms.is_none_or(|at| at == enqueued_at_ms)
    }

    /// Returns whether a Machine may report on an attempt: the job runs there, and this attempt at it.
    pub fn is_leased_as(&self, machine: &MachineName, attempt: AttemptRef) -> bool {
        let is_right =
            |lease: &midge_protocol::Lease| lease.machine == *machine && lease.attempt == attempt.attempt;
        self.is_meant_by(attempt) && self.lease().is_some_and(is_right)
    }

    /// Returns whether an attempt before the last one may have saved something for it: of a first attempt there is none
    /// before it.
    pub fn may_find_saved(&self) -> bool {
        self.attempt > AttemptNumber(1)
    }

    /// Returns whether an attempt at it has begun.
    pub fn has_begun(&self, attempt: AttemptNumber) -> bool {
        (1..=self.attempt.0).contains(&attempt.0)
    }

    /// Returns the attempts that ended and are not kept any more, nor their logs.
    pub fn forgotten_attempts(&self) -> Option<AttemptRange> {
        let is_running = u32::from(self.lease().is_some());
        forgotten_attempts(AttemptNumber(self.attempt.0.saturating_sub(is_running)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use midge_protocol::Timestamp;

    use super::*;
    use crate::JobEvent;
    use crate::job::tests::new_job;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn fresh() -> Job {
        Job::new(new_job(7, NOW), NOW)
    }

    fn machine() -> MachineName {
        MachineName::new("m").unwrap()
    }

    fn running(job: &Job) -> Job {
        job.apply(JobEvent::Claimed { machine: machine() }, job.due()).unwrap().job
    }

    #[test]
    fn an_attempt_at_a_job_that_was_deleted_is_none_at_another_under_its_id() {
        let first = running(&fresh());
        let deleted = first.attempt_ref();
        assert!(first.is_leased_as(&machine(), deleted));
        let again = running(&Job { enqueued_at: NOW.after(Duration::from_millis(1)), ..fresh() });
        assert!(!again.is_leased_as(&machine(), deleted) && !again.is_meant_by(deleted));
        assert!(again.is_leased_as(&machine(), again.attempt_ref()));
        let unsaid = AttemptRef::new(again.id, again.attempt);
        assert!(again.is_leased_as(&machine(), unsaid), "an earlier host says nothing of it");
        assert!(!again.is_leased_as(&machine(), AttemptRef::new(again.id, again.attempt.next())));
        assert!(!again.is_leased_as(&MachineName::new("other").unwrap(), unsaid));
    }

    #[test]
    fn a_first_attempt_finds_nothing_that_was_saved() {
        let first = running(&fresh());
        assert!(!first.may_find_saved());
        let lost =
            JobEvent::MachineLost { machine: machine(), end: crate::MachineEnd::Own, note: String::new() };
        let second = running(&first.apply(lost, NOW).unwrap().job);
        assert!(second.may_find_saved());
    }
}
