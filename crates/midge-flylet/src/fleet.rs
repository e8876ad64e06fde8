//! All Machines of a flylet: makes them, finds them, and forgets the oldest that are gone.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use midge_machines::SeenState;
use midge_machines::wire::{self, CreateRequest, MachineConfig, StopConfig, go_duration};
use midge_protocol::{MachineId, Secret};
use rustix::process::Signal;
use tokio::sync::{mpsc, watch};

use crate::chance;
use crate::machine::{Birth, Machine};
use crate::order::StopOrder;
use crate::process::Program;
use crate::refusal::Refusal;
use crate::settings::FlyletSettings;
use crate::supervise::{Life, supervise};

/// The one region there is.
const REGION: &str = "local";
/// Destroyed Machines that can still be looked at.
const BURIED_MAX: usize = 1000;
/// What Fly's init gives a program.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where the leash is: hosts leave when they read its end.
const LEASH: (&str, &str) = ("MIDGE_LEASH_FD", "0");
/// Fly's smallest.
const MEMORY_MIB_DEFAULT: u32 = 256;
/// Fly's own, for configs that name none.
const STOP_SIGNAL_DEFAULT: Signal = Signal::INT;
const STOP_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
const STOP_TIMEOUT_MAX: Duration = Duration::from_secs(300);
/// A DNS label's, since names become part of addresses.
const NAME_BYTES_MAX: usize = 63;

/// All Machines.
#[derive(Debug)]
pub(crate) struct Fleet {
    settings: FlyletSettings,
    pub(crate) token: Secret,
    pub(crate) halted: watch::Receiver<bool>,
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
}

