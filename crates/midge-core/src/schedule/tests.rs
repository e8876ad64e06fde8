use std::collections::BTreeSet;

use midge_protocol::ModuleName;

use super::*;

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn name(name: &str) -> ScheduleName {
    ScheduleName::new(name).unwrap()
}

fn hourly(missed: Missed) -> (ScheduleEntry, Ticks) {
    let entry = ScheduleEntry { missed, ..ScheduleEntry::new(ModuleName::new("hello").unwrap(), "@hourly") };
    let ticks = Ticks::new(&entry).unwrap();
    (entry, ticks)
}

/// The hours at which a schedule ticks that was last looked at at ten, and is looked at now.
fn hours(missed: Missed, missed_max: u32, now: &str) -> Vec<String> {
    let (entry, ticks) = hourly(missed);
    let entry = ScheduleEntry { missed_max, ..entry };
    let schedule = Schedule::new(name("a"), &entry, &ticks, time("2026-11-26T10:00:00Z"));
    let now = time(now);
    let (due, after) = schedule.due(&entry, &ticks, 1_000, now);
    assert_eq!((after.done, after.next), (now, ticks.after(now)));
    assert_eq!(after.due(&entry, &ticks, 1_000, now).0, [], "no tick comes twice");
    due.iter().map(|tick| tick.at.to_string()[11..16].to_owned()).collect()
}

#[test]
fn a_tick_brings_its_job_also_a_little_late() {
    for missed in [Missed::Skip, Missed::One, Missed::All] {
        assert_eq!(hours(missed, 60, "2026-11-26T10:59:59.999Z"), [""; 0]);
        assert_eq!(hours(missed, 60, "2026-11-26T11:00:00Z"), ["11:00"]);
        assert_eq!(hours(missed, 60, "2026-11-26T11:05:00Z"), ["11:00"]);
    }
}

#[test]
fn ticks_that_a_clock_far_ahead_has_dealt_with_count_from_when_it_was_put_right() {
    let (entry, ticks) = hourly(Missed::All);
    let now = time("2026-11-26T10:30:00Z");
    let looked_at = |at| {
        let schedule = Schedule::new(name("a"), &entry, &ticks, time("2026-11-26T10:00:00Z"));
        schedule.due(&entry, &ticks, 1_000, time(at)).1.served(&entry, &ticks, now)
    };
    let far = looked_at("2028-11-26T12:00:00Z");
    assert_eq!((far.done, far.next), (now, Some(time("2026-11-26T11:00:00Z"))));
    // A clock that was a little ahead comes there soon, and no tick is dealt with twice meanwhile.
    let near = looked_at("2026-11-26T11:30:00Z");
    assert_eq!(near.next, Some(time("2026-11-26T12:00:00Z")));
    assert_eq!(near.due(&entry, &ticks, 1_000, time("2026-11-26T11:10:00Z")).0, []);
}

#[test]
fn missed_ticks_are_skipped_or_made_up_for_by_one_or_by_all_up_to_a_bound() {
    let late = "2026-11-26T14:30:00Z";
    assert_eq!(hours(Missed::Skip, 60, late), [""; 0]);
    assert_eq!(hours(Missed::One, 60, late), ["14:00"]);
    assert_eq!(hours(Missed::All, 60, late), ["11:00", "12:00", "13:00", "14:00"]);
    assert_eq!(hours(Missed::All, 2, late), ["13:00", "14:00"]);
    // One comes in time.
    assert_eq!(hours(Missed::Skip, 60, "2026-11-26T14:01:00Z"), ["14:00"]);
    assert_eq!(hours(Missed::One, 60, "2026-11-26T14:01:00Z"), ["14:00"]);
    assert_eq!(hours(Missed::All, 2, "2026-11-26T14:01:00Z"), ["12:00", "13:00", "14:00"]);
}

