//! What a server's own Machine is made of, and what of that the Machines are made with that it makes.
//!
//! Invariant: nothing here reads the environment, and nothing of a process's env becomes a Machine's. Only what the own
//! Machine's config declares does, which no secret is part of.

use std::collections::BTreeMap;
use std::time::Duration;

use midge_protocol::MachineId;
use midge_protocol::manifest::{MachineSize, given};

use crate::wire::{FlyGuest, ImageRef, Machine};
use crate::{FlyMachines, FlySettings, MachineError};

/// How often the own Machine is asked for before the env has to do: an outage of the API keeps no server from starting.
const READ_TRIES: u32 = 3;
/// Between two of them: calls of one kind about one Machine may come once a second.
const READ_PAUSE: Duration = Duration::from_secs(1);

/// What Fly tells a Machine about itself, in the env of its program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnMachine {
    /// The app that it is in, from `FLY_APP_NAME`.
    pub app: Option<String>,
    /// Its id, from `FLY_MACHINE_ID`.
    pub id: Option<MachineId>,
    /// The reference of its image, from `FLY_IMAGE_REF`: by a tag, as a rule.
    pub image: Option<String>,
    /// The region that it is in, from `FLY_REGION`.
    pub region: Option<String>,
    /// Its memory in MiB, from `FLY_VM_MEMORY_MB`.
    pub memory_mib: Option<u32>,
    /// Its IPv6 address in the organization's private network, from `FLY_PRIVATE_IP`. It changes when the Machine moves.
    pub private_ip: Option<String>,
    /// The process group that it is of, from `FLY_PROCESS_GROUP`.
    pub process_group: Option<String>,
}

impl OwnMachine {
    /// Returns what Fly's variables say. `variable` returns the value of one, where it is set.
    pub fn told(variable: impl Fn(&str) -> Option<String>) -> OwnMachine {
        // A variable that is set to nothing is not set.
        let told = |name: &str| variable(name).filter(|value| !value.is_empty());
        OwnMachine {
            app: told("FLY_APP_NAME"),
            id: told("FLY_MACHINE_ID").and_then(|id| MachineId::new(id).ok()),
            image: told("FLY_IMAGE_REF"),
            region: told("FLY_REGION"),
            memory_mib: told("FLY_VM_MEMORY_MB").and_then(|memory| memory.parse().ok()),
            private_ip: told("FLY_PRIVATE_IP"),
            process_group: told("FLY_PROCESS_GROUP"),
        }
    }
}

impl OwnMachine {
    /// Returns the ways by which other Machines of the organization reach this one on a port, as URLs: its address, which is
    /// there at once; its own name, which leads to it after its address has changed; and that of its process group, which
    /// leads to the Machine that has taken its place.
    pub fn ways(&self, port: u16) -> Vec<String> {
        let address = self.private_ip.as_ref().map(|ip| format!("http://[{ip}]:{port}"));
        let named = |label: &str, kind: &str| {
            let app = self.app.as_deref()?;
            Some(format!("http://{label}.{kind}.{app}.internal:{port}"))
        };
        let name = self.id.as_ref().and_then(|id| named(id.as_str(), "vm"));
        let group = self.process_group.as_ref().and_then(|group| named(group, "process"));
        [address, name, group].into_iter().flatten().collect()
    }
}

/// What of a server's own Machine the Machines are made with that it makes.
///
/// Not part of it: its program, mounts, services, checks, schedule, standbys, statics, files and metadata; whether and
/// how it is restarted and stopped; secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    /// The full reference of the image, by its digest where that is known.
    pub image: Option<String>,
    /// The env that the own Machine's config declares, without the platform's variables and midge's own.
    pub env: BTreeMap<String, String>,
    /// CPUs and memory.
    pub size: Option<MachineSize>,
    /// The region that the own Machine is in.
    pub region: Option<String>,
}

