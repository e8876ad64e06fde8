//! Durations and sizes as people write them: `700ms`, `5m`, `256MiB`.

use std::time::Duration;

const DURATIONS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZES: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// Reads a duration, which has a number and one of the units ms, s, m, h and d.
pub fn duration(text: &str) -> Option<Duration> {
    scaled(text, &DURATIONS).map(Duration::from_millis)
}

/// Reads a size in bytes, which has a number and one of the units KiB, MiB and GiB.
pub fn size(text: &str) -> Option<u64> {
    scaled(text, &SIZES)
}

/// Writes a duration in its largest whole unit.
pub fn show_duration(duration: Duration) -> String {
    show(duration.as_millis() as u64, &DURATIONS)
}

/// Writes a size in its largest whole unit.
pub fn show_size(bytes: u64) -> String {
    show(bytes, &SIZES)
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

fn show(value: u64, units: &[(&str, u64)]) -> String {
    let whole = units.iter().rev().find(|(_, scale)| value.is_multiple_of(*scale));
    let (unit, scale) = whole.unwrap_or(&units[0]);
    format!("{}{unit}", value / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_unit_make_a_duration_or_a_size() {
        assert_eq!(duration("700ms"), Some(Duration::from_millis(700)));
        assert_eq!(duration("2 h"), Some(Duration::from_secs(7_200)));
        assert_eq!(size("256MiB"), Some(256 << 20));
        for wrong in
            ["", "5", "m", "-1s", "1.5s", "5 days", "256MB", "99999999999999999999h", "18446744073709551615h"]
        {
            assert_eq!((duration(wrong), size(wrong)), (None, None), "{wrong:?}");
        }
    }

    #[test]
    fn they_are_shown_in_the_largest_whole_unit() {
        assert_eq!(show_duration(Duration::from_secs(300)), "5m");
        assert_eq!(show_duration(Duration::from_millis(1_500)), "1500ms");
        assert_eq!(show_size(64 << 20), "64MiB");
        assert_eq!(show_size(4 << 30), "4GiB");
    }
}
