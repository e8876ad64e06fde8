//! The world of one run: virtual time, an agenda, and everything that happens on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use midge_machines::SeenExit;
use midge_protocol::exchange::{Answer, AttemptRef, Outcome, Request};
use midge_protocol::manifest::{QueuePolicy, ScheduleEntry};
use midge_protocol::{BatchId, BootId, JobId, MachineId, QueueName, ScheduleName, Timestamp};
use midge_server::exchange::Denied;
use midge_server::{Catalog, Retention};

use super::after::Asked;
use super::api::Api;
use super::batches::AskedBatch;
use super::calls::{Answered, Call, Calls};
use super::chance::{Chance, Faults};
use super::clock::SimClock;
use super::deletes;
use super::faults::{Fault, Remembered};
use super::host::{Host, Key};
use super::ledger::{Broken, Ledger};
use super::messages::Sender;
use super::people::{Paused, draw_max_machines, draw_policies};
use super::schedules;
use super::server::{MadeOf, Server};
use super::store::FlakyStore;
use super::trace::{STEPS, Summary, Trace, Violation};

/// When a run begins. Not 0, so that nothing is mistaken for "never", however far the clock is put back.
const BEGIN: Timestamp = Timestamp::from_millis(1_000_000_000);

/// Something that will happen.
pub(super) enum Event {
    Enqueue(Box<Asked>),
    Ask { job: JobId, retry: bool },
    Pause(Paused),
    Resume(Paused),
    Drain,
    ChangeSettings,
    Sweep,
    SweepStep { epoch: u64 },
    Delete { job: JobId },
    Prune { epoch: u64 },
    MakeBatch(Box<AskedBatch>),
    AskBatch { id: BatchId, cancel: bool },
    Deploy,
    PauseSchedule { name: ScheduleName, pause: bool },
    SchedulesEnd,
    Crash,
    ClockIsSet,
    ServerStarts,
    Round { epoch: u64, round: u64 },
    ActBegins { epoch: u64, act: u64 },
    Called { call: u64, epoch: u64, what: Call, back: Option<Duration> },
    Answered { call: u64, epoch: u64, answer: Answered },
    MachineRests { id: MachineId },
    MachineBoots { id: MachineId, run: u32 },
    MachineEnds { id: MachineId, run: u32, exit: SeenExit },
    MachineSleeps { id: MachineId, run: u32 },
    MachineWakes { id: MachineId, run: u32 },
    MachineToldToStop { id: MachineId, run: u32 },
    MachineCutOff { id: MachineId, run: u32 },
    GuestEnds { id: MachineId, boot: BootId, key: Key, outcome: Outcome },
    GuestCrashes { id: MachineId, boot: BootId, key: Key, out_of_memory: bool },
    GuestSpeaks { id: MachineId, boot: BootId, attempt: AttemptRef },
    HostTimer { id: MachineId, boot: BootId, timer: u64 },
    RequestFails { id: MachineId, boot: BootId, seq: u64, at_once: bool },
    Request { sender: Sender, request: Request },
    ParkedLooks { epoch: u64, parked: u64, slept: bool },
    Answer { id: MachineId, boot: BootId, seq: u64, answer: Result<Answer, Denied> },
    FaultsStop,
}

/// What will happen, in order: by time, then in the order in which it was put there.
#[derive(Default)]
pub(super) struct Agenda {
    events: BTreeMap<(Timestamp, u64), Event>,
    count: u64,
}

impl Agenda {
    pub(super) fn after(&mut self, now: Timestamp, wait: Duration, event: Event) {
        self.count += 1;
        self.events.insert((now.after(wait), self.count), event);
    }

    fn next(&mut self) -> Option<(Timestamp, Event)> {
        self.events.pop_first().map(|((at, _), event)| (at, event))
    }
}

/// Everything there is in a run.
pub(super) struct World {
    seed: u64,
    /// What is wrong with the server.
    pub(super) fault: Option<Fault>,
    pub(super) remembered: Remembered,
    pub(super) now: Timestamp,
    pub(super) clock: Arc<SimClock>,
    pub(super) agenda: Agenda,
    pub(super) chance: Chance,
    pub(super) faults: Faults,
    pub(super) policies: BTreeMap<QueueName, QueuePolicy>,
    /// How often settings of queues were changed while a server ran.
    pub(super) settings_changed: u64,
    pub(super) schedules: BTreeMap<ScheduleName, ScheduleEntry>,
    /// The most Machines of all queues together. The next life of the server may have another number.
    pub(super) max_machines: u32,
    /// Whether faults have stopped.
    pub(super) quiet: bool,
    pub(super) trace: Trace,
    pub(super) store: Arc<FlakyStore>,
    pub(super) calls: Arc<Calls>,
    pub(super) api: Api,
    pub(super) hosts: BTreeMap<MachineId, Host>,
    pub(super) server: Option<Server>,
    /// Which life of the server this is: what an earlier one waited for is void.
    pub(super) epoch: u64,
    pub(super) generation: u64,
    /// What is deployed, as it was made last.
    pub(super) catalog_made: Option<(MadeOf, Arc<Catalog>)>,
    /// How long ended jobs are kept, where their queue does not say.
    pub(super) retention: Retention,
    pub(super) ledger: Ledger,
}

