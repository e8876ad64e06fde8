//! What can be asked about costs.

use midge_core::{CostBook, CostTable};
use midge_protocol::Day;
use midge_protocol::api::{Costs, CostsFilter};

use crate::error::ServiceError;
use crate::midge::Midge;

/// How many days before the last one are told where nobody says since when.
const DAYS_BEFORE: u32 = 29;

impl Midge {
    /// Returns what Machines and jobs have cost, to this moment, at the prices of now.
    ///
    /// # Errors
    /// [`ServiceError::Invalid`] where the last day is before the first.
    pub async fn costs(&self, filter: CostsFilter) -> Result<Costs, ServiceError> {
        let now = self.inner.clock.now();
        let until = filter.until.unwrap_or(Day::of(now));
        let since = filter.since.unwrap_or(until.before(DAYS_BEFORE));
        if until < since {
            return Err(ServiceError::Invalid(format!("`until` is {until}, before `since`, {since}")));
        }
        let catalog = self.inner.catalog.get();
        let by = filter.by.unwrap_or_default();
        midge_store::read(&*self.inner.store, move |rows| {
            let mut table = CostTable::new(by, since, until);
            rows.costs(since..=until, &mut |key, sums| table.add(&key, sums))?;
            // What those that are there have cost since it was summed last.
            let mut unsummed = CostBook::default();
            rows.machines()?.iter().for_each(|(machine, _)| unsummed.add_time(machine, now));
            unsummed.iter().for_each(|(key, sums)| table.add(key, *sums));
            Ok(table.costs(&catalog.manifest.prices, now))
        })
        .await
    }
}
