//! `[schedules.NAME]`: which jobs come by themselves, and when.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use midge_protocol::api::{OnConflict, Unique, UniqueBy, UniqueState, UniqueStates};
use midge_protocol::manifest::{Missed, QueuePolicy, ScheduleEntry, ServerPolicy};
use midge_protocol::{JobKey, ModuleName, QueueName, ScheduleName, Tag, limits, nearest};
use serde::de::DeserializeOwned;
use serde_json::Value;
use toml::de::DeValue;

use super::modules::{queue, within};
use super::section::Section;
use super::units::{duration, show_duration};
use super::{ConfigError, ProjectModule};

const EXPIRES_IN: RangeInclusive<Duration> = Duration::from_millis(1)..=limits::SCHEDULE_EXPIRES_IN_MAX;
/// As long as jobs of schedules may be kept from starting.
const UNIQUE_FOR: RangeInclusive<Duration> = EXPIRES_IN;
const JITTERS: RangeInclusive<Duration> = Duration::ZERO..=limits::JITTER_MAX;

/// What a schedule may name.
pub(super) struct Known<'a> {
    pub(super) modules: &'a BTreeMap<ModuleName, ProjectModule>,
    pub(super) queues: &'a BTreeMap<QueueName, QueuePolicy>,
    pub(super) server: &'a ServerPolicy,
}

pub(super) fn read(
    schedules: &Section<'_>,
    known: &Known<'_>,
) -> Result<BTreeMap<ScheduleName, ScheduleEntry>, ConfigError> {
    let mut read = BTreeMap::new();
    for (name, section) in schedules.sections()? {
        let name = ScheduleName::new(name).map_err(|error| section.wrong(error.to_string()))?;
        if read.len() == limits::SCHEDULES_MAX {
            let max = limits::SCHEDULES_MAX;
            return Err(section.wrong(format!("schedule `{name}` is one too many: there may be {max}")));
        }
        read.insert(name, schedule(&section, known)?);
    }
    Ok(read)
}

fn schedule(section: &Section<'_>, known: &Known<'_>) -> Result<ScheduleEntry, ConfigError> {
    section.only(&[
        "module",
        "args",
        "queue",
        "priority",
        "key",
        "expires_in",
        "tags",
        "meta",
        "unique",
        "cron",
        "zone",
        "missed",
        "missed_max",
        "jitter",
    ])?;
    let module = module(section, known)?;
    let Some(cron) = section.text("cron")? else {
        return Err(section.wrong("a schedule needs a `cron` expression such as \"30 2 * * *\"".to_owned()));
    };
    let mut entry = ScheduleEntry::new(module, cron);
    if section.text("queue")?.is_some() {
        entry.queue = Some(declared_queue(section, known)?);
    }
    let priorities = limits::PRIORITIES;
    let expected = format!("a whole number from {} to {}", priorities.start(), priorities.end());
    entry.priority = section.read("priority", &expected, priority)?.unwrap_or_default();
    if let Some(key) = section.text("key")? {
        let key = JobKey::new(key).map_err(|error| section.wrong_at("key", error.to_string()))?;
        key.check_seen().map_err(|error| section.wrong_at("key", format!("it {error}")))?;
        entry.key = Some(key);
    }
    let expires_in = within(section, "expires_in", EXPIRES_IN, duration, show_duration)?;
    entry.expires_in_ms = expires_in.map(|expires_in| expires_in.as_millis() as u64);
    let expected = "a list of tags: texts of 1 to 64 bytes that can be seen, with no space at their ends";
    entry.labels.tags = section.read("tags", expected, tags)?.unwrap_or_default();
    for (name, text) in section.section("meta")?.texts()? {
        entry.labels.meta.insert(name.to_owned(), text.to_owned());
    }
    entry.unique = unique(section)?;
    if let Some(zone) = section.text("zone")? {
        entry.zone = zone.to_owned();
    }
    let expected =
        "a value that JSON has: text, a whole number, a fraction, true or false, a list or a table";
    if let Some(args) = section.read("args", expected, json)? {
        entry.args = args;
    }
    let missed = [Missed::Skip, Missed::One, Missed::All];
    let missed = |text: &str| missed.into_iter().find(|missed| missed.as_str() == text).ok_or(());
    if let Some(missed) = section.parsed("missed", "one of \"skip\", \"one\" and \"all\"", missed)? {
        entry.missed = missed;
    }
    if let Some(max) = section.number("missed_max", 1..=u64::from(limits::MISSED_MAX))? {
        if entry.missed != Missed::All {
            let message = "`missed_max` bounds `missed = \"all\"`: add that, or remove it".to_owned();
            return Err(section.wrong_at("missed_max", message));
        }
        entry.missed_max = u32::try_from(max).expect("it is at most a thousand");
    }
    let jitter = within(section, "jitter", JITTERS, duration, show_duration)?;
    entry.jitter_ms = jitter.map_or(0, |jitter| jitter.as_millis() as u64);
    entry.check().map_err(|wrong| section.wrong_at(wrong.key, wrong.why))?;
    Ok(entry)
}

