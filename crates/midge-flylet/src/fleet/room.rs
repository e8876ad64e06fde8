//! Where a Machine finds room.

use midge_machines::wire::MachineConfig;

use super::{Fleet, Registry};
use crate::machine::{Machine, memory_mib};
use crate::refusal::Refusal;
use crate::regions::{Region, wanted};

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
        let mut refused = None;
        for place in places {
            let region = &self.settings.regions[place];
            let room = self.room(registry, region, memory_mib(config));
            match room {
                Ok(()) => return Ok(region.name.clone()),
                Err(why) => refused = Some(why),
            }
        }
        Err(match refused {
            Some(Lack::Memory { region, used_mib }) => {
                Refusal::region_quota(&self.settings.app, &region, used_mib)
            }
            Some(Lack::Host) | None => Refusal::no_host(),
        })
    }

    /// Says whether the server hosts of a stopped Machine's region can start it.
    pub(super) fn check_host(&self, registry: &Registry, machine: &Machine) -> Result<(), Refusal> {
        let region = self.settings.regions.iter().find(|region| region.name == machine.region);
        let room = region.map_or(Ok(()), |region| self.room(registry, region, machine.memory_mib()));
        room.map_err(|lack| match lack {
            Lack::Host => Refusal::host_full(),
            Lack::Memory { region, used_mib } => Refusal::region_quota(&self.settings.app, &region, used_mib),
        })
    }

    fn room(&self, registry: &Registry, region: &Region, more_mib: u32) -> Result<(), Lack> {
        let there = || {
            let alive = registry.names.values().map(|id| &registry.machines[id]);
            alive.filter(|machine| machine.region == region.name && machine.takes_room())
        };
        if region.machines_max.is_some_and(|most| there().count() >= most) {
            return Err(Lack::Host);
        }
        if let Some(most_mib) = region.memory_mib_max {
            let used_mib: u64 = there().map(|machine| u64::from(machine.memory_mib())).sum();
            if used_mib + u64::from(more_mib) > most_mib {
                return Err(Lack::Memory { region: region.name.clone(), used_mib });
            }
        }
        Ok(())
    }
}

/// What a region lacks.
enum Lack {
    Host,
    Memory { region: String, used_mib: u64 },
}
