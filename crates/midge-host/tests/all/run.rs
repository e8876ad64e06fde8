//! `midge-host run`.

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn run(args: &[&str], stdin: &[u8]) -> Output {
    let folder = crate::guests::folder();
    let mut child = Command::new(env!("CARGO_BIN_EXE_midge-host"))
        .arg("run")
        .args(args)
        .env("MIDGE_MODULES", folder.path())
        .env("COLOUR", "red")
        .env("MIDGE_SECRET", "hunter2")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    child.wait_with_output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn stdin_is_the_input_and_stdout_the_result() {
    let output = run(&["cat"], b"hello");
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"hello"[..]));
    assert_eq!(stderr(&output), "");
    let output = run(&["cat", "--args", "[1]"], b"");
    assert_eq!(&output.stdout[..], b"[1]", "without an input stdin is the args");
}

#[test]
fn what_a_guest_enqueues_is_only_said() {
    let output = run(&["fan"], b"");
    let said = stderr(&output);
    let line = "midge-host: a server would enqueue with an input of 2 bytes: {\"module\":\"hello\"}";
    assert_eq!(
        (said.matches(line).count(), said.lines().last()),
        (20, Some("midge-host: and 5 more")),
        "{said}"
    );
    assert_eq!(output.stdout.len(), 36);
}

#[test]
fn a_guests_exit_code_is_the_hosts_and_its_log_is_on_stderr() {
    let output = run(&["fail"], b"");
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(stderr(&output), "width\nmidge-host: exit: width\n");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_limit_is_kept_and_its_cause_named() {
    let output = run(&["spin", "--time-limit", "50ms"], b"");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output), "midge-host: over_time: ran past its time limit of 0.05 s\n");
    let output = run(&["cat", "--memory-limit", "1KiB"], b"");
    assert!(stderr(&output).contains("over_memory"), "{}", stderr(&output));
}

#[test]
fn env_is_what_was_given_and_declared() {
    let output = run(&["env", "--env", "SIZE=large"], b"");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let has = |var: &str| text.split('\0').any(|v| v == var);
    assert!(has("SIZE=large") && has("COLOUR=red") && has("MIDGE_ATTEMPT=1"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn an_unknown_module_is_named_with_the_nearest() {
    let output = run(&["cta"], b"");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output), "midge-host: there is no module `cta`: did you mean `cat`?\n");
}
