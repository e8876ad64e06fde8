//! What a Machine is asked to do, and whether it may: in its state, under its lease, by its server host.
//!
//! Invariant: what is asked is judged and recorded under one lock. Between the gate and here a body is read, and meanwhile
//! somebody may take the lease.

use std::collections::BTreeMap;
use std::sync::MutexGuard;
use std::time::Duration;

use midge_machines::SeenState;
use midge_machines::wire::{self, MachineConfig, SUSPEND_MEMORY_MIB_MAX};
use rustix::process::Signal;
use tokio::time::Instant;

use super::{Dark, Machine, Record, memory_mib, now};
use crate::chance;
use crate::fleet::Room;
use crate::latency::Way;
use crate::lease::{self, Lease};
use crate::order::{Death, Fate, Order, StopOrder};
use crate::refusal::Refusal;

/// Keys and values of a Machine are of this length at most, together, so that its config stays small however many
/// calls make it up.
const METADATA_BYTES_MAX: usize = 64 * 1024;

/// A new config, and what becomes of the Machine with it.
#[derive(Debug)]
pub(crate) struct Update {
    pub(crate) config: MachineConfig,
    /// The version that it is to replace, where the caller says so.
    pub(crate) current_version: Option<String>,
    /// Whether the Machine runs afterwards.
    pub(crate) launch: bool,
    /// How a program is stopped that runs under the old one.
    pub(crate) stop: StopOrder,
    pub(crate) fate: Fate,
}

impl Machine {
    /// Orders a start and returns the state before it. `fate_of` says what becomes of it.
    pub(crate) fn start(
        &self,
        nonce: Option<&str>,
        room: &Room,
        fate_of: impl FnOnce(Way) -> Fate,
    ) -> Result<SeenState, Refusal> {
        let mut record = self.changed_by(nonce)?;
        let previous = record.state.clone();
        match previous {
            SeenState::Stopped | SeenState::Failed => {
                room.check(memory_mib(&record.config))?;
                record.orders.give(Order::Start(fate_of(Way::Start)));
            }
            SeenState::Suspended | SeenState::Suspending => {
                record.orders.resume(fate_of(Way::Resume));
            }
            SeenState::Started => return Ok(previous),
            SeenState::Starting | SeenState::Restarting => return Err(Refusal::still_starting()),
            SeenState::Updating | SeenState::Replacing => return Err(Refusal::being_replaced()),
            _ => return Err(Refusal::wrong_state("start", &previous)),
        }
        self.enter(&mut record, SeenState::Starting, "start", "user");
        self.ordered.notify_one();
        Ok(previous)
    }

    /// Orders a stop, which is not taken up while the Machine is `stuck`. A Machine that rests already may be asked to.
    /// One that is suspended loses its memory.
    pub(crate) fn stop(&self, nonce: Option<&str>, order: StopOrder, stuck: Duration) -> Result<(), Refusal> {
        use SeenState::{Created, Failed, Restarting, Started, Starting, Stopped, Stopping};
        use SeenState::{Suspended, Suspending, Updating};
        let mut record = self.changed_by(nonce)?;
        match record.state {
            Starting | Started | Suspending | Suspended | Restarting | Updating => {
                record.orders.give(Order::Stop(order));
                self.enter(&mut record, Stopping, "stop", "user");
            }
            Stopping => record.orders.give(Order::Stop(order)),
            Created | Stopped | Failed => return Ok(()),
            _ => return Err(Refusal::wrong_state("stop", &record.state)),
        }
        if !stuck.is_zero() {
            record.stuck_until = Some(Instant::now() + stuck);
        }
        self.ordered.notify_one();
        Ok(())
    }

    /// Orders that the program stands still.
    pub(crate) fn suspend(&self, nonce: Option<&str>) -> Result<(), Refusal> {
        let mut record = self.changed_by(nonce)?;
        if let Some(why) = never_suspends(&record.config) {
            return Err(Refusal::invalid(format_args!("unable to suspend machine: {why}")));
        }
        match record.state {
            SeenState::Started => {
                record.orders.give(Order::Suspend);
                self.enter(&mut record, SeenState::Suspending, "suspend", "user");
                self.ordered.notify_one();
                Ok(())
            }
            SeenState::Suspending | SeenState::Suspended => Ok(()),
            _ => Err(Refusal::wrong_state("suspend", &record.state)),
        }
    }

