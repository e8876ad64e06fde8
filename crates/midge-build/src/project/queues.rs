//! `[server]` and `[queues.NAME]`: how the jobs of all queues and of one are served, and what Fly gives Machines for it.

use std::collections::BTreeMap;

use midge_protocol::manifest::{
    InvalidSize, Keep, MachineSize, QueuePolicy, Rate, SIZES, ServerPolicy, Wait, check_region,
};
use midge_protocol::{QueueName, limits};
use toml::de::DeValue;

use super::ConfigError;
use super::section::{Section, integer};
use super::units::{duration, show_duration};

/// What a rate, a size and regions look like, for who wrote something else.
const RATE_SUCH_AS: &str = "{ jobs = 10, per = \"1s\" }";
const SIZE_SUCH_AS: &str = "\"shared-cpu-2x\" or { cpus = 2, memory_mib = 1024 }";
const REGIONS_SUCH_AS: &str = "[\"ams\", \"fra\"]";

pub(super) fn server(section: &Section<'_>) -> Result<ServerPolicy, ConfigError> {
    section.only(&["max_machines", "only_declared_queues"])?;
    let max_machines = section.number("max_machines", 1..=u64::from(limits::SERVER_MACHINES_MAX))?;
    Ok(ServerPolicy {
        max_machines: max_machines.map(|number| u32::try_from(number).expect("it is at most a u32")),
        only_declared_queues: section.flag("only_declared_queues")?,
    })
}

pub(super) fn read(queues: &Section<'_>) -> Result<BTreeMap<QueueName, QueuePolicy>, ConfigError> {
    let mut read = BTreeMap::new();
    for (name, section) in queues.sections()? {
        let name = QueueName::new(name).map_err(|error| section.wrong(error.to_string()))?;
        read.insert(name, policy(&section)?);
    }
    Ok(read)
}

fn policy(section: &Section<'_>) -> Result<QueuePolicy, ConfigError> {
    section.only(&[
        "max_machines",
        "warm_machines",
        "ready_machines",
        "jobs_per_machine",
        "wait",
        "single_use",
        "max_jobs",
        "max_running",
        "max_running_per_key",
        "rate",
        "rate_per_key",
        "keep_completed",
        "keep_cancelled",
        "keep_discarded",
        "record",
        "size",
        "regions",
    ])?;
    let default = QueuePolicy::default();
    let count = |key, least, most: u32, default| -> Result<u32, ConfigError> {
        let number = section.number(key, least..=u64::from(most))?;
        Ok(number.map_or(default, |number| u32::try_from(number).expect("it is at most a u32")))
    };
    let max_machines = count("max_machines", 1, limits::MACHINES_MAX, default.max_machines)?;
    let policy = QueuePolicy {
        max_machines,
        // More than run at once could be neither warm nor needed.
        warm_machines: count("warm_machines", 0, max_machines, default.warm_machines)?,
        ready_machines: count("ready_machines", 0, max_machines, default.ready_machines)?,
        jobs_per_machine: count("jobs_per_machine", 1, limits::PLACES_MAX, default.jobs_per_machine)?,
        wait: section.read("wait", "seconds from 0 to 86400, or \"forever\"", wait)?.unwrap_or_default(),
        single_use: section.flag("single_use")?.unwrap_or(default.single_use),
        max_jobs: section.number("max_jobs", 1..=limits::QUEUE_JOBS_MAX)?.unwrap_or(default.max_jobs),
        max_running: most_running(section, "max_running")?,
        max_running_per_key: most_running(section, "max_running_per_key")?,
        rate: rate(section, "rate")?,
        rate_per_key: rate(section, "rate_per_key")?,
        keep: Keep {
            completed_ms: kept(section, "keep_completed")?,
            cancelled_ms: kept(section, "keep_cancelled")?,
            discarded_ms: kept(section, "keep_discarded")?,
        },
        record: section.flag("record")?.unwrap_or(default.record),
        size: size(section)?,
        regions: regions(section)?,
    };
    let places_set = section.number("jobs_per_machine", 0..=u64::MAX)?;
    if policy.single_use && places_set.is_some_and(|places| places > 1) {
        let message = "a `single_use` Machine runs one job only: remove `jobs_per_machine`, or set it to 1";
        return Err(section.wrong_at("jobs_per_machine", message.to_owned()));
    }
    Ok(policy)
}

fn most_running(section: &Section<'_>, key: &str) -> Result<Option<u32>, ConfigError> {
    let number = section.number(key, 1..=u64::from(u32::MAX))?;
    Ok(number.map(|number| u32::try_from(number).expect("it is at most a u32")))
}

/// Reads for how long ended jobs are kept, in milliseconds.
fn kept(section: &Section<'_>, key: &str) -> Result<Option<u64>, ConfigError> {
    let (least, most) = (limits::KEEP_MIN, limits::KEEP_MAX);
    let expected = format!(
        "a number with its unit in quotes, from \"{}\" to \"{}\"",
        show_duration(least),
        show_duration(most)
    );
    let read = |text: &str| duration(text).filter(|kept| (least..=most).contains(kept)).ok_or(());
    Ok(section.parsed(key, &expected, read)?.map(|kept| kept.as_millis() as u64))
}

