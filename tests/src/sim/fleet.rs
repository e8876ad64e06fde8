//! What the Machines API does with calls, and what Machines do by themselves.

use std::time::Duration;

use midge_machines::{Launch, MachineError, SeenExit, SeenState};
use midge_protocol::{BootId, MachineId, Timestamp};

use super::calls::{Answered, Call, Reply};
use super::host::{Host, Key};
use super::ledger::Broken;
use super::world::{Event, World};

/// The API sometimes denies a Machine that is not older than this.
const NEW: Duration = Duration::from_secs(2);

/// What becomes of a call.
enum Fate {
    /// It is done, and answered.
    Done,
    /// It is refused.
    Refused(MachineError),
    /// It never arrives.
    Lost,
    /// It is done, and nobody hears of it.
    Unanswered,
}

/// How a Machine's program ends.
pub(super) fn exit(code: i32, requested_stop: bool) -> SeenExit {
    SeenExit { code: Some(code), signal: None, oom_killed: false, requested_stop, error: None, at: None }
}

impl World {
    /// Sends off what the server called.
    pub(super) fn send_calls(&mut self) {
        for (id, call) in self.calls.take() {
            self.check_suspend(&call);
            let there = self.call_delay();
            let back = self.call_delay();
            let (arrives, answered) = match self.fate(&call) {
                Fate::Done => (true, None),
                Fate::Refused(error) => {
                    self.trace.say(self.now, format_args!("api refuses call {id}, {call:?}: {error}"));
                    (false, Some((there + back, error)))
                }
                Fate::Lost => (false, Some((call.timeout(), given_up(&call)))),
                Fate::Unanswered => (true, Some((call.timeout(), given_up(&call)))),
            };
            // What nobody waits for any more may be done late.
            let late = answered.is_some() && self.chance.below(2) == 0;
            let there = if late { self.chance.millis(1_000, 100_000) } else { there };
            let own = answered.is_none();
            if let Some((after, error)) = answered {
                self.after(after, Event::Answered { call: id, epoch: self.epoch, answer: Err(error) });
            }
            if arrives {
                let back = own.then_some(back);
                self.after(there, Event::Called { call: id, epoch: self.epoch, what: call, back });
            }
        }
    }

    fn call_delay(&mut self) -> Duration {
        if self.chance.permille(self.faults.call_late) {
            // Both ways together are within the client's patience.
            self.chance.millis(1_000, 14_000)
        } else {
            self.chance.millis(1, 100)
        }
    }

    fn fate(&mut self, call: &Call) -> Fate {
        if self.chance.permille(self.faults.call_refused) {
            let retry_after = (self.chance.below(2) == 0).then(|| self.chance.millis(0, 5_000));
            return Fate::Refused(match (self.chance.below(4), call) {
                (0, Call::Create(..) | Call::Start(_)) => MachineError::NoCapacity("no room".to_owned()),
                (1, _) => MachineError::RateLimited { retry_after },
                (2, Call::Create(..)) => MachineError::LimitReached("too many".to_owned()),
                (2, Call::Start(_) | Call::Suspend(_) | Call::Destroy(_)) => {
                    MachineError::NotReady("not yet".to_owned())
                }
                (3, Call::Suspend(_)) => MachineError::Invalid("it has swap".to_owned()),
                _ => MachineError::Unavailable("out of order".into()),
            });
        }
        if self.chance.permille(self.faults.call_lost) {
            return if self.chance.below(2) == 0 { Fate::Lost } else { Fate::Unanswered };
        }
        Fate::Done
    }

    /// A call arrives: the API does it, and answers after `back`, if at all.
    pub(super) fn called(
        &mut self,
        id: u64,
        epoch: u64,
        call: Call,
        back: Option<Duration>,
    ) -> Result<(), Broken> {
        if call.changes_something() {
            let shown = match &call {
                Call::Create(spec, launch) => format!("create {} {launch:?}", spec.name),
                other => format!("{other:?}"),
            };
            self.trace.say(self.now, format_args!("api does {shown}"));
        }
        let answer = self.perform(call)?;
        if let Some(back) = back {
            self.after(back, Event::Answered { call: id, epoch, answer });
        }
        Ok(())
    }