impl Fleet {
    pub(crate) fn new(
        settings: FlyletSettings,
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
        };
        Fleet { settings, token, halted, ip, registry: Mutex::new(registry) }
    }

    pub(crate) fn app(&self) -> &str {
        &self.settings.app
    }

    pub(crate) fn get(&self, id: &MachineId) -> Option<Arc<Machine>> {
        self.registry().machines.get(id).cloned()
    }

    /// Makes a Machine and returns it as it is at that moment.
    pub(crate) fn create(self: &Arc<Fleet>, request: CreateRequest) -> Result<wire::Machine, Refusal> {
        self.check(&request)?;
        let mut registry = self.registry();
        let Some(alive) = registry.supervisor.clone() else { return Err(Refusal::closing()) };
        let id = registry.free_id();
        let name = request.name.filter(|name| !name.is_empty()).unwrap_or_else(|| format!("local-{id}"));
        if let Some(other) = registry.names.get(&name) {
            return Err(Refusal::name_taken(&name, other));
        }
        if registry.names.len() >= self.settings.machines_max {
            return Err(Refusal::machine_limit());
        }
        let machine = Arc::new(Machine::new(Birth {
            id: id.clone(),
            name: name.clone(),
            region: REGION.to_owned(),
            private_ip: self.ip.to_string(),
            config: request.config,
        }));
        registry.names.insert(name, id.clone());
        registry.machines.insert(id, Arc::clone(&machine));
        let shown = machine.shown();
        // Its owner is the flylet, which halts it and waits for its end of the channel.
        tokio::spawn(Arc::clone(self).live(machine, !request.skip_launch, alive));
        Ok(shown)
    }

    /// Lives a Machine's life. `alive` is dropped at its end.
    async fn live(self: Arc<Fleet>, machine: Arc<Machine>, launch: bool, alive: mpsc::Sender<()>) {
        let FlyletSettings { create_delay, start_delay, .. } = self.settings;
        let life = Life { program: self.program(&machine), launch, create_delay, start_delay };
        supervise(&machine, life, self.halted.clone()).await;
        self.bury(&machine);
        drop(alive);
    }

    /// Refuses what could not become a process, or would not be done here as it is on Fly.
    fn check(&self, request: &CreateRequest) -> Result<(), Refusal> {
        let config = &request.config;
        if config.image.is_empty() {
            return Err(Refusal::invalid("config.image is missing"));
        }
        let name = request.name.as_deref().unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.len() > NAME_BYTES_MAX || !name.chars().all(plain) {
            return Err(Refusal::invalid(format_args!("`{name}` is not a name")));
        }
        let policy = config.restart.as_ref().map_or("on-failure", |restart| restart.policy.as_str());
        if policy != "no" {
            return Err(Refusal::invalid(format_args!(
                "flylet starts no Machine again by itself: say \"no\" for config.restart.policy, not \"{policy}\""
            )));
        }
        let command = self.command(config);
        if command.is_empty() {
            return Err(Refusal::invalid("no program: say it in config.init.exec"));
        }
        if command.iter().any(|part| part.contains('\0')) {
            return Err(Refusal::invalid("the program's command holds a zero byte"));
        }
        // A Machine has a folder of its own, in which it would be looked for.
        if command[0].contains('/') && !command[0].starts_with('/') {
            return Err(Refusal::invalid(format_args!(
                "`{}` is a relative path: name the program by its absolute one",
                command[0].escape_debug()
            )));
        }
        let bad = |(key, value): &(&String, &String)| {
            key.is_empty() || key.contains(['=', '\0']) || value.contains('\0')
        };
        if let Some((key, _)) = config.env.iter().find(bad) {
            return Err(Refusal::invalid(format_args!("env `{}` cannot be set", key.escape_debug())));
        }
        self.stop_order(&StopConfig::default(), config).map(drop)
    }

    /// Returns how to stop a Machine: as asked, else as its config says, else as Fly does.
    pub(crate) fn stop_order(
        &self,
        asked: &StopConfig,
        config: &MachineConfig,
    ) -> Result<StopOrder, Refusal> {
        let declared = config.stop_config.as_ref();
        let name = asked.signal.as_ref().or_else(|| declared?.signal.as_ref());
        let timeout = asked.timeout.as_ref().or_else(|| declared?.timeout.as_ref());
        let signal = match name {
            Some(name) => signal_of(name).ok_or_else(|| {
                Refusal::invalid(format_args!("`{name}` is not a signal to stop a Machine with"))
            })?,
            None => STOP_SIGNAL_DEFAULT,
        };
        let timeout = match timeout {
            Some(value) => go_duration(value)
                .filter(|timeout| *timeout <= STOP_TIMEOUT_MAX)
                .ok_or_else(|| Refusal::invalid(format_args!("{value} is not a timeout of at most 300s")))?,
            None => STOP_TIMEOUT_DEFAULT,
        };
        Ok(StopOrder { signal, timeout })
    }

    /// Returns a page of Machines by id, and whether there are more.
    pub(crate) fn list(&self, filter: &Filter) -> (Vec<wire::Machine>, bool) {
        let registry = self.registry();
        let after = |id: &MachineId| filter.cursor.as_ref().is_none_or(|cursor| id > cursor);
        let mut found =
            registry.machines.values().filter(|machine| after(&machine.id) && filter.holds(machine));
        let limit = filter.limit.unwrap_or(usize::MAX);
        let page = found.by_ref().take(limit).map(|machine| machine.shown()).collect();
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

    /// Makes no more Machines.
    pub(crate) fn close(&self) {
        self.registry().supervisor = None;
    }

    /// Returns what a Machine runs, with the env that it has on Fly, and nothing of flylet's own.
    fn program<'a>(&'a self, machine: &'a Machine) -> Program<'a> {
        let config = &machine.config;
        let memory_mib = config.guest.as_ref().map_or(MEMORY_MIB_DEFAULT, |guest| guest.memory_mb);
        let platform = [
            ("FLY_APP_NAME", self.app().to_owned()),
            ("FLY_MACHINE_ID", machine.id.to_string()),
            ("FLY_ALLOC_ID", machine.id.to_string()),
            ("FLY_MACHINE_VERSION", machine.version.clone()),
            ("FLY_REGION", machine.region.clone()),
            ("FLY_IMAGE_REF", config.image.clone()),
            ("FLY_PRIVATE_IP", machine.private_ip.clone()),
            ("FLY_VM_MEMORY_MB", memory_mib.to_string()),
            (LEASH.0, LEASH.1.to_owned()),
        ];
        let own = |(key, value): (&str, String)| (key.to_owned(), value);
        let work_dir = &self.settings.work_dir;
        let basics = [("PATH", PATH.to_owned()), ("HOME", work_dir.display().to_string())];
        let mut env = BTreeMap::from(basics.map(own));
        env.extend(self.settings.image_env.clone());
        env.extend(config.env.clone());
        env.extend(platform.map(own));
        Program { command: self.command(config), env, work_dir }
    }

    fn command<'a>(&'a self, config: &'a MachineConfig) -> std::borrow::Cow<'a, [String]> {
        let init = &config.init;
        match (&init.exec, &init.entrypoint, &init.cmd) {
            (Some(exec), _, _) if !exec.is_empty() => exec.into(),
            (_, None, None) => self.settings.image_command.as_slice().into(),
            (_, entrypoint, cmd) => {
                let parts = [entrypoint, cmd].into_iter().flatten();
                parts.flatten().cloned().collect::<Vec<String>>().into()
            }
        }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
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
    fn holds(&self, machine: &Machine) -> bool {
        let state = machine.state();
        let labelled = |(key, value): &(String, String)| machine.config.metadata.get(key) == Some(value);
        (self.include_deleted || state != SeenState::Destroyed)
            && (self.states.is_empty() || self.states.contains(&state))
            && self.region.as_ref().is_none_or(|region| *region == machine.region)
            && self.labels.iter().all(labelled)
    }
}

fn signal_of(name: &str) -> Option<Signal> {
    Some(match name.strip_prefix("SIG").unwrap_or(name) {
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "QUIT" => Signal::QUIT,
        "KILL" => Signal::KILL,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        "TERM" => Signal::TERM,
        _ => return None,
    })
}
