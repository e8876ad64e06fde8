//! What the Machines of a queue may cost in a month.

use serde::{Deserialize, Serialize};

use super::{OutOfBounds, within};
use crate::{Dollars, limits};

/// What the Machines of a queue may cost in a month, and what is done before they cost more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// What they may cost from the first day of a month to the last, in UTC: more than nothing, and at most
    /// [`limits::PRICE_MAX`].
    pub dollars_per_month: Dollars,
    /// What is done before that is exceeded.
    pub at: AtBudget,
}

/// What is done before a budget is exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AtBudget {
    /// People are told, and nothing else.
    #[default]
    Warn,
    /// The queue may have half as many Machines, and at least one, until the month is over.
    Slow,
    /// The queue starts nothing until the month is over.
    Pause,
}

impl AtBudget {
    /// All of them.
    pub const ALL: [AtBudget; 3] = [AtBudget::Warn, AtBudget::Slow, AtBudget::Pause];

    /// Returns the word used in `midge.toml`, API and command.
    pub const fn as_str(self) -> &'static str {
        match self {
            AtBudget::Warn => "warn",
            AtBudget::Slow => "slow",
            AtBudget::Pause => "pause",
        }
    }
}

impl Budget {
    pub(super) fn check(self, what: String) -> Result<(), OutOfBounds> {
        let what = format!("`dollars_per_month` of {what}, in billionths,");
        within(what, self.dollars_per_month.as_nanos(), 1..=limits::PRICE_MAX.as_nanos())
    }
}
