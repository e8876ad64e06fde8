//! Requests that are answered: what a server sees of them, and a guest of its answers.

use midge_protocol::line::Why;

use crate::support::{Given, Server, get, is_failed, ok, post, with_headers};

#[test]
fn a_request_is_seen_by_its_server_as_it_was_asked_for_and_answered() {
    let server = Server::answering(crate::support::Seen::echo);
    let net = server.net();
    let request = with_headers(
        get(&server.url("/a/b%20c?d=e#part")),
        &[("X-One", "1"), ("x-two", "caf\u{e9}"), ("x-one", "2")],
    );
    let answer = net.line().ask(&request, b"").unwrap();
    assert_eq!(answer.head.status, 200);
    assert_eq!(answer.head.url, server.url("/a/b%20c?d=e"), "without the part of a page");
    assert_eq!(
        answer.text(),
        format!(
            "GET /a/b%20c?d=e HTTP/1.1\nx-one: 1\nx-one: 2\nx-two: caf\u{e9}\nuser-agent: midge\nhost: api.test:{}\n\n",
            server.port
        )
    );
    let own = with_headers(get(&server.url("/")), &[("user-agent", "me")]);
    assert!(net.line().ask(&own, b"").unwrap().text().contains("user-agent: me\n"));
}

#[test]
fn a_body_is_sent_with_its_length_where_that_is_known_and_in_chunks_else() {
    let server = Server::answering(crate::support::Seen::echo);
    let net = server.net();
    let mut line = net.line();
    let answer = line.ask(&post(&server.url("/"), Some(3)), b"abc").unwrap();
    assert!(
        answer.text().contains("\ncontent-length: 3\n") && answer.text().ends_with("\n\nabc"),
        "{answer:?}"
    );
    let answer = line.ask(&post(&server.url("/"), None), b"abc").unwrap();
    assert!(answer.text().contains("\ntransfer-encoding: chunked\n"), "{answer:?}");
    assert!(answer.text().ends_with("\n\n3\r\nabc\r\n0\r\n\r\n"), "{answer:?}");
    let answer = line.ask(&post(&server.url("/"), Some(0)), b"").unwrap();
    assert!(answer.text().contains("\ncontent-length: 0\n"), "{answer:?}");
    let declared = with_headers(post(&server.url("/"), None), &[("content-length", "3")]);
    let answer = line.ask(&declared, b"abc").unwrap();
    assert!(
        answer.text().contains("\ncontent-length: 3\n") && answer.text().ends_with("\n\nabc"),
        "{answer:?}"
    );
    let large = "x".repeat(300_000);
    let answer = line.ask(&post(&server.url("/"), Some(300_000)), large.as_bytes()).unwrap();
    assert!(answer.text().ends_with(&large));
    assert_eq!(server.connections(), 1, "one connection has them all");
}

#[test]
fn a_body_of_another_length_than_it_says_is_no_request() {
    let server = Server::answering(|_| ok("never"));
    let net = server.net();
    for (length, body) in [(3, "ab"), (3, "abcd"), (0, "a"), (100_000, "ab")] {
        let failed = net.line().ask(&post(&server.url("/"), Some(length)), body.as_bytes()).unwrap_err();
        is_failed(&failed, Why::Invalid, "bytes than its `content-length` says");
    }
    for value in ["4", "x", "-3", "+3", ""] {
        let request = with_headers(post(&server.url("/"), Some(3)), &[("content-length", value)]);
        is_failed(&net.line().ask(&request, b"abc").unwrap_err(), Why::Invalid, "`content-length` is `");
    }
}

#[test]
fn an_answer_is_given_as_it_came() {
    let server = Server::answering(|seen| match seen.path() {
        "/headers" => b"HTTP/1.1 418 \xff\r\nx-odd: \xff\xfe\r\nSet-Cookie: a=b\r\nset-cookie: c=d\r\n\
            content-length: 0\r\n\r\n"
            .to_vec(),
        "/chunked" => {
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n".to_vec()
        }
        "/none" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/early" => {
            b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
                .to_vec()
        }
        // Nobody asked for it, and nobody takes it apart.
        "/gzip" => {
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\n\x1f\x8b\x08".to_vec()
        }
        _ => ok("x"),
    });
    let net = server.net();
    let odd = net.get(&server.url("/headers")).unwrap();
    assert_eq!(odd.head.status, 418);
    assert_eq!(odd.header("x-odd"), Some(&b"\xff\xfe"[..]));
    let cookies: Vec<_> = odd.head.headers.iter().filter(|(name, _)| name == "set-cookie").collect();
    assert_eq!(cookies.len(), 2);
    assert_eq!(net.get(&server.url("/chunked")).unwrap().text(), "abcde");
    assert_eq!(net.get(&server.url("/none")).unwrap().head.status, 204);
    assert_eq!(net.get(&server.url("/early")).unwrap().text(), "ok");
    assert_eq!(net.get(&server.url("/gzip")).unwrap().body, b"\x1f\x8b\x08");
    let head = net
        .line()
        .ask(&midge_protocol::line::Request { method: "HEAD".into(), ..get(&server.url("/")) }, b"");
    let head = head.unwrap();
    assert_eq!((head.header("content-length"), head.text()), (Some(&b"1"[..]), ""));
}

#[test]
fn no_cookie_and_nothing_of_one_module_goes_with_another_request() {
    let server = Server::answering(|seen| match seen.path() {
        "/set" => b"HTTP/1.1 200 OK\r\nset-cookie: a=b\r\ncontent-length: 0\r\n\r\n".to_vec(),
        _ => seen.echo(),
    });
    let net = server.net();
    net.get(&server.url("/set")).unwrap();
    let answer = net.get(&server.url("/")).unwrap();
    assert!(!answer.text().contains("cookie") && !answer.text().contains("accept"), "{answer:?}");
    assert_eq!(server.connections(), 1);
    let mut of_other = get(&server.url("/"));
    of_other.module = "other".parse().unwrap();
    net.line().ask(&of_other, b"").unwrap();
    assert_eq!(server.connections(), 2, "a module has connections of its own");
}

#[test]
fn ipv6_is_reached_by_its_address() {
    // A machine without IPv6 says so when this is bound.
    let Ok(probe) = std::net::TcpListener::bind("[::1]:0") else { return };
    drop(probe);
    let server = Server::at("[::1]:0", |connection| {
        crate::support::serve_each(connection, crate::support::Seen::echo);
    });
    let url = format!("http://[::1]:{}", server.port);
    let net = Given::http(&[&url]).start();
    let answer = net.get(&url).unwrap();
    assert!(answer.text().contains(&format!("host: [::1]:{}\n", server.port)), "{answer:?}");
}
