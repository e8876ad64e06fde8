//! Whole attempts: this program runs itself again as each of the jobs below, and looks at what comes out.

use std::io::Write;
use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Failed, Trial};

/// Names the job that this process is to be. Not set in the process that tests.
const JOB: &str = "MIDGE_TEST_JOB";

/// Declares each job in a module of its own, as each has a `fn main`, and a function that finds them by name.
macro_rules! jobs {
    ($($(#[$note:meta])* $name:ident $arguments:tt -> $returns:ty $body:block)*) => {
        $(mod $name {
            #[allow(unused_imports)]
            use super::*;

            $(#[$note])*
            #[midge_job::main]
            fn $name $arguments -> $returns $body

            pub(super) fn start() -> ExitCode {
                main()
            }
        })*

        fn start(job: &str) -> ExitCode {
            match job {
                $(stringify!($name) => $name::start(),)*
                _ => panic!("there is no job `{job}`"),
            }
        }
    };
}

mod types {
    use std::fmt;

    #[derive(serde::Serialize, serde::Deserialize)]
    pub struct Size {
        pub width: u32,
        pub height: u32,
    }

    /// Like `anyhow::Error`: no standard error, and shows its causes with `#` only.
    pub struct Alternate;

    impl fmt::Display for Alternate {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(if f.alternate() { "outer: inner" } else { "outer" })
        }
    }

    /// Decides itself what becomes of the job.
    pub struct Gone;

    impl From<Gone> for midge_job::Error {
        fn from(_: Gone) -> midge_job::Error {
            midge_job::Error::refuse("the photo is gone")
        }
    }

    /// A `Result` under another name.
    pub type Outcome = Result<u32, std::num::ParseIntError>;
}

jobs! {
    typed(size: types::Size) -> midge_job::Result<types::Size> {
        Ok(types::Size { width: size.height, height: size.width })
    }
    plain_value(words: Vec<String>) -> usize { words.len() }
    pattern((a, b): (i32, i32)) -> i32 { a - b }
    nothing() -> () {}
    reverse() -> std::io::Result<midge_job::Bytes> {
        let mut bytes = midge_job::input()?;
        bytes.reverse();
        Ok(bytes.into())
    }
    first_line() -> std::io::Result<String> {
        use std::io::BufRead;
        let mut line = String::new();
        midge_job::input_reader().read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }
    opaque() -> impl serde::Serialize { [1, 2] }
    standard_error() -> Result<u32, std::num::ParseIntError> { "x".parse() }
    alias(text: String) -> types::Outcome { text.parse() }
    text_error() -> Result<u32, String> { Err("no luck".to_owned()) }
    alternate_error() -> Result<u32, types::Alternate> { Err(types::Alternate) }
    own_error() -> Result<u32, types::Gone> { Err(types::Gone) }
    refusal() -> midge_job::Result<()> { Err(midge_job::Error::refuse("bad photo")) }
    later() -> midge_job::Result<()> {
        Err(midge_job::Error::new("busy").retry_after(std::time::Duration::from_millis(1500)))
    }
    snooze() -> midge_job::Result<()> { Err(midge_job::Error::snooze(std::time::Duration::from_secs(60))) }
    panics() -> () { panic!("the {} gave out", "bottom") }
    unwritable() -> std::collections::BTreeMap<(u8, u8), u8> { [((1, 2), 3)].into() }
    talks() -> u32 {
        midge_job::progress(3, 10, "rows");
        midge_job::attempt()
    }
    knows() -> (String, u32, String, bool) {
        (midge_job::job_id(), midge_job::attempt(), midge_job::queue(), midge_job::time_left().is_some())
    }
}

fn main() -> ExitCode {
    if let Ok(job) = std::env::var(JOB) {
        return start(&job);
    }
    let rules: &[(&str, fn())] = &[
        ("a_typed_result_is_json", a_typed_result_is_json),
        ("a_job_may_return_less_than_a_result", a_job_may_return_less_than_a_result),
        ("bytes_are_written_as_they_are", bytes_are_written_as_they_are),
        ("a_job_without_an_argument_ignores_the_args", a_job_without_an_argument_ignores_the_args),
        ("args_that_do_not_fit_are_refused", args_that_do_not_fit_are_refused),
        ("any_error_that_can_be_shown_can_be_returned", any_error_that_can_be_shown_can_be_returned),
        ("a_refusal_has_an_exit_code_of_its_own", a_refusal_has_an_exit_code_of_its_own),
        ("a_failure_can_name_its_wait", a_failure_can_name_its_wait),
        ("a_snooze_is_no_error", a_snooze_is_no_error),
        ("a_panic_is_told_to_the_host", a_panic_is_told_to_the_host),
        ("a_result_that_cannot_be_json_is_refused", a_result_that_cannot_be_json_is_refused),
        ("progress_leaves_the_result_alone", progress_leaves_the_result_alone),
        ("a_job_knows_its_attempt", a_job_knows_its_attempt),
    ];
    let trials = rules.iter().map(|&(name, rule)| {
        Trial::test(name, move || std::panic::catch_unwind(rule).map_err(|_| Failed::without_message()))
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// What came out of an attempt.
struct Ended {
    code: Option<i32>,
    result: String,
    log: String,
}

fn attempt(job: &str, args: Option<&str>, input: &str) -> Ended {
    attempt_with(job, args, input, &[])
}

fn attempt_with(job: &str, args: Option<&str>, input: &str, env: &[(&str, &str)]) -> Ended {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(args)
        .env_clear()
        .env(JOB, job)
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A job that does not read its input may be gone before it is written.
    let _ = process.stdin.take().unwrap().write_all(input.as_bytes());
    let output = process.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), result: text(output.stdout), log: text(output.stderr) }
}

#[track_caller]
fn gives(job: &str, args: Option<&str>, input: &str, result: &str) {
    let ended = attempt(job, args, input);
    assert_eq!((ended.code, ended.result.as_str()), (Some(0), result), "{job}: {}", ended.log);
}

#[track_caller]
fn fails(job: &str, args: Option<&str>, code: i32, log: &str) {
    let ended = attempt(job, args, "");
    assert_eq!((ended.code, ended.result.as_str()), (Some(code), ""), "{job}: {}", ended.log);
    assert_eq!(ended.log, log, "{job}");
}

fn a_typed_result_is_json() {
    gives("typed", Some(r#"{"width":4,"height":3}"#), "", r#"{"width":3,"height":4}"#);
    gives("alias", Some(r#""12""#), "", "12");
}

fn a_job_may_return_less_than_a_result() {
    gives("plain_value", Some(r#"["a","b"]"#), "", "2");
    gives("pattern", Some("[5,3]"), "", "2");
    gives("opaque", None, "", "[1,2]");
    gives("nothing", None, "", "null");
}

fn bytes_are_written_as_they_are() {
    gives("reverse", None, "a\nbc", "cb\na");
    gives("first_line", None, "one\ntwo\n", r#""one""#);
}

fn a_job_without_an_argument_ignores_the_args() {
    gives("reverse", Some("not even JSON"), "ab", "ba");
}

fn args_that_do_not_fit_are_refused() {
    let message = "the args do not fit this job at `height`: invalid type: string \"3\", expected u32 at line 1 column 25";
    let log = format!("error: {message}\nmidge: failed: {message}\n");
    fails("typed", Some(r#"{"width": 4, "height":"3"}"#), 65, &log);
    assert!(attempt("typed", None, "").log.starts_with("error: there are no args: "));
}

fn any_error_that_can_be_shown_can_be_returned() {
    let cases = [
        ("standard_error", "invalid digit found in string"),
        ("text_error", "no luck"),
        ("alternate_error", "outer: inner"),
    ];
    for (job, message) in cases {
        fails(job, None, 75, &format!("error: {message}\nmidge: failed: {message}\n"));
    }
}

fn a_refusal_has_an_exit_code_of_its_own() {
    fails("refusal", None, 65, "error: bad photo\nmidge: failed: bad photo\n");
    fails("own_error", None, 65, "error: the photo is gone\nmidge: failed: the photo is gone\n");
}

fn a_failure_can_name_its_wait() {
    fails("later", None, 75, "error: busy\nmidge: failed: busy\nmidge: retry after 1500 ms\n");
}

fn a_snooze_is_no_error() {
    fails("snooze", None, 75, "snoozed for 60s\nmidge: snooze for 60000 ms\n");
}

fn a_panic_is_told_to_the_host() {
    let ended = attempt("panics", None, "");
    assert_ne!(ended.code, Some(0));
    assert_eq!(ended.result, "");
    assert!(ended.log.contains("midge: failed: panicked at "), "{}", ended.log);
    assert!(ended.log.ends_with(": the bottom gave out\n"), "{}", ended.log);
}

fn a_result_that_cannot_be_json_is_refused() {
    let ended = attempt("unwritable", None, "");
    assert_eq!((ended.code, ended.result.as_str()), (Some(65), ""));
    assert!(ended.log.contains("key must be a string"), "{}", ended.log);
}

fn progress_leaves_the_result_alone() {
    let ended = attempt("talks", None, "");
    assert_eq!((ended.code, ended.result.as_str()), (Some(0), "1"));
    assert_eq!(ended.log, "midge: progress 3 of 10: rows\n");
}

fn a_job_knows_its_attempt() {
    let env = [
        ("MIDGE_JOB_ID", "018f0000-0000-7000-8000-000000000000"),
        ("MIDGE_ATTEMPT", "7"),
        ("MIDGE_QUEUE", "photos"),
        ("MIDGE_DEADLINE_MS", "4102444800000"),
    ];
    let ended = attempt_with("knows", None, "", &env);
    assert_eq!(ended.result, r#"["018f0000-0000-7000-8000-000000000000",7,"photos",true]"#);
    gives("knows", None, "", r#"["",1,"default",false]"#);
}
