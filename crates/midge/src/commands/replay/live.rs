//! Requests that are made once more, rather than answered from a recording: who may say so, and the secrets that go with them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Result, anyhow, bail};
use bytes::Bytes;
use midge_cli::progress;
use midge_engine::Lines;
use midge_protocol::line::Setup;
use midge_protocol::manifest::{Manifest, ModuleEntry, SecretSource};
use midge_protocol::{SecretName, secret_value, shown};

use crate::config;

/// The way to the real network.
pub(super) struct Live {
    /// The program that has it.
    program: PathBuf,
    /// The folder of the modules, whose manifest says what each may reach.
    modules: String,
    /// What the manifest's secrets are here, or why they are none.
    secrets: BTreeMap<SecretName, Result<Bytes, String>>,
}

impl Live {
    /// Takes the program that has the network, and the secrets of a manifest as they are set here.
    pub(super) fn new(program: PathBuf, modules: &Path, manifest: &Manifest) -> Live {
        let secret = |(name, SecretSource { env }): (&SecretName, &SecretSource)| {
            (name.clone(), secret(name, env, config::secret(env).as_deref()))
        };
        let secrets = manifest.secrets.iter().map(secret).collect();
        Live { program, modules: modules.display().to_string(), secrets }
    }

    /// Returns which of a module's secrets are missing, in words.
    pub(super) fn missing(&self, module: &ModuleEntry) -> impl Iterator<Item = &str> {
        module.secrets.keys().filter_map(|name| self.secrets.get(name)?.as_ref().err().map(String::as_str))
    }

    /// Returns the lines for the guests of a module, with the secrets that it may use.
    pub(super) fn lines(&self, module: &ModuleEntry) -> Result<Arc<Lines>> {
        let mut secrets = BTreeMap::new();
        for name in module.secrets.keys() {
            match self.secrets.get(name) {
                Some(Ok(value)) => drop(secrets.insert(name.clone(), value.clone())),
                Some(Err(why)) => return Err(anyhow!("{why}")),
                None => {}
            }
        }
        let setup = Setup { modules: self.modules.clone(), secrets };
        let program = self.program.clone();
        let command = move || {
            let mut command = Command::new(&program);
            command.env_clear().envs(config::network_env());
            Ok(command)
        };
        Ok(Arc::new(Lines::of_program(command, setup)))
    }
}

/// Returns a secret, where it is one as hosts take it.
fn secret(name: &SecretName, variable: &str, value: Option<&OsStr>) -> Result<Bytes, String> {
    let value = secret_value(value.map(OsStr::as_bytes));
    value
        .map(Bytes::copy_from_slice)
        .map_err(|why| format!("the secret `{name}` is missing: its variable `{variable}` {why}"))
}

/// Asks whether the requests of jobs may be made once more. Where nobody can be asked, it fails.
pub(super) fn may_go_on(jobs: &str) -> Result<bool> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        bail!(
            "--live makes the requests of {} once more, and there is nobody to ask whether that may be: say so with --yes",
            shown::line(jobs)
        );
    }
    let asked = progress::above(|| {
        let question = "A charge is made once more, a mail is sent once more. Go on? [y/N] ";
        let mut stderr = io::stderr().lock();
        write!(stderr, "--live makes the requests of {} once more. {question}", shown::line(jobs))?;
        stderr.flush()
    });
    asked?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_within_the_bounds_of_one_as_a_host_has_it() {
        let name = SecretName::new("KEY").unwrap();
        let secret = |value: Option<&str>| secret(&name, "SHOP_KEY", value.map(OsStr::new));
        assert_eq!(secret(Some("four\n")), Ok("four".into()));
        for (wrong, says) in [
            (None, "is not set"),
            (Some(""), "is empty"),
            (Some("abc"), "holds 3 bytes, and a secret has 4 to 8192"),
        ] {
            let says = format!("the secret `KEY` is missing: its variable `SHOP_KEY` {says}");
            assert_eq!(secret(wrong).unwrap_err(), says);
        }
    }
}
