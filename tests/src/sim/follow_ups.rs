//! Jobs that guests enqueue, and what must always be true of them: they are there exactly if the attempt of their parent
//! completed, and once.

use std::collections::{BTreeMap, BTreeSet};

use midge_core::{Ending, Job, JobState, Links, NewJob};
use midge_protocol::exchange::{Finished, FollowUp, Outcome, Request};
use midge_protocol::job::{AfterFailed, AttemptView, Cause};
use midge_protocol::{BatchId, JobId, MachineName, QueueName};

use super::host::Key;
use super::ledger::{Broken, ensure};
use super::people::{MODULES, args_of};
use super::world::World;

/// The most jobs that one guest enqueues.
const FOLLOW_UPS_MAX: u64 = 3;

/// What is remembered of jobs that guests enqueue.
#[derive(Default)]
pub(super) struct FollowUps {
    /// What each attempt's guest enqueued, each time that it ran to its end: a Machine that was started again may run it again.
    said: BTreeMap<Key, Vec<BTreeSet<JobId>>>,
}

/// The jobs that are new after a transaction and have a parent, by that.
pub(super) type NewChildren = BTreeMap<JobId, BTreeSet<JobId>>;

impl FollowUps {
    /// A guest completes, and has enqueued this.
    fn said(&mut self, key: Key, jobs: &[FollowUp]) {
        let said = self.said.entry(key).or_default();
        said.push(jobs.iter().map(|job| job.id).collect());
    }

    /// Returns whether an attempt's guest enqueued anything, so that it may have failed for that.
    pub(super) fn may_fail(&self, key: Key) -> bool {
        self.said.get(&key).is_some_and(|said| said.iter().any(|jobs| !jobs.is_empty()))
    }

    /// Takes the new children of a job that has just completed: all that its guest enqueued in one run, and no other. Returns
    /// how many there are.
    pub(super) fn check(
        &self,
        before: Option<&Job>,
        job: &Job,
        new: &mut NewChildren,
    ) -> Result<usize, Broken> {
        let completed =
            |job: &Job| matches!(job.state, JobState::Ended { how: Ending::Completed { .. }, .. });
        let was = before.is_some_and(|before| completed(before) && before.attempt == job.attempt);
        if was || !completed(job) {
            return Ok(0);
        }
        let children = new.remove(&job.id).unwrap_or_default();
        let said = self.said.get(&job.attempt_ref()).map(Vec::as_slice).unwrap_or_default();
        ensure(said.contains(&children), || {
            format!("{} completed with the children {children:?}, and its guest enqueued {said:?}", job.id)
        })?;
        Ok(children.len())
    }

    /// Whoever is new and has a parent that has not just completed should not be there.
    pub(super) fn check_rest(new: &NewChildren) -> Result<(), Broken> {
        ensure(new.is_empty(), || format!("there are children of jobs that have not completed: {new:?}"))
    }
}

/// Returns whether an attempt failed since it could not enqueue what it wanted to.
pub(super) fn enqueued_in_vain(attempt: &AttemptView) -> bool {
    attempt
        .failure
        .as_ref()
        .is_some_and(|failure| matches!(failure.cause, Cause::NotEnqueued | Cause::NeverEnqueued))
}

impl World {
    /// Draws what a guest enqueues that ends so. What another enqueued enqueues nothing, so that it comes to an end.
    pub(super) fn draw_follow_ups(&mut self, key: Key, outcome: &Outcome) -> Vec<FollowUp> {
        let Outcome::Completed { .. } = outcome else { return Vec::new() };
        let is_child = self.ledger.job(key.job).is_none_or(|job| job.links.parent.is_some());
        let mut jobs: Vec<FollowUp> = Vec::new();
        if !self.quiet && !is_child && self.chance.below(2) == 0 {
            for _ in 0..1 + self.chance.below(FOLLOW_UPS_MAX) {
                let after = jobs.last().map(|last| last.id).filter(|_| self.chance.below(3) == 0);
                let batch = self.ledger.job(key.job).and_then(|job| job.links.batch);
                let batch = batch.filter(|_| self.chance.below(2) == 0);
                jobs.push(self.draw_follow_up(after, batch));
            }
        }
        self.ledger.follow_ups.said(key, &jobs);
        jobs
    }

    fn draw_follow_up(&mut self, after: Option<JobId>, batch: Option<BatchId>) -> FollowUp {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.chance.number().to_be_bytes());
        bytes[8..].copy_from_slice(&self.chance.number().to_be_bytes());
        let id = JobId::from_bytes(bytes);
        let queues: Vec<&QueueName> = self.policies.keys().collect();
        let queue = queues[self.chance.below(queues.len() as u64) as usize].clone();
        let module = MODULES[self.chance.below(MODULES.len() as u64) as usize];
        let (args, attempts) = (args_of(id), 1 + self.chance.below(4));
        let waits = after.map_or(String::new(), |after| format!(r#", "after": ["{after}"]"#));
        let of = batch.map_or(String::new(), |batch| format!(r#", "batch": "{batch}""#));
        if let Some(after) = after {
            self.ledger.after.waits(id, vec![after], AfterFailed::default());
        }
        let request = format!(
            r#"{{"module": "{module}", "args": {args}, "queue": "{queue}", "max_attempts": {attempts}{waits}{of}}}"#
        );
        FollowUp { id, request, input: None }
    }

    /// Writes what attempts enqueue that have lost their jobs, or have said so before, under ids that the server makes: the
    /// fault of a run.
    pub(super) fn enqueues_without_right(&mut self, machine: &MachineName, request: &Request) {
        let (name, now) = (machine.clone(), self.told());
        let leased = self.store.look(move |rows| rows.jobs_leased(&name));
        let has_right =
            |finished: &&Finished| leased.iter().any(|leased| leased.is_leased_as(machine, finished.attempt));
        let mut jobs = Vec::new();
        for finished in request.finished.iter().filter(|finished| !has_right(finished)) {
            for _ in &finished.jobs {
                let queue = self.policies.keys().next().expect("there is a queue").clone();
                let links = Links { parent: Some(finished.attempt.job), ..Links::default() };
                let new = NewJob { unique: None, links, ..self.draw_job(queue, now) };
                jobs.push(Job::new(new, now));
            }
        }
        self.store.tamper(move |rows| rows.put_jobs(&jobs));
    }
}
