//! What each module may reach, with the values of its secrets and the connections that it keeps.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use hyper::HeaderMap;
use hyper::header::{HeaderValue, USER_AGENT};
use midge_core::{NotAllowed, Target, may_go};
use midge_protocol::line::{Failed, Setup, Why};
use midge_protocol::manifest::{Destination, FILE_NAME, SecretSource};
use midge_protocol::{ModuleName, SecretName, secret_value};
use serde::Deserialize;
use tokio::sync::{Notify, Semaphore};

use crate::asked::{Asked, Part, within_head};
use crate::failure::{failed, not_allowed};
use crate::pool::Pool;
use crate::stars::Stars;
use crate::tls::Tls;
use crate::world::World;

/// Names that are looked up for one module at once: each is a thread, and may take until nobody who was asked has answered.
const LOOKUPS_MAX: usize = 16;
/// What a request says that it comes from, where its guest says nothing else.
const AGENT: HeaderValue = HeaderValue::from_static("midge");

/// All modules of a host.
pub(crate) struct Modules {
    modules: BTreeMap<ModuleName, Module>,
    /// Told when a connection is kept.
    kept: Arc<Notify>,
    pub(crate) world: World,
}

/// A module's part.
pub(crate) struct Module {
    pub(crate) name: ModuleName,
    pub(crate) http: Vec<Destination>,
    secrets: BTreeMap<SecretName, Secret>,
    pub(crate) pool: Pool,
    pub(crate) tls: Tls,
    pub(crate) lookups: Arc<Semaphore>,
}

struct Secret {
    destinations: Vec<Destination>,
    /// The variable of the Machine's env that holds it.
    variable: String,
    value: Option<Bytes>,
}

/// The error of a manifest that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {file}")]
pub struct NoModules {
    file: String,
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// What is read of a manifest. Its host has checked the rest.
#[derive(Deserialize)]
struct ManifestPart {
    modules: BTreeMap<ModuleName, ModulePart>,
    #[serde(default)]
    secrets: BTreeMap<SecretName, SecretSource>,
}

#[derive(Deserialize)]
struct ModulePart {
    #[serde(default)]
    http: Vec<Destination>,
    #[serde(default)]
    secrets: BTreeMap<SecretName, Vec<Destination>>,
}

/// Returns the names of the secrets that a folder's manifest declares.
pub(crate) fn secret_names(modules: &Path) -> Result<impl Iterator<Item = SecretName>, NoModules> {
    Ok(ManifestPart::read(modules)?.secrets.into_keys())
}

impl ManifestPart {
    fn read(modules: &Path) -> Result<ManifestPart, NoModules> {
        let file = modules.join(FILE_NAME);
        let unread = |source| NoModules { file: file.display().to_string(), source };
        let text = std::fs::read(&file).map_err(|error| unread(error.into()))?;
        serde_json::from_slice(&text).map_err(|error| unread(error.into()))
    }
}

impl Modules {
    /// Reads the manifest that a setup names.
    pub(crate) fn read(setup: Setup, world: World) -> Result<Modules, NoModules> {
        let manifest = ManifestPart::read(Path::new(&setup.modules))?;
        let kept = Arc::new(Notify::new());
        let roots = Tls::roots(world.certificates.as_deref());
        let module = |(name, part): (ModuleName, ModulePart)| {
            let secrets = part.secrets.into_iter().map(|(name, destinations)| {
                let source = manifest.secrets.get(&name);
                let variable = source.map_or_else(|| name.to_string(), |source| source.env.clone());
                // One that hosts would not take is none here either: it would be found everywhere, or be sent nowhere.
                let value = setup
                    .secrets
                    .get(&name)
                    .and_then(|value| secret_value(Some(value)).map(|sent| value.slice_ref(sent)).ok());
                (name, Secret { destinations, variable, value })
            });
            let module = Module {
                secrets: secrets.collect(),
                http: part.http,
                pool: Pool::new(Arc::clone(&kept)),
                tls: Tls::new(Arc::clone(&roots)),
                lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)),
                name: name.clone(),
            };
            (name, module)
        };
        Ok(Modules { modules: manifest.modules.into_iter().map(module).collect(), kept, world })
    }

    /// Returns a module of the manifest.
    pub(crate) fn get(&self, name: &ModuleName) -> Result<&Module, Failed> {
        self.modules
            .get(name)
            .ok_or_else(|| failed(Why::NotAllowed, format!("there is no module `{name}` in the manifest")))
    }

    /// Drops connections that nobody has used for a while, for as long as it is waited for. Where none is kept, nothing wakes.
    pub(crate) async fn drop_unused_links(&self) {
        loop {
            let ends = self.modules.values().filter_map(|module| module.pool.first_end()).min();
            match ends {
                Some(end) => tokio::time::sleep_until(end).await,
                None => self.kept.notified().await,
            }
            for module in self.modules.values() {
                module.pool.drop_unused();
            }
        }
    }
}

