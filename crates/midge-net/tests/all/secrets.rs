//! Secrets: put in where they may go, and seen nowhere else.

use midge_protocol::line::{Request, Why};

use crate::support::{Given, Seen, Server, get, is_failed, ok, redirect, with_headers};

const VALUE: &str = "sk_live_0123456789";

fn given(http: &[&str], to: &[&str]) -> Given {
    let to = to.iter().map(|destination| (*destination).to_owned()).collect();
    Given { secrets: vec![("STRIPE", Some(VALUE), to)], ..Given::http(http) }
}

fn bearer(url: &str) -> Request {
    with_headers(get(url), &[("authorization", "Bearer {{STRIPE}}")])
}

#[test]
fn a_secret_is_put_into_headers_of_requests_to_where_it_may_go() {
    let server = Server::answering(|seen| match seen.header("authorization") {
        Some("Bearer sk_live_0123456789") => ok("known"),
        other => ok(&format!("unknown: {other:?}")),
    });
    let net = given(&[&server.origin()], &[&server.url("/v1/")]).start();
    assert_eq!(net.line().ask(&bearer(&server.url("/v1/charges")), b"").unwrap().text(), "known");
    let elsewhere = net.refuses(&bearer(&server.url("/v2")));
    let says = format!(
        "the secret `STRIPE` may not go to {0}: add `\"{0}\"` to the list of `STRIPE` in `secrets` of [modules.report] of midge.toml",
        server.origin()
    );
    is_failed(&elsewhere, Why::NotAllowed, &says);
    assert_eq!(server.connections(), 1);
}

#[test]
fn what_is_white_around_a_secret_is_no_part_of_it() {
    let server = Server::answering(|seen| ok(&format!("you said {:?}", seen.header("authorization"))));
    let origin = server.origin();
    let padded: &'static str = " sk_live_0123456789 \n";
    let to = vec![origin.clone()];
    let net = Given { secrets: vec![("STRIPE", Some(padded), to)], ..Given::http(&[&origin]) }.start();
    let said = net.line().ask(&bearer(&server.url("/")), b"").unwrap();
    assert_eq!(said.text(), "you said Some(\"Bearer ******************\")");
}

#[test]
fn a_head_has_its_bound_with_secrets_in_it() {
    let server = Server::answering(|_| ok("never"));
    let origin = server.origin();
    let long: &'static str = Box::leak("k".repeat(8_000).into_boxed_str());
    let to = vec![origin.clone()];
    let net = Given { secrets: vec![("STRIPE", Some(long), to)], ..Given::http(&[&origin]) }.start();
    let often = "{{STRIPE}}".repeat(6_000);
    is_failed(&net.refuses(&with_headers(get(&server.url("/")), &[("x", &often)])), Why::TooLarge, "65536");
}

#[test]
fn a_secret_that_is_not_there_is_told_with_what_to_do() {
    let server = Server::answering(|_| ok("never"));
    let origin = server.origin();
    let mut given = given(&[&origin], &[&origin]);
    given.secrets.push(("EMPTY", Some(""), vec![origin.clone()]));
    given.secrets.push(("MISSING", None, vec![origin.clone()]));
    given.secrets.push(("LINES", Some("two\nlines"), vec![origin.clone()]));
    let net = given.start();
    let with = |value: &str| net.refuses(&with_headers(get(&server.url("/")), &[("x-key", value)]));
    let says = format!(
        "`report` has no secret `TWILIO`: add `TWILIO = [\"{origin}\"]` to `secrets` of [modules.report]"
    );
    is_failed(&with("{{TWILIO}}"), Why::NotAllowed, &says);
    is_failed(
        &with("{{MISSING}}"),
        Why::NotAllowed,
        "`MISSING` has no value: set `MISSING_KEY` in the env of the Machines",
    );
    is_failed(&with("{{EMPTY}}"), Why::NotAllowed, "`EMPTY` has no value");
    let lines = with("{{LINES}}");
    is_failed(&lines, Why::NotAllowed, "`LINES` has no value");
    assert!(!lines.message.contains("two"), "{lines:?}");
    let mut of_other = bearer(&server.url("/"));
    of_other.module = "other".parse().unwrap();
    is_failed(&net.refuses(&of_other), Why::NotAllowed, "`other` has no secret `STRIPE`");
    assert_eq!(server.connections(), 0);
}

