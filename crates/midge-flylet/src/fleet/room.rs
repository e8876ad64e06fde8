//! Where a Machine finds room.

use midge_machines::wire::MachineConfig;
use midge_protocol::MachineId;

use super::{Fleet, Registry};
use crate::machine::{Machine, memory_mib};
use crate::refusal::Refusal;
use crate::regions::{Region, wanted};

/// What the other Machines of a region leave of its room, for as long as the registry is locked.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// Whether no server host has a place left.
    hosts_full: bool,
    /// The memory that the others use, and the most that all may.
    quota: Option<Quota>,
}

#[derive(Debug)]
struct Quota {
    app: String,
    region: String,
    used_mib: u64,
    most_mib: u64,
}

impl Room {
    /// Says whether a Machine of the region that takes no room yet may take some.
    pub(crate) fn check(&self, memory_mib: u32) -> Result<(), Refusal> {
        if self.hosts_full {
            return Err(Refusal::host_full());
        }
        self.check_memory(memory_mib)
    }

    /// Says whether a Machine that has its place may have so much memory there.
    pub(crate) fn check_memory(&self, memory_mib: u32) -> Result<(), Refusal> {
        match &self.quota {
            Some(Quota { app, region, used_mib, most_mib })
                if used_mib + u64::from(memory_mib) > *most_mib =>
            {
                Err(Refusal::region_quota(app, region, *used_mib))
            }
            _ => Ok(()),
        }
    }
}

impl Fleet {
    /// Returns the first region that a create means and that has room.
    pub(super) fn place(
        &self,
        registry: &Registry,
        asked: Option<&str>,
        config: &MachineConfig,
    ) -> Result<String, Refusal> {
        let places = wanted(&self.settings.regions, asked)
            .map_err(|word| Refusal::invalid(format_args!("region `{word}` not found")))?;
        let mut refused = Refusal::no_host();
        for place in places {
            let region = &self.settings.regions[place];
            let room = self.room(registry, region, None);
            if room.hosts_full {
                refused = Refusal::no_host();
                continue;
            }
            match room.check_memory(memory_mib(config)) {
                Ok(()) => return Ok(region.name.clone()),
                Err(quota) => refused = quota,
            }
        }
        Err(refused)
    }

    /// Returns what the others leave to a Machine in its region.
    pub(super) fn room_of(&self, registry: &Registry, machine: &Machine) -> Room {
        let region = self.settings.regions.iter().find(|region| region.name == machine.region);
        region.map_or_else(Room::default, |region| self.room(registry, region, Some(&machine.id)))
    }

    fn room(&self, registry: &Registry, region: &Region, but: Option<&MachineId>) -> Room {
        let others = || {
            let alive =
                registry.names.values().filter(|id| Some(*id) != but).map(|id| &registry.machines[id]);
            alive.filter(|machine| machine.region == region.name && machine.takes_room())
        };
        let quota = region.memory_mib_max.map(|most_mib| Quota {
            app: self.settings.app.clone(),
            region: region.name.clone(),
            used_mib: others().map(|machine| u64::from(machine.memory_mib())).sum(),
            most_mib,
        });
        Room { hosts_full: region.machines_max.is_some_and(|most| others().count() >= most), quota }
    }
}
