//! Jobs of which there is one at a time: what makes two of them the same, for how long, and what an enqueue of another does.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::object::{objects, or_default};

/// `unique` of a request: while a job holds this, another enqueue of the same adds none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct Unique {
    /// What two jobs have in common that are the same; [`Unique::by`] where this is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<BTreeSet<UniqueBy>>,
    /// A text of one's own that they have in common too: 1 to
    /// [`UNIQUE_TEXT_BYTES_MAX`](crate::limits::UNIQUE_TEXT_BYTES_MAX) bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The states in which a job holds it, `waiting` among them; [`Unique::states`] where this is missing. A job that leaves
    /// them gives it up for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub states: Option<UniqueStates>,
    /// The milliseconds from the enqueue for which a job holds it at most; without a bound where this is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
    /// What another enqueue does to the job that holds it.
    #[serde(deserialize_with = "or_default")]
    pub on_conflict: OnConflict,
}

objects!(Unique, UniqueBy, UniqueState, OnConflict);

impl Unique {
    /// Returns what two jobs have in common that are the same: where nobody says so, their module and args, or, with a
    /// text, nothing but that.
    pub fn by(&self) -> BTreeSet<UniqueBy> {
        match (&self.by, &self.text) {
            (Some(by), _) => by.clone(),
            (None, None) => [UniqueBy::Module, UniqueBy::Args].into(),
            (None, Some(_)) => BTreeSet::new(),
        }
    }

    /// Checks that it says something, and nothing that contradicts itself.
    ///
    /// # Errors
    /// A text for people, with the field and its value.
    pub fn check(&self) -> Result<(), String> {
        if self.by().is_empty() && self.text.is_none() {
            return Err(
                "`unique.by` names nothing: name some of `module`, `args`, `queue` and `key`, or give a \
                    `unique.text`"
                    .to_owned(),
            );
        }
        if let Some(text) = &self.text {
            let max = limits::UNIQUE_TEXT_BYTES_MAX;
            if !(1..=max).contains(&text.len()) {
                return Err(format!("`unique.text` is {} bytes: use 1 to {max}", text.len()));
            }
        }
        if self.for_ms == Some(0) {
            return Err("`unique.for_ms` is 0: use 1 or more, or leave it out".to_owned());
        }
        let states = self.states();
        if !states.0.contains(&UniqueState::Waiting) {
            let named = if states.0.is_empty() { "no state" } else { "states without `waiting`" };
            return Err(format!(
                "`unique.states` names {named}, and a job waits first: name `waiting`, and what of `running`, `completed`, \
             `cancelled` and `discarded` follows"
            ));
        }
        Ok(())
    }

    /// Returns the states in which a job holds it: where nobody says so, those of [`OnConflict::states`].
    pub fn states(&self) -> UniqueStates {
        self.states.clone().unwrap_or_else(|| self.on_conflict.states())
    }
}

/// A part of a job that makes it the same as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case")]
pub enum UniqueBy {
    /// The module it runs.
    Module,
    /// Its args, as JSON: neither spaces nor the order of an object's fields make them others.
    Args,
    /// The queue it waits in.
    Queue,
    /// Its key, or that it has none.
    Key,
}

/// States in which a job can hold that it is unique, each of them one or more of the public ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case")]
pub enum UniqueState {
    /// Scheduled, available or retryable.
    Waiting,
    /// Running.
    Running,
    /// Completed, until it is deleted.
    Completed,
    /// Cancelled, until it is deleted.
    Cancelled,
    /// Discarded, until it is deleted.
    Discarded,
}

impl UniqueState {
    /// All of them.
    pub const ALL: [UniqueState; 5] = [
        UniqueState::Waiting,
        UniqueState::Running,
        UniqueState::Completed,
        UniqueState::Cancelled,
        UniqueState::Discarded,
    ];

