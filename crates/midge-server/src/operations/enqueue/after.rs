//! Which jobs a new one is to run after.
//!
//! Invariant: each of them is there before, or comes earlier in the same call. So no job waits for itself, however long
//! the way.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use midge_core::{Batch, Dependency, DependencyEnd, Job, JobEvent, Links};
use midge_protocol::api::{Conflict, OnConflict};
use midge_protocol::{BatchId, JobId, Timestamp, limits};
use midge_store::{Content, Rows, StoreError};

use super::unique;
use crate::error::ServiceError;

/// The jobs that new ones of a call are to run after.
#[derive(Default)]
pub(super) struct Dependencies {
    /// Those that any names.
    named: BTreeSet<JobId>,
    /// Those that were there before or have come since. Where a new one was not added, since another like it is there, it is
    /// that one.
    known: BTreeMap<JobId, Job>,
    /// Those of them that are written already.
    written: BTreeSet<JobId>,
    /// What each new job waits for.
    waits: Vec<(JobId, Vec<JobId>)>,
    /// What each new job was asked to run after.
    asked: Vec<(JobId, Vec<JobId>)>,
}

impl Dependencies {
    /// Reads the jobs that new ones name. Where none names any, nothing is read.
    pub(super) fn read<'a>(
        rows: &mut dyn Rows,
        new: impl Iterator<Item = &'a [JobId]>,
    ) -> Result<Dependencies, ServiceError> {
        let (mut named, mut jobs) = (BTreeSet::new(), 0);
        for after in new {
            jobs += after.len();
            named.extend(after.iter().copied());
        }
        let max = limits::BULK_AFTER_MAX;
        if jobs > max {
            return Err(ServiceError::Invalid(format!(
                "the jobs of this enqueue name {jobs} jobs in `after`, and at most {max} may be named at once: send \
                 several, or put those that are waited for into a batch"
            )));
        }
        if named.is_empty() {
            return Ok(Dependencies::default());
        }
        let found = rows.jobs(&named.iter().copied().collect::<Vec<JobId>>())?;
        let known: BTreeMap<JobId, Job> = found.into_iter().flatten().map(|job| (job.id, job)).collect();
        let written = known.keys().copied().collect();
        Ok(Dependencies { named, known, written, ..Dependencies::default() })
    }

    /// Makes a new job wait for what it is to run after: it is pending where any of those has not ended, and has ended where
    /// one ended so that it is not to run.
    pub(super) fn tie(&mut self, mut job: Job, after: &[JobId], now: Timestamp) -> Result<Job, ServiceError> {
        let (mut waits, mut asked, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
        let (mut behind, mut unmet) = (0, None);
        for id in after {
            let on = self.known.get(id).ok_or(ServiceError::NoSuchDependency(*id))?;
            if !seen.insert(on.id) {
                continue;
            }
            asked.push(on.id);
            behind = Links::behind([on]).max(behind);
            match DependencyEnd::of(on.phase()).map(|end| (end, job.links.dependency(end))) {
                None | Some((_, Dependency::Open)) => waits.push(on.id),
                Some((_, Dependency::Met)) => {}
                Some((end, Dependency::Failed)) => unmet = unmet.or(Some(end.why(on.id))),
            }
        }
        if !asked.is_empty() {
            self.asked.push((job.id, asked));
        }
        if let Some(why) = unmet {
            let change = job.pending().apply(JobEvent::Unmet { why }, now);
            return Ok(change.expect("a pending job hears that it is not to run").job);
        }
        if waits.is_empty() {
            return Ok(job);
        }
        job.links.behind = behind;
        self.waits.push((job.id, waits));
        Ok(job.pending())
    }

    /// Takes note of a job as it is now: those that come after it in the call may be to run after it.
    pub(super) fn is_as(&mut self, job: &Job) {
        if self.named.contains(&job.id) || self.known.contains_key(&job.id) {
            self.known.insert(job.id, job.clone());
        }
    }

    /// Takes note of a new job that is written before the others.
    pub(super) fn is_written(&mut self, job: &Job) {
        self.is_as(job);
        self.written.insert(job.id);
    }

    /// Takes note that a new job is not added, since another like it is there: it waits for nothing, and those that name it
    /// are to run after that one.
    pub(super) fn stands_for(&mut self, new: JobId, there: &Job) {
        self.waits.pop_if(|(job, _)| *job == new);
        self.asked.pop_if(|(job, _)| *job == new);
        self.is_as(there);
        if self.named.contains(&new) {
            self.known.insert(new, there.clone());
            self.known.insert(there.id, there.clone());
            self.written.insert(there.id);
        }
    }

    /// Marks those of the new jobs that others wait for, which are told how they end.
    pub(super) fn mark(&self, jobs: &mut [Job]) {
        let waited_for = self.waited_for();
        for job in jobs.iter_mut().filter(|job| waited_for.contains(&job.id)) {
            job.links.has_dependents = true;
        }
    }

    fn waited_for(&self) -> BTreeSet<JobId> {
        self.waits.iter().flat_map(|(_, on)| on).copied().collect()
    }

    /// Writes what new jobs wait for. They are written already.
    pub(super) fn write(self, rows: &mut dyn Rows) -> Result<(), StoreError> {
        let waited_for = self.waited_for();
        let Dependencies { known, written, waits, asked, .. } = self;
        let marked = |id: &JobId| known.get(id).filter(|job| !job.links.has_dependents).cloned();
        let marked = waited_for.intersection(&written).filter_map(marked).map(Job::with_dependents);
        rows.put_jobs(&marked.collect::<Vec<Job>>())?;
        for (job, on) in waits {
            rows.put_dependencies(job, &on)?;
        }
        for (job, after) in asked {
            let bytes: Vec<u8> = after.iter().flat_map(JobId::as_bytes).copied().collect();
            rows.put_content(job, Content::After, &bytes)?;
        }
        Ok(())
    }
}

