//! Jobs that are deleted: by people, one by one and by sweeps, and by the server when their time is over. What must always
//! be true: nobody else's job disappears, none that runs, and none before its time.

use std::collections::BTreeSet;
use std::time::Duration;

use midge_core::{Batch, Job, JobSearch, Phase, Retention};
use midge_protocol::api::JobFilter;
use midge_protocol::manifest::Keep;
use midge_protocol::{AttemptNumber, JobId, Timestamp};
use midge_server::ServiceError;
use midge_server::dispatcher::Old;
use midge_store::Content;

use super::chance::Chance;
use super::ledger::{Broken, Ledger, ensure};
use super::room::Policies;
use super::server::at_once;
use super::world::{Event, World};

/// Jobs that it deletes in one transaction: few, so that there are several.
const PRUNED_AT_ONCE: usize = 3;
/// The longest that a job is kept where it is not kept for good.
const KEEP_MS_MAX: u64 = 120_000;

/// Draws how long ended jobs are kept: in every other run longer than it lasts.
pub(super) fn draw_retention(chance: &mut Chance) -> Retention {
    match chance.below(2) {
        0 => Retention::default(),
        _ => Retention { ended: chance.millis(1, KEEP_MS_MAX), discarded: chance.millis(1, KEEP_MS_MAX) },
    }
}

/// Draws what a queue says of that for itself: often nothing.
pub(super) fn draw_keep(chance: &mut Chance) -> Keep {
    let mut some = || (chance.below(6) == 0).then(|| 1 + chance.below(KEEP_MS_MAX));
    Keep { completed_ms: some(), cancelled_ms: some(), discarded_ms: some() }
}

/// What is remembered of jobs that are not there.
#[derive(Default)]
pub(super) struct Deletions {
    /// The jobs that somebody is about to delete.
    pub(super) asked: BTreeSet<JobId>,
    /// How long jobs are kept, while the server deletes old ones.
    prunes: Option<Retention>,
    /// Those that were deleted, or that nobody asks for any more.
    gone: BTreeSet<JobId>,
}

impl Deletions {
    /// Returns whether a job that is not there will not come.
    pub(super) fn is_gone(&self, id: JobId) -> bool {
        self.gone.contains(&id)
    }

    /// Takes note that nobody asks for a job any more.
    pub(super) fn is_never(&mut self, id: JobId) {
        self.gone.insert(id);
    }
}

/// Returns whether the time is over for which a job is kept after it ended.
fn is_over(job: &Job, retention: Retention, policies: &Policies, now: Timestamp) -> bool {
    let keep = policies.get(&job.queue).map(|policy| policy.keep).unwrap_or_default();
    let (of_queue, usual) = match job.phase() {
        Phase::Completed => (keep.completed_ms, retention.ended),
        Phase::Cancelled => (keep.cancelled_ms, retention.ended),
        Phase::Discarded => (keep.discarded_ms, retention.discarded),
        _ => return false,
    };
    let kept = of_queue.map_or(usual, Duration::from_millis);
    job.ended_at().is_some_and(|at| at.after(kept) < now)
}

impl Ledger {
    /// Jobs are there no more: each was to be deleted, and may be.
    pub(super) fn check_deleted(
        &mut self,
        there: &BTreeSet<JobId>,
        policies: &Policies,
        now: Timestamp,
    ) -> Result<Vec<JobId>, Broken> {
        let deleted: Vec<Job> = self.jobs().filter(|job| !there.contains(&job.id)).cloned().collect();
        for job in &deleted {
            let Deletions { asked, prunes, .. } = &self.deletions;
            if asked.contains(&job.id) {
                ensure(job.lease().is_none(), || format!("{} was deleted while it ran: {job:?}", job.id))?;
            } else if let Some(retention) = prunes {
                ensure(is_over(job, *retention, policies, now), || {
                    format!("{} was pruned at {now}, before its time: {job:?}", job.id)
                })?;
            } else {
                return Err(Broken(format!("{} is lost, and nobody deleted it: {job:?}", job.id)));
            }
            self.after.deleted(job);
            self.batches.job_deleted(job);
            self.singles.deleted(job.id);
            self.checkpoints.deleted(job.id);
            self.turns.deleted(job);
            self.forget(job.id);
            self.deletions.gone.insert(job.id);
        }
        Ok(deleted.into_iter().map(|job| job.id).collect())
    }
}