    /// Returns the word used in API and command.
    pub const fn as_str(self) -> &'static str {
        match self {
            UniqueState::Waiting => "waiting",
            UniqueState::Running => "running",
            UniqueState::Completed => "completed",
            UniqueState::Cancelled => "cancelled",
            UniqueState::Discarded => "discarded",
        }
    }
}

/// The states in which a job holds that it is unique.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UniqueStates(pub BTreeSet<UniqueState>);

impl std::fmt::Display for UniqueStates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words: Vec<&str> = self.0.iter().map(|state| state.as_str()).collect();
        f.write_str(&words.join(" or "))
    }
}

/// What an enqueue does where another job holds what the new one is to be the only one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case")]
pub enum OnConflict {
    /// Nothing: the job that is there stays as it is.
    #[default]
    Keep,
    /// That job gets the new one's args and input, where it waits.
    Replace,
    /// That job becomes due when the new one would, if that is later, and expires and ends being tried again as the new one
    /// would; where it waits.
    PushBack,
    /// Both.
    ReplaceAndPushBack,
}

impl OnConflict {
    /// Returns the states in which a job holds that it is unique where nobody says so. What is to change the job that is there
    /// can do so only while that waits: a change that comes when it runs is for the next one.
    pub fn states(self) -> UniqueStates {
        UniqueStates(match self {
            OnConflict::Keep => [UniqueState::Waiting, UniqueState::Running].into(),
            OnConflict::Replace | OnConflict::PushBack | OnConflict::ReplaceAndPushBack => {
                [UniqueState::Waiting].into()
            }
        })
    }
}

/// What became of the job that was there: of one that did not wait any more nothing but `kept`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conflict {
    /// It stayed as it was.
    Kept,
    /// It has the args and input of the enqueue.
    Replaced,
    /// It is due as the enqueue asked, or later as it was.
    PushedBack,
    /// Both.
    ReplacedAndPushedBack,
}

impl std::fmt::Display for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Conflict::Kept => "kept as it is",
            Conflict::Replaced => "given the new args",
            Conflict::PushedBack => "pushed back",
            Conflict::ReplacedAndPushedBack => "given the new args and pushed back",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_over_nothing_is_refused() {
        let states = |states: &[UniqueState]| Unique {
            states: Some(UniqueStates(states.iter().copied().collect())),
            ..Unique::default()
        };
        let by = |by: &[UniqueBy], text: Option<&str>| Unique {
            by: Some(by.iter().copied().collect()),
            text: text.map(str::to_owned),
            ..Unique::default()
        };
        for (unique, says) in [
            (by(&[], None), "`unique.by` names nothing"),
            (by(&[], Some("")), "`unique.text` is 0 bytes: use 1 to 1024"),
            (by(&[], Some(&"x".repeat(1025))), "`unique.text` is 1025 bytes"),
            (Unique { for_ms: Some(0), ..Unique::default() }, "`unique.for_ms` is 0"),
            (states(&[]), "`unique.states` names no state"),
            (states(&[UniqueState::Running]), "`unique.states` names states without `waiting`"),
        ] {
            assert!(unique.check().unwrap_err().starts_with(says), "{unique:?}");
        }
        assert_eq!(Unique { on_conflict: OnConflict::PushBack, ..Unique::default() }.check(), Ok(()));
    }

    #[test]
    fn what_is_to_change_the_job_that_is_there_leaves_alone_the_one_that_runs() {
        let states = |json| serde_json::from_str::<Unique>(json).unwrap().states().to_string();
        for (json, is) in [
            ("{}", "waiting or running"),
            (r#"{"on_conflict": "keep"}"#, "waiting or running"),
            (r#"{"on_conflict": "replace"}"#, "waiting"),
            (r#"{"on_conflict": "push_back"}"#, "waiting"),
            (r#"{"on_conflict": "replace_and_push_back"}"#, "waiting"),
            (r#"{"on_conflict": "push_back", "states": ["waiting", "running"]}"#, "waiting or running"),
            (r#"{"states": ["waiting"]}"#, "waiting"),
        ] {
            assert_eq!(states(json), is, "{json}");
        }
    }
}