fn rate(queue: &Section<'_>, key: &str) -> Result<Option<Rate>, ConfigError> {
    let Some(section) = queue.inline(key, RATE_SUCH_AS)? else { return Ok(None) };
    section.only(&["jobs", "per", "burst"])?;
    let jobs = section.number("jobs", 1..=u64::from(u32::MAX))?;
    let period =
        |text: &str| duration(text).filter(|per| !per.is_zero() && *per <= limits::RATE_PERIOD_MAX).ok_or(());
    let per =
        section.parsed("per", "a duration such as \"1s\", \"5m\" or \"1h\", from 1ms to 720h", period)?;
    let (Some(jobs), Some(per)) = (jobs, per) else {
        return Err(section.wrong(format!("`{key}` needs `jobs` and `per`, such as {RATE_SUCH_AS}")));
    };
    let per_ms = per.as_millis() as u64;
    let most = per_ms.saturating_mul(1_000);
    if jobs > most {
        let message =
            format!("`jobs` must be at most {most} in that time: leave the rate out where there is none");
        return Err(section.wrong_at("jobs", message));
    }
    let narrow = |number: u64| u32::try_from(number).expect("it is at most a u32");
    let rate = Rate::new(narrow(jobs), per_ms);
    let burst = section.number("burst", 1..=u64::from(limits::RATE_BURST_MAX))?;
    Ok(Some(Rate { burst: burst.map_or(rate.burst, narrow), ..rate }))
}

fn wait(value: &DeValue<'_>) -> Option<Wait> {
    // The rule and its bounds are the protocol's, whatever the type in TOML.
    let text = match value {
        DeValue::Integer(_) => integer(value)?.to_string(),
        DeValue::Float(float) => float.as_str().replace('_', ""),
        _ => value.as_str()?.to_owned(),
    };
    text.parse().ok()
}

/// Reads a size: Fly's name for one, or its parts.
fn size(queue: &Section<'_>) -> Result<Option<MachineSize>, ConfigError> {
    if let Ok(Some(name)) = queue.text("size") {
        let size = name.parse().map_err(|error: InvalidSize| queue.wrong_at("size", error.to_string()))?;
        return Ok(Some(size));
    }
    let Some(section) = queue.inline("size", SIZE_SUCH_AS)? else { return Ok(None) };
    section.only(&["cpu_kind", "cpus", "memory_mib"])?;
    let default = MachineSize::default();
    let kind = section.text("cpu_kind")?.unwrap_or(&default.cpu_kind);
    let Some(sold) = SIZES.into_iter().find(|sold| sold.cpu_kind == kind) else {
        let message = format!("`cpu_kind` must be \"shared\" or \"performance\", not \"{kind}\"");
        return Err(section.wrong_at("cpu_kind", message));
    };
    let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let cpus = section.number("cpus", 1..=16)?.map_or(default.cpus, narrow);
    if !sold.cpus.contains(&cpus) {
        let numbers = sold.cpus.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        let message = format!("`cpus` of {kind} must be one of {numbers}, not {cpus}");
        return Err(section.wrong_at("cpus", message));
    }
    let (least, most) = sold.memory(cpus);
    let memory_mib = section.number("memory_mib", 0..=u64::MAX)?;
    let size = MachineSize {
        cpu_kind: kind.to_owned(),
        cpus,
        memory_mib: memory_mib.map_or(default.memory_mib.max(least), narrow),
    };
    if size.check().is_err() {
        let message = format!(
            "`memory_mib` with {cpus} {kind} CPUs must be from {least} to {most}, in steps of {}, not {}",
            limits::MACHINE_MEMORY_STEP_MIB,
            memory_mib.unwrap_or_default(),
        );
        return Err(section.wrong_at("memory_mib", message));
    }
    Ok(Some(size))
}

/// Reads where Machines are made, in the order of preference: each region once.
fn regions(queue: &Section<'_>) -> Result<Vec<String>, ConfigError> {
    let Some(regions) = queue.strings("regions", REGIONS_SUCH_AS)? else { return Ok(Vec::new()) };
    if regions.is_empty() || regions.len() > limits::REGIONS_MAX {
        let message =
            format!("`regions` must be 1 to {} names, such as {REGIONS_SUCH_AS}", limits::REGIONS_MAX);
        return Err(queue.wrong_at("regions", message));
    }
    for (place, region) in regions.iter().enumerate() {
        check_region(region).map_err(|message| queue.wrong_at("regions", message))?;
        if regions[..place].contains(region) {
            return Err(queue.wrong_at("regions", format!("`{region}` is among the regions twice")));
        }
    }
    Ok(regions.into_iter().map(str::to_owned).collect())
}
