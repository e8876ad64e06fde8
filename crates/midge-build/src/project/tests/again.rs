//! How a module's jobs are tried again, as `midge.toml` says it.

use midge_protocol::job::Cause;

use super::*;

/// A module with these lines.
fn module(lines: &str) -> String {
    format!("[modules.a]\nwasm = \"a\"\n{lines}")
}

#[test]
fn a_module_says_how_its_jobs_are_tried_again() {
    let text = module(
        r#"
backoff = "10s..1d"
jitter_percent = 0
backoff_by_cause = { trap = "none", over_time = "fixed 10m", exit = "1s, 1m" }
retry_for = "7d"
"#,
    );
    let retry = parse(&text).unwrap().modules["a"].retry.clone();
    assert_eq!(retry.backoff, Backoff::Exponential { base_ms: 10_000, cap_ms: 86_400_000 });
    assert_eq!((retry.jitter_percent, retry.retry_for_ms), (Some(0), Some(7 * 86_400_000)));
    let by_cause = [
        (Cause::Trap, Backoff::None),
        (Cause::OverTime, Backoff::Fixed { wait_ms: 600_000 }),
        (Cause::Exit, Backoff::List { waits_ms: vec![1_000, 60_000] }),
    ];
    assert_eq!(retry.backoff_by_cause, by_cause.into());
    assert_eq!(retry.check(), Ok(()));
}

#[test]
fn what_cannot_be_is_told_with_its_line_and_what_may_be() {
    let list = vec!["1s"; 101].join(", ");
    for (lines, expected) in [
        ("backoff = 5", "3: `backoff` must be a backoff in quotes, such as \"2s..1h\", not `5`"),
        ("backoff = \"sidekik\"", "3: `sidekik` is no backoff: use `sidekiq`, `none`, "),
        ("backoff = \"0s\"", "3: `0s` is no backoff: a wait is from 1ms to 30d"),
        ("backoff = \"-1s\"", "3: `-1s` is no backoff: use "),
        ("backoff = \"2h..1h\"", "3: `2h..1h` is no backoff: it begins with 2h, above its cap of 1h"),
        (&format!("backoff = \"{list}\""), "3: `1s, 1s, "),
        ("jitter_percent = 101", "3: `jitter_percent` must be a whole number from 0 to 100, not `101`"),
        (
            "jiter_percent = 1",
            "3: unknown key `jiter_percent` in [modules.a]: did you mean `jitter_percent`?",
        ),
        (
            "retry_for = \"0s\"",
            "3: `retry_for` must be a number with its unit in quotes, from \"1ms\" to \"365d\"",
        ),
        (
            "backoff_by_cause = { tarp = \"none\" }",
            "3: `tarp` is no cause after which a job is tried again: did you mean `trap`?",
        ),
        (
            "backoff_by_cause = { refused = \"1s\" }",
            "3: `refused` is no cause after which a job is tried again: use exit, ",
        ),
        ("[modules.a.backoff_by_cause]\ntrap = \"0s\"", "4: `0s` is no backoff: a wait is from 1ms to 30d"),
        ("backoff_by_cause = \"none\"", "3: `modules.a.backoff_by_cause` must be a section"),
    ] {
        let message = parse(&module(lines)).unwrap_err().to_string();
        assert!(message.starts_with(&format!("app/midge.toml:{expected}")), "{lines}\n{message}");
    }
}
