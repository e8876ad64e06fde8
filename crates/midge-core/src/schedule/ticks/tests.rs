use std::time::Duration;

use midge_protocol::ModuleName;

use super::*;

fn ticks(cron: &str, zone: &str) -> Ticks {
    let entry = ScheduleEntry::new(ModuleName::new("hello").unwrap(), cron);
    Ticks::new(&ScheduleEntry { zone: zone.to_owned(), ..entry }).unwrap()
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Returns the ticks between two times as a clock in the zone shows them, and makes sure that they are the same backwards.
fn shown(cron: &str, zone: &str, from: &str, until: &str) -> Vec<String> {
    let ticks = ticks(cron, zone);
    let show = |at: &Timestamp| {
        let at = Moment::from_millisecond(at.as_millis()).unwrap().to_zoned(ticks.zone.clone());
        at.strftime("%d %H:%M %Z").to_string()
    };
    both_ways(&ticks, time(from), time(until)).iter().map(show).collect()
}

fn both_ways(ticks: &Ticks, from: Timestamp, until: Timestamp) -> Vec<Timestamp> {
    let forward =
        std::iter::successors(ticks.after(from.before(Duration::from_millis(1))), |at| ticks.after(*at));
    let forward: Vec<Timestamp> = forward.take_while(|at| *at <= until).collect();
    let step = |at: &Timestamp| ticks.last_until(at.before(Duration::from_millis(1)), from);
    let mut backward: Vec<Timestamp> = std::iter::successors(ticks.last_until(until, from), step).collect();
    backward.reverse();
    assert_eq!(forward, backward);
    forward
}

/// A fixed time around a change: the expression, the zone, from, until, and what ticks.
type Case = (&'static str, &'static str, &'static str, &'static str, &'static [&'static str]);

#[test]
fn a_fixed_time_in_a_gap_ticks_right_after_it() {
    let table: &[Case] = &[
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-28T00:00:00Z",
            "2026-03-30T12:00:00Z",
            &["28 02:30 CET", "29 03:00 CEST", "30 02:30 CEST"],
        ),
        (
            "30 2 * * *",
            "America/New_York",
            "2026-03-08T05:00:00Z",
            "2026-03-09T12:00:00Z",
            &["08 03:00 EDT", "09 02:30 EDT"],
        ),
        // Half an hour, from 2:00 to 2:30.
        (
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T12:00:00Z",
            "2026-10-04T20:00:00Z",
            &["04 02:30 +11", "05 02:15 +11"],
        ),
        // A gap at midnight: the day begins at one.
        (
            "@daily",
            "America/Sao_Paulo",
            "2018-11-03T12:00:00Z",
            "2018-11-05T12:00:00Z",
            &["04 01:00 -02", "05 00:00 -02"],
        ),
        // A day that was left out.
        (
            "0 12 * * *",
            "Pacific/Apia",
            "2011-12-29T12:00:00Z",
            "2012-01-01T12:00:00Z",
            &["29 12:00 -10", "31 00:00 +14", "31 12:00 +14", "01 12:00 +14"],
        ),
        // Two in one gap tick together, and one beside it by itself.
        ("0,30 2 * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", "2026-03-29T12:00:00Z", &["29 03:00 CEST"]),
        (
            "30 2,3 * * *",
            "Europe/Berlin",
            "2026-03-29T00:00:00Z",
            "2026-03-29T12:00:00Z",
            &["29 03:00 CEST", "29 03:30 CEST"],
        ),
        ("0 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", "2026-03-29T12:00:00Z", &["29 03:00 CEST"]),
        (
            "0 */2 * * *",
            "Europe/Berlin",
            "2026-03-28T23:00:00Z",
            "2026-03-29T03:00:00Z",
            &["29 00:00 CET", "29 03:00 CEST", "29 04:00 CEST"],
        ),
    ];
    for (cron, zone, from, until, expected) in table {
        assert_eq!(shown(cron, zone, from, until), *expected, "{cron} in {zone}");
    }
}

#[test]
fn a_fixed_time_in_an_overlap_ticks_once_the_first_time() {
    let table: &[Case] = &[
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            "2026-10-26T12:00:00Z",
            &["25 02:30 CEST", "26 02:30 CET"],
        ),
        (
            "30 1 * * *",
            "America/New_York",
            "2026-11-01T00:00:00Z",
            "2026-11-02T12:00:00Z",
            &["01 01:30 EDT", "02 01:30 EST"],
        ),
        (
            "45 1 * * *",
            "Australia/Lord_Howe",
            "2026-04-04T00:00:00Z",
            "2026-04-05T20:00:00Z",
            &["05 01:45 +11", "06 01:45 +1030"],
        ),
        (
            "30 */2 * * *",
            "Europe/Berlin",
            "2026-10-24T22:00:00Z",
            "2026-10-25T04:00:00Z",
            &["25 00:30 CEST", "25 02:30 CEST", "25 04:30 CET"],
        ),
    ];
    for (cron, zone, from, until, expected) in table {
        assert_eq!(shown(cron, zone, from, until), *expected, "{cron} in {zone}");
    }
}

