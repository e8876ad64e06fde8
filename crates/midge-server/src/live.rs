//! Settings of queues that were changed while a server ran: what is kept of them, and who changed what.
//!
//! Invariant: which values a setting takes, and which go together, is said by [`midge_protocol::manifest::settings`], as for
//! midge.toml.

use std::collections::BTreeMap;

use midge_protocol::api::{ChangedSetting, QueueSettings, SetSetting, SettingsChange};
use midge_protocol::manifest::QueuePolicy;
use midge_protocol::manifest::settings::{self, LiveSettings};
use midge_protocol::{QueueName, Timestamp};
use midge_store::{Rows, StoreError};
use serde::{Deserialize, Serialize};

/// Under which the store remembers what is set.
const SET: &str = "queue-settings";
/// Changes of a queue that are remembered: enough to see who did what this month, and a few pages to read.
const CHANGES_MAX: usize = 50;
/// Queues of which something is set: as many as jobs may name that are not declared. All of it is one text.
pub(crate) const QUEUES_MAX: usize = midge_protocol::limits::UNDECLARED_QUEUES_MAX;

/// What is set of all queues.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Live {
    /// Rises with each change: of two, the one with the larger is the newer.
    version: u64,
    queues: BTreeMap<QueueName, LiveSettings>,
}

impl Live {
    /// Reads what is set.
    pub fn read(rows: &mut dyn Rows) -> Result<Live, StoreError> {
        Ok(rows.setting(SET)?.map(|text| read(SET, &text)).unwrap_or_default())
    }

    /// Returns what is set of a queue; nothing where nothing is.
    pub fn of(&self, queue: &QueueName) -> Option<&LiveSettings> {
        self.queues.get(queue)
    }

    /// Returns the queues of which something is set.
    pub fn queues(&self) -> impl Iterator<Item = &QueueName> {
        self.queues.keys()
    }

    /// Returns whether it was written after another.
    pub fn is_newer_than(&self, other: &Live) -> bool {
        self.version > other.version
    }

    /// Writes what is set of a queue from now on, and who changed it.
    pub fn put(
        &mut self,
        rows: &mut dyn Rows,
        queue: &QueueName,
        set: LiveSettings,
        change: SettingsChange,
    ) -> Result<(), StoreError> {
        self.version += 1;
        match set.0.is_empty() {
            true => self.queues.remove(queue),
            false => self.queues.insert(queue.clone(), set),
        };
        rows.put_setting(SET, &text(self))?;
        let mut changes = changes(rows, queue)?;
        changes.insert(0, change);
        changes.truncate(CHANGES_MAX);
        rows.put_setting(&changes_of(queue), &text(&changes))
    }
}

/// Reads the last changes of a queue's settings, newest first.
pub fn changes(rows: &mut dyn Rows, queue: &QueueName) -> Result<Vec<SettingsChange>, StoreError> {
    let key = changes_of(queue);
    Ok(rows.setting(&key)?.map(|text| read(&key, &text)).unwrap_or_default())
}

/// Returns what an app is shown of a queue's settings that was declared so.
pub fn shown(
    set: Option<&LiveSettings>,
    declared: &QueuePolicy,
    changes: Vec<SettingsChange>,
) -> QueueSettings {
    let unusable = set.and_then(|set| set.on(declared).err()).map(|error| error.to_string());
    QueueSettings { set: set.map(|set| each(set, declared)).unwrap_or_default(), unusable, changes }
}

/// Returns what is set of a queue that was declared so, beside what is declared.
pub fn each(set: &LiveSettings, declared: &QueuePolicy) -> Vec<SetSetting> {
    let set = set.0.iter().map(|(name, value)| SetSetting {
        name: name.clone(),
        value: value.clone(),
        declared: settings::get(declared, name),
    });
    set.collect()
}

/// Returns what is remembered of a change from one policy to another, of settings that were set or unset.
pub fn change(
    names: impl Iterator<Item = (String, bool)>,
    before: &QueuePolicy,
    after: &QueuePolicy,
    (by, reason): (String, String),
    at: Timestamp,
) -> SettingsChange {
    let changed = names.map(|(name, unset)| {
        let (from, to) = (settings::get(before, &name), settings::get(after, &name));
        ChangedSetting { name, from, to, unset }
    });
    SettingsChange { at, by, reason, changed: changed.collect() }
}

fn changes_of(queue: &QueueName) -> String {
    format!("queue-changes:{queue}")
}

fn text(what: &impl Serialize) -> String {
    serde_json::to_string(what).expect("names and JSON can be written as JSON")
}

/// Reads what was kept under a key. What cannot be read counts as nothing: a server that does not start would be worse.
fn read<T: for<'a> Deserialize<'a> + Default>(key: &str, text: &str) -> T {
    serde_json::from_str(text).unwrap_or_else(|error| {
        tracing::error!(key, %error, "settings of queues that were changed cannot be read, and do not count");
        T::default()
    })
}
