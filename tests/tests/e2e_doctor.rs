//! `midge doctor` on flylet, with each thing wrong in turn.

use midge_protocol::manifest::MachineSize;
use midge_tests::support::{
    Flylet, Guest, Modules, Ran, Server, StubServer, free_port, host_program, midge, run,
};
use serde_json::Value;

fn modules() -> Modules {
    Modules::of_guests("[queues.default]\nwait = 1", &[Guest::nap("nap", 1)])
}

/// Runs `midge doctor` for Machines of a flylet, with these variables beside those that lead to it; a value of nothing takes
/// one away.
fn doctor(modules: &Modules, flylet: &Flylet, changed: &[(&str, &str)]) -> Ran {
    let (url, listen) = (flylet.url(), format!("127.0.0.1:{}", free_port()));
    let host = host_program().display().to_string();
    let mut command = midge(&["doctor", "--json", "--modules"]);
    command.arg(modules.dir()).envs([
        ("FLY_FLAPS_BASE_URL", url.as_str()),
        ("FLY_API_TOKEN", Flylet::TOKEN),
        ("FLY_APP_NAME", "midge"),
        ("FLY_IMAGE_REF", "registry.example/shop:v1"),
        ("MIDGE_HOST", &host),
        ("MIDGE_LISTEN", &listen),
    ]);
    for (name, value) in changed {
        match *value {
            "" => command.env_remove(name),
            value => command.env(name, value),
        };
    }
    run(command, b"")
}

/// Returns the checks that came out in a state, each with its text and what to do.
fn found(ran: &Ran, state: &str) -> Vec<(String, String)> {
    let findings: Vec<Value> = serde_json::from_str(ran.text()).unwrap();
    let found = findings.iter().filter(|finding| finding["state"] == state);
    let words =
        |finding: &Value| format!("{}: {}", finding["text"], finding.get("todo").unwrap_or(&Value::Null));
    found.map(|finding| (finding["check"].as_str().unwrap().to_owned(), words(finding))).collect()
}

#[test]
fn where_nothing_is_wrong_every_line_says_so() {
    let (modules, flylet) = (modules(), Flylet::start_with(&["--regions", "iad,lhr"]));
    let server = Server::on_flylet(&modules, &flylet, "v1");
    let ran =
        doctor(&modules, &flylet, &[("MIDGE_SERVER_URL", &server.url()), ("MIDGE_REGION", "lhr,any")]).ok();
    let names: Vec<String> = found(&ran, "ok").into_iter().map(|(check, _)| check).collect();
    let all = ["modules", "host", "sizes", "api", "token", "app", "time", "regions", "image", "reachability"];
    assert_eq!(names, all, "{}", ran.text());
}

#[test]
fn each_thing_that_is_wrong_is_told_with_what_to_do() {
    let (modules, flylet) = (modules(), Flylet::start_with(&["--regions", "iad,lhr"]));
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let broken = StubServer::answering(500, "out of order");
    let with_password = nobody.replace("http://", "http://me:secret@");
    let table: [(&str, &str, &str, &str); 10] = [
        ("FLY_API_TOKEN", "", "token", "fly tokens create deploy"),
        ("FLY_API_TOKEN", "another", "token", "fly tokens create deploy -a midge"),
        ("FLY_APP_NAME", "shop", "app", "fly apps create shop"),
        ("FLY_FLAPS_BASE_URL", &nobody, "api", "does not answer"),
        ("FLY_FLAPS_BASE_URL", &with_password, "api", "http://***@127.0.0.1:"),
        ("FLY_FLAPS_BASE_URL", &broken.url, "api", "answers 500: out of order"),
        ("FLY_IMAGE_REF", "", "image", "MIDGE_IMAGE"),
        ("MIDGE_REGION", "amx", "regions", "there is no region `amx`"),
        ("MIDGE_SERVER_URL", &nobody, "reachability", "no server answers at"),
        ("MIDGE_HOST", "/no/such/host", "host", "there is no host program at /no/such/host"),
    ];
    for (variable, value, check, words) in table {
        let ran = doctor(&modules, &flylet, &[(variable, value)]);
        assert_eq!(ran.code, Some(1), "{variable}={value}: {}", ran.text());
        let wrong = found(&ran, "wrong");
        let told = wrong.iter().find(|(name, _)| name == check);
        assert!(told.is_some_and(|(_, text)| text.contains(words)), "{variable}={value}: {wrong:?}");
        assert!(!ran.text().contains("secret@"), "{}", ran.text());
    }
}

#[test]
fn a_size_that_is_not_sold_and_modules_that_are_not_there_are_told() {
    let flylet = Flylet::start();
    let odd = MachineSize { cpu_kind: "shared".to_owned(), cpus: 3, memory_mib: 1024 };
    let modules = modules().queue("default", |policy| policy.size = Some(odd));
    let ran = doctor(&modules, &flylet, &[]);
    let sizes = found(&ran, "wrong").into_iter().find(|(check, _)| check == "sizes");
    assert!(sizes.is_some_and(|(_, text)| text.contains("use one of 1, 2, 4, 6, 8")), "{}", ran.text());
    let mut nowhere = midge(&["doctor", "--modules", "/no/such/folder"]);
    nowhere.env_remove("FLY_API_TOKEN");
    let ran = run(nowhere, b"");
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.text().contains("there is no /no/such/folder/manifest.json: run `midge build` first"),
        "{}",
        ran.text()
    );
}

#[test]
fn a_clock_that_is_wrong_is_told() {
    let modules = modules();
    let api = StubServer::answering_with(200, "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "[]");
    let flylet = Flylet::start();
    let ran = doctor(&modules, &flylet, &[("FLY_FLAPS_BASE_URL", &api.url)]);
    let time = found(&ran, "wrong").into_iter().find(|(check, _)| check == "time");
    assert!(time.is_some_and(|(_, text)| text.contains("ahead of the API's")), "{}", ran.text());
}
