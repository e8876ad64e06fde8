//! Lines: used again, given up, and none waits for another.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;

use midge_protocol::line::{Kind, Why};

use crate::support::{PATIENCE, Seen, Server, get, is_failed, ok, post, read_head, wait_until};

/// A server that answers nobody, and knows when its connections end.
fn silent() -> Server {
    Server::each(|mut connection| {
        let _ = connection.read_to_end(&mut Vec::new());
    })
}

#[test]
fn requests_of_a_line_use_its_connection_again() {
    let server = Server::answering(Seen::echo);
    let net = server.net();
    let mut line = net.line();
    for _ in 0..20 {
        assert_eq!(line.ask(&get(&server.url("/")), b"").unwrap().head.status, 200);
    }
    assert_eq!(net.get(&server.url("/")).unwrap().head.status, 200, "another line does as well");
    assert_eq!(server.connections(), 1);
    assert_eq!(net.lookups().len(), 1);
}

#[test]
fn a_connection_that_its_server_has_ended_is_no_failure_of_the_next_request() {
    let server = Server::sending(ok("once"));
    let net = server.net();
    let mut line = net.line();
    for length in 1..=10 {
        let method = if length % 2 == 0 { get(&server.url("/")) } else { post(&server.url("/"), Some(0)) };
        assert_eq!(line.ask(&method, b"").unwrap().text(), "once");
        wait_until("the server has ended it", || server.ended() == length);
    }
}

#[test]
fn only_what_may_be_repeated_is_repeated() {
    // The second request of each connection is read, and the connection ended.
    let server = Server::each(|mut connection| {
        if Seen::read(&mut connection).is_some() && connection.write_all(&ok("once")).is_ok() {
            Seen::read(&mut connection);
        }
    });
    let net = server.net();
    let mut line = net.line();
    let url = server.url("/");
    assert_eq!(line.ask(&get(&url), b"").unwrap().text(), "once");
    assert_eq!(line.ask(&get(&url), b"").unwrap().text(), "once", "a GET is made again");
    let keyed = crate::support::with_headers(post(&url, Some(1)), &[("idempotency-key", "1")]);
    assert_eq!(line.ask(&keyed, b"x").unwrap().text(), "once", "and what has a key");
    is_failed(&line.ask(&post(&url, Some(1)), b"x").unwrap_err(), Why::Reset, "ended the connection");
}

#[test]
fn a_line_that_is_closed_ends_its_request_at_once() {
    let server = silent();
    let net = server.net();
    // While it waits for the answer.
    let mut line = net.line();
    line.begin(&get(&server.url("/")));
    line.send(Kind::End, b"");
    wait_until("it is there", || server.connections() == 1);
    drop(line);
    wait_until("it has ended", || server.ended() == 1);
    // While the body is written, and the server reads it.
    let mut line = net.line();
    line.begin(&post(&server.url("/"), None));
    line.send(Kind::Body, b"a piece");
    wait_until("it is there", || server.connections() == 2);
    drop(line);
    wait_until("it has ended", || server.ended() == 2);
}

#[test]
fn a_line_that_is_closed_ends_its_request_while_its_body_stands_still() {
    let (tell, told) = mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let server = Server::each(move |mut connection| {
        read_head(&mut connection);
        tell.lock().unwrap().send(connection).unwrap();
    });
    let net = server.net();
    let mut line = net.line();
    line.begin(&post(&server.url("/"), None));
    let mut connection = told.recv_timeout(PATIENCE).unwrap();
    // Nobody reads: it is written until everything in between is full.
    line.stream.set_nonblocking(true).unwrap();
    let mut frame = Kind::Body.prefix(60_000).to_vec();
    frame.resize(60_005, b'x');
    let mut at = 0;
    let mut since = std::time::Instant::now();
    while since.elapsed() < std::time::Duration::from_millis(200) {
        if let Ok(written) = line.stream.write(&frame[at..]) {
            at = (at + written) % frame.len();
            since = std::time::Instant::now();
        }
    }
    drop(line);
    let mut read = Vec::new();
    // Its end comes behind what had been sent. It is no end of a body.
    let ended = connection.read_to_end(&mut read);
    assert!(!read.ends_with(b"0\r\n\r\n"), "{ended:?}");
}

