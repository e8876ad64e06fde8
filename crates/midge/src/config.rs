//! What is taken from the environment beside the flags that `cli` lists with their variables.

use std::collections::BTreeMap;
use std::env::VarError;
use std::ffi::OsString;

use midge_cli::output::note;
use midge_machines::own::OwnMachine;
use midge_protocol::limits::{SECRET_BYTES_MAX, SECRET_BYTES_MIN};
use midge_protocol::manifest::{Manifest, SecretSource};

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

/// Returns the one variable that the program that has the network is given: certificates that it trusts beside its own.
pub(crate) fn network_env() -> Option<(&'static str, OsString)> {
    const CERTIFICATES: &str = "SSL_CERT_FILE";
    std::env::var_os(CERTIFICATES).map(|value| (CERTIFICATES, value))
}

/// Returns the variables of this process that hold secrets of a manifest, for Machines on this computer. Says which are not
/// set: jobs that need one are not begun.
pub(crate) fn secrets(manifest: &Manifest) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for (name, SecretSource { env }) in &manifest.secrets {
        match std::env::var(env) {
            Ok(value) if (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&value.len()) => {
                values.insert(env.clone(), value);
            }
            Ok(value) if !value.is_empty() => note(format_args!(
                "the secret `{name}` is missing: `{env}` holds {} bytes, and a secret has {SECRET_BYTES_MIN} to \
                 {SECRET_BYTES_MAX}; jobs of modules that have it wait until it is set and this is started again",
                value.len()
            )),
            Ok(_) | Err(VarError::NotPresent) => note(format_args!(
                "the secret `{name}` is missing: set `{env}` and start again; jobs of modules that have it wait until then"
            )),
            Err(VarError::NotUnicode(_)) => {
                note(format_args!("the secret `{name}` is missing: `{env}` holds bytes that are no text"));
            }
        }
    }
    values
}
