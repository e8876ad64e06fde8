//! What a Machine's time costs, by a list of prices.

use midge_protocol::manifest::{MachineSize, Prices};
use midge_protocol::{Dollars, RegionName};

/// The time that prices are for, 30 days, in microseconds.
const PRICED_US: u128 = 30 * 24 * 60 * 60 * 1_000_000;
/// The memory that comes with each CPU, in MiB, by <https://fly.io/docs/about/pricing/>.
const SHARED_MIB: u32 = 256;
const PERFORMANCE_MIB: u32 = 2_048;
const MIB_PER_GIB: u128 = 1_024;
const MB_PER_GB: u128 = 1_000;
/// Prices of regions are thousandths of those of `iad`.
const PERMILLE: u128 = 1_000;

/// Returns what a Machine costs that runs for so many microseconds, to the nearest billionth of a dollar. One whose region is not
/// known costs what it would in `iad`.
pub fn running_cost(
    prices: &Prices,
    size: &MachineSize,
    region: Option<&RegionName>,
    time_us: u64,
) -> Dollars {
    let permille = region.and_then(|region| prices.regions_permille.get(region));
    let permille = permille.map_or(PERMILLE, |permille| u128::from(*permille));
    let price = u128::from(price_of(prices, size).as_nanos());
    cost_of(amount(price.saturating_mul(permille).div_ceil(PERMILLE)), time_us)
}

/// Returns what a Machine costs that is stopped or suspended for so many microseconds: only its root file system does, and as
/// much in each region.
pub fn resting_cost(prices: &Prices, time_us: u64) -> Dollars {
    let nanos = u128::from(prices.rootfs_gb.as_nanos()) * u128::from(prices.rootfs_mb) / MB_PER_GB;
    cost_of(amount(nanos), time_us)
}

/// Returns the price of a size for 30 days in `iad`: its own, or that of its CPUs and of the memory that does not come with them.
/// A kind of CPU that is not known is taken for the dearer one.
fn price_of(prices: &Prices, size: &MachineSize) -> Dollars {
    if let Some(price) = prices.sizes.get(size) {
        return *price;
    }
    let (cpu, memory_mib) = match size.cpu_kind.as_str() {
        "shared" => (prices.shared_cpu, SHARED_MIB),
        _ => (prices.performance_cpu, PERFORMANCE_MIB),
    };
    let beyond_mib = size.memory_mib.saturating_sub(size.cpus.saturating_mul(memory_mib));
    let cpus = u128::from(cpu.as_nanos()) * u128::from(size.cpus);
    amount(cpus + u128::from(prices.memory_gib.as_nanos()) * u128::from(beyond_mib) / MIB_PER_GIB)
}

fn cost_of(price: Dollars, time_us: u64) -> Dollars {
    // Two numbers of 64 bits and half of the divisor are within 128 bits.
    let product = u128::from(price.as_nanos()) * u128::from(time_us);
    amount((product + PRICED_US / 2) / PRICED_US)
}

fn amount(nanos: u128) -> Dollars {
    Dollars::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MONTH_US: u64 = PRICED_US as u64;

    fn size(cpu_kind: &str, cpus: u32, memory_mib: u32) -> MachineSize {
        MachineSize { cpu_kind: cpu_kind.to_owned(), cpus, memory_mib }
    }

    fn month(prices: &Prices, size: &MachineSize) -> String {
        running_cost(prices, size, None, MONTH_US).to_string()
    }

    #[test]
    fn a_size_costs_what_is_published_and_any_other_what_its_parts_do() {
        let prices = Prices::default();
        for (size, price) in [
            (size("shared", 1, 256), "2.19"),
            (size("shared", 1, 1024), "6.70"),
            (size("performance", 2, 4096), "66.00"),
            // Not published: CPUs, and the memory beyond theirs.
            (size("shared", 2, 512), "4.38"),
            (size("shared", 2, 1024), "7.38"),
            (size("shared", 1, 768), "5.19"),
            (size("performance", 1, 4096), "45.00"),
            (size("shared", 8, 256), "17.52"),
            (size("quantum", 1, 2048), "33.00"),
            (size("shared", 0, 0), "0.00"),
        ] {
            assert_eq!(month(&prices, &size), price, "{size}");
        }
        let second = running_cost(&prices, &size("shared", 1, 256), None, 1_000_000);
        assert_eq!(second.as_nanos(), 845, "as the page says: $0.000000845 a second");
    }

    #[test]
    fn a_region_has_its_factor_and_one_that_is_not_listed_has_none() {
        let region = |name| RegionName::new(name).unwrap();
        let prices = Prices { regions_permille: [(region("gru"), 1_620)].into(), ..Prices::default() };
        let cost = |name| running_cost(&prices, &size("performance", 1, 2048), Some(&region(name)), MONTH_US);
        assert_eq!(cost("gru").to_string(), "53.46");
        assert_eq!(cost("iad").to_string(), "33.00");
    }

    #[test]
    fn one_that_rests_costs_its_root_file_system() {
        let prices = Prices::default();
        assert_eq!(resting_cost(&prices, MONTH_US).to_string(), "0.0075", "50 MB at $0.15");
        let prices = Prices { rootfs_mb: 0, ..prices };
        assert_eq!(resting_cost(&prices, u64::MAX), Dollars::ZERO);
    }

    #[test]
    fn no_number_is_too_large() {
        let most = Dollars::from_nanos(u64::MAX);
        let prices = Prices {
            sizes: Default::default(),
            shared_cpu: most,
            performance_cpu: most,
            memory_gib: most,
            rootfs_gb: most,
            rootfs_mb: u32::MAX,
            regions_permille: [(RegionName::new("iad").unwrap(), u32::MAX)].into(),
        };
        let largest = size("shared", u32::MAX, u32::MAX);
        assert_eq!(running_cost(&prices, &largest, prices.regions_permille.keys().next(), u64::MAX), most);
        assert_eq!(resting_cost(&prices, u64::MAX), most);
    }
}
