//! All Machines of a flylet: makes them, finds them, and forgets the oldest that are gone.

mod program;
mod room;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use midge_machines::SeenState;
use midge_machines::wire::{self, CreateRequest, StopConfig};
use midge_protocol::{MachineId, Secret};
use tokio::sync::{mpsc, watch};

use crate::chance;
use crate::draws::{Draw, Draws};
use crate::faults::{Fault, Faults};
use crate::latency::Way;
use crate::limits::Limits;
use crate::machine::{Birth, Machine, Update, View};
use crate::memory::KillCount;
use crate::order::{Death, Fate};
use crate::refusal::Refusal;
use crate::regions::{LOCAL, Region};
use crate::settings::FlyletSettings;
use crate::supervise::{Childhood, supervise};

pub(crate) use program::any_signal;
pub(crate) use room::Room;

/// Destroyed Machines that can still be looked at.
const BURIED_MAX: usize = 1000;

/// All Machines.
#[derive(Debug)]
pub(crate) struct Fleet {
    settings: FlyletSettings,
    pub(crate) token: Secret,
    pub(crate) halted: watch::Receiver<bool>,
    pub(crate) draws: Draws,
    pub(crate) limits: Limits,
    pub(crate) kill_count: KillCount,
    ip: IpAddr,
    registry: Mutex<Registry>,
}

#[derive(Debug)]
struct Registry {
    machines: BTreeMap<MachineId, Arc<Machine>>,
    /// Of those that are not destroyed.
    names: BTreeMap<String, MachineId>,
    /// Destroyed, the oldest first.
    buried: VecDeque<MachineId>,
    /// Each supervisor holds a clone. None once flylet shuts down: no more Machines.
    supervisor: Option<mpsc::Sender<()>>,
    /// Whether there is the app.
    has_app: bool,
}

/// Which Machines to list.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    pub(crate) include_deleted: bool,
    pub(crate) region: Option<String>,
    pub(crate) states: Vec<SeenState>,
    pub(crate) labels: Vec<(String, String)>,
    /// The last id of the page before.
    pub(crate) cursor: Option<MachineId>,
    pub(crate) limit: Option<usize>,
    pub(crate) view: View,
}

impl Fleet {
    pub(crate) fn new(
        mut settings: FlyletSettings,
        ip: IpAddr,
        token: Secret,
        halted: watch::Receiver<bool>,
        supervisor: mpsc::Sender<()>,
    ) -> Fleet {
        let registry = Registry {
            machines: BTreeMap::new(),
            names: BTreeMap::new(),
            buried: VecDeque::new(),
            supervisor: Some(supervisor),
            has_app: true,
        };
        if settings.regions.is_empty() {
            settings.regions.push(Region::new(LOCAL));
        }
        Fleet {
            draws: Draws::new(settings.seed),
            limits: Limits::new(settings.limits_calls, settings.speed),
            kill_count: KillCount::of_this_process(),
            settings,
            token,
            halted,
            ip,
            registry: Mutex::new(registry),
        }
    }

    pub(crate) fn app(&self) -> &str {
        &self.settings.app
    }

    pub(crate) fn faults(&self) -> &Faults {
        &self.settings.faults
    }

    pub(crate) fn regions(&self) -> &[Region] {
        &self.settings.regions
    }

    pub(crate) fn scaled(&self, time: Duration) -> Duration {
        self.settings.scaled(time)
    }

    pub(crate) fn get(&self, id: &MachineId) -> Option<Arc<Machine>> {
        self.registry().machines.get(id).cloned()
    }

