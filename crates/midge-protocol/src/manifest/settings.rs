//! The settings of a queue that may be changed while a server runs: how each is written, and within which bounds.
//!
//! A value is written as in midge.toml: what [`set`] reads there is what it reads from the API.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{QueuePolicy, Wait, contradiction};
use crate::units::{duration, show_duration};
use crate::{limits, nearest};

/// What has a policy take a value, and returns what it would take where that is none.
type Write = fn(&mut QueuePolicy, &Value) -> Result<(), String>;
/// What returns a policy's value; nothing where it has none.
type Read = fn(&QueuePolicy) -> Value;

/// Each setting that may be changed, with how it is written and read. In an order in which a bound comes before what is
/// bound by it.
static SETTINGS: [(&str, Write, Read); 12] = [
    (
        "max_machines",
        |policy, value| number(value, 1..=limits::MACHINES_MAX).map(|number| policy.max_machines = number),
        |policy| policy.max_machines.into(),
    ),
    (
        // More than run at once could be neither warm nor needed.
        "warm_machines",
        |policy, value| number(value, 0..=policy.max_machines).map(|number| policy.warm_machines = number),
        |policy| policy.warm_machines.into(),
    ),
    (
        "ready_machines",
        |policy, value| number(value, 0..=policy.max_machines).map(|number| policy.ready_machines = number),
        |policy| policy.ready_machines.into(),
    ),
    (
        "jobs_per_machine",
        |policy, value| number(value, 1..=limits::PLACES_MAX).map(|number| policy.jobs_per_machine = number),
        |policy| policy.jobs_per_machine.into(),
    ),
    (
        "wait",
        |policy, value| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let expected = || "seconds from 0 to 86400, or \"forever\"".to_owned();
            policy.wait = text.parse().map_err(|_| expected())?;
            Ok(())
        },
        |policy| match policy.wait {
            Wait::Millis(millis) if millis.is_multiple_of(1_000) => (millis / 1_000).into(),
            Wait::Millis(millis) => (millis as f64 / 1_000.0).into(),
            Wait::Forever => "forever".into(),
        },
    ),
    (
        "idle",
        |policy, value| {
            let expected = || "\"stop\", \"suspend\" or \"destroy\"".to_owned();
            policy.idle = value.as_str().and_then(|text| text.parse().ok()).ok_or_else(expected)?;
            Ok(())
        },
        |policy| policy.idle.as_str().into(),
    ),
    (
        "boot_deadline",
        |policy, value| {
            let (least, most) = (limits::BOOT_DEADLINE_MIN, limits::BOOT_DEADLINE_MAX);
            time(value, least, most).map(|millis| policy.boot_deadline_ms = millis)
        },
        |policy| show_duration(Duration::from_millis(policy.boot_deadline_ms)).into(),
    ),
    (
        "max_age",
        |policy, value| {
            time(value, limits::MAX_AGE_MIN, limits::MAX_AGE_MAX)
                .map(|millis| policy.max_age_ms = Some(millis))
        },
        |policy| policy.max_age_ms.map(|millis| show_duration(Duration::from_millis(millis))).into(),
    ),
    (
        "single_use",
        |policy, value| {
            policy.single_use = value.as_bool().ok_or_else(|| "true or false".to_owned())?;
            Ok(())
        },
        |policy| policy.single_use.into(),
    ),
    (
        "max_jobs",
        |policy, value| number(value, 1..=limits::QUEUE_JOBS_MAX).map(|number| policy.max_jobs = number),
        |policy| policy.max_jobs.into(),
    ),
    (
        "max_running",
        |policy, value| number(value, 1..=u32::MAX).map(|number| policy.max_running = Some(number)),
        |policy| policy.max_running.into(),
    ),
    (
        "max_running_per_key",
        |policy, value| number(value, 1..=u32::MAX).map(|number| policy.max_running_per_key = Some(number)),
        |policy| policy.max_running_per_key.into(),
    ),
];

/// Returns the names of all settings that may be changed while a server runs.
pub fn changeable() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().map(|(key, ..)| *key)
}

/// Why a setting is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WrongSetting {
    /// There is no such setting, or it is not one that may be changed while a server runs.
    #[error("`{key}` cannot be changed while the server runs{}", .nearest.map_or_else(|| format!(": use one of {}", list()), |nearest| format!(": did you mean `{nearest}`?")))]
    Unknown {
        /// The name.
        key: String,
        /// The setting that was likely meant.
        nearest: Option<&'static str>,
    },
    /// It takes no such value.
    #[error("`{key}` must be {expected}, not `{given}`")]
    Value {
        /// The name of the setting.
        key: &'static str,
        /// What it takes.
        expected: String,
        /// What it was given.
        given: String,
    },
    /// Settings do not go together; the text says which, and what to do.
    #[error("{0}")]
    Together(String),
}

fn list() -> String {
    changeable().collect::<Vec<_>>().join(", ")
}

/// Has a policy take one setting, as it is written in midge.toml.
///
/// # Errors
/// [`WrongSetting`] says what is wrong with the name or the value. What does not go with another setting is not looked at.
pub fn set(policy: &mut QueuePolicy, key: &str, value: &Value) -> Result<(), WrongSetting> {
    let Some(&(key, write, _)) = SETTINGS.iter().find(|(known, ..)| *known == key) else {
        let key = crate::shown::cut(key);
        return Err(WrongSetting::Unknown { nearest: nearest(&key, changeable()), key });
    };
    let given = || crate::shown::cut(&value.to_string());
    write(policy, value).map_err(|expected| WrongSetting::Value { key, expected, given: given() })
}

/// Returns a setting of a policy, as it is written in midge.toml; `null` where it has none of that name, or no value.
pub fn get(policy: &QueuePolicy, key: &str) -> Value {
    SETTINGS.iter().find(|(known, ..)| *known == key).map_or(Value::Null, |(_, _, read)| read(policy))
}

