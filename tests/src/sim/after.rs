//! Jobs that are to run after others, in the simulated world, and what must always be true of them: none starts before
//! what it waits for has happened, and none waits for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use midge_core::{DependencyEnd, Job, Links, NewJob, Phase};
use midge_protocol::api::Conflict;
use midge_protocol::job::{AfterFailed, Cause};
use midge_protocol::{JobId, Timestamp};
use midge_server::ServiceError;
use midge_store::{Content, Rows};

use super::ledger::{Broken, ensure};
use super::people::args_of;
use super::room::{self, Policies};
use super::unique;
use super::world::{Event, World};

/// The most jobs that one is to run after.
const AFTER_MAX: u64 = 4;

/// A job that somebody asks for.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) job: NewJob,
    pub(super) after: Vec<JobId>,
}

/// What came of an enqueue.
pub(super) struct Put {
    /// What became of another job that is the only one of its key, where there is one.
    pub(super) met: Option<(JobId, Conflict)>,
    /// Whether the job's batch took it.
    pub(super) taken: bool,
}

/// Writes a new job as an enqueue does. One whose dependencies or batch are not there is refused, and so is one that finds
/// no room; one that its batch does not take is of none.
pub(super) fn put(
    rows: &mut dyn Rows,
    asked: Asked,
    policies: &Policies,
    now: Timestamp,
) -> Result<Put, ServiceError> {
    let has_room = room::check(rows, policies, &asked.job.queue, 1);
    let (id, on_conflict) = (asked.job.id, unique::on_conflict(&asked.job));
    let put = |rows: &mut dyn Rows, job: NewJob| {
        midge_server::put_new(rows, Job::new(job, now), &asked.after, on_conflict, now)
    };
    let (met, taken) = match put(rows, asked.job.clone()) {
        Err(ServiceError::BatchRefused(_)) => {
            let links = Links { batch: None, ..asked.job.links.clone() };
            (put(rows, NewJob { links, ..asked.job }), false)
        }
        met => (met, true),
    };
    let met = met?;
    let of = match met {
        None => {
            has_room?;
            Some(id)
        }
        Some((there, Conflict::Replaced | Conflict::ReplacedAndPushedBack)) => Some(there),
        Some((_, Conflict::Kept | Conflict::PushedBack)) => None,
    };
    if let Some(of) = of {
        rows.put_content(of, Content::Args, args_of(id).as_bytes())?;
    }
    Ok(Put { met, taken })
}

/// What is remembered of jobs that are to run after others.
#[derive(Default)]
pub(super) struct After {
    /// What each job is to run after, and what becomes of it where one of those fails.
    asked: BTreeMap<JobId, (Vec<JobId>, AfterFailed)>,
    /// Those that were not added, each with the one that was there.
    others: BTreeMap<JobId, JobId>,
    /// How each job has ended so far. One may be retried, and end otherwise.
    ends: BTreeMap<JobId, BTreeSet<DependencyEnd>>,
    /// Those that were seen to wait for others.
    waited: BTreeSet<JobId>,
    /// Those that were cancelled for what did not happen.
    unmet: BTreeSet<JobId>,
}

impl After {
    /// A job was not added, since another like it is there: who is to run after it asks to run after that one.
    pub(super) fn stands_for(&mut self, new: JobId, there: JobId) {
        self.others.insert(new, there);
    }

    /// Somebody asks for a job that is not there.
    pub(super) fn asked(&mut self, new: &mut Asked) {
        let there = |id: &JobId| self.others.get(id).copied().unwrap_or(*id);
        let after: BTreeSet<JobId> = new.after.iter().map(there).collect();
        new.after = after.into_iter().collect();
        if !new.after.is_empty() {
            self.asked.insert(new.job.id, (new.after.clone(), new.job.links.after_failed));
        }
    }

    /// A guest enqueues a job that is to run after others.
    pub(super) fn waits(&mut self, job: JobId, after: Vec<JobId>, then: AfterFailed) {
        self.asked.insert(job, (after, then));
    }

    /// Takes note that a job was deleted, which is its end for those that it had not completed for.
    pub(super) fn deleted(&mut self, job: &Job) {
        if job.phase() != Phase::Completed {
            self.ends.entry(job.id).or_default().insert(DependencyEnd::Deleted);
        }
    }