    /// Makes a Machine and returns it as it is at that moment.
    pub(crate) fn create(
        self: &Arc<Fleet>,
        request: CreateRequest,
        fault: Option<Fault>,
    ) -> Result<wire::Machine, Refusal> {
        self.check_name(request.name.as_deref().unwrap_or_default())?;
        self.check(&request.config)?;
        let mut registry = self.registry();
        let Some(alive) = registry.supervisor.clone() else { return Err(Refusal::closing()) };
        // It may have been deleted since the gate let the call in.
        if !registry.has_app {
            return Err(Refusal::no_app());
        }
        let id = registry.free_id();
        let name = request.name.filter(|name| !name.is_empty()).unwrap_or_else(|| format!("local-{id}"));
        if let Some(other) = registry.names.get(&name) {
            return Err(Refusal::name_taken(&name, other));
        }
        if fault == Some(Fault::GoneName) {
            let gone = registry.buried.iter().rev().find(|id| registry.machines[*id].name == name);
            return Err(Refusal::name_taken(&name, gone.unwrap_or(&id)));
        }
        if registry.names.len() >= self.settings.machines_max {
            return Err(Refusal::machine_limit());
        }
        let region = self.place(&registry, request.region.as_deref(), &request.config)?;
        let machine = Arc::new(Machine::new(Birth {
            id: id.clone(),
            name: name.clone(),
            region,
            private_ip: self.ip.to_string(),
            skips_secrets: request.skip_secrets,
            config: request.config,
        }));
        let lease = match request.lease_ttl.filter(|seconds| *seconds != 0) {
            Some(seconds) => Some(machine.lease(None, self.app(), String::new(), seconds)?),
            None => None,
        };
        registry.names.insert(name.clone(), id.clone());
        registry.machines.insert(id, Arc::clone(&machine));
        drop(registry);
        let draw = self.draws.next(&format!("life of {name}"));
        let fate = self.fate(Way::Start, fault, &draw);
        let stuck = if fault == Some(Fault::StuckCreated) { self.faults().stuck_for } else { Duration::ZERO };
        let childhood = Childhood {
            delay: self.scaled(self.settings.latency.of(Way::Create, &draw) + stuck),
            launch: (!request.skip_launch).then_some(fate),
        };
        let shown = wire::Machine { nonce: lease.map(|lease| lease.nonce), ..machine.shown() };
        // Its owner is the flylet, which halts it and waits for its end of the channel.
        tokio::spawn(Arc::clone(self).live(machine, childhood, alive));
        Ok(shown)
    }

    /// Lives a Machine's life. `alive` is dropped at its end.
    async fn live(self: Arc<Fleet>, machine: Arc<Machine>, childhood: Childhood, alive: mpsc::Sender<()>) {
        supervise(&self, &machine, childhood, self.halted.clone()).await;
        self.bury(&machine);
        drop(alive);
    }

    /// Orders a start where its region has room, and returns the state before it.
    pub(crate) fn start(
        &self,
        machine: &Machine,
        nonce: Option<&str>,
        fault: Option<Fault>,
    ) -> Result<SeenState, Refusal> {
        let registry = self.registry();
        let room = self.room_of(&registry, machine);
        machine.start(nonce, &room, |way| self.next_fate(machine, way, fault))
    }

    /// Orders a restart, where the region of what is stopped has room.
    pub(crate) fn restart(
        &self,
        machine: &Machine,
        nonce: Option<&str>,
        asked: &StopConfig,
    ) -> Result<(), Refusal> {
        let order = self.stop_order(asked, &machine.config())?;
        let fate = self.next_fate(machine, Way::Start, None);
        let registry = self.registry();
        machine.restart(nonce, &self.room_of(&registry, machine), order, fate)
    }

    /// Gives a Machine a new config, where its region has room for what follows from that.
    pub(crate) fn update(
        &self,
        machine: &Machine,
        nonce: Option<&str>,
        request: CreateRequest,
        current_version: Option<String>,
    ) -> Result<(), Refusal> {
        self.check(&request.config)?;
        let stop = self.stop_order(&Default::default(), &machine.config())?;
        let update = Update {
            config: request.config,
            current_version,
            launch: !request.skip_launch,
            stop,
            fate: self.next_fate(machine, Way::Start, None),
        };
        let registry = self.registry();
        machine.update(nonce, &self.room_of(&registry, machine), update)
    }