    fn perform(&mut self, call: Call) -> Result<Answered, Broken> {
        Ok(match call {
            Call::Create(spec, launch) => {
                let (id, new) = self.api.make(*spec, self.now);
                if new && launch == Launch::Now {
                    self.starts(&id);
                } else if new {
                    let made = self.chance.millis(500, 5_000);
                    self.after(made, Event::MachineRests { id: id.clone() });
                }
                Ok(Reply::Made(id))
            }
            Call::Start(id) => match self.api.get(&id).map(|machine| machine.state().clone()) {
                None => Err(MachineError::Gone(id)),
                Some(SeenState::Starting | SeenState::Started) => Ok(Reply::Done),
                Some(SeenState::Stopped) => {
                    self.starts(&id);
                    Ok(Reply::Done)
                }
                Some(SeenState::Suspending | SeenState::Suspended) => {
                    self.resumes(&id);
                    Ok(Reply::Done)
                }
                Some(other) => Err(MachineError::NotReady(other.to_string())),
            },
            Call::Stop(id) => match self.api.get(&id).map(|machine| machine.run) {
                None => Err(MachineError::Gone(id)),
                Some(run) => {
                    self.told_to_stop(&id, run)?;
                    Ok(Reply::Done)
                }
            },
            Call::Suspend(id) => {
                match self.api.get(&id).map(|machine| (machine.state().clone(), machine.run)) {
                    None => Err(MachineError::Gone(id)),
                    Some((SeenState::Suspending | SeenState::Suspended, _)) => Ok(Reply::Done),
                    Some((SeenState::Started, run)) => {
                        self.suspends(&id, run);
                        Ok(Reply::Done)
                    }
                    Some((other, _)) => Err(MachineError::NotReady(other.to_string())),
                }
            }
            Call::Destroy(id) => {
                if let Some(machine) = self.api.get(&id) {
                    machine.becomes(SeenState::Destroyed, None, self.now);
                    self.hosts.remove(&id);
                }
                Ok(Reply::Done)
            }
            Call::Get(id) => {
                let seen = self.api.seen(&id, self.now);
                let new =
                    seen.as_ref().and_then(|seen| seen.created_at).is_some_and(|at| self.now.since(at) < NEW);
                match seen {
                    Some(_) if new && self.chance.permille(self.faults.sight_wrong) => {
                        Err(MachineError::Gone(id))
                    }
                    Some(seen) => Ok(Reply::Seen(seen)),
                    None => Err(MachineError::Gone(id)),
                }
            }
            Call::List(label) => {
                let lag = self.chance.below(self.faults.list_lag_ms + 1) as i64;
                let mut list = self.api.list(&label, Timestamp::from_millis(self.now.as_millis() - lag));
                for seen in &mut list {
                    seen.reachable = !self.chance.permille(self.faults.sight_wrong);
                }
                Ok(Reply::List(list))
            }
        })
    }

    pub(super) fn starts(&mut self, id: &MachineId) {
        let boots = self.chance.millis(100, 4_000);
        self.machine_was_started();
        let now = self.now;
        let Some(machine) = self.api.get(id) else { return };
        machine.run += 1;
        machine.becomes(SeenState::Starting, None, now);
        let run = machine.run;
        self.after(boots, Event::MachineBoots { id: id.clone(), run });
    }

    /// A Machine that was made ahead is ready.
    pub(super) fn machine_rests(&mut self, id: &MachineId) {
        let now = self.now;
        if let Some(machine) = self.api.get(id).filter(|machine| *machine.state() == SeenState::Created) {
            machine.becomes(SeenState::Stopped, None, now);
        }
    }