fn module(section: &Section<'_>, known: &Known<'_>) -> Result<ModuleName, ConfigError> {
    let Some(text) = section.text("module")? else {
        return Err(section.wrong("a schedule needs a `module`: the one that its jobs run".to_owned()));
    };
    let module = ModuleName::new(text).map_err(|error| section.wrong_at("module", error.to_string()))?;
    if known.modules.contains_key(&module) {
        return Ok(module);
    }
    let hint = match nearest(text, known.modules.keys().map(ModuleName::as_str)) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("add a section [modules.{text}]"),
    };
    Err(section.wrong_at("module", format!("there is no module `{text}`: {hint}")))
}

/// A queue that the server would refuse is refused here.
fn declared_queue(section: &Section<'_>, known: &Known<'_>) -> Result<QueueName, ConfigError> {
    let queue = queue(section, known.queues)?;
    let is_known = queue == QueueName::default_queue()
        || known.queues.contains_key(&queue)
        || known.modules.values().any(|module| module.queue == queue);
    let only_declared = known.server.only_declared_queues.unwrap_or(!known.queues.is_empty());
    if only_declared && !is_known {
        let message = format!("queue `{queue}` is not declared: add a section [queues.{queue}]");
        return Err(section.wrong_at("queue", message));
    }
    Ok(queue)
}

fn priority(value: &DeValue<'_>) -> Option<i8> {
    let integer = value.as_integer()?;
    let priority = i8::from_str_radix(integer.as_str(), integer.radix()).ok()?;
    limits::PRIORITIES.contains(&priority).then_some(priority)
}

fn tags(value: &DeValue<'_>) -> Option<Vec<Tag>> {
    value.as_array()?.iter().map(|tag| Tag::new(tag.get_ref().as_str()?).ok()).collect()
}

/// Reads what the jobs are to be the only ones of: `true`, or as an enqueue says it.
fn unique(section: &Section<'_>) -> Result<Option<Unique>, ConfigError> {
    if let Some(flag) = section.flag("unique").ok().flatten() {
        return Ok(flag.then(Unique::default));
    }
    let Some(unique) = section.inline("unique", "`true` or `{ by = [\"module\"], for = \"1h\" }`")? else {
        return Ok(None);
    };
    unique.only(&["by", "text", "states", "for", "on_conflict"])?;
    let words = "a list of \"module\", \"args\", \"queue\" and \"key\"";
    let by = unique.read("by", words, all::<UniqueBy>)?;
    let words = "a list of \"waiting\", \"running\", \"completed\", \"cancelled\" and \"discarded\"";
    let states = unique.read("states", words, all::<UniqueState>)?;
    let words = "one of \"keep\", \"replace\", \"push_back\" and \"replace_and_push_back\"";
    let on_conflict = unique.read("on_conflict", words, word::<OnConflict>)?;
    let for_ms = within(&unique, "for", UNIQUE_FOR, duration, show_duration)?;
    Ok(Some(Unique {
        by: by.map(|by| by.into_iter().collect()),
        text: unique.text("text")?.map(str::to_owned),
        states: states.map(|states| UniqueStates(states.into_iter().collect())),
        for_ms: for_ms.map(|span| span.as_millis() as u64),
        on_conflict: on_conflict.unwrap_or_default(),
    }))
}

/// Reads a word of the API.
fn word<T: DeserializeOwned>(value: &DeValue<'_>) -> Option<T> {
    serde_json::from_value(Value::String(value.as_str()?.to_owned())).ok()
}

fn all<T: DeserializeOwned>(value: &DeValue<'_>) -> Option<Vec<T>> {
    value.as_array()?.iter().map(|one| word(one.get_ref())).collect()
}

/// Returns a value of TOML as JSON. JSON has no dates, no infinity, and TOML no null.
fn json(value: &DeValue<'_>) -> Option<Value> {
    Some(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix()).ok()?.into(),
        DeValue::Float(float) => {
            serde_json::Number::from_f64(float.as_str().replace('_', "").parse().ok()?)?.into()
        }
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Datetime(_) => return None,
        DeValue::Array(array) => {
            Value::Array(array.iter().map(|item| json(item.get_ref())).collect::<Option<_>>()?)
        }
        DeValue::Table(table) => {
            let members =
                table.iter().map(|(key, value)| Some((key.get_ref().to_string(), json(value.get_ref())?)));
            Value::Object(members.collect::<Option<_>>()?)
        }
    })
}