    /// Orders that the program ends and starts anew.
    pub(crate) fn restart(
        &self,
        nonce: Option<&str>,
        room: &Room,
        order: StopOrder,
        fate: Fate,
    ) -> Result<(), Refusal> {
        let mut record = self.changed_by(nonce)?;
        match record.state {
            SeenState::Started | SeenState::Suspending | SeenState::Suspended => {
                record.orders.give(Order::Restart(order, fate));
                self.enter(&mut record, SeenState::Restarting, "restart", "user");
            }
            SeenState::Stopped | SeenState::Failed => {
                room.check(memory_mib(&record.config))?;
                record.orders.give(Order::Start(fate));
                self.enter(&mut record, SeenState::Starting, "restart", "user");
            }
            _ => return Err(Refusal::wrong_state("restart", &record.state)),
        }
        self.ordered.notify_one();
        Ok(())
    }

    /// Orders that a signal is sent to the program.
    pub(crate) fn signal(&self, nonce: Option<&str>, signal: Signal) -> Result<(), Refusal> {
        let mut record = self.changed_by(nonce)?;
        if record.state != SeenState::Started {
            return Err(Refusal::wrong_state("signal", &record.state));
        }
        record.orders.give(Order::Signal(signal));
        self.ordered.notify_one();
        Ok(())
    }

    /// Orders that the program dies as if nobody had asked for it.
    pub(crate) fn die(&self, nonce: Option<&str>, death: Death) -> Result<(), Refusal> {
        let mut record = self.changed_by(nonce)?;
        if record.state != SeenState::Started {
            return Err(Refusal::wrong_state("signal", &record.state));
        }
        record.orders.give(Order::Die(death));
        self.ordered.notify_one();
        Ok(())
    }

    /// Orders the end, which is not taken up while the Machine is `stuck`. Where its server host does not answer, it is
    /// kept until that does.
    pub(crate) fn destroy(&self, nonce: Option<&str>, force: bool, stuck: Duration) -> Result<(), Refusal> {
        use SeenState::{Restarting, Started, Starting, Stopping, Suspending, Updating};
        let mut record = self.record();
        self.check_lease(&record, nonce)?;
        let runs = matches!(record.state, Starting | Started | Stopping | Suspending | Restarting | Updating);
        if runs && !force {
            return Err(Refusal::wrong_state("destroy", &record.state));
        }
        self.goes(&mut record, stuck);
        Ok(())
    }

    /// Orders the end of a Machine whose app is deleted, whoever has its lease.
    pub(crate) fn destroy_with_app(&self) {
        self.goes(&mut self.record(), Duration::ZERO);
    }

    fn goes(&self, record: &mut Record, stuck: Duration) {
        if matches!(record.state, SeenState::Destroying | SeenState::Destroyed) {
            return;
        }
        record.orders.give(Order::Destroy);
        if record.dark().is_none() {
            self.enter(record, SeenState::Destroying, "destroy", "user");
            record.stuck_until = (!stuck.is_zero()).then(|| Instant::now() + stuck);
        }
        self.ordered.notify_one();
    }

    /// Gives the Machine a new config, and orders what follows from that.
    pub(crate) fn update(&self, nonce: Option<&str>, room: &Room, update: Update) -> Result<(), Refusal> {
        use SeenState::{Failed, Started, Starting, Stopped, Stopping, Suspended, Suspending, Updating};
        let mut record = self.changed_by(nonce)?;
        if let Some(expected) = update.current_version.filter(|expected| expected != record.version()) {
            return Err(Refusal::not_current(&expected, record.version()));
        }
        let memory = memory_mib(&update.config);
        let next = match record.state {
            Starting | Started | Suspending | Suspended if update.launch => {
                if memory > memory_mib(&record.config) {
                    room.check_memory(memory)?;
                }
                record.orders.give(Order::Restart(update.stop, update.fate));
                Updating
            }
            Starting | Started | Suspending | Suspended => {
                record.orders.give(Order::Stop(update.stop));
                Stopping
            }
            Stopped | Failed if update.launch => {
                room.check(memory)?;
                record.orders.give(Order::Start(update.fate));
                Starting
            }
            Stopped | Failed => record.state.clone(),
            _ => return Err(Refusal::wrong_state("update", &record.state)),
        };
        record.configured(update.config);
        self.enter(&mut record, next, "update", "user");
        self.ordered.notify_one();
        Ok(())
    }

