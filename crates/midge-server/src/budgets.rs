//! How queues stand to their budgets, from the sums of this month and the Machines that are there.

use midge_core::{CostBook, CostTable, Machine, Standing, month};
use midge_protocol::api::CostsBy;
use midge_protocol::manifest::{Prices, QueuePolicy};
use midge_protocol::{Day, QueueName, Timestamp};
use midge_store::{Rows, StoreError};

/// Returns how the Machines that are known by a name stand to a budget, those of a queue or of a pool; nothing where there is none.
pub(crate) fn standing(
    rows: &mut dyn Rows,
    prices: &Prices,
    queue: &QueueName,
    policy: &QueuePolicy,
    machines: &[(Machine, u32)],
    now: Timestamp,
) -> Result<Option<Standing>, StoreError> {
    let Some(budget) = policy.budget else { return Ok(None) };
    let (first, today) = (month(now).0, Day::of(now));
    let mut table = CostTable::new(CostsBy::Queue, first, today);
    rows.machine_costs(queue, first..=today, &mut |key, sums| table.add(&key, sums))?;
    let ours = || machines.iter().map(|(machine, _)| machine).filter(|machine| machine.queue == *queue);
    let mut unsummed = CostBook::default();
    ours().for_each(|machine| unsummed.add_time(machine, now));
    unsummed.iter().for_each(|(key, sums)| table.add(key, *sums));
    let spent = table.costs(prices, now).total.dollars;
    Ok(Some(Standing::new(budget, spent, policy, ours(), prices)))
}
