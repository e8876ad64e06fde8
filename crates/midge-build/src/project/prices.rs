//! `[prices]`: what Machines cost, where that is not what Fly has published.

use std::collections::BTreeMap;

use midge_protocol::manifest::{MachineSize, Prices};
use midge_protocol::{Dollars, RegionName, limits};
use toml::de::DeValue;

use super::ConfigError;
use super::section::{Section, integer};

/// Billionths in a thousandth.
const NANOS_PER_PERMILLE: u64 = 1_000_000;

pub(super) fn read(section: &Section<'_>) -> Result<Prices, ConfigError> {
    section.only(&[
        "sizes",
        "shared_cpu",
        "performance_cpu",
        "memory_gib",
        "rootfs_gb",
        "rootfs_mb",
        "regions",
    ])?;
    let default = Prices::default();
    let price = |key, default| Ok::<_, ConfigError>(price(section, key)?.unwrap_or(default));
    let rootfs_mb = section.number("rootfs_mb", Prices::ROOTFS_MB)?;
    Ok(Prices {
        sizes: match section.inline("sizes", "{ \"shared-cpu-1x:1024\" = 6.70 }")? {
            Some(sizes) => read_sizes(&sizes)?,
            // Published sizes cost what their parts do where somebody has other prices for those.
            None if section
                .names()
                .any(|key| matches!(key, "shared_cpu" | "performance_cpu" | "memory_gib")) =>
            {
                BTreeMap::new()
            }
            None => default.sizes,
        },
        shared_cpu: price("shared_cpu", default.shared_cpu)?,
        performance_cpu: price("performance_cpu", default.performance_cpu)?,
        memory_gib: price("memory_gib", default.memory_gib)?,
        rootfs_gb: price("rootfs_gb", default.rootfs_gb)?,
        rootfs_mb: rootfs_mb.map_or(default.rootfs_mb, |mb| u32::try_from(mb).expect("it is at most a u32")),
        regions_permille: match section.inline("regions", "{ gru = 1.62 }")? {
            Some(regions) => read_regions(&regions)?,
            None => default.regions_permille,
        },
    })
}

fn read_sizes(section: &Section<'_>) -> Result<BTreeMap<MachineSize, Dollars>, ConfigError> {
    let mut sizes = BTreeMap::new();
    for name in section.names() {
        let size = name.parse::<MachineSize>().map_err(|error| section.wrong_at(name, error.to_string()))?;
        sizes.extend(price(section, name)?.map(|price| (size, price)));
    }
    Ok(sizes)
}

fn read_regions(section: &Section<'_>) -> Result<BTreeMap<RegionName, u32>, ConfigError> {
    let expected =
        "how many times as much as `iad` it costs, such as 1.62: from 0.001 to 100, in thousandths";
    let permille = |value: &DeValue<'_>| {
        let nanos = amount(value)?.as_nanos();
        let permille = nanos / NANOS_PER_PERMILLE;
        let fits = nanos.is_multiple_of(NANOS_PER_PERMILLE) && Prices::PERMILLE.contains(&permille);
        u32::try_from(permille).ok().filter(|_| fits)
    };
    let mut regions = BTreeMap::new();
    for name in section.names() {
        let region = RegionName::new(name).map_err(|error| section.wrong_at(name, error.to_string()))?;
        regions.extend(section.read(name, expected, permille)?.map(|permille| (region, permille)));
    }
    Ok(regions)
}

/// Reads a price in dollars.
fn price(section: &Section<'_>, key: &str) -> Result<Option<Dollars>, ConfigError> {
    let expected = "dollars for 30 days, such as 2.19: from 0 to 1000000";
    section.read(key, expected, |value| amount(value).filter(|price| *price <= limits::PRICE_MAX))
}

/// Reads an amount of dollars from its digits: nothing is rounded on the way.
pub(super) fn amount(value: &DeValue<'_>) -> Option<Dollars> {
    let text = match value {
        DeValue::Integer(_) => integer(value)?.to_string(),
        DeValue::Float(float) => float.as_str().replace('_', ""),
        _ => value.as_str()?.to_owned(),
    };
    text.trim_start_matches('+').parse().ok()
}
