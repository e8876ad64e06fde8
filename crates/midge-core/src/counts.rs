//! How many jobs a queue has, by phase and by public state.

use std::collections::BTreeMap;

use midge_protocol::Timestamp;
use midge_protocol::job::State;

use crate::{Job, Phase};

/// How many jobs a queue has, as they are at one time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobCounts {
    /// How many jobs are in each phase. A phase without jobs may be missing.
    pub phases: BTreeMap<Phase, u64>,
    /// Of those that wait, how many are not due yet and have not failed.
    pub scheduled: u64,
    /// Of those that wait, how many are not due yet and have failed.
    pub retryable: u64,
    /// When the job that is due longest of those in line became due.
    pub oldest_due: Option<Timestamp>,
}

impl JobCounts {
    /// Counts one more job, as it is at a time. A store may be faster, and is held against this.
    pub fn add(&mut self, job: &Job, now: Timestamp) {
        *self.phases.entry(job.phase()).or_default() += 1;
        match job.state_at(now) {
            State::Scheduled => self.scheduled += 1,
            State::Retryable => self.retryable += 1,
            State::Available if job.phase() == Phase::Held => {}
            State::Available => {
                self.oldest_due = [self.oldest_due, Some(job.due())].into_iter().flatten().min()
            }
            State::Pending | State::Running | State::Completed | State::Cancelled | State::Discarded => {}
        }
    }

    /// Returns how many jobs are in a phase.
    pub fn phase(&self, phase: Phase) -> u64 {
        self.phases.get(&phase).copied().unwrap_or(0)
    }

    /// Returns how many jobs wait, due or not.
    pub fn waiting(&self) -> u64 {
        self.phases.iter().filter(|(phase, _)| phase.is_waiting()).map(|(_, jobs)| jobs).sum()
    }

    /// Returns how many jobs may be claimed: those that are available, and not held.
    pub fn in_line(&self) -> u64 {
        self.in_state(State::Available).saturating_sub(self.phase(Phase::Held))
    }

    /// Returns how many jobs are in a public state: as many as [`crate::StateFilter`] finds.
    pub fn in_state(&self, state: State) -> u64 {
        match state {
            State::Scheduled => self.scheduled,
            State::Retryable => self.retryable,
            State::Pending => self.phase(Phase::Pending),
            State::Available => {
                let others = self.scheduled + self.retryable + self.phase(Phase::Pending);
                self.waiting().saturating_sub(others)
            }
            State::Running => self.phase(Phase::Running),
            State::Completed => self.phase(Phase::Completed),
            State::Cancelled => self.phase(Phase::Cancelled),
            State::Discarded => self.phase(Phase::Discarded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StateFilter;
    use crate::filter::tests::jobs;

    #[test]
    fn as_many_jobs_are_counted_in_a_state_as_are_found_in_it() {
        for now in [0, 1_000_000, 1_000_001, 1_100_000].map(Timestamp::from_millis) {
            let mut counts = JobCounts::default();
            jobs().iter().for_each(|job| counts.add(job, now));
            for state in State::ALL {
                let found = jobs().iter().filter(|job| StateFilter::of(state, now).matches(job)).count();
                assert_eq!(counts.in_state(state), found as u64, "{state} at {now}");
            }
        }
    }
}
