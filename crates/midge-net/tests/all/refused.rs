//! What is refused, and why: nothing of it reaches a server.

use midge_protocol::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX};
use midge_protocol::line::{Request, Why};

use crate::support::{Given, Server, get, is_failed, ok, with_headers};

/// URLs, and why they are refused where `http://api.test:PORT/v1` and `https://*.example.com` may be reached.
const REFUSED: &[(&str, Why, &str)] = &[
    (
        "http://other.test:PORT/v1",
        Why::NotAllowed,
        "add `\"http://other.test:PORT\"` to `http` of [modules.report]",
    ),
    ("https://api.test:PORT/v1", Why::NotAllowed, "add `\"https://api.test:PORT\"`"),
    ("http://api.test/v1", Why::NotAllowed, "add `\"http://api.test\"`"),
    ("http://api.test:PORT/v2", Why::NotAllowed, "add `\"http://api.test:PORT/v2\"`"),
    ("http://api.test:PORT/v1/../v2", Why::NotAllowed, "`/v2` is not there"),
    ("http://api.test:PORT/v1/%2e%2e/v2", Why::NotAllowed, "`/v2` is not there"),
    ("http://api.test:PORT/v1/..%2fv2", Why::NotAllowed, "as another one"),
    ("http://api.test:PORT/v1/..%5Cv2", Why::NotAllowed, "as another one"),
    ("http://api.test:PORT/v1/%252e%252e/v2", Why::NotAllowed, "as another one"),
    ("http://api.test:PORT/v1/..;/v2", Why::NotAllowed, "as another one"),
    ("http://api.test:PORT\\@evil.test/v1", Why::NotAllowed, "`/@evil.test/v1` is not there"),
    ("http://xapi.test:PORT/v1", Why::NotAllowed, "xapi.test"),
    ("http://api.test.evil.test:PORT/v1", Why::NotAllowed, "api.test.evil.test"),
    ("https://example.com/", Why::NotAllowed, "add `\"https://example.com\"`"),
    // Odd spellings of addresses are addresses.
    ("http://127.0.0.1:PORT/v1", Why::NotAllowed, "http://127.0.0.1:PORT"),
    ("http://2130706433:PORT/v1", Why::NotAllowed, "http://127.0.0.1:PORT"),
    ("http://0x7f000001:PORT/v1", Why::NotAllowed, "http://127.0.0.1:PORT"),
    ("http://0x7f.0.0.1:PORT/v1", Why::NotAllowed, "http://127.0.0.1:PORT"),
    ("http://0177.0.0.1:PORT/v1", Why::NotAllowed, "http://127.0.0.1:PORT"),
    ("http://127.1:PORT/v1", Why::NotAllowed, "http://127.0.0.1:PORT"),
    ("http://127.0.0.1.:PORT/v1", Why::NotAllowed, "http://127.0.0.1:PORT"),
    ("http://%31%32%37.0.0.1:PORT/v1", Why::NotAllowed, "http://127.0.0.1:PORT"),
    ("http://\u{ff11}\u{ff12}\u{ff17}\u{3002}0.0.1:PORT/v1", Why::NotAllowed, "http://127.0.0.1:PORT"),
    ("http://[::1]:PORT/v1", Why::NotAllowed, "http://[::1]:PORT"),
    ("http://[::ffff:127.0.0.1]:PORT/v1", Why::NotAllowed, "http://127.0.0.1:PORT"),
    ("http://[::ffff:7f00:1]:PORT/v1", Why::NotAllowed, "http://127.0.0.1:PORT"),
    ("http://[::127.0.0.1]:PORT/v1", Why::NotAllowed, "http://[::7f00:1]:PORT"),
    ("http://169.254.169.254/latest/meta-data/", Why::NotAllowed, "http://169.254.169.254"),
    ("http://[fdaa::3]/", Why::NotAllowed, "http://[fdaa::3]"),
    ("http://localhost:PORT/v1", Why::NotAllowed, "http://localhost:PORT"),
    ("http://_api.internal:4280/v1/apps", Why::NotAllowed, "http://_api.internal:4280"),
    ("https://api.machines.dev/v1/apps", Why::NotAllowed, "https://api.machines.dev"),
    // What is no request to a server at all.
    ("http://me@api.test:PORT/v1", Why::Invalid, "holds a user or a password"),
    ("http://me:pass@api.test:PORT/v1", Why::Invalid, "holds a user or a password"),
    ("http://api.test:PORT@evil.test/v1", Why::Invalid, "holds a user or a password"),
    ("ftp://api.test:PORT/v1", Why::Invalid, "neither `http` nor `https`"),
    ("file:///etc/passwd", Why::Invalid, "neither `http` nor `https`"),
    ("data:text/plain,x", Why::Invalid, "neither `http` nor `https`"),
    ("unix:/run/docker.sock", Why::Invalid, "neither `http` nor `https`"),
    ("/v1", Why::Invalid, "is no URL"),
    ("", Why::Invalid, "is no URL"),
    ("http://", Why::Invalid, "is no URL"),
    ("http://./", Why::Invalid, "has no host"),
    ("http://api.test:99999/", Why::Invalid, "is no URL"),
    ("http://[::1/", Why::Invalid, "is no URL"),
    ("http://api.test:PORT .evil.test/", Why::Invalid, "is no URL"),
    ("http://a\u{0}b/", Why::Invalid, "is no URL"),
    ("http://256.256.256.256/", Why::Invalid, "is no URL"),
];

