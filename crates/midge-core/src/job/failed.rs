//! When a job failed last, and as which others: kept beside its failure.

use midge_protocol::job::{Cause, Failed, Failure};
use midge_protocol::{Fingerprint, Timestamp};

use super::{Change, Job};
use crate::fingerprint::fingerprint;

impl Job {
    /// Takes note of how the last attempt ended: with a failure, or with none.
    pub(crate) fn fails(&mut self, failure: Option<Failure>, now: Timestamp) {
        self.failed = failure.as_ref().map(|failure| Failed {
            at: now,
            fingerprint: is_real(failure).then(|| fingerprint(&self.module, failure)),
        });
        self.failure = failure;
    }

    /// Returns when the last attempt failed; nothing where it did not. An earlier release did not write it down: then it is
    /// the nearest time that is known.
    pub fn failed_at(&self) -> Option<Timestamp> {
        self.failure.as_ref()?;
        let near = || self.ended_at().or(self.started_at).unwrap_or_else(|| self.due());
        Some(self.failed.map_or_else(near, |failed| failed.at))
    }

    /// Returns what the last failure has in common with others; nothing where there is none, or an earlier release wrote it.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.failed?.fingerprint
    }
}

impl Change {
    /// Returns the failure that the change brought, which is counted with those that are alike; nothing where it brought
    /// none, or an end that is neither the guest's failure nor its Machine's.
    pub fn new_failure(&self) -> Option<(&Failure, Fingerprint)> {
        let failure = self.job.failure.as_ref()?;
        // A job that expires had no attempt. Nothing else happens to it, so that it is counted once.
        let is_new = match &self.attempt {
            Some(attempt) => attempt.failure.is_some(),
            None => failure.cause == Cause::Expired && self.job.ended_at().is_some(),
        };
        Some((failure, self.job.fingerprint().filter(|_| is_new)?))
    }
}

/// Returns whether people would look for the reason: not of what was put off, given back, or asked for.
fn is_real(failure: &Failure) -> bool {
    !matches!(failure.cause, Cause::Snoozed | Cause::HandedBack | Cause::Cancelled | Cause::Unmet)
}
