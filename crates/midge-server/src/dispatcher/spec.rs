//! The making of a Machine: its name, and all that it is given.
//!
//! Invariant: nothing of the environment of the server's process goes into a Machine, and no job's args.

use midge_core::Machine;
use midge_machines::MachineSpec;
use midge_protocol::manifest::QueuePolicy;
use midge_protocol::{RegionName, Secret};

use super::Context;
use crate::settings::Fork;

/// The metadata key whose value, with their names, tells our Machines from all others in the app.
pub const OWNER_KEY: &str = "midge_store";

/// Fly's word for whichever region there is room in.
const ANY_REGION: &str = "any";

/// Returns the region that is asked for first, where it is one and not any.
pub(super) fn asked_region(spec: &MachineSpec) -> Option<RegionName> {
    let first = spec.region.as_deref()?.split(',').next()?.trim();
    RegionName::new(first).ok().filter(|region| region.as_str() != ANY_REGION)
}

pub(super) fn machine_spec(context: &Context, machine: &Machine, secret: &Secret) -> MachineSpec {
    let policy = context.policy(&machine.queue);
    let fork = &context.fork;
    let manifest = &context.catalog.manifest;
    let mut env = fork.env.clone();
    env.extend(manifest.env.clone());
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
        region: regions(&policy, fork).map(|regions| machine.regions(&regions)),
        image: fork.image.clone(),
        exec: fork.host.iter().cloned().chain(["work".to_owned()]).collect(),
        env,
        // Guests' requests take them from the Machine's env. Fly gives all of the app's secrets, or none.
        has_secrets: !manifest.secrets.is_empty(),
        size: policy.size.unwrap_or_default(),
        metadata: metadata.map(|(key, value)| (key.to_owned(), value)).into(),
    }
}

/// Returns where Machines of a queue are made, as Fly takes it.
fn regions(policy: &QueuePolicy, fork: &Fork) -> Option<String> {
    match &policy.regions[..] {
        [] => fork.region.clone(),
        regions => Some(regions.iter().map(RegionName::as_str).collect::<Vec<_>>().join(",")),
    }
}
