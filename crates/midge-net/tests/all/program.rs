//! The program itself, as a host starts it: its stdin is the control socket.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use midge_protocol::line::Why;

use crate::support::{Given, Server, get, is_failed, ok, wait_until};

/// Starts the program with a socket for its stdin, and returns the other end. `limit` is how many descriptors it may have.
fn start(limit: u32) -> (Child, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    // A shell sets the limit, which a program started from here has no other way to be given.
    let child = Command::new("sh")
        .args(["-c", &format!("ulimit -n {limit} && exec \"$0\""), env!("CARGO_BIN_EXE_midge-net")])
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    (child, ours)
}

#[test]
fn the_program_serves_its_stdin_and_ends_with_it() {
    let server = Server::answering(|_| ok("here"));
    let origin = format!("http://127.0.0.1:{}", server.port);
    let (child, control) = start(256);
    let net = Given::http(&[&origin]).over(control);
    assert_eq!(net.get(&origin).unwrap().text(), "here");
    // What is under way does not keep it, a name that is looked up included.
    let mut line = net.line();
    line.begin(&get(&origin));
    drop(net);
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
}

#[test]
fn what_the_machine_lacks_is_told_as_such() {
    // A request that waits has a line and a connection: of two numbers of descriptors that follow each other, one ends with
    // a connection that is not made, the other with a line that is not taken.
    let mut ends = [16, 17].map(|limit| {
        let silent = Server::each(|mut connection| {
            let _ = connection.read_to_end(&mut Vec::new());
        });
        let origin = format!("http://127.0.0.1:{}", silent.port);
        let (child, control) = start(limit);
        let net = Given::http(&[&origin]).over(control);
        let mut lines = Vec::new();
        let end = loop {
            let mut line = net.line();
            // It may be closed already.
            line.try_begin(&get(&origin));
            let count = lines.len() + 1;
            wait_until("it is there, or not", || silent.connections() == count || line.has_news());
            if silent.connections() < count {
                break line.failed_if_told();
            }
            lines.push(line);
            assert!(lines.len() < 16, "descriptors come to an end");
        };
        // What is given back is used.
        lines.clear();
        wait_until("all have ended", || silent.ended() == silent.connections());
        let server = Server::answering(|_| ok("here"));
        let failed = net.get(&format!("http://127.0.0.1:{}", server.port)).unwrap_err();
        is_failed(&failed, Why::NotAllowed, "");
        drop(net);
        assert!(child.wait_with_output().unwrap().status.success());
        end.map(|failed| {
            is_failed(&failed, Why::Lacks, "the Machine lacks what it takes: Too many open files");
        })
    });
    ends.sort_unstable();
    assert_eq!(ends, [None, Some(())]);
}

#[test]
fn without_a_socket_the_program_says_who_starts_it() {
    let output = Command::new(env!("CARGO_BIN_EXE_midge-net")).stdin(Stdio::null()).output().unwrap();
    let says = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && says.contains("is started by midge-host"), "{output:?}");
}
