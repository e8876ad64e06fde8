//! The making of a Machine: its name, and all that it is given.
//!
//! Invariant: nothing of the server's own environment goes into a Machine, and no job's args.

use midge_core::Machine;
use midge_machines::MachineSpec;
use midge_protocol::{MachineName, RegionName, Secret, Timestamp};
use rand::Rng;
use rand::rngs::StdRng;

use super::Context;

/// The metadata key whose value tells our Machines from all others in the app.
pub const OWNER_KEY: &str = "midge_store";

/// Fly's word for whichever region there is room in.
const ANY_REGION: &str = "any";

/// A name that rises with time, so that Machines list in the order in which they were made.
pub(super) fn machine_name(now: Timestamp, rng: &mut StdRng) -> MachineName {
    let chance: u32 = rng.next_u32();
    MachineName::new(format!("midge-{:012x}-{chance:08x}", now.as_millis()))
        .expect("lower-case hex and hyphens are a Machine name")
}

/// Returns the region that is asked for first, where it is one and not any.
pub(super) fn asked_region(spec: &MachineSpec) -> Option<RegionName> {
    let first = spec.region.as_deref()?.split(',').next()?.trim();
    RegionName::new(first).ok().filter(|region| region.as_str() != ANY_REGION)
}

pub(super) fn machine_spec(context: &Context, machine: &Machine, secret: &Secret) -> MachineSpec {
    let policy = context.catalog.policy(&machine.queue);
    let fork = &context.fork;
    let mut env = context.catalog.manifest.env.clone();
    let ours = [
        ("MIDGE_SERVER", fork.server_url.clone()),
        ("MIDGE_MACHINE", machine.name.to_string()),
        ("MIDGE_SECRET", secret.expose().to_owned()),
        ("MIDGE_MODULES", context.catalog.modules_dir.display().to_string()),
        ("MIDGE_PLACES", machine.places.to_string()),
        ("MIDGE_WAIT", policy.wait.to_string()),
    ];
    env.extend(ours.map(|(key, value)| (key.to_owned(), value)));
    let metadata = [
        (OWNER_KEY, context.owner.clone()),
        ("midge_queue", machine.queue.to_string()),
        ("midge_generation", machine.generation.clone()),
    ];
    MachineSpec {
        name: machine.name.clone(),
        region: fork.region.as_ref().map(|regions| machine.regions(regions)),
        image: fork.image.clone(),
        exec: fork.host.iter().cloned().chain(["work".to_owned()]).collect(),
        env,
        size: policy.size,
        metadata: metadata.map(|(key, value)| (key.to_owned(), value)).into(),
    }
}