    /// Opens the record for a change by whoever shows a nonce. What is changed is to be decided and recorded before it is
    /// let go.
    ///
    /// # Errors
    /// Where somebody else has the lease, or the server host does not answer.
    fn changed_by(&self, nonce: Option<&str>) -> Result<MutexGuard<'_, Record>, Refusal> {
        let record = self.record();
        record.check_light()?;
        self.check_lease(&record, nonce)?;
        Ok(record)
    }

    fn check_lease(&self, record: &Record, nonce: Option<&str>) -> Result<(), Refusal> {
        let held = lease::may(record.lease.as_ref(), nonce, now());
        held.map_err(|held| Refusal::lease_held(&self.id, &held))
    }

    /// Makes a lease, or makes that of the nonce longer.
    pub(crate) fn lease(
        &self,
        nonce: Option<&str>,
        owner: &str,
        description: String,
        seconds: i64,
    ) -> Result<wire::Lease, Refusal> {
        let now = now();
        let Some(until) = Lease::end(now, seconds) else {
            let most = lease::LEASE_SECONDS_MAX;
            return Err(Refusal::invalid(format_args!("{seconds} is not a ttl of 1 to {most} seconds")));
        };
        let mut record = self.changed_by(nonce)?;
        record.check_there("lease")?;
        let version = record.version().to_owned();
        let lease = match lease::held(record.lease.as_ref(), now) {
            Some(held) => Lease { until, ..held.clone() },
            None => Lease { nonce: chance::hex::<6>(), until, owner: owner.to_owned(), description, version },
        };
        let shown = lease.shown(true);
        record.lease = Some(lease);
        Ok(shown)
    }

    /// Returns the lease, as everybody may see it.
    pub(crate) fn lease_shown(&self) -> Option<wire::Lease> {
        lease::held(self.record().lease.as_ref(), now()).map(|lease| lease.shown(false))
    }

    /// Gives the lease back.
    pub(crate) fn release(&self, nonce: Option<&str>) -> Result<(), Refusal> {
        self.changed_by(nonce)?.lease.take().map(drop).ok_or_else(Refusal::no_lease)
    }

    /// Keeps requests of others away from the Machine, or no longer.
    pub(crate) fn cordon(&self, nonce: Option<&str>, cordoned: bool) -> Result<(), Refusal> {
        self.changed_by(nonce)?.cordoned = cordoned;
        Ok(())
    }

    /// Changes the labels; each without a value is taken away. No new version comes of it, and no lease guards them.
    ///
    /// # Errors
    /// Where another version is in force than the caller thinks, or the server host does not answer.
    pub(crate) fn label(
        &self,
        version: Option<&str>,
        replace_all: bool,
        changes: impl IntoIterator<Item = (String, Option<String>)>,
    ) -> Result<(), Refusal> {
        let mut record = self.record();
        record.check_light()?;
        record.check_there("label")?;
        if version.is_some_and(|version| version != record.version()) {
            return Err(Refusal::stale_version());
        }
        let mut config = MachineConfig::clone(&record.config);
        if replace_all {
            config.metadata.clear();
        }
        for (key, value) in changes {
            match value.filter(|value| !value.is_empty()) {
                Some(value) => config.metadata.insert(key, value),
                None => config.metadata.remove(&key),
            };
        }
        check_labels(&config.metadata)?;
        record.config = std::sync::Arc::new(config);
        record.updated_at = now();
        Ok(())
    }

    /// Its server host stops answering for a while.
    pub(crate) fn goes_dark(&self, duration: Duration) {
        let mut record = self.record();
        let state = record.state.clone();
        if record.dark().is_none() {
            record.dark = Some(Dark { until: Instant::now() + duration, state });
        }
    }
}

/// Refuses metadata that Fly would not take, or that is large.
pub(crate) fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Refusal> {
    if labels.contains_key("") {
        return Err(Refusal::invalid("a metadata key is empty"));
    }
    if let Some(key) = labels.keys().find(|key| key.contains(char::is_control)) {
        let key = key.escape_debug();
        return Err(Refusal::invalid(format_args!("metadata key `{key}` holds a control character")));
    }
    let bytes: usize = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > METADATA_BYTES_MAX {
        return Err(Refusal::invalid(format_args!("metadata has over {METADATA_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// Returns why a Machine with such a config cannot be suspended, if so.
fn never_suspends(config: &MachineConfig) -> Option<String> {
    let memory = memory_mib(config);
    if memory > SUSPEND_MEMORY_MIB_MAX {
        return Some(format!("it has {memory} MB of memory, and {SUSPEND_MEMORY_MIB_MAX} are the most"));
    }
    if config.init.swap_size_mb.is_some_and(|swap| swap > 0) {
        return Some("it has swap".to_owned());
    }
    let scheduled = config.other.get("schedule").is_some_and(|schedule| !schedule.is_null());
    scheduled.then(|| "it has a schedule".to_owned())
}
