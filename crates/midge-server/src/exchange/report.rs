//! What a host reports: logs, states that were saved, ends of attempts with what was recorded of them, and what still runs.

use midge_core::{Job, JobEvent, Lack, MachineEvent, Phase, kept_of_log};
use midge_protocol::ModuleName;
use midge_protocol::exchange::{AttemptRef, Finished, Outcome, Request};
use midge_protocol::job::Usage;
use midge_store::{Content, StoreError};

use super::Undone;
use super::follow_ups::FollowUps;
use super::session::Session;

impl Session<'_> {
    /// Writes what the host reports. A report without a lease is an answer to nobody: it is left out.
    /// What attempts enqueue is written with the end of each.
    ///
    /// # Errors
    /// [`Undone::NotEnqueued`] where one cannot enqueue what it wants to.
    pub(super) fn report(&mut self, request: &Request, mut follow_ups: FollowUps) -> Result<(), Undone> {
        for chunk in &request.log {
            if self.is_leased(chunk.attempt) {
                let kept = kept_of_log(chunk.offset, &chunk.bytes);
                self.rows.append_log(chunk.attempt.job, chunk.attempt.attempt, chunk.offset, kept)?;
                self.done.news.push(chunk.attempt.job);
            }
        }
        for saved in &request.saved {
            if self.is_leased(saved.attempt) {
                self.rows.put_content(saved.attempt.job, Content::Saved, &saved.state)?;
            }
        }
        for finished in &request.finished {
            let completed = self.attempt_finished(finished)?;
            // Whoever has no right to the job any more enqueues nothing either, nor does who says the same again.
            if let (Some(parent), Some(jobs)) = (completed, follow_ups.remove(&finished.attempt)) {
                self.enqueue(&parent, finished.attempt, jobs)?;
            }
        }
        for running in &request.running {
            if !self.is_leased(running.attempt) {
                self.done.answer.cancel.push(running.attempt);
                continue;
            }
            if let Some(progress) = &running.progress {
                let lease = self.lease(running.attempt);
                let event = JobEvent::Progressed { lease, progress: progress.clone() };
                self.apply(running.attempt.job, event)?;
            }
            if self.leased.get(&running.attempt.job).is_some_and(Job::is_cancelling) {
                self.done.answer.cancel.push(running.attempt);
            }
        }
        Ok(())
    }

    /// Ends an attempt as its host reports it. Returns the job, where that has completed.
    fn attempt_finished(&mut self, finished: &Finished) -> Result<Option<Job>, StoreError> {
        let ended = self.attempt_ended(finished.attempt, finished.outcome.clone(), Some(finished.usage))?;
        if let (Some(_), Outcome::HandedBack { lacks: Some(what) }) = (&ended, &finished.outcome)
            && let Ok(change) = self.machine.apply(MachineEvent::Lacks { what: what.clone() }, self.now)
        {
            self.machine = change.machine;
        }
        if let (Some(job), Outcome::ModuleLacks { what }) = (&ended, &finished.outcome) {
            self.module_lacks(&job.module, what)?;
        }
        // Whether it completed is the core's to say: a result may be too large to be one.
        if let (Some(job), Outcome::Failed(_), Some(recording)) =
            (&ended, &finished.outcome, &finished.recording)
            // What nobody asked for is not kept; nor is it where `record` was taken out meanwhile.
            && self.context.catalog.policy(&job.queue).record
        {
            let recording = serde_json::to_vec(recording).expect("a recording can always be written");
            self.rows.put_content(finished.attempt.job, Content::Recording, &recording)?;
        }
        let completed = ended.filter(|job| job.phase() == Phase::Completed);
        if let (Some(_), Outcome::Completed { result }) = (&completed, &finished.outcome) {
            self.rows.put_content(finished.attempt.job, Content::Result, result)?;
        }
        Ok(completed)
    }

    /// Holds the jobs of a module whose guests are to be given what the Machine lacks.
    fn module_lacks(&mut self, module: &ModuleName, what: &str) -> Result<(), StoreError> {
        let generation = &self.machine.generation;
        if *generation != self.context.catalog.generation {
            // It gets nothing more, and what it lacks others may have.
            return Ok(());
        }
        let mut row = self.rows.modules()?.remove(module).unwrap_or_default();
        let before = row.lacks(generation);
        let outdated = before.is_some_and(|lack| lack.outdates(self.machine.since, self.now));
        row.lack = Some(Lack::told(before, what.to_owned(), generation, self.now));
        self.rows.put_module(module, &row)?;
        if outdated
            && let Ok(change) = self.machine.apply(MachineEvent::Lacks { what: what.to_owned() }, self.now)
        {
            self.machine = change.machine;
        }
        Ok(())
    }

    /// Ends an attempt that is leased to the Machine, and returns the job as it is then; nothing where it was not.
    fn attempt_ended(
        &mut self,
        attempt: AttemptRef,
        outcome: Outcome,
        usage: Option<Usage>,
    ) -> Result<Option<Job>, StoreError> {
        if !self.is_leased(attempt) {
            return Ok(None);
        }
        let lease = self.lease(attempt);
        let event = JobEvent::Finished { lease, outcome, usage, jitter: self.context.jitter };
        self.apply(attempt.job, event)
    }
}
