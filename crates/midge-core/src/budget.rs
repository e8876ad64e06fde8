//! How a queue stands to what its Machines may cost in a month, and what that means for it.

use std::time::Duration;

use midge_protocol::manifest::{AtBudget, Budget, Prices, QueuePolicy};
use midge_protocol::{Day, Dollars, Timestamp};
use serde::{Deserialize, Serialize};

use crate::machine::Metered;
use crate::{Machine, QueueRow, running_cost};

/// Of a budget of which so much is spent people are told, in percent.
const NEAR_PERCENT: u128 = 80;
/// For so long what runs now is taken to run on: longer than a boot, a wait and most jobs.
const RUNS_ON: Duration = Duration::from_secs(5 * 60);
/// No month has more days.
const MONTH_DAYS_MAX: u32 = 31;

/// How a queue stands to its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The budget.
    pub budget: Budget,
    /// What its Machines have cost in this month.
    pub spent: Dollars,
    /// What they will have cost with what runs now; where none does, with one that would.
    pub projected: Dollars,
}

/// That a queue would have gone over its budget, and so has fewer Machines or none until the month is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverBudget {
    /// The budget. Under another one it does not hold any more.
    pub budget: Budget,
    /// What its Machines had cost by then. Where that is found to have been less, as by other prices, it does not hold either.
    pub spent: Dollars,
    /// When the month is over.
    pub until: Timestamp,
}

/// Returns the first day of the month of a time, and when the month is over.
pub fn month(now: Timestamp) -> (Day, Timestamp) {
    let first = Day::of(now).month();
    let next = Day::from_number(first.number() + i64::from(MONTH_DAYS_MAX)).month();
    (first, next.begins())
}

impl Standing {
    /// Returns the standing of a queue whose Machines have cost so much in this month, and which has these.
    pub fn new<'a>(
        budget: Budget,
        spent: Dollars,
        policy: &QueuePolicy,
        machines: impl Iterator<Item = &'a Machine>,
        prices: &Prices,
    ) -> Standing {
        let time_us = RUNS_ON.as_micros() as u64;
        let runs = |machine: &&Machine| machine.meter.is_some_and(|meter| meter.metered == Metered::Running);
        let costs = |machine: &Machine| running_cost(prices, &machine.size, machine.region.as_ref(), time_us);
        let running: Vec<Dollars> = machines.filter(runs).map(costs).collect();
        let to_come = match running.is_empty() {
            true => running_cost(prices, &policy.size.clone().unwrap_or_default(), None, time_us),
            false => running.into_iter().sum(),
        };
        Standing { budget, spent, projected: spent.plus(to_come) }
    }

    /// Returns whether so much is spent that people are told.
    pub fn is_near(&self) -> bool {
        let (spent, whole) = (self.spent.as_nanos(), self.budget.dollars_per_month.as_nanos());
        u128::from(spent) * 100 >= u128::from(whole) * NEAR_PERCENT
    }

    /// Returns whether it would be exceeded.
    pub fn is_over(&self) -> bool {
        self.projected >= self.budget.dollars_per_month
    }
}

impl QueueRow {
    /// Returns the row of a queue that stands so to its budget; nothing where it has none. Who was over it in this month stays
    /// so under the same budget and prices: else its Machines would come and go at the bound.
    #[must_use]
    pub fn with_standing(self, standing: Option<Standing>, now: Timestamp) -> QueueRow {
        let holds = |over: &OverBudget| {
            standing.is_some_and(|now| now.budget == over.budget && now.spent >= over.spent)
        };
        let before = self.over_budget(now).copied().filter(holds);
        let goes_over = |standing: Standing| {
            let Standing { budget, spent, .. } = standing;
            let acts = budget.at != AtBudget::Warn && standing.is_over();
            acts.then(|| OverBudget { budget, spent, until: month(now).1 })
        };
        QueueRow { over_budget: before.or_else(|| standing.and_then(goes_over)), ..self }
    }

    /// Returns that it is over its budget, at a time.
    pub fn over_budget(&self, now: Timestamp) -> Option<&OverBudget> {
        // A clock that was put back to another month has that month's budget.
        self.over_budget.as_ref().filter(|over| month(now).1 == over.until)
    }

    /// Returns until when it starts nothing for its budget.
    pub fn stopped_for_budget(&self, now: Timestamp) -> Option<Timestamp> {
        self.over_budget(now).filter(|over| over.budget.at == AtBudget::Pause).map(|over| over.until)
    }

    /// Returns the policy by which it is served at a time: with half as many Machines, where its budget says so.
    #[must_use]
    pub fn served_by(&self, policy: QueuePolicy, now: Timestamp) -> QueuePolicy {
        if self.over_budget(now).is_none_or(|over| over.budget.at != AtBudget::Slow) {
            return policy;
        }
        let max_machines = (policy.max_machines / 2).max(1).min(policy.max_machines);
        let (warm_machines, ready_machines) =
            (policy.warm_machines.min(max_machines), policy.ready_machines.min(max_machines));
        QueuePolicy { max_machines, warm_machines, ready_machines, ..policy }
    }
}

#[cfg(test)]
mod tests {
    use midge_protocol::manifest::MachineSize;

