//! `[schedules.NAME]`: what is read of it, and what is wrong with it.

use super::*;

#[test]
fn a_schedule_is_read_and_needs_a_module_and_a_cron_expression() {
    let project = parse(WHOLE).unwrap();
    let nightly = &project.schedules["nightly"];
    assert_eq!((nightly.module.as_str(), nightly.queue.as_ref().unwrap().as_str()), ("send", "single"));
    assert_eq!((nightly.cron.as_str(), nightly.zone.as_str()), ("30 2 * * MON-FRI", "Europe/Berlin"));
    assert_eq!((nightly.missed, nightly.missed_max, nightly.jitter_ms), (Missed::All, 7, 600_000));
    assert_eq!((nightly.priority, nightly.key.as_ref().unwrap().as_str()), (-5, "acme"));
    assert_eq!(nightly.expires_in_ms, Some(6 * 3_600_000));
    let labels = serde_json::json!({"tags": ["report", "night shift"], "meta": {"by": "ops"}});
    assert_eq!(serde_json::to_value(&nightly.labels).unwrap(), labels);
    let unique = serde_json::json!({
        "by": ["module", "key"], "states": ["waiting"], "for_ms": 3_600_000, "on_conflict": "replace"
    });
    assert_eq!(serde_json::to_value(&nightly.unique).unwrap(), unique);
    assert_eq!(nightly.args, serde_json::json!({"to": ["a@b", -1, 1.5, true], "nested": {"x": 16}}));
    let module = ModuleName::new("ready").unwrap();
    let often = ScheduleEntry { unique: Some(Unique::default()), ..ScheduleEntry::new(module, "@hourly") };
    assert_eq!(project.schedules["often"], often);
}

const SCHEDULE: &str = "[modules.send]\nwasm = \"a\"\n[schedules.s]\n";

/// Schedules, which begin in line 4, and what is said about each.
const WRONG_SCHEDULES: &[(&str, &str)] = &[
    ("", "3: a schedule needs a `module`"),
    ("module = \"send\"", "3: a schedule needs a `cron` expression"),
    ("module = \"sned\"", "4: there is no module `sned`: did you mean `send`?"),
    ("module = \"x\"", "4: there is no module `x`: add a section [modules.x]"),
    (
        "module = \"send\"\ncron = \"61 * * * *\"",
        "5: `61 * * * *` is not a cron expression: at character 1, the minute: `61` is not a number from 0 to 59",
    ),
    (
        "module = \"send\"\ncron = \"@daily\"\nzone = \"Europe/Berlim\"",
        "6: there is no time zone `Europe/Berlim`: did you mean `Europe/Berlin`?",
    ),
    (
        "module = \"send\"\ncron = \"@daily\"\ntimezone = \"UTC\"",
        "6: unknown key `timezone` in [schedules.s]: ",
    ),
    (
        "module = \"send\"\ncron = \"@daily\"\nqeue = \"a\"",
        "6: unknown key `qeue` in [schedules.s]: did you mean `queue`?",
    ),
    (
        "module = \"send\"\ncron = \"@daily\"\nqueue = \"mial\"\n[queues.mail]",
        "6: queue `mial` is not declared: did you mean `mail`?",
    ),
    (
        "module = \"send\"\ncron = \"@daily\"\nqueue = \"night\"\n[queues.mail]",
        "6: queue `night` is not declared: add a section [queues.night]",
    ),
    (
        "module = \"send\"\ncron = \"@daily\"\nmissed = \"none\"",
        "6: `missed` must be one of \"skip\", \"one\" and \"all\"",
    ),
    ("module = \"send\"\ncron = \"@daily\"\ntags = \"a\"", "6: `tags` must be a list of tags"),
    ("module = \"send\"\ncron = \"@daily\"\ntags = [\"a\", \"\"]", "6: `tags` must be a list of tags"),
    ("module = \"send\"\ncron = \"@daily\"\ntags = [\"a\", \"a\"]", "6: `tags[1]` is `a` once more"),
    ("module = \"send\"\ncron = \"@daily\"\nunique = \"yes\"", "6: `unique` must be such as `true` or "),
    (
        "module = \"send\"\ncron = \"@daily\"\nunique = { per = \"1h\" }",
        "6: unknown key `per` in [schedules.s.unique]: ",
    ),
    ("module = \"send\"\ncron = \"@daily\"\nunique = { by = [\"arg\"] }", "6: `by` must be a list of "),
    ("module = \"send\"\ncron = \"@daily\"\nunique = { states = [] }", "6: `unique.states` names no state"),
    ("module = \"send\"\ncron = \"@daily\"\nmissed_max = 5", "6: `missed_max` bounds `missed = \"all\"`"),
    (
        "module = \"send\"\ncron = \"@daily\"\nmissed = \"all\"\nmissed_max = 0",
        "7: `missed_max` must be a whole number from 1 to 1000",
    ),
    (
        "module = \"send\"\ncron = \"@daily\"\npriority = -101",
        "6: `priority` must be a whole number from -100 to 100, not `-101`",
    ),
    ("module = \"send\"\ncron = \"@daily\"\nkey = \"acme \"", "6: it holds U+0020 at byte 4, a space at its"),
    ("module = \"send\"\ncron = \"@daily\"\nkey = \"\"", "6: `` is not a key: use 1 to 128 bytes of text"),
    (
        "module = \"send\"\ncron = \"@daily\"\nexpires_in = \"0s\"",
        "6: `expires_in` must be a number with its unit in quotes, from \"1ms\" to ",
    ),
    (
        "module = \"send\"\ncron = \"@daily\"\njitter = \"25h\"",
        "6: `jitter` must be a number with its unit in quotes, from \"0d\" to \"1d\"",
    ),
    ("module = \"send\"\ncron = \"@daily\"\nargs = 2030-01-01", "6: `args` must be a value that JSON has"),
];

#[test]
fn what_is_wrong_with_a_schedule_is_told_with_its_line_and_what_is_expected() {
    for (text, expected) in WRONG_SCHEDULES {
        let message = parse(&format!("{SCHEDULE}{text}")).unwrap_err().to_string();
        assert!(message.starts_with(&format!("app/midge.toml:{expected}")), "{text}\n{message}");
    }
    let long = format!("{SCHEDULE}module = \"send\"\ncron = \"@daily\"\nargs = \"{}\"", "x".repeat(70_000));
    let message = parse(&long).unwrap_err().to_string();
    assert!(message.contains("`args` are 70002 bytes as JSON, and at most 65536"), "{:.200}", message);
}
