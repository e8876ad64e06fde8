//! The host program: by hand, and turned away by its server.

use std::process::Command;

use midge_tests::support::{
    Files, Guest, Modules, Process, Ran, Server, StubServer, eventually, host_program, run,
};
use serde_json::json;

/// Runs a module by hand.
fn run_module(modules: &Modules, args: &[&str], stdin: &[u8]) -> Ran {
    let mut command = Command::new(host_program());
    command.arg("run").args(args).env("MIDGE_MODULES", modules.dir());
    run(command, stdin)
}

#[test]
fn run_takes_stdin_and_gives_stdout() {
    let modules = Modules::examples();
    let ran = run_module(&modules, &["wordcount"], b"one two\nthree\n").ok();
    assert_eq!(ran.text(), r#"{"lines":2,"words":3,"bytes":14}"#);
    assert_eq!(ran.stderr, "");
    let ran = run_module(&modules, &["hello", "--args", r#"{"name": "you"}"#], b"").ok();
    assert_eq!(ran.text(), r#"{"greeting":"Hello, you!"}"#);
}

#[test]
fn run_exits_as_its_guest_does() {
    let modules = Modules::examples();
    let flaky = ["flaky", "--args", r#"{"failures": 1}"#];
    run_module(&modules, &flaky, b"").fails(75, &["exit: attempt 1 fails, as 1 should"]);
    run_module(&modules, &["hello"], b"").fails(65, &["refused"]);
    run_module(&modules, &["spin", "--time-limit", "200ms"], b"").fails(1, &["over_time", "0.2 s"]);
    run_module(&modules, &["sleep", "--time-limit", "200ms"], b"").fails(1, &["over_time", "0.2 s"]);
    run_module(&modules, &["hog", "--memory-limit", "32MiB"], b"").fails(1, &["over_memory", "32 MiB"]);
    run_module(&modules, &["flood", "--args", "{}"], b"").fails(1, &["over_output"]);
}

#[test]
fn run_gives_the_guest_env_folders_and_arguments_of_its_own() {
    let guests = [
        Guest::environment("environment"),
        Guest::arguments("arguments"),
        Guest::read_file("read", "note.txt"),
    ];
    let modules = Modules::of_guests("", &guests);
    let ran = run_module(&modules, &["environment", "--env", "A=b=c", "--env", "D="], b"").ok();
    let seen: Vec<&str> = ran.text().split_terminator('\0').collect();
    assert!(seen.contains(&"A=b=c") && seen.contains(&"D="), "{seen:?}");
    assert!(!seen.iter().any(|variable| variable.starts_with("PATH=")), "{seen:?}");

    let ran = run_module(&modules, &["arguments", "--args", "[1]", "--", "--loud", "x y"], b"").ok();
    assert_eq!(ran.text(), "arguments\0[1]\0--loud\0x y\0");

    let folder = Files::new();
    folder.write("note.txt", "buy milk");
    let dir = format!("{}::/data", folder.dir().display());
    assert_eq!(run_module(&modules, &["read", "--dir", &dir], b"").ok().text(), "buy milk");
    run_module(&modules, &["read"], b"").fails(44, &[]);
}

#[test]
fn run_opens_no_pipe_and_waits_for_none() {
    let modules = Modules::of_guests("", &[Guest::read_file("read", "pipe")]);
    let folder = Files::new();
    let pipe = folder.dir().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let dir = format!("{}::/data", folder.dir().display());
    // Nobody ever writes to it.
    let ran = run_module(&modules, &["read", "--dir", &dir], b"");
    ran.fails(44, &[]);
}

#[test]
fn run_says_what_is_wrong_with_its_command_line() {
    let modules = Modules::examples();
    run_module(&modules, &[], b"").fails(2, &["which module"]);
    run_module(&modules, &["hello", "--loud"], b"").fails(2, &["--loud"]);
    run_module(&modules, &["hello", "--args", "{name}"], b"").fails(2, &["not JSON"]);
    run_module(&modules, &["hello", "--dir", "here"], b"").fails(2, &["HOST::GUEST"]);
    run_module(&modules, &["helo"], b"").fails(1, &["`helo`", "`hello`"]);
    run(Command::new(host_program()), b"").fails(2, &["work or run"]);
}

/// Starts a host that works for a server under a name and a secret.
fn work(server: &str, machine: &str, secret: &str) -> Process {
    let mut command = Command::new(host_program());
    command.arg("work").env_clear().envs([
        ("MIDGE_SERVER", server),
        ("MIDGE_MACHINE", machine),
        ("MIDGE_SECRET", secret),
        ("MIDGE_MODULES", "/"),
    ]);
    Process::start("midge-host work", command)
}

#[test]
fn a_host_without_the_right_secret_is_turned_away() {
    let server = Server::start(&Modules::examples());
    let mut unknown = work(&server.url(), "midge-unknown", "guess");
    assert_eq!(unknown.ended().code(), Some(3), "{}", unknown.output());
    assert!(unknown.output().contains("there is no Machine midge-unknown"), "{}", unknown.output());

    server.run("hello", json!({"name": "x"}));
    let machine = server.machines().remove(0).name;
    let mut wrong = work(&server.url(), machine.as_str(), "guess");
    assert_eq!(wrong.ended().code(), Some(3), "{}", wrong.output());
    assert!(wrong.output().contains("the secret is not that of Machine"), "{}", wrong.output());
}

#[test]
fn a_host_whose_machine_has_left_has_no_right_any_more() {
    let server = Server::start(&Modules::examples());
    server.run("hello", json!({"name": "x"}));
    let machine = server.machines().remove(0).name;
    eventually("the Machine goes", || server.live_machines().is_empty().then_some(()));
    let mut late = work(&server.url(), machine.as_str(), "whatever it was");
    assert_eq!(late.ended().code(), Some(3), "{}", late.output());
}

#[test]
fn a_host_says_which_protocol_the_server_speaks_and_leaves() {
    let newer = StubServer::answering(426, "this server speaks exchange protocol 7");
    let mut host = work(&newer.url, "midge-1", "x");
    assert_eq!(host.ended().code(), Some(4), "{}", host.output());
    assert!(host.output().contains("exchange protocol 7"), "{}", host.output());
}
