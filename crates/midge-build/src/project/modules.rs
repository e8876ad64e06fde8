//! `[modules.NAME]` and `[env]`: what modules are made from, their bounds, and what guests see of a Machine.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use midge_protocol::job::{AttemptLimits, Backoff, Cause, InvalidBackoff, RetryPolicy};
use midge_protocol::manifest::{Folder, QueuePolicy, SecretSource, given};
use midge_protocol::{ModuleName, QueueName, SecretName, limits, nearest};

use super::enqueues;
use super::reach;
use super::section::Section;
use super::units::{duration, show_duration, show_size, size};
use super::{ConfigError, ModuleSource, ProjectModule};

/// Memory of a Machine that attempts cannot have: kernel, host, and the inputs and results that it holds.
const HOST_MEMORY_MIB: u64 = 128;
const TIME_LIMITS: RangeInclusive<Duration> = Duration::from_millis(1)..=limits::TIME_LIMIT_MAX;
const RETRY_FORS: RangeInclusive<Duration> = Duration::from_millis(1)..=limits::RETRY_FOR_MAX;
const MEMORY_LIMITS: RangeInclusive<u64> = limits::MEMORY_LIMIT_MIN..=limits::MEMORY_LIMIT_MAX;

pub(super) fn read(
    modules: &Section<'_>,
    folder: &Path,
    queues: &BTreeMap<QueueName, QueuePolicy>,
    secrets: &BTreeMap<SecretName, SecretSource>,
) -> Result<BTreeMap<ModuleName, ProjectModule>, ConfigError> {
    let mut read = BTreeMap::new();
    let sections = modules.sections()?;
    let names: Vec<&str> = sections.iter().map(|(name, _)| *name).collect();
    for (name, section) in &sections {
        let name = ModuleName::new(*name).map_err(|error| section.wrong(error.to_string()))?;
        let module = module(section, folder, queues, &names)?;
        reach::check(section, &module, secrets)?;
        read.insert(name, module);
    }
    Ok(read)
}

fn module(
    section: &Section<'_>,
    folder: &Path,
    queues: &BTreeMap<QueueName, QueuePolicy>,
    names: &[&str],
) -> Result<ProjectModule, ConfigError> {
    section.only(&[
        "package",
        "bin",
        "wasm",
        "queue",
        "time_limit",
        "memory_limit",
        "max_attempts",
        "backoff",
        "jitter_percent",
        "backoff_by_cause",
        "retry_for",
        "env",
        "dirs",
        "enqueues",
        "http",
        "secrets",
    ])?;
    let default = AttemptLimits::default();
    let time = within(section, "time_limit", TIME_LIMITS, duration, show_duration)?;
    let memory = within(section, "memory_limit", MEMORY_LIMITS, size, show_size)?;
    let limits = AttemptLimits {
        time_ms: time.map_or(default.time_ms, |time| time.as_millis() as u64),
        memory_bytes: memory.unwrap_or(default.memory_bytes),
    };
    let queue = queue(section, queues)?;
    fits(section, &queue, &queues.get(&queue).cloned().unwrap_or_default(), limits)?;
    Ok(ProjectModule {
        source: source(section, folder)?,
        queue,
        limits,
        retry: retry(section)?,
        env: guest_env(section)?,
        dirs: dirs(&section.section("dirs")?)?,
        enqueues: enqueues::read(section, names)?,
        http: reach::http(section)?,
        secrets: reach::of_module(&section.section("secrets")?)?,
    })
}

fn source(section: &Section<'_>, folder: &Path) -> Result<ModuleSource, ConfigError> {
    let bin = section.text("bin")?.map(str::to_owned);
    match (section.text("package")?, section.text("wasm")?) {
        (Some(package), None) => Ok(ModuleSource::Package { folder: folder.join(package), bin }),
        (None, Some(wasm)) if bin.is_none() => Ok(ModuleSource::Wasm(folder.join(wasm))),
        (None, Some(_)) => {
            Err(section.wrong_at("bin", "`bin` names a program of a `package`: it has none here".to_owned()))
        }
        (None, None) => Err(section
            .wrong("a module needs `package` (the folder of a cargo package) or `wasm` (a file)".to_owned())),
        (Some(_), Some(_)) => {
            Err(section.wrong_at("wasm", "a module has either `package` or `wasm`, not both".to_owned()))
        }
    }
}

/// A queue that is not declared has the default policy, unless its name looks like a slip.
pub(super) fn queue(
    section: &Section<'_>,
    queues: &BTreeMap<QueueName, QueuePolicy>,
) -> Result<QueueName, ConfigError> {
    let Some(text) = section.text("queue")? else {
        return Ok(QueueName::default_queue());
    };
    let queue = QueueName::new(text).map_err(|error| section.wrong_at("queue", error.to_string()))?;
    if queue == QueueName::default_queue() || queues.contains_key(&queue) {
        return Ok(queue);
    }
    match nearest(text, queues.keys().map(QueueName::as_str).chain(["default"])) {
        None => Ok(queue),
        Some(nearest) => Err(section.wrong_at(
            "queue",
            format!(
                "queue `{text}` is not declared: did you mean `{nearest}`? If not, add a section [queues.{text}]"
            ),
        )),
    }
}

