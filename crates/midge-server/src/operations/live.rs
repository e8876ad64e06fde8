//! What can be asked about settings of queues that are changed while a server runs.

use std::collections::{BTreeMap, BTreeSet};

use midge_protocol::api::{QueueSettings, SettingsRequest};
use midge_protocol::manifest::settings::{WrongSetting, changeable};
use midge_protocol::manifest::{MACHINE_SETTINGS, QueuePolicy};
use midge_protocol::{QueueName, Timestamp, limits, nearest};
use midge_store::Rows;
use serde_json::Value;

use super::queues::known_queue;
use crate::catalog::Catalog;
use crate::error::ServiceError;
use crate::live::{self, Live};
use crate::midge::Midge;

impl Midge {
    /// Returns what was set of a queue while a server ran, and who changed it last.
    ///
    /// # Errors
    /// [`ServiceError::UnknownQueue`], as [`Midge::pause_queue`].
    pub async fn queue_settings(&self, name: QueueName) -> Result<QueueSettings, ServiceError> {
        let (now, catalog) = (self.inner.clock.now(), self.inner.catalog.get());
        midge_store::read(&*self.inner.store, move |rows| {
            known(rows, &catalog, &name, now)?;
            let (live, changes) = (Live::read(rows)?, live::changes(rows, &name)?);
            Ok(live::shown(live.of(&name), &catalog.manifest.queue(&name), changes))
        })
        .await
    }

    /// Changes settings of a queue, all or none, at once and until they are unset: over restarts and deploys. Machines that
    /// are there keep what they were made with.
    ///
    /// # Errors
    /// [`ServiceError::UnknownQueue`], as [`Midge::pause_queue`]. [`ServiceError::Invalid`] for a setting that is none or may
    /// not be changed, a value out of its bounds, and values that do not go together, as `midge build` would refuse them.
    pub async fn change_queue_settings(
        &self,
        name: QueueName,
        request: SettingsRequest,
    ) -> Result<QueueSettings, ServiceError> {
        check(&request)?;
        let (now, catalog) = (self.inner.clock.now(), self.inner.catalog.get());
        let queue = name.clone();
        let (live, settings) = midge_store::write(&*self.inner.store, move |rows| {
            known(rows, &catalog, &name, now)?;
            change(rows, &catalog, &name, request, now)
        })
        .await?;
        self.inner.catalog.set_live(live);
        self.inner.wake_queue(&queue);
        self.inner.waiters.dispatcher.notify_one();
        Ok(settings)
    }
}

impl Midge {
    /// Logs a warning of each queue whose settings were changed, and do not go with what is served now.
    pub(crate) fn warn_of_unusable_settings(&self) {
        let catalog = self.inner.catalog.get();
        for queue in catalog.live.queues() {
            let set = catalog.live.of(queue).map(|set| set.on(&catalog.manifest.queue(queue)));
            if let Some(Err(error)) = set {
                tracing::warn!(
                    queue.name = %queue,
                    %error,
                    "what was set of queue `{queue}` does not go with midge.toml, and does not count: `midge queues unset {queue}`"
                );
            }
        }
    }
}

/// Changes settings of a queue in their transaction.
pub(crate) fn change(
    rows: &mut dyn Rows,
    catalog: &Catalog,
    name: &QueueName,
    request: SettingsRequest,
    now: Timestamp,
) -> Result<(Live, QueueSettings), ServiceError> {
    let SettingsRequest { set, unset, reason, by } = request;
    let wrong = |error: WrongSetting| ServiceError::Invalid(error.to_string());
    let declared = catalog.manifest.queue(name);
    whose(catalog, name, &declared, &set)?;
    let mut live = Live::read(rows)?;
    let before = live.of(name).cloned().unwrap_or_default();
    let mut after = before.clone();
    unset.iter().for_each(|key| drop(after.0.remove(key)));
    after.0.extend(set.iter().map(|(key, value)| (key.clone(), value.clone())));
    let policy = after.on(&declared).map_err(wrong)?;
    if after != before {
        let queues = live.queues().count();
        if live.of(name).is_none() && queues >= live::QUEUES_MAX {
            return Err(ServiceError::Invalid(format!(
                "settings of {queues} queues were changed, and of no other may be: unset those of one that is gone"
            )));
        }
        // What did not go with the manifest did not hold.
        let held = before.on(&declared).unwrap_or_else(|_| declared.clone());
        let names = unset.into_iter().filter(|key| before.0.contains_key(key)).map(|key| (key, true));
        let names = set.into_keys().map(|key| (key, false)).chain(names);
        let change = live::change(names, &held, &policy, (by, reason), now);
        live.put(rows, name, after, change)?;
    }
    let settings = live::shown(live.of(name), &declared, live::changes(rows, name)?);
    Ok((live, settings))
}

/// Checks that there is a queue or a pool of that name.
fn known(
    rows: &mut dyn Rows,
    catalog: &Catalog,
    name: &QueueName,
    now: Timestamp,
) -> Result<(), ServiceError> {
    if catalog.manifest.pool(name).is_some() { Ok(()) } else { known_queue(rows, catalog, name, now) }
}

/// Checks that settings are a queue's own, and not its pool's; or a pool's, and not its queues'.
fn whose(
    catalog: &Catalog,
    name: &QueueName,
    declared: &QueuePolicy,
    set: &BTreeMap<String, Value>,
) -> Result<(), ServiceError> {
    let of_machines = |key: &&String| MACHINE_SETTINGS.contains(&key.as_str());
    if let (Some(pool), Some(key)) = (&declared.pool, set.keys().find(of_machines)) {
        return Err(ServiceError::Invalid(format!(
            "`{key}` is that of pool `{pool}`, whose Machines serve queue `{name}`: set it there"
        )));
    }
    let is_pool = catalog.manifest.pool(name).is_some();
    match set.keys().find(|key| !of_machines(key)).filter(|_| is_pool) {
        Some(key) => Err(ServiceError::Invalid(format!(
            "`{key}` is about jobs, and pool `{name}` has Machines only: set it of a queue"
        ))),
        None => Ok(()),
    }
}

/// Checks what of a request does not depend on the queue.
fn check(request: &SettingsRequest) -> Result<(), ServiceError> {
    let max = limits::PAUSE_BYTES_MAX;
    for (what, text) in [("reason", &request.reason), ("by", &request.by)] {
        if text.len() > max {
            let (bytes, hint) = (text.len(), ": shorten it");
            return Err(ServiceError::TooLarge { what, bytes, max, hint });
        }
    }
    if request.set.is_empty() && request.unset.is_empty() {
        let settings = changeable().collect::<Vec<_>>().join(", ");
        return Err(ServiceError::Invalid(format!("say what to `set` or `unset`, of {settings}")));
    }
    let known: BTreeSet<&str> = changeable().collect();
    for key in &request.unset {
        if request.set.contains_key(key) {
            return Err(ServiceError::Invalid(format!("`{key}` is in `set` and in `unset`: use one")));
        }
        if !known.contains(key.as_str()) {
            let key = midge_protocol::shown::cut(key);
            return Err(ServiceError::Invalid(
                WrongSetting::Unknown { nearest: nearest(&key, changeable()), key }.to_string(),
            ));
        }
    }
    Ok(())
}