    /// A Machine's program begins, or fails to.
    pub(super) fn machine_boots(&mut self, id: &MachineId, run: u32) -> Result<(), Broken> {
        let now = self.now;
        let fails = self.chance.permille(self.faults.boot_fails);
        let hangs = fails && self.chance.below(3) == 0;
        let dies = self.chance.permille(self.faults.machine_dies);
        let told = self.chance.permille(self.faults.machine_told_to_stop);
        let cut_off = self.chance.permille(self.faults.machine_cut_off);
        let (boot, lasts) = (BootId(self.chance.number()), self.chance.millis(0, 60_000));
        let Some(machine) = self.api.in_run(id, run) else { return Ok(()) };
        machine.becomes(SeenState::Started, None, now);
        let env = machine.spec.env.clone();
        self.trace.say(now, format_args!("{id} boots {boot:?} run {run} fails={fails} hangs={hangs}"));
        if hangs {
            return Ok(());
        }
        if fails {
            return self.machine_ends(id, run, exit(1, false));
        }
        let host = Host::new(&env, boot, run, now).map_err(Broken)?;
        self.hosts.insert(id.clone(), host);
        if dies {
            // No job's doing: a crash is always the work of a guest here.
            let code = [0, 4, 137][self.chance.below(3) as usize];
            self.after(lasts, Event::MachineEnds { id: id.clone(), run, exit: exit(code, false) });
        }
        if told {
            self.after(lasts, Event::MachineToldToStop { id: id.clone(), run });
        }
        if cut_off {
            self.after(lasts, Event::MachineCutOff { id: id.clone(), run });
        }
        self.host_acts(id)
    }

    /// A guest takes its Machine down: by a crash of the host, or by all of its memory. One that was stopped meanwhile does
    /// no harm.
    pub(super) fn guest_crashes(
        &mut self,
        id: &MachineId,
        boot: BootId,
        key: Key,
        out_of_memory: bool,
    ) -> Result<(), Broken> {
        if self.is_put_off(id, boot, || Event::GuestCrashes { id: id.clone(), boot, key, out_of_memory }) {
            return Ok(());
        }
        let Some(host) = self.hosts.get(id).filter(|host| host.boot == boot && host.runs(key)) else {
            return Ok(());
        };
        let run = host.run;
        self.trace.count("crashes by guests");
        self.ledger.crashed(key.job);
        let exit =
            SeenExit { oom_killed: out_of_memory, ..exit(if out_of_memory { 137 } else { 139 }, false) };
        self.machine_ends(id, run, exit)
    }

    /// A Machine's program ends, whyever.
    pub(super) fn machine_ends(&mut self, id: &MachineId, run: u32, exit: SeenExit) -> Result<(), Broken> {
        let now = self.now;
        let Some(machine) = self.api.in_run(id, run) else { return Ok(()) };
        if !matches!(machine.state(), SeenState::Starting | SeenState::Started | SeenState::Suspending) {
            return Ok(());
        }
        self.trace
            .say(now, format_args!("{id} stops with {:?}, asked to: {}", exit.code, exit.requested_stop));
        self.trace.count("Machines that stopped");
        machine.becomes(SeenState::Stopped, Some(exit), now);
        self.hosts.remove(id);
        Ok(())
    }

    /// A Machine's program gets SIGTERM, and is ended where it has not gone after 30 seconds.
    pub(super) fn told_to_stop(&mut self, id: &MachineId, run: u32) -> Result<(), Broken> {
        if self.api.in_run(id, run).is_none() {
            return Ok(());
        }
        let killed = Event::MachineEnds { id: id.clone(), run, exit: exit(137, true) };
        self.after(Duration::from_secs(30), killed);
        // What its settings say.
        let grace = if self.chance.below(2) == 0 { Duration::ZERO } else { self.chance.millis(0, 20_000) };
        let now = self.now;
        let Some(host) = self.hosts.get_mut(id) else { return Ok(()) };
        self.trace.say(now, format_args!("{id} is told to stop"));
        self.trace.count("hosts told to stop");
        host.stopping = true;
        host.side.stop(grace, now);
        self.host_acts(id)
    }

    /// Nothing from and to a Machine arrives for a while.
    pub(super) fn cut_off(&mut self, id: &MachineId, run: u32) {
        let lasts = self.chance.millis(1_000, 90_000);
        if let Some(host) = self.hosts.get_mut(id).filter(|host| host.run == run) {
            self.trace.say(self.now, format_args!("{id} is cut off for {} ms", lasts.as_millis()));
            self.trace.count("hosts cut off");
            host.cut_off_until = self.now.after(lasts);
        }
    }
}

fn given_up(call: &Call) -> MachineError {
    match call {
        Call::Create(spec, _) => {
            MachineError::Ambiguous { name: spec.name.clone(), source: "no answer".into() }
        }
        _ => MachineError::Unavailable("no answer".into()),
    }
}
