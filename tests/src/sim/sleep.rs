//! Machines that are suspended, and go on: their hosts stand still meanwhile, whatever was under way.

use std::time::Duration;

use midge_core::MachineState;
use midge_machines::SeenState;
use midge_protocol::{BootId, MachineId};

use super::calls::Call;
use super::ledger::{Broken, ensure};
use super::world::{Event, World};

/// Starts of Machines beside what they are for.
#[derive(Default)]
pub(super) struct Starts {
    machines: u64,
    attempts: u64,
}

/// Each attempt may have taken so many starts, and each run so many that nothing came of: a Machine is started for a job that another
/// one takes, and warm ones come after a deploy.
const STARTS_EACH: u64 = 2;
const STARTS_IN_VAIN: u64 = 24;

impl World {
    /// Takes note that a Machine was started.
    pub(super) fn machine_was_started(&mut self) {
        self.ledger.quiet_starts.machines += u64::from(self.quiet);
    }

    /// Takes note that an attempt began.
    pub(super) fn attempt_began(&mut self) {
        self.ledger.quiet_starts.attempts += u64::from(self.quiet);
    }

    /// Nothing swings to and fro: Machines are started for jobs.
    pub(super) fn check_starts(&self) -> Result<(), Broken> {
        let Starts { machines, attempts } = &self.ledger.quiet_starts;
        ensure(*machines <= attempts * STARTS_EACH + STARTS_IN_VAIN, || {
            format!("Machines were started {machines} times for {attempts} attempts since faults stopped")
        })
    }

    /// The server has only Machines suspended that it gives nothing to, and that run nothing.
    pub(super) fn check_suspend(&mut self, call: &Call) {
        let Call::Suspend(id) = call else { return };
        let machines = self.store.look(|rows| rows.machines());
        let busy = machines.into_iter().find(|(machine, running)| {
            machine.id.as_ref() == Some(id) && (machine.state == MachineState::Up || *running > 0)
        });
        self.ledger.suspended_in_use =
            self.ledger.suspended_in_use.take().or(busy.map(|(machine, _)| machine.name));
    }

    /// A Machine begins to be suspended.
    pub(super) fn suspends(&mut self, id: &MachineId, run: u32) {
        let (now, takes) = (self.now, self.chance.millis(100, 20_000));
        let Some(machine) = self.api.get(id) else { return };
        machine.becomes(SeenState::Suspending, None, now);
        self.after(takes, Event::MachineSleeps { id: id.clone(), run });
    }

    /// A Machine is suspended, unless it was started again before.
    pub(super) fn machine_sleeps(&mut self, id: &MachineId, run: u32) {
        let now = self.now;
        let suspending = |state: &SeenState| *state == SeenState::Suspending;
        let Some(machine) = self.api.in_run(id, run).filter(|machine| suspending(machine.state())) else {
            return;
        };
        machine.becomes(SeenState::Suspended, None, now);
        self.trace.say(now, format_args!("{id} is suspended"));
        self.trace.count("Machines suspended");
        if let Some(host) = self.hosts.get_mut(id) {
            host.asleep = true;
            if host.side.running() > 0 {
                self.trace.count("Machines suspended while jobs ran");
            }
        }
    }

    /// A Machine that was suspended is started.
    pub(super) fn resumes(&mut self, id: &MachineId) {
        let (now, takes) = (self.now, self.chance.millis(50, 2_000));
        self.machine_was_started();
        // What was written away may be lost: then it begins anew.
        if self.chance.permille(self.faults.boot_fails) {
            self.hosts.remove(id);
            return self.starts(id);
        }
        let Some(machine) = self.api.get(id) else { return };
        machine.becomes(SeenState::Starting, None, now);
        let run = machine.run;
        self.after(takes, Event::MachineWakes { id: id.clone(), run });
    }

    /// A Machine's program goes on where it was.
    pub(super) fn machine_wakes(&mut self, id: &MachineId, run: u32) -> Result<(), Broken> {
        let now = self.now;
        let starting = |state: &SeenState| *state == SeenState::Starting;
        let Some(machine) = self.api.in_run(id, run).filter(|machine| starting(machine.state())) else {
            return Ok(());
        };
        machine.becomes(SeenState::Started, None, now);
        self.trace.count("Machines resumed");
        let Some(host) = self.hosts.get_mut(id) else { return Ok(()) };
        host.asleep = false;
        self.host_acts(id)
    }

    /// Decides whether what is sent to a host that stands still reaches it when it goes on. A host that does not is asked nothing.
    pub(super) fn chance_of_sleeper(&mut self, id: &MachineId) -> bool {
        self.hosts.get(id).is_some_and(|host| host.asleep) && self.chance.below(4) != 0
    }

    /// Puts off what happens in a host that stands still. Returns whether it does.
    pub(super) fn is_put_off(&mut self, id: &MachineId, boot: BootId, event: impl FnOnce() -> Event) -> bool {
        let asleep = self.hosts.get(id).is_some_and(|host| host.boot == boot && host.asleep);
        if asleep {
            // It is looked at again after a while, until the host goes on.
            self.after(Duration::from_secs(1), event());
        }
        asleep
    }
}
