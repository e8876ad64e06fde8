//! What is taken from the environment beside the flags that `cli` lists with their variables.

/// What Fly tells a Machine about itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct FlyMachine {
    /// The Machine's id, from `FLY_MACHINE_ID`.
    pub(crate) id: Option<String>,
    /// Its IPv6 address in the organization's private network, from `FLY_PRIVATE_IP`.
    pub(crate) private_ip: Option<String>,
}

/// Returns what Fly tells this Machine about itself, if this is one.
pub(crate) fn fly_machine() -> FlyMachine {
    let var = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    FlyMachine { id: var("FLY_MACHINE_ID"), private_ip: var("FLY_PRIVATE_IP") }
}
