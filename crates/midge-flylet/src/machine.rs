//! One Machine: its record, and how the API shows it.
//!
//! Invariant: no process here. What the API accepts becomes an order, which the Machine's supervisor carries out.

mod life;
mod moves;
mod reached;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use midge_machines::SeenState;
use midge_machines::wire::{self, FlyEvent, HOST_STATUS_OK, MachineConfig};
use midge_protocol::{MachineId, Timestamp};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::chance;
use crate::image_ref::image_ref;
use crate::lease::{self, Lease};
use crate::log::ProcessLog;
use crate::order::{Fate, Orders};
use crate::refusal::Refusal;

pub(crate) use moves::{Update, check_labels};
pub(crate) use reached::Since;

/// Fly shows so many too.
pub(crate) const EVENTS_MAX: usize = 50;
/// Older versions of a config are forgotten.
const VERSIONS_MAX: usize = 50;
/// A config that is larger as JSON is not kept whole once its Machine is gone, of which there may be a thousand.
const BURIED_CONFIG_BYTES_MAX: usize = 4 * 1024;
/// The word for a server host that does not answer.
const HOST_STATUS_UNREACHABLE: &str = "unreachable";
/// Fly's smallest, where a config names none.
const MEMORY_MIB_DEFAULT: u32 = 256;

/// A Machine.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) id: MachineId,
    pub(crate) name: String,
    pub(crate) region: String,
    pub(crate) private_ip: String,
    pub(crate) skips_secrets: bool,
    pub(crate) log: ProcessLog,
    created_at: Timestamp,
    record: Mutex<Record>,
    /// Counts events, and wakes those who wait for one.
    changed: watch::Sender<u64>,
    ordered: Notify,
}

#[derive(Debug)]
struct Record {
    state: SeenState,
    updated_at: Timestamp,
    config: Arc<MachineConfig>,
    /// All that are known, the one in force last.
    versions: VecDeque<(String, Arc<MachineConfig>)>,
    /// Oldest first, the newest [`EVENTS_MAX`].
    events: VecDeque<FlyEvent>,
    orders: Orders,
    /// Until when no order is taken up: the Machine is stuck.
    stuck_until: Option<Instant>,
    dark: Option<Dark>,
    lease: Option<Lease>,
    cordoned: bool,
}

/// A server host that does not answer.
#[derive(Debug)]
struct Dark {
    until: Instant,
    /// The last that was heard from it.
    state: SeenState,
}

/// What is known of a Machine before it is one.
#[derive(Debug)]
pub(crate) struct Birth {
    pub(crate) id: MachineId,
    pub(crate) name: String,
    pub(crate) region: String,
    pub(crate) private_ip: String,
    pub(crate) skips_secrets: bool,
    pub(crate) config: MachineConfig,
}

/// How a Machine is to be shown.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct View {
    /// Whether its lease is shown.
    pub(crate) lease: bool,
    /// How far behind it is shown.
    pub(crate) lag: Duration,
}

impl Machine {
    pub(crate) fn new(birth: Birth) -> Machine {
        let now = now();
        let config = Arc::new(birth.config);
        let record = Record {
            state: SeenState::Created,
            updated_at: now,
            versions: VecDeque::from([(chance::ulid(), Arc::clone(&config))]),
            config,
            events: VecDeque::new(),
            orders: Orders::NONE,
            stuck_until: None,
            dark: None,
            lease: None,
            cordoned: false,
        };
        let machine = Machine {
            id: birth.id,
            name: birth.name,
            region: birth.region,
            private_ip: birth.private_ip,
            skips_secrets: birth.skips_secrets,
            log: ProcessLog::default(),
            created_at: now,
            record: Mutex::new(record),
            changed: watch::Sender::new(0),
            ordered: Notify::new(),
        };
        machine.enter(&mut machine.record(), SeenState::Created, "launch", "user");
        machine
    }

    pub(crate) fn state(&self) -> SeenState {
        self.record().state.clone()
    }

    pub(crate) fn config(&self) -> Arc<MachineConfig> {
        Arc::clone(&self.record().config)
    }

    /// Returns the version of the config that is in force.
    pub(crate) fn version(&self) -> String {
        self.record().version().to_owned()
    }

    /// Returns all versions that are known, the newest first.
    pub(crate) fn versions(&self) -> Vec<(String, Arc<MachineConfig>)> {
        self.record().versions.iter().rev().cloned().collect()
    }

    /// Returns the newest events, newest first.
    pub(crate) fn events(&self, limit: usize) -> Vec<FlyEvent> {
        self.record().events.iter().rev().take(limit).cloned().collect()
    }

    pub(crate) fn memory_mib(&self) -> u32 {
        memory_mib(&self.record().config)
    }

    /// Returns whether it takes up room in its region, as one does that is not stopped.
    pub(crate) fn takes_room(&self) -> bool {
        self.record().takes_room()
    }

    /// Returns whether its server host does not answer just now.
    pub(crate) fn is_dark(&self) -> bool {
        self.record().dark().is_some()
    }

    /// Returns the Machine as the API shows it.
    pub(crate) fn shown(&self) -> wire::Machine {
        self.shown_as(View::default()).expect("without a lag it was there")
    }

