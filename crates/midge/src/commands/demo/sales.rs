//! Makes a table of sales, megabytes of it, the same each time.

use std::fmt::Write;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The number of rows in the table: about eight megabytes.
pub(super) const ROWS: u64 = 200_000;
const SEED: u64 = 7_433;
const CITIES: &[&str] = &[
    "Amsterdam",
    "Bergen",
    "Chennai",
    "Dakar",
    "Edmonton",
    "Florence",
    "Guadalajara",
    "Hanoi",
    "Izmir",
    "Johannesburg",
    "Kyoto",
    "Lima",
];
const PRODUCTS: &[&str] = &["anorak", "bicycle", "compass", "\"drum, small\"", "easel", "fiddle"];

/// Returns the table as CSV.
pub(super) fn csv() -> String {
    let mut rng = StdRng::seed_from_u64(SEED);
    let mut csv = String::with_capacity(9 * 1024 * 1024);
    csv.push_str("order,day,city,product,units,sales\n");
    for order in 0..ROWS {
        let day = rng.random_range(1..=28);
        let month = rng.random_range(1..=12);
        let city = CITIES[rng.random_range(0..CITIES.len())];
        let product = PRODUCTS[rng.random_range(0..PRODUCTS.len())];
        let units = rng.random_range(1..=20);
        let price = rng.random_range(500..=50_000);
        let cents = units * price;
        writeln!(
            csv,
            "{order},2026-{month:02}-{day:02},{city},{product},{units},{}.{:02}",
            cents / 100,
            cents % 100
        )
        .expect("a string takes all that is written");
    }
    csv
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_same_each_time_and_megabytes_of_it() {
        let table = csv();
        assert_eq!(table, csv());
        assert_eq!(table.lines().count() as u64, ROWS + 1);
        assert!(
            (5_000_000..midge_protocol::limits::INPUT_BYTES_MAX).contains(&table.len()),
            "{}",
            table.len()
        );
    }
}