    use super::*;
    use crate::machine::tests::machine;
    use crate::{MachineState, Meter};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn budget(cents: u64, at: AtBudget) -> Budget {
        Budget { dollars_per_month: Dollars::from_cents(cents), at }
    }

    /// A dollar for each minute.
    fn prices() -> Prices {
        let month = Dollars::from_cents(30 * 24 * 60 * 100);
        Prices { sizes: [(MachineSize::default(), month)].into(), ..Prices::default() }
    }

    fn standing(at: AtBudget, spent_cents: u64, running: usize) -> Standing {
        let now = self::at("2030-01-15T00:00:00Z");
        let up = machine("m", MachineState::Up, now);
        let up = Machine { meter: Some(Meter { metered: Metered::Running, since: now }), ..up };
        let ready = Machine { meter: Some(Meter { metered: Metered::Resting, since: now }), ..up.clone() };
        let machines: Vec<Machine> = std::iter::repeat_n(up, running).chain([ready]).collect();
        let spent = Dollars::from_cents(spent_cents);
        Standing::new(budget(10_000, at), spent, &QueuePolicy::default(), machines.iter(), &prices())
    }

    #[test]
    fn people_are_told_at_four_fifths_and_what_runs_on_is_counted_before_it_is_spent() {
        let near = |cents| standing(AtBudget::Warn, cents, 1).is_near();
        assert_eq!([7_999, 8_000, 10_000, u64::MAX].map(near), [false, true, true, true]);
        let over = |cents, running| standing(AtBudget::Warn, cents, running).is_over();
        assert!(!over(9_499, 1) && over(9_500, 1), "five minutes of one are five dollars");
        assert!(over(8_500, 3) && !over(8_499, 3));
        assert!(!over(9_499, 0) && over(9_500, 0), "where none runs, one would");
    }

    #[test]
    fn who_goes_over_is_slowed_or_stopped_until_the_month_is_over() {
        let now = at("2030-01-15T00:00:00Z");
        let (last, next) = (at("2030-01-31T23:59:59.999Z"), at("2030-02-01T00:00:00Z"));
        let policy = QueuePolicy { max_machines: 5, warm_machines: 4, ..QueuePolicy::default() };
        let row = |at, cents| QueueRow::default().with_standing(Some(standing(at, cents, 1)), now);
        assert_eq!(row(AtBudget::Warn, 20_000), QueueRow::default());
        assert_eq!(row(AtBudget::Pause, 9_000), QueueRow::default());
        let slow = row(AtBudget::Slow, 9_600);
        let served = slow.served_by(policy.clone(), last);
        assert_eq!((served.max_machines, served.warm_machines), (2, 2));
        assert_eq!(
            (slow.served_by(policy.clone(), next), slow.stopped_for_budget(now)),
            (policy.clone(), None)
        );
        for (max_machines, slowed) in [(0, 0), (1, 1), (2, 1), (3, 1)] {
            let policy = QueuePolicy { max_machines, ..policy.clone() };
            assert_eq!(slow.served_by(policy, now).max_machines, slowed);
        }
        let stopped = row(AtBudget::Pause, 9_600);
        assert_eq!((stopped.stopped_for_budget(last), stopped.stopped_for_budget(next)), (Some(next), None));
        assert_eq!((stopped.room(&policy, 0, now), stopped.room_at(&policy, 0, now)), (0, Some(next)));
        assert!(stopped.room(&policy, 0, next) > 0);
        assert_eq!(stopped.served_by(policy.clone(), now), policy);
    }

    #[test]
    fn who_was_over_stays_so_until_the_budget_or_what_is_spent_is_another() {
        let now = at("2030-01-15T00:00:00Z");
        let stopped = QueueRow::default().with_standing(Some(standing(AtBudget::Pause, 8_600, 3)), now);
        assert!(stopped.stopped_for_budget(now).is_some());
        let idle = standing(AtBudget::Pause, 8_700, 0);
        assert_eq!(stopped.clone().with_standing(Some(idle), now), stopped, "nothing runs any more");
        let raised = Standing { budget: budget(20_000, AtBudget::Pause), ..idle };
        assert_eq!(stopped.clone().with_standing(Some(raised), now), QueueRow::default());
        assert_eq!(stopped.clone().with_standing(None, now), QueueRow::default());
        let cheaper = standing(AtBudget::Pause, 4_300, 0);
        assert_eq!(stopped.clone().with_standing(Some(cheaper), now), QueueRow::default(), "by other prices");
        let next = at("2030-02-01T00:00:00Z");
        assert_eq!(stopped.with_standing(Some(idle), next), QueueRow::default());
    }

    #[test]
    fn a_month_is_one_of_the_calendar_however_far() {
        for (now, first, over) in [
            ("2030-01-15T00:00:00Z", "2030-01-01", "2030-02-01T00:00:00.000Z"),
            ("2028-02-29T23:59:59.999Z", "2028-02-01", "2028-03-01T00:00:00.000Z"),
            ("2030-12-31T00:00:00Z", "2030-12-01", "2031-01-01T00:00:00.000Z"),
        ] {
            let (day, until) = month(at(now));
            assert_eq!((day.to_string(), until.to_string()), (first.to_owned(), over.to_owned()));
        }
        for now in [Timestamp::EARLIEST, Timestamp::LATEST] {
            assert!(month(now).0.begins() <= now);
        }
    }
}
