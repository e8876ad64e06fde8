//! Cron expressions, as people write them: read, checked, and told what is wrong with them.
//!
//! Invariant: no clock and no time zone. Which times fit an expression is said by `midge-core`.

use std::str::FromStr;

use crate::shown::cut;

/// The longest expression, in bytes: a full list of every field is shorter.
const CRON_BYTES_MAX: usize = 512;
const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
/// The most days that each month has.
const MONTH_DAYS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
const NICKNAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// A cron expression: the times on a clock and the days that it fits, each as a set of bits.
///
/// It is written in five fields (minute, hour, day of the month, month, day of the week) or six (with the second before
/// them), or as a nickname such as `@daily`. A field is `*` or a list of numbers and of ranges such as `1-5`; `*` and
/// ranges may have a step, as in `*/15`. Months and days of the week have names too (`JAN`, `MON`), 7 is Sunday as 0 is,
/// and `L` is the last day of a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cron {
    /// The seconds, 0 to 59.
    pub seconds: u64,
    /// The minutes, 0 to 59.
    pub minutes: u64,
    /// The hours, 0 to 23.
    pub hours: u32,
    /// The days of the month, 1 to 31.
    pub days: u32,
    /// Whether the last day of the month is one of the days.
    pub last_day: bool,
    /// The months, 1 to 12.
    pub months: u16,
    /// The days of the week, 0 to 6 from Sunday.
    pub weekdays: u8,
    /// Whether a day need only fit one of the days of the month and the days of the week: where both are restricted, as
    /// cron has always had it.
    pub either_day: bool,
    /// Whether it is an interval, such as every 15 minutes, and not a list of fixed times: its hour is `*` or a range.
    pub interval: bool,
}

/// The error of a text that is no cron expression: where it is wrong, and what was expected there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a cron expression: {wrong}")]
pub struct InvalidCron {
    /// The expression, cut after 64 characters.
    pub given: String,
    /// Where it is wrong, what stands there and what was expected, in words for people.
    pub wrong: String,
}

/// A field's name and what may stand in it.
struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const FIELDS: [Field; 6] = [
    Field { name: "second", least: 0, most: 59, names: &[] },
    Field { name: "minute", least: 0, most: 59, names: &[] },
    Field { name: "hour", least: 0, most: 23, names: &[] },
    Field { name: "day of the month", least: 1, most: 31, names: &[] },
    Field { name: "month", least: 1, most: 12, names: &MONTHS },
    Field { name: "day of the week", least: 0, most: 7, names: &WEEKDAYS },
];

impl FromStr for Cron {
    type Err = InvalidCron;

    fn from_str(text: &str) -> Result<Cron, InvalidCron> {
        // Cut, since it may come from anywhere and goes into messages.
        read(text).map_err(|wrong| InvalidCron { given: cut(text), wrong })
    }
}

fn read(text: &str) -> Result<Cron, String> {
    if text.len() > CRON_BYTES_MAX {
        return Err(format!("it is {} bytes long, and at most {CRON_BYTES_MAX} are allowed", text.len()));
    }
    if text.trim_start().starts_with('@') {
        let name = text.trim().to_ascii_lowercase();
        let found = NICKNAMES.iter().find(|(nickname, _)| *nickname == name);
        let (_, fields) = found.ok_or_else(|| {
            let known: Vec<&str> = NICKNAMES.iter().map(|(nickname, _)| *nickname).collect();
            let name = cut(&name);
            format!("there is no `{name}`: use one of {}, or five fields", known.join(", "))
        })?;
        return read(fields);
    }
    let parts = parts(text);
    let (second, fields) = match parts.len() {
        5 => (None, &parts[..]),
        6 => (Some(parts[0]), &parts[1..]),
        number => {
            return Err(format!(
                "it has {number} field{}, and needs five (minute, hour, day of the month, month, day of the week) or six \
                 (with the second before them)",
                if number == 1 { "" } else { "s" }
            ));
        }
    };
    let seconds = match second {
        Some(part) => field(&FIELDS[0], part)?,
        None => 1,
    };
    let (day, weekday) = (fields[2], fields[4]);
    let mut days = 0;
    let mut last_day = false;
    for part in list(day) {
        if part.1.eq_ignore_ascii_case("L") {
            last_day = true;
        } else {
            days |= item(&FIELDS[3], part)?;
        }
    }
    let weekdays = field(&FIELDS[5], weekday)?;
    let cron = Cron {
        seconds,
        minutes: field(&FIELDS[1], fields[0])?,
        hours: field(&FIELDS[2], fields[1])? as u32,
        days: days as u32,
        last_day,
        months: field(&FIELDS[4], fields[3])? as u16,
        weekdays: (weekdays | weekdays >> 7) as u8 & 0x7f,
        either_day: day.1 != "*" && weekday.1 != "*",
        interval: list(fields[1])
            .any(|(_, hours)| hours == "*" || hours.contains('-') && !hours.contains('/')),
    };
    let there_is = |month: u32| {
        let days = MONTH_DAYS[month as usize - 1];
        cron.months >> month & 1 == 1 && cron.days & ((2_u64 << days) - 1) as u32 != 0
    };
    if !cron.last_day && !cron.either_day && !(1..=12).any(there_is) {
        return Err(format!(
            "at character {}, the day of the month: no month that it names has a day `{}`",
            day.0 + 1,
            cut(day.1)
        ));
    }
    Ok(cron)
}

