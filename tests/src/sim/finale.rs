//! The end of a run: faults have stopped, so every job ends, and no Machine outlives its reason.

use std::collections::BTreeMap;
use std::time::Duration;

use midge_core::{Ending, JobState, MachineState, Sleep};
use midge_machines::SeenState;
use midge_protocol::Timestamp;
use midge_protocol::job::Cause;
use midge_protocol::manifest::QueuePolicy;

use super::ledger::{Broken, ensure, is_present};
use super::people::POISON;
use super::world::World;

/// What people had in mind when faults stopped is done within this, and the server is back.
const PEOPLE_STOP_WITHIN: Duration = Duration::from_secs(180);
/// Every job ends within this after the faults have: the longest waits are those between attempts, and for the one Machine
/// of a queue that makes a new one for each job, which takes some seconds since Machines are looked at once a second.
const ALL_END_WITHIN: Duration = Duration::from_secs(2 * 3_600);
/// A job that was not started in time is discarded within this: longer than rounds without Machines are apart.
const ALL_EXPIRE_WITHIN: Duration = Duration::from_secs(15);
/// Who waits for a job that has failed is started by hand after this.
const PEOPLE_HELP_AFTER: Duration = Duration::from_secs(60);
/// And every Machine goes within this after the last job: longer than a boot, a lost call and a lease together.
const ALL_GO_WITHIN: Duration = Duration::from_secs(480);

impl World {
    pub(super) fn finale(&mut self) -> Result<(), Broken> {
        self.step_until(self.now.after(PEOPLE_STOP_WITHIN))?;
        let deadline = self.now.after(ALL_END_WITHIN);
        let mut looked_at = self.now;
        while let Some(open) = self.ledger.an_open_job() {
            ensure(self.now < deadline, || {
                let job = self.ledger.jobs().find(|job| job.id == open);
                format!("it is {} and never ends: {job:?}", self.told())
            })?;
            let overdue = self.ledger.a_job_overdue(self.told().before(ALL_EXPIRE_WITHIN));
            ensure(overdue.is_none(), || format!("{overdue:?} has long expired"))?;
            if self.now >= looked_at.after(PEOPLE_HELP_AFTER) {
                looked_at = self.now;
                self.start_what_waits_in_vain();
                self.hurry_what_waits_for_the_clock();
            }
            self.step()?;
        }
        self.trace.say(self.now, format_args!("all jobs have ended"));
        self.step_until(self.now.after(ALL_GO_WITHIN))?;
        self.check_jobs(true)?;
        self.check_rows_at_the_end()?;
        self.check_api_at_the_end()?;
        self.check_starts()?;
        self.check_sweeps_at_the_end()?;
        self.count_endings();
        self.count_ticks();
        self.count_after();
        self.check_batches_at_the_end()?;
        Ok(())
    }

    fn step_until(&mut self, end: Timestamp) -> Result<(), Broken> {
        while self.now < end {
            self.step()?;
        }
        Ok(())
    }

    fn check_rows_at_the_end(&self) -> Result<(), Broken> {
        let machines = self.store.look(|rows| rows.machines());
        let generation = format!("g{}", self.generation);
        for (machine, _) in &machines {
            let costs = machine.meter.is_some();
            ensure(costs == is_present(machine), || format!("{machine:?} is there, or costs, and not both"))?;
        }
        let mut counts: BTreeMap<_, u32> = BTreeMap::new();
        for (machine, _) in machines.iter().filter(|(machine, _)| is_present(machine)) {
            ensure(!machine.drained, || format!("{machine:?} was drained, and is still there"))?;
            ensure(machine.generation == generation, || format!("{machine:?} is of an old generation"))?;
            *counts.entry((machine.queue.clone(), machine.state)).or_default() += 1;
        }
        let (mut kept, mut wanted_in_all) = (0, 0);
        // A pool keeps its Machines once, however many queues it serves.
        let kept_for = self.policies.clone().into_iter();
        let kept_for = kept_for.map(|(queue, policy)| (policy.pool.clone().unwrap_or(queue), policy));
        for (queue, policy) in kept_for.collect::<BTreeMap<_, _>>() {
            let QueuePolicy { warm_machines, ready_machines, .. } = policy;
            for (state, wanted) in [(MachineState::Up, warm_machines), (MachineState::Ready, ready_machines)]
            {
                let count = counts.remove(&(queue.clone(), state)).unwrap_or(0);
                ensure(count <= wanted, || format!("queue {queue} keeps {count} Machines {state:?}"))?;
                (kept, wanted_in_all) = (kept + count, wanted_in_all + wanted);
            }
        }
        let expected = wanted_in_all.min(self.max_machines);
        ensure(kept == expected, || format!("{kept} Machines are kept, and should be {expected}"))?;
        ensure(counts.is_empty(), || format!("Machines outlive their reason: {counts:?}"))
    }

    /// At the API there is what the rows say, and nothing else.
    fn check_api_at_the_end(&self) -> Result<(), Broken> {
        let machines = self.store.look(|rows| rows.machines());
        for (id, there) in self.api.present() {
            let row = machines.iter().map(|(machine, _)| machine);
            let row =
                row.filter(|machine| is_present(machine)).find(|machine| machine.id.as_ref() == Some(id));
            let wanted = row.map(|machine| match machine.state {
                MachineState::Ready if machine.sleep == Sleep::Asleep => SeenState::Suspended,
                MachineState::Ready => SeenState::Stopped,
                _ => SeenState::Started,
            });
            ensure(wanted.as_ref() == Some(there.state()), || {
                format!(
                    "{id} ({}) is {} at the API, and should be {wanted:?}",
                    there.spec.name,
                    there.state()
                )
            })?;
        }
        let rows = machines.iter().filter(|(machine, _)| is_present(machine)).count();
        let there = self.api.present().count();
        ensure(rows == there, || format!("{rows} rows of Machines, {there} Machines"))
    }

    fn count_endings(&mut self) {
        for job in self.ledger.jobs() {
            self.trace.count(match job.state {
                JobState::Ended { how: Ending::Completed { .. }, .. } => "jobs completed",
                JobState::Ended { how: Ending::Cancelled, .. } => "jobs cancelled",
                _ => "jobs discarded",
            });
            let discarded = matches!(job.state, JobState::Ended { how: Ending::Discarded, .. });
            match job.failure.as_ref().map(|failure| &failure.cause) {
                Some(Cause::Expired) if discarded => self.trace.count("jobs that expired"),
                Some(Cause::Exit | Cause::Trap) if discarded && job.spent < job.retry.max_attempts => {
                    self.trace.count("jobs that were not tried again");
                }
                _ => {}
            }
            if job.module.as_str() == POISON
                && matches!(job.state, JobState::Ended { how: Ending::Discarded, .. })
            {
                self.trace.count("poison that was found");
            }
        }
        for _ in 0..self.ledger.lost_machines() {
            self.trace.count("jobs that lost Machines");
        }
        for _ in 0..self.ledger.cleared() {
            self.trace.count("suspects that were cleared");
        }
        for _ in 0..self.ledger.gave_way.len() {
            self.trace.count("Machines that gave way");
        }
        for _ in 0..self.api.made() {
            self.trace.count("Machines made");
        }
    }
}
