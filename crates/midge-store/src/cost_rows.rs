//! Rows of sums of Machine time.

use std::ops::RangeInclusive;

use midge_core::{CostBook, CostKey, CostSums};
use midge_protocol::{Day, QueueName};

use crate::StoreError;

/// Rows of sums. A day has one for each module, and one for the Machines, of each queue that had Machines on it: so no more than
/// the Machines API makes in a day.
pub trait CostRows {
    /// Adds to the sums of each key, as [`CostSums::plus`] does.
    fn add_costs(&mut self, book: &CostBook) -> Result<(), StoreError>;

    /// Gives `each` the sums of some days, in the order of their keys. A row that cannot be read is left out.
    fn costs(
        &mut self,
        days: RangeInclusive<Day>,
        each: &mut dyn FnMut(CostKey, CostSums),
    ) -> Result<(), StoreError>;

    /// Gives `each` the Machines' own sums of a queue on some days, in the order of their keys. Fast enough for every round,
    /// for the days of a month.
    fn machine_costs(
        &mut self,
        queue: &QueueName,
        days: RangeInclusive<Day>,
        each: &mut dyn FnMut(CostKey, CostSums),
    ) -> Result<(), StoreError>;

    /// Deletes at most `limit` sums of days before one, those of the earliest day first. Returns how many.
    fn delete_costs(&mut self, before: Day, limit: usize) -> Result<usize, StoreError>;
}