/// Spellings of what may be reached.
const REACHED: &[&str] = &[
    "http://api.test:PORT/v1",
    "http://api.test:PORT/v1/x?..%2f",
    "HTTP://API.Test:PORT/v1",
    "http://api.test.:PORT/v1",
    "http:\\\\api.test:PORT\\v1",
    " http://api.test:PORT/v1\n",
    "ht\ntp://api.te\tst:PORT/v1",
    "http://%61pi.test:PORT/v1",
    "http://\u{ff41}pi.test:PORT/v1",
    "http://api.test:PORT/v2/../v1",
];

#[test]
fn what_no_destination_covers_is_refused_in_whatever_spelling() {
    let server = Server::answering(|_| ok("reached"));
    let port = server.port.to_string();
    let destination = format!("http://api.test:{port}/v1");
    let net = Given::http(&[&destination, "https://*.example.com"]).start();
    for (url, why, says) in REFUSED {
        let failed = net.refuses(&get(&url.replace("PORT", &port)));
        is_failed(&failed, *why, &says.replace("PORT", &port));
    }
    assert_eq!(net.lookups(), [""; 0], "no name was looked up for any of them");
    assert_eq!(server.connections(), 0);
    for url in REACHED {
        let answer =
            net.get(&url.replace("PORT", &port)).unwrap_or_else(|failed| panic!("{url}: {failed:?}"));
        assert_eq!(answer.text(), "reached", "{url}");
    }
    assert!(net.lookups().iter().all(|name| name == "api.test"), "{:?}", net.lookups());
}

#[test]
fn a_name_of_other_letters_is_judged_as_it_is_looked_up() {
    let server = Server::answering(|_| ok("reached"));
    let net = Given::http(&[&format!("http://xn--bcher-kva.test:{}", server.port)]).start();
    assert_eq!(net.get(&format!("http://B\u{fc}cher.test:{}/", server.port)).unwrap().text(), "reached");
    assert_eq!(net.lookups(), ["xn--bcher-kva.test"]);
    // It looks like an `a`.
    let failed = net.refuses(&get(&format!("http://\u{430}pi.test:{}/", server.port)));
    is_failed(&failed, Why::NotAllowed, "http://xn--pi-6kc.test");
}

