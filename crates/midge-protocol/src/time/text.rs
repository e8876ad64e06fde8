//! The one form in which midge writes times, `2030-01-31T08:00:00.000Z`, written and read without what other forms need:
//! every row of a job or a Machine holds some, and is read and written all the time.

/// How many bytes a time has.
pub(super) const LENGTH: usize = 24;

const DAY_MILLIS: i64 = 86_400_000;
/// From the first day of a calendar whose years begin in March, 0000-03-01, to the Unix epoch.
const EPOCH_DAYS: i64 = 719_468;
/// After so many years and days the calendar is as before.
const ERA_YEARS: i64 = 400;
const ERA_DAYS: i64 = 146_097;

/// Writes a time of the years 0000 to 9999, in milliseconds since the Unix epoch.
pub(super) fn write(millis: i64, text: &mut [u8; LENGTH]) -> &str {
    let (day, in_day) = (millis.div_euclid(DAY_MILLIS), millis.rem_euclid(DAY_MILLIS));
    let (year, month, day) = date(day);
    *text = *b"0000-00-00T00:00:00.000Z";
    let mut put = |at: usize, digits: usize, number: i64| {
        let mut rest = number;
        for place in text[at..at + digits].iter_mut().rev() {
            *place += (rest % 10) as u8;
            rest /= 10;
        }
    };
    put(0, 4, year);
    put(5, 2, month);
    put(8, 2, day);
    put(11, 2, in_day / 3_600_000);
    put(14, 2, in_day / 60_000 % 60);
    put(17, 2, in_day / 1_000 % 60);
    put(20, 3, in_day % 1_000);
    std::str::from_utf8(text).expect("digits are ASCII")
}

/// Reads a time that has this form, as milliseconds since the Unix epoch. Nothing where it has not, which does not mean
/// that it is none.
pub(super) fn read(text: &str) -> Option<i64> {
    let text: &[u8; LENGTH] = text.as_bytes().try_into().ok()?;
    let number = |at: usize, digits: usize| {
        text[at..at + digits].iter().try_fold(0, |number: i64, digit| {
            digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0'))
        })
    };
    if [4, 7, 10, 13, 16, 19, 23].map(|at| text[at]) != *b"--T::.Z" {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second, millis) = (number(11, 2)?, number(14, 2)?, number(17, 2)?, number(20, 3)?);
    if !(1..=12).contains(&month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days(year, month, day);
    // A day that its month does not have is one of the next.
    (date(days) == (year, month, day))
        .then_some(days * DAY_MILLIS + hour * 3_600_000 + minute * 60_000 + second * 1_000 + millis)
}

/// Returns year, month and day of a day since the Unix epoch.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH_DAYS;
    let (era, day) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
    // Without the leap days before it: one in four years, none in 100, one in 400.
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // From March on, five months have 153 days.
    let month = (5 * day + 2) / 153;
    let in_month = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * ERA_YEARS + i64::from(month <= 2), month, in_month)
}

/// Returns the day since the Unix epoch of year, month and day: the inverse of [`date`].
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year) = (year.div_euclid(ERA_YEARS), year.rem_euclid(ERA_YEARS));
    let since_march = if month > 2 { month - 3 } else { month + 9 };
    let in_year = (153 * since_march + 2) / 5 + day - 1;
    era * ERA_DAYS + year * 365 + year / 4 - year / 100 + in_year - EPOCH_DAYS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    #[test]
    fn each_day_of_an_era_and_many_of_all_time_are_as_jiff_has_them() {
        let first = Timestamp::EARLIEST.as_millis() / DAY_MILLIS;
        let last = Timestamp::LATEST.as_millis() / DAY_MILLIS;
        for day in (-ERA_DAYS / 2..ERA_DAYS / 2).chain((first..last).step_by(97)) {
            let millis = day * DAY_MILLIS + day.rem_euclid(9_973) * 8_663;
            let time = jiff::Timestamp::from_millisecond(millis).unwrap();
            let text = format!("{time:.3}");
            assert_eq!(write(millis, &mut [0; LENGTH]), text);
            assert_eq!(read(&text), Some(millis), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_of_this_form_is_not_read() {
        for text in [
            "2030-02-29T08:00:00.000Z",
            "2030-04-31T08:00:00.000Z",
            "2030-00-01T08:00:00.000Z",
            "2030-13-01T08:00:00.000Z",
            "2030-01-00T08:00:00.000Z",
            "2030-01-01T24:00:00.000Z",
            "2030-01-01T23:60:00.000Z",
            "2030-01-01T23:59:60.000Z",
            "2030-01-01T23:59:59.000z",
            "2030-01-01 23:59:59.000Z",
            "2030-01-01T23:59:59.00Z",
            "2030-01-01T23:59:59.+00Z",
            "2030-01-01T23:59:59,000Z",
            "",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        assert!(read("2028-02-29T08:00:00.000Z").is_some());
    }
}
