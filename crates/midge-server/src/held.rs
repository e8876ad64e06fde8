//! Holds the jobs of modules that start none, and releases them, in bounded steps; and has one try where Machines lacked
//! something.
//!
//! Invariant: which modules start none is said by [`ModuleRow::hold`]. A claim starts no job of theirs, whether they are
//! held yet or not.

use std::collections::BTreeMap;

use midge_core::{Hold, Job, JobCounts, JobEvent, LINE_HEAD, LaneHead, ModuleRow, Phase, StateFilter, Trial};
use midge_protocol::{JobId, JobKey, ModuleName, QueueName, Timestamp};
use midge_store::{JobSearch, Rows, StoreError};

use crate::catalog::Catalog;

/// Jobs that are held or released in one step of a transaction, which others wait for.
const JOBS_MAX: usize = 1_000;
/// Jobs that are looked at for one that is to try: that which could not the last time, and another.
const TRIAL_LOOK: usize = 2;
/// Lanes that are looked at for jobs to hold.
const LANES_MAX: usize = 16;

/// Which modules start no jobs at a time.
pub(crate) struct Holds<'a> {
    catalog: &'a Catalog,
    rows: BTreeMap<ModuleName, ModuleRow>,
    now: Timestamp,
}

impl<'a> Holds<'a> {
    pub(crate) fn read(
        rows: &mut dyn Rows,
        catalog: &'a Catalog,
        now: Timestamp,
    ) -> Result<Holds<'a>, StoreError> {
        Ok(Holds { catalog, rows: rows.modules()?, now })
    }

    /// Returns whether a module starts no jobs, or just one.
    fn has(&self, module: &ModuleName) -> bool {
        self.why(module).is_some()
    }

    /// Returns whether a job is not to start.
    fn keeps(&self, job: &Job) -> bool {
        self.why(&job.module).is_some_and(|hold| !hold.lets(job.id))
    }

    fn why(&self, module: &ModuleName) -> Option<Hold<'_>> {
        ModuleRow::hold(self.rows.get(module), self.catalog.serves(module), self.now)
    }

    /// Looks what has come of jobs that try whether Machines still lack something, and has others try where it is time.
    /// Returns when to look again.
    pub(crate) fn try_again(&mut self, rows: &mut dyn Rows) -> Result<Option<Timestamp>, StoreError> {
        let mut look_at = None;
        for (module, row) in &mut self.rows {
            let Some(lack) = &mut row.lack else { continue };
            let job = match lack.trial {
                Some(id) => found(rows, id)?,
                None => None,
            };
            let trial = match lack.trial(job.as_ref(), self.now) {
                _ if lack.generation != self.catalog.generation => Trial::Begun,
                trial => trial,
            };
            match trial {
                Trial::Wait(until) => {
                    look_at = look_at.into_iter().chain([until]).min();
                    continue;
                }
                Trial::Begun => row.lack = None,
                Trial::Due => {
                    let trial = next_trial(rows, module, job.as_ref(), self.now)?;
                    if trial == lack.trial {
                        continue;
                    }
                    lack.tries(trial, self.now);
                }
            }
            rows.put_module(module, row)?;
        }
        Ok(look_at)
    }

    /// Returns whether jobs are held of which one is to try at once.
    pub(crate) fn wants_trial(&self, rows: &mut dyn Rows) -> Result<bool, StoreError> {
        let due = |row: &ModuleRow| {
            row.lack.as_ref().is_some_and(|lack| lack.trial.is_none() && lack.next <= self.now)
        };
        if !self.rows.values().any(due) {
            return Ok(false);
        }
        let held = rows.modules_held()?;
        Ok(self.rows.iter().any(|(module, row)| due(row) && held.contains_key(module)))
    }

    /// Returns when the first pause of a module ends by itself.
    pub(crate) fn next_end(&self) -> Option<Timestamp> {
        self.rows.values().filter_map(|row| row.paused(self.now)?.until).min()
    }

    /// Takes jobs that are not to start out of the lines that a claim has looked at. Returns whether there were any.
    pub(crate) fn hold_behind(
        &self,
        rows: &mut dyn Rows,
        queue: &QueueName,
        heads: &[LaneHead],
    ) -> Result<bool, StoreError> {
        let mut any = false;
        for head in heads.iter().filter(|head| head.jobs.iter().any(|job| self.keeps(job))) {
            let key = head.lane.as_ref().map(|lane| &lane.key);
            any |= self.hold_in_line(rows, queue, key, JOBS_MAX)? > 0;
        }
        Ok(any)
    }

    /// Returns whether jobs in line may be of modules that start none, by numbers alone: where they are as many as those of
    /// modules that start jobs, nobody need look at them.
    pub(crate) fn may_be_in_line(
        &self,
        rows: &mut dyn Rows,
        counts: &BTreeMap<QueueName, JobCounts>,
    ) -> Result<bool, StoreError> {
        let phases: Vec<Phase> = Phase::ALL.into_iter().filter(|phase| phase.is_in_line()).collect();
        let jobs = |counts: &JobCounts| phases.iter().map(|phase| counts.phase(*phase)).sum::<u64>();
        let mut others: u64 = counts.values().map(jobs).sum();
        let modules = &self.catalog.manifest.modules;
        if others == 0 || modules.len() > LINE_HEAD {
            // To count those of so many takes longer than to look.
            return Ok(others > 0);
        }
        for module in modules.keys().filter(|module| !self.has(module)) {
            let state = StateFilter { phases: phases.clone(), ..StateFilter::default() };
            let search = JobSearch { state, module: Some(module.clone()), ..JobSearch::default() };
            others = others.saturating_sub(rows.jobs_counted(&search, self.now)?.jobs);
        }
        Ok(others > 0)
    }

    /// Takes the first jobs of a queue's lines that are not to start out of them. Returns whether a line may have more.
    pub(crate) fn hold(&self, rows: &mut dyn Rows, queue: &QueueName) -> Result<bool, StoreError> {
        let lanes = rows.lanes_come(queue, self.now, LANES_MAX)?.lanes;
        let each = JOBS_MAX / (lanes.len() + 1);
        let mut more = false;
        for key in lanes.iter().map(|lane| Some(&lane.key)).chain([None]) {
            let first = rows.jobs_due(queue, key, self.now, LINE_HEAD)?;
            if first.iter().any(|job| self.keeps(job)) {
                more |= self.hold_in_line(rows, queue, key, each)? == each;
            }
        }
        Ok(more)
    }

    /// Takes those that are not to start out of the first jobs of a line. Returns how many.
    fn hold_in_line(
        &self,
        rows: &mut dyn Rows,
        queue: &QueueName,
        key: Option<&JobKey>,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let due = rows.jobs_due(queue, key, self.now, limit)?;
        let held = due.iter().filter(|job| self.keeps(job));
        let held: Vec<Job> = held
            .filter_map(|job| job.apply(JobEvent::Held, self.now).ok())
            .map(|change| change.job)
            .collect();
        rows.put_jobs(&held)?;
        Ok(held.len())
    }

    /// Puts jobs back into their lines whose modules start jobs again, and those that are to try. Returns the queues that have
    /// some now, and whether more are held.
    pub(crate) fn release(&self, rows: &mut dyn Rows) -> Result<(Vec<QueueName>, bool), StoreError> {
        let (mut queues, mut more) = (Vec::new(), false);
        let held = rows.modules_held()?;
        for (module, jobs) in held.iter().filter(|(module, _)| !self.has(module)) {
            let held = rows.jobs_held(module, JOBS_MAX)?;
            let released = held.iter().filter_map(|job| job.apply(JobEvent::Released, self.now).ok());
            let released: Vec<Job> = released.map(|change| change.job).collect();
            rows.put_jobs(&released)?;
            more |= (released.len() as u64) < *jobs;
            queues.extend(released.into_iter().map(|job| job.queue));
        }
        for trial in self.rows.values().filter_map(|row| row.lack.as_ref()?.trial) {
            let held = found(rows, trial)?.filter(|job| !self.keeps(job));
            if let Some(change) = held.and_then(|job| job.apply(JobEvent::Released, self.now).ok()) {
                rows.put_jobs(std::slice::from_ref(&change.job))?;
                queues.push(change.job.queue);
            }
        }
        queues.dedup();
        Ok((queues, more))
    }
}

