//! Tells those that wait for the end of jobs, in bounded steps: jobs that are to run after them, and their batches.
//!
//! Invariant: what an end means for a job that waits is said by [`midge_core::Links::dependency`], and what it means for a
//! batch by [`Batch::act`]. The transaction that ends a job tells a few at once; the dispatcher's rounds tell the others.

use midge_core::{Batch, CancelJobs, Dependency, Job, JobEvent};
use midge_protocol::{JobId, MachineName, QueueName, Timestamp};
use midge_store::{Rows, StoreError, UntoldEnd};

/// Jobs that are told by the transaction that ends a job: a chain goes on at once.
pub(crate) const AT_ONCE: usize = 100;
/// Jobs that are told in one round: one transaction, which others wait for.
pub(crate) const IN_A_ROUND: usize = 1_000;

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct PassedOn {
    /// Jobs that ended: what they waited for did not happen, or their batch is cancelled.
    pub(crate) ended: Vec<Job>,
    /// Jobs that have not ended, and whose state is another.
    pub(crate) news: Vec<JobId>,
    /// The queues of jobs that wait for nothing more.
    pub(crate) queues: Vec<QueueName>,
    /// The Machines that run jobs which are to be cancelled.
    pub(crate) tell: Vec<MachineName>,
    /// Whether somebody is still to be told.
    pub(crate) more: bool,
}

/// Tells at most `limit` jobs of what they wait for, or cancels them with their batch.
pub(crate) fn pass_on(rows: &mut dyn Rows, limit: usize, now: Timestamp) -> Result<PassedOn, StoreError> {
    let mut passed_on = PassedOn::default();
    let mut room = limit;
    loop {
        let told = if let Some(end) = rows.next_untold_end()? {
            if room == 0 {
                break;
            }
            passed_on.tell_dependents(rows, &end, room, now)?
        } else if let Some(batch) = rows.batch_to_act()? {
            if room == 0 {
                break;
            }
            passed_on.act_on(rows, &batch, room, now)?
        } else {
            passed_on.finish();
            return Ok(passed_on);
        };
        // Whoever waits for those that ended by this is told by another turn of the loop.
        room = room.saturating_sub(told.max(1));
    }
    passed_on.more = true;
    passed_on.finish();
    Ok(passed_on)
}

impl PassedOn {
    /// Tells jobs how one ended that they are to run after. Returns how many.
    fn tell_dependents(
        &mut self,
        rows: &mut dyn Rows,
        end: &UntoldEnd,
        room: usize,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let told = rows.dependents(end, room)?;
        let mut changed: Vec<Job> = Vec::new();
        for dependent in &told {
            let event = match dependent.job.links.dependency(end.end) {
                Dependency::Open => continue,
                Dependency::Met if dependent.waits_for_others => None,
                Dependency::Met => Some(JobEvent::Met),
                Dependency::Failed => Some(JobEvent::Unmet { why: end.end.why(end.job) }),
            };
            rows.delete_dependency(end, dependent)?;
            let change = event.and_then(|event| dependent.job.apply(event, now).ok());
            changed.extend(change.map(|change| change.job));
        }
        match told.last() {
            Some(last) if told.len() == room => rows.put_told(end, last.row)?,
            _ => rows.delete_untold_end(end)?,
        }
        self.write(rows, changed)?;
        Ok(told.len())
    }

    /// Cancels jobs of a batch that is cancelled, or else runs its callbacks. Returns how many jobs were looked at.
    fn act_on(
        &mut self,
        rows: &mut dyn Rows,
        batch: &Batch,
        room: usize,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        if let Some(CancelJobs::After(last)) = batch.cancel {
            let jobs = rows.jobs_of_batch(batch.id, last, room)?;
            let next = match jobs.last() {
                Some(job) if jobs.len() == room => CancelJobs::After(Some(job.id)),
                _ => CancelJobs::Done,
            };
            let cancelled = jobs.iter().filter_map(|job| job.apply(JobEvent::CancelAsked, now).ok());
            self.write(rows, cancelled.map(|change| change.job).collect())?;
            rows.put_batch(&Batch { cancel: Some(next), ..batch.clone() })?;
            return Ok(jobs.len());
        }
        let (after, events) = batch.act(now);
        let told = events.len();
        let mut changed = Vec::new();
        for (id, event) in events {
            // One that somebody started, cancelled or deleted by hand does not hear of it; nor does one that cannot be read.
            let job = match rows.jobs(&[id]) {
                Ok(jobs) => jobs.into_iter().flatten().next(),
                Err(StoreError::Unreadable(_)) => None,
                Err(error) => return Err(error),
            };
            let change = job.and_then(|job| job.apply(event, now).ok());
            changed.extend(change.map(|change| change.job));
        }
        self.write(rows, changed)?;
        rows.put_batch(&after)?;
        Ok(told)
    }

    /// Writes jobs that changed, and remembers who has to hear of it.
    fn write(&mut self, rows: &mut dyn Rows, changed: Vec<Job>) -> Result<(), StoreError> {
        rows.put_jobs(&changed)?;
        for job in changed {
            if job.ended_at().is_none() {
                self.news.push(job.id);
            }
            match (job.ended_at(), job.lease()) {
                (Some(_), _) => self.ended.push(job),
                (None, Some(lease)) => self.tell.push(lease.machine.clone()),
                (None, None) => self.queues.push(job.queue),
            }
        }
        Ok(())
    }

    fn finish(&mut self) {
        self.queues.sort_unstable();
        self.queues.dedup();
        self.tell.sort_unstable();
        self.tell.dedup();
    }
}