#[test]
fn a_secret_goes_along_with_a_redirect_only_where_it_may_go() {
    let other = Server::answering(Seen::echo);
    let port = other.port;
    let answer = move |seen: &Seen| match seen.path() {
        "/away" => redirect(302, &format!("http://api.test:{port}/echo")),
        "/same" => redirect(302, "/echo"),
        "/v1/out" => redirect(302, "/v2"),
        _ => seen.echo(),
    };
    let server = Server::answering(answer);
    let (here, there) = (server.origin(), other.origin());
    let ask = |to: &[&str], path: &str| {
        let net = given(&[&here, &there], to).start();
        let request = Request { redirects: 3, ..bearer(&server.url(path)) };
        net.line().ask(&request, b"").unwrap().text().to_owned()
    };
    let stars = format!("authorization: Bearer {}", "*".repeat(VALUE.len()));
    assert!(ask(&[&here], "/same").contains(&stars));
    let away = ask(&[&here], "/away");
    assert!(!away.contains("authorization"), "{away}");
    assert!(ask(&[&here, &there], "/away").contains(&stars), "there it may go as well");
    let out = ask(&[&format!("{here}/v1/")], "/v1/out");
    assert!(!out.contains("authorization"), "another path is another destination: {out}");
}

#[test]
fn what_comes_back_has_stars_where_a_secret_was() {
    let server = Server::each(|connection| {
        let mut connection = connection;
        while let Some(seen) = Seen::read(&mut connection) {
            let head = format!(
                "HTTP/1.1 200 OK\r\nx-key: <{VALUE}>\r\nx-{}: 1\r\ntransfer-encoding: chunked\r\n\r\n",
                VALUE.to_uppercase()
            );
            let mut send = |bytes: &[u8]| std::io::Write::write_all(&mut connection, bytes).unwrap();
            send(head.as_bytes());
            // Each byte comes by itself.
            for byte in format!("a {VALUE} b sk_live_0 {}", seen.path()).bytes() {
                send(&[b'1', b'\r', b'\n', byte, b'\r', b'\n']);
            }
            send(b"0\r\n\r\n");
        }
    });
    let origin = server.origin();
    let net = given(&[&origin], &[&origin]).start();
    let stars = "*".repeat(VALUE.len());
    let answer = net.line().ask(&bearer(&server.url(&format!("/?{VALUE}"))), b"").unwrap();
    assert_eq!(answer.text(), format!("a {stars} b sk_live_0 /?{stars}"));
    assert_eq!(answer.header("x-key"), Some(format!("<{stars}>").as_bytes()));
    assert!(answer.header(&format!("x-{stars}")).is_some(), "{:?}", answer.head);
    assert!(answer.head.url.ends_with(&format!("/?{stars}")), "{}", answer.head.url);
    // Who brings no secret, knows nothing that could be hidden.
    assert!(net.get(&server.url("/")).unwrap().text().contains(VALUE));
}

#[test]
fn no_error_holds_a_secret() {
    let server = Server::answering(|seen| match seen.path() {
        "/name" => redirect(302, &format!("https://{VALUE}.evil.test/")),
        "/path" => redirect(302, &format!("https://api.test/{VALUE}")),
        "/user" => redirect(302, &format!("https://{VALUE}@api.test/")),
        "/scheme" => redirect(302, &format!("x:{VALUE}")),
        "/encoded" => redirect(302, &format!("/?%{:02x}{}", VALUE.as_bytes()[0], &VALUE[1..])),
        "/long" => redirect(302, &format!("/{}{VALUE}", "x".repeat(1_000))),
        _ => format!("{VALUE} is no HTTP\r\n\r\n").into_bytes(),
    });
    let origin = server.origin();
    let net = given(&[&origin, "https://api.test/v1/"], &[&origin]).start();
    for path in ["/name", "/path", "/user", "/scheme", "/encoded", "/long", "/other"] {
        let failed = net.refuses(&Request { redirects: 3, ..bearer(&server.url(path)) });
        let message = failed.message.to_lowercase();
        assert!(!message.contains(&VALUE[..4]) && !message.contains(&VALUE[1..]), "{failed:?}");
    }
}
