//! `[prices]` and budgets: what is read of them, and what is wrong with them.

use midge_protocol::manifest::{AtBudget, Budget, MachineSize, Prices};
use midge_protocol::{Dollars, RegionName};

use super::parse;

fn prices(section: &str) -> Result<Prices, String> {
    let text = format!("[modules.a]\nwasm = \"a.wasm\"\n[prices]\n{section}\n");
    parse(&text).map(|project| project.prices).map_err(|error| error.to_string())
}

#[test]
fn prices_are_read_to_the_digit_and_what_is_left_out_is_as_published() {
    assert_eq!(prices("").unwrap(), Prices::default());
    let read = prices(
        "sizes = { \"shared-cpu-1x:1024\" = 7, \"performance-2x:4096\" = 66.123_456_789 }\n\
         shared_cpu = 0\nrootfs_gb = \"0.2\"\nrootfs_mb = 120\nregions = { gru = 1.62, ams = 1 }",
    )
    .unwrap();
    let size = |text: &str| text.parse::<MachineSize>().unwrap();
    assert_eq!(read.sizes[&size("shared-cpu-1x:1024")], Dollars::from_cents(700));
    assert_eq!(read.sizes[&size("performance-2x:4096")], Dollars::from_nanos(66_123_456_789));
    assert_eq!((read.sizes.len(), read.shared_cpu, read.rootfs_mb), (2, Dollars::ZERO, 120));
    assert_eq!((read.rootfs_gb, read.memory_gib), (Dollars::from_cents(20), Prices::default().memory_gib));
    let region = |name| read.regions_permille[&RegionName::new(name).unwrap()];
    assert_eq!((region("gru"), region("ams")), (1_620, 1_000));
}

#[test]
fn who_has_other_prices_of_parts_has_none_of_published_sizes() {
    assert!(prices("memory_gib = 5").unwrap().sizes.is_empty());
    assert!(!prices("rootfs_mb = 5").unwrap().sizes.is_empty());
}

#[test]
fn prices_that_cannot_be_are_refused_with_their_lines() {
    for (section, said) in [
        (
            "shared_cpu = -1",
            "`shared_cpu` must be dollars for 30 days, such as 2.19: from 0 to 1000000, not `-1`",
        ),
        ("memory_gib = nan", "not `nan`"),
        ("memory_gib = 1e3", "not `1e3`"),
        ("memory_gib = 1000000.01", "from 0 to 1000000, not"),
        ("rootfs_gb = 0.0000000001", "not `0.0000000001`"),
        ("rootfs_mb = 50_001", "from 0 to 50000"),
        ("sizes = { small = 1 }", "`small` is not a size: use Fly's name"),
        ("sizes = { \"shared-cpu-1x:256\" = -1 }", "must be dollars"),
        ("regions = { iad = 0 }", "`iad` must be how many times as much as `iad` it costs"),
        ("regions = { iad = 1.0001 }", "in thousandths"),
        ("regions = { iad = 101 }", "to 100"),
        ("regions = { \"the moon\" = 1 }", "region"),
        ("shared = 1", "unknown key `shared` in [prices]"),
    ] {
        let error = prices(section).unwrap_err();
        assert!(error.starts_with("app/midge.toml:4: ") && error.contains(said), "{section}: {error}");
    }
}

fn budget(value: &str) -> Result<Option<Budget>, String> {
    let text = format!("[modules.a]\nwasm = \"a.wasm\"\n[queues.mail]\nbudget = {value}\n");
    parse(&text).map(|project| project.queues["mail"].budget).map_err(|error| error.to_string())
}

#[test]
fn a_budget_is_more_than_nothing_and_warns_where_nothing_is_said() {
    let read = |value, cents, at| {
        let expected = Budget { dollars_per_month: Dollars::from_cents(cents), at };
        assert_eq!(budget(value).unwrap(), Some(expected), "{value}");
    };
    read("{ dollars_per_month = 20 }", 2_000, AtBudget::Warn);
    read("{ dollars_per_month = 0.5, at = \"slow\" }", 50, AtBudget::Slow);
    read("{ dollars_per_month = 1_000_000, at = \"pause\" }", 100_000_000, AtBudget::Pause);
    for (value, said) in [
        ("20", "`budget` must be such as { dollars_per_month = 20"),
        ("{ at = \"pause\" }", "`budget` needs `dollars_per_month`, such as"),
        ("{ dollars_per_month = 0 }", "more than 0, and at most 1000000, not `0`"),
        ("{ dollars_per_month = -5 }", "not `-5`"),
        ("{ dollars_per_month = 1000001 }", "not `1000001`"),
        ("{ dollars_per_month = 5, at = \"stop\" }", "`at` must be one of \"warn\", \"slow\" and \"pause\""),
        ("{ dollars_per_month = 5, then = \"stop\" }", "unknown key `then`"),
    ] {
        let error = budget(value).unwrap_err();
        assert!(error.starts_with("app/midge.toml:4: ") && error.contains(said), "{value}: {error}");
    }
}
