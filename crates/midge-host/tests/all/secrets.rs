//! What becomes of the secrets of a Machine: they leave its environment, and a job whose secret is missing is given back.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use midge_protocol::exchange::Outcome;

use crate::guests;
use crate::server::{SPEND_KEY, Server};

/// Returns the environment of a process as its system shows it.
fn environment(pid: u32) -> String {
    String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/environ")).unwrap()).into_owned()
}

#[test]
fn a_secret_is_in_no_environment_once_the_host_has_begun() {
    let server = Server::start();
    let host = server.host(&["--wait", "forever"]);
    let job = server.enqueue("spend", "null");
    let result = server.until("it ends", |seen| seen.end(job));
    match result {
        Outcome::Completed { result } => {
            let text = String::from_utf8_lossy(&result).into_owned();
            assert!(
                text.contains("COLOUR=red") && !text.contains(SPEND_KEY) && !text.contains("SPEND_KEY"),
                "{text}"
            );
        }
        other => panic!("{other:?}"),
    }
    let environment = environment(host.pid().as_raw_nonzero().get() as u32);
    assert!(environment.contains("COLOUR=red") && environment.contains("SPEND_KEY="), "{environment:?}");
    assert!(!environment.contains(SPEND_KEY), "{environment:?}");
    assert!(environment.contains("MIDGE_SECRET=\0"), "the Machine's own too: {environment:?}");
}

#[test]
fn a_module_that_is_run_by_hand_leaves_no_secret_in_the_environment_either() {
    let folder = guests::folder();
    let mut child = Command::new(env!("CARGO_BIN_EXE_midge-host"))
        .args(["run", "hold"])
        .arg("--modules")
        .arg(folder.path())
        .env("SPEND_KEY", SPEND_KEY)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "here\n");
    let environment = environment(child.id());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(environment.contains("SPEND_KEY=") && !environment.contains(SPEND_KEY), "{environment:?}");
}

#[test]
fn a_missing_secret_is_told_at_the_start_and_costs_no_attempt() {
    let server = Server::start();
    let mut host = server.host_after("unset SPEND_KEY", &["--wait", "forever"]);
    server.until("it waits", |seen| seen.requests.last().map(drop));
    let other = server.enqueue("env", "null");
    server.until("another module's job runs", |seen| seen.end(other));
    let job = server.enqueue("spend", "null");
    let lacks = server.until("it is given back", |seen| seen.lacks.first().cloned());
    assert!(lacks.starts_with("the secret `KEY`: its variable `SPEND_KEY` is not set"), "{lacks}");
    // Nothing is wrong with the Machine: it goes on with others.
    let other = server.enqueue("env", "null");
    server.until("another module's job runs after it", |seen| seen.end(other));
    server.set(|seen| assert_eq!(seen.handed_back, [job]));
    server.set(|seen| seen.drains = true);
    let (code, log) = server.until_exit(&mut host);
    assert_eq!(code, Some(0), "{log}");
    let first = log.lines().next().unwrap_or_default();
    assert!(first.starts_with("midge-host: this Machine lacks the secret `KEY`"), "{log}");
}

#[test]
fn by_hand_a_secret_that_is_missing_or_can_be_none_is_an_error_that_says_what_to_set() {
    let folder = guests::folder();
    for (value, is) in [
        (None, "is not set"),
        (Some(String::new()), "is empty"),
        (Some("abc".to_owned()), "holds 3 bytes, and a secret has 4 to 8192"),
        (Some("    ".to_owned()), "holds 0 bytes beside 4 of white space at its ends, and a secret has"),
        (Some("abc\ndef".to_owned()), "has a line's end or another control character"),
        (Some("x".repeat(8193)), "holds 8193 bytes, and a secret has 4 to 8192"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_midge-host"));
        command.args(["run", "spend", "--modules"]).arg(folder.path()).stdin(Stdio::null());
        command.env_remove("SPEND_KEY").envs(value.map(|value| ("SPEND_KEY", value)));
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains(&format!("midge-host: the secret `KEY`: its variable `SPEND_KEY` {is}"))
                && said.contains("; set it where this is started"),
            "{said}"
        );
    }
}