impl World {
    /// Somebody deletes a job, as the API does it.
    pub(super) fn delete(&mut self, id: JobId) -> Result<(), Broken> {
        self.ledger.deletions.asked = BTreeSet::from([id]);
        let done = self.ask_for(move |rows| {
            let Some(job) = rows.jobs(&[id])?.pop().flatten() else { return Ok(false) };
            job.may_be_deleted().map_err(|refused| ServiceError::Refused(id, refused))?;
            // The dispatcher tells those that wait for it.
            Ok(rows.delete_job(id)?)
        })?;
        self.ledger.deletions.asked.clear();
        let known = self.ledger.jobs().find(|job| job.id == id);
        match done {
            Some(Ok(was_there)) => {
                ensure(known.is_none(), || format!("{id} is still there, and was deleted: {known:?}"))?;
                if was_there {
                    self.trace.say(self.now, format_args!("{id} is deleted"));
                    self.trace.count("jobs deleted by hand");
                }
            }
            Some(Err(refused)) => {
                ensure(known.is_some_and(|job| job.lease().is_some()), || {
                    format!("{id} does not run, and is not deleted: {refused}: {known:?}")
                })?;
                self.trace.count("jobs that ran and were not deleted");
            }
            None => {}
        }
        Ok(())
    }

    /// Has a sweep delete those jobs that fit its filter, and no others.
    pub(super) fn sweep_may_delete(&mut self, filter: &JobFilter, begun: Timestamp, now: Timestamp) {
        let search = JobSearch { before: None, ..JobSearch::of(filter, now) };
        let fits = self.ledger.jobs().filter(|job| search.matches(job) && job.enqueued_at <= begun);
        self.ledger.deletions.asked = fits.map(|job| job.id).collect();
    }

    /// With a job goes all that belongs to it.
    pub(super) fn check_nothing_is_left(&mut self, deleted: Vec<JobId>) -> Result<(), Broken> {
        for id in deleted {
            if self.ledger.deletions.prunes.is_some() {
                self.trace.count("jobs pruned");
            }
            let left = self.store.look(move |rows| {
                let contents = [Content::Args, Content::Input, Content::Result, Content::After];
                let contents = contents.into_iter().map(|content| rows.content(id, content));
                let mut left = contents.collect::<Result<Vec<_>, _>>()?;
                left.retain(Option::is_some);
                let log = rows.log(id, AttemptNumber(1))?;
                Ok((left, rows.attempts(id)?, log, rows.dependencies(id, usize::MAX)?))
            });
            let (contents, attempts, log, (_, waits)) = &left;
            let is_nothing = contents.is_empty() && attempts.is_empty() && log.is_empty() && waits.is_empty();
            ensure(is_nothing, || format!("{id} is deleted, and there is left: {left:?}"))?;
        }
        Ok(())
    }

    /// The server looks for jobs whose time is over, and deletes them a few at a time. It may crash between any two of these
    /// steps.
    pub(super) fn prune(&mut self, epoch: u64) -> Result<(), Broken> {
        if self.server.is_none() || epoch != self.epoch {
            return Ok(());
        }
        // The server has a timetable for it, on which nothing hangs: it may come at any time.
        let again = self.chance.millis(0, 2 * KEEP_MS_MAX);
        self.after(again, Event::Prune { epoch });
        let (now, retention, catalog) = (self.told(), self.retention, self.catalog());
        let all =
            at_once(midge_store::read(&*self.store, move |rows| Old::all(rows, &catalog, retention, now)));
        self.ledger.deletions.prunes = Some(retention);
        let pruned = all.map_or(Ok(false), |all| self.prune_all(all));
        self.ledger.deletions.prunes = None;
        if pruned? {
            let kept = self.ledger.jobs().find(|job| is_over(job, retention, &self.policies, now));
            ensure(kept.is_none(), || format!("{kept:?} is kept longer than its time at {now}"))?;
        }
        self.may_crash();
        Ok(())
    }

    /// Returns whether all was deleted that was to be.
    fn prune_all(&mut self, all: Vec<Old>) -> Result<bool, Broken> {
        for old in all {
            let mut more = true;
            while more {
                if self.server.is_none() {
                    return Ok(false);
                }
                let old = old.clone();
                let deleted =
                    at_once(midge_store::write(&*self.store, move |rows| old.delete(rows, PRUNED_AT_ONCE)));
                self.check()?;
                let Ok(left) = deleted else { return Ok(false) };
                more = left;
                if more {
                    self.may_crash();
                }
            }
        }
        Ok(true)
    }

    /// A batch is there no more: its time must be over, and that of all its jobs.
    pub(super) fn check_batch_is_over(&self, batch: &Batch) -> Result<(), Broken> {
        let now = self.told();
        let ended = batch.ended_at.is_some_and(|at| at.after(self.retention.ended) < now);
        let job = self.ledger.jobs().find(|job| job.links.batch == Some(batch.id));
        ensure(ended && job.is_none() && self.ledger.deletions.prunes.is_some(), || {
            format!("a batch was pruned at {now}, before its time or that of {job:?}: {batch:?}")
        })
    }
}
