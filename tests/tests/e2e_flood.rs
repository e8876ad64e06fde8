//! A server with few descriptors under a flood of strangers: hosts and callers get through.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use midge_protocol::job::State;
use midge_tests::support::{
    DEADLINE, Files, Modules, Process, block_on, free_port, host_program, midge, request,
};
use serde_json::json;

/// What the shell lets the server open: less than there are strangers.
const OPEN_FILES: usize = 64;
const STRANGERS: usize = 400;

#[test]
fn with_few_descriptors_a_flood_of_strangers_keeps_neither_hosts_nor_callers_out() {
    let modules = Modules::examples();
    let files = Files::new();
    let listen = format!("127.0.0.1:{}", free_port());
    let serve = midge(&["serve", "--token", "s3cret", "--listen", &listen]);
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("ulimit -n {OPEN_FILES}; exec \"$@\"")).arg("sh");
    shell.arg(serve.get_program()).args(serve.get_args());
    shell.arg("--db").arg(files.path("midge.db")).arg("--modules").arg(modules.dir());
    shell.arg("--host-program").arg(host_program());
    let mut process = Process::start("midge serve", shell);
    let url = format!("http://{listen}");
    process.says("where it listens", |output| output.contains(&url).then_some(()));

    let mut strangers = Vec::new();
    for n in 0..STRANGERS {
        let mut stranger = TcpStream::connect(&listen).unwrap();
        let said = [
            "",
            "POST /v1/jobs HTTP/1.1\r\n",
            "POST /v1/machines/m/exchange HTTP/1.1\r\ncontent-length: 9\r\n\r\n",
        ];
        // One that had to give way already may hear it here.
        let _ = stranger.write_all(said[n % 3].as_bytes());
        strangers.push(stranger);
    }
    // A new connection, a job, its Machine, its host, its result.
    let token = midge_protocol::Secret::new("s3cret");
    let client = midge_client::Client::new(&url).unwrap().token(&token).unwrap().tries(1);
    let id = block_on(client.enqueue(&request("hello", json!({"name": "you"})))).unwrap().id;
    let job = block_on(client.wait(id, Some(DEADLINE))).unwrap();
    assert_eq!(job.state, State::Completed, "{job:?}");

    let open = std::fs::read_dir(format!("/proc/{}/fd", process.pid())).unwrap().count();
    assert!(open < OPEN_FILES, "{open} descriptors are open");
    // Of the strangers, most had to give way.
    let closed = strangers.iter().filter(|stranger| {
        let mut stranger: &TcpStream = stranger;
        stranger.set_nonblocking(true).unwrap();
        !matches!(stranger.read(&mut [0; 1024]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    });
    let closed = closed.count();
    assert!(closed > STRANGERS - OPEN_FILES, "{closed} were closed or answered");
    assert!(!process.output().contains("no further connection can be accepted"), "{}", process.output());
}
