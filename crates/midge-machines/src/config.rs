//! The config that a Machine is made with, and what is left of it in the API's answer.

use crate::wire::{FlyGuest, Init, MachineConfig, Restart, STOP_TIMEOUT, StopConfig};
use crate::{MachineError, MachineSpec};

/// Refuses what the API would take, with another effect than the caller thinks.
pub(crate) fn check(spec: &MachineSpec) -> Result<(), MachineError> {
    let refuse = |why: String| Err(MachineError::Invalid(format!("Machine {}: {why}", spec.name)));
    if spec.exec.is_empty() {
        // The image's own command would be run: the app's server, again.
        return refuse("no program".to_owned());
    }
    if let Some(key) = spec.metadata.keys().find(|key| key.starts_with("fly_")) {
        return refuse(format!("metadata `{key}` would make it part of the app's own deploys"));
    }
    if let Some(key) = spec.env.keys().find(|key| key.starts_with("FLY_") || key.is_empty()) {
        return refuse(format!("env `{key}` is the platform's to set"));
    }
    Ok(())
}

/// Returns the config for a spec.
pub(crate) fn config_of(spec: &MachineSpec) -> MachineConfig {
    MachineConfig {
        image: spec.image.clone(),
        env: spec.env.clone(),
        init: Init { exec: Some(spec.exec.clone()), ..Init::default() },
        guest: Some(FlyGuest {
            cpu_kind: spec.size.cpu_kind.clone(),
            cpus: spec.size.cpus,
            memory_mb: spec.size.memory_mib,
        }),
        // Fly would start a program that failed ten times over, with leases that are no longer its own.
        restart: Some(Restart { policy: "no".to_owned(), max_retries: None }),
        // The dispatcher starts stopped Machines again, and destroys them itself.
        auto_destroy: false,
        // Fly's own defaults are SIGINT and five seconds.
        stop_config: Some(StopConfig {
            signal: Some("SIGTERM".to_owned()),
            timeout: Some(format!("{}s", STOP_TIMEOUT.as_secs()).into()),
        }),
        metadata: spec.metadata.clone(),
        other: Default::default(),
    }
}

/// Names what was sent and is not in the echo, of that without which a Machine must not be.
pub(crate) fn lost(sent: &MachineConfig, echo: &MachineConfig) -> Vec<&'static str> {
    let policy = |config: &MachineConfig| config.restart.as_ref().map(|restart| restart.policy.clone());
    let checks = [
        ("its program", echo.init.exec == sent.init.exec),
        ("its env", sent.env.iter().all(|(key, value)| echo.env.get(key) == Some(value))),
        ("its labels", sent.metadata.iter().all(|(key, value)| echo.metadata.get(key) == Some(value))),
        ("its restart policy", policy(echo) == policy(sent)),
        ("its lifetime (auto_destroy)", echo.auto_destroy == sent.auto_destroy),
    ];
    checks.into_iter().filter(|(_, kept)| !kept).map(|(what, _)| what).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use midge_protocol::MachineName;
    use midge_protocol::manifest::MachineSize;
    use serde_json::json;

    use super::*;

    fn spec() -> MachineSpec {
        MachineSpec {
            name: MachineName::new("m").unwrap(),
            region: None,
            image: "image".to_owned(),
            exec: vec!["/midge-host".to_owned(), "work".to_owned()],
            env: BTreeMap::from([("MIDGE_SERVER".to_owned(), "http://s".to_owned())]),
            size: MachineSize::default(),
            has_secrets: false,
            metadata: BTreeMap::from([("midge_queue".to_owned(), "default".to_owned())]),
        }
    }

    #[test]
    fn the_config_is_written_in_fly_s_words() {
        let json = serde_json::to_value(config_of(&spec())).unwrap();
        let expected = json!({
            "image": "image",
            "env": {"MIDGE_SERVER": "http://s"},
            "init": {"exec": ["/midge-host", "work"]},
            "guest": {"cpu_kind": "shared", "cpus": 1, "memory_mb": 1024},
            "restart": {"policy": "no"},
            "auto_destroy": false,
            "stop_config": {"signal": "SIGTERM", "timeout": "30s"},
            "metadata": {"midge_queue": "default"},
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn what_the_api_dropped_is_named_and_what_it_added_is_not() {
        let sent = config_of(&spec());
        let mut echo = sent.clone();
        echo.env.insert("ADDED".to_owned(), String::new());
        assert_eq!(lost(&sent, &echo), Vec::<&str>::new());
        echo.env.clear();
        echo.init = Init::default();
        assert_eq!(lost(&sent, &echo), ["its program", "its env"]);
    }

    #[test]
    fn a_spec_that_would_have_another_effect_is_refused() {
        let label = |key: &str| BTreeMap::from([(key.to_owned(), "v2".to_owned())]);
        for bad in [
            MachineSpec { exec: Vec::new(), ..spec() },
            MachineSpec { metadata: label("fly_platform_version"), ..spec() },
            MachineSpec { env: label("FLY_REGION"), ..spec() },
        ] {
            assert!(matches!(check(&bad), Err(MachineError::Invalid(_))), "{bad:?}");
        }
        check(&spec()).unwrap();
    }
}