/// A piece of an expression, with the number of characters before it.
type Part<'a> = (usize, &'a str);

/// Returns the fields of an expression.
fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    let mut at = 0;
    loop {
        let trimmed = rest.trim_start();
        at += rest[..rest.len() - trimmed.len()].chars().count();
        if trimmed.is_empty() {
            return parts;
        }
        let end = trimmed.find(char::is_whitespace).unwrap_or(trimmed.len());
        parts.push((at, &trimmed[..end]));
        at += trimmed[..end].chars().count();
        rest = &trimmed[end..];
    }
}

/// Returns what stands between the commas of a field.
fn list((at, text): Part<'_>) -> impl Iterator<Item = Part<'_>> {
    text.split(',').scan(at, |at, item| {
        let here = *at;
        *at += item.chars().count() + 1;
        Some((here, item))
    })
}

fn field(field: &Field, part: Part<'_>) -> Result<u64, String> {
    list(part).try_fold(0, |bits, part| Ok(bits | item(field, part)?))
}

/// Reads one item of a list: `*`, a value or a range, with a step where there is one.
fn item(field: &Field, (at, text): Part<'_>) -> Result<u64, String> {
    let wrong = |at: usize, found: &str, expected: &str| {
        format!("at character {}, the {}: `{}` is not {expected}", at + 1, field.name, cut(found))
    };
    let (range, step) = match text.split_once('/') {
        Some((range, step)) => (range, Some((at + range.chars().count() + 1, step))),
        None => (text, None),
    };
    let (first, last) = if range == "*" {
        // Of the days of a week, 7 is 0 again.
        (field.least, if field.most == 7 { 6 } else { field.most })
    } else if let Some((first, last)) = range.split_once('-') {
        let second = at + first.chars().count() + 1;
        let (first, last) = (value(field, at, first)?, value(field, second, last)?);
        if first > last {
            // Of the days of a week, 7 is 0 again.
            let ends =
                if field.most == 7 && last == 0 { String::new() } else { format!(",{}-{last}", field.least) };
            let expected = format!("a range from low to high: write `{first}-{}{ends}`", field.most);
            return Err(wrong(at, range, &expected));
        }
        (first, last)
    } else if let Some((_, step)) = step {
        let first = value(field, at, range)?;
        let expected = format!("a range with a step: write `{first}-{}/{step}`", field.most);
        return Err(wrong(at, text, &expected));
    } else {
        let value = value(field, at, range)?;
        (value, value)
    };
    let step = match step {
        None => 1,
        Some((at, step)) => {
            let number = number(step).filter(|step| (1..=field.most).contains(step));
            number.ok_or_else(|| wrong(at, step, &format!("a step from 1 to {}", field.most)))?
        }
    };
    Ok((first..=last).step_by(step as usize).fold(0, |bits, value| bits | 1 << value))
}

fn value(field: &Field, at: usize, text: &str) -> Result<u32, String> {
    let named = field.names.iter().position(|name| name.eq_ignore_ascii_case(text));
    let named = named.map(|position| position as u32 + field.least);
    let value = named.or_else(|| number(text).filter(|value| (field.least..=field.most).contains(value)));
    value.ok_or_else(|| {
        let names = match field.names {
            [first, .., last] => format!(", or a name from {first} to {last}"),
            _ if field.name == "day of the month" => ", or `L` for the last".to_owned(),
            _ => String::new(),
        };
        format!(
            "at character {}, the {}: `{}` is not a number from {} to {}{names}, or `*`",
            at + 1,
            field.name,
            cut(text),
            field.least,
            field.most
        )
    })
}

/// Reads digits and nothing else: no sign.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cron(text: &str) -> Cron {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn five_fields_are_six_with_second_zero_and_nicknames_are_five_fields() {
        assert_eq!(cron("30 2 * * *"), cron("0 30 2 * * *"));
        assert_eq!(cron("@daily"), cron("0 0 * * *"));
        assert_eq!(cron(" @HOURLY "), cron("0  *\t* * * "));
        assert_eq!(cron("0 0 * jan-mar MON,sun"), cron("0 0 * 1-3 1,7"));
        assert_eq!(cron("0 0 * * 0"), cron("0 0 * * 7"));
    }

    #[test]
    fn a_field_is_a_list_of_values_ranges_and_steps() {
        let bits = |values: &[u32]| values.iter().fold(0, |bits, value| bits | 1_u64 << value);
        assert_eq!(cron("*/15 * * * *").minutes, bits(&[0, 15, 30, 45]));
        assert_eq!(cron("1,5-9/2,59 * * * *").minutes, bits(&[1, 5, 7, 9, 59]));
        assert_eq!(cron("0 0 1,L * *").days, 2);
        assert!(cron("0 0 L * *").last_day);
        assert_eq!(cron("0 0 * * *").weekdays, 0x7f);
        assert!(cron("0 0 13 * 5").either_day && !cron("0 0 * * 5").either_day);
    }

    #[test]
    fn an_interval_has_a_star_or_a_range_for_its_hours() {
        for text in ["*/15 * * * *", "@hourly", "0 8-18 * * *", "* * * * * *"] {
            assert!(cron(text).interval, "{text}");
        }
        for text in ["30 2 * * *", "0 2,3 * * *", "0 */2 * * *", "@daily", "0 0-22/2 * * *"] {
            assert!(!cron(text).interval, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_quoted_no_further_than_it_needs_to_be_seen() {
        let long = "1".repeat(490);
        let every_day = ["30"; 150].join(",");
        for text in [
            format!("{long} * * * *"),
            format!("{long}/2 * * * *"),
            format!("*/{long} * * * *"),
            format!("5-{long} * * * *"),
            format!("{:0>400}-1 * * * *", 2),
            format!("0 0 * {long} *"),
            format!("@{long}"),
            format!("0 0 {every_day} 2 *"),
            long.clone(),
        ] {
            let error = text.parse::<Cron>().unwrap_err().to_string();
            assert!(error.len() < 400, "{error}");
        }
    }

    #[test]
    fn a_malformed_expression_is_told_where_and_what_was_expected() {
        let table = [
            ("", "it has 0 fields, and needs five (minute, hour"),
            ("* * * *", "it has 4 fields"),
            ("* * * * * * *", "it has 7 fields"),
            ("61 * * * *", "at character 1, the minute: `61` is not a number from 0 to 59, or `*`"),
            ("0 24 * * *", "at character 3, the hour: `24` is not a number from 0 to 23"),
            ("0 0 0 * *", "at character 5, the day of the month: `0` is not a number from 1 to 31, or `L`"),
            (
                "0 0 * JUX *",
                "at character 7, the month: `JUX` is not a number from 1 to 12, or a name from JAN to DEC",
            ),
            (
                "0 0 * * 8",
                "at character 9, the day of the week: `8` is not a number from 0 to 7, or a name from SUN",
            ),
            ("0 1,,2 * * *", "at character 5, the hour: `` is not a number"),
            ("0 1,é * * *", "at character 5, the hour: `é` is not a number"),
            (
                "5/10 * * * *",
                "at character 1, the minute: `5/10` is not a range with a step: write `5-59/10`",
            ),
            ("*/0 * * * *", "at character 3, the minute: `0` is not a step from 1 to 59"),
            ("*/x * * * *", "at character 3, the minute: `x` is not a step"),
            (
                "0 22-4 * * *",
                "at character 3, the hour: `22-4` is not a range from low to high: write `22-23,0-4`",
            ),
            (
                "0 0 * * SAT-SUN",
                "at character 9, the day of the week: `SAT-SUN` is not a range from low to high: write `6-7`",
            ),
            (
                "0 0 * * FRI-MON",
                "at character 9, the day of the week: `FRI-MON` is not a range from low to high: write `5-7,0-1`",
            ),
            ("+5 * * * *", "at character 1, the minute: `+5` is not"),
            ("99999999999 * * * *", "at character 1, the minute: `99999999999` is not"),
            (
                "0 0 30,31 2 *",
                "at character 5, the day of the month: no month that it names has a day `30,31`",
            ),
            ("@dayly", "there is no `@dayly`: use one of @yearly"),
        ];
        for (text, expected) in table {
            let error = text.parse::<Cron>().unwrap_err();
            assert!(error.wrong.starts_with(expected), "{text}: {error}");
        }
        let long = "1,".repeat(1_000);
        assert!(long.parse::<Cron>().unwrap_err().to_string().len() < 250);
    }
}
