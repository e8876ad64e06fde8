//! `[server]`, `[pools.NAME]` and `[queues.NAME]`: how the jobs of all queues and of one are served, and what Fly gives Machines for it.

use std::collections::BTreeMap;

use super::ConfigError;
use super::prices::amount;
use super::section::Section;
use super::units::{duration, show_duration};
use midge_protocol::manifest::{
    AtBudget, Budget, InvalidSize, Keep, MACHINE_SETTINGS, MachineSize, QueuePolicy, Rate, SIZES,
    ServerPolicy, contradiction, settings,
};
use midge_protocol::{Dollars, QueueName, RegionName, limits, nearest};
use toml::de::DeValue;

/// What a rate, a size and regions look like, for who wrote something else.
const RATE_SUCH_AS: &str = "{ jobs = 10, per = \"1s\" }";
const BUDGET_SUCH_AS: &str = "{ dollars_per_month = 20, at = \"pause\" }";
const SIZE_SUCH_AS: &str = "\"shared-cpu-2x\" or { cpus = 2, memory_mib = 1024 }";
const REGIONS_SUCH_AS: &str = "[\"ams\", \"fra\"]";

/// The settings of a queue that are about its jobs, and so are its own in a pool too.
const JOB_SETTINGS: [&str; 9] = [
    "max_jobs",
    "max_running",
    "max_running_per_key",
    "rate",
    "rate_per_key",
    "keep_completed",
    "keep_cancelled",
    "keep_discarded",
    "record",
];

pub(super) fn server(section: &Section<'_>) -> Result<ServerPolicy, ConfigError> {
    section.only(&["max_machines", "only_declared_queues"])?;
    let max_machines = section.number("max_machines", 1..=u64::from(limits::SERVER_MACHINES_MAX))?;
    Ok(ServerPolicy {
        max_machines: max_machines.map(|number| u32::try_from(number).expect("it is at most a u32")),
        only_declared_queues: section.flag("only_declared_queues")?,
    })
}

pub(super) fn read(
    queues: &Section<'_>,
    pools: &Section<'_>,
) -> Result<BTreeMap<QueueName, QueuePolicy>, ConfigError> {
    let mut of_pools = BTreeMap::new();
    for (name, section) in pools.sections()? {
        let name = QueueName::new(name).map_err(|error| section.wrong(error.to_string()))?;
        section.only(&MACHINE_SETTINGS)?;
        of_pools.insert(name, (policy(&section)?, section));
    }
    let mut read = BTreeMap::new();
    for (name, section) in queues.sections()? {
        let name = QueueName::new(name).map_err(|error| section.wrong(error.to_string()))?;
        section.only(&[&["pool"][..], &MACHINE_SETTINGS[..], &JOB_SETTINGS[..]].concat())?;
        let own = policy(&section)?;
        read.insert(name, in_pool(own, &section, &of_pools)?);
    }
    for (name, (_, section)) in &of_pools {
        if read.contains_key(name) || *name == QueueName::default_queue() {
            let message = format!(
                "pool `{name}` has the name of a queue: give it another, since its Machines are known by it"
            );
            return Err(section.wrong(message));
        }
        if !read.values().any(|policy| policy.pool.as_ref() == Some(name)) {
            let message = format!(
                "no queue is in pool `{name}`: say `pool = \"{name}\"` in [queues.NAME], or remove it"
            );
            return Err(section.wrong(message));
        }
    }
    Ok(read)
}

