//! What is summed of Machines and attempts, by day: from these sums people are told what their jobs cost.
//!
//! Invariant: sums are of time and not of money, so that other prices hold for what was before, too.

mod table;

use std::collections::BTreeMap;
use std::collections::btree_map;

use midge_protocol::job::AttemptView;
use midge_protocol::manifest::MachineSize;
use midge_protocol::{Day, ModuleName, QueueName, RegionName, Timestamp};

pub use self::table::CostTable;
use crate::exchange::GONE_AFTER;
use crate::machine::Metered;
use crate::{Job, Machine};

/// How many days sums are kept: a year can be compared with the month before it.
pub const COST_DAYS_KEPT: u32 = 400;

/// What a sum is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CostKey {
    /// The day, in UTC. An attempt is of the day on which it ended; a Machine's time is of each day that it had part in.
    pub day: Day,
    /// The queue that the Machine served.
    pub queue: QueueName,
    /// The module of the attempts; nothing for the Machines' own.
    pub module: Option<ModuleName>,
    /// The size of the Machines.
    pub size: MachineSize,
    /// Their region, where it is known.
    pub region: Option<RegionName>,
}

/// Sums. Each ends at [`CostSums::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CostSums {
    /// Attempts that ended, however.
    pub attempts: u64,
    /// Their shares of the time of their Machines, in microseconds. Of one that was lost nobody knows it: it has none.
    pub share_us: u64,
    /// The time in which Machines ran, in microseconds.
    pub running_us: u64,
    /// The time in which Machines were there and did not run, in microseconds.
    pub resting_us: u64,
    /// Machines that were made.
    pub made: u64,
}

impl CostSums {
    /// The largest that a sum becomes: what a row can hold. As microseconds, 292,000 years.
    pub const MAX: u64 = i64::MAX as u64;

    /// Returns both together.
    #[must_use]
    pub fn plus(self, other: CostSums) -> CostSums {
        let sum = |a: u64, b: u64| a.saturating_add(b).min(CostSums::MAX);
        CostSums {
            attempts: sum(self.attempts, other.attempts),
            share_us: sum(self.share_us, other.share_us),
            running_us: sum(self.running_us, other.running_us),
            resting_us: sum(self.resting_us, other.resting_us),
            made: sum(self.made, other.made),
        }
    }
}

/// What one transaction adds to the sums: one entry for all that belongs together, so that few rows are written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CostBook(BTreeMap<CostKey, CostSums>);

impl CostBook {
    /// Adds to the sums of a key.
    pub fn add(&mut self, key: CostKey, sums: CostSums) {
        let entry = self.0.entry(key).or_default();
        *entry = entry.plus(sums);
    }

    /// Adds an attempt that ended on a Machine, whether it is tried again or not.
    pub fn add_attempt(&mut self, machine: &Machine, job: &Job, attempt: &AttemptView) {
        let key = machine.cost_key(Day::of(attempt.ended_at), Some(job.module.clone()));
        let share_us = attempt.usage.map_or(0, |usage| usage.share_us);
        self.add(key, CostSums { attempts: 1, share_us, ..CostSums::default() });
    }

    /// Adds what a change of a Machine brings to an end: its time of one kind, and that it is made.
    pub fn add_change(&mut self, before: &Machine, after: &Machine, now: Timestamp) {
        if before.id.is_none() && after.id.is_some() {
            let sums = CostSums { made: 1, ..CostSums::default() };
            self.add(after.cost_key(Day::of(now), None), sums);
        }
        if before.meter != after.meter {
            // Where it is may be known better by now.
            let machine = Machine { meter: before.meter, ..after.clone() };
            self.add_time(&machine, now);
        }
    }

    /// Adds the time of a Machine that is not summed yet.
    pub fn add_time(&mut self, machine: &Machine, now: Timestamp) {
        let Some(meter) = machine.meter else { return };
        let now = match meter.metered {
            // Its host has left since, even if nobody was there to see that.
            Metered::Running => {
                now.min(machine.heard_at.unwrap_or(meter.since).max(meter.since).after(GONE_AFTER))
            }
            Metered::Resting => now,
        };
        if now <= meter.since {
            return;
        }
        let last = Day::of(now);
        // A clock that was far behind has not been watched by a Machine all that time.
        let first = Day::of(meter.since).max(last.before(COST_DAYS_KEPT));
        for number in first.number()..=last.number() {
            let day = Day::from_number(number);
            let time = day.ends().min(now).since(day.begins().max(meter.since));
            let time_us = u64::try_from(time.as_micros()).unwrap_or(CostSums::MAX);
            let sums = match meter.metered {
                Metered::Running => CostSums { running_us: time_us, ..CostSums::default() },
                Metered::Resting => CostSums { resting_us: time_us, ..CostSums::default() },
            };
            if sums != CostSums::default() {
                self.add(machine.cost_key(day, None), sums);
            }
        }
    }

    /// Returns whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns what was added, by key.
    pub fn iter(&self) -> btree_map::Iter<'_, CostKey, CostSums> {
        self.0.iter()
    }
}

impl Machine {
    fn cost_key(&self, day: Day, module: Option<ModuleName>) -> CostKey {
        let (queue, size, region) = (self.queue.clone(), self.size.clone(), self.region.clone());
        CostKey { day, queue, module, size, region }
    }
}

#[cfg(test)]
mod tests;
