use super::*;

fn listed(texts: &[&str]) -> Vec<Destination> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn module() -> ModuleName {
    "report".parse().unwrap()
}

fn named<'a>(scheme: Scheme, name: &'a str, port: u16, path: &'a str) -> Target<'a> {
    Target { scheme, host: Host::Name(name), port, path }
}

fn https<'a>(name: &'a str, path: &'a str) -> Target<'a> {
    named(Scheme::Https, name, 443, path)
}

fn judged(texts: &[&str], target: Target<'_>) -> Result<bool, String> {
    let permit = reach(&module(), &listed(texts), target);
    permit.map(Permit::names_the_host).map_err(|error| error.to_string())
}

#[test]
fn of_a_url_that_somebody_wrote_only_the_origin_is_shown() {
    for (url, origin) in [
        ("https://API.example.com/v1?key=secret#x", Some("https://api.example.com")),
        ("HTTP://app.internal:8080/", Some("http://app.internal:8080")),
        ("https://user:password@api.example.com/", Some("https://api.example.com")),
        ("https://a@b@api.example.com?key", Some("https://api.example.com")),
        ("http://[fdaa::3]:80/x", Some("http://[fdaa::3]:80")),
        ("http://[fdaa::3]", Some("http://[fdaa::3]")),
        ("https://b\u{fc}cher.example", Some("https://b\u{fc}cher.example")),
        // A password with a slash ends what a reader takes for the host.
        ("https://user:pass/word@api.example.com/", None),
        ("https://user:99999@", None),
        ("https:///x", None),
        ("https://", None),
        ("ftp://a.example", None),
        ("api.example.com/x", None),
        ("https://a b/", None),
        ("https://\u{1b}[2J/", None),
        ("https://a:x/", None),
        ("https://a:/", None),
        ("", None),
    ] {
        assert_eq!(written_origin(url).as_deref(), origin, "{url}");
    }
    assert_eq!(written_origin(&format!("https://{}/", "a".repeat(254))), None);
}

#[test]
fn a_target_is_reached_by_scheme_host_and_port_of_a_destination() {
    let api = "https://api.example.com";
    let reached = |texts: &[&str], target| judged(texts, target).is_ok();
    for target in [
        https("api.example.com", "/"),
        https("api.example.com", "/any/%2e%2e/path"),
        https("API.Example.COM", "/"),
        https("api.example.com.", "/"),
    ] {
        assert_eq!(judged(&[api], target), Ok(true), "{target:?}");
    }
    for target in [
        https("example.com", "/"),
        https("www.api.example.com", "/"),
        https("xapi.example.com", "/"),
        https("api.example.com.evil.example", "/"),
        https("api.example.com..", "/"),
        https("", "/"),
        https(".", "/"),
        named(Scheme::Http, "api.example.com", 80, "/"),
        named(Scheme::Http, "api.example.com", 443, "/"),
        named(Scheme::Https, "api.example.com", 8443, "/"),
    ] {
        assert!(!reached(&[api], target), "{target:?}");
        assert!(!reached(&[], target), "{target:?}");
    }
    assert!(reached(&[api, "http://app.internal:8080"], named(Scheme::Http, "app.internal", 8080, "/")));
}

#[test]
fn a_star_is_all_hosts_below_a_name_and_not_that_one() {
    let star = "https://*.example.com";
    for name in ["a.example.com", "a.b.example.com", "A.EXAMPLE.COM."] {
        assert_eq!(judged(&[star], https(name, "/")), Ok(false), "{name}");
    }
    for name in ["example.com", ".example.com", "aexample.com", "a.example.com.evil.example"] {
        assert!(judged(&[star], https(name, "/")).is_err(), "{name}");
    }
    // Whoever names it names it, whatever else covers it.
    assert_eq!(judged(&[star, "https://a.example.com"], https("a.example.com", "/")), Ok(true));
    assert_eq!(judged(&[star, "https://a.example.com/v1"], https("a.example.com", "/v2")), Ok(false));
}

#[test]
fn a_path_is_reached_below_a_destination_s() {
    for (listed, path, expected) in [
        ("https://a.example/v1/", "/v1/", true),
        ("https://a.example/v1/", "/v1/x", true),
        ("https://a.example/v1/", "/v1", false),
        ("https://a.example/v1/", "/v1x", false),
        ("https://a.example/v1", "/v1", true),
        ("https://a.example/v1", "/v1/x", true),
        ("https://a.example/v1", "/v1x", false),
        ("https://a.example/v1", "/V1", false),
        ("https://a.example/v1", "/", false),
        ("https://a.example/v1", "//v1/x", false),
        ("https://a.example/v1", "/v1/a%20b", true),
        ("https://a.example/v1", "/v1/%2e%2e/admin", false),
        ("https://a.example/v1", "/v1/..%3b/admin", false),
        ("https://a.example/v1", "/v1/..%25253b/admin", false),
        ("https://a.example/v1", "/v1/..%00/admin", false),
        ("https://a.example/v1", "/v1/%c0%ae%c0%ae/admin", false),
        ("https://a.example/v1", "/v1/%%32%65/admin", false),
        ("https://a.example/v1", "/v1/a%20b..c/%25/d%252a", true),
        ("https://a.example/v1", "/v1/%2E/", false),
        ("https://a.example/v1", "/v1/..%2fadmin", false),
        ("https://a.example/v1", "/v1/..%5Cadmin", false),
        ("https://a.example/v1", "/v1/..\\admin", false),
        ("https://a.example/v1", "/v1/%252e%252e/admin", false),
        ("https://a.example/v1", "/v1/%25252E%25252e/admin", false),
        ("https://a.example/v1", "/v1/..;/admin", false),
        ("https://a.example/v1", "/v1/../admin", false),
        ("https://a.example/v1", "/v1/a..b/.c", true),
    ] {
        assert_eq!(judged(&[listed], https("a.example", path)).is_ok(), expected, "{listed} {path}");
        assert_eq!(may_go(&[listed.parse().unwrap()], https("a.example", path)), expected, "{listed} {path}");
    }
}

