//! Jobs of which there is one at a time: who holds that, for how long, and what becomes of it where another comes.

use std::fmt;

use midge_protocol::api::{Conflict, OnConflict, UniqueStates};
use midge_protocol::job::UniqueView;
use midge_protocol::{AttemptNumber, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Change, Job, JobEvent, JobRefused, JobState};

/// What jobs have in common that are the same, as a hash of 128 bits. The hash has to be one that nobody can make collide:
/// args are what some user wrote, and who made two of them the same would keep another's job from being enqueued.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UniqueKey(pub [u8; 16]);

impl fmt::Debug for UniqueKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl Serialize for UniqueKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:?}"))
    }
}

impl<'de> Deserialize<'de> for UniqueKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<UniqueKey, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = u128::from_str_radix(&text, 16).map_err(serde::de::Error::custom)?;
        Ok(UniqueKey(number.to_be_bytes()))
    }
}

/// That a job is the only one of its key. At most one job at a time holds it. What was given up is never taken again, so
/// that a retry by hand meets nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UniqueHold {
    /// What it is the only job of.
    pub key: UniqueKey,
    /// The states in which the job holds it. In any other it gives it up.
    pub states: UniqueStates,
    /// The time from which another may take it; nothing where only the states count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl UniqueHold {
    pub(super) fn view(&self) -> UniqueView {
        UniqueView { states: self.states.clone(), until: self.until }
    }
}

/// What becomes of the job that holds a key where another of the same key was to be enqueued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Met {
    /// Its time to hold the key is over: it is written like this, and the new job is added.
    Over(Box<Job>),
    /// The new job is not added. This one is written like this, and gets the args and the input of the new one where it is
    /// said to be replaced.
    Stays(Box<Job>, Conflict),
}

impl Job {
    /// Returns what becomes of this job, which holds the key of another that is to be enqueued now.
    pub fn met_by(&self, new: &Job, on_conflict: OnConflict, now: Timestamp) -> Met {
        let until = self.unique.as_ref().and_then(|hold| hold.until);
        if until.is_some_and(|until| until <= now) {
            return Met::Over(Box::new(Job { unique: None, ..self.clone() }));
        }
        let waits = self.phase().is_waiting();
        let event =
            JobEvent::PushedBack { due: new.due(), expires_at: new.expires_at, retry_until: new.retry_until };
        let pushed_back = || self.apply(event, now).ok().map(|change| change.job);
        let (job, conflict) = match on_conflict {
            OnConflict::Replace => (waits.then(|| self.clone()), Conflict::Replaced),
            OnConflict::PushBack => (pushed_back(), Conflict::PushedBack),
            OnConflict::ReplaceAndPushBack => (pushed_back(), Conflict::ReplacedAndPushedBack),
            OnConflict::Keep => (None, Conflict::Kept),
        };
        match job {
            Some(job) => Met::Stays(Box::new(job), conflict),
            None => Met::Stays(Box::new(self.clone()), Conflict::Kept),
        }
    }

    /// A job gives up its key where it is in a state in which it does not hold it.
    pub(super) fn gives_up_where_it_must(&mut self) {
        let state = self.phase().unique_state();
        if self.unique.as_ref().is_some_and(|hold| !hold.states.0.contains(&state)) {
            self.unique = None;
        }
    }

    pub(super) fn pushed_back(
        &self,
        due: Timestamp,
        expires_at: Option<Timestamp>,
        retry_until: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Change, JobRefused> {
        // Only the first start counts for an expiry.
        let expires_at = if self.attempt == AttemptNumber(0) { expires_at } else { self.expires_at };
        match self.state {
            JobState::Waiting { .. } | JobState::Held { .. } => {
                let job = Job { expires_at, retry_until, ..self.clone() };
                let change = Change { job, attempt: None };
                // One that is held is so for its module: it is held again once it is due.
                Ok(if due > self.due() { change.waiting(due) } else { change })
            }
            // It goes on waiting for the others. A time that begins only then still does.
            JobState::Pending { due: before } => {
                let retry_until =
                    if self.retry.retry_for_ms.is_some() { self.retry_until } else { retry_until };
                let state = JobState::Pending { due: due.max(before) };
                Ok(Change { job: Job { expires_at, retry_until, state, ..self.clone() }, attempt: None })
            }
            JobState::Running { .. } => Err(JobRefused::Running),
            JobState::Ended { .. } => Err(JobRefused::Ended(self.state_at(now))),
        }
    }
}