#[test]
fn an_interval_loses_nothing_and_doubles_nothing_over_either_change() {
    let zones = [
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "America/St_Johns",
        "Asia/Kathmandu",
        "UTC",
    ];
    for zone in zones {
        for (cron, seconds) in
            [("*/15 * * * *", 900), ("*/5 * * * *", 300), ("7-59/10 * * * *", 600), ("*/30 * * * *", 1_800)]
        {
            let ticks =
                both_ways(&ticks(cron, zone), time("2026-01-01T00:00:00Z"), time("2027-01-01T00:00:00Z"));
            let apart = Duration::from_secs(seconds);
            assert!(ticks.windows(2).all(|two| two[1].since(two[0]) == apart), "{cron} in {zone}");
            assert!(ticks.len() as u64 >= 365 * 86_400 / seconds, "{cron} in {zone}");
        }
    }
    for zone in ["Europe/Berlin", "America/New_York", "UTC"] {
        for cron in ["@hourly", "30 * * * *"] {
            let ticks =
                both_ways(&ticks(cron, zone), time("2026-01-01T00:00:00Z"), time("2026-12-31T23:59:59Z"));
            assert!(ticks.windows(2).all(|two| two[1].since(two[0]).as_secs() == 3_600), "{cron} in {zone}");
            assert_eq!(ticks.len(), 365 * 24, "{cron} in {zone}");
        }
    }
}

#[test]
fn an_interval_that_does_not_fit_the_change_keeps_its_distance() {
    let table: &[Case] = &[
        // Half an hour forward, from 2:00 to 2:30: 2:45 is only half an hour after 1:45.
        (
            "0 * * * *",
            "Australia/Lord_Howe",
            "2026-10-03T14:20:00Z",
            "2026-10-03T17:00:00Z",
            &["04 01:00 +1030", "04 03:00 +11", "04 04:00 +11"],
        ),
        (
            "45 * * * *",
            "Australia/Lord_Howe",
            "2026-10-03T14:20:00Z",
            "2026-10-03T17:00:00Z",
            &["04 01:45 +1030", "04 03:45 +11"],
        ),
        (
            "*/40 * * * *",
            "Australia/Lord_Howe",
            "2026-10-03T14:50:00Z",
            "2026-10-03T16:00:00Z",
            &["04 01:40 +1030", "04 02:40 +11", "04 03:00 +11"],
        ),
        (
            "0,50 * * * *",
            "Australia/Lord_Howe",
            "2026-10-03T15:00:00Z",
            "2026-10-03T16:00:00Z",
            &["04 01:50 +1030", "04 02:50 +11", "04 03:00 +11"],
        ),
        // Half an hour back: 1:45 comes twice and is no hour apart.
        (
            "45 * * * *",
            "Australia/Lord_Howe",
            "2026-04-04T13:30:00Z",
            "2026-04-04T16:30:00Z",
            &["05 00:45 +11", "05 01:45 +11", "05 02:45 +1030"],
        ),
        (
            "*/20 * * * *",
            "Australia/Lord_Howe",
            "2026-04-04T14:20:00Z",
            "2026-04-04T15:40:00Z",
            &["05 01:20 +11", "05 01:40 +11", "05 01:40 +1030", "05 02:00 +1030"],
        ),
    ];
    for (cron, zone, from, until, expected) in table {
        assert_eq!(shown(cron, zone, from, until), *expected, "{cron} in {zone}");
    }
}

#[test]
fn an_interval_is_made_up_for_only_where_a_gap_hides_all_times_of_a_day() {
    let table: &[Case] = &[
        // Two hours, from 1:00 to 3:00.
        (
            "10 1-4 * * *",
            "Antarctica/Troll",
            "2027-03-28T00:20:00Z",
            "2027-03-28T12:00:00Z",
            &["28 03:10 +02", "28 04:10 +02"],
        ),
        (
            "*/10 1-2 * * *",
            "Antarctica/Troll",
            "2027-03-28T00:20:00Z",
            "2027-03-29T00:00:00Z",
            &[
                "28 03:00 +02",
                "29 01:00 +02",
                "29 01:10 +02",
                "29 01:20 +02",
                "29 01:30 +02",
                "29 01:40 +02",
                "29 01:50 +02",
                "29 02:00 +02",
            ],
        ),
        (
            "*/20 2-2 * * *",
            "Europe/Berlin",
            "2026-03-29T00:00:00Z",
            "2026-03-29T12:00:00Z",
            &["29 03:00 CEST"],
        ),
        (
            "*/20 1-2 * * *",
            "Europe/Berlin",
            "2026-03-29T00:00:00Z",
            "2026-03-29T12:00:00Z",
            &["29 01:00 CET", "29 01:20 CET", "29 01:40 CET"],
        ),
        ("30 2-3 * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", "2026-03-29T12:00:00Z", &["29 03:30 CEST"]),
        (
            "*/15 2-2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T14:20:00Z",
            "2026-10-04T12:00:00Z",
            &["04 02:30 +11", "04 02:45 +11"],
        ),
        // A day that was left out, as a fixed time has it, unless a time is near.
        (
            "*/30 2-2 * * *",
            "Pacific/Apia",
            "2011-12-29T12:30:00Z",
            "2011-12-30T12:15:00Z",
            &["29 02:30 -10", "31 00:00 +14", "31 02:00 +14"],
        ),
        (
            "45 * * * *",
            "Pacific/Apia",
            "2011-12-30T09:00:00Z",
            "2011-12-30T12:00:00Z",
            &["29 23:45 -10", "31 00:45 +14", "31 01:45 +14"],
        ),
        (
            "5-59/30 0-20 * * *",
            "Pacific/Apia",
            "2011-12-30T06:30:00Z",
            "2011-12-30T11:00:00Z",
            &["29 20:35 -10", "31 00:05 +14", "31 00:35 +14"],
        ),
    ];
    for (cron, zone, from, until, expected) in table {
        assert_eq!(shown(cron, zone, from, until), *expected, "{cron} in {zone}");
    }
}

