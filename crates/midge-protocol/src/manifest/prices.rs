//! What Machines cost: a table that can be replaced, since only the bill knows.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::{MachineSize, OutOfBounds, within};
use crate::{Dollars, RegionName, limits};

/// What Machines cost. The prices of Machines are for 30 days in which they run, and billed by the second. What a manifest
/// leaves out is as Fly published it for the region `iad` in May 2026
/// (<https://fly.io/docs/about/pricing/>).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Prices {
    /// Sizes with a price of their own, by their names such as `shared-cpu-1x:1024`. All others are priced by the next three.
    #[serde(with = "sizes")]
    pub sizes: BTreeMap<MachineSize, Dollars>,
    /// One shared CPU with the memory that comes with it, 256 MiB.
    pub shared_cpu: Dollars,
    /// One performance CPU with the memory that comes with it, 2048 MiB.
    pub performance_cpu: Dollars,
    /// Each GiB of memory beyond that.
    pub memory_gib: Dollars,
    /// Each GB of the root file system of a Machine that is stopped or suspended, for 30 days.
    pub rootfs_gb: Dollars,
    /// How large the root file system of a Machine is, in MB: what its image has, unpacked. Nothing tells midge.
    pub rootfs_mb: u32,
    /// Regions that cost something else: so many thousandths of the prices above, such as 1040 for 1.04 times as much. All
    /// others cost as much as `iad`.
    pub regions_permille: BTreeMap<RegionName, u32>,
}

impl Default for Prices {
    fn default() -> Prices {
        let size = |cpu_kind: &str, cpus, memory_mib, cents| {
            (MachineSize { cpu_kind: cpu_kind.to_owned(), cpus, memory_mib }, Dollars::from_cents(cents))
        };
        Prices {
            sizes: [
                size("shared", 1, 256, 219),
                size("shared", 1, 512, 369),
                size("shared", 1, 1024, 670),
                size("shared", 2, 2048, 1339),
                size("performance", 1, 2048, 3300),
                size("performance", 2, 4096, 6600),
            ]
            .into(),
            shared_cpu: Dollars::from_cents(219),
            performance_cpu: Dollars::from_cents(3300),
            memory_gib: Dollars::from_cents(600),
            rootfs_gb: Dollars::from_cents(15),
            rootfs_mb: 50,
            regions_permille: BTreeMap::new(),
        }
    }
}

impl Prices {
    /// The most that a root file system may have, in MB: what Fly gives a Machine at most.
    pub const ROOTFS_MB: RangeInclusive<u64> = 0..=50_000;
    /// What a region may cost, in thousandths: never nothing, since nobody means that.
    pub const PERMILLE: RangeInclusive<u64> = 1..=100_000;

    pub(super) fn is_default(&self) -> bool {
        *self == Prices::default()
    }

    /// Checks that every number is within its bounds: no price is larger than [`limits::PRICE_MAX`].
    pub(super) fn check(&self) -> Result<(), OutOfBounds> {
        let one = [
            ("shared_cpu", self.shared_cpu),
            ("performance_cpu", self.performance_cpu),
            ("memory_gib", self.memory_gib),
            ("rootfs_gb", self.rootfs_gb),
        ];
        let one = one.into_iter().map(|(what, price)| (format!("`{what}` of the prices"), price));
        let sized = self.sizes.iter().map(|(size, price)| (format!("the price of `{size}`"), *price));
        for (what, price) in one.chain(sized) {
            within(format!("{what}, in billionths,"), price.as_nanos(), 0..=limits::PRICE_MAX.as_nanos())?;
        }
        within("`rootfs_mb` of the prices".to_owned(), self.rootfs_mb.into(), Prices::ROOTFS_MB)?;
        for (region, permille) in &self.regions_permille {
            within(format!("region `{region}` of the prices"), (*permille).into(), Prices::PERMILLE)?;
        }
        Ok(())
    }
}

/// Sizes as keys of an object.
mod sizes {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::super::InvalidSize;
    use super::MachineSize;
    use crate::Dollars;

    pub(super) fn serialize<S: Serializer>(
        sizes: &BTreeMap<MachineSize, Dollars>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(sizes.iter().map(|(size, price)| (size.to_string(), price)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<MachineSize, Dollars>, D::Error> {
        let named: BTreeMap<String, Dollars> = BTreeMap::deserialize(deserializer)?;
        let size = |(name, price): (String, Dollars)| Ok((name.parse()?, price));
        named.into_iter().map(size).collect::<Result<_, InvalidSize>>().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_read_as_they_are_written_and_what_is_left_out_is_as_published() {
        let prices = Prices {
            regions_permille: [(RegionName::new("gru").unwrap(), 1_620)].into(),
            rootfs_mb: 0,
            ..Prices::default()
        };
        let json = serde_json::to_string(&prices).unwrap();
        assert!(json.contains("\"shared-cpu-1x:1024\":\"6.70\""), "{json}");
        assert_eq!(serde_json::from_str::<Prices>(&json).unwrap(), prices);
        assert_eq!(serde_json::from_str::<Prices>("{}").unwrap(), Prices::default());
        for wrong in [r#"{"sizes":{"shared":"1.00"}}"#, r#"{"shared_cpu":"-1"}"#, r#"{"shared_cpu":2.19}"#] {
            assert!(serde_json::from_str::<Prices>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn prices_have_bounds_and_may_be_nothing() {
        let free = Prices { shared_cpu: Dollars::ZERO, rootfs_gb: Dollars::ZERO, ..Prices::default() };
        assert_eq!(free.check(), Ok(()));
        let dear = Prices { memory_gib: Dollars::from_nanos(u64::MAX), ..Prices::default() };
        assert!(dear.check().unwrap_err().to_string().starts_with("`memory_gib` of the prices"));
        let nothing =
            Prices { regions_permille: [(RegionName::new("iad").unwrap(), 0)].into(), ..Prices::default() };
        let error = nothing.check().unwrap_err().to_string();
        assert_eq!(error, "region `iad` of the prices is 0, and may be from 1 to 100000");
    }
}