impl Module {
    /// Returns the headers of a request to a target with the values of secrets in them, and keeps those in mind.
    pub(crate) fn headers(
        &self,
        asked: &Asked,
        target: Target<'_>,
        carried: &mut Stars,
    ) -> Result<HeaderMap, Failed> {
        let mut headers = HeaderMap::with_capacity(asked.headers.len() + 3);
        let mut head_bytes = asked.url.as_str().len();
        for (name, value) in &asked.headers {
            // Before anything is copied: a guest may name a long secret often.
            for part in &value.0 {
                head_bytes += match part {
                    Part::Text(text) => text.len(),
                    Part::Secret(secret) => self.secret(secret, target)?.len(),
                };
            }
            head_bytes += name.as_str().len();
            within_head(head_bytes)?;
            let mut bytes = BytesMut::new();
            let mut is_secret = false;
            for part in &value.0 {
                match part {
                    Part::Text(text) => bytes.extend_from_slice(text),
                    Part::Secret(secret) => {
                        let value = self.secret(secret, target)?;
                        carried.add(value);
                        is_secret = true;
                        bytes.extend_from_slice(value);
                    }
                }
            }
            let mut value = HeaderValue::from_maybe_shared(bytes.freeze()).map_err(|_| {
                let secrets: Vec<&str> = value.secrets().map(SecretName::as_str).collect();
                let message = format!(
                    "the header `{name}` cannot hold the secret `{}`, which has a line's end or another control character",
                    secrets.join("`, `")
                );
                failed(Why::Invalid, message)
            })?;
            // Such a value is in no table that both ends of a connection keep.
            value.set_sensitive(is_secret);
            headers.append(name, value);
        }
        headers.entry(USER_AGENT).or_insert(AGENT);
        Ok(headers)
    }

    /// Returns whether a secret may go to a target.
    pub(crate) fn may_go(&self, secret: &SecretName, target: Target<'_>) -> bool {
        self.secrets.get(secret).is_some_and(|secret| may_go(&secret.destinations, target))
    }

    fn secret(&self, name: &SecretName, target: Target<'_>) -> Result<&Bytes, Failed> {
        let (module, secret, origin) = (self.name.clone(), name.clone(), target.origin());
        let has_others = !self.secrets.is_empty();
        let Some(known) = self.secrets.get(name) else {
            return Err(not_allowed(&NotAllowed::NoSecret { module, secret, origin, has_others }));
        };
        if !may_go(&known.destinations, target) {
            return Err(not_allowed(&NotAllowed::SecretElsewhere { module, secret, origin }));
        }
        known.value.as_ref().ok_or_else(|| {
            let message = format!(
                "the secret `{name}` has no value: set `{}` in the env of the Machines, such as by `fly secrets set`",
                known.variable
            );
            failed(Why::NotAllowed, message)
        })
    }
}