impl World {
    pub(super) fn new(seed: u64, fault: Option<Fault>) -> World {
        let mut chance = Chance::new(seed);
        let faults = Faults::draw(&mut chance);
        let policies = draw_policies(&mut chance);
        let max_machines = draw_max_machines(&mut chance);
        let queues: Vec<QueueName> = policies.keys().cloned().collect();
        World {
            schedules: schedules::draw(&mut chance, &queues),
            fault,
            remembered: Remembered::default(),
            max_machines,
            seed,
            now: BEGIN,
            clock: Arc::new(SimClock::new(BEGIN)),
            agenda: Agenda::default(),
            faults,
            policies,
            settings_changed: 0,
            quiet: false,
            trace: Trace::default(),
            store: Arc::new(FlakyStore::new(chance.number())),
            calls: Arc::default(),
            api: Api::default(),
            hosts: BTreeMap::new(),
            server: None,
            epoch: 0,
            generation: 1,
            catalog_made: None,
            retention: deletes::draw_retention(&mut chance),
            ledger: Ledger::default(),
            chance,
        }
    }

    /// Puts something on the agenda.
    pub(super) fn after(&mut self, wait: Duration, event: Event) {
        self.agenda.after(self.now, wait, event);
    }

    /// Runs to the end.
    pub(super) fn run(mut self) -> Result<Summary, Violation> {
        let outcome = self.run_phases();
        match outcome {
            Ok(()) => Ok(self.trace.summary()),
            Err(Broken(broken)) => Err(self.trace.violation(self.seed, broken)),
        }
    }

    fn run_phases(&mut self) -> Result<(), Broken> {
        self.trace.say(self.now, format_args!("{:?}", self.faults));
        self.store.set_fails(self.faults.store_fails);
        let faulty = self.chance.millis(20_000, 300_000);
        self.after(Duration::ZERO, Event::ServerStarts);
        self.plan_people(faulty);
        self.plan_sweeps(faulty);
        self.plan_settings(faulty.as_millis() as u64);
        self.plan_clock(faulty.as_millis() as u64);
        self.plan_schedule_pauses(faulty.as_millis() as u64);
        self.after(faulty, Event::FaultsStop);
        let ends = faulty + self.chance.millis(0, 60_000);
        self.after(ends, Event::SchedulesEnd);
        while !self.quiet {
            self.step()?;
        }
        self.finale()
    }

    /// Lets the next thing happen.
    pub(super) fn step(&mut self) -> Result<(), Broken> {
        let (at, event) = self.agenda.next().ok_or(Broken("nothing will ever happen again".to_owned()))?;
        self.now = at;
        self.clock.goes_on(at);
        self.trace.count(STEPS);
        self.happens(event)?;
        self.check()
    }

    fn happens(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Enqueue(new) => return self.enqueue(*new),
            Event::Ask { job, retry } => return self.ask_of_job(job, retry),
            Event::Pause(what) => return self.pause(what),
            Event::Resume(what) => return self.resume(what),
            Event::Drain => return self.drain_a_machine(),
            Event::ChangeSettings if self.quiet => {}
            Event::ChangeSettings => self.change_settings(),
            Event::Sweep => return self.sweep(),
            Event::SweepStep { epoch } => return self.sweep_step(epoch),
            Event::Delete { job } => return self.delete(job),
            Event::Prune { epoch } => return self.prune(epoch),
            Event::MakeBatch(asked) => return self.make_batch(*asked),
            Event::AskBatch { id, cancel } => return self.ask_of_batch(id, cancel),
            Event::Deploy => self.deploy(),
            Event::PauseSchedule { name, pause } => return self.pause_schedule(name, pause),
            Event::SchedulesEnd => self.schedules_end(),
            Event::Crash => self.server_crashes(),
            Event::ClockIsSet => self.clock_is_set(),
            Event::ServerStarts => self.server_starts(),
            Event::Round { epoch, round } => return self.round_begins(epoch, round),
            Event::ActBegins { epoch, act } => return self.act_begins(epoch, act),
            Event::Called { call, epoch, what, back } => return self.called(call, epoch, what, back),
            Event::Answered { call, epoch, answer } => {
                if epoch == self.epoch {
                    self.calls.answer(call, answer);
                    return self.poll_server();
                }
            }
            Event::MachineRests { id } => self.machine_rests(&id),
            Event::MachineBoots { id, run } => return self.machine_boots(&id, run),
            Event::MachineEnds { id, run, exit } => return self.machine_ends(&id, run, exit),
            Event::MachineSleeps { id, run } => self.machine_sleeps(&id, run),
            Event::MachineWakes { id, run } => return self.machine_wakes(&id, run),
            Event::MachineToldToStop { id, run } => return self.told_to_stop(&id, run),
            Event::MachineCutOff { id, run } => self.cut_off(&id, run),
            Event::GuestEnds { id, boot, key, outcome } => return self.guest_ends(&id, boot, key, outcome),
            Event::GuestCrashes { id, boot, key, out_of_memory } => {
                return self.guest_crashes(&id, boot, key, out_of_memory);
            }
            Event::GuestSpeaks { id, boot, attempt } => return self.guest_speaks(&id, boot, attempt),
            Event::HostTimer { id, boot, timer } => return self.host_timer(&id, boot, timer),
            Event::RequestFails { id, boot, seq, at_once } => {
                return self.request_fails(&id, boot, seq, at_once);
            }
            Event::Request { sender, request } => return self.requested(sender, request),
            Event::ParkedLooks { epoch, parked, slept } => return self.parked_looks(epoch, parked, slept),
            Event::Answer { id, boot, seq, answer } => return self.answered(&id, boot, seq, answer),
            Event::FaultsStop => {
                self.trace.say(self.now, format_args!("faults stop"));
                self.faults = Faults::none();
                self.store.set_fails(0);
                self.unset_ages();
                self.quiet = true;
            }
        }
        Ok(())
    }
}
