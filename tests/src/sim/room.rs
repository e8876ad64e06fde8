//! Room in queues: what the API asks before a job comes to wait in one, and that no more wait there than its bound.

use std::collections::BTreeMap;

use midge_core::{Job, Phase, is_full};
use midge_protocol::QueueName;
use midge_protocol::api::{Action, SweepView};
use midge_protocol::manifest::QueuePolicy;
use midge_server::ServiceError;
use midge_store::Rows;

use super::ledger::{Broken, Ledger, ensure};
use super::world::World;

/// The queues of a run.
pub(super) type Policies = BTreeMap<QueueName, QueuePolicy>;

/// Returns how many jobs may wait in a queue.
fn max_of(policies: &Policies, queue: &QueueName) -> u64 {
    policies.get(queue).cloned().unwrap_or_default().max_jobs
}

/// Refuses one more job in a queue in which as many wait as may, as the API does it.
pub(super) fn check(
    rows: &mut dyn Rows,
    policies: &Policies,
    queue: &QueueName,
    new: u64,
) -> Result<(), ServiceError> {
    let (max, waiting) = (max_of(policies, queue), rows.jobs_waiting(queue)?);
    match is_full(max, waiting, new) {
        true => Err(ServiceError::QueueFull { queue: queue.clone(), max, waiting, new }),
        false => Ok(()),
    }
}

/// What somebody does who was refused, or had no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Repeat,
    /// Until people stop: it is said that there is no room.
    TryLater,
    /// Without the batch, which is gone.
    Alone,
    GiveUp,
}

/// How many jobs came to wait in each queue: those that nobody was bound to take, and those that had run there.
#[derive(Default)]
pub(super) struct Arrivals(BTreeMap<QueueName, (u64, u64)>);

impl Arrivals {
    /// Takes note of a job that is another now.
    pub(super) fn note(&mut self, before: Option<&Job>, after: &Job) {
        let waited = before.is_some_and(|job| job.phase().is_waiting() && job.queue == after.queue);
        if waited || !after.phase().is_waiting() {
            return;
        }
        let (new, back) = self.0.entry(after.queue.clone()).or_default();
        *(if before.is_some_and(|job| job.phase() == Phase::Running) { back } else { new }) += 1;
    }
}

impl Ledger {
    /// Returns how many jobs of a queue wait, due or not.
    fn waiting(&self, queue: &QueueName) -> u64 {
        self.jobs().filter(|job| job.queue == *queue && job.phase().is_waiting()).count() as u64
    }

    /// No job came to wait where as many waited as may. Those that had run there have their places.
    pub(super) fn check_arrivals(&self, arrivals: &Arrivals, policies: &Policies) -> Result<(), Broken> {
        for (queue, (new, back)) in &arrivals.0 {
            let (max, waiting) = (max_of(policies, queue), self.waiting(queue));
            ensure(*new == 0 || waiting <= max.saturating_add(*back), || {
                format!("{waiting} jobs wait in {queue} after {new} more came, and {max} may")
            })?;
        }
        Ok(())
    }

    /// A queue is said to have no room for so many more.
    fn check_full(&self, queue: &QueueName, new: u64, policies: &Policies) -> Result<(), Broken> {
        let (max, waiting) = (max_of(policies, queue), self.waiting(queue));
        ensure(waiting + new > max, || {
            format!("{queue} takes no {new} more, and {waiting} of {max} jobs wait there")
        })
    }

    /// Nobody is refused without a reason. Returns what is done then.
    fn check_refused(&self, refused: &ServiceError, policies: &Policies) -> Result<Then, Broken> {
        match refused {
            ServiceError::QueueFull { queue, new, .. } => {
                self.check_full(queue, *new, policies)?;
                Ok(Then::TryLater)
            }
            ServiceError::NoSuchDependency(on) => {
                ensure(self.jobs().all(|job| job.id != *on), || {
                    format!("it is said that {on} is not there")
                })?;
                Ok(if self.deletions.is_gone(*on) { Then::GiveUp } else { Then::Repeat })
            }
            ServiceError::NoSuchBatch(id) => {
                ensure(!self.batches.is_there(*id), || format!("it is said that batch {id} is not there"))?;
                Ok(if self.batches.is_gone(*id) { Then::Alone } else { Then::Repeat })
            }
            other => Err(Broken(format!("nobody is to be refused so: {other}"))),
        }
    }
}

impl World {
    /// Checks a refusal, where it is one, and returns what people do then.
    pub(super) fn refused<T>(&mut self, done: &Option<Result<T, ServiceError>>) -> Result<Then, Broken> {
        let Some(Err(refused)) = done else { return Ok(Then::Repeat) };
        self.trace.say(self.now, format_args!("it is refused: {refused}"));
        if let ServiceError::QueueFull { .. } = refused {
            self.trace.count("queues that were full");
        }
        self.ledger.check_refused(refused, &self.policies)
    }

    /// Checks that what a step of a sweep could not do for want of room found none.
    pub(super) fn check_sweep_had_no_room(&mut self, before: &SweepView) -> Result<(), Broken> {
        let id = before.id;
        let Some(after) = self.store.look(move |rows| rows.sweep(id)) else { return Ok(()) };
        let new = after.view.first_not.iter().skip(before.first_not.len());
        for not in new.filter(|not| not.why.contains("max_jobs")) {
            let of_job = self.ledger.job(not.job).map(|job| &job.queue);
            let queue = if let Action::Move(to) = &before.action { Some(to) } else { of_job };
            queue.map_or(Ok(()), |queue| self.ledger.check_full(queue, 1, &self.policies))?;
            self.trace.count("sweeps that found no room");
        }
        Ok(())
    }

    /// Returns whether somebody gives up, since it would be in vain, or it is time to go home.
    pub(super) fn gives_up(&self, then: Then) -> bool {
        then == Then::GiveUp || then == Then::TryLater && self.quiet
    }
}
