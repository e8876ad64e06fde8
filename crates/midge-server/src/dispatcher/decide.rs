//! The deciding half of a round: look at the Machines, plan, and write down what is about to be done.
//!
//! Invariant: no transaction is held across a call to the Machines API. A Machine's row is there before the call that
//! makes it.

use std::collections::BTreeMap;

use midge_core::{
    Action, Call, Job, JobCounts, LINE_HEAD, Machine, MachineEvent, MachineState, QueueDemand, QueueRow,
    Standing, Stray, Turn, View, first_region, machine_name, plan, room_for_machines,
};
use midge_machines::{Launch, Machines};
use midge_protocol::job::State;
use midge_protocol::manifest::QueuePolicy;
use midge_protocol::{MachineName, QueueName, Timestamp};
use midge_store::{Rows, Store, StoreError};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::change::{change, forget_unreadable};
use super::look::{Known, Sights, look};
use super::schedules::enqueue_ticks;
use super::settle::{self, settle};
use super::spec::{asked_region, machine_spec};
use super::{Act, Context, Decided};
use crate::budgets::standing;
use crate::clock::Clock;
use crate::expiry::discard_expired;
use crate::held::Holds;
use crate::keys::keys_room;
use crate::pass_on::{IN_A_ROUND, pass_on};
use crate::secret;

/// Looks and plans, and writes down what is about to be done.
pub async fn decide(
    store: &dyn Store,
    machines: &dyn Machines,
    context: &Context,
    clock: &dyn Clock,
) -> Result<Decided, StoreError> {
    let looked_at = clock.now();
    let sights = if context.looks { look(store, machines, context).await? } else { Sights::default() };
    let mut context = context.clone();
    let now = clock.now();
    // After the time is read: a step that came with it is known by then.
    context.up_since = clock.even_since().unwrap_or(context.up_since);
    midge_store::write(store, move |rows| {
        let mut round = Round {
            rows,
            rng: StdRng::seed_from_u64(context.seed),
            context: &context,
            now,
            first_regions: BTreeMap::new(),
            lanes_room: settle::LANES_MAX,
            decided: Decided::default(),
        };
        if context.looks {
            // Their jobs are due from here on, which the plan counts.
            let released = forget_unreadable(round.rows, now)?;
            (round.decided.ended, round.decided.news) = (released.ended, released.returned);
        }
        // No Machine is wanted for what will not be started any more.
        round.decided.ended.extend(discard_expired(round.rows, &context.catalog.generation, now)?);
        // Their jobs are due from here on, too.
        let passed_on = pass_on(round.rows, IN_A_ROUND, now)?;
        round.decided.ended.extend(passed_on.ended);
        round.decided.news.extend(passed_on.news);
        round.decided.returned.extend(passed_on.queues);
        round.decided.tell.extend(passed_on.tell);
        let mut holds = Holds::read(round.rows, &context.catalog, now)?;
        let next_trial = holds.try_again(round.rows)?;
        let (queues, more_held) = holds.release(round.rows)?;
        round.decided.returned.extend(queues);
        round.see(sights.known, looked_at)?;
        // Before the plan, which counts their jobs.
        enqueue_ticks(round.rows, &context.catalog, now)?;
        round.plan(sights.strays, &holds)?;
        round.decided.next_due = round.decided.next_due.into_iter().chain(next_trial).min();
        // What ended in this round may have been waited for.
        if more_held
            || holds.wants_trial(round.rows)?
            || round.rows.next_untold_end()?.is_some()
            || round.rows.batch_to_act()?.is_some()
        {
            round.decided.next_due = Some(now);
        }
        Ok(round.decided)
    })
    .await
}

/// One round in its transaction.
struct Round<'a> {
    rows: &'a mut dyn Rows,
    rng: StdRng,
    context: &'a Context,
    now: Timestamp,
    /// Which of their regions the new Machines of each queue or pool are made in first, where it is not the first one.
    first_regions: BTreeMap<QueueName, u32>,
    /// How many lanes may still be put anew.
    lanes_room: usize,
    decided: Decided,
}

