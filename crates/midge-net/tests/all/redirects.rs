//! Redirects: followed as often as asked for, each judged anew.

use std::io::Write;

use midge_protocol::line::{Kind, Request, Why};

use crate::support::{
    Given, Seen, Server, get, is_failed, ok, post, read_head, redirect, wait_until, with_headers,
};

fn following(request: Request, redirects: u32) -> Request {
    Request { redirects, ..request }
}

#[test]
fn as_many_redirects_are_followed_as_are_asked_for() {
    let server = Server::answering(|seen| match seen.path() {
        "/end" => ok("end"),
        "/1" => redirect(302, "/end"),
        "/2" => redirect(301, "/1"),
        _ => redirect(307, "/loop"),
    });
    let net = server.net();
    let mut line = net.line();
    let answer = line.ask(&get(&server.url("/1")), b"").unwrap();
    assert_eq!(
        (answer.head.status, answer.header("location"), answer.text()),
        (302, Some(&b"/end"[..]), "gone")
    );
    let answer = line.ask(&following(get(&server.url("/2")), 2), b"").unwrap();
    assert_eq!((answer.head.url, answer.head.status), (server.url("/end"), 200));
    assert_eq!(server.connections(), 1, "the connection of a redirect is used again");
    is_failed(
        &net.refuses(&following(get(&server.url("/2")), 1)),
        Why::TooManyRedirects,
        "1 redirects, and api.test",
    );
    is_failed(
        &net.refuses(&following(get(&server.url("/loop")), u32::MAX)),
        Why::TooManyRedirects,
        "20 redirects",
    );
}

#[test]
fn each_redirect_is_judged_as_a_request_is() {
    let other = Server::answering(|_| ok("never"));
    let port = other.port;
    let server = Server::answering(move |seen| {
        let location = seen.path()[1..].replace("PORT", &port.to_string());
        redirect(302, &location.replace('~', "/"))
    });
    let net = Given::http(&[&server.origin(), "https://*.b.test"]).start();
    for (location, why, says) in [
        ("http:~~127.0.0.1:PORT~", Why::NotAllowed, "http://127.0.0.1:PORT"),
        ("http:~~[::ffff:127.0.0.1]:PORT~", Why::NotAllowed, "http://127.0.0.1:PORT"),
        ("http:~~2130706433:PORT~", Why::NotAllowed, "http://127.0.0.1:PORT"),
        ("~~169.254.169.254~latest", Why::NotAllowed, "http://169.254.169.254"),
        ("http:~~other.test:PORT~", Why::NotAllowed, "http://other.test:PORT"),
        ("http:~~api.test:PORT~", Why::NotAllowed, "http://api.test:PORT"),
        ("https:~~a.b.test~", Why::NotAllowed, "which is no public address"),
        ("http:~~a.b.test~", Why::NotAllowed, "http://a.b.test"),
        ("http:~~me:pw@api.test~", Why::NotHttp, "holds a user or a password"),
        ("file:~~~etc~passwd", Why::NotHttp, "neither `http` nor `https`"),
        ("http:~~[", Why::NotHttp, "leads to no URL"),
    ] {
        let failed = net.refuses(&following(get(&server.url(&format!("/{location}"))), 5));
        is_failed(&failed, why, &says.replace("PORT", &port.to_string()));
    }
    assert_eq!(other.connections(), 0);
}

#[test]
fn a_body_goes_along_where_the_method_stays_and_it_is_small() {
    let server = Server::answering(|seen| match seen.path() {
        "/see" => redirect(303, "/end"),
        "/found" => redirect(302, "/end"),
        "/same" => redirect(308, "/end"),
        _ => seen.echo(),
    });
    let net = server.net();
    let ask = |path: &str, length, body: &[u8]| {
        let request = with_headers(post(&server.url(path), length), &[("content-type", "text/plain")]);
        net.line().ask(&following(request, 3), body).unwrap()
    };
    for path in ["/see", "/found"] {
        let answer = ask(path, Some(3), b"abc");
        assert!(answer.text().starts_with("GET /end ") && !answer.text().contains("content-"), "{answer:?}");
    }
    let answer = ask("/same", Some(3), b"abc");
    assert!(answer.text().starts_with("POST /end ") && answer.text().ends_with("\n\nabc"), "{answer:?}");
    assert!(answer.text().contains("content-type: text/plain\n"), "{answer:?}");
    // Nobody has a large one twice: the redirect is the answer.
    for (length, body) in [(None, vec![b'x'; 3]), (Some(70_000), vec![b'x'; 70_000])] {
        let answer = ask("/same", length, &body);
        assert_eq!((answer.head.status, answer.header("location")), (308, Some(&b"/end"[..])));
        assert!(ask("/see", length, &body).text().starts_with("GET /end "));
    }
}

#[test]
fn who_asks_is_not_told_to_another_origin() {
    let other = Server::answering(Seen::echo);
    let port = other.port;
    let server = Server::answering(move |seen| match seen.path() {
        "/same" => redirect(302, "/echo"),
        "/away" => redirect(302, &format!("http://api.test:{port}/echo")),
        "/back" => redirect(302, &format!("http://api.test:{port}/")),
        _ => seen.echo(),
    });
    let net = Given::http(&[&server.origin(), &other.origin()]).start();
    let ask = |path: &str| {
        let headers =
            [("authorization", "Basic bWU6cHc="), ("cookie", "a=b"), ("x-plain", "1"), ("content-type", "x")];
        let request = following(with_headers(get(&server.url(path)), &headers), 3);
        net.line().ask(&request, b"").unwrap()
    };
    let same = ask("/same");
    assert!(same.text().contains("authorization: Basic") && same.text().contains("cookie: a=b"), "{same:?}");
    let away = ask("/away");
    assert!(away.text().contains("x-plain: 1"), "{away:?}");
    assert!(!away.text().contains("authorization") && !away.text().contains("cookie"), "{away:?}");
}

#[test]
fn a_redirect_that_comes_while_the_body_is_written_is_followed() {
    let server = Server::each(|mut connection| {
        let Some((head, _)) = read_head(&mut connection) else { return };
        let is_first = head.starts_with("POST");
        let answer = if is_first { redirect(303, "/end") } else { ok("end") };
        connection.write_all(&answer).unwrap();
        // Held open, and never read again.
        wait_until("the client ends it", || !is_first || (&connection).write(b"x").is_err());
    });
    let net = server.net();
    let mut line = net.line();
    line.begin(&following(post(&server.url("/"), None), 1));
    line.send(Kind::Body, b"a piece");
    assert_eq!(line.head().unwrap().url, server.url("/end"));
    assert_eq!(line.piece().unwrap().unwrap(), b"end");
    assert_eq!(line.piece().unwrap(), None);
    for _ in 0..100 {
        line.send(Kind::Body, &[0; 60_000]);
    }
    line.send(Kind::End, b"");
    assert_eq!(line.ask(&get(&server.url("/")), b"").unwrap().text(), "end", "the line goes on");
}