/// Puts a queue into the pool that it names, if it names one. Then the pool says all of its Machines.
fn in_pool(
    own: QueuePolicy,
    section: &Section<'_>,
    pools: &BTreeMap<QueueName, (QueuePolicy, Section<'_>)>,
) -> Result<QueuePolicy, ConfigError> {
    let Some(name) = section.text("pool")? else { return Ok(own) };
    let Some((pool, (policy, _))) = pools.iter().find(|(pool, _)| pool.as_str() == name) else {
        let hint = match nearest(name, pools.keys().map(QueueName::as_str)) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => format!("add a section [pools.{name}]"),
        };
        return Err(section.wrong_at("pool", format!("there is no pool `{name}`: {hint}")));
    };
    if let Some(key) = MACHINE_SETTINGS.into_iter().find(|key| section.names().any(|name| name == *key)) {
        let message =
            format!("`{key}` is the pool's, which all of its queues share: say it in [pools.{pool}]");
        return Err(section.wrong_at(key, message));
    }
    Ok(QueuePolicy { pool: Some(pool.clone()), ..own.with_machines_of(policy) })
}

fn policy(section: &Section<'_>) -> Result<QueuePolicy, ConfigError> {
    let default = QueuePolicy::default();
    let mut policy = QueuePolicy {
        rate: rate(section, "rate")?,
        rate_per_key: rate(section, "rate_per_key")?,
        keep: Keep {
            completed_ms: kept(section, "keep_completed")?,
            cancelled_ms: kept(section, "keep_cancelled")?,
            discarded_ms: kept(section, "keep_discarded")?,
        },
        record: section.flag("record")?.unwrap_or(default.record),
        budget: budget(section)?,
        size: size(section)?,
        regions: regions(section)?,
        ..default
    };
    // By the function that a server reads them by when somebody changes them while it runs.
    for key in settings::changeable() {
        section.setting(key, |value| settings::set(&mut policy, key, value))?;
    }
    let places_set = section.number("jobs_per_machine", 0..=u64::MAX)?;
    if policy.single_use && places_set.is_some_and(|places| places > 1) {
        let message = "a `single_use` Machine runs one job only: remove `jobs_per_machine`, or set it to 1";
        return Err(section.wrong_at("jobs_per_machine", message.to_owned()));
    }
    if let Some(why) = contradiction(&policy) {
        return Err(section.wrong_at("idle", why));
    }
    Ok(policy)
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

fn budget(queue: &Section<'_>) -> Result<Option<Budget>, ConfigError> {
    let Some(section) = queue.inline("budget", BUDGET_SUCH_AS)? else { return Ok(None) };
    section.only(&["dollars_per_month", "at"])?;
    let expected = "dollars, such as 20: more than 0, and at most 1000000";
    let some = |value: &DeValue<'_>| {
        amount(value).filter(|amount| *amount > Dollars::ZERO && *amount <= limits::PRICE_MAX)
    };
    let Some(dollars_per_month) = section.read("dollars_per_month", expected, some)? else {
        let message = format!("`budget` needs `dollars_per_month`, such as {BUDGET_SUCH_AS}");
        return Err(section.wrong(message));
    };
    let at = |text: &str| AtBudget::ALL.into_iter().find(|at| at.as_str() == text).ok_or(());
    let at = section.parsed("at", "one of \"warn\", \"slow\" and \"pause\"", at)?;
    Ok(Some(Budget { dollars_per_month, at: at.unwrap_or_default() }))
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
fn regions(queue: &Section<'_>) -> Result<Vec<RegionName>, ConfigError> {
    let Some(regions) = queue.strings("regions", REGIONS_SUCH_AS)? else { return Ok(Vec::new()) };
    if regions.is_empty() || regions.len() > limits::REGIONS_MAX {
        let message =
            format!("`regions` must be 1 to {} names, such as {REGIONS_SUCH_AS}", limits::REGIONS_MAX);
        return Err(queue.wrong_at("regions", message));
    }
    for (place, region) in regions.iter().enumerate() {
        if regions[..place].contains(region) {
            return Err(queue.wrong_at("regions", format!("`{region}` is among the regions twice")));
        }
    }
    let named = regions.into_iter().map(RegionName::new).collect::<Result<_, _>>();
    named.map_err(|error| queue.wrong_at("regions", error.to_string()))
}