impl Round<'_> {
    /// Writes what was seen.
    fn see(&mut self, known: BTreeMap<MachineName, Known>, looked_at: Timestamp) -> Result<(), StoreError> {
        for (name, Known { id, region, sight }) in known {
            let Some(mut machine) = self.rows.machine(&name)? else { continue };
            self.change(&mut machine, MachineEvent::Seen { id, region, sight, looked_at })?;
        }
        Ok(())
    }

    /// Asks what to do, and writes down that it is under way.
    fn plan(&mut self, strays: Vec<Stray>, holds: &Holds<'_>) -> Result<(), StoreError> {
        let mut machines = self.rows.machines()?;
        for (machine, _) in &mut machines {
            if let Some(mended) = machine.without_times_ahead(self.now) {
                self.rows.put_machine(&mended)?;
                *machine = mended;
            }
        }
        let mut counts = self.rows.job_counts(self.now)?;
        // No Machine is wanted for what is not to start either.
        let mut more_to_hold = false;
        if holds.may_be_in_line(self.rows, &counts)? {
            for (queue, _) in counts.iter().filter(|(_, counts)| counts.in_line() > 0) {
                more_to_hold |= holds.hold(self.rows, queue)?;
            }
            counts = self.rows.job_counts(self.now)?;
        }
        let mut queues = self.context.catalog.queues();
        queues.extend(counts.keys().cloned());
        queues.extend(machines.iter().map(|(machine, _)| machine.queue.clone()));
        let mut demands: BTreeMap<QueueName, Vec<QueueDemand>> = BTreeMap::new();
        let manifest = &self.context.catalog.manifest;
        // Machines of a pool are known by its name, which is no queue's.
        queues.retain(|queue| manifest.pool(queue).is_none() || manifest.queues.contains_key(queue));
        let mut room_at = None;
        for queue in queues {
            let counts = counts.get(&queue).cloned().unwrap_or_default();
            let (demand, next) = self.demand(queue, &counts, &machines)?;
            let served_as = self.context.catalog.manifest.served_as(&demand.queue).clone();
            let ours = machines.iter().map(|(machine, _)| machine);
            let first = first_region(ours.filter(|machine| machine.queue == served_as), self.now);
            if first > 0 {
                self.first_regions.insert(served_as.clone(), first);
            }
            demands.entry(served_as).or_default().push(demand);
            room_at = [room_at, next].into_iter().flatten().min();
        }
        let catalog = &self.context.catalog;
        let queues = demands.into_iter().flat_map(|(name, demands)| match catalog.manifest.pool(&name) {
            Some(_) => {
                vec![QueueDemand::of_pool(name.clone(), self.context.policy(&name), demands.into_iter())]
            }
            None => demands,
        });
        let queues = queues.collect();
        let view = View {
            generation: self.context.catalog.generation.clone(),
            up_since: self.context.up_since,
            max_machines: self.context.catalog.max_machines(),
            queues,
            machines,
            strays,
        };
        for action in plan(&view, self.now) {
            self.begin(action)?;
        }
        self.decided.machines = view.machines.iter().any(|(machine, _)| machine.state.is_present())
            || !self.decided.acts.is_empty();
        self.decided.due = view.queues.iter().filter(|q| q.due > 0).map(|q| q.queue.clone()).collect();
        // Where more have expired than one round discards, the next one comes at once.
        let again = (more_to_hold || self.lanes_room == 0).then_some(self.now);
        let due = [self.rows.next_due(self.now)?, self.rows.next_expiry()?, self.rows.next_schedule()?];
        let others = [room_at, holds.next_end(), again];
        self.decided.next_due = due.into_iter().chain(others).flatten().min();
        Ok(())
    }

    /// Returns whether a queue may have more Machines running than it has.
    fn may_grow(&self, queue: &QueueName, machines: &[(Machine, u32)]) -> bool {
        let served_as = self.context.catalog.manifest.served_as(queue);
        let ours = machines.iter().filter(|(machine, _)| machine.queue == *served_as);
        room_for_machines(&self.context.policy(queue), ours) > 0
    }

    /// Returns how much work a queue has that may begin, and when there may be more without anything happening.
    fn demand(
        &mut self,
        queue: QueueName,
        counts: &JobCounts,
        machines: &[(Machine, u32)],
    ) -> Result<(QueueDemand, Option<Timestamp>), StoreError> {
        let (due, running) = (counts.in_line(), counts.in_state(State::Running));
        let policy = self.context.policy(&queue);
        let row = settle(self.rows, &queue, &policy, &mut self.lanes_room, self.now)?;
        let row = self.within_budget(&queue, row, &policy, machines)?;
        let policy = row.served_by(policy, self.now);
        let (mut startable, mut suspects, mut room_at) = (0, 0, None);
        if due > 0 {
            startable = due.min(row.room(&policy, running, self.now));
            room_at = row.room_at(&policy, running, self.now);
            if startable > 0 && policy.limits_keys() {
                let (keys_room, next_turn) = keys_room(self.rows, &queue, &policy, self.now)?;
                startable = startable.min(keys_room);
                room_at = room_at.or(next_turn.map(Turn::comes));
            }
            if startable > 0 && self.may_grow(&queue, machines) {
                suspects = self.suspects(&queue)?.min(startable);
            }
        }
        let demand = QueueDemand {
            due: startable,
            suspects,
            paused: row.paused(self.now).is_some() || row.stopped_for_budget(self.now).is_some(),
            oldest_due: counts.oldest_due,
            policy,
            queue,
        };
        // One that is resumed by time is looked at then, whether jobs are due or not: it may keep Machines warm.
        let resumes = row.paused(self.now).and_then(|pause| pause.until);
        let next_month = row.over_budget(self.now).map(|over| over.until);
        Ok((demand, [room_at, resumes, next_month].into_iter().flatten().min()))
    }

    /// Writes whether a queue has fewer Machines or starts nothing for its budget, and returns its row.
    fn within_budget(
        &mut self,
        queue: &QueueName,
        row: QueueRow,
        policy: &QueuePolicy,
        machines: &[(Machine, u32)],
    ) -> Result<QueueRow, StoreError> {
        let manifest = &self.context.catalog.manifest;
        let served_as = manifest.served_as(queue);
        let standing = standing(self.rows, &manifest.prices, served_as, policy, machines, self.now)?;
        let after = row.clone().with_standing(standing, self.now);
        if after != row {
            match (after.over_budget, standing) {
                (Some(_), Some(Standing { budget, spent, .. })) => {
                    let (whole, then) = (budget.dollars_per_month.short(), budget.at.as_str());
                    tracing::warn!(queue = %queue, %spent, "queue {queue} has as good as spent its budget of {whole}: {then}");
                }
                _ => tracing::info!(queue = %queue, "queue {queue} is within its budget again"),
            }
            self.rows.put_queue(queue, &after)?;
        }
        Ok(after)
    }

    /// Counts the suspects that are about to need a Machine each.
    fn suspects(&mut self, queue: &QueueName) -> Result<u64, StoreError> {
        let mut suspects = 0;
        let lanes = self.rows.lanes_come(queue, self.now, LINE_HEAD)?.lanes;
        let each = LINE_HEAD.div_ceil(lanes.len() + 1);
        for key in lanes.iter().map(|lane| Some(&lane.key)).chain([None]) {
            let head = self.rows.jobs_due(queue, key, self.now, each)?;
            suspects += head.iter().filter(|job| Job::is_suspect(job)).count() as u64;
        }
        Ok(suspects)
    }

    /// Writes down that an action is under way, and what call it takes.
    fn begin(&mut self, action: Action) -> Result<(), StoreError> {
        match action {
            Action::Boot { queue } => self.fork(queue, MachineState::Creating),
            Action::Prepare { queue } => self.fork(queue, MachineState::Preparing),
            Action::Create(name) => self.with(&name, |round, machine| round.create(machine)),
            Action::Start(name) => self.with(&name, |round, machine| {
                let Some(id) = machine.id.clone() else { return Ok(()) };
                round.change(machine, MachineEvent::CallBegun(Call::Start))?;
                let name = machine.name.clone();
                round.decided.acts.push(Act::Start { name, id });
                Ok(())
            }),
            Action::Suspend(name) => self.with(&name, |round, machine| {
                let Some(id) = machine.id.clone() else { return Ok(()) };
                round.change(machine, MachineEvent::CallBegun(Call::Suspend))?;
                round.decided.acts.push(Act::Suspend { name: machine.name.clone(), id });
                Ok(())
            }),
            Action::StayAwake(name, note) => {
                self.with(&name, |round, machine| round.change(machine, MachineEvent::StaysAwake { note }))
            }
            Action::Drain(name) => self.with(&name, |round, machine| {
                round.decided.tell.push(machine.name.clone());
                round.change(machine, MachineEvent::Outdated)
            }),
            Action::GiveWay(name) => self.with(&name, |round, machine| {
                round.decided.tell.push(machine.name.clone());
                round.change(machine, MachineEvent::GaveWay)
            }),
            Action::Retire(name, note) => self.with(&name, |round, machine| {
                round.decided.tell.push(machine.name.clone());
                round.change(machine, MachineEvent::Retired { note })
            }),
            Action::LetGo(name, note) => self.with(&name, |round, machine| {
                round.decided.tell.push(machine.name.clone());
                round.change(machine, MachineEvent::NotNeeded { note })
            }),
            Action::GiveUp(name, note) => self.with(&name, |round, machine| {
                tracing::warn!(machine.name = %machine.name, note, "gave a Machine up");
                round.change(machine, MachineEvent::GivenUp { note })?;
                round.destroy(machine)
            }),
            Action::Destroy(name) => self.with(&name, |round, machine| round.destroy(machine)),
            Action::DestroyStray(id) => {
                self.decided.acts.push(Act::DestroyStray { id });
                Ok(())
            }
            Action::Forget(name) => self.rows.delete_machine(&name),
        }
    }

    fn with(
        &mut self,
        name: &MachineName,
        then: impl FnOnce(&mut Self, &mut Machine) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        match self.rows.machine(name)? {
            Some(mut machine) => then(self, &mut machine),
            None => Ok(()),
        }
    }

    fn fork(&mut self, queue: QueueName, state: MachineState) -> Result<(), StoreError> {
        let policy = self.context.policy(&queue);
        let name = machine_name(&self.context.owner, self.now, self.rng.next_u32());
        let generation = self.context.catalog.generation.clone();
        let no_room = self.first_regions.get(&queue).copied().unwrap_or_default();
        let new = Machine::new(name, queue, generation, &policy, state, self.now);
        self.create(&mut Machine { no_room, ..new })
    }

    /// Begins to make a Machine, under a secret that only its env and, as a hash, its row will know.
    fn create(&mut self, machine: &mut Machine) -> Result<(), StoreError> {
        let secret = secret::generate(&mut self.rng);
        // Written by the event below, which always changes the row.
        machine.secret_hash = crate::secret_hash(&secret);
        let launch = match machine.state {
            MachineState::Preparing => Launch::Later,
            _ => Launch::Now,
        };
        let spec = Box::new(machine_spec(self.context, machine, &secret));
        // What is asked for is what it costs, whatever its queue had when the row was made.
        (machine.size, machine.region) = (spec.size.clone(), asked_region(&spec));
        self.change(machine, MachineEvent::CallBegun(Call::Create))?;
        self.decided.acts.push(Act::Create { spec, launch });
        Ok(())
    }

    fn destroy(&mut self, machine: &mut Machine) -> Result<(), StoreError> {
        self.change(machine, MachineEvent::CallBegun(Call::Destroy))?;
        self.decided.acts.push(Act::Destroy { name: machine.name.clone(), id: machine.id.clone() });
        Ok(())
    }

    fn change(&mut self, machine: &mut Machine, event: MachineEvent) -> Result<(), StoreError> {
        let released = change(self.rows, machine, event, self.now)?;
        self.decided.ended.extend(released.ended);
        if !released.returned.is_empty() {
            self.decided.returned.push(machine.queue.clone());
        }
        self.decided.news.extend(released.returned);
        Ok(())
    }
}
