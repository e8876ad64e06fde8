//! What may be a Machine, and what it runs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use midge_machines::wire::{MachineConfig, StopConfig, go_duration};
use rustix::process::Signal;

use super::Fleet;
use crate::machine::{Machine, check_labels, memory_mib};
use crate::order::StopOrder;
use crate::process::Program;
use crate::refusal::Refusal;
use crate::sizes;

/// What Fly's init gives a program.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where the leash is: hosts leave when they read its end.
const LEASH: (&str, &str) = ("MIDGE_LEASH_FD", "0");
/// Fly's own, for configs that name none.
const STOP_SIGNAL_DEFAULT: Signal = Signal::INT;
const STOP_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
const STOP_TIMEOUT_MAX: Duration = Duration::from_secs(300);
/// A DNS label's, since names become part of addresses.
const NAME_BYTES_MAX: usize = 63;
/// What else a config may hold, by Fly's document. It is kept and shown, and does nothing here.
const KEPT: [&str; 15] = [
    "cache_drive",
    "checks",
    "disable_machine_autostart",
    "dns",
    "files",
    "metrics",
    "processes",
    "rootfs",
    "schedule",
    "services",
    "size",
    "spot",
    "standbys",
    "statics",
    "containers",
];

impl Fleet {
    /// Refuses a name that Fly would not take.
    pub(super) fn check_name(&self, name: &str) -> Result<(), Refusal> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.len() > NAME_BYTES_MAX || !name.chars().all(plain) {
            return Err(Refusal::invalid(format_args!("`{}` is not a name", name.escape_debug())));
        }
        Ok(())
    }

    /// Refuses what could not become a process, or would not be done here as it is on Fly.
    pub(super) fn check(&self, config: &MachineConfig) -> Result<(), Refusal> {
        if config.image.is_empty() {
            return Err(Refusal::invalid("config.image is missing"));
        }
        let policy = config.restart.as_ref().map_or("on-failure", |restart| restart.policy.as_str());
        if policy != "no" {
            return Err(Refusal::invalid(format_args!(
                "flylet starts no Machine again by itself: say \"no\" for config.restart.policy, not \"{}\"",
                policy.escape_debug()
            )));
        }
        if config
            .other
            .get("mounts")
            .is_some_and(|mounts| mounts.as_array().is_none_or(|all| !all.is_empty()))
        {
            return Err(Refusal::invalid("flylet has no volumes: leave config.mounts out"));
        }
        if let Some(guest) = &config.guest {
            sizes::check(guest).map_err(Refusal::unsupported)?;
        }
        check_labels(&config.metadata)?;
        let command = self.command(config);
        if command.is_empty() {
            return Err(Refusal::invalid("no program: say it in config.init.exec"));
        }
        if command.iter().any(|part| part.contains('\0')) {
            return Err(Refusal::invalid("the program's command holds a zero byte"));
        }
        // A Machine has a folder of its own, in which it would be looked for.
        if command[0].contains('/') && !command[0].starts_with('/') {
            return Err(Refusal::invalid(format_args!(
                "`{}` is a relative path: name the program by its absolute one",
                command[0].escape_debug()
            )));
        }
        let bad = |(key, value): &(&String, &String)| {
            key.is_empty() || key.contains(['=', '\0']) || value.contains('\0')
        };
        if let Some((key, _)) = config.env.iter().find(bad) {
            return Err(Refusal::invalid(format_args!("env `{}` cannot be set", key.escape_debug())));
        }
        self.stop_order(&StopConfig::default(), config).map(drop)
    }

    /// Returns a config with all that Fly would keep of it: keys that it does not know are dropped without a word.
    pub(crate) fn kept(mut config: MachineConfig) -> MachineConfig {
        config
            .other
            .retain(|key, value| (KEPT.contains(&key.as_str()) || key == "mounts") && !value.is_null());
        config
    }

    /// Returns how to stop a Machine: as asked, else as its config says, else as Fly does.
    pub(crate) fn stop_order(
        &self,
        asked: &StopConfig,
        config: &MachineConfig,
    ) -> Result<StopOrder, Refusal> {
        let declared = config.stop_config.as_ref();
        let name = asked.signal.as_ref().or_else(|| declared?.signal.as_ref());
        let timeout = asked.timeout.as_ref().or_else(|| declared?.timeout.as_ref());
        let signal = match name {
            Some(name) => stop_signal(name).ok_or_else(|| {
                Refusal::invalid(format_args!(
                    "`{}` is not a signal to stop a Machine with",
                    name.escape_debug()
                ))
            })?,
            None => STOP_SIGNAL_DEFAULT,
        };
        let timeout = match timeout {
            Some(value) => go_duration(value)
                .filter(|timeout| *timeout <= STOP_TIMEOUT_MAX)
                .ok_or_else(|| Refusal::invalid(format_args!("{value} is not a timeout of at most 300s")))?,
            None => STOP_TIMEOUT_DEFAULT,
        };
        Ok(StopOrder { signal, timeout })
    }

    /// Returns what a Machine runs, with the env that it has on Fly, and nothing of flylet's own.
    pub(crate) fn program(&self, machine: &Machine) -> Program {
        let config = machine.config();
        let platform = [
            ("FLY_APP_NAME", self.app().to_owned()),
            ("FLY_MACHINE_ID", machine.id.to_string()),
            ("FLY_ALLOC_ID", machine.id.to_string()),
            ("FLY_MACHINE_VERSION", machine.version()),
            ("FLY_REGION", machine.region.clone()),
            ("FLY_IMAGE_REF", config.image.clone()),
            ("FLY_PRIVATE_IP", machine.private_ip.clone()),
            ("FLY_VM_MEMORY_MB", memory_mib(&config).to_string()),
            (LEASH.0, LEASH.1.to_owned()),
        ];
        let own = |(key, value): (&str, String)| (key.to_owned(), OsString::from(value));
        let work_dir = self.settings.work_dir.clone();
        let basics = [("PATH", PATH.to_owned()), ("HOME", work_dir.display().to_string())];
        let mut env = BTreeMap::from(basics.map(own));
        env.extend(self.settings.image_env.clone());
        env.extend(config.env.iter().map(|(key, value)| (key.clone(), value.into())));
        if !machine.skips_secrets {
            env.extend(self.settings.secrets.clone());
        }
        env.extend(platform.map(own));
        Program { command: self.command(&config), env, work_dir }
    }

    fn command(&self, config: &MachineConfig) -> Vec<String> {
        let init = &config.init;
        match (&init.exec, &init.entrypoint, &init.cmd) {
            (Some(exec), _, _) if !exec.is_empty() => exec.clone(),
            (_, None, None) => self.settings.image_command.clone(),
            (_, entrypoint, cmd) => [entrypoint, cmd].into_iter().flatten().flatten().cloned().collect(),
        }
    }
}

/// Reads the name of a signal that a Machine can be stopped with.
fn stop_signal(name: &str) -> Option<Signal> {
    Some(match name.strip_prefix("SIG").unwrap_or(name) {
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "QUIT" => Signal::QUIT,
        "KILL" => Signal::KILL,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        "TERM" => Signal::TERM,
        _ => return None,
    })
}

/// Reads the name of a signal that can be sent to a Machine's program.
pub(crate) fn any_signal(name: &str) -> Option<Signal> {
    Some(match name.strip_prefix("SIG").unwrap_or(name) {
        "ABRT" => Signal::ABORT,
        "ALRM" => Signal::ALARM,
        "FPE" => Signal::FPE,
        "ILL" => Signal::ILL,
        "PIPE" => Signal::PIPE,
        "SEGV" => Signal::SEGV,
        "TRAP" => Signal::TRAP,
        _ => return stop_signal(name),
    })
}
