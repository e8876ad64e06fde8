//! Looks at the Machines through the Machines API.

use std::collections::BTreeMap;

use midge_core::{MachineState, Sight, Stray, named_at};
use midge_machines::{Label, MachineError, Machines, Seen, SeenState};
use midge_protocol::{MachineId, MachineName, RegionName};
use midge_store::{Store, StoreError};

use super::Context;
use super::spec::OWNER_KEY;

/// What the Machines API says of a Machine.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) id: Option<MachineId>,
    pub(super) region: Option<RegionName>,
    pub(super) sight: Sight,
}

/// What the Machines API says: of the Machines that have a row, by name; and those that have none.
#[derive(Debug, Default)]
pub(super) struct Sights {
    pub(super) known: BTreeMap<MachineName, Known>,
    pub(super) strays: Vec<Stray>,
}

/// Asks the Machines API, where there are rows of Machines or those are sought that have none.
pub(super) async fn look(
    store: &dyn Store,
    machines: &dyn Machines,
    context: &Context,
) -> Result<Sights, StoreError> {
    let known = midge_store::read(store, |rows| rows.machines()).await?;
    let mut sights = Sights::default();
    // Rows of Machines that are gone count: what was given up may be made late, and only a list shows it.
    if known.is_empty() && !context.seeks_strays {
        return Ok(sights);
    }
    let present =
        known.iter().map(|(machine, _)| machine).filter(|machine| machine.state != MachineState::Gone);
    let seen = match machines.list(&Label::new(OWNER_KEY, &context.owner)).await {
        Ok(seen) => seen,
        Err(error) => {
            tracing::warn!(%error, "cannot list the Machines; the next look asks again");
            return Ok(sights);
        }
    };
    let mut by_name: BTreeMap<&str, &Seen> = seen.iter().map(|seen| (seen.name.as_str(), seen)).collect();
    for machine in present {
        if let Some(seen) = by_name.remove(machine.name.as_str()) {
            let (id, region) = (Some(seen.id.clone()), region(seen));
            sights.known.insert(machine.name.clone(), Known { id, region, sight: sight(seen) });
        } else if let Some(id) = &machine.id {
            // A list may lag, and leaves out what is destroyed: ask for this one.
            let (region, sight) = match machines.get(id).await {
                Ok(seen) => (region(&seen), sight(&seen)),
                Err(MachineError::Gone(_)) => (None, Sight::Gone),
                Err(_) => (None, Sight::Pending),
            };
            sights.known.insert(machine.name.clone(), Known { id: None, region, sight });
        }
    }
    sights.strays = by_name
        .into_values()
        // Of one whose server host does not answer too little is known.
        .filter(|seen| seen.reachable && !seen.state.is_gone())
        .filter_map(|seen| {
            Some(Stray { id: seen.id.clone(), named_at: named_at(&context.owner, &seen.name)? })
        })
        .collect();
    Ok(sights)
}

/// Returns the region of a Machine; nothing for one whose name is none.
fn region(seen: &Seen) -> Option<RegionName> {
    RegionName::new(seen.region.as_str()).ok()
}

fn sight(seen: &Seen) -> Sight {
    match &seen.state {
        _ if !seen.reachable => Sight::Unreachable,
        SeenState::Started => Sight::Running,
        SeenState::Suspended => Sight::Suspended,
        SeenState::Stopped | SeenState::Failed => Sight::Stopped(seen.exit.as_ref().map(|exit| {
            midge_core::Exit { code: exit.code, oom_killed: exit.oom_killed, requested: exit.requested_stop }
        })),
        SeenState::Destroyed | SeenState::LaunchFailed => Sight::Gone,
        _ => Sight::Pending,
    }
}
