//! One Machine: its record, and which of what it is asked may happen in its state.
//!
//! Invariant: no process here. What the API accepts becomes an order, which the Machine's supervisor carries out.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use midge_machines::SeenState;
use midge_machines::wire;
use midge_machines::wire::{ExitEvent, FlyEvent, HOST_STATUS_OK, MachineConfig};
use midge_protocol::{MachineId, Timestamp};
use serde_json::json;
use tokio::sync::{Notify, watch};

use crate::chance;
use crate::image_ref::image_ref;
use crate::log::ProcessLog;
use crate::order::{Order, Orders, StopOrder};
use crate::refusal::Refusal;

/// Fly shows so many too.
const EVENTS_MAX: usize = 50;

/// A Machine.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) id: MachineId,
    pub(crate) name: String,
    pub(crate) region: String,
    pub(crate) private_ip: String,
    pub(crate) version: String,
    pub(crate) config: MachineConfig,
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
    /// Oldest first, the newest [`EVENTS_MAX`].
    events: VecDeque<FlyEvent>,
    orders: Orders,
}

/// What is known of a Machine before it is one.
#[derive(Debug)]
pub(crate) struct Birth {
    pub(crate) id: MachineId,
    pub(crate) name: String,
    pub(crate) region: String,
    pub(crate) private_ip: String,
    pub(crate) config: MachineConfig,
}

