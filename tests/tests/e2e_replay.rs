//! Jobs that failed are pulled from a server and run again here, with the modules of then and with mended ones.

use std::collections::BTreeSet;
use std::path::Path;

use midge_protocol::JobId;
use midge_protocol::api::EnqueueRequest;
use midge_protocol::job::State;
use midge_tests::support::{
    FOUR, Files, Guest, Modules, Ran, Server, Site, host_program, midge, request, run, run_unread,
};
use serde_json::{Value, json};

const TWO: &str = "(param i32 i32) (result i32)";

/// Exits with a code that hangs on chance and on the clock, of which a recording has both.
fn broken() -> Guest {
    let imports = [
        ("clock_time_get", "(param i32 i64 i32) (result i32)"),
        ("random_get", TWO),
        ("proc_exit", "(param i32)"),
    ];
    let start = "
        (drop (call $clock_time_get (i32.const 0) (i64.const 1) (i32.const 0)))
        (drop (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 8)))
        (drop (call $random_get (i32.const 16) (i32.const 4)))
        (call $proc_exit (i32.add (i32.const 100) (i32.and (i32.const 127)
            (i32.add (i32.load (i32.const 0)) (i32.add (i32.load (i32.const 8)) (i32.load (i32.const 16)))))))";
    Guest::new("report", &imports, "", start).settings("max_attempts = 1\nenv = [\"SHOP_NAME\"]")
}

/// Says eight letters of chance on stderr, makes a request to a site, and fails.
fn charges(site: &Site) -> Guest {
    let imports = [
        ("fd_write", FOUR),
        ("random_get", TWO),
        ("proc_exit", "(param i32)"),
        ("midge.http_open", "(param i32 i32 i32 i64) (result i32)"),
        ("midge.http_send", "(param i32) (result i32)"),
    ];
    let head = format!("GET {}/charge", site.url());
    let start = format!(
        "(drop (call $random_get (i32.const 16) (i32.const 8)))
        (i64.store (i32.const 16) (i64.or (i64.const 0x4040404040404040)
            (i64.and (i64.const 0x0f0f0f0f0f0f0f0f) (i64.load (i32.const 16)))))
        (i32.store (i32.const 200) (i32.const 16)) (i32.store (i32.const 204) (i32.const 8))
        (drop (call $fd_write (i32.const 2) (i32.const 200) (i32.const 1) (i32.const 208)))
        (drop (call $http_send (call $http_open (i32.const 300) (i32.const {}) (i32.const 0) (i64.const 0))))
        (call $proc_exit (i32.const 3))",
        head.len()
    );
    Guest::new("charges", &imports, &format!("(data (i32.const 300) \"{head}\")"), &start)
        .settings(&format!("max_attempts = 1\nhttp = [\"{}\"]", site.url()))
}

/// Runs until it is stopped, which its module lets it for long.
fn spins() -> Guest {
    Guest::new("spins", &[], "", "(loop $on (br $on))").settings("max_attempts = 1\ntime_limit = \"10m\"")
}

fn mended() -> Guest {
    let start = "(i32.store (i32.const 200) (i32.const 300)) (i32.store (i32.const 204) (i32.const 4))
        (drop (call $fd_write (i32.const 1) (i32.const 200) (i32.const 1) (i32.const 208)))";
    Guest::new("report", &[("fd_write", FOUR)], "(data (i32.const 300) \"done\")", start)
}

/// Makes a request, and then is stopped at its time limit.
fn asks() -> Guest {
    let imports = [
        ("midge.http_open", "(param i32 i32 i32 i64) (result i32)"),
        ("midge.http_send", "(param i32) (result i32)"),
    ];
    let head = "(data (i32.const 300) \"GET http://a.example/\")";
    let start = "
        (drop (call $http_send (call $http_open (i32.const 300) (i32.const 21) (i32.const 0) (i64.const 0))))
        (loop $on (br $on))";
    Guest::new("asks", &imports, head, start).settings("max_attempts = 1\ntime_limit = \"200ms\"")
}

