//! Who gets the room that a server has for Machines: all queues together, fairly.
//!
//! Waiting jobs come before warm and ready Machines, whosesoever they are. Of the queues whose jobs wait, the one with
//! the fewest Machines comes first, and of those the one that was served longest ago. So that no queue keeps for ever
//! what another needs, Machines give way: what nobody uses at once; a busy one of a queue that has at least two more
//! than the one that needs it; and where there are more queues than room, one that has had its turn.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use midge_protocol::{MachineName, Timestamp};

use super::{Action, Want};
use crate::{Machine, MachineState};

/// How long a Machine may keep its room while the jobs of a queue that has none wait: long enough that the seconds that
/// it takes to boot do not count for much.
const TURN: Duration = Duration::from_secs(60);

/// One queue among the others.
struct Part<'a> {
    want: Want<'a>,
    /// Machines that it has, or was given now, without those that are on their way out.
    holds: u32,
    /// When a Machine of it last came or went.
    changed_at: Timestamp,
}

/// Gives room to Machines that are wanted; where there is too little, has others give way.
pub(super) fn share(
    wants: Vec<Want<'_>>,
    max_machines: u32,
    present: u32,
    now: Timestamp,
    actions: &mut Vec<Action>,
) {
    let mut parts: Vec<Part<'_>> = wants.into_iter().map(Part::of).collect();
    let mut room = max_machines.saturating_sub(present);
    give(&mut parts, &mut room, |want| &mut want.for_jobs, |want| boot(want, actions));
    let unmet: u32 = parts.iter().map(|part| part.want.for_jobs).fold(0, u32::saturating_add);
    // What is left is for those who wait for nothing.
    give(&mut parts, &mut room, |want| &mut want.for_warmth, |want| boot(want, actions));
    give(
        &mut parts,
        &mut room,
        |want| &mut want.to_rest,
        |want| {
            actions.push(Action::Prepare { queue: want.demand.queue.clone() });
        },
    );
    let excess = present.saturating_sub(max_machines);
    let needed = unmet.min(max_machines).saturating_add(excess);
    if needed > 0 {
        actions.extend(Way { parts, given: BTreeSet::new(), now }.make(needed, excess));
    }
}

fn boot(want: &Want<'_>, actions: &mut Vec<Action>) {
    actions.push(Action::Boot { queue: want.demand.queue.clone() });
}

