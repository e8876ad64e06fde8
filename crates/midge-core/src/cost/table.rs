//! What sums of time come to in dollars: by queue, module or day.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use midge_protocol::api::{COST_GROUPS_MAX, Cost, CostGroup, Costs, CostsBy};
use midge_protocol::manifest::{MachineSize, Prices};
use midge_protocol::{Day, Dollars, QueueName, RegionName, Timestamp};

use super::{CostKey, CostSums};
use crate::{resting_cost, running_cost};

/// Machines that cost the same.
type Kind = (MachineSize, Option<RegionName>);

/// Sums that are put together to be told.
#[derive(Debug)]
pub struct CostTable {
    by: CostsBy,
    since: Day,
    until: Day,
    /// The first day that has any sums.
    first: Option<Day>,
    groups: BTreeMap<Option<String>, Group>,
    total: Group,
}

/// What belongs to one group, by queue and by kind of Machine.
#[derive(Debug, Default)]
struct Group(BTreeMap<QueueName, BTreeMap<Kind, CostSums>>);

impl CostTable {
    /// Makes a table of days, both among them. Nothing is in it yet.
    pub fn new(by: CostsBy, since: Day, until: Day) -> CostTable {
        let (groups, total) = (BTreeMap::new(), Group::default());
        CostTable { by, since, until, first: None, groups, total }
    }

    /// Takes sums. Those of other days are left out.
    pub fn add(&mut self, key: &CostKey, sums: CostSums) {
        if !(self.since..=self.until).contains(&key.day) {
            return;
        }
        self.first = Some(self.first.map_or(key.day, |first| first.min(key.day)));
        let name = match self.by {
            CostsBy::Queue => Some(key.queue.to_string()),
            CostsBy::Module => key.module.as_ref().map(ToString::to_string),
            CostsBy::Day => Some(key.day.to_string()),
        };
        self.groups.entry(name).or_default().add(key, sums);
        self.total.add(key, sums);
    }

    /// Returns what it all costs. What a Machine that is always on would have cost is of the time from the first day that has
    /// sums to `now`, or to the end of the last day.
    pub fn costs(&self, prices: &Prices, now: Timestamp) -> Costs {
        let always_on_us = |first: Day, last: Day| {
            let time = last.ends().min(now).since(first.begins());
            u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
        };
        let all_us = self.first.map_or(0, |first| always_on_us(first, self.until));
        let total = self.total.cost(prices, Some(all_us));
        let group = |(name, group): (&Option<String>, &Group)| {
            let cost = match (self.by, name) {
                (CostsBy::Queue, _) => group.cost(prices, Some(all_us)),
                (CostsBy::Module, Some(_)) => group.cost(prices, None),
                // Of the Machines' time, what attempts had is told with their modules.
                (CostsBy::Module, None) => {
                    let Cost { idle_us, idle, .. } = total;
                    let of_machines = group.cost(prices, None);
                    let dollars = idle.plus(of_machines.stopped);
                    Cost { idle_us, idle, dollars, ..of_machines }
                }
                (CostsBy::Day, name) => {
                    let day = name.as_ref().and_then(|name| name.parse().ok());
                    group.cost(prices, day.map(|day| always_on_us(day, day)))
                }
            };
            CostGroup { name: name.clone(), cost }
        };
        let mut groups: Vec<CostGroup> = self.groups.iter().map(group).collect();
        if self.by != CostsBy::Day {
            groups.sort_by_key(|group| Reverse(group.cost.dollars));
        }
        let left_out = groups.len().saturating_sub(COST_GROUPS_MAX) as u64;
        groups.truncate(COST_GROUPS_MAX);
        Costs { since: self.since, until: self.until, by: self.by, groups, left_out, total }
    }
}

impl Group {
    fn add(&mut self, key: &CostKey, sums: CostSums) {
        let kinds = self.0.entry(key.queue.clone()).or_default();
        let kind = kinds.entry((key.size.clone(), key.region.clone())).or_default();
        *kind = kind.plus(sums);
    }

    /// Returns what it costs, and what one Machine for each queue would that is on for `always_on_us`.
    fn cost(&self, prices: &Prices, always_on_us: Option<u64>) -> Cost {
        let mut sums = CostSums::default();
        let (mut running, mut cost) = (Dollars::ZERO, Cost::default());
        let mut always_on = Dollars::ZERO;
        for kinds in self.0.values() {
            for ((size, region), kind) in kinds {
                sums = sums.plus(*kind);
                let of = |time_us| running_cost(prices, size, region.as_ref(), time_us);
                running = running.plus(of(kind.running_us));
                cost.busy = cost.busy.plus(of(kind.share_us));
            }
            let longest = kinds.iter().max_by_key(|(_, sums)| (sums.running_us, sums.resting_us));
            if let (Some(((size, region), _)), Some(time_us)) = (longest, always_on_us) {
                always_on = always_on.plus(running_cost(prices, size, region.as_ref(), time_us));
            }
        }
        // Shares can be ahead of their Machine's time: an attempt is of the day on which it ended, and its host measures it.
        let (idle_us, idle) = (sums.running_us.saturating_sub(sums.share_us), running.less(cost.busy));
        let stopped = resting_cost(prices, sums.resting_us);
        Cost {
            attempts: sums.attempts,
            machines: sums.made,
            busy_us: sums.share_us,
            idle_us,
            stopped_us: sums.resting_us,
            busy: cost.busy,
            idle,
            stopped,
            dollars: cost.busy.plus(idle).plus(stopped),
            always_on: always_on_us.map(|_| always_on),
        }
    }
}

