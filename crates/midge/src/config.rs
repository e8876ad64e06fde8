//! What is taken from the environment beside the flags that `cli` lists with their variables.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use midge_cli::output::note;
use midge_machines::own::OwnMachine;
use midge_protocol::manifest::{Manifest, SecretSource};
use midge_protocol::secret_value;

/// Returns what Fly tells this Machine about itself; nothing of it where this is none.
pub(crate) fn own_machine() -> OwnMachine {
    OwnMachine::told(|name| std::env::var(name).ok())
}

/// Returns how many CPUs this process may use.
pub(crate) fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX))
}

/// Returns a variable of this process that a guest may be given, where it is set and text.
pub(crate) fn guest_variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Returns a variable of this process that holds a secret.
pub(crate) fn secret(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Returns the one variable that the program that has the network is given: certificates that it trusts beside its own.
pub(crate) fn network_env() -> Option<(&'static str, OsString)> {
    const CERTIFICATES: &str = "SSL_CERT_FILE";
    std::env::var_os(CERTIFICATES).map(|value| (CERTIFICATES, value))
}

/// Returns the variables of this process that a manifest's secrets are taken from, for Machines on this computer: as they are,
/// since a host judges them and says of jobs that wait what is wrong. That is said here too, of all.
pub(crate) fn secrets(manifest: &Manifest) -> BTreeMap<String, OsString> {
    let mut values = BTreeMap::new();
    for (name, SecretSource { env }) in &manifest.secrets {
        let value = std::env::var_os(env);
        if let Err(why) = secret_value(value.as_deref().map(OsStr::as_bytes)) {
            note(format_args!(
                "the secret `{name}` is missing: its variable `{env}` {why}; set it and start again, jobs of modules that \
                 have it wait until then"
            ));
        }
        values.extend(value.map(|value| (env.clone(), value)));
    }
    values
}