#[test]
fn more_ticks_than_there_is_room_for_come_with_the_next_looks() {
    let (entry, ticks) = hourly(Missed::All);
    let mut schedule = Schedule::new(name("a"), &entry, &ticks, time("2026-11-26T10:00:00Z"));
    let now = time("2026-11-26T17:30:00Z");
    let mut came = Vec::new();
    for expected in [3, 3, 1, 0] {
        let (due, after) = schedule.due(&entry, &ticks, 3, now);
        assert_eq!(due.len(), expected);
        assert_eq!(after.next == Some(now), expected == 3, "the next look is at once where there is more");
        came.extend(due.iter().map(|tick| tick.at));
        schedule = after;
    }
    assert!(came.is_sorted() && came.len() == 7);
    assert_eq!(
        schedule.due(&entry, &ticks, 0, now.after(Duration::from_secs(3_600))).1.done,
        now,
        "no room, nothing done"
    );
}

#[test]
fn an_outage_of_years_is_looked_through_as_fast_as_one_of_minutes() {
    let (entry, _) = hourly(Missed::All);
    let entry = ScheduleEntry { cron: "* * * * * *".to_owned(), missed_max: 10, ..entry };
    let ticks = Ticks::new(&entry).unwrap();
    let schedule = Schedule::new(name("a"), &entry, &ticks, time("1970-01-01T00:00:00Z"));
    let (due, _) = schedule.due(&entry, &ticks, 1_000, time("2026-11-26T17:30:00Z"));
    assert_eq!(due.len(), 10 + 301);
}

#[test]
fn a_clock_that_goes_back_brings_no_tick_again() {
    let (entry, ticks) = hourly(Missed::All);
    let schedule = Schedule::new(name("a"), &entry, &ticks, time("2026-11-26T10:00:00Z"));
    let (_, after) = schedule.due(&entry, &ticks, 10, time("2026-11-26T11:00:00Z"));
    let (due, again) = after.due(&entry, &ticks, 10, time("2026-11-26T10:30:00Z"));
    assert_eq!((due, again.done), (Vec::new(), after.done));
    assert_eq!(again.due(&entry, &ticks, 10, time("2026-11-26T11:00:00Z")).0, []);
}

fn pause(since: &str, until: Option<&str>) -> Pause {
    Pause { since: time(since), until: until.map(time), reason: "flood".into(), by: "Ada".into() }
}

#[test]
fn a_paused_schedule_brings_no_job_and_has_missed_none_when_it_is_resumed() {
    let (entry, ticks) = hourly(Missed::All);
    let schedule = Schedule::new(name("a"), &entry, &ticks, time("2026-11-26T10:00:00Z"));
    let paused = schedule.paused(pause("2026-11-26T10:30:00Z", None));
    assert_eq!(paused.next, None);
    let later = time("2026-11-26T15:30:00Z");
    assert_eq!(paused.served(&entry, &ticks, later), paused);
    assert_eq!(paused.due(&entry, &ticks, 10, later), (Vec::new(), paused.clone()));
    assert_eq!(paused.next_runs(&entry, &ticks, 5, later), []);
    let resumed = paused.resumed(&ticks, later);
    assert_eq!((resumed.next, &resumed.pause), (Some(time("2026-11-26T16:00:00Z")), &None));
    assert_eq!(resumed.due(&entry, &ticks, 10, later).0, []);
    assert_eq!(resumed.resumed(&ticks, time("2026-11-26T17:30:00Z")), resumed, "it is not paused any more");
}

#[test]
fn a_pause_with_an_end_is_over_then_and_a_newer_one_takes_its_place() {
    let (entry, ticks) = hourly(Missed::All);
    let schedule = Schedule::new(name("a"), &entry, &ticks, time("2026-11-26T10:00:00Z"));
    let end = "2026-11-26T13:00:00Z";
    let paused = schedule.paused(pause("2026-11-26T10:30:00Z", Some(end)));
    let next: Vec<Timestamp> =
        paused.next_runs(&entry, &ticks, 2, time(end)).iter().map(|tick| tick.at).collect();
    assert_eq!(next, [time("2026-11-26T14:00:00Z"), time("2026-11-26T15:00:00Z")]);
    assert_eq!(paused.next, Some(time(end)), "there is something to do at its end");
    let before = time("2026-11-26T12:59:59.999Z");
    assert_eq!(paused.served(&entry, &ticks, before), paused);
    assert_eq!(paused.next_runs(&entry, &ticks, 1, before)[0].at, time(end));
    // A server that was not there at the end makes up for what ticked since then, and for nothing before.
    for (now, expected) in [(end, 1), ("2026-11-26T15:30:00Z", 3)] {
        let served = paused.served(&entry, &ticks, time(now));
        assert_eq!(served.pause, None);
        let (due, after) = served.due(&entry, &ticks, 10, time(now));
        assert_eq!((due.len(), due[0].at), (expected, time(end)));
        assert_eq!(after.done, time(now));
    }
    let anew = paused.paused(pause("2026-11-26T11:00:00Z", None));
    assert_eq!((anew.next, anew.pause.unwrap().since), (None, time("2026-11-26T11:00:00Z")));
}