impl Model {
    /// Asks the API at `api.base_url` for the own Machine, where its app and id are known and the token of `api` is good for
    /// that app too; else goes by what Fly told it, and by the number of its CPUs.
    pub async fn find(own: &OwnMachine, api: &FlySettings, cpus: u32) -> Model {
        match read(own, api).await {
            Some(machine) => Model::of_config(&machine),
            None => Model::of_env(own, cpus),
        }
    }

    /// Returns the model of a Machine that the API tells all about.
    pub fn of_config(own: &Machine) -> Model {
        let config = own.config.as_ref().or(own.incomplete_config.as_ref());
        let reference = config.map(|config| config.image.clone()).filter(|image| !image.is_empty());
        let image = own.image_ref.as_ref().and_then(pinned).or(reference);
        let env = config.map(|config| declared(&config.env)).unwrap_or_default();
        let size = config.and_then(|config| config.guest.as_ref()).and_then(size_of);
        Model { image, env, size, region: Some(own.region.clone()).filter(|region| !region.is_empty()) }
    }

    /// Returns the model of a Machine that only knows what Fly told it, and how many CPUs it has: declared env and env that
    /// is secret are not told apart there, so none of it is taken.
    pub fn of_env(own: &OwnMachine, cpus: u32) -> Model {
        let size = own.memory_mib.and_then(|memory_mib| MachineSize::of_parts(memory_mib, cpus));
        Model {
            image: own.image.clone(),
            env: BTreeMap::new(),
            size: size.map(large_enough),
            region: own.region.clone(),
        }
    }
}

/// Asks the API for the own Machine. Nothing where it has no answer.
async fn read(own: &OwnMachine, api: &FlySettings) -> Option<Machine> {
    let (app, id) = (own.app.clone()?, own.id.as_ref()?);
    let machines = FlyMachines::new(FlySettings { app, ..api.clone() }).ok()?;
    for tried in 1..=READ_TRIES {
        let error = match machines.machine(id).await {
            Ok(machine) => return Some(machine),
            Err(error) => error,
        };
        if matches!(error, MachineError::Denied(_) | MachineError::Gone(_) | MachineError::Invalid(_)) {
            // As it should be where the token is for the Machines' own app.
            tracing::info!(machine.id = %id, %error, "the server's own Machine may not be read: Machines are made by what FLY_* says, without env of fly.toml");
            return None;
        }
        tracing::warn!(machine.id = %id, error = &error as &dyn std::error::Error, tried, "cannot read the server's own Machine");
        if tried < READ_TRIES {
            tokio::time::sleep(READ_PAUSE).await;
        }
    }
    None
}

/// Returns the reference of an image by its digest, by its tag where that is all that is known.
fn pinned(image: &ImageRef) -> Option<String> {
    let ImageRef { registry, repository, tag, digest } = image;
    if registry.is_empty() || repository.is_empty() {
        return None;
    }
    match (digest.is_empty(), tag.is_empty()) {
        (false, _) => Some(format!("{registry}/{repository}@{digest}")),
        (true, false) => Some(format!("{registry}/{repository}:{tag}")),
        (true, true) => None,
    }
}

