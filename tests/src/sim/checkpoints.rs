//! What guests save for the attempts after them: what a guest was told is safe is found by the next attempt, and nothing
//! of an attempt that has lost its right is.

use std::collections::BTreeMap;

use bytes::Bytes;
use midge_protocol::exchange::Grant;
use midge_protocol::{AttemptNumber, JobId};

use super::host::{Key, words};
use super::ledger::{Broken, ensure};

/// A save: which attempt's, and the how manieth of all.
type Save = (AttemptNumber, u64);

/// What a checker remembers of what was saved.
#[derive(Default)]
pub(super) struct Checkpoints {
    saves: u64,
    /// The last save of each job that its guest was told is safe.
    safe: BTreeMap<JobId, Save>,
    /// The newest attempt that was given of each job, and what it was given.
    given: BTreeMap<JobId, Given>,
}

/// What an attempt was given.
struct Given {
    attempt: AttemptNumber,
    saved: Option<Save>,
    args: String,
}

impl Checkpoints {
    /// Makes what a guest saves next, and its number.
    pub(super) fn next(&mut self, key: Key) -> (u64, Bytes) {
        self.saves += 1;
        (self.saves, Bytes::from(format!("{} {}", words(key), self.saves)))
    }

    /// A guest is told that what it saved is safe.
    pub(super) fn is_safe(&mut self, Key { job, attempt, .. }: Key, number: u64) {
        let safe = self.safe.entry(job).or_insert((attempt, number));
        *safe = (*safe).max((attempt, number));
    }

    /// A job is deleted: another may come under its id.
    pub(super) fn deleted(&mut self, job: JobId) {
        self.safe.remove(&job);
        self.given.remove(&job);
    }

    /// An attempt is given to a host.
    pub(super) fn given(&mut self, grant: &Grant) -> Result<(), Broken> {
        let Key { job, attempt, .. } = grant.attempt;
        let saved = grant.saved.as_deref().map(|state| read(job, state)).transpose()?;
        if self.given.get(&job).is_some_and(|given| given.args != grant.args) {
            // Another enqueue has replaced them, and what was saved was about those of before.
            self.given.remove(&job);
            self.safe.remove(&job);
        }
        let (safe, before) = (self.safe.get(&job).copied(), self.given.get(&job));
        ensure(saved >= safe, || {
            format!(
                "{job} attempt {attempt} was given {saved:?}, and its guest was told that {safe:?} is safe"
            )
        })?;
        if let Some(last) = before.filter(|last| attempt > last.attempt) {
            let is_since = |(of, _): Save| of >= last.attempt && of < attempt;
            ensure(saved == last.saved || saved.is_some_and(is_since), || {
                let (then, of) = (last.saved, last.attempt);
                format!(
                    "{job} attempt {attempt} was given {saved:?}, attempt {of} {then:?}: one between had no right"
                )
            })?;
        }
        if before.is_none_or(|last| attempt >= last.attempt) {
            self.given.insert(job, Given { attempt, saved, args: grant.args.clone() });
        }
        Ok(())
    }
}

/// Reads what was saved, which is to be that job's.
fn read(job: JobId, state: &[u8]) -> Result<Save, Broken> {
    let text = String::from_utf8_lossy(state);
    let mut parts = text.split(' ');
    let mut part = || parts.next().unwrap_or_default();
    let (of, attempt, _, number) = (part(), part().parse(), part(), part().parse());
    match (attempt, number) {
        (Ok(attempt), Ok(number)) if of == job.to_string() => Ok((AttemptNumber(attempt), number)),
        _ => Err(Broken(format!("{job} was given a state that it never saved: {text}"))),
    }
}