#[cfg(test)]
mod tests {
    use midge_protocol::ModuleName;

    use super::*;

    const HOUR_US: u64 = 3_600_000_000;

    fn day(text: &str) -> Day {
        text.parse().unwrap()
    }

    fn key(queue: &str, module: Option<&str>, on: &str, memory_mib: u32) -> CostKey {
        CostKey {
            day: day(on),
            queue: QueueName::new(queue).unwrap(),
            module: module.map(|name| ModuleName::new(name).unwrap()),
            size: MachineSize { memory_mib, ..MachineSize::default() },
            region: None,
        }
    }

    /// A dollar an hour for the size of 256 MiB, two for that of 512, and one for a GB that rests.
    fn prices() -> Prices {
        let hourly = |memory_mib, dollars: u64| {
            let size = MachineSize { memory_mib, ..MachineSize::default() };
            (size, Dollars::from_cents(dollars * 720 * 100))
        };
        let rootfs_gb = Dollars::from_cents(72_000);
        Prices {
            sizes: [hourly(256, 1), hourly(512, 2)].into(),
            rootfs_gb,
            rootfs_mb: 1_000,
            ..Prices::default()
        }
    }

    fn machines(hours: u64, rested: u64) -> CostSums {
        let (running_us, resting_us) = (hours * HOUR_US, rested * HOUR_US);
        CostSums { running_us, resting_us, made: 1, ..CostSums::default() }
    }

    fn attempts(hours: u64) -> CostSums {
        CostSums { attempts: 2, share_us: hours * HOUR_US, ..CostSums::default() }
    }

    fn costs(by: CostsBy) -> Costs {
        let mut table = CostTable::new(by, day("2030-01-01"), day("2030-01-31"));
        for (key, sums) in [
            (key("mail", None, "2030-01-30", 256), machines(6, 10)),
            (key("mail", Some("send"), "2030-01-30", 256), attempts(2)),
            (key("mail", Some("sort"), "2030-01-30", 256), attempts(1)),
            (key("media", None, "2030-01-31", 512), machines(4, 0)),
            (key("media", None, "2030-01-31", 256), machines(1, 0)),
            (key("media", Some("send"), "2030-01-31", 512), attempts(3)),
            (key("media", None, "2030-02-01", 512), machines(9, 9)),
        ] {
            table.add(&key, sums);
        }
        table.costs(&prices(), "2030-01-31T12:00:00Z".parse().unwrap())
    }

    /// Names, and dollars: busy, idle, stopped, in all, always on.
    fn told(costs: &Costs) -> Vec<(String, [u64; 4], Option<u64>)> {
        let whole = |dollars: Dollars| dollars.as_nanos() / 1_000_000_000;
        let group = |CostGroup { name, cost }: &CostGroup| {
            let dollars = [cost.busy, cost.idle, cost.stopped, cost.dollars].map(whole);
            (name.clone().unwrap_or_default(), dollars, cost.always_on.map(whole))
        };
        costs.groups.iter().map(group).collect()
    }

    #[test]
    fn costs_of_queues_are_those_of_their_machines_and_beside_them_one_that_is_always_on() {
        let costs = costs(CostsBy::Queue);
        assert_eq!(
            told(&costs),
            [("mail".to_owned(), [3, 3, 10, 16], Some(36)), ("media".to_owned(), [6, 3, 0, 9], Some(72)),]
        );
        let Cost { attempts, machines, busy_us, idle_us, stopped_us, dollars, .. } = costs.total;
        assert_eq!((attempts, machines, dollars), (6, 3, Dollars::from_cents(2_500)));
        assert_eq!([busy_us, idle_us, stopped_us], [6, 5, 10].map(|hours| hours * HOUR_US));
        assert_eq!(costs.total.always_on, Some(Dollars::from_cents(10_800)));
    }

    #[test]
    fn costs_of_modules_are_their_shares_and_what_is_nobodys_stands_apart() {
        let costs = costs(CostsBy::Module);
        assert_eq!(
            told(&costs),
            [
                (String::new(), [0, 6, 10, 16], None),
                ("send".to_owned(), [8, 0, 0, 8], None),
                ("sort".to_owned(), [1, 0, 0, 1], None),
            ]
        );
        let sum: Dollars = costs.groups.iter().map(|group| group.cost.dollars).sum();
        assert_eq!(sum, costs.total.dollars);
    }

    #[test]
    fn costs_of_days_are_in_their_order_and_today_is_not_over() {
        let costs = costs(CostsBy::Day);
        assert_eq!(
            told(&costs),
            [
                ("2030-01-30".to_owned(), [3, 3, 10, 16], Some(24)),
                ("2030-01-31".to_owned(), [6, 3, 0, 9], Some(24)),
            ]
        );
    }

    #[test]
    fn nothing_costs_nothing_and_no_day_is_too_far() {
        let table = CostTable::new(CostsBy::Queue, Day::from_number(i64::MIN), Day::from_number(i64::MAX));
        let costs = table.costs(&Prices::default(), Timestamp::LATEST);
        assert_eq!(costs.total, Cost { always_on: Some(Dollars::ZERO), ..Cost::default() });
        let mut table = CostTable::new(CostsBy::Day, Day::from_number(i64::MIN), Day::from_number(i64::MAX));
        let most = CostSums { share_us: u64::MAX, running_us: 1, resting_us: u64::MAX, ..machines(0, 0) };
        table.add(&CostKey { day: Day::from_number(i64::MIN), ..key("a", None, "2030-01-01", 1) }, most);
        assert_eq!(table.costs(&Prices::default(), Timestamp::EARLIEST).total.idle_us, 0);
    }
}
