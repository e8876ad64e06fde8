//! The secrets of this Machine, and the lines to the program `midge-net`, which is told them.
//!
//! Invariant: nothing of it is started, opened or looked up before a guest makes a request.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use midge_engine::Lines;
use midge_protocol::line::Setup;
use midge_protocol::manifest::{Manifest, ModuleEntry, SecretSource};
use midge_protocol::{InvalidSecret, SecretName, secret_value};

use crate::process;
use crate::settings::certificates;

/// The program's file, which lies beside the host's.
const PROGRAM: &str = "midge-net";

/// The secrets that a Machine has.
pub struct Secrets {
    values: BTreeMap<SecretName, Bytes>,
    /// Those that it does not have, in words.
    missing: BTreeMap<SecretName, String>,
}

impl Secrets {
    /// Takes the secrets that a manifest names out of the environment, where they cannot be read afterwards.
    pub fn take(manifest: &Manifest) -> Secrets {
        let mut secrets = Secrets { values: BTreeMap::new(), missing: BTreeMap::new() };
        // Once each: it cannot be read again, and several secrets may be in one.
        let mut taken: BTreeMap<&str, Option<Bytes>> = BTreeMap::new();
        for (name, SecretSource { env }) in &manifest.secrets {
            let value = taken.entry(env).or_insert_with(|| process::take_variable(env).map(Bytes::from));
            match secret_value(value.as_deref()) {
                Ok(sent) => {
                    let value = value.as_ref().expect("what is sent is a part of it");
                    secrets.values.insert(name.clone(), value.slice_ref(sent));
                }
                Err(why) => {
                    secrets.missing.insert(name.clone(), lacks(name, env, why));
                }
            }
        }
        secrets
    }

    /// Returns what a module lacks, in words, where some of its secrets are missing.
    pub fn lacked_by(&self, module: &ModuleEntry) -> Option<String> {
        let missing: Vec<&str> =
            module.secrets.keys().filter_map(|name| self.missing.get(name).map(String::as_str)).collect();
        (!missing.is_empty()).then(|| missing.join("; "))
    }

    /// Returns what is missing, in words, one after the other.
    pub fn missing(&self) -> impl Iterator<Item = String> {
        self.missing.values().cloned()
    }
}

fn lacks(name: &SecretName, variable: &str, why: InvalidSecret) -> String {
    format!("the secret `{name}`: its variable `{variable}` {why}")
}

/// Returns the lines by which guests make their requests.
pub fn lines(modules: &Path, secrets: &Secrets) -> Arc<Lines> {
    let setup = Setup { modules: modules.display().to_string(), secrets: secrets.values.clone() };
    let command = || {
        let mut command = Command::new(std::env::current_exe()?.with_file_name(PROGRAM));
        command.env_clear().envs(certificates());
        Ok(command)
    };
    Arc::new(Lines::of_program(command, setup))
}
