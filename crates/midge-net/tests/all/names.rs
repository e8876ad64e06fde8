//! Names are looked up once, and only what was judged is connected to.

use midge_protocol::line::Why;

use crate::support::{Given, Server, get, is_failed, ok};

fn named(server: &Server, name: &'static str, answers: Vec<Vec<&'static str>>, http: &[&str]) -> Given {
    let http: Vec<String> = http.iter().map(|text| text.replace("PORT", &server.port.to_string())).collect();
    Given { http, names: [(name, answers)].into(), ..Given::default() }
}

#[test]
fn a_star_leads_to_no_address_that_is_not_public() {
    let server = Server::answering(|_| ok("never"));
    for address in [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "::1",
        "::",
        "fdaa::3",
        "fe80::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ] {
        let net = named(&server, "a.b.test", vec![vec![address]], &["http://*.b.test:PORT"]).start();
        let failed = net.refuses(&get(&format!("http://a.b.test:{}/", server.port)));
        let says = format!(
            "http://a.b.test:{} is at {address}, which is no public address, and such are reached only where the very host \
             is listed, and not by a `*`: add `\"http://a.b.test:{}\"`",
            server.port, server.port
        );
        is_failed(&failed, Why::NotAllowed, &says);
    }
    assert_eq!(server.connections(), 0);
}

#[test]
fn a_host_that_is_listed_itself_is_reached_wherever_it_is() {
    let server = Server::answering(|_| ok("here"));
    let http = ["http://*.b.test:PORT", "http://a.b.test:PORT"];
    let net = named(&server, "a.b.test", vec![vec!["127.0.0.1"]], &http).start();
    assert_eq!(net.get(&format!("http://a.b.test:{}/", server.port)).unwrap().text(), "here");
}

#[test]
fn a_name_that_changes_its_answer_changes_nothing_of_what_was_judged() {
    let server = Server::answering(|_| ok("never"));
    // Nobody is at the first, which is for documentation and so is refused; at the second is who must not be reached.
    let answers = vec![vec!["192.0.2.1"], vec!["127.0.0.1"]];
    let net = named(&server, "a.b.test", answers, &["http://*.b.test:PORT"]).start();
    let url = format!("http://a.b.test:{}/", server.port);
    is_failed(&net.refuses(&get(&url)), Why::NotAllowed, "is at 192.0.2.1");
    assert_eq!(net.lookups().len(), 1, "it is not asked for again between the judgement and the connection");
    is_failed(&net.refuses(&get(&url)), Why::NotAllowed, "is at 127.0.0.1");
    assert_eq!(server.connections(), 0);
}

#[test]
fn of_several_addresses_the_first_that_answers_is_used() {
    let server = Server::answering(|_| ok("here"));
    // Nobody listens at the first ones.
    let answers = vec![vec!["127.0.0.3", "127.0.0.2", "127.0.0.1"]];
    let net = named(&server, "many.test", answers, &["http://many.test:PORT"]).start();
    assert_eq!(net.get(&format!("http://many.test:{}/", server.port)).unwrap().text(), "here");
    assert_eq!(net.lookups(), ["many.test"]);
}

#[test]
fn a_connection_that_was_made_by_one_rule_is_not_lent_to_another() {
    let server = Server::answering(|_| ok("here"));
    let http = ["http://*.b.test:PORT", "http://a.b.test:PORT/own/"];
    let net = named(&server, "a.b.test", vec![vec!["127.0.0.1"]], &http).start();
    let url = |path| format!("http://a.b.test:{}{path}", server.port);
    assert_eq!(net.get(&url("/own/x")).unwrap().text(), "here");
    // There is a connection now, and it leads to an address that a `*` does not.
    is_failed(&net.refuses(&get(&url("/other"))), Why::NotAllowed, "which is no public address");
    assert_eq!(net.get(&url("/own/y")).unwrap().text(), "here");
    assert_eq!(server.connections(), 1);
}

#[test]
fn who_is_not_there_is_told_apart() {
    let server = Server::answering(|_| ok("never"));
    let net = named(&server, "gone.test", vec![], &["http://gone.test", "http://127.0.0.1:1"]).start();
    is_failed(&net.refuses(&get("http://gone.test/")), Why::NoSuchHost, "there is no host `gone.test`");
    is_failed(
        &net.refuses(&get("http://127.0.0.1:1/")),
        Why::Refused,
        "nobody takes connections at 127.0.0.1:1",
    );
    let net = named(&server, "empty.test", vec![vec![]], &["http://empty.test"]).start();
    is_failed(&net.refuses(&get("http://empty.test/")), Why::NoSuchHost, "it has no address");
}
