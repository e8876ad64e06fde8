//! Jobs that attempts enqueue: they are written in the transaction that completes the attempt, or it has failed.

use std::collections::BTreeMap;

use midge_core::Job;
use midge_protocol::Timestamp;
use midge_protocol::exchange::{AttemptRef, FollowUp, Outcome, Request};
use midge_protocol::job::{Cause, Failure};

use super::Undone;
use super::session::Session;
use crate::catalog::Catalog;
use crate::error::ServiceError;
use crate::operations::enqueue::{Accepted, Written, accept, write_as};

/// What each attempt of a request enqueues, read and checked: it is done before the transaction, in which others would wait
/// for it.
pub(super) type FollowUps = BTreeMap<AttemptRef, Result<Vec<Accepted>, Failure>>;

/// Reads and checks what attempts enqueue that completed.
pub(super) fn accept_all(request: &Request, catalog: &Catalog, now: Timestamp) -> FollowUps {
    let enqueuing = request.finished.iter().filter(|finished| {
        !finished.jobs.is_empty() && matches!(finished.outcome, Outcome::Completed { .. })
    });
    enqueuing.map(|finished| (finished.attempt, accept_each(&finished.jobs, catalog, now))).collect()
}

fn accept_each(jobs: &[FollowUp], catalog: &Catalog, now: Timestamp) -> Result<Vec<Accepted>, Failure> {
    let mut accepted = Vec::with_capacity(jobs.len());
    for (index, job) in jobs.iter().enumerate() {
        // What cannot be read, no attempt can have meant otherwise.
        let request = job.read().map_err(|error| one_of(index, jobs.len(), Cause::NeverEnqueued, &error))?;
        let job = accept(request, catalog, now);
        accepted.push(job.map_err(|error| one_of(index, jobs.len(), cause(&error), &error))?);
    }
    Ok(accepted)
}

/// Returns the cause of an attempt that enqueued what is refused: final where its request itself can never be taken.
fn cause(error: &ServiceError) -> Cause {
    match error {
        ServiceError::TooLarge { .. } | ServiceError::Invalid(_) | ServiceError::BatchRefused(_) => {
            Cause::NeverEnqueued
        }
        // A deploy, other jobs or the time may mend it.
        _ => Cause::NotEnqueued,
    }
}

/// Returns how an attempt failed which of its jobs, counted from 1, was refused, and why.
fn one_of(index: usize, jobs: usize, cause: Cause, why: &dyn std::fmt::Display) -> Failure {
    let number = index + 1;
    let words = format!(
        "of the {jobs} jobs that it enqueued, number {number} was refused, and so it has not completed: {why}"
    );
    Failure::new(cause, words)
}

/// Has an attempt have failed which could not enqueue what it wanted to.
pub(super) fn fails(request: &mut Request, attempt: AttemptRef, failure: &Failure) {
    for finished in request.finished.iter_mut().filter(|finished| finished.attempt == attempt) {
        finished.outcome = Outcome::Failed(failure.clone());
        finished.jobs.clear();
    }
}

impl Session<'_> {
    /// Writes the jobs that an attempt enqueued which has just completed.
    ///
    /// # Errors
    /// [`Undone::NotEnqueued`] where one is refused: nothing of the transaction is to stay.
    pub(super) fn enqueue(
        &mut self,
        parent: &Job,
        attempt: AttemptRef,
        jobs: Result<Vec<Accepted>, Failure>,
    ) -> Result<(), Undone> {
        let not_enqueued = |failure| Undone::NotEnqueued { attempt, failure };
        let jobs = jobs.map_err(not_enqueued)?;
        let catalog = &self.context.catalog;
        self.may_enqueue(parent, &jobs).map_err(not_enqueued)?;
        let (now, count) = (self.now, jobs.len());
        let child = |mut job: Job| {
            job.links.parent = Some(parent.id);
            // It has been checked.
            job.links.depth = parent.depth_of_next(job.due(), now).unwrap_or_default();
            job
        };
        let Written { queues, .. } =
            write_as(self.rows, jobs, catalog, self.now, child).map_err(|error| match error {
                ServiceError::Store(error) => Undone::from(error),
                ServiceError::OfMany { index, error, .. } => {
                    // Of times it is the guest's to say others, by the clock of its next attempt.
                    let cause = match *error {
                        ServiceError::Invalid(_) => Cause::NotEnqueued,
                        _ => cause(&error),
                    };
                    not_enqueued(one_of(index, count, cause, &error))
                }
                error => {
                    let words = "the jobs that it enqueued were refused, and so it has not completed";
                    not_enqueued(Failure::new(Cause::NotEnqueued, format!("{words}: {error}")))
                }
            })?;
        self.done.changed = true;
        self.done.returned.extend(queues);
        Ok(())
    }

    /// Checks that the module that is served of that name declares what its job enqueues, since its host may have run another;
    /// and that not too many jobs in a row have enqueued each the next.
    fn may_enqueue(&self, parent: &Job, jobs: &[Accepted]) -> Result<(), Failure> {
        let entry = self.context.catalog.module(&parent.module);
        let entry = entry.map_err(|_| {
            let why = format!("module `{}` is not served any more", parent.module);
            Failure::new(Cause::NotEnqueued, why)
        })?;
        for (index, job) in jobs.iter().enumerate() {
            let failure = |cause, why: &dyn std::fmt::Display| one_of(index, jobs.len(), cause, why);
            let declared = entry.may_enqueue(&parent.module, job.module());
            declared.map_err(|error| failure(Cause::NotEnqueued, &error))?;
            // The parent's own place in the row is the same in each attempt.
            let depth = parent.depth_of_next(job.due(), self.now);
            depth.map_err(|error| failure(Cause::NeverEnqueued, &error))?;
        }
        Ok(())
    }
}
