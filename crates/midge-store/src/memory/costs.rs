//! A transaction on the in-memory store: sums of Machine time.

use std::ops::RangeInclusive;

use midge_core::{CostBook, CostKey, CostSums};
use midge_protocol::{Day, QueueName};

use super::rows::MemoryRows;
use crate::{CostRows, StoreError};

impl CostRows for MemoryRows<'_> {
    fn add_costs(&mut self, book: &CostBook) -> Result<(), StoreError> {
        self.to_write()?;
        for (key, sums) in book.iter() {
            let there = self.tables().costs.get(key).copied().unwrap_or_default();
            self.set(|tables| &mut tables.costs, key.clone(), Some(there.plus(*sums)));
        }
        Ok(())
    }

    fn costs(
        &mut self,
        days: RangeInclusive<Day>,
        each: &mut dyn FnMut(CostKey, CostSums),
    ) -> Result<(), StoreError> {
        let costs = self.tables().costs.iter().filter(|(key, _)| days.contains(&key.day));
        costs.for_each(|(key, sums)| each(key.clone(), *sums));
        Ok(())
    }

    fn machine_costs(
        &mut self,
        queue: &QueueName,
        days: RangeInclusive<Day>,
        each: &mut dyn FnMut(CostKey, CostSums),
    ) -> Result<(), StoreError> {
        self.costs(days, &mut |key, sums| {
            if key.queue == *queue && key.module.is_none() {
                each(key, sums);
            }
        })
    }

    fn delete_costs(&mut self, before: Day, limit: usize) -> Result<usize, StoreError> {
        self.to_write()?;
        let old = self.tables().costs.keys().take_while(|key| key.day < before).take(limit);
        let old: Vec<CostKey> = old.cloned().collect();
        for key in &old {
            self.set(|tables| &mut tables.costs, key.clone(), None);
        }
        Ok(old.len())
    }
}
