//! Requests of jobs: where they may go, with which secrets, how they end, and that nobody else notices.

use std::io::Read;
use std::sync::mpsc;

use midge_protocol::JobId;
use midge_protocol::job::{Cause, Failure, State};
use midge_tests::support::{
    Asked, Files, Guest, Modules, Server, Site, block_on, descendants, eventually, kill, midge, request, run,
    say,
};
use serde_json::json;

const REQUEST: &str = "(param i32 i32 i32) (result i32)";

/// A module whose input is the head of a request. Its result is the answer, head and body; where there is none, it exits with
/// the number of the reason, and its message is the host's.
fn ask(name: &str, settings: &str) -> Guest {
    let imports = [
        ("fd_read", "(param i32 i32 i32 i32) (result i32)"),
        ("fd_write", "(param i32 i32 i32 i32) (result i32)"),
        ("proc_exit", "(param i32)"),
        ("midge.error", "(param i32 i32)"),
        ("midge.http_open", "(param i32 i32 i32 i64) (result i32)"),
        ("midge.http_send", "(param i32) (result i32)"),
        ("midge.http_head", REQUEST),
        ("midge.http_read", REQUEST),
        ("midge.http_error", "(param i32 i32) (result i32)"),
    ];
    let parts = r#"
        (memory (export "memory") 4)
        (func $print (param $length i32)
          (i32.store (i32.const 0) (i32.const 70000)) (i32.store (i32.const 4) (local.get $length))
          (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
        (func $checked (param $number i32) (result i32)
          (if (i32.lt_s (local.get $number) (i32.const 0)) (then
            (call $error (i32.const 70000) (call $http_error (i32.const 70000) (i32.const 4000)))
            (call $proc_exit (i32.sub (i32.const 0) (local.get $number)))))
          (local.get $number))"#;
    let start = "(local $request i32) (local $length i32)
        (i32.store (i32.const 0) (i32.const 100)) (i32.store (i32.const 4) (i32.const 60000))
        (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (local.set $request (call $checked
          (call $http_open (i32.const 100) (i32.load (i32.const 8)) (i32.const 3) (i64.const 0))))
        (local.set $length (call $checked (call $http_send (local.get $request))))
        (call $print (call $http_head (local.get $request) (i32.const 70000) (i32.const 70000)))
        (loop $on
          (local.set $length (call $checked
            (call $http_read (local.get $request) (i32.const 70000) (i32.const 70000))))
          (call $print (local.get $length))
          (br_if $on (local.get $length)))";
    Guest::new(name, &imports, parts, start).settings(&format!("max_attempts = 1\n{settings}"))
}

/// A server with one such module, which may reach a site.
fn asking(site: &Site) -> Server {
    Server::start(&Modules::of_guests("", &[ask("ask", &format!("http = [\"{}\"]", site.url()))]))
}

fn send(server: &Server, module: &str, head: &str) -> JobId {
    server.send(&request(module, json!(null)).input(head.to_owned()))
}

#[track_caller]
fn answer(server: &Server, head: &str) -> String {
    String::from_utf8_lossy(&server.result(send(server, "ask", head))).into_owned()
}

/// Makes a request that has no answer, and returns how its job failed.
#[track_caller]
fn failure(server: &Server, head: &str) -> Failure {
    let job = server.ended(send(server, "ask", head)).job;
    assert_eq!(job.state, State::Discarded, "{head}: {job:?}");
    job.failure.unwrap()
}

#[test]
fn a_job_reaches_what_its_module_may_and_is_told_how_it_might_reach_more() {
    let (site, other) = (Site::saying("hello"), Site::saying("no"));
    let server = asking(&site);
    let got = answer(&server, &format!("GET {}/a?b=c\nx-one: 1\n", site.url()));
    assert_eq!(got, format!("200 {}/a?b=c\ncontent-length: 5hello", site.url()));
    let asked = &site.asked()[0];
    assert_eq!(
        (asked.path(), asked.header("x-one"), asked.header("user-agent")),
        ("/a?b=c", Some("1"), Some("midge"))
    );
    for head in [
        format!("GET {}/", other.url()),
        "GET http://127.0.0.1:1/".to_owned(),
        "GET http://localhost:80/".to_owned(),
        "GET http://[::1]/".to_owned(),
        "GET http://169.254.169.254/latest/meta-data".to_owned(),
        "GET http://_api.internal:4280/v1/apps".to_owned(),
        "GET https://api.machines.dev/v1/apps".to_owned(),
        "GET http://2130706433/".to_owned(),
    ] {
        let failure = failure(&server, &head);
        assert_eq!((failure.cause, failure.exit_code), (Cause::Exit, Some(1)), "{head}: {}", failure.message);
        assert!(
            failure.message.contains("to `http` of [modules.ask]") && !failure.message.contains("http = ["),
            "{}",
            failure.message
        );
    }
    assert!(other.asked().is_empty());
}

#[test]
fn a_module_that_may_reach_nothing_is_told_so_at_build_and_when_it_tries() {
    let server = Server::start(&Modules::of_guests("", &[ask("ask", "")]));
    let failure = failure(&server, "GET http://127.0.0.1:1/");
    assert!(failure.message.contains("http = ["), "{}", failure.message);
}

#[test]
fn a_secret_reaches_its_server_and_nobody_else() {
    const VALUE: &str = "sk-test-4242";
    // It says back what it was told, as no good server does.
    let echo = |asked: &Asked, stream: &mut std::net::TcpStream| {
        if asked.path() == "/away" {
            say(stream, "302 Found\r\nlocation: /elsewhere", "");
        } else {
            say(
                stream,
                "200 OK",
                &format!("you said {}", asked.header("authorization").unwrap_or("nothing")),
            );
        }
    };
    let (site, other) = (Site::start(echo), Site::start(echo));
    let reach =
        format!("http = [\"{0}\", \"{1}\"]\nsecrets = {{ KEY = [\"{0}\"] }}", site.url(), other.url());
    let modules = Modules::of_guests("[secrets.KEY]\nenv = \"TEST_KEY\"", &[ask("ask", &reach)]);
    let server = Server::start_with(&modules, &[], &[("TEST_KEY", VALUE)]);
    let id = send(&server, "ask", &format!("GET {}/\nauthorization: Bearer {{{{KEY}}}}", site.url()));
    let result = String::from_utf8_lossy(&server.result(id)).into_owned();
    assert!(result.ends_with("you said Bearer ************"), "{result}");
    assert_eq!(site.asked()[0].header("authorization"), Some("Bearer sk-test-4242"));
    // Neither to another server, nor under a name that it does not have.
    for head in [
        format!("GET {}/\nauthorization: Bearer {{{{KEY}}}}", other.url()),
        format!("GET {}/\nauthorization: Bearer {{{{OTHER}}}}", site.url()),
    ] {
        let failure = failure(&server, &head);
        assert_eq!(failure.exit_code, Some(1), "{head}: {}", failure.message);
        assert!(
            !failure.message.contains(VALUE) && failure.message.contains("secrets"),
            "{}",
            failure.message
        );
    }
    assert!(other.asked().is_empty());
}

#[test]
fn a_job_whose_secret_is_missing_waits_unspent_and_says_why() {
    let site = Site::saying("hello");
    let reach = format!("http = [\"{0}\"]\nsecrets = {{ KEY = [\"{0}\"] }}", site.url());
    let modules = Modules::of_guests(
        "[queues.default]\nwait = 20\n[secrets.KEY]\nenv = \"TEST_KEY\"",
        &[ask("ask", &reach), Guest::nap("nap", 0)],
    );
    let server = Server::start(&modules);
    let id = send(&server, "ask", "GET http://a.example/");
    let attempt = eventually("it was given back", || {
        server.detail(id).attempts.into_iter().find(|attempt| attempt.failure.is_some())
    });
    let failure = attempt.failure.unwrap();
    assert_eq!((failure.cause, attempt.spent), (Cause::HandedBack, false));
    assert!(
        failure.message.contains("the secret `KEY`: its variable `TEST_KEY` is not set"),
        "{}",
        failure.message
    );
    assert_eq!(server.job(id).spent, 0);
    // No Machine goes for it, and none is made: the same one runs the other module.
    let more: Vec<JobId> = (0..5).map(|_| send(&server, "ask", "GET http://a.example/")).collect();
    assert_eq!(&server.result(server.enqueue("nap", json!(null)))[..], b"done");
    for id in more.into_iter().chain([id]) {
        let job = server.job(id);
        assert_eq!((job.spent, job.waits.unwrap().code.as_str()), (0, "module_lacks"));
    }
    let modules = server.midge(&["modules"]).output().unwrap();
    let said = String::from_utf8_lossy(&modules.stdout).into_owned();
    assert!(said.contains("no, Machines lack the secret `KEY`"), "{said}");
    // Each job of a list says why, and none of them what is to be done: one that is shown does.
    let said = run(server.midge(&["jobs"]), b"").ok();
    assert!(
        said.text().contains("Machines lack the secret `KEY`: its variable `TEST_KEY` is not set"),
        "{}",
        said.text()
    );
    assert!(!said.text().contains("fly secrets set"), "{}", said.text());
    let said = run(server.midge(&["jobs", "show", &id.to_string()]), b"").ok();
    assert_eq!(said.text().matches("fly secrets set").count(), 1, "{}", said.text());
    assert_eq!(server.detail(id).attempts[0].machine, server.machines()[0].name);
    assert_eq!(server.machines().len(), 1, "{:?}", server.machines());
}

#[test]
fn of_a_secret_that_is_too_short_it_is_told_wherever_one_looks() {
    let site = Site::saying("hello");
    let reach = format!("http = [\"{0}\"]\nsecrets = {{ KEY = [\"{0}\"] }}", site.url());
    let modules = Modules::of_guests("[secrets.KEY]\nenv = \"TEST_KEY\"", &[ask("ask", &reach)]);
    let server = Server::start_with(&modules, &[], &[("TEST_KEY", " ab\n")]);
    let id = send(&server, "ask", "GET http://a.example/");
    let waits = eventually("it is held", || {
        server.job(id).waits.filter(|waits| waits.code == "module_lacks").map(|waits| waits.text)
    });
    let why = "`TEST_KEY` holds 2 bytes beside 2 of white space at its ends, and a secret has 4 to 8192";
    assert!(waits.contains(why), "{waits}");
    for command in [&["modules"][..], &["jobs", "show", &id.to_string()]] {
        let output = server.midge(command).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains(why), "{command:?}: {said}");
    }
    assert!(site.asked().is_empty());
}

#[test]
fn a_redirect_is_followed_where_the_module_may_go_and_nowhere_else() {
    let other = Site::saying("not here");
    let elsewhere = other.url();
    let site = Site::start(move |asked, stream| match asked.path() {
        "/here" => say(stream, "302 Found\r\nlocation: /end", ""),
        "/away" => say(stream, &format!("302 Found\r\nlocation: {elsewhere}/"), ""),
        "/round" => say(stream, "302 Found\r\nlocation: /round", ""),
        _ => say(stream, "200 OK", "the end"),
    });
    let server = asking(&site);
    let got = answer(&server, &format!("GET {}/here", site.url()));
    assert!(got.starts_with(&format!("200 {}/end\n", site.url())) && got.ends_with("the end"), "{got}");
    assert_eq!(failure(&server, &format!("GET {}/away", site.url())).exit_code, Some(1));
    assert_eq!(failure(&server, &format!("GET {}/round", site.url())).exit_code, Some(10));
    assert!(other.asked().is_empty());
}

#[test]
fn a_cancel_and_a_deadline_end_a_request_at_once_and_its_neighbours_go_on() {
    let (gone, ends) = mpsc::channel();
    let site = Site::start(move |asked, stream| {
        if asked.path() == "/never" {
            // Until the other side is gone.
            let _ = stream.read(&mut [0]);
            gone.send(()).unwrap();
        } else {
            say(stream, "200 OK", "at once");
        }
    });
    let reach = format!("http = [\"{}\"]", site.url());
    let modules = Modules::of_guests(
        "[queues.default]\nmax_machines = 1\njobs_per_machine = 3",
        &[ask("ask", &reach), ask("short", &format!("{reach}\ntime_limit = \"200ms\""))],
    );
    let server = Server::start(&modules);
    let stuck = send(&server, "ask", &format!("GET {}/never", site.url()));
    eventually("it was asked", || (!site.asked().is_empty()).then_some(()));
    for _ in 0..10 {
        assert!(answer(&server, &format!("GET {}/", site.url())).ends_with("at once"));
    }
    let short = server.ended(send(&server, "short", &format!("GET {}/never", site.url()))).job;
    assert_eq!(short.failure.unwrap().cause, Cause::OverTime);
    ends.recv().unwrap();
    block_on(server.client().cancel(stuck)).unwrap();
    assert_eq!(server.ended(stuck).job.state, State::Cancelled);
    ends.recv().unwrap();
    assert_eq!(server.machines().len(), 1, "it is the same Machine all the time");
}

#[test]
fn a_network_program_that_is_killed_costs_its_requests_an_attempt_and_no_more() {
    let site = Site::start(|asked, stream| {
        if asked.header("x-attempt") == Some("1") && asked.path() == "/" {
            let _ = stream.read(&mut [0]);
        } else {
            say(stream, "200 OK", "here");
        }
    });
    let server = asking(&site);
    let stuck = send(&server, "ask", &format!("GET {}/\nx-attempt: 1", site.url()));
    eventually("it was asked", || (!site.asked().is_empty()).then_some(()));
    let programs = descendants(server.pid(), "midge-net");
    assert_eq!(programs.len(), 1);
    kill(programs[0]);
    let failure = server.ended(stuck).job.failure.unwrap();
    assert_eq!(failure.exit_code, Some(5), "{failure:?}");
    assert!(failure.message.contains("the program that has the network is gone"), "{}", failure.message);
    assert!(answer(&server, &format!("GET {}/after", site.url())).ends_with("here"));
}

#[test]
fn no_answer_makes_a_host_hold_more_than_its_bound() {
    let site = Site::start(|asked, stream| {
        use std::io::Write;
        let _ = match asked.path() {
            "/headers" => {
                let line = format!("x-{}: {}\r\n", "n".repeat(100), "v".repeat(1_000));
                let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\n");
                while sent.is_ok() {
                    sent = stream.write_all(line.as_bytes());
                }
                sent
            }
            "/garbage" => stream.write_all(b"\x00\xff\x13 this is no HTTP\r\n\r\n"),
            "/short" => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nshort"),
            _ => stream.write_all(b""),
        };
        let _ = stream.shutdown(std::net::Shutdown::Both);
    });
    let server = asking(&site);
    for (path, code) in [("/headers", 8), ("/garbage", 9), ("/short", 5), ("/nothing", 5)] {
        let failure = failure(&server, &format!("GET {}{path}", site.url()));
        assert_eq!(failure.exit_code, Some(code), "{path}: {}", failure.message);
    }
    let refused = failure(&asking(&site), "nonsense");
    assert_eq!(refused.exit_code, Some(2), "{}", refused.message);
}

#[test]
fn that_a_module_may_do_more_than_in_another_build_is_an_exit_code_for_who_asks() {
    let with = |http: &str| Modules::of_guests("", &[ask("ask", &format!("http = [{http}]"))]);
    let old = with("\"https://a.example\"");
    let more = with("\"https://a.example\", \"https://b.example\"");
    let differ = |new: &Modules, old: &Modules, flags: &[&str]| {
        let [new, old] = [new, old].map(|modules| modules.dir().display().to_string());
        run(midge(&[&["capabilities", &new, "--diff", &old], flags].concat()), b"")
    };
    let said = differ(&more, &old, &["--exit-code"]).fails(7, &[]);
    assert!(
        said.text().starts_with("+ ask: ") && said.text().contains("https://b.example"),
        "{}",
        said.text()
    );
    differ(&more, &old, &["--exit-code", "--json"]).fails(7, &[]);
    differ(&more, &old, &[]).ok();
    differ(&old, &old, &["--exit-code"]).ok();
    let less = differ(&old, &more, &["--exit-code"]).ok();
    assert!(
        less.text().starts_with("- ask: "),
        "what it may not do any more is nothing new: {}",
        less.text()
    );
    let nowhere = Files::new().path("nowhere").display().to_string();
    run(midge(&["capabilities", &nowhere, "--diff", &nowhere, "--exit-code"]), b"")
        .fails(1, &["cannot read"]);
    run(midge(&["capabilities", "--exit-code"]), b"").fails(2, &["--diff"]);
}