#[test]
fn a_module_that_reaches_nothing_or_is_none_makes_no_request() {
    let net = Given::http(&["http://api.test"]).start();
    let of = |module: &str| Request { module: module.parse().unwrap(), ..get("http://api.test/") };
    is_failed(&net.refuses(&of("alone")), Why::NotAllowed, "to [modules.alone] of midge.toml");
    is_failed(&net.refuses(&of("nobody")), Why::NotAllowed, "there is no module `nobody`");
}

#[test]
fn methods_and_headers_that_are_none_or_not_a_guest_s_are_refused() {
    let server = Server::answering(|_| ok("never"));
    let net = server.net();
    for method in ["", "GET /", "GE T", "GET\r\nx: y", "CONNECT", "TRACE", "G\u{e9}T"] {
        let request = Request { method: method.to_owned(), ..get(&server.url("/")) };
        is_failed(&net.refuses(&request), Why::Invalid, "");
    }
    for (name, value, says) in [
        ("host", "evil.test", "`host` is not set by guests"),
        ("Host", "evil.test", "`host` is not set by guests"),
        ("connection", "close", "`connection` is not"),
        ("transfer-encoding", "chunked", "`transfer-encoding` is not"),
        ("te", "trailers", "`te` is not"),
        ("upgrade", "websocket", "`upgrade` is not"),
        ("keep-alive", "x", "`keep-alive` is not"),
        ("Proxy-Authorization", "x", "`proxy-authorization` is not"),
        ("expect", "100-continue", "`expect` is not"),
        ("trailer", "x", "`trailer` is not"),
        ("", "x", "is no name of a header"),
        ("a b", "x", "is no name of a header"),
        ("a:", "x", "is no name of a header"),
        (":authority", "evil.test", "is no name of a header"),
        ("a\r\nhost", "x", "is no name of a header"),
        ("x", "a\r\nhost: evil.test", "holds a control character"),
        ("x", "a\nb", "holds a control character"),
        ("x", "a\0b", "holds a control character"),
    ] {
        let request = with_headers(get(&server.url("/")), &[(name, value)]);
        is_failed(&net.refuses(&request), Why::Invalid, says);
    }
    assert_eq!(server.connections(), 0);
}

#[test]
fn a_head_has_its_bounds() {
    let server = Server::answering(|_| ok("sent"));
    let net = server.net();
    let many = vec![("x", "y"); HTTP_HEADERS_MAX + 1];
    assert_eq!(net.line().ask(&with_headers(get(&server.url("/")), &many[1..]), b"").unwrap().text(), "sent");
    is_failed(
        &net.refuses(&with_headers(get(&server.url("/")), &many)),
        Why::TooLarge,
        "101 headers: 100 are",
    );
    let url = server.url("/");
    let fits = "y".repeat(HTTP_HEAD_BYTES_MAX - url.len() - 1);
    let request = with_headers(get(&url), &[("x", &fits)]);
    assert_eq!(net.line().ask(&request, b"").unwrap().text(), "sent");
    let request = with_headers(get(&url), &[("xx", &fits)]);
    is_failed(&net.refuses(&request), Why::TooLarge, "65536 are the most");
    let long = format!("{url}{}", "y".repeat(HTTP_HEAD_BYTES_MAX));
    is_failed(&net.refuses(&get(&long)), Why::TooLarge, "65536 are the most");
    // What is longer once it is percent-encoded.
    let longer = format!("{url}{}", "\u{e9}".repeat(HTTP_HEAD_BYTES_MAX / 3));
    is_failed(&net.refuses(&get(&longer)), Why::Invalid, "longer than the head of a request may be");
    // What a URL may hold and HTTP not, or the other way round, is asked for or refused, and breaks nothing.
    for path in ["/{}|^`\"<>", "/\u{7f}", "/a?'\u{80}[]", "/%00", "/%"] {
        assert_eq!(net.get(&server.url(path)).unwrap().text(), "sent", "{path}");
    }
}
