//! Jobs of which there is to be one at a time: what people enqueue of them, and that there is no second.

use std::collections::{BTreeMap, BTreeSet};

use midge_core::{Job, NewJob, UniqueHold, UniqueKey};
use midge_protocol::api::{OnConflict, UniqueState, UniqueStates};
use midge_protocol::{JobId, Timestamp};

use super::chance::Chance;
use super::ledger::{Broken, ensure};
use super::people::args_of;

/// Draws what a job is to be the only one of: of few keys, so that they meet, and for many jobs of none.
pub(super) fn draw(chance: &mut Chance, now: Timestamp) -> Option<UniqueHold> {
    if chance.below(3) > 0 {
        return None;
    }
    let mut states = OnConflict::Keep.states();
    match chance.below(4) {
        0 => states = UniqueStates([UniqueState::Waiting].into()),
        1 => states.0.extend([UniqueState::Completed, UniqueState::Cancelled]),
        _ => {}
    }
    let until = (chance.below(2) == 0).then(|| now.after(chance.millis(1, 60_000)));
    Some(UniqueHold { key: UniqueKey([chance.below(3) as u8; 16]), states, until })
}

/// Returns what an enqueue of a job does where another is there.
pub(super) fn on_conflict(new: &NewJob) -> OnConflict {
    match new.content_hash % 4 {
        0 => OnConflict::Keep,
        1 => OnConflict::Replace,
        2 => OnConflict::PushBack,
        _ => OnConflict::ReplaceAndPushBack,
    }
}

/// What is remembered of jobs that are to be the only ones of their keys.
#[derive(Default)]
pub(super) struct Singles {
    /// What each of them asked for, until it was in another state than those.
    holds: BTreeMap<JobId, UniqueHold>,
    seen: BTreeSet<JobId>,
    /// What each was to be the only one of, whether it was added or not: it may have given its args to another.
    keys: BTreeMap<JobId, UniqueKey>,
}

impl Singles {
    /// A job is asked for, whether there will be an answer or not.
    pub(super) fn asked(&mut self, new: &NewJob) {
        self.keys.extend(new.unique.as_ref().map(|hold| (new.id, hold.key)));
    }

    /// Returns whether a job may have been given these args.
    pub(super) fn may_have(&self, id: JobId, args: &str) -> bool {
        let same_key =
            |other: &JobId| self.keys.get(&id).is_some_and(|key| self.keys.get(other) == Some(key));
        args == args_of(id)
            || self.keys.keys().filter(|other| same_key(other)).any(|other| args == args_of(*other))
    }

    /// Takes in what became of a job. Of what it asked for it holds until it is in another state for the first time.
    pub(super) fn saw(&mut self, job: &Job) {
        if self.seen.insert(job.id) {
            self.holds.extend(job.unique.clone().map(|hold| (job.id, hold)));
        }
        let state = job.phase().unique_state();
        if self.holds.get(&job.id).is_some_and(|hold| !hold.states.0.contains(&state)) {
            self.holds.remove(&job.id);
        }
    }

    /// A job was deleted, and keeps nobody out any more.
    pub(super) fn deleted(&mut self, job: JobId) {
        self.holds.remove(&job);
        self.seen.remove(&job);
    }

    /// Checks that there is no second job of any key, beside those whose time was over.
    pub(super) fn check(&mut self, now: Timestamp) -> Result<(), Broken> {
        let mut holders: BTreeMap<UniqueKey, JobId> = BTreeMap::new();
        // For good: another may have taken the key by then, whatever the clock says later.
        self.holds.retain(|_, hold| hold.until.is_none_or(|until| until > now));
        for (id, hold) in &self.holds {
            let other = holders.insert(hold.key, *id);
            ensure(other.is_none(), || {
                format!("{id} and {other:?} are both the only job of {:?}", hold.key)
            })?;
        }
        Ok(())
    }
}
