//! `[server]`, `[pools.NAME]` and `[queues.NAME]`: how the jobs of all queues and of one are served, and what Fly gives Machines for it.

use std::collections::BTreeMap;

use midge_protocol::manifest::{
    Keep, MACHINE_SETTINGS, MachineSize, QueuePolicy, Rate, ServerPolicy, contradiction, settings,
};
use midge_protocol::{QueueName, limits, nearest};

use super::ConfigError;
use super::section::Section;
use super::units::{duration, show_duration};

/// What Fly sells, from the sizes of its documentation: CPUs, then memory of each in MiB, in steps of 256.
const SIZES: [(&str, &[u64], u64, u64); 2] =
    [("shared", &[1, 2, 4, 6, 8], 256, 2048), ("performance", &[1, 2, 4, 6, 8, 10, 12, 14, 16], 2048, 8192)];
const MEMORY_STEP_MIB: u64 = 256;
/// What a rate and a size look like, for who wrote something else.
const RATE_SUCH_AS: &str = "{ jobs = 10, per = \"1s\" }";
const SIZE_SUCH_AS: &str = "{ cpus = 2, memory_mib = 1024 }";

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
        size: match section.inline("size", SIZE_SUCH_AS)? {
            Some(section) => size(&section)?,
            None => MachineSize::default(),
        },
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

fn size(section: &Section<'_>) -> Result<MachineSize, ConfigError> {
    section.only(&["cpu_kind", "cpus", "memory_mib"])?;
    let default = MachineSize::default();
    let kind = section.text("cpu_kind")?.unwrap_or(&default.cpu_kind);
    let Some((_, cpus_sold, least, most)) = SIZES.into_iter().find(|(name, ..)| *name == kind) else {
        let message = format!("`cpu_kind` must be \"shared\" or \"performance\", not \"{kind}\"");
        return Err(section.wrong_at("cpu_kind", message));
    };
    let cpus = section.number("cpus", 1..=16)?.unwrap_or(u64::from(default.cpus));
    if !cpus_sold.contains(&cpus) {
        let sold = cpus_sold.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        return Err(section.wrong_at("cpus", format!("`cpus` of {kind} must be one of {sold}, not {cpus}")));
    }
    let (least, most) = (cpus * least, cpus * most);
    let memory =
        section.number("memory_mib", 0..=u64::MAX)?.unwrap_or(u64::from(default.memory_mib).max(least));
    if !(least..=most).contains(&memory) || !memory.is_multiple_of(MEMORY_STEP_MIB) {
        let message = format!(
            "`memory_mib` with {cpus} {kind} CPUs must be from {least} to {most}, in steps of {MEMORY_STEP_MIB}, \
             not {memory}"
        );
        return Err(section.wrong_at("memory_mib", message));
    }
    let narrow = |number| u32::try_from(number).expect("it is at most what Fly sells");
    Ok(MachineSize { cpu_kind: kind.to_owned(), cpus: narrow(cpus), memory_mib: narrow(memory) })
}