#[test]
fn another_expression_counts_from_its_deploy_and_another_jitter_changes_nothing() {
    let (entry, ticks) = hourly(Missed::All);
    let schedule = Schedule::new(name("a"), &entry, &ticks, time("2026-11-26T10:00:00Z"));
    let now = time("2026-11-26T15:30:00Z");
    let spread = ScheduleEntry { jitter_ms: 1_000, ..entry.clone() };
    assert_eq!(schedule.served(&spread, &ticks, now), schedule);
    let other = ScheduleEntry { cron: "*/10 * * * *".to_owned(), ..entry };
    let other_ticks = Ticks::new(&other).unwrap();
    let served = schedule.served(&other, &other_ticks, now);
    assert_eq!((served.done, served.next), (now, Some(time("2026-11-26T15:40:00Z"))));
}

#[test]
fn a_removed_schedule_is_remembered_for_a_month_with_its_pause_and_has_missed_nothing() {
    let (entry, ticks) = hourly(Missed::All);
    let start = time("2026-11-26T10:00:00Z");
    let schedule =
        Schedule::new(name("a"), &entry, &ticks, start).paused(pause("2026-11-26T10:00:00Z", None));
    let removed = schedule.removed(start).unwrap();
    assert_eq!(removed.next, Some(time("2026-12-26T10:00:00Z")));
    assert_eq!(removed.due(&entry, &ticks, 10, time("2026-11-27T10:00:00Z")).0, []);
    assert_eq!(removed.removed(time("2026-12-20T10:00:00Z")), Some(removed.clone()));
    assert_eq!(removed.removed(time("2026-12-26T10:00:00Z")), None);
    let back = removed.served(&entry, &ticks, time("2026-11-30T10:30:00Z"));
    assert_eq!((&back.pause, back.next, back.removed), (&schedule.pause, None, None));
    let resumed = back.resumed(&ticks, time("2026-11-30T11:30:00Z"));
    assert_eq!(resumed.next, Some(time("2026-11-30T12:00:00Z")));
}

#[test]
fn the_id_of_a_ticks_job_is_a_function_of_schedule_and_tick_and_begins_with_its_time() {
    let tick = time("2026-11-26T10:00:00Z");
    // Written down: another release must find the same.
    assert_eq!(tick_job(&name("nightly"), tick).to_string(), "01a2174c-3500-7609-a9a4-4ec5a0c934cf");
    let ids: BTreeSet<JobId> = (0..100_u64)
        .flat_map(|n| ["a", "b", "a-1"].map(|s| tick_job(&name(s), tick.after(Duration::from_secs(n)))))
        .collect();
    assert_eq!(ids.len(), 300);
    let early = ["z", "y"].map(|schedule| tick_job(&name(schedule), tick));
    assert!(early.iter().all(|early| *early < tick_job(&name("a"), tick.after(Duration::from_secs(1)))));
}

#[test]
fn jitter_is_within_its_window_spreads_and_is_the_same_each_time() {
    let tick = time("2026-11-26T10:00:00Z");
    let spread: Vec<Duration> = (0..100).map(|n| jitter(&name(&format!("s{n}")), tick, 60_000)).collect();
    assert!(spread.iter().all(|jitter| *jitter < Duration::from_secs(60)));
    let (low, high) = (
        spread.iter().filter(|j| j.as_secs() < 20).count(),
        spread.iter().filter(|j| j.as_secs() >= 40).count(),
    );
    assert!(low > 15 && high > 15, "{low} {high}");
    assert_eq!(jitter(&name("s1"), tick, 60_000), spread[1]);
    assert_eq!(jitter(&name("s1"), tick, 0), Duration::ZERO);
}
