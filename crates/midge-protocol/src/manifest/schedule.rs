//! What a manifest says of a schedule: which job it brings, when, and what becomes of ticks that were missed.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::Unique;
use crate::job::is_zero;
#[cfg(feature = "zones")]
use crate::labels::InvalidLabels;
use crate::{JobKey, Labels, ModuleName, QueueName, limits};

/// A schedule: a job at each of its ticks, which are the times that its cron expression fits in its time zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleEntry {
    /// The module of its jobs.
    pub module: ModuleName,
    /// The args of its jobs, at most [`limits::ARGS_BYTES_MAX`] as text.
    #[serde(default)]
    pub args: Value,
    /// The queue of its jobs; the module's where this is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueName>,
    /// How soon its jobs are run among those of their queue and key: [`limits::PRIORITIES`], smaller first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i8,
    /// The key of its jobs: what they have in common with others that are limited together, such as a tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<JobKey>,
    /// The milliseconds within which its jobs have to be started, from when they are due or, where their ticks are made up
    /// for, enqueued: one that was not is discarded. At most [`limits::SCHEDULE_EXPIRES_IN_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<u64>,
    /// The tags and the meta of its jobs.
    #[serde(flatten)]
    pub labels: Labels,
    /// What each of its jobs is to be the only one of: a tick where another is there brings none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<Unique>,
    /// The cron expression, as [`crate::Cron`] reads it.
    pub cron: String,
    /// The IANA name of the time zone in which the expression is read.
    #[serde(default = "utc")]
    pub zone: String,
    /// What happens to ticks at which nobody was there to enqueue a job.
    #[serde(default)]
    pub missed: Missed,
    /// How many of the missed ticks are made up for at most where all are; the newest are.
    #[serde(default = "missed_max")]
    pub missed_max: u32,
    /// The milliseconds within which its jobs are spread: each is due so long after its tick at most.
    #[serde(default)]
    pub jitter_ms: u64,
}

/// What happens to the ticks of a schedule at which no server was there to enqueue a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// They bring no job.
    #[default]
    Skip,
    /// The newest brings its job, unless a tick that was not missed comes with it.
    One,
    /// Each brings its job, up to a bound.
    All,
}

impl Missed {
    /// Returns the word for it, as `midge.toml` and the API have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Missed::Skip => "skip",
            Missed::One => "one",
            Missed::All => "all",
        }
    }
}

fn utc() -> String {
    "UTC".to_owned()
}

fn missed_max() -> u32 {
    limits::MISSED_DEFAULT
}

/// What is wrong with a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongEntry {
    /// The key whose value is wrong, as `midge.toml` has it.
    pub key: &'static str,
    /// What is wrong with it, and what is expected, for people.
    pub why: String,
}

impl ScheduleEntry {
    /// Makes a schedule with what is left out in most: no args, the module's queue, UTC, missed ticks skipped, no jitter.
    pub fn new(module: ModuleName, cron: impl Into<String>) -> ScheduleEntry {
        ScheduleEntry {
            module,
            args: Value::Null,
            queue: None,
            priority: 0,
            key: None,
            expires_in_ms: None,
            labels: Labels::default(),
            unique: None,
            cron: cron.into(),
            zone: utc(),
            missed: Missed::default(),
            missed_max: missed_max(),
            jitter_ms: 0,
        }
    }

    /// Checks what can be checked without a look at the rest of the manifest.
    ///
    /// # Errors
    /// The first value that is wrong, with its key.
    #[cfg(feature = "zones")]
    pub fn check(&self) -> Result<(), WrongEntry> {
        let wrong = |key, why| Err(WrongEntry { key, why });
        if let Err(error) = self.cron.parse::<crate::Cron>() {
            return wrong("cron", error.to_string());
        }
        if let Err(error) = crate::zone(&self.zone) {
            return wrong("zone", error.to_string());
        }
        let args = self.args.to_string();
        if args.len() > limits::ARGS_BYTES_MAX {
            let max = limits::ARGS_BYTES_MAX;
            return wrong(
                "args",
                format!("`args` are {} bytes as JSON, and at most {max} are allowed", args.len()),
            );
        }
        if let Err(error) = crate::api::check_args(&args) {
            return wrong("args", error.to_string());
        }
        if let Err(error) = self.labels.check() {
            let is_of_tags = matches!(error, InvalidLabels::TooManyTags | InvalidLabels::TagTwice { .. });
            return wrong(if is_of_tags { "tags" } else { "meta" }, error.to_string());
        }
        if let Some(Err(error)) = self.unique.as_ref().map(Unique::check) {
            return wrong("unique", error);
        }
        let priorities = limits::PRIORITIES;
        if !priorities.contains(&self.priority) {
            let (given, first, last) = (self.priority, priorities.start(), priorities.end());
            return wrong("priority", format!("`priority` is {given}, and may be from {first} to {last}"));
        }
        let max = limits::SCHEDULE_EXPIRES_IN_MAX.as_millis() as u64;
        if let Some(millis) = self.expires_in_ms.filter(|millis| !(1..=max).contains(millis)) {
            return wrong("expires_in", format!("`expires_in` is {millis} ms, and may be from 1 to {max}"));
        }
        if !(1..=limits::MISSED_MAX).contains(&self.missed_max) {
            let max = limits::MISSED_MAX;
            return wrong(
                "missed_max",
                format!("`missed_max` is {}, and may be from 1 to {max}", self.missed_max),
            );
        }
        let max = limits::JITTER_MAX.as_millis() as u64;
        if self.jitter_ms > max {
            return wrong(
                "jitter",
                format!("the jitter is {} ms, and may be from 0 to {max}", self.jitter_ms),
            );
        }
        Ok(())
    }
}