/// Returns the part of a config's env that is the app's. Names that begin with `MIDGE_` are settings of the server, among
/// them perhaps its token; `FLY_...` and `PRIMARY_REGION` are about the own Machine.
fn declared(env: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let is_platform = |name: &str| name.starts_with("FLY_") || name == "PRIMARY_REGION";
    let is_app = |name: &str, value: &str| {
        !is_platform(name) && given::check_env_name(name).is_ok() && !value.contains('\0')
    };
    let app = env.iter().filter(|(name, value)| is_app(name, value));
    app.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Returns the size of a config's guest, where Fly sells such a one to us: GPUs and dedicated hosts are not copied.
fn size_of(guest: &FlyGuest) -> Option<MachineSize> {
    let FlyGuest { cpu_kind, cpus, memory_mb } = guest;
    let size = MachineSize { cpu_kind: cpu_kind.clone(), cpus: *cpus, memory_mib: *memory_mb };
    size.check().ok().map(|()| large_enough(size))
}

/// Returns a size with at least the memory of the default one, by which `midge build` has judged whether jobs fit where no
/// size was said. A server needs less.
fn large_enough(size: MachineSize) -> MachineSize {
    let memory_mib = size.memory_mib.max(MachineSize::default().memory_mib);
    MachineSize { memory_mib, ..size }
}

#[cfg(test)]
mod tests {
    use midge_protocol::MachineName;
    use serde_json::{Value, json};

    use super::*;
    use crate::MachineSpec;
    use crate::config::config_of;

    /// Returns the config of a Machine that is made like one of which the API tells this, with midge's own part added.
    fn forked(own: Value) -> Value {
        let own: Machine = serde_json::from_value(own).unwrap();
        let Model { image, mut env, size, region: _ } = Model::of_config(&own);
        env.insert("MIDGE_MACHINE".to_owned(), "midge-1".to_owned());
        let spec = MachineSpec {
            name: MachineName::new("midge-1").unwrap(),
            region: None,
            image: image.unwrap_or_default(),
            exec: vec!["/midge-host".to_owned(), "work".to_owned()],
            env,
            has_secrets: false,
            size: size.unwrap_or_default(),
            metadata: BTreeMap::from([("midge_store".to_owned(), "s".to_owned())]),
        };
        serde_json::to_value(config_of(&spec)).unwrap()
    }

    /// The config of a Machine of midge's with these parts of its own.
    fn made(image: &str, env: Value, cpu_kind: &str, cpus: u32, memory_mb: u32) -> Value {
        let mut env = env;
        env["MIDGE_MACHINE"] = "midge-1".into();
        json!({
            "image": image,
            "env": env,
            "init": {"exec": ["/midge-host", "work"]},
            "guest": {"cpu_kind": cpu_kind, "cpus": cpus, "memory_mb": memory_mb},
            "restart": {"policy": "no"},
            "auto_destroy": false,
            "stop_config": {"signal": "SIGTERM", "timeout": "30s"},
            "metadata": {"midge_store": "s"},
        })
    }

    #[test]
    fn a_machine_is_made_like_the_server_s_own_of_which_only_image_env_and_size_are_copied() {
        let by_tag = json!({"registry": "registry.fly.io", "repository": "shop", "tag": "deployment-01"});
        let by_digest = json!({"registry": "registry.fly.io", "repository": "shop", "tag": "deployment-01", "digest": "sha256:ab"});
        let whole = json!({
            "image": "registry.fly.io/shop:deployment-01",
            "env": {
                "LOG": "info", "STRIPE_URL": "https://api.stripe.com", "PRIMARY_REGION": "ams",
                "FLY_PROCESS_GROUP": "app", "FLY_REGION": "ams", "MIDGE_TOKEN": "secret", "MIDGE_DB": "/data/midge.db",
                "odd name": "x", "": "x", "1ST": "x", "ZERO": "a\u{0}b",
            },
            "init": {"cmd": ["serve"], "entrypoint": ["/app"], "swap_size_mb": 512, "tty": true},
            "guest": {"cpu_kind": "performance", "cpus": 2, "memory_mb": 4096, "gpu_kind": "a10", "host_dedication_id": "h"},
            "restart": {"policy": "always", "max_retries": 9},
            "auto_destroy": true,
            "stop_config": {"signal": "SIGINT", "timeout": "300s"},
            "metadata": {"fly_platform_version": "v2", "fly_process_group": "app", "fly_release_id": "1", "team": "web"},
            "mounts": [{"volume": "vol_1", "path": "/data"}],
            "services": [{"internal_port": 8080, "protocol": "tcp", "autostop": true}],
            "checks": {"alive": {"type": "tcp", "port": 8080}},
            "metrics": {"port": 9091, "path": "/metrics"},
            "files": [{"guest_path": "/etc/key", "secret_name": "KEY"}],
            "processes": [{"cmd": ["serve"], "secrets": [{"env_var": "KEY"}]}],
            "schedule": "daily", "standbys": ["148e"], "statics": [{"guest_path": "/s"}],
            "dns": {"skip_registration": false}, "rootfs": {"persist": "always"}, "cache_drive": {"size_mb": 1},
        });
        let only = |config: Value| json!({"config": config});
        let env = json!({"LOG": "info", "STRIPE_URL": "https://api.stripe.com"});
        let shared_1024 = |image: &str| made(image, json!({}), "shared", 1, 1024);
        let guest = |kind: &str, cpus: u32, memory: u32| {
            only(json!({"image": "i", "guest": {"cpu_kind": kind, "cpus": cpus, "memory_mb": memory}}))
        };
        let table = [
            (
                "all that a config may hold",
                json!({"image_ref": by_digest, "config": whole}),
                made("registry.fly.io/shop@sha256:ab", env.clone(), "performance", 2, 4096),
            ),
            (
                "no digest is known",
                json!({"image_ref": by_tag, "config": whole}),
                made("registry.fly.io/shop:deployment-01", env.clone(), "performance", 2, 4096),
            ),
            (
                "its server host does not answer, and part of its config is known",
                json!({"host_status": "unreachable", "config": null, "incomplete_config": whole}),
                made("registry.fly.io/shop:deployment-01", env, "performance", 2, 4096),
            ),
            ("a config with nothing but an image", only(json!({"image": "i"})), shared_1024("i")),
            ("env is null", only(json!({"image": "i", "env": null})), shared_1024("i")),
            (
                "a reference without a repository is none",
                json!({"image_ref": {"registry": "registry.fly.io", "digest": "sha256:ab"}, "config": {"image": "i"}}),
                shared_1024("i"),
            ),
            ("less memory than jobs were judged by", guest("shared", 1, 512), shared_1024("i")),
            ("more of it", guest("shared", 1, 2048), made("i", json!({}), "shared", 1, 2048)),
            ("more CPUs", guest("shared", 4, 1024), made("i", json!({}), "shared", 4, 1024)),
            ("a size that is not sold", guest("custom", 3, 100), shared_1024("i")),
        ];
        for (what, own, expected) in table {
            assert_eq!(forked(own), expected, "{what}");
        }
    }

    #[test]
    fn a_server_is_reached_by_its_address_and_by_names_that_follow_it() {
        let own = OwnMachine {
            app: Some("shop".to_owned()),
            id: Some(MachineId::new("d8d9").unwrap()),
            private_ip: Some("fdaa::3".to_owned()),
            process_group: Some("app".to_owned()),
            ..OwnMachine::default()
        };
        let ways =
            ["http://[fdaa::3]:80", "http://d8d9.vm.shop.internal:80", "http://app.process.shop.internal:80"];
        assert_eq!(own.ways(80), ways);
        assert!(OwnMachine::default().ways(80).is_empty());
    }

    #[test]
    fn where_only_the_env_is_known_no_variable_is_copied() {
        let variables = BTreeMap::from([
            ("FLY_APP_NAME", "shop"),
            ("FLY_MACHINE_ID", "148ed21fe74e89"),
            ("FLY_IMAGE_REF", "registry.fly.io/shop:deployment-01"),
            ("FLY_REGION", "ams"),
            ("FLY_VM_MEMORY_MB", "4096"),
            ("FLY_PRIVATE_IP", "fdaa::3"),
            ("FLY_PROCESS_GROUP", ""),
            ("STRIPE_KEY", "a secret"),
        ]);
        let own = OwnMachine::told(|name| variables.get(name).map(|value| (*value).to_owned()));
        assert_eq!((own.app.as_deref(), own.process_group.as_deref()), (Some("shop"), None));
        let model = Model::of_env(&own, 2);
        let size = MachineSize { cpu_kind: "shared".to_owned(), cpus: 2, memory_mib: 4096 };
        let expected = Model {
            image: Some("registry.fly.io/shop:deployment-01".to_owned()),
            env: BTreeMap::new(),
            size: Some(size),
            region: Some("ams".to_owned()),
        };
        assert_eq!(model, expected);
        assert_eq!(Model::of_env(&own, 3).size, None, "nobody sells that");
        assert_eq!(Model::of_env(&OwnMachine::default(), 1), Model::default());
    }
}