#[test]
fn no_interval_ticks_sooner_after_its_last_tick_than_on_a_usual_day() {
    let years = [
        ("Australia/Lord_Howe", "2026"),
        ("Antarctica/Troll", "2026"),
        ("America/St_Johns", "2026"),
        ("Africa/Casablanca", "2026"),
        ("Europe/Berlin", "2026"),
        ("America/Sao_Paulo", "2018"),
        ("Pacific/Apia", "2011"),
        // From 23:30 to midnight, in the middle of the year.
        ("Asia/Pyongyang", "2018"),
    ];
    let crons = [
        "0 * * * *",
        "45 * * * *",
        "*/40 * * * *",
        "0,50 * * * *",
        "*/7 * * * *",
        "29,31 * * * *",
        "10 1-4 * * *",
        "*/30 1-3 * * *",
        "50 2-2 * * *",
        "5-59/20 0-22 * * *",
        "30 23-23 * * *",
    ];
    for (zone, year) in years {
        for cron in crons {
            let ticks = ticks(cron, zone);
            let usual = Duration::from_secs(ticks.usual_seconds() as u64);
            let (from, until) = (format!("{year}-01-01T00:00:00Z"), format!("{year}-12-31T23:59:59Z"));
            let times = both_ways(&ticks, time(&from), time(&until));
            assert!(times.windows(2).all(|two| two[1].since(two[0]) >= usual), "{cron} in {zone}");
            let skipped = times.iter().filter(|at| {
                let at = Moment::from_millisecond(at.as_millis()).unwrap();
                let reading = at.to_zoned(ticks.zone.clone()).datetime();
                ticks.reading_from(reading) != Some(reading)
            });
            assert!(skipped.count() <= 1, "{cron} in {zone}");
        }
    }
}

#[test]
fn days_are_those_of_the_month_or_of_the_week_where_both_are_said() {
    let days = |cron: &str| shown(cron, "UTC", "2026-02-01T00:00:00Z", "2026-03-31T23:00:00Z").len();
    assert_eq!(days("0 0 13 * 5"), 8, "Friday the 13th, twice, is one of eight Fridays");
    assert_eq!(
        shown("0 0 L * *", "UTC", "2028-02-01T00:00:00Z", "2028-03-31T00:00:00Z"),
        ["29 00:00 UTC", "31 00:00 UTC"]
    );
    assert_eq!(shown("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", "2105-01-01T00:00:00Z"), ["29 00:00 UTC"]);
}

#[test]
fn there_is_no_tick_beyond_the_last_time_that_there_is() {
    for zone in ["UTC", "Europe/Berlin", "Pacific/Kiritimati"] {
        assert_eq!(ticks("@yearly", zone).after(time("9999-06-01T00:00:00Z")), None);
        assert_eq!(ticks("* * * * * *", zone).after(Timestamp::LATEST), None);
        assert!(ticks("@daily", zone).after(Timestamp::EARLIEST).is_some());
    }
}

#[test]
fn between_two_changes_of_the_clock_the_ticks_are_those_of_croner() {
    let expressions = [
        "* * * * *",
        "*/7 3-5 * * *",
        "0 0 1 1 *",
        "15 10 * * 1-5",
        "0 0 13 * 5",
        "30 6 L * *",
        "5 4 31 * *",
        "*/20 10 2 29 2 *",
        "0 0 * 2,4 0",
        "59 59 23 * * 6",
        "0 */6 1-7 * *",
        "@weekly",
        "0 9 15 */3 *",
    ];
    for zone in ["UTC", "Asia/Tokyo", "Asia/Kathmandu", "America/Bogota"] {
        for expression in expressions {
            let theirs: croner::Cron = expression.parse().unwrap();
            let ours = ticks(expression, zone);
            let mut at = time("2026-01-01T00:00:00Z");
            for _ in 0..50 {
                let zoned = Moment::from_millisecond(at.as_millis()).unwrap().to_zoned(ours.zone.clone());
                let expected = theirs.find_next_occurrence(&zoned, false).unwrap();
                at = ours.after(at).unwrap();
                assert_eq!(at.as_millis(), expected.timestamp().as_millisecond(), "{expression} in {zone}");
            }
        }
    }
}