#[test]
fn a_line_that_is_closed_while_its_answer_is_read_ends_its_request() {
    let server = Server::each(|mut connection| {
        if Seen::read(&mut connection).is_some() && connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n").is_ok() {
            while connection.write_all(&[0; 1024]).is_ok() {}
        }
    });
    let net = server.net();
    let mut line = net.line();
    line.begin(&get(&server.url("/")));
    line.send(Kind::End, b"");
    line.head().unwrap();
    drop(line);
    wait_until("it has ended", || server.ended() == 1);
}

#[test]
fn no_line_waits_for_another() {
    let silent = silent();
    let server = Server::answering(|_| ok("here"));
    let net = crate::support::Given::http(&[&silent.origin(), &server.origin()]).start();
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let mut line = net.line();
            line.begin(&get(&silent.url("/")));
            line.send(Kind::End, b"");
            line
        })
        .collect();
    wait_until("all are there", || silent.connections() == 100);
    assert_eq!(net.get(&server.url("/")).unwrap().text(), "here");
    drop(waiting);
    wait_until("all have ended", || silent.ended() == 100);
}

#[test]
fn a_body_that_is_asked_for_piece_by_piece_goes_both_ways_at_once() {
    // Gives each chunk back as it comes.
    let server = Server::each(|mut connection| {
        let Some((_, mut rest)) = read_head(&mut connection) else { return };
        connection.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
        let mut bytes = [0; 1024];
        loop {
            if connection.write_all(&std::mem::take(&mut rest)).is_err() {
                return;
            }
            match connection.read(&mut bytes) {
                Ok(0) | Err(_) => return,
                Ok(length) => rest.extend_from_slice(&bytes[..length]),
            }
        }
    });
    let net = server.net();
    let mut line = net.line();
    line.begin(&post(&server.url("/"), None));
    line.head().unwrap();
    for piece in ["one", "two", "three"] {
        line.send(Kind::Body, piece.as_bytes());
        assert_eq!(line.piece().unwrap().unwrap(), piece.as_bytes());
    }
    line.send(Kind::End, b"");
    assert_eq!(line.piece().unwrap(), None);
}

#[test]
fn a_line_on_which_something_else_comes_is_given_up() {
    let server = Server::answering(|_| ok("here"));
    let net = server.net();
    for bytes in [
        &b"\x02\x03\0\0\0abc"[..],
        b"\xff\0\0\0\0",
        b"\x02\xff\xff\xff\xff",
        b"\x04\0\0\0\0",
        b"\x01\0\0\0\0",
    ] {
        let mut line = net.line();
        line.stream.write_all(bytes).unwrap();
        assert_eq!(line.stream.read(&mut [0; 1]).unwrap(), 0, "{bytes:?}");
    }
    // What belongs to no request, while one is made.
    let mut line = net.line();
    line.begin(&post(&server.url("/"), None));
    line.send(Kind::Head, b"x");
    assert_eq!(line.stream.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(net.get(&server.url("/")).unwrap().text(), "here", "others go on");
}

#[test]
fn a_byte_without_a_line_is_nothing_and_the_end_of_the_control_socket_the_end_of_all() {
    let server = silent();
    let net = server.net();
    let mut line = net.line();
    line.begin(&get(&server.url("/")));
    line.send(Kind::End, b"");
    wait_until("it is there", || server.connections() == 1);
    drop(net);
    wait_until("it has ended", || server.ended() == 1);
    assert_eq!(line.stream.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn what_is_no_setup_is_an_error_of_the_host() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let serve = |bytes: &[u8]| {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        ours.write_all(bytes).unwrap();
        drop(ours);
        runtime.block_on(async {
            let control = tokio::net::UnixStream::from_std(theirs).unwrap();
            midge_net::serve(control, midge_net::World::of_the_system(None)).await
        })
    };
    assert!(serve(b"").is_ok(), "a host that ends before it says anything");
    for bytes in [&b"\xff\0\0\0\0"[..], b"\x02\0\0\0\0", b"\x01\x03\0\0\0abc", b"\x01\x03\0\0\0a"] {
        assert!(serve(bytes).is_err(), "{bytes:?}");
    }
    let setup = midge_protocol::line::Setup { modules: "/nowhere".to_owned(), secrets: Default::default() };
    let setup = midge_protocol::exchange::encode(&setup);
    let error = serve(&[&Kind::Setup.prefix(setup.len())[..], &setup].concat()).unwrap_err();
    assert_eq!(error.to_string(), "cannot read /nowhere/manifest.json");
}
