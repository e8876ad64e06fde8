//! Which modules start no jobs just now: those that are paused, and those that are not served.
//!
//! The jobs of such a module that are due are taken out of their line ([`crate::JobEvent::Held`]), however many they are,
//! so that nobody has to look past them; and put back once the module starts jobs again.

use midge_protocol::Timestamp;
use midge_protocol::api::Pause;
use serde::{Deserialize, Serialize};

/// What is kept of a module. One of which nothing is kept has no row.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ModuleRow {
    /// That it is paused, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
}

/// Why a module starts no jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold<'a> {
    /// It is not among those that are served now.
    NotServed,
    /// Somebody paused it.
    Paused(&'a Pause),
}

impl ModuleRow {
    /// Returns why a module starts no jobs at a time, where it does not: `row` is what is kept of it, and `served` whether
    /// it is among those that are served.
    pub fn hold(row: Option<&ModuleRow>, served: bool, now: Timestamp) -> Option<Hold<'_>> {
        if !served {
            return Some(Hold::NotServed);
        }
        row.and_then(|row| row.paused(now)).map(Hold::Paused)
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
        let row = |until| ModuleRow { pause: Some(pause(until)) };
        assert_eq!(ModuleRow::hold(None, true, at(5)), None);
        assert_eq!(ModuleRow::hold(Some(&ModuleRow::default()), true, at(5)), None);
        assert_eq!(ModuleRow::hold(None, false, at(5)), Some(Hold::NotServed));
        let (ever, till) = (row(None), row(Some(at(6))));
        assert_eq!(ModuleRow::hold(Some(&ever), true, at(5)), Some(Hold::Paused(&pause(None))));
        assert!(ModuleRow::hold(Some(&till), true, at(5)).is_some());
        assert_eq!(ModuleRow::hold(Some(&till), true, at(6)), None, "it has ended");
        assert_eq!(ModuleRow::hold(Some(&ever), false, at(5)), Some(Hold::NotServed));
    }
}