/// The error of a schedule in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("schedule `{schedule}`: {why}")]
pub struct InvalidSchedule {
    /// The name of the schedule.
    pub schedule: String,
    /// What is wrong with it, and what is expected, for people.
    pub why: String,
}

#[cfg(feature = "zones")]
impl super::Manifest {
    /// Checks its schedules: whoever reads a manifest need not have built it.
    ///
    /// # Errors
    /// The first schedule that is wrong, and what was likely meant.
    pub fn check_schedules(&self) -> Result<(), InvalidSchedule> {
        let invalid = |name: &str, why| Err(InvalidSchedule { schedule: name.to_owned(), why });
        if let Some(name) = self.schedules.keys().nth(limits::SCHEDULES_MAX) {
            let max = limits::SCHEDULES_MAX;
            return invalid(name.as_str(), format!("it is one too many: there may be {max}"));
        }
        let hint =
            |near: Option<&str>| near.map(|name| format!(": did you mean `{name}`?")).unwrap_or_default();
        for (name, entry) in &self.schedules {
            if let Err(WrongEntry { why, .. }) = entry.check() {
                return invalid(name.as_str(), why);
            }
            if !self.modules.contains_key(&entry.module) {
                let near = crate::nearest(entry.module.as_str(), self.modules.keys().map(ModuleName::as_str));
                return invalid(
                    name.as_str(),
                    format!("there is no module `{}`{}", entry.module, hint(near)),
                );
            }
            if let Some(queue) = entry.queue.as_ref().filter(|queue| !self.knows_queue(queue))
                && self.only_declared_queues()
            {
                let near = crate::nearest(queue.as_str(), self.queues.keys().map(QueueName::as_str));
                return invalid(name.as_str(), format!("queue `{queue}` is not declared{}", hint(near)));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> ScheduleEntry {
        ScheduleEntry::new(ModuleName::new("hello").unwrap(), "@daily")
    }

    #[test]
    fn a_schedule_needs_a_module_and_a_cron_expression_and_nothing_else() {
        let read: ScheduleEntry = serde_json::from_str(r#"{"module": "hello", "cron": "@daily"}"#).unwrap();
        assert_eq!(read, entry());
        assert_eq!(read.check(), Ok(()));
    }

    #[test]
    fn a_value_out_of_bounds_is_told_with_its_key() {
        let tag: crate::Tag = "a".parse().unwrap();
        let deep = (0..101).fold(Value::Null, |value, _| Value::Array(vec![value]));
        for (entry, key) in [
            (ScheduleEntry { cron: "* * *".into(), ..entry() }, "cron"),
            (ScheduleEntry { zone: "Mars".into(), ..entry() }, "zone"),
            (ScheduleEntry { args: Value::String("x".repeat(limits::ARGS_BYTES_MAX)), ..entry() }, "args"),
            (ScheduleEntry { args: deep, ..entry() }, "args"),
            (ScheduleEntry { priority: 101, ..entry() }, "priority"),
            (ScheduleEntry { expires_in_ms: Some(0), ..entry() }, "expires_in"),
            (ScheduleEntry { expires_in_ms: Some(u64::MAX), ..entry() }, "expires_in"),
            (
                ScheduleEntry {
                    labels: Labels { tags: vec![tag.clone(), tag], ..Labels::default() },
                    ..entry()
                },
                "tags",
            ),
            (
                ScheduleEntry {
                    labels: Labels { meta: [(String::new(), "x".into())].into(), ..Labels::default() },
                    ..entry()
                },
                "meta",
            ),
            (
                ScheduleEntry { unique: Some(Unique { for_ms: Some(0), ..Unique::default() }), ..entry() },
                "unique",
            ),
            (ScheduleEntry { missed_max: 0, ..entry() }, "missed_max"),
            (ScheduleEntry { missed_max: u32::MAX, ..entry() }, "missed_max"),
            (ScheduleEntry { jitter_ms: u64::MAX, ..entry() }, "jitter"),
        ] {
            assert_eq!(entry.check().unwrap_err().key, key);
        }
    }
}