#[test]
fn an_address_is_reached_only_where_it_is_listed_itself() {
    let at = |address: &str| Target {
        scheme: Scheme::Http,
        host: Host::Address(address.parse().unwrap()),
        port: 80,
        path: "/",
    };
    assert_eq!(judged(&["http://127.0.0.1"], at("127.0.0.1")), Ok(true));
    assert_eq!(judged(&["http://127.0.0.1"], at("::ffff:127.0.0.1")), Ok(true));
    assert_eq!(judged(&["http://[fdaa::3]"], at("fdaa::3")), Ok(true));
    for address in ["127.0.0.2", "::1", "1.1.1.1"] {
        assert!(judged(&["http://127.0.0.1", "http://*.example.com"], at(address)).is_err(), "{address}");
    }
    // A name is no address, whatever it looks like.
    assert!(judged(&["http://127.0.0.1"], named(Scheme::Http, "127.0.0.1", 80, "/")).is_err());
}

#[test]
fn an_address_that_is_not_public_is_connected_to_only_where_the_very_host_is_listed() {
    let permit = |texts: &[&str]| reach(&module(), &listed(texts), https("a.example.com", "/")).unwrap();
    let [public, own] = ["1.1.1.1", "10.0.0.1"].map(|address| address.parse().unwrap());
    let star = permit(&["https://*.example.com"]);
    assert!(star.may_connect(public) && !star.may_connect(own));
    let named = permit(&["https://*.example.com", "https://a.example.com"]);
    assert!(named.may_connect(public) && named.may_connect(own));
}

#[test]
fn hosts_that_answer_for_machines_and_accounts_are_reached_only_by_their_names() {
    for (star, name) in [
        ("https://*.machines.dev", "api.machines.dev"),
        ("https://*.machines.dev", "API.machines.dev."),
        ("https://*.fly.io", "api.fly.io"),
        ("https://*.google.internal", "metadata.google.internal"),
        ("https://*.app.internal", "me.app.internal"),
        ("https://*.app.flycast", "me.app.flycast"),
        ("https://*.a.localhost", "x.a.localhost"),
    ] {
        let error = judged(&[star], https(name, "/")).unwrap_err();
        assert!(error.contains("and not by a `*`: add `\"https://"), "{error}");
    }
    for name in ["api.machines.dev", "_api.internal", "metadata.google.internal", "localhost"] {
        assert_eq!(judged(&[&format!("https://{name}")], https(name, "/")), Ok(true), "{name}");
    }
    // Ends alike, and is another name.
    assert_eq!(judged(&["https://*.machines.dev"], https("myapi.machines.dev", "/")), Ok(false));
    assert_eq!(judged(&["https://*.example.com"], https("internal.example.com", "/")), Ok(false));
}

#[test]
fn a_secret_goes_where_its_own_list_says() {
    let list = listed(&["https://api.stripe.com/v1/", "https://*.example.com"]);
    assert!(may_go(&list, https("api.stripe.com", "/v1/charges")));
    assert!(may_go(&list, https("a.example.com", "/")));
    assert!(!may_go(&list, https("api.stripe.com", "/v2")));
    assert!(!may_go(&list, named(Scheme::Http, "api.stripe.com", 80, "/v1/charges")));
    assert!(!may_go(&[], https("api.stripe.com", "/v1/")));
}

#[test]
fn what_is_refused_is_told_with_the_line_to_add() {
    let line = |texts: &[&str], target: Target<'_>| judged(texts, target).unwrap_err();
    assert_eq!(
        line(&[], named(Scheme::Http, "App.Internal.", 8080, "/x")),
        "`report` may not reach http://app.internal:8080: add `http = [\"http://app.internal:8080\"]` to [modules.report] \
         of midge.toml"
    );
    assert_eq!(
        line(&["https://a.example/v1/"], https("a.example", "/v2")),
        "`report` may reach https://a.example only below some paths, and `/v2` is not there: add \
         `\"https://a.example/v2\"` to `http` of [modules.report] of midge.toml"
    );
    let error = line(&["https://a.example/v1/"], https("a.example", "/v2/a%20b"));
    assert!(error.contains("add `\"https://a.example\"` to `http` of"), "{error}");
    let error = line(&["https://a.example/v1/"], https("a.example", "/v1/%2e%2e/"));
    assert!(error.contains("a server may read `/v1/%2e%2e/` as another one"), "{error}");
    let address = "::ffff:10.0.0.1".parse().unwrap();
    let error = NotAllowed::not_public(&module(), https("a.example", "/"), address).to_string();
    assert!(
        error.starts_with("https://a.example is at ::ffff:10.0.0.1, which is no public address"),
        "{error}"
    );
    let v6 =
        Target { scheme: Scheme::Http, host: Host::Address("fdaa::3".parse().unwrap()), port: 53, path: "/" };
    assert!(line(&[], v6).contains("add `http = [\"http://[fdaa::3]:53\"]`"));
}
