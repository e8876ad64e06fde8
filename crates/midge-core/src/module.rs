//! Which modules start no jobs just now: those that are paused, those that are not served, and those for which Machines lack
//! something.
//!
//! The jobs of such a module that are due are taken out of their line ([`crate::JobEvent::Held`]), however many they are,
//! so that nobody has to look past them; and put back once the module starts jobs again.

mod lack;

use midge_protocol::api::Pause;
use midge_protocol::{JobId, Timestamp};
use serde::{Deserialize, Serialize};

pub use self::lack::{Lack, Trial};

/// What is kept of a module. One of which nothing is kept has no row.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ModuleRow {
    /// That it is paused, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// That Machines lack what its guests are given, and what that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lack: Option<Lack>,
}

/// Why a module starts no jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold<'a> {
    /// It is not among those that are served now.
    NotServed,
    /// Somebody paused it.
    Paused(&'a Pause),
    /// Machines lack what its guests are given. One job at most tries whether that is still so.
    Lacks(&'a Lack),
}

impl Hold<'_> {
    /// Returns whether a job starts all the same: the one that tries whether Machines still lack something.
    pub fn lets(&self, job: JobId) -> bool {
        matches!(self, Hold::Lacks(lack) if lack.trial == Some(job))
    }
}

impl ModuleRow {
    /// Returns why a module starts no jobs at a time, where it does not: `row` is what is kept of it, and `served` the
    /// generation that is served, where it is part of that.
    pub fn hold<'a>(row: Option<&'a ModuleRow>, served: Option<&str>, now: Timestamp) -> Option<Hold<'a>> {
        let Some(generation) = served else { return Some(Hold::NotServed) };
        let row = row?;
        let paused = row.paused(now).map(Hold::Paused);
        paused.or_else(|| row.lacks(generation).map(Hold::Lacks))
    }

    /// Returns what Machines of a generation lack, as far as is known.
    pub fn lacks(&self, generation: &str) -> Option<&Lack> {
        self.lack.as_ref().filter(|lack| lack.generation == generation)
    }

    /// Returns whether it is paused at a time.
    pub fn paused(&self, now: Timestamp) -> Option<&Pause> {
        self.pause.as_ref().filter(|pause| pause.is_on(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_starts_jobs_while_it_is_served_and_not_paused() {
        let at = Timestamp::from_millis;
        let pause = |until| Pause { since: at(0), until, reason: "repair".to_owned(), by: "me".to_owned() };
        let row = |until| ModuleRow { pause: Some(pause(until)), lack: None };
        let served = Some("g1");
        assert_eq!(ModuleRow::hold(None, served, at(5)), None);
        assert_eq!(ModuleRow::hold(Some(&ModuleRow::default()), served, at(5)), None);
        assert_eq!(ModuleRow::hold(None, None, at(5)), Some(Hold::NotServed));
        let (ever, till) = (row(None), row(Some(at(6))));
        assert_eq!(ModuleRow::hold(Some(&ever), served, at(5)), Some(Hold::Paused(&pause(None))));
        assert!(ModuleRow::hold(Some(&till), served, at(5)).is_some());
        assert_eq!(ModuleRow::hold(Some(&till), served, at(6)), None, "it has ended");
        assert_eq!(ModuleRow::hold(Some(&ever), None, at(5)), Some(Hold::NotServed));
    }

    #[test]
    fn a_module_for_which_machines_lack_something_starts_no_jobs_while_that_generation_is_served() {
        let at = Timestamp::from_millis;
        let lack = Lack::told(None, "the secret `KEY`".to_owned(), "g1", at(0));
        let row = ModuleRow { pause: None, lack: Some(lack.clone()) };
        assert_eq!(ModuleRow::hold(Some(&row), Some("g1"), at(5)), Some(Hold::Lacks(&lack)));
        assert_eq!(ModuleRow::hold(Some(&row), Some("g2"), at(5)), None, "others may be given it");
        let job = JobId::from_bytes([1; 16]);
        assert!(!Hold::Lacks(&lack).lets(job));
        assert!(Hold::Lacks(&Lack { trial: Some(job), ..lack }).lets(job), "it tries");
    }
}