/// The batches that new jobs of a call are of. Each is read once.
#[derive(Default)]
pub(super) struct Batches {
    batches: BTreeMap<BatchId, Batch>,
    /// The job whose attempt enqueues the new ones.
    parent: Option<Job>,
}

impl Batches {
    /// Checks that the batch of a new job takes it, if it has one.
    pub(super) fn take(&mut self, rows: &mut dyn Rows, job: Job) -> Result<Job, ServiceError> {
        let Some(id) = job.links.batch else { return Ok(job) };
        if self.parent.as_ref().map(|parent| parent.id) != job.links.parent {
            self.parent = match job.links.parent {
                Some(parent) => rows.jobs(&[parent])?.pop().flatten(),
                None => None,
            };
        }
        let batch = match self.batches.entry(id) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(new) => new.insert(rows.batch(id)?.ok_or(ServiceError::NoSuchBatch(id))?),
        };
        batch.takes(&job, self.parent.as_ref())?;
        Ok(job)
    }
}

/// Writes a new job with those that it is to run after. Where it is to be the only one of its key and another is there,
/// returns which, and what became of it. It is the part of an enqueue that ties jobs to one another.
///
/// # Errors
/// [`ServiceError::NoSuchDependency`] where one of those is not there, and those of a batch that does not take a job.
pub fn put_new(
    rows: &mut dyn Rows,
    job: Job,
    after: &[JobId],
    on_conflict: OnConflict,
    now: Timestamp,
) -> Result<Option<(JobId, Conflict)>, ServiceError> {
    let mut dependencies = Dependencies::read(rows, std::iter::once(after))?;
    let job = Batches::default().take(rows, dependencies.tie(job, after, now)?)?;
    let met = match job.unique {
        Some(_) => unique::meet(rows, &job, on_conflict, &mut dependencies, now)?,
        None => rows.put_jobs(std::slice::from_ref(&job)).map(|()| None)?,
    };
    dependencies.write(rows)?;
    Ok(met)
}

/// Returns the jobs that one was asked to run after, as they are kept.
pub(in crate::operations) fn asked_for(rows: &mut dyn Rows, job: JobId) -> Result<Vec<JobId>, StoreError> {
    let bytes = rows.content(job, Content::After)?.unwrap_or_default();
    Ok(bytes.as_chunks::<16>().0.iter().map(|id| JobId::from_bytes(*id)).collect())
}
