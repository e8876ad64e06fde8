//! Durations, sizes and counts as people read and write them.

use std::ops::RangeInclusive;
use std::time::Duration;

use midge_protocol::Timestamp;

/// The longest duration that is read: what begins now and lasts so long ends before the last time that midge can tell, for
/// decades to come.
const DURATION_DAYS_MAX: u64 = 2_900_000;

/// Reads a duration such as `500ms`, `90s`, `10m`, `1h30m` or `7d`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let given = midge_protocol::shown::cut(text);
    let too_long = || format!("`{given}` is too long: the longest duration is {DURATION_DAYS_MAX}d");
    match read_duration(text) {
        Some(duration) if duration > Duration::from_secs(DURATION_DAYS_MAX * 86_400) => Err(too_long()),
        Some(duration) => Ok(duration),
        None if is_duration_of_any_length(text) => Err(too_long()),
        None => Err(format!("`{given}` is not a duration: use one such as 500ms, 90s, 10m, 1h30m or 7d")),
    }
}

/// Reads a duration that is longer than nothing, as [`parse_duration`] does.
pub fn parse_some_duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        none if none < Duration::from_millis(1) => Err("use 1ms or more, or leave it out".to_owned()),
        some => Ok(some),
    }
}

fn read_duration(text: &str) -> Option<Duration> {
    let span: jiff::Span = text.parse().ok()?;
    let duration = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(duration).ok()
}

/// Returns whether a text is a duration but for its numbers, which may be larger than what is read.
fn is_duration_of_any_length(text: &str) -> bool {
    let mut short = String::new();
    for c in text.chars() {
        if !(c.is_ascii_digit() && short.ends_with('1')) {
            short.push(if c.is_ascii_digit() { '1' } else { c });
        }
    }
    text.len() > short.len() && read_duration(&short).is_some()
}

/// Returns what reads a whole number within bounds, as an argument.
pub fn whole<T: TryFrom<i64>>(
    bounds: RangeInclusive<i64>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse::<i64>().ok().filter(|number| bounds.contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| format!("use a whole number from {} to {}", bounds.start(), bounds.end()))
    }
}

/// Returns a duration in two figures or so: `0.4 ms`, `85 ms`, `1.2 s`, `3m 20s`, `2h 5m`, `4d 3h`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let two = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large}{large_unit}"),
        _ => format!("{large}{large_unit} {small}{small_unit}"),
    };
    match seconds {
        0 if duration < Duration::from_millis(10) => format!("{:.1} ms", duration.as_secs_f64() * 1e3),
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3_600 => two(seconds / 60, "m", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "m"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

/// Returns how long before `now` something was, or how long after: `3m 20s ago`, `in 10m`.
pub fn relative(at: Timestamp, now: Timestamp) -> String {
    if at > now {
        format!("in {}", duration(at.since(now)))
    } else {
        format!("{} ago", duration(now.since(at)))
    }
}

/// Returns a size: `812 B`, `1.4 MiB`.
pub fn bytes(bytes: u64) -> String {
    let mut size = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB"].into_iter().peekable();
    while let Some(unit) = units.next() {
        // At what would be shown as 1024 the next unit begins.
        if size < 1023.95 || units.peek().is_none() {
            return if unit == "B" { format!("{bytes} B") } else { format!("{size:.1} {unit}") };
        }
        size /= 1024.0;
    }
    unreachable!("the last unit returns")
}

/// Returns a number with its noun: `1 job`, `2 jobs`.
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Returns a time as the clocks of an IANA time zone show it, with its distance from UTC; in UTC where there is no such zone.
pub fn in_zone(at: Timestamp, zone: &str) -> String {
    let there = jiff::tz::TimeZone::get(zone).ok();
    let moment = jiff::Timestamp::from_millisecond(at.as_millis()).ok();
    let zoned = moment.zip(there).map(|(moment, zone)| moment.to_zoned(zone));
    zoned.map_or_else(|| at.to_string(), |zoned| zoned.strftime("%Y-%m-%d %H:%M:%S %:z").to_string())
}

/// Reads a time as the headers of HTTP have it, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn http_date(text: &str) -> Option<Timestamp> {
    let time = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(Timestamp::from_millis(time.timestamp().as_millisecond()))
}

/// Returns the time now, by this computer's clock.
pub fn now() -> Timestamp {
    Timestamp::from_millis(jiff::Timestamp::now().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_http_is_read() {
        let read = http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(read, Timestamp::from_millis(784_111_777_000));
        assert_eq!(http_date("yesterday"), None);
    }

    #[test]
    fn a_number_that_is_none_or_out_of_bounds_is_refused_with_what_may() {
        let percent = whole::<u32>(0..=100);
        assert_eq!((percent("0"), percent("100")), (Ok(0), Ok(100)));
        for text in ["x", "", "-1", "101", "1.5", "99999999999999999999"] {
            assert_eq!(percent(text).unwrap_err(), "use a whole number from 0 to 100", "{text}");
        }
        assert_eq!(whole::<i8>(-5..=5)("-5"), Ok(-5));
    }

    #[test]
    fn a_time_is_shown_by_the_clocks_of_a_zone() {
        let at: Timestamp = "2030-07-01T08:00:00Z".parse().unwrap();
        assert_eq!(in_zone(at, "Europe/Berlin"), "2030-07-01 10:00:00 +02:00");
        assert_eq!(in_zone(at, "Nowhere/Here"), at.to_string());
    }

    #[test]
    fn a_duration_is_read_as_people_write_it() {
        for (text, millis) in [
            ("500ms", 500),
            ("90s", 90_000),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("7d", 7 * 86_400_000),
            ("PT5S", 5_000),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["300000000000s", "99999999999999999999d", "1h 99999999999999999999m", "2900001d"] {
            let error = parse_duration(text).unwrap_err();
            assert_eq!(error, format!("`{text}` is too long: the longest duration is 2900000d"));
        }
        let last: Timestamp = "2050-01-01T00:00:00Z".parse().unwrap();
        assert!(last.checked_after(parse_duration("2900000d").unwrap()).is_some());
        assert!(parse_some_duration("0s").unwrap_err().starts_with("use 1ms or more"));
        assert!(parse_some_duration("1us").is_err() && parse_some_duration("1ms").is_ok());
        for text in
            ["", "10", "soon", "-5s", "5 parsecs", "1y", "99999999999999999999", "-99999999999999999999d"]
        {
            let error = parse_duration(text).unwrap_err();
            assert!(error.contains("use one such as"), "{error}");
        }
    }

    #[test]
    fn a_duration_is_shown_in_the_unit_that_fits() {
        for (millis, text) in [
            (0, "0.0 ms"),
            (85, "85 ms"),
            (1_230, "1.2 s"),
            (60_000, "1m"),
            (200_000, "3m 20s"),
            (7_500_000, "2h 5m"),
            (4 * 86_400_000, "4d"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
        assert_eq!(duration(Duration::from_micros(420)), "0.4 ms");
    }

    #[test]
    fn a_size_is_shown_in_the_unit_that_fits() {
        for (size, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
        ] {
            assert_eq!(bytes(size), text);
        }
    }

    #[test]
    fn a_time_is_shown_from_now() {
        let at = |millis| Timestamp::from_millis(millis);
        assert_eq!(relative(at(0), at(60_000)), "1m ago");
        assert_eq!(relative(at(60_000), at(0)), "in 1m");
    }
}
