//! What a Machine's supervisor asks and tells.

use midge_machines::SeenState;
use midge_machines::wire::{ExitEvent, FlyEvent};
use serde_json::json;
use tokio::time::sleep_until;

use super::{Fate, Machine, event, now};
use crate::order::Order;

/// What is kept of the log of a Machine that is gone, in bytes: its last words.
const BURIED_LOG_BYTES_MAX: usize = 16 * 1024;

impl Machine {
    /// Returns the next order, when there is one and the Machine is not stuck.
    pub(crate) async fn next_order(&self) -> Order {
        loop {
            let held_until = {
                let mut record = self.record();
                let held_until = record.held_until();
                if held_until.is_none()
                    && let Some(order) = record.orders.take()
                {
                    // One that was asked for while the server host did not answer.
                    if order == Order::Destroy && record.state != SeenState::Destroying {
                        self.enter(&mut record, SeenState::Destroying, "destroy", "flyd");
                    }
                    return order;
                }
                held_until
            };
            match held_until {
                Some(until) => tokio::select! {
                    () = self.ordered.notified() => {}
                    () = sleep_until(until) => {}
                },
                None => self.ordered.notified().await,
            }
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
    pub(crate) fn launching(&self, fate: Fate) {
        let mut record = self.record();
        if record.state == SeenState::Created {
            record.orders.give(Order::Start(fate));
            self.enter(&mut record, SeenState::Starting, "start", "flyd");
        }
    }

    /// The first start failed.
    pub(crate) fn launch_failed(&self) {
        self.enter(&mut self.record(), SeenState::LaunchFailed, "launch", "flyd");
    }

    /// The program runs. The Machine may have been asked for something else in the meantime.
    pub(crate) fn started(&self) {
        let mut record = self.record();
        if record.state == SeenState::Starting {
            self.enter(&mut record, SeenState::Started, "start", "flyd");
        }
    }

    /// The program stands still.
    pub(crate) fn suspended(&self) {
        let mut record = self.record();
        if record.state == SeenState::Suspending {
            self.enter(&mut record, SeenState::Suspended, "suspend", "flyd");
        }
    }

    /// A start was called off before there was a program.
    pub(crate) fn called_off(&self) {
        let mut record = self.record();
        if record.state == SeenState::Stopping {
            self.enter(&mut record, SeenState::Stopped, "stop", "flyd");
        }
    }

    /// The program is about to run anew.
    pub(crate) fn starting_again(&self) {
        let mut record = self.record();
        if matches!(record.state, SeenState::Restarting | SeenState::Updating) {
            self.enter(&mut record, SeenState::Starting, "start", "flyd");
        }
    }

    /// The program ended, or could not be run. Returns whether that had been asked for.
    pub(crate) fn exited(&self, mut exit: ExitEvent) -> bool {
        use SeenState::{Destroying, Failed, Restarting, Stopped, Stopping, Updating};
        let mut record = self.record();
        let again = matches!(record.state, Restarting | Updating);
        let asked = again || matches!(record.state, Stopping | Destroying);
        let failed = exit.error.is_some();
        exit.requested_stop = asked;
        exit.restarting = again;
        exit.exited_at = Some(now().to_string());
        // What was asked of the program that ended has been obeyed.
        record.orders.program_ended();
        record.stuck_until = None;
        let (state, status) = match record.state.clone() {
            // The event says what came of the program, also where the Machine goes on to be destroyed.
            Destroying => (Destroying, if failed { Failed } else { Stopped }),
            state if again => (state.clone(), state),
            _ if failed => (Failed, Failed),
            _ => (Stopped, Stopped),
        };
        let request = json!({ "exit_event": exit, "restart_count": 0 });
        let exited = FlyEvent { request: Some(request), ..event("exit", status.as_str(), "flyd") };
        self.note(&mut record, state, exited);
        asked
    }

    /// The Machine is no more.
    pub(crate) fn destroyed(&self) {
        let mut record = self.record();
        record.lease = None;
        record.dark = None;
        record.bury();
        self.log.shorten(BURIED_LOG_BYTES_MAX);
        self.enter(&mut record, SeenState::Destroyed, "destroy", "flyd");
    }
}
