//! The `midge` command, as a person or a script uses it, and the page that a server shows.

use std::io::Cursor;
use std::time::Duration;

use image::{ImageFormat, RgbImage};
use midge_protocol::JobId;
use midge_protocol::api::JobFilter;
use midge_protocol::job::State;
use midge_tests::support::{
    Files, Guest, Modules, Server, block_on, cargo, eventually, guest_toolchain, guests_target, host_program,
    http, midge, request, run, run_unread,
};
use serde_json::{Value, json};

fn server() -> Server {
    Server::start(&Modules::examples())
}

/// Runs `midge` with arguments for a server, and stdin.
fn command(server: &Server, args: &[&str], stdin: &[u8]) -> midge_tests::support::Ran {
    run(server.midge(args), stdin)
}

#[test]
fn enqueue_prints_the_id_and_with_wait_the_result_to_the_byte() {
    let server = server();
    let hello = ["enqueue", "hello", "--args", r#"{"name": "you"}"#];
    let ran = command(&server, &hello, b"").ok();
    let id: JobId = ran.text().trim_end().parse().unwrap();
    assert_eq!(&server.result(id)[..], br#"{"greeting":"Hello, you!"}"#);

    let mut photo = Cursor::new(Vec::new());
    RgbImage::new(64, 48).write_to(&mut photo, ImageFormat::Png).unwrap();
    let files = Files::new();
    let photo = files.write("photo.png", photo.into_inner()).display().to_string();
    let args = files.write("args.json", r#"{"width": 32}"#).display().to_string();
    let ran = command(
        &server,
        &["enqueue", "resize", "--args", &format!("@{args}"), "--input", &photo, "--wait"],
        b"",
    );
    let ran = ran.ok();
    let small = image::load_from_memory_with_format(&ran.stdout, ImageFormat::Png).unwrap();
    assert_eq!((small.width(), small.height()), (32, 24));
    // Who is interrupted while waiting knows the job.
    let id = ran.stderr.strip_prefix("job ").expect("the id comes first").trim_end();
    assert!(command(&server, &["jobs", "result", id], b"").ok().stdout == ran.stdout, "{}", ran.stderr);

    let counted = command(&server, &["enqueue", "wordcount", "--input", "-", "--wait"], b"a b\nc\n").ok();
    assert_eq!(counted.text(), r#"{"lines":2,"words":3,"bytes":6}"#);
}

#[test]
fn what_has_no_such_name_or_nothing_to_do_is_said() {
    let server = server();
    let batch = "0190b3e4-7d5c-7c3a-9f00-0123456789ab";
    command(&server, &["queues", "resume", "defualt"], b"").fails(1, &["did you mean `default`?"]);
    assert_eq!(
        command(&server, &["queues", "resume", "default"], b"").ok().text(),
        "default was not paused\n"
    );
    assert_eq!(command(&server, &["modules", "resume", "hello"], b"").ok().text(), "hello was not paused\n");
    command(&server, &["modules", "pause", "hello", "--wait"], b"").ok();
    assert_eq!(command(&server, &["modules", "resume", "hello"], b"").ok().text(), "hello goes on\n");
    let says = "there is no Machine `nope`: `midge machines` lists those that there are";
    command(&server, &["machines", "drain", "nope"], b"").fails(1, &[says]);
    let none = command(&server, &["jobs", "--batch", batch], b"").ok();
    assert!(none.stderr.contains(&format!("there is no batch {batch}")), "{}", none.stderr);
}

#[test]
fn enqueue_with_wait_says_what_failed_on_stderr_and_in_its_exit_code() {
    let server = server();
    let flaky = ["enqueue", "flaky", "--args", r#"{"failures": 9}"#, "--max-attempts", "1", "--wait"];
    let ran =
        command(&server, &flaky, b"").fails(3, &["flaky was discarded: exit: attempt 1 fails, as 9 should"]);
    assert!(ran.stdout.is_empty());
    command(&server, &["enqueue", "spin", "--wait"], b"").fails(3, &["over_time", "0.7 s"]);
    let slow = ["enqueue", "spin", "--time-limit", "1h", "--wait", "--timeout", "200ms"];
    command(&server, &slow, b"").fails(5, &["it goes on", "midge jobs wait"]);
    let later = server.send(&request("plain", json!([1])).delay(Duration::from_secs(3600))).to_string();
    command(&server, &["jobs", "cancel", &later], b"").ok();
    command(&server, &["jobs", "wait", &later], b"").fails(4, &["plain was cancelled"]);

    // Each attempt that fails is told while it goes on.
    let twice = ["enqueue", "flaky", "--args", r#"{"failures": 2, "retry_after_ms": 1}"#, "--wait"];
    let ran = command(&server, &twice, b"").ok();
    assert_eq!(ran.text(), r#"{"attempt":3}"#);
    for number in [1, 2] {
        let line = format!("attempt {number} failed: exit: attempt {number} fails, as 2 should; tried again");
        assert!(ran.stderr.contains(&line), "`{line}` is not in {}", ran.stderr);
    }
}

#[test]
fn enqueue_can_be_repeated_delayed_and_given_many_jobs() {
    let server = server();
    let id = "0190b3e4-7d5c-7c3a-9f00-0123456789ab";
    let later = ["enqueue", "plain", "--id", id, "--in", "1h", "--json"];
    let enqueued = |new: bool| json!({"id": id, "new": new});
    for new in [true, false] {
        let answer: Value = serde_json::from_str(command(&server, &later, b"").ok().text()).unwrap();
        assert_eq!(answer, enqueued(new));
    }
    assert_eq!(server.job(id.parse().unwrap()).state, State::Scheduled);
    command(&server, &["enqueue", "plain", "--id", id], b"").fails(1, &["other content"]);

    let lines: String = (0..2_500)
        .map(|n| format!("{{\"module\": \"plain\", \"args\": {n}, \"in_ms\": 3600000}}\n"))
        .collect();
    let ran = command(&server, &["enqueue", "--jsonl", "-"], lines.as_bytes()).ok();
    assert_eq!(ran.text().lines().count(), 2_500);
    assert!(ran.stderr.contains("2,500 jobs") || ran.stderr.contains("2500 jobs"), "{}", ran.stderr);
    let bad = command(&server, &["enqueue", "--jsonl", "-"], b"{\"module\": \"plain\"}\n{\"modul\": 1}\n");
    bad.fails(1, &["line 2", "modul"]);
    let queues: Value =
        serde_json::from_str(command(&server, &["queues", "--json"], b"").ok().text()).unwrap();
    let default =
        queues["queues"].as_array().unwrap().iter().find(|queue| queue["name"] == "default").unwrap();
    assert_eq!(
        default["jobs"]["scheduled"], 2_501,
        "the lines before a bad one of the same batch are not there"
    );
}

#[test]
fn jobs_shows_waits_cancels_and_retries() {
    let server = server();
    command(&server, &["jobs"], b"").ok();
    let flaky = server.enqueue("flaky", json!({"failures": 1, "retry_after_ms": 1}));
    let spin = server.enqueue("spin", Value::Null);
    let later = server.send(
        &midge_tests::support::request("plain", json!([1])).delay(std::time::Duration::from_secs(3600)),
    );
    for id in [flaky, spin] {
        server.ended(id);
    }
    let text = |args: &[&str]| command(&server, &[&["jobs"], args].concat(), b"").ok().text().to_owned();
    let [flaky, spin, later] = [flaky, spin, later].map(|id| id.to_string());

    assert!(text(&["show", &later]).contains("scheduled "));
    let list = text(&[]);
    for part in [&flaky[..], &spin, &later, "completed", "discarded", "scheduled", "over_time"] {
        assert!(list.contains(part), "`{part}` is not in:\n{list}");
    }
    assert!(!text(&["--state", "discarded"]).contains(&flaky));
    let page: Value = serde_json::from_str(&text(&["--module", "flaky", "--json"])).unwrap();
    assert_eq!((page["jobs"].as_array().unwrap().len(), &page["jobs"][0]["id"]), (1, &json!(flaky)));

    let shown = text(&["show", &flaky]);
    assert!(shown.contains("2 of 5 spent") && shown.contains("attempt 1 fails, as 1 should"), "{shown}");
    assert!(text(&["log", &flaky, "--attempt", "1"]).contains("attempt 1 fails"));
    assert_eq!(text(&["result", &flaky]), r#"{"attempt":2}"#);
    assert_eq!(text(&["wait", &flaky]), r#"{"attempt":2}"#);
    command(&server, &["jobs", "wait", &spin], b"").fails(3, &["over_time"]);
    command(&server, &["jobs", "result", &spin], b"").fails(1, &["is discarded and has no result"]);
    command(&server, &["jobs", "log", &spin, "--attempt", "9"], b"").fails(1, &["has no attempt 9"]);
    for (flag, name, says) in
        [("--module", "flakey", "did you mean `flaky`?"), ("--queue", "unrully", "`unruly`?")]
    {
        for verb in [&["jobs"][..], &["jobs", "retry", "--state", "discarded"]] {
            let none = command(&server, &[verb, &[flag, name]].concat(), b"").ok();
            assert!(none.stderr.contains(says), "{}", none.stderr);
        }
    }

    assert!(text(&["cancel", &later]).contains("cancelled"));
    command(&server, &["jobs", "cancel", &later], b"").fails(1, &["cancelled already"]);
    assert!(text(&["retry", &later]).contains(&later));
    assert_eq!(text(&["wait", &later]), r#"{"module":"plain","args":[1],"input_bytes":3}"#);
    let retried = command(&server, &["jobs", "retry", "--state", "discarded"], b"").ok();
    assert!(retried.stderr.contains("retried 1 job"), "{}", retried.stderr);
    assert_eq!(server.ended(spin.parse().unwrap()).attempts.len(), 2);

    let shown: Value = serde_json::from_str(&text(&["show", &later, "--json"])).unwrap();
    assert_eq!(shown["args"], json!([1]));
    assert_eq!(text(&["delete", &spin]).trim_end(), format!("{spin} is deleted"));
    command(&server, &["jobs", "delete", &spin], b"").fails(1, &["there is no job"]);
    let nobody = JobId::generate().to_string();
    command(&server, &["jobs", "show", &nobody], b"").fails(1, &["there is no job"]);
    command(&server, &["jobs", "show", "7"], b"").fails(2, &["UUID"]);
}

#[test]
fn jobs_are_found_by_tag_and_failure_and_acted_on_all_at_once() {
    let server = server();
    let run = |args: &[&str]| command(&server, args, b"").ok();
    let json =
        |args: &[&str]| -> Value { serde_json::from_str(run(&[args, &["--json"]].concat()).text()).unwrap() };
    let fails = r#"{"failures": 1000, "retry_after_ms": 1}"#;
    let enqueue =
        ["enqueue", "flaky", "--tag", "blue", "--meta", "by=Ada", "--max-attempts", "2", "--args", fails];
    let ours = [(); 2].map(|()| run(&enqueue).text().trim().to_owned());
    run(&["enqueue", "plain", "--tag", "red", "--in", "1h"]);
    for id in &ours {
        assert_eq!(server.ended(id.parse().unwrap()).job.state.to_string(), "discarded");
    }
    let shown = run(&["jobs", "show", &ours[0]]);
    assert!(shown.text().contains("blue") && shown.text().contains("by=Ada"), "{}", shown.text());
    assert_eq!(json(&["jobs", "count", "--tag", "blue"]), json!({"jobs": 2, "exact": true}));
    // Attempt 1 fails as attempt 2 does: they are alike, whatever their numbers.
    let groups = json(&["failures", "--module", "flaky"]);
    assert_eq!(
        (groups["failures"].as_array().unwrap().len(), &groups["failures"][0]["count"]),
        (1, &json!(4))
    );
    let fingerprint = groups["failures"][0]["fingerprint"].as_str().unwrap().to_owned();
    assert!(run(&["failures"]).text().contains(&fingerprint));
    assert!(run(&["failures", "show", &fingerprint]).text().contains("flaky"));
    let found = json(&["jobs", "--failure", &fingerprint, "--failed-since", "1h", "--text", "fails"]);
    assert_eq!(found["jobs"].as_array().unwrap().len(), 2);
    let dry_run = run(&["failures", "retry", &fingerprint, "--dry-run"]);
    assert!(dry_run.text().starts_with("would retry: 2 jobs"), "{}", dry_run.text());
    assert!(run(&["failures", "retry", &fingerprint]).stderr.contains("retried 2 jobs"));
    for id in &ours {
        assert_eq!(server.ended(id.parse().unwrap()).attempts.len(), 4);
    }
    assert!(run(&["jobs", "priority", "-5", "--tag", "red"]).stderr.contains("gave priority -5 to 1 job"));
    assert!(run(&["jobs", "delete", "--failure", &fingerprint]).stderr.contains("deleted 2 jobs"));
    assert!(run(&["jobs", "cancel", "--tag", "blue"]).stderr.contains("there are no such jobs"));
    assert_eq!(json(&["sweeps"])["sweeps"].as_array().unwrap().len(), 4);
    let shown = run(&["sweeps", "show", "3"]);
    assert!(shown.text().contains("delete") && shown.text().contains(&fingerprint), "{}", shown.text());
    command(&server, &["sweeps", "show", "9"], b"").fails(1, &["there is no sweep 9"]);
    let unknown = ["failures", "retry", "deadbeefdeadbeef"];
    command(&server, &unknown, b"").fails(1, &["no failure deadbeefdeadbeef was seen"]);
    command(&server, &["jobs", "--tag", "a\u{202e}"], b"").fails(2, &["text that can be seen"]);
    command(&server, &["jobs", "--cause", "Trap"], b"").fails(2, &["did you mean `trap`?"]);
    let key = ["enqueue", "plain", "--key", "a\u{202e}b"];
    command(&server, &key, b"").fails(1, &["`--key` holds U+202E at byte 1"]);
    command(&server, &["jobs", "cancel", "--json"], b"").fails(2, &["required"]);
}

#[test]
fn listings_are_tables_for_people_and_json_for_programs() {
    let server = server();
    server.run("hello", json!({"name": "x"}));
    let machines = command(&server, &["machines"], b"").ok();
    assert!(machines.text().contains("NAME") && machines.text().contains("midge-"), "{}", machines.text());
    let machines: Value =
        serde_json::from_str(command(&server, &["machines", "--json"], b"").ok().text()).unwrap();
    assert_eq!(machines["machines"][0]["attempts"], 1);
    let queues = command(&server, &["queues"], b"").ok();
    assert!(queues.text().contains("default") && queues.text().contains("unruly"), "{}", queues.text());
}

#[test]
fn what_nobody_reads_changes_no_verdict_and_what_was_cut_is_no_success() {
    let server = server();
    let unread = |args: &[&str]| run_unread(server.midge(args));
    let flaky = server.enqueue("flaky", json!({"failures": 9, "retry_after_ms": 1})).to_string();
    let hello = server.enqueue("hello", json!({"name": "you"})).to_string();
    for id in [&flaky, &hello] {
        server.ended(id.parse().unwrap());
    }
    // What only shows something has not shown it.
    for args in [
        &["jobs"][..],
        &["jobs", "list", "--json"],
        &["jobs", "show", &flaky],
        &["jobs", "result", &hello],
        &["jobs", "log", &flaky],
        &["jobs", "log", "-f", &flaky],
        &["jobs", "count"],
        &["queues"],
        &["modules", "--json"],
        &["machines"],
        &["completions", "bash"],
        &["help"],
        &["jobs", "--help"],
        &["--version"],
    ] {
        let ran = unread(args);
        assert_eq!((ran.code, &*ran.stderr), (Some(141), ""), "{args:?}");
    }
    // What does or judges something does it, and ends as it would with somebody who reads.
    unread(&["jobs", "wait", &hello]).ok();
    unread(&["jobs", "wait", &flaky, "--json"]).fails(3, &[]);
    let once =
        ["enqueue", "flaky", "--args", r#"{"failures": 9}"#, "--max-attempts", "1", "--wait", "--json"];
    unread(&once).fails(3, &[]);
    let bulk = Files::new();
    let lines = "{\"module\": \"plain\", \"in_ms\": 3600000}\n".repeat(2_500);
    let lines = bulk.write("jobs.jsonl", lines).display().to_string();
    unread(&["enqueue", "--jsonl", &lines]).ok();
    let plain = ["jobs", "count", "--module", "plain"];
    assert_eq!(command(&server, &plain, b"").ok().text(), "2500\n", "each line is a job");
    let ids = ["0190b3e4-7d5c-7c3a-9f00-0123456789ab", "0190b3e4-7d5c-7c3a-9f00-0123456789ac"];
    for id in ids {
        unread(&["enqueue", "plain", "--id", id, "--in", "1h"]).ok();
    }
    let no_job = "0190b3e4-7d5c-7c3a-9f00-0123456789ad";
    unread(&["jobs", "cancel", ids[0], no_job, ids[1]]).fails(1, &[no_job]);
    for id in ids {
        assert_eq!(server.job(id.parse().unwrap()).state, State::Cancelled, "all that were named are");
    }

    // A build whose modules may do more than another's.
    let less = Modules::of_guests("", &[Guest::new("nop", &[], "", "")]);
    let more = Guest::new("nop", &[], "", "").settings("http = [\"https://a.example\"]");
    let more = Modules::of_guests("", &[more]);
    let [less, more] = [&less, &more].map(|modules| modules.dir().display().to_string());
    unread(&["capabilities", &more]).fails(141, &[]);
    unread(&["capabilities", &more, "--diff", &less]).fails(141, &[]);
    unread(&["capabilities", &more, "--diff", &less, "--exit-code"]).fails(7, &[]);
    unread(&["capabilities", &less, "--diff", &more, "--exit-code", "--json"]).ok();
}

#[test]
fn help_and_completions_are_there_for_everything() {
    let commands = [
        "demo",
        "dev",
        "new",
        "build",
        "serve",
        "flylet",
        "enqueue",
        "jobs",
        "queues",
        "machines",
        "run",
        "completions",
    ];
    let help = run(midge(&["--help"]), b"").ok();
    for command in commands {
        assert!(help.text().contains(&format!("\n  {command} ")), "{}", help.text());
        assert!(run(midge(&[command, "--help"]), b"").ok().text().contains("Usage: midge "), "{command}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = run(midge(&["completions", shell]), b"").ok();
        assert!(script.text().contains("enqueue") && script.text().contains("jsonl"), "{shell}");
    }
    run(midge(&["enqueu"]), b"").fails(2, &["'enqueue'"]);
    run(midge(&[]), b"").fails(2, &["Usage"]);
}

#[test]
fn run_builds_one_module_and_gives_it_the_env_of_midge_toml() {
    let folder = Files::new();
    folder.write("shows.wasm", Guest::environment("shows").wasm());
    let shows = "[modules.shows]\nwasm = \"shows.wasm\"\nenv = [\"LOG\"]\n";
    let broken = "[modules.broken]\nwasm = \"nope.wasm\"\n";
    folder.write("midge.toml", format!("[env]\nLOG = \"info\"\n{shows}{broken}"));
    let mut command = midge(&["run", "shows"]);
    command.current_dir(folder.dir()).env("MIDGE_HOST", host_program()).env("LOG", "debug");
    let ran = run(command, b"").ok();
    assert!(ran.text().contains("LOG=info") && !ran.text().contains("debug"), "{}", ran.text());
}

#[test]
fn what_is_missing_on_a_command_line_is_said_without_what_variables_say() {
    let mut command = midge(&["jobs", "show"]);
    command.env("MIDGE_SERVER", "http://127.0.0.1:9").env("MIDGE_TOKEN", "t");
    let error = run(command, b"").fails(2, &["<ID>"]);
    assert!(!error.stderr.contains("--server") && !error.stderr.contains("--token"), "{}", error.stderr);
    let mut command = midge(&["queues"]);
    command.env("MIDGE_SERVER", "127.0.0.1:9");
    run(command, b"").fails(1, &["use http://127.0.0.1:9"]);
    run(midge(&["serve", "--listen", "localhost:7559"]), b"").fails(2, &["such as 127.0.0.1:7433"]);
}

#[test]
fn new_writes_a_job_that_builds_and_runs() {
    guest_toolchain();
    let folder = Files::new();
    let here = |args: &[&str]| {
        let mut command = midge(args);
        command.current_dir(folder.dir()).env("CARGO_TARGET_DIR", guests_target());
        command.env("MIDGE_HOST", host_program());
        run(command, b"")
    };
    here(&["new", "greet-new"]).ok();
    let built = here(&["build", "greet-new"]).ok();
    assert!(built.text().contains("greet-new"), "{}", built.text());
    assert!(here(&["build", "greet-new"]).ok().text().contains("unchanged"));
    let greet = ["run", "greet-new", "--project", "greet-new", "--args", r#"{"name": "you"}"#];
    let ran = here(&greet).ok();
    assert_eq!(ran.text(), r#"{"greeting":"Hello, you!"}"#);
    assert!(ran.stderr.contains("greeting you"), "{}", ran.stderr);
    let nobody = ["run", "greet-new", "--project", "greet-new", "--args", r#"{"name": ""}"#];
    here(&nobody).fails(65, &["there is nobody to greet"]);
    let mut test = cargo(&["test"]);
    test.current_dir(folder.path("greet-new")).env("CARGO_TARGET_DIR", guests_target());
    let tested = run(test, b"").ok();
    assert!(tested.text().contains("3 passed"), "{}", tested.text());

    here(&["new", "greet-new"]).fails(1, &["not empty"]);
    here(&["new", "match"]).fails(1, &["already means something to Rust"]);
    here(&["new", "../x"]).fails(2, &["a-z, 0-9"]);
}

#[test]
fn the_page_shows_jobs_and_machines_and_lets_a_visitor_retry() {
    let server = server();
    let spin = server.enqueue("spin", Value::Null);
    server.ended(spin);
    let host = server.url().replace("http://", "");
    let page = |path: &str| {
        let reply = http("GET", &format!("{}{path}", server.url()), &[("Host", &host)], b"");
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.text()
    };
    let overview = page("/");
    for part in ["Queues", "Machines", "unruly", &spin.to_string(), "over_time"] {
        assert!(overview.contains(part), "`{part}` is not in:\n{overview}");
    }
    let path = format!("/jobs/{spin}");
    assert!(page(&path).contains("ran past its time limit"));

    let form = |origin: &str| {
        let headers = [
            ("Host", host.as_str()),
            ("Origin", origin),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ];
        http("POST", &format!("{}{path}/retry", server.url()), &headers, b"").status
    };
    assert_eq!(form("http://evil.example"), 403);
    assert_eq!(server.detail(spin).attempts.len(), 1);
    assert_eq!(form(&server.url()), 303);
    assert_eq!(server.ended(spin).attempts.len(), 2);
}

#[test]
fn what_ended_longer_ago_than_it_is_kept_is_gone_and_what_waits_stays() {
    let mut server = Server::start_with(&Modules::examples(), &["--keep-ended", "0s"], &[]);
    let waiting = server.send(&request("hello", json!({"name": "x"})).delay(Duration::from_secs(3600)));
    let done = server.enqueue("hello", json!({"name": "x"}));
    server.ended(done);
    server.kill();
    server.start_again();
    let ids = eventually("the job that ended is deleted", || {
        let ids: Vec<JobId> = block_on(server.client().jobs(&JobFilter::default()))
            .unwrap()
            .jobs
            .iter()
            .map(|job| job.id)
            .collect();
        (!ids.contains(&done)).then_some(ids)
    });
    assert_eq!(ids, [waiting]);
}

#[test]
fn a_batch_of_a_files_jobs_runs_what_is_to_follow_when_all_of_them_have_ended() {
    let server = server();
    let callback = r#"{"module": "hello", "args": {"name": "all"}}"#;
    let new =
        ["batches", "new", "--name", "greetings", "--on-completed", callback, "--on-failure", "wordcount"];
    let batch = command(&server, &new, b"").ok().text().trim_end().to_owned();
    let lines: String =
        (0..20).map(|n| format!("{{\"module\":\"hello\",\"args\":{{\"name\":\"{n}\"}}}}\n")).collect();
    let ids = command(&server, &["enqueue", "--jsonl", "-", "--batch", &batch], lines.as_bytes()).ok();
    assert_eq!(ids.text().lines().count(), 20);
    let batches =
        |args: &[&str]| command(&server, &[&["batches"][..], args].concat(), b"").ok().text().to_owned();
    let shown: Value = serde_json::from_str(&batches(&["show", &batch, "--json"])).unwrap();
    assert_eq!((&shown["state"], &shown["total"]), (&json!("open"), &json!(20)));
    let [then, never] =
        ["completed", "failure"].map(|when| shown["callbacks"][when].as_str().unwrap().to_owned());
    // One more that is to run after what follows.
    let after =
        command(&server, &["enqueue", "hello", "--args", "{\"name\": \"last\"}", "--after", &then], b"").ok();
    let pending = command(&server, &["jobs", "show", after.text().trim_end()], b"").ok().text().to_owned();
    assert!(pending.contains("pending") && pending.contains(&then), "{pending}");
    batches(&["close", &batch]);
    let last = command(&server, &["jobs", "wait", after.text().trim_end()], b"").ok();
    assert_eq!(last.text().trim_end(), r#"{"greeting":"Hello, last!"}"#);
    assert_eq!(&server.result(then.parse().unwrap())[..], br#"{"greeting":"Hello, all!"}"#);
    let unmet = command(&server, &["jobs", "show", &never], b"").ok().text().to_owned();
    assert!(unmet.contains("cancelled") && unmet.contains("unmet"), "{unmet}");
    let listed = batches(&[]);
    assert!(listed.contains("greetings") && listed.contains("ended"), "{listed}");
    let cancel = ["batches", "cancel", batch.as_str()];
    command(&server, &cancel, b"").fails(1, &["has ended already"]);
    let late = ["enqueue", "hello", "--batch", batch.as_str()];
    command(&server, &late, b"").fails(1, &["no job can be added"]);
}