impl Machine {
    pub(crate) fn new(birth: Birth) -> Machine {
        let now = now();
        let record = Record {
            state: SeenState::Created,
            updated_at: now,
            events: VecDeque::new(),
            orders: Orders::default(),
        };
        let machine = Machine {
            id: birth.id,
            name: birth.name,
            region: birth.region,
            private_ip: birth.private_ip,
            version: chance::ulid(),
            config: birth.config,
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

    /// Orders a start and returns the state before it.
    pub(crate) fn start(&self) -> Result<SeenState, Refusal> {
        let mut record = self.record();
        let previous = record.state.clone();
        match previous {
            SeenState::Stopped | SeenState::Failed => {
                record.orders = Orders { start: true, ..Orders::default() };
                self.enter(&mut record, SeenState::Starting, "start", "user");
                self.ordered.notify_one();
                Ok(previous)
            }
            SeenState::Started => Ok(previous),
            SeenState::Starting => Err(Refusal::still_starting()),
            _ => Err(Refusal::wrong_state("start", &previous)),
        }
    }

    /// Orders a stop. A Machine that rests already may be asked to.
    pub(crate) fn stop(&self, order: StopOrder) -> Result<(), Refusal> {
        let mut record = self.record();
        match record.state {
            SeenState::Starting | SeenState::Started => {
                record.orders.start = false;
                record.orders.stop = Some(order);
                self.enter(&mut record, SeenState::Stopping, "stop", "user");
                self.ordered.notify_one();
                Ok(())
            }
            SeenState::Stopping => {
                record.orders.stop = Some(order);
                self.ordered.notify_one();
                Ok(())
            }
            SeenState::Created | SeenState::Stopped | SeenState::Failed => Ok(()),
            _ => Err(Refusal::wrong_state("stop", &record.state)),
        }
    }

    /// Orders the end.
    pub(crate) fn destroy(&self, force: bool) -> Result<(), Refusal> {
        let mut record = self.record();
        match record.state {
            SeenState::Destroying | SeenState::Destroyed => Ok(()),
            SeenState::Starting | SeenState::Started | SeenState::Stopping if !force => {
                Err(Refusal::wrong_state("destroy", &record.state))
            }
            _ => {
                record.orders.destroy = true;
                self.enter(&mut record, SeenState::Destroying, "destroy", "user");
                self.ordered.notify_one();
                Ok(())
            }
        }
    }

    /// Returns the next order, when there is one. Only the supervisor asks.
    pub(crate) async fn next_order(&self) -> Order {
        loop {
            if let Some(order) = self.record().orders.take() {
                return order;
            }
            self.ordered.notified().await;
        }
    }

    /// The image is there: the Machine may be started.
    pub(crate) fn prepared(&self) {
        let mut record = self.record();
        if record.state == SeenState::Created {
            self.enter(&mut record, SeenState::Stopped, "launch", "flyd");
        }
    }

    /// The Machine is launched as it was made to be.
    pub(crate) fn launching(&self) {
        let mut record = self.record();
        if record.state == SeenState::Created {
            record.orders.start = true;
            self.enter(&mut record, SeenState::Starting, "start", "flyd");
        }
    }

    /// The program runs. The Machine may have been asked to stop in the meantime.
    pub(crate) fn started(&self) {
        let mut record = self.record();
        if record.state == SeenState::Starting {
            self.enter(&mut record, SeenState::Started, "start", "flyd");
        }
    }

    /// A start was called off before there was a program.
    pub(crate) fn called_off(&self) {
        let mut record = self.record();
        if record.state == SeenState::Stopping {
            self.enter(&mut record, SeenState::Stopped, "stop", "flyd");
        }
    }

    /// The program ended, or could not be run. Returns whether that had been asked for.
    pub(crate) fn exited(&self, mut exit: ExitEvent) -> bool {
        let mut record = self.record();
        let asked = matches!(record.state, SeenState::Stopping | SeenState::Destroying);
        let failed = exit.error.is_some();
        exit.requested_stop = asked;
        exit.exited_at = Some(now().to_string());
        // One that was stopped while its program ended has been obeyed.
        record.orders.stop = None;
        let state = match (record.state.clone(), failed) {
            (SeenState::Destroying, _) => SeenState::Destroying,
            (_, true) => SeenState::Failed,
            (_, false) => SeenState::Stopped,
        };
        // The event says what came of the program, also where the Machine goes on to be destroyed.
        let status = if failed { SeenState::Failed } else { SeenState::Stopped };
        let request = json!({ "exit_event": exit, "restart_count": 0 });
        self.note(
            &mut record,
            state,
            FlyEvent { request: Some(request), ..event("exit", status.as_str(), "flyd") },
        );
        asked
    }

    /// The Machine is no more.
    pub(crate) fn destroyed(&self) {
        let mut record = self.record();
        record.orders = Orders::default();
        self.enter(&mut record, SeenState::Destroyed, "destroy", "flyd");
    }

    /// Waits until the Machine is, or after the call has been, in one of some states; the id of the event too.
    ///
    /// # Errors
    /// Where it was destroyed instead.
    pub(crate) async fn reached(&self, wanted: &[SeenState]) -> Result<(SeenState, String), Refusal> {
        let mut changed = self.changed.subscribe();
        let mut looked_at = *changed.borrow_and_update();
        {
            let record = self.record();
            if wanted.contains(&record.state) {
                let event_id = record.events.back().map(|event| event.id.clone()).unwrap_or_default();
                return Ok((record.state.clone(), event_id));
            }
            if record.state == SeenState::Destroyed {
                return Err(Refusal::no_machine());
            }
        }
        loop {
            changed.changed().await.expect("the sender is a field of this Machine");
            let count = *changed.borrow_and_update();
            let record = self.record();
            let new = usize::try_from(count - looked_at).unwrap_or(usize::MAX).min(record.events.len());
            looked_at = count;
            // A state that lasted too short to be seen was reached all the same.
            for event in record.events.range(record.events.len() - new..) {
                let state = SeenState::from_word(&event.status);
                if wanted.contains(&state) {
                    return Ok((state, event.id.clone()));
                }
            }
            if record.state == SeenState::Destroyed {
                return Err(Refusal::no_machine());
            }
        }
    }

    /// Returns the Machine as the API shows it.
    pub(crate) fn shown(&self) -> wire::Machine {
        let record = self.record();
        wire::Machine {
            id: self.id.to_string(),
            name: self.name.clone(),
            state: record.state.to_string(),
            region: self.region.clone(),
            instance_id: self.version.clone(),
            private_ip: self.private_ip.clone(),
            config: Some(self.config.clone()),
            incomplete_config: None,
            image_ref: Some(image_ref(&self.config.image)),
            created_at: self.created_at.to_string(),
            updated_at: record.updated_at.to_string(),
            events: record.events.iter().rev().cloned().collect(),
            host_status: Some(HOST_STATUS_OK.to_owned()),
        }
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
        self.record.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
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

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::process::Signal;

    use super::*;

    fn machine() -> Machine {
        Machine::new(Birth {
            id: MachineId::new("00000000000001").unwrap(),
            name: "m".to_owned(),
            region: "local".to_owned(),
            private_ip: "127.0.0.1".to_owned(),
            config: MachineConfig::default(),
        })
    }

    const STOP: StopOrder = StopOrder { signal: Signal::TERM, timeout: Duration::from_secs(1) };

    #[test]
    fn a_machine_that_is_still_created_cannot_be_started() {
        let machine = machine();
        assert!(machine.start().is_err());
        machine.prepared();
        assert_eq!(machine.start().unwrap(), SeenState::Stopped);
        assert_eq!(machine.record().orders.take(), Some(Order::Start));
    }

    #[test]
    fn a_stop_calls_a_start_off_that_nobody_has_taken_up() {
        let machine = machine();
        machine.prepared();
        machine.start().unwrap();
        machine.stop(STOP).unwrap();
        assert_eq!(machine.record().orders.take(), Some(Order::Stop(STOP)));
        assert_eq!(machine.record().orders.take(), None);
    }

    #[test]
    fn a_running_machine_is_destroyed_by_force_only() {
        let machine = machine();
        machine.launching();
        machine.started();
        assert!(machine.destroy(false).is_err());
        machine.destroy(true).unwrap();
        assert_eq!(machine.state(), SeenState::Destroying);
        assert!(machine.start().is_err());
    }

    #[test]
    fn a_program_that_ends_while_it_is_stopped_has_obeyed() {
        let machine = machine();
        machine.launching();
        machine.started();
        machine.stop(STOP).unwrap();
        assert!(machine.exited(ExitEvent::default()));
        assert_eq!(machine.state(), SeenState::Stopped);
        machine.start().unwrap();
        assert_eq!(machine.record().orders.take(), Some(Order::Start), "the stop is not left over");
    }

    #[tokio::test]
    async fn a_state_that_lasted_no_time_was_reached_all_the_same() {
        let machine = machine();
        let wait = machine.reached(&[SeenState::Started]);
        let moves = async {
            machine.launching();
            machine.started();
            machine.exited(ExitEvent::default());
            machine.destroyed();
        };
        let (reached, ()) = tokio::join!(wait, moves);
        assert_eq!(reached.unwrap().0, SeenState::Started);
    }

    #[test]
    fn events_are_bounded_and_newest_first() {
        let machine = machine();
        machine.prepared();
        for _ in 0..EVENTS_MAX {
            machine.start().unwrap();
            machine.started();
            machine.exited(ExitEvent::default());
        }
        let shown = machine.shown();
        assert_eq!((shown.events.len(), shown.events[0].kind.as_str()), (EVENTS_MAX, "exit"));
    }
}