/// Returns a job that is held and is to try: of the next queue that starts jobs, behind that of the one that was to try
/// before. Where none does, it is any other that is held.
fn next_trial(
    rows: &mut dyn Rows,
    module: &ModuleName,
    before: Option<&Job>,
    now: Timestamp,
) -> Result<Option<JobId>, StoreError> {
    let queues: Vec<QueueName> = rows.job_counts(now)?.into_keys().collect();
    let behind = before.map_or(0, |before| queues.partition_point(|queue| *queue <= before.queue));
    for queue in queues[behind..].iter().chain(&queues[..behind]) {
        if rows.queue(queue)?.paused(now).is_some() {
            continue;
        }
        let state = StateFilter { phases: vec![Phase::Held], ..StateFilter::default() };
        let search = JobSearch {
            state,
            module: Some(module.clone()),
            queue: Some(queue.clone()),
            ..JobSearch::default()
        };
        let found = rows.jobs_found(&search, TRIAL_LOOK)?.jobs.into_iter().flatten().map(|job| job.id);
        let found: Vec<JobId> = found.collect();
        let other = found.iter().find(|id| before.is_none_or(|before| before.id != **id));
        if let Some(id) = other.or(found.first()) {
            return Ok(Some(*id));
        }
    }
    let held = rows.jobs_held(module, TRIAL_LOOK)?;
    let other = held.iter().find(|job| before.is_none_or(|before| before.id != job.id));
    Ok(other.or(held.first()).map(|job| job.id))
}

/// Returns a job, where it is still there and its row can be read.
fn found(rows: &mut dyn Rows, id: JobId) -> Result<Option<Job>, StoreError> {
    match rows.jobs(&[id]) {
        Ok(jobs) => Ok(jobs.into_iter().flatten().next()),
        Err(StoreError::Unreadable(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
