//! Servers that mean harm: each ends in a failure within a bound, and the next request is answered.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use midge_protocol::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX};
use midge_protocol::line::{Failed, Kind, Request, Why};

use crate::support::{PATIENCE, Seen, Server, get, is_failed, ok, post, read_head, wait_until};

/// How long a request may take in tests of what never ends.
const SOON: Duration = Duration::from_millis(300);

fn soon(url: &str) -> Request {
    Request { timeout_ms: 300, ..get(url) }
}

/// Returns why there is no answer, or not all of it, from a server that sends such bytes and ends the connection.
fn sending(bytes: &[u8]) -> Failed {
    let server = Server::sending(bytes);
    server.net().get(&server.url("/")).expect_err(&String::from_utf8_lossy(bytes))
}

#[test]
fn what_is_no_http_is_told_as_such() {
    for bytes in [
        &b"garbage"[..],
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 99999 X\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx\xff: y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffffff\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabXX",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n",
    ] {
        is_failed(&sending(bytes), Why::NotHttp, "");
    }
}

#[test]
fn an_answer_that_ends_too_early_is_told_as_such() {
    for bytes in [
        &b""[..],
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nx: y\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9223372036854775807\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        is_failed(&sending(bytes), Why::Reset, "ended the connection before its answer had ended");
    }
}

#[test]
fn an_answer_that_goes_on_behind_its_length_is_no_other_request_s() {
    let server = Server::each(|mut connection| {
        let mut first = true;
        while Seen::read(&mut connection).is_some() {
            let answer = if first { [ok("first"), ok("smuggled")].concat() } else { ok("second") };
            first = false;
            if connection.write_all(&answer).is_err() {
                return;
            }
        }
    });
    let net = server.net();
    let mut line = net.line();
    for _ in 0..10 {
        let text = line.ask(&get(&server.url("/")), b"").unwrap().text().to_owned();
        assert_eq!(text, "first", "each is on a new connection");
    }
}

#[test]
fn a_head_without_an_end_has_its_bound() {
    let endless = |piece: &'static [u8]| {
        Server::each(move |mut connection| {
            if Seen::read(&mut connection).is_some() && connection.write_all(b"HTTP/1.1 200 OK\r\n").is_ok() {
                while connection.write_all(piece).is_ok() {}
            }
        })
    };
    for piece in [
        &b"x: y\r\n"[..],
        b"x",
        b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n",
    ] {
        let server = endless(piece);
        is_failed(
            &server.net().refuses(&get(&server.url("/"))),
            Why::TooLarge,
            "is larger than 64 KiB, has more than 100 headers",
        );
    }
    // Heads before the head: others of this thread wait no longer for them than for what is read at once.
    let server = Server::each(|mut connection| {
        if Seen::read(&mut connection).is_some() {
            while connection.write_all(b"HTTP/1.1 100 Continue\r\nx: y\r\n\r\n").is_ok() {}
        }
    });
    let says = "more came before the head of an answer than may";
    is_failed(&server.net().refuses(&get(&server.url("/"))), Why::Reset, says);
}

#[test]
fn a_head_may_be_as_large_as_its_bound_and_no_larger() {
    let head = |headers: usize, bytes: usize| {
        let mut head = "HTTP/1.1 200 OK\r\n".to_owned();
        (1..headers).for_each(|_| head += "x: y\r\n");
        let rest = bytes - head.len() - "x: \r\n\r\n".len();
        format!("{head}x: {}\r\n\r\n", "y".repeat(rest)).into_bytes()
    };
    let asked = |bytes: Vec<u8>| {
        let server = Server::sending(bytes);
        server.net().get(&server.url("/"))
    };
    assert_eq!(asked(head(HTTP_HEADERS_MAX, 2_000)).unwrap().head.headers.len(), HTTP_HEADERS_MAX);
    is_failed(&asked(head(HTTP_HEADERS_MAX + 1, 2_000)).unwrap_err(), Why::TooLarge, "");
    assert_eq!(asked(head(3, HTTP_HEAD_BYTES_MAX)).unwrap().head.headers.len(), 3);
    is_failed(&asked(head(3, HTTP_HEAD_BYTES_MAX + 1)).unwrap_err(), Why::TooLarge, "");
}

#[test]
fn a_body_longer_than_any_is_told_as_such() {
    for length in [u64::MAX - 1, u64::MAX] {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        let server = Server::sending(head.into_bytes());
        let failed = server.net().refuses(&get(&server.url("/")));
        is_failed(
            &failed,
            Why::TooLarge,
            "or says that a body of more than 18446744073709551613 bytes follows",
        );
    }
    // The longest that there may be is not refused for what its head says.
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", u64::MAX - 2);
    let server = Server::sending(head.into_bytes());
    let failed = server.net().get(&server.url("/")).unwrap_err();
    assert_ne!(failed.why, Why::TooLarge, "{failed:?}");
}