    /// Returns what becomes of a Machine's next start.
    fn next_fate(&self, machine: &Machine, way: Way, fault: Option<Fault>) -> Fate {
        self.fate(way, fault, &self.draws.next(&format!("life of {}", machine.name)))
    }

    fn fate(&self, way: Way, fault: Option<Fault>, draw: &Draw) -> Fate {
        let stuck =
            if fault == Some(Fault::StuckStarting) { self.faults().stuck_for } else { Duration::ZERO };
        let death = match fault {
            Some(Fault::Dies) => Some(Death::Killed),
            Some(Fault::OutOfMemory) => Some(Death::OutOfMemory),
            _ => None,
        };
        let dies = death.map(|death| {
            let within = self.faults().dies_within.as_secs_f64() * draw.unit("death");
            (self.scaled(Duration::from_secs_f64(within)), death)
        });
        let delay = self.scaled(self.settings.latency.of(way, draw) + stuck);
        Fate { delay, launch_fails: fault == Some(Fault::LaunchFails), dies }
    }

    /// Returns a page of Machines by id, and whether there are more.
    pub(crate) fn list(&self, filter: &Filter) -> (Vec<wire::Machine>, bool) {
        let registry = self.registry();
        let after = |id: &MachineId| filter.cursor.as_ref().is_none_or(|cursor| id > cursor);
        let shown = registry.machines.values().filter(|machine| after(&machine.id));
        let mut found = shown
            .filter_map(|machine| machine.shown_as(filter.view).filter(|shown| filter.holds(machine, shown)));
        let limit = filter.limit.unwrap_or(usize::MAX);
        let page = found.by_ref().take(limit).collect();
        let more = found.next().is_some();
        (page, more)
    }

    /// Marks a Machine destroyed, frees its name, and forgets those that are gone for longest.
    fn bury(&self, machine: &Machine) {
        let mut registry = self.registry();
        registry.names.remove(&machine.name);
        // After its name is free: who waited for this may create the next one.
        machine.destroyed();
        registry.buried.push_back(machine.id.clone());
        if registry.buried.len() > BURIED_MAX
            && let Some(oldest) = registry.buried.pop_front()
        {
            registry.machines.remove(&oldest);
        }
    }

    /// Returns whether there is the app, and how many Machines it has.
    pub(crate) fn app_machines(&self) -> Option<usize> {
        let registry = self.registry();
        registry.has_app.then_some(registry.names.len())
    }

    /// Makes the app again. Returns whether it was not there.
    pub(crate) fn make_app(&self) -> bool {
        !std::mem::replace(&mut self.registry().has_app, true)
    }

    /// Ends the app with all its Machines.
    pub(crate) fn end_app(&self) {
        let mut registry = self.registry();
        registry.has_app = false;
        for id in registry.names.values() {
            registry.machines[id].destroy_with_app();
        }
    }

    /// Makes no more Machines.
    pub(crate) fn close(&self) {
        self.registry().supervisor = None;
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    /// Returns an id as Fly's are, that no Machine has or had lately.
    fn free_id(&self) -> MachineId {
        loop {
            let id = MachineId::new(chance::hex::<7>()).expect("hex digits make an id");
            if !self.machines.contains_key(&id) {
                return id;
            }
        }
    }
}

impl Filter {
    fn holds(&self, machine: &Machine, shown: &wire::Machine) -> bool {
        let state = SeenState::from_word(&shown.state);
        let config = machine.config();
        let labelled = |(key, value): &(String, String)| config.metadata.get(key) == Some(value);
        (self.include_deleted || state != SeenState::Destroyed)
            && (self.states.is_empty() || self.states.contains(&state))
            && self.region.as_ref().is_none_or(|region| *region == machine.region)
            && self.labels.iter().all(labelled)
    }
}
