//! Which jobs a public state stands for, in terms that SQL may search by.

use midge_protocol::Timestamp;
use midge_protocol::job::State;

use crate::{Job, Phase};

/// The phases and due times that a public state stands for at a time: the inverse of [`Job::state_at`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateFilter {
    /// Only jobs in one of these phases; all where it is empty.
    pub phases: Vec<Phase>,
    /// Only jobs that are due at or before this.
    pub due_until: Option<Timestamp>,
    /// Only jobs that are due after this.
    pub due_after: Option<Timestamp>,
}

impl StateFilter {
    /// Returns the filter that finds the jobs in a state at a time.
    pub fn of(state: State, now: Timestamp) -> StateFilter {
        let phases = |phases: &[Phase]| StateFilter { phases: phases.to_vec(), ..StateFilter::default() };
        match state {
            State::Pending => phases(&[Phase::Pending]),
            State::Available => {
                StateFilter { due_until: Some(now), ..phases(&[Phase::Fresh, Phase::Retrying, Phase::Held]) }
            }
            State::Scheduled => StateFilter { due_after: Some(now), ..phases(&[Phase::Fresh]) },
            State::Retryable => StateFilter { due_after: Some(now), ..phases(&[Phase::Retrying]) },
            State::Running => phases(&[Phase::Running]),
            State::Completed => phases(&[Phase::Completed]),
            State::Cancelled => phases(&[Phase::Cancelled]),
            State::Discarded => phases(&[Phase::Discarded]),
        }
    }

    /// Returns whether it finds a job.
    pub fn matches(&self, job: &Job) -> bool {
        (self.phases.is_empty() || self.phases.contains(&job.phase()))
            && self.due_until.is_none_or(|until| job.due() <= until)
            && self.due_after.is_none_or(|after| job.due() > after)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use midge_protocol::exchange::Outcome;
    use midge_protocol::job::{Cause, Failure};
    use midge_protocol::{Lease, MachineName};

    use super::*;
    use crate::JobEvent;
    use crate::job::tests::new_job;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    /// A job in each of the states, by what may happen to one.
    pub(crate) fn jobs() -> Vec<Job> {
        let waiting = Job::new(new_job(1, NOW), NOW);
        let long_due = Job::new(new_job(2, Timestamp::EARLIEST), Timestamp::EARLIEST);
        let machine = MachineName::new("m").unwrap();
        let after = |job: &Job, event| job.apply(event, NOW).unwrap().job;
        let running = after(&waiting, JobEvent::Claimed { machine: machine.clone() });
        let ended = |outcome| {
            let lease = Lease { machine: machine.clone(), attempt: running.attempt };
            after(&running, JobEvent::Finished { lease, outcome, usage: None, jitter: 0.0 })
        };
        vec![
            after(&waiting, JobEvent::CancelAsked),
            after(&long_due, JobEvent::Held),
            Job::new(new_job(3, NOW), NOW).pending(),
            ended(Outcome::Completed { result: "ok".into() }),
            ended(Outcome::Failed(Failure::new(Cause::Exit, "again"))),
            ended(Outcome::Failed(Failure::new(Cause::Refused, "never"))),
            ended(Outcome::HANDED_BACK),
            waiting,
            running,
        ]
    }

    #[test]
    fn every_job_is_found_by_the_state_that_it_is_in_and_by_no_other() {
        let times = [-1_000, 0, 1, 100_000].map(|by| Timestamp::from_millis(NOW.as_millis() + by));
        let mut found = std::collections::BTreeSet::new();
        for now in times {
            for job in jobs() {
                let states: Vec<State> = State::ALL
                    .into_iter()
                    .filter(|state| StateFilter::of(*state, now).matches(&job))
                    .collect();
                assert_eq!(states, [job.state_at(now)], "{job:?}");
                found.extend(states);
            }
        }
        assert_eq!(found.len(), State::ALL.len(), "every state was seen");
    }
}