#[test]
fn slow_bytes_end_with_the_time_of_the_request() {
    let slow = |before: &'static [u8], piece: &'static [u8]| {
        Server::each(move |mut connection| {
            // Looked at often enough that there is always a next byte.
            connection.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
            let mut all = before.to_vec();
            let mut bytes = [0; 1024];
            while !matches!(connection.read(&mut bytes), Ok(0)) {
                all.extend_from_slice(piece);
                if connection.write_all(&std::mem::take(&mut all)).is_err() {
                    return;
                }
            }
        })
    };
    let (head, rest) = (" to take it and answer", "it waited for the rest of what api.test:");
    for (server, waited) in [
        (slow(b"", b""), head),
        (slow(b"HTTP/1.1 200 OK\r\nx: ", b"y"), head),
        (slow(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n", b"y"), rest),
        (slow(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\ny\r\n"), rest),
    ] {
        let began = Instant::now();
        let net = server.net();
        let failed = net.refuses(&soon(&server.url("/")));
        is_failed(&failed, Why::TimedOut, "took longer than it may, 300 ms");
        assert!(failed.message.contains(waited), "{failed:?}");
        assert!(began.elapsed() < PATIENCE);
    }
}

#[test]
fn a_connection_that_nobody_takes_ends_with_the_time_of_the_request() {
    // It is full once these have come, and takes no more.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = listener.local_addr().unwrap();
    let _fill: Vec<TcpStream> =
        (0..4).map_while(|_| TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok()).collect();
    let origin = format!("http://api.test:{}", address.port());
    let net = crate::support::Given::http(&[&origin]).start();
    let began = Instant::now();
    let failed = net.refuses(&soon(&origin));
    is_failed(&failed, Why::TimedOut, "took longer than it may, 300 ms");
    assert!(failed.message.contains("it waited for a connection to api.test:"), "{failed:?}");
    assert!(began.elapsed() >= SOON && began.elapsed() < PATIENCE);
}

#[test]
fn ten_gigabytes_of_zeros_stay_as_small_as_they_came() {
    // What it is does not matter: nobody takes it apart.
    let bomb = vec![0x1f; 10_000];
    let head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 10000\r\n\r\n".to_vec();
    let server = Server::sending([head, bomb.clone()].concat());
    let answer = server.net().get(&server.url("/")).unwrap();
    assert_eq!(answer.body, bomb);
    assert_eq!(answer.header("content-encoding"), Some(&b"gzip"[..]));
}

#[test]
fn an_endless_body_comes_no_faster_than_it_is_read() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let server = Server::each(move |mut connection| {
        if Seen::read(&mut connection).is_none() {
            return;
        }
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while let Ok(written) = connection.write(&[b'x'; 64 * 1024]) {
            counted.fetch_add(written, Ordering::SeqCst);
        }
    });
    let net = server.net();
    let mut line = net.line();
    line.begin(&get(&server.url("/")));
    line.send(Kind::End, b"");
    line.head().unwrap();
    // It stands still once all that is between them is full: the same number twice, a while apart.
    let stands = || {
        let before = sent.load(Ordering::SeqCst);
        let until = Instant::now() + Duration::from_millis(200);
        while Instant::now() < until {
            std::thread::yield_now();
        }
        before > 0 && sent.load(Ordering::SeqCst) == before
    };
    wait_until("the server stands still", stands);
    // The system's own room for both sockets is the most of it.
    assert!(sent.load(Ordering::SeqCst) < 16 << 20, "{sent:?}");
    let other = Server::answering(|_| ok("here"));
    assert_eq!(other.net().get(&other.url("/")).unwrap().text(), "here");
    let mut read = 0;
    while read < 32 << 20 {
        read += line.piece().unwrap().unwrap().len();
    }
    drop(line);
    wait_until("the server's connection has ended", || server.ended() == 1);
}

#[test]
fn a_server_that_answers_without_reading_is_no_end_of_a_line() {
    let server = Server::each(|mut connection| {
        read_head(&mut connection);
        let _ = connection.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig");
        // Held open, and never read again.
        let _ = connection.set_read_timeout(Some(SOON));
        let _ = connection.peek(&mut [0; 1]);
        wait_until("the client ends it", || (&connection).write(b"x").is_err());
    });
    let net = server.net();
    let mut line = net.line();
    line.begin(&post(&server.url("/"), Some(100 << 20)));
    for _ in 0..1_600 {
        line.send(Kind::Body, &[0; 64 * 1024]);
    }
    line.send(Kind::End, b"");
    let answer = line.answer().unwrap();
    assert_eq!((answer.head.status, answer.text()), (413, "big"));
    assert_eq!(line.ask(&get(&server.url("/")), b"").unwrap().head.status, 413, "on another connection");
    assert_eq!(server.connections(), 2);
}