fn recorded(guests: &[Guest]) -> Modules {
    Modules::of_guests("[queues.default]\nrecord = true\n[queues.plain]\nmax_machines = 1", guests)
}

fn replay(server: &Server, args: &[&str], modules: &Modules) -> Ran {
    let modules = modules.dir().display().to_string();
    run(server.midge(&[&["replay"], args, &["--modules", &modules]].concat()), b"")
}

fn discarded(server: &Server, id: JobId) -> i32 {
    let job = server.ended(id).job;
    assert_eq!(job.state, State::Discarded);
    job.failure.unwrap().exit_code.unwrap_or_default()
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_job_that_failed_is_pulled_and_run_again_with_the_module_of_then_and_with_a_mended_one() {
    let old = recorded(&[broken()]);
    let server = Server::start(&old);
    let id = server.enqueue("report", json!({"month": 11}));
    let code = discarded(&server, id);
    let files = Files::new();
    let folder = files.path("pulled").display().to_string();
    let pull = || run(server.midge(&["jobs", "pull", &id.to_string(), "--to", &folder]), b"");
    let ran = pull().ok();
    assert!(ran.stderr.contains(&format!("run it again with `midge replay {folder}`")), "{}", ran.stderr);
    assert_eq!(
        names(Path::new(&folder)),
        ["args.json", "job.json", "recording.json"].map(str::to_owned).into()
    );
    pull().fails(1, &["is not empty"]);
    let about: Value =
        serde_json::from_slice(&std::fs::read(Path::new(&folder).join("job.json")).unwrap()).unwrap();
    assert_eq!(
        (&about["id"], &about["attempt"], &about["failure"]["exit_code"]),
        (&json!(id), &json!(1), &json!(code))
    );
    let served = &old.manifest().modules["report"];
    assert_eq!(
        (&about["sha256"], &about["source_sha256"]),
        (&json!(served.sha256), &json!(served.source_sha256))
    );

    let again = replay(&server, &[&folder], &old).fails(code, &[]);
    assert!(again.text().contains("it would fail as it did"), "{}", again.text());
    let again = ["replay", &folder, "--modules", &old.dir().display().to_string()];
    run_unread(server.midge(&again)).fails(code, &[]);
    let mended_modules = recorded(&[mended()]);
    let completes = replay(&server, &[&folder], &mended_modules).ok();
    assert!(completes.text().ends_with("it would complete\n"), "{}", completes.text());
    assert!(
        completes.text().contains(&format!("then  exit: exited with code {code}")),
        "{}",
        completes.text()
    );

    // Without a folder of modules it builds the project's.
    let project = Files::new();
    project.write("report.wasm", mended().wasm());
    project.write("midge.toml", "[modules.report]\nwasm = \"report.wasm\"\n");
    let at = project.dir().display().to_string();
    run(midge(&["replay", &folder, "--project", &at]), b"").ok();
    // The server runs what it began with, and whoever asks it to try again hears that where he has built another.
    run(midge(&["build", &at]), b"").ok();
    let retry = |from: &Path| {
        let mut retry = server.midge(&["jobs", "retry", &id.to_string()]);
        retry.current_dir(from);
        let said = run(retry, b"").ok().stderr;
        discarded(&server, id);
        said
    };
    let said = retry(project.dir());
    assert!(said.contains("`report` runs as the server has it, which is not the build in"), "{said}");
    assert_eq!(retry(files.dir()), "", "nobody knows of another build there");
    project.write("midge.toml", "[modules.reports]\nwasm = \"report.wasm\"\n");
    run(midge(&["replay", &folder, "--project", &at]), b"").fails(1, &["did you mean `reports`?"]);
    run(midge(&["replay", &at]), b"").fails(1, &["there is no", "`midge jobs pull` wrote"]);
    run(midge(&["replay"]), b"").fails(2, &[]);
}

#[test]
fn a_dead_set_is_replayed_and_it_is_said_how_many_would_complete() {
    let old = recorded(&[broken(), asks()]);
    let server = Server::start(&old);
    let reports: Vec<JobId> = (0..3).map(|_| server.enqueue("report", json!(null))).collect();
    let unrecorded = server.enqueue_in("plain", "asks", json!(null));
    for id in &reports {
        discarded(&server, *id);
    }
    discarded(&server, unrecorded);

    let counts = |args: &[&str], modules: &Modules| {
        let ran = replay(&server, &[&["--state", "discarded", "--json"], args].concat(), modules);
        let said: Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{}", ran.stderr));
        (ran.code, said["counts"].clone(), said["more"].clone())
    };
    let all_mended = recorded(&[mended(), asks()]);
    let of_old = json!({"fails_alike": 3, "not_recorded": 1});
    assert_eq!(counts(&[], &old), (Some(1), of_old, json!(false)));
    let of_mended = json!({"completes": 3, "not_recorded": 1});
    assert_eq!(counts(&[], &all_mended), (Some(1), of_mended, json!(false)));
    let ran = replay(&server, &["--state", "discarded", "--module", "report", "--json"], &old);
    let said: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let ids: Vec<&Value> = said["jobs"].as_array().unwrap().iter().map(|job| &job["id"]).collect();
    // They ran side by side, and a list of discarded ones has those first that failed last.
    let listed =
        run(server.midge(&["jobs", "list", "--state", "discarded", "--module", "report", "--json"]), b"")
            .ok();
    let listed: Value = serde_json::from_str(listed.text()).unwrap();
    let listed: Vec<&Value> = listed["jobs"].as_array().unwrap().iter().map(|job| &job["id"]).collect();
    assert_eq!((ids.len(), ids), (reports.len(), listed));
    assert_eq!(ran.stderr.matches("`SHOP_NAME` is not set here: guests of `report` do without").count(), 1);
    let of_reports = json!({"completes": 3});
    assert_eq!(counts(&["--module", "report"], &all_mended), (Some(0), of_reports, json!(false)));
    assert_eq!(
        counts(&["--limit", "1", "--module", "report"], &all_mended),
        (Some(0), json!({"completes": 1}), json!(true))
    );

    let said = replay(&server, &["--state", "discarded"], &all_mended).fails(1, &[]);
    for text in
        ["4 jobs", "     3 would complete", "     1 not replayed: make requests", &unrecorded.to_string()]
    {
        assert!(said.text().contains(text), "`{text}` is not in:\n{}", said.text());
    }
    let unread = |modules: &Modules| {
        let modules = modules.dir().display().to_string();
        run_unread(server.midge(&["replay", "--module", "report", "--modules", &modules])).code
    };
    assert_eq!((unread(&old), unread(&all_mended)), (Some(1), Some(0)), "whoever reads it");
    replay(&server, &["--state", "completed"], &all_mended).fails(6, &["there are no such jobs"]);
    let none = replay(&server, &["--module", "reports", "--json"], &all_mended)
        .fails(6, &["there is no module `reports`", "did you mean `report`?"]);
    let said: Value = serde_json::from_slice(&none.stdout).unwrap();
    assert_eq!(said, json!({"counts": {}, "jobs": [], "more": false}));
    reports
        .iter()
        .for_each(|id| assert_eq!(server.job(*id).state, State::Discarded, "nothing changes there"));
}

#[test]
fn requests_are_made_once_more_only_where_somebody_says_so_and_then_by_the_time_and_the_chance_of_now() {
    let site = Site::saying("charged");
    let modules = recorded(&[charges(&site)]);
    let server = Server::start(&modules);
    let id = server.enqueue("charges", json!(null));
    assert_eq!((discarded(&server, id), site.asked().len()), (3, 1));
    let shown = run(server.midge(&["jobs", "show", &id.to_string()]), b"").ok();
    let request =
        shown.text().lines().find(|line| line.contains(&site.url())).expect("it is listed").to_owned();
    let words: Vec<&str> = request.split_whitespace().take(4).collect();
    assert_eq!(words, ["1", "GET", &site.url(), "200"]);
    assert!(!shown.text().contains("/charge"), "{}", shown.text());
    let files = Files::new();
    let folder = files.path("pulled").display().to_string();
    run(server.midge(&["jobs", "pull", &id.to_string(), "--to", &folder]), b"").ok();
    let letters = |args: &[&str]| {
        let ran = replay(&server, &[&[folder.as_str()], args].concat(), &modules).fails(3, &[]);
        ran.stderr[..8].to_owned()
    };
    assert_eq!(letters(&[]), letters(&[]));
    assert_eq!(site.asked().len(), 1, "a recording answers");
    for args in [&[&*folder, "--live"][..], &["--state", "discarded", "--live"]] {
        replay(&server, args, &modules).fails(1, &["there is nobody to ask", "say so with --yes"]);
    }
    assert_eq!(site.asked().len(), 1);
    let host = host_program().display().to_string();
    let live = ["--live", "--yes", "--host-program", host.as_str()];
    let drawn: BTreeSet<String> = [letters(&[]), letters(&live), letters(&live)].into();
    assert_eq!((drawn.len(), site.asked().len()), (3, 3), "{drawn:?}");
    replay(&server, &[&folder, "--yes"], &modules).fails(2, &["--live"]);
}

#[test]
fn a_recording_that_no_attempt_can_have_left_is_refused_by_the_name_of_its_part() {
    let site = Site::saying("charged");
    let modules = recorded(&[charges(&site)]);
    let server = Server::start(&modules);
    let id = server.enqueue("charges", json!(null));
    discarded(&server, id);
    let files = Files::new();
    let folder = files.path("pulled").display().to_string();
    run(server.midge(&["jobs", "pull", &id.to_string(), "--to", &folder]), b"").ok();
    let file = std::path::Path::new(&folder).join("recording.json");
    let whole: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let refused = |pointer: &str, value: serde_json::Value, says: &str| {
        let mut edited = whole.clone();
        *edited.pointer_mut(pointer).unwrap() = value;
        std::fs::write(&file, edited.to_string()).unwrap();
        let said =
            replay(&server, &[&folder], &modules).fails(1, &["recording.json is not a recording", says]);
        assert!(!said.stderr.contains("--live"), "{}", said.stderr);
    };
    refused("/requests/0/answer/status", json!(0), "`requests[0]`: `answer`: `status` is 0");
    refused("/requests/0/answer/status", json!("ok"), "`requests[0].answer.status` must be a whole number");
    refused("/requests/0/method", json!("GE T"), "`requests[0]`: `method` is `GE T`, which is none");
    refused("/requests/0/answer/headers", json!([["x", "a\r\nb: c"]]), "`headers[0]`, `x`, has a line's end");
    refused("/requests/0/answer/body", json!("longer than it was"), "and `body` has 18: edit both");
    std::fs::write(&file, whole.to_string()).unwrap();
    replay(&server, &[&folder], &modules).fails(3, &[]);
}

#[test]
fn a_time_limit_of_the_jobs_own_counts_in_a_replay_too() {
    let modules = recorded(&[spins()]);
    let server = Server::start(&modules);
    let id = server.send(&EnqueueRequest { time_limit_ms: Some(50), ..request("spins", json!(null)) });
    discarded(&server, id);
    let said = replay(&server, &["--module", "spins"], &modules).fails(1, &[]);
    assert!(said.text().contains("     1 fail as they did"), "{}", said.text());
    assert!(said.text().contains("ran past its time limit of 0.05 s"), "{}", said.text());
}