/// What was set of a queue while a server runs, by the names of the settings. It takes the place of what midge.toml says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LiveSettings(pub BTreeMap<String, Value>);

impl LiveSettings {
    /// Returns the policy of a queue that was declared so.
    ///
    /// # Errors
    /// What of it is out of its bounds, or does not go with what is declared.
    pub fn on(&self, declared: &QueuePolicy) -> Result<QueuePolicy, WrongSetting> {
        let mut policy = declared.clone();
        // In the order of the list: a bound comes before what is bound by it.
        let known = changeable().filter_map(|key| Some((key, self.0.get(key)?)));
        let unknown = self.0.iter().filter(|(key, _)| !changeable().any(|known| known == key.as_str()));
        for (key, value) in known.chain(unknown.map(|(key, value)| (key.as_str(), value))) {
            set(&mut policy, key, value)?;
        }
        policy.check(|key| format!("`{key}`")).map_err(|error| WrongSetting::Together(error.to_string()))?;
        contradiction(&policy).map_or(Ok(policy), |why| Err(WrongSetting::Together(why)))
    }
}

/// Reads a duration with its unit, in milliseconds.
fn time(value: &Value, least: Duration, most: Duration) -> Result<u64, String> {
    let found = value.as_str().and_then(duration).filter(|time| (least..=most).contains(time));
    let expected = || {
        let (least, most) = (show_duration(least), show_duration(most));
        format!("a number with its unit in quotes, from \"{least}\" to \"{most}\"")
    };
    found.map(|time| time.as_millis() as u64).ok_or_else(expected)
}

/// Reads a whole number in a range.
fn number<N>(value: &Value, range: RangeInclusive<N>) -> Result<N, String>
where
    N: Copy + Into<u64> + TryFrom<u64>,
{
    let (least, most): (u64, u64) = ((*range.start()).into(), (*range.end()).into());
    let number = value.as_u64().filter(|number| (least..=most).contains(number));
    let number = number.and_then(|number| N::try_from(number).ok());
    number.ok_or_else(|| format!("a whole number from {least} to {most}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn live(set: Value) -> LiveSettings {
        serde_json::from_value(set).unwrap()
    }

    #[test]
    fn what_was_set_takes_the_place_of_what_is_declared_and_the_rest_stays() {
        let declared = QueuePolicy { max_machines: 4, max_jobs: 9, ..QueuePolicy::default() };
        let set = json!({
            "max_machines": 5, "warm_machines": 5, "ready_machines": 2, "wait": "forever", "idle": "suspend",
            "max_running": 3, "jobs_per_machine": 7,
        });
        let policy = live(set).on(&declared).unwrap();
        assert_eq!((policy.max_machines, policy.warm_machines, policy.ready_machines), (5, 5, 2));
        assert_eq!((policy.wait, policy.max_running, policy.max_jobs), (Wait::Forever, Some(3), 9));
        assert_eq!(live(json!({})).on(&declared), Ok(declared));
    }

    #[test]
    fn each_setting_is_read_as_it_is_written() {
        let mut policy = QueuePolicy::default();
        let values = [
            ("max_machines", json!(6)),
            ("warm_machines", json!(1)),
            ("ready_machines", json!(2)),
            ("jobs_per_machine", json!(3)),
            ("wait", json!(0.5)),
            ("idle", json!("destroy")),
            ("boot_deadline", json!("30s")),
            ("max_age", json!("6h")),
            ("single_use", json!(true)),
            ("max_jobs", json!(10)),
            ("max_running", json!(7)),
            ("max_running_per_key", json!(8)),
        ];
        assert_eq!(values.len(), changeable().count());
        for (key, value) in values {
            set(&mut policy, key, &value).unwrap();
            assert_eq!(get(&policy, key), value, "{key}");
        }
        assert_eq!(get(&policy, "colour"), Value::Null);
    }

    #[test]
    fn what_is_out_of_its_bounds_or_does_not_go_together_is_refused_in_words() {
        let declared = QueuePolicy { max_machines: 4, warm_machines: 3, ..QueuePolicy::default() };
        for (set, says) in [
            (json!({"max_machines": 0}), "`max_machines` must be a whole number from 1 to 1000, not `0`"),
            (json!({"ready_machines": 5}), "`ready_machines` must be a whole number from 0 to 4, not `5`"),
            (json!({"max_machines": 2}), "`warm_machines` is 3, and may be from 0 to 2"),
            (json!({"max_machines": 1.5}), "a whole number from 1 to 1000, not `1.5`"),
            (json!({"max_machines": "4"}), "not `\"4\"`"),
            (json!({"wait": -1}), "`wait` must be seconds from 0 to 86400, or \"forever\", not `-1`"),
            (json!({"wait": null}), "not `null`"),
            (json!({"idle": "sleep"}), "`idle` must be \"stop\", \"suspend\" or \"destroy\""),
            (json!({"idle": "suspend"}), "set `ready_machines`"),
            (
                json!({"boot_deadline": "1s"}),
                "a number with its unit in quotes, from \"5s\" to \"1h\", not `\"1s\"`",
            ),
            (json!({"max_age": 60}), "from \"1m\" to \"30d\", not `60`"),
            (json!({"single_use": 1}), "`single_use` must be true or false, not `1`"),
            (
                json!({"max_machine": 1}),
                "`max_machine` cannot be changed while the server runs: did you mean `max_machines`?",
            ),
            (json!({"qqqqqq": 1}), "use one of max_machines, warm_machines"),
        ] {
            let error = live(set.clone()).on(&declared).unwrap_err().to_string();
            assert!(error.contains(says), "{set}: {error}");
        }
    }
}