/// Refuses a module whose attempts, all at once, would need more memory than the Machine has.
fn fits(
    section: &Section<'_>,
    queue: &QueueName,
    policy: &QueuePolicy,
    limits: AttemptLimits,
) -> Result<(), ConfigError> {
    let places = u64::from(policy.places());
    // A Machine whose size is not said is made as large as this at least.
    let has = u64::from(policy.size.clone().unwrap_or_default().memory_mib);
    let needs = (places * limits.memory_bytes).div_ceil(1 << 20) + HOST_MEMORY_MIB;
    if needs <= has {
        return Ok(());
    }
    let each = show_size(limits.memory_bytes);
    let message = format!(
        "{places} jobs at once with {each} each do not fit a Machine of queue `{queue}`, which has {has} MiB \
         ({HOST_MEMORY_MIB} of them for the host): set `size.memory_mib` of the queue to {needs} or more, or lower \
         `jobs_per_machine` or `memory_limit`"
    );
    Err(section.wrong_at("memory_limit", message))
}

fn retry(section: &Section<'_>) -> Result<RetryPolicy, ConfigError> {
    let default = RetryPolicy::default();
    let attempts = section.number("max_attempts", 1..=u64::from(limits::ATTEMPTS_MAX))?;
    let jitter = section.number("jitter_percent", 0..=u64::from(limits::JITTER_PERCENT_MAX))?;
    let retry_for = within(section, "retry_for", RETRY_FORS, duration, show_duration)?;
    let by_cause = section.section("backoff_by_cause")?;
    let mut backoff_by_cause = BTreeMap::new();
    for word in by_cause.names() {
        let cause = Cause::tried_again(word).map_err(|error| by_cause.wrong_at(word, error.to_string()))?;
        backoff_by_cause.extend(backoff(&by_cause, word)?.map(|backoff| (cause, backoff)));
    }
    Ok(RetryPolicy {
        max_attempts: attempts.map_or(default.max_attempts, |n| n as u32),
        backoff: backoff(section, "backoff")?.unwrap_or(default.backoff),
        jitter_percent: jitter.map(|percent| percent as u32),
        backoff_by_cause,
        retry_for_ms: retry_for.map(|retry_for| retry_for.as_millis() as u64),
    })
}

fn backoff(section: &Section<'_>, key: &str) -> Result<Option<Backoff>, ConfigError> {
    let text = section.read(key, "a backoff in quotes, such as \"2s..1h\"", |value| value.as_str())?;
    let read =
        |text: &str| text.parse().map_err(|error: InvalidBackoff| section.wrong_at(key, error.to_string()));
    text.map(read).transpose()
}

/// Reads a quantity in its range.
pub(super) fn within<T: PartialOrd + Copy>(
    section: &Section<'_>,
    key: &str,
    range: RangeInclusive<T>,
    parse: impl Fn(&str) -> Option<T>,
    show: impl Fn(T) -> String,
) -> Result<Option<T>, ConfigError> {
    let (least, most) = (show(*range.start()), show(*range.end()));
    let expected = format!("a number with its unit in quotes, from \"{least}\" to \"{most}\"");
    section.read(key, &expected, |value| parse(value.as_str()?).filter(|found| range.contains(found)))
}

/// Reads `[env]`.
pub(super) fn machine_env(section: &Section<'_>) -> Result<BTreeMap<String, String>, ConfigError> {
    let texts = section.texts()?.into_iter();
    let env = texts.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    given::check_env(&env).map_err(|(name, message)| section.wrong_at(name, message))?;
    Ok(env)
}

/// A name need not be in `[env]`: Fly adds secrets and its own.
fn guest_env(section: &Section<'_>) -> Result<Vec<String>, ConfigError> {
    let names = section.read("env", "a list of names in quotes, like [\"LOG\"]", |value| {
        let names = value.as_array()?.iter().map(|name| name.get_ref().as_str().map(str::to_owned));
        names.collect::<Option<Vec<_>>>()
    })?;
    let names = names.unwrap_or_default();
    for name in &names {
        given::check_env_name(name).map_err(|message| section.wrong_at("env", message))?;
    }
    Ok(names)
}

fn dirs(section: &Section<'_>) -> Result<BTreeMap<String, Folder>, ConfigError> {
    let mut dirs = BTreeMap::new();
    for guest in section.names() {
        let expected = "a path in quotes, or { path = \"/srv/data\", read_only = true }";
        let path = section.read(guest, expected, |value| match value.as_table() {
            Some(_) => Some(None),
            None => value.as_str().map(Some),
        })?;
        let folder = match path.flatten() {
            Some(path) => Folder { path: path.to_owned(), read_only: false },
            None => folder(&section.section(guest)?)?,
        };
        for path in [guest, &folder.path] {
            given::check_folder(path).map_err(|message| section.wrong_at(guest, message))?;
        }
        dirs.insert(guest.to_owned(), folder);
    }
    Ok(dirs)
}

fn folder(section: &Section<'_>) -> Result<Folder, ConfigError> {
    section.only(&["path", "read_only"])?;
    let path = section.text("path")?;
    let path =
        path.ok_or_else(|| section.wrong("a folder needs a `path`: that of the Machine".to_owned()))?;
    Ok(Folder { path: path.to_owned(), read_only: section.flag("read_only")?.unwrap_or(false) })
}
