//! What Machines and jobs cost.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::manifest::{AtBudget, Budget};
use crate::{Day, Dollars, Timestamp};

/// The most groups of an answer: of more, the dearest are told.
pub const COST_GROUPS_MAX: usize = 1_000;

/// The query of `GET /v1/costs`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CostsFilter {
    /// The first day, in UTC; 29 days before the last where this is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Day>,
    /// The last day; today where this is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Day>,
    /// What the costs are told by; by queue where this is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<CostsBy>,
}

/// What costs are told by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CostsBy {
    /// By the queue that the Machines served.
    #[default]
    Queue,
    /// By the module of the attempts. What is no attempt's is a group without a name.
    Module,
    /// By the day, in UTC.
    Day,
}

impl CostsBy {
    /// All of them.
    pub const ALL: [CostsBy; 3] = [CostsBy::Queue, CostsBy::Module, CostsBy::Day];

    /// Returns the word used in API and command.
    pub const fn as_str(self) -> &'static str {
        match self {
            CostsBy::Queue => "queue",
            CostsBy::Module => "module",
            CostsBy::Day => "day",
        }
    }
}

impl fmt::Display for CostsBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for CostsBy {
    type Err = String;

    fn from_str(text: &str) -> Result<CostsBy, String> {
        CostsBy::ALL.into_iter().find(|by| by.as_str() == text).ok_or_else(|| {
            format!(
                "`{}` is nothing that costs are told by: use queue, module or day",
                crate::shown::cut(text)
            )
        })
    }
}

/// What Machines and jobs have cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Costs {
    /// The first day.
    pub since: Day,
    /// The last day.
    pub until: Day,
    /// What the groups are by.
    pub by: CostsBy,
    /// The groups: by day in their order, else the dearest first; at most [`COST_GROUPS_MAX`].
    pub groups: Vec<CostGroup>,
    /// How many groups are left out, since there are more.
    pub left_out: u64,
    /// All groups together.
    pub total: Cost,
}

/// What one queue, module or day has cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CostGroup {
    /// The queue, the module or the day; nothing for the time of Machines that is no attempt's, where it is told by module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it has cost.
    #[serde(flatten)]
    pub cost: Cost,
}

/// Time and money. Times are in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Attempts that ended, those among them that were lost or are tried again.
    pub attempts: u64,
    /// Machines that were made.
    pub machines: u64,
    /// The time of Machines that attempts had, each its share.
    pub busy_us: u64,
    /// The time in which Machines ran and that no attempt had: they booted, waited for jobs, left, or lost what they ran.
    pub idle_us: u64,
    /// The time in which Machines were there, stopped or suspended.
    pub stopped_us: u64,
    /// What `busy_us` costs.
    pub busy: Dollars,
    /// What `idle_us` costs.
    pub idle: Dollars,
    /// What `stopped_us` costs.
    pub stopped: Dollars,
    /// All three together.
    pub dollars: Dollars,
    /// What one Machine for each queue would have cost that is always on, over the same time: of the size and in the region of
    /// that queue's Machines that ran longest. Nothing for a module, which has no Machines of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub always_on: Option<Dollars>,
}

/// How a queue stands to its budget of a month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetView {
    /// The budget.
    #[serde(flatten)]
    pub budget: Budget,
    /// What its Machines have cost in this month.
    pub spent: Dollars,
    /// Whether four fifths of it are spent, or it would be exceeded with what runs now.
    pub warns: bool,
    /// Until when the queue has fewer Machines, or starts nothing, for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl fmt::Display for BudgetView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Budget { dollars_per_month, at } = self.budget;
        write!(f, "{} of its {} for this month are spent", self.spent.short(), dollars_per_month.short())?;
        match (at, self.until) {
            (AtBudget::Slow, Some(until)) => write!(f, ": it has half as many Machines until {until}"),
            (AtBudget::Pause, Some(until)) => write!(f, ": it starts nothing until {until}"),
            _ => Ok(()),
        }
    }
}
