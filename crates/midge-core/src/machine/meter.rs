//! Whether a Machine costs, and since when.

use midge_protocol::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Machine, MachineState};

/// What a Machine costs, and since when that is not summed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meter {
    /// What it costs.
    pub metered: Metered,
    /// Since when.
    pub since: Timestamp,
}

/// What a Machine costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metered {
    /// CPUs and memory: it runs, or may.
    Running,
    /// Its root file system: it is there, and stopped or suspended.
    Resting,
}

impl Machine {
    /// Returns the meter of what this Machine has become. `stopped`: it was seen to have stopped.
    pub(super) fn meter_of(&self, after: &Machine, stopped: bool, now: Timestamp) -> Option<Meter> {
        let metered = self.metered_as(after, stopped)?;
        match self.meter {
            Some(meter) if meter.metered == metered => Some(Meter { since: meter.since.min(now), metered }),
            _ => Some(Meter { metered, since: now }),
        }
    }

    fn metered_as(&self, after: &Machine, stopped: bool) -> Option<Metered> {
        // Until then there may be none.
        let is_made = after.id.is_some() || after.heard_at.is_some();
        match after.state {
            _ if !is_made => None,
            MachineState::Creating
            | MachineState::Starting
            | MachineState::Up
            | MachineState::Draining
            | MachineState::Left
            | MachineState::Resting => Some(Metered::Running),
            MachineState::Preparing | MachineState::Ready => Some(Metered::Resting),
            MachineState::Destroying if stopped => Some(Metered::Resting),
            // One that was given up may run on until it is destroyed.
            MachineState::Destroying => self.meter.map(|meter| meter.metered),
            MachineState::Gone => None,
        }
    }
}