/// Gives room one by one, each to the queue that comes first.
fn give<'a>(
    parts: &mut [Part<'a>],
    room: &mut u32,
    wanted: impl for<'w> Fn(&'w mut Want<'a>) -> &'w mut u32,
    mut begin: impl FnMut(&Want<'a>),
) {
    let mut order = BTreeSet::new();
    for (number, part) in parts.iter_mut().enumerate() {
        if *wanted(&mut part.want) > 0 {
            order.insert((part.order(), number));
        }
    }
    while *room > 0
        && let Some((_, number)) = order.pop_first()
    {
        let part = &mut parts[number];
        *room -= 1;
        part.holds += 1;
        begin(&part.want);
        let wanted = wanted(&mut part.want);
        *wanted -= 1;
        if *wanted > 0 {
            order.insert((part.order(), number));
        }
    }
}

impl<'a> Part<'a> {
    fn of(want: Want<'a>) -> Part<'a> {
        let holds = want.ours.count(|state| state.is_present() && !state.is_leaving());
        Part { holds, changed_at: want.ours.changed_at(), want }
    }

    /// Returns what the queues are given room by, smallest first.
    fn order(&self) -> impl Ord + use<> {
        (self.holds, self.changed_at, self.want.demand.oldest_due)
    }

    /// Returns the Machines that are up, and how many jobs each runs.
    fn up(&self) -> impl Iterator<Item = (&'a Machine, u32)> {
        let up = self.want.ours.machines.iter().filter(|(machine, _)| machine.state == MachineState::Up);
        up.map(|(machine, running)| (machine, *running))
    }
}

/// How Machines are found that give way.
struct Way<'a> {
    parts: Vec<Part<'a>>,
    /// Those that were found.
    given: BTreeSet<&'a MachineName>,
    now: Timestamp,
}

impl<'a> Way<'a> {
    /// Returns what to do so that there is room for so many more, of which `excess` are too many in any case.
    fn make(mut self, needed: u32, excess: u32) -> Vec<Action> {
        let leaving = |wanted: fn(&Machine, u32) -> bool| -> u32 {
            let all = self.parts.iter().flat_map(|part| &part.want.ours.machines);
            all.filter(|(machine, running)| machine.state.is_leaving() && wanted(machine, *running)).count()
                as u32
        };
        // One that finishes what it runs may take a day.
        let soon = leaving(|_, running| running == 0);
        let in_all = leaving(|_, _| true);
        let mut actions: Vec<Action> = Vec::new();
        let idle: Vec<(usize, &'a Machine)> = self.idle().collect();
        for (number, machine) in idle.into_iter().take(needed.saturating_sub(soon) as usize) {
            actions.push(self.give_way(number, machine));
        }
        // More are made way for in the next round.
        let needed = needed.min(super::BOOTS_PER_ROUND);
        let mut missing = needed.saturating_sub(in_all).saturating_sub(actions.len() as u32);
        let mut too_many = excess.saturating_sub(in_all).saturating_sub(actions.len() as u32);
        while too_many > 0
            && let Some((number, machine)) = self.of_the_richest(0)
        {
            actions.push(self.give_way(number, machine));
            (too_many, missing) = (too_many - 1, missing.saturating_sub(1));
        }
        while missing > 0
            && let Some(action) = self.next_fair()
        {
            actions.push(action);
            missing -= 1;
        }
        actions
    }

    /// Returns the Machines that nobody uses: those that rest, and those that are up in a queue without work.
    fn idle(&self) -> impl Iterator<Item = (usize, &'a Machine)> {
        let parts = || self.parts.iter().enumerate();
        let resting =
            parts().flat_map(|(number, part)| part.want.resting.iter().map(move |rests| (number, *rests)));
        let without_work = parts().filter(|(_, part)| part.want.demand.due == 0);
        let up = without_work.flat_map(|(number, part)| {
            part.up().filter(|(_, running)| *running == 0).map(move |(machine, _)| (number, machine))
        });
        resting.chain(up)
    }

    /// Takes a Machine from the queue that has more than its share, for the one that has the least.
    fn next_fair(&mut self) -> Option<Action> {
        let in_want = self.parts.iter().enumerate().filter(|(_, part)| part.want.for_jobs > 0);
        let (poorest, part) = in_want.min_by_key(|(_, part)| part.order())?;
        let holds = part.holds;
        let found = self.of_the_richest(holds + 2);
        let (number, machine) =
            found.or_else(|| if holds == 0 { self.whose_turn_is_over(poorest) } else { None })?;
        self.parts[poorest].holds += 1;
        self.parts[poorest].want.for_jobs -= 1;
        Some(self.give_way(number, machine))
    }

    /// Finds a Machine that is up, or refused, of the queue that has the most of them, and at least so many: the one
    /// that runs the fewest jobs, and of those the oldest.
    fn of_the_richest(&self, at_least: u32) -> Option<(usize, &'a Machine)> {
        let rich = self.parts.iter().enumerate().filter(|(_, part)| part.holds >= at_least);
        let found = rich.filter_map(|(number, part)| {
            let machine = self.refused(part).or_else(|| {
                part.up()
                    .filter(|(machine, _)| !self.given.contains(&machine.name))
                    .min_by_key(|(machine, running)| (*running, machine.since))
                    .map(|(machine, _)| machine)
            })?;
            Some((number, part.holds, machine))
        });
        let (number, _, machine) = found.max_by_key(|(number, holds, _)| (*holds, Reverse(*number)))?;
        Some((number, machine))
    }

    /// Finds a Machine of another queue that has had its turn, the one that has had the longest.
    fn whose_turn_is_over(&self, poorest: usize) -> Option<(usize, &'a Machine)> {
        let others = || self.parts.iter().enumerate().filter(|(number, _)| *number != poorest);
        let refused = others().find_map(|(number, part)| Some((number, self.refused(part)?)));
        let up = others().flat_map(|(number, part)| part.up().map(move |(machine, _)| (number, machine)));
        let over = up.filter(|(_, machine)| {
            !self.given.contains(&machine.name) && self.now.since(machine.since) >= TURN
        });
        refused.or_else(|| over.min_by_key(|(_, machine)| machine.since))
    }

    /// The Machine of a queue that cannot be had.
    fn refused(&self, part: &Part<'a>) -> Option<&'a Machine> {
        part.want.ours.refused().filter(|machine| !self.given.contains(&machine.name))
    }

    fn give_way(&mut self, number: usize, machine: &'a Machine) -> Action {
        self.parts[number].holds = self.parts[number].holds.saturating_sub(1);
        self.given.insert(&machine.name);
        let name = machine.name.clone();
        match machine.state {
            MachineState::Up => Action::GiveWay(name),
            MachineState::Ready => Action::Destroy(name),
            _ => Action::GiveUp(name, "it gives way to jobs of another queue".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests;