    /// Returns the Machine as the API shows it; nothing where it was not there yet.
    pub(crate) fn shown_as(&self, view: View) -> Option<wire::Machine> {
        let record = self.record();
        let now = now();
        let dark = record.dark();
        let then = now.before(view.lag);
        let events: Vec<FlyEvent> = match view.lag {
            Duration::ZERO => record.events.iter().rev().cloned().collect(),
            _ => {
                let old = |event: &&FlyEvent| event.timestamp <= then.as_millis();
                record.events.iter().rev().filter(old).cloned().collect()
            }
        };
        if !view.lag.is_zero() && self.created_at > then {
            return None;
        }
        let state = match (dark, view.lag.is_zero(), events.first()) {
            (Some(dark), _, _) => dark.state.to_string(),
            (None, false, Some(event)) => event.status.clone(),
            _ => record.state.to_string(),
        };
        let lease = lease::held(record.lease.as_ref(), now).filter(|_| view.lease);
        let host_status = if dark.is_some() { HOST_STATUS_UNREACHABLE } else { HOST_STATUS_OK };
        Some(wire::Machine {
            id: self.id.to_string(),
            name: self.name.clone(),
            state,
            region: self.region.clone(),
            instance_id: record.version().to_owned(),
            version: record.version().to_owned(),
            private_ip: self.private_ip.clone(),
            config: dark.is_none().then(|| MachineConfig::clone(&record.config)),
            incomplete_config: None,
            image_ref: Some(image_ref(&record.config.image)),
            created_at: self.created_at.to_string(),
            updated_at: record.updated_at.to_string(),
            events,
            host_status: Some(host_status.to_owned()),
            cordoned: record.cordoned,
            nonce: None,
            lease: lease.map(|lease| lease.shown(false)),
        })
    }

    fn enter(&self, record: &mut Record, state: SeenState, kind: &str, source: &str) {
        let event = event(kind, state.as_str(), source);
        self.note(record, state, event);
    }

    fn note(&self, record: &mut Record, state: SeenState, event: FlyEvent) {
        tracing::debug!(machine.id = %self.id, machine.name = self.name, %state, kind = event.kind, "Machine changed");
        record.state = state;
        record.updated_at = Timestamp::from_millis(event.timestamp);
        if record.events.len() == EVENTS_MAX {
            record.events.pop_front();
        }
        record.events.push_back(event);
        self.changed.send_modify(|count| *count += 1);
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    fn version(&self) -> &str {
        &self.versions.back().expect("a Machine is made with a first version").0
    }

    fn dark(&self) -> Option<&Dark> {
        self.dark.as_ref().filter(|dark| dark.until > Instant::now())
    }

    fn takes_room(&self) -> bool {
        use SeenState::{Destroyed, Failed, LaunchFailed, Stopped};
        !matches!(self.state, Stopped | Failed | LaunchFailed | Destroyed)
    }

    /// Refuses what a server host that does not answer cannot do.
    fn check_light(&self) -> Result<(), Refusal> {
        self.dark().map_or(Ok(()), |_| Err(Refusal::dark()))
    }

    /// Returns until when no order is taken up.
    fn held_until(&self) -> Option<Instant> {
        let dark = self.dark().map(|dark| dark.until);
        [dark, self.stuck_until].into_iter().flatten().filter(|until| *until > Instant::now()).max()
    }

    /// Keeps no more than is looked at when a Machine is gone: the version in force, and of a large config what it ran on.
    fn bury(&mut self) {
        let whole = &self.config;
        let bytes = serde_json::to_vec(&**whole).map_or(usize::MAX, |json| json.len());
        if bytes > BURIED_CONFIG_BYTES_MAX {
            let image = if whole.image.len() > BURIED_CONFIG_BYTES_MAX { "" } else { &whole.image };
            self.config = Arc::new(MachineConfig {
                image: image.to_owned(),
                guest: whole.guest.clone(),
                restart: whole.restart.clone(),
                auto_destroy: whole.auto_destroy,
                ..MachineConfig::default()
            });
        }
        self.versions = VecDeque::from([(self.version().to_owned(), Arc::clone(&self.config))]);
    }

    /// Refuses what would make the record of a Machine grow that is gone.
    fn check_there(&self, verb: &str) -> Result<(), Refusal> {
        match self.state {
            SeenState::Destroyed => Err(Refusal::wrong_state(verb, &self.state)),
            _ => Ok(()),
        }
    }

    fn configured(&mut self, config: MachineConfig) {
        self.config = Arc::new(config);
        if self.versions.len() == VERSIONS_MAX {
            self.versions.pop_front();
        }
        self.versions.push_back((chance::ulid(), Arc::clone(&self.config)));
    }
}

pub(crate) fn memory_mib(config: &MachineConfig) -> u32 {
    config.guest.as_ref().map_or(0, |guest| guest.memory_mb).max(MEMORY_MIB_DEFAULT)
}

fn event(kind: &str, status: &str, source: &str) -> FlyEvent {
    FlyEvent {
        id: chance::ulid(),
        kind: kind.to_owned(),
        status: status.to_owned(),
        source: source.to_owned(),
        timestamp: now().as_millis(),
        request: None,
    }
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