    /// Takes note of how a job ended.
    pub(super) fn note(&mut self, job: &Job) {
        if let Some(end) = DependencyEnd::of(job.phase()) {
            self.ends.entry(job.id).or_default().insert(end);
        }
    }

    /// Checks a job against what it was before. All ends of the transaction are noted.
    pub(super) fn check(&mut self, before: Option<&Job>, job: &Job, by_hand: bool) -> Result<(), Broken> {
        let Some((after, then)) = self.asked.get(&job.id) else {
            let waits = job.phase() == Phase::Pending && job.links.callback.is_none();
            return ensure(!waits, || format!("{} waits for nothing", job.id));
        };
        if job.phase() == Phase::Pending {
            self.waited.insert(job.id);
            return Ok(());
        }
        if before.is_some_and(|before| before.phase() != Phase::Pending) {
            return Ok(());
        }
        let ended = |id: &JobId, end: fn(&DependencyEnd) -> bool| {
            self.ends.get(id).is_some_and(|ends| ends.iter().any(end))
        };
        let completed = |end: &DependencyEnd| *end == DependencyEnd::Completed;
        if job.failure.as_ref().is_some_and(|failure| failure.cause == Cause::Unmet) {
            ensure(after.iter().any(|id| ended(id, |end| *end != DependencyEnd::Completed)), || {
                format!("{} does not run, and nothing that it waits for has failed: {job:?}", job.id)
            })?;
            self.unmet.insert(job.id);
            // Nobody can retry what was deleted.
            let gone = || after.iter().any(|id| ended(id, |end| *end == DependencyEnd::Deleted));
            let is_not_to = *then == AfterFailed::Cancel || *then == AfterFailed::Wait && gone();
            return ensure(is_not_to, || format!("{} was to run anyway: {job:?}", job.id));
        }
        // It was cancelled by hand, or has expired.
        if job.ended_at().is_some() || by_hand {
            return Ok(());
        }
        let met = |id: &JobId| match then {
            AfterFailed::GoOn => ended(id, |_| true),
            AfterFailed::Cancel | AfterFailed::Wait => ended(id, completed),
        };
        let early = after.iter().find(|id| !met(id));
        ensure(early.is_none(), || format!("{} goes on before {early:?} has ended: {job:?}", job.id))
    }
}

impl World {
    /// Draws what a job is to run after: some of those that were drawn before, near ones more often.
    pub(super) fn draw_after(&mut self, mut job: NewJob, drawn: &[JobId]) -> Asked {
        let mut after = BTreeSet::new();
        if !drawn.is_empty() && self.chance.below(3) == 0 {
            for _ in 0..1 + self.chance.below(AFTER_MAX) {
                let far = if self.chance.below(2) == 0 { 1 } else { drawn.len() as u64 };
                let back = 1 + self.chance.below(far) as usize;
                after.insert(drawn[drawn.len() - back]);
            }
            let all = [AfterFailed::Cancel, AfterFailed::GoOn, AfterFailed::Wait];
            job.links.after_failed = all[self.chance.below(3) as usize];
        }
        Asked { job, after: after.into_iter().collect() }
    }

    /// Somebody starts by hand what waits for jobs that have ended otherwise than it needs.
    pub(super) fn start_what_waits_in_vain(&mut self) {
        let ids: Vec<JobId> = self
            .ledger
            .jobs()
            .filter(|job| job.phase() == Phase::Pending && job.links.callback.is_none())
            .map(|job| job.id)
            .collect();
        for id in ids {
            let on = self.store.look(move |rows| {
                let (_, on) = rows.dependencies(id, usize::MAX)?;
                rows.jobs(&on)
            });
            if on.iter().flatten().all(|job| job.ended_at().is_some()) {
                self.after(Duration::ZERO, Event::Ask { job: id, retry: true });
            }
        }
    }

    /// Counts what came of jobs that were to run after others.
    pub(super) fn count_after(&mut self) {
        for _ in 0..self.ledger.after.waited.len() {
            self.trace.count("jobs that waited for others");
        }
        for _ in 0..self.ledger.after.unmet.len() {
            self.trace.count("jobs whose dependency failed");
        }
    }
}
