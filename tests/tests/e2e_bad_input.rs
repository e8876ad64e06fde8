//! Bad input from callers: a clear error that says what to do, and nothing lost.

use std::process::Command;

use midge_protocol::job::{Cause, State};
use midge_protocol::{JobId, limits};
use midge_tests::support::{
    FOUR, Files, Guest, Modules, Process, Reply, Server, block_on, eventually, free_port, host_program, http,
    midge, request, run, serve,
};
use serde_json::{Value, json};

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// Posts an enqueue with headers of the test's own.
fn post(server: &Server, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    http("POST", &format!("{}{path}", server.url()), headers, body.as_bytes())
}

/// Checks an error answer: its status, its code, and what its sentence says.
#[track_caller]
fn refused(reply: &Reply, status: u16, code: &str, says: &[&str]) {
    assert_eq!(reply.status, status, "{reply:?}");
    let error = reply.json();
    assert_eq!(error["code"], code, "{error}");
    for text in says {
        assert!(error["error"].as_str().unwrap().contains(text), "`{text}` is not in {error}");
    }
}

fn enqueue(server: &Server, body: &str) -> Reply {
    post(server, "/v1/jobs", &[("Host", "localhost"), JSON], body)
}

/// Returns how many jobs a server knows.
fn jobs(server: &Server) -> usize {
    block_on(server.client().jobs(&Default::default())).unwrap().jobs.len()
}

#[test]
fn what_cannot_be_enqueued_is_refused_with_what_to_do() {
    let server = Server::start(&Modules::examples());
    let unknown = enqueue(&server, r#"{"module": "resise"}"#);
    refused(&unknown, 422, "unknown_module", &["`resise`", "did you mean `resize`?"]);
    let farther = enqueue(&server, r#"{"module": "quite-another"}"#);
    refused(&farther, 422, "unknown_module", &["add it to midge.toml"]);
    refused(&enqueue(&server, r#"{"module": "../etc"}"#), 400, "invalid", &["`../etc`", "a-z, 0-9"]);
    refused(
        &enqueue(&server, r#"{"module": "hello", "args": {name: 1}}"#),
        400,
        "invalid",
        &["line 1 column"],
    );
    refused(&enqueue(&server, r#"{"module": "hello", "arg": 1}"#), 400, "invalid", &["unknown field `arg`"]);
    let hint = "did you mean `max_attempts`?";
    refused(&enqueue(&server, r#"{"module": "hello", "attempts_max": 1}"#), 400, "invalid", &[hint]);
    let queue = enqueue(&server, r#"{"module": "hello", "queue": "unrully"}"#);
    refused(&queue, 422, "unknown_queue", &["`unrully`", "did you mean `unruly`?", "[queues.unrully]"]);
    refused(&enqueue(&server, r#"{"module": "hello", "input": "%%"}"#), 400, "invalid", &["not base64"]);
    refused(
        &enqueue(&server, r#"{"module": "hello", "scheduled_at": "noon"}"#),
        400,
        "invalid",
        &["`noon`", "2030-01-31T"],
    );
    refused(
        &enqueue(&server, "not JSON"),
        400,
        "invalid",
        &["the body is not JSON: there is no value at line 1"],
    );
    let both = r#"{"module": "hello", "scheduled_at": "2030-01-31T08:00:00Z", "in_ms": 5}"#;
    refused(&enqueue(&server, both), 422, "invalid", &["one of `scheduled_at` and `in_ms`"]);
    refused(
        &enqueue(&server, r#"{"module": "hello", "max_attempts": 0}"#),
        422,
        "invalid",
        &["use 1 to 1000"],
    );
    refused(&enqueue(&server, r#"{"module": "hello", "time_limit_ms": 0}"#), 422, "invalid", &["use 1 to"]);
    assert_eq!(jobs(&server), 0);
}

#[test]
fn the_command_says_the_same_and_exits_with_1() {
    let server = Server::start(&Modules::examples());
    let ran = |args: &[&str]| run(server.midge(&[&["enqueue"], args].concat()), b"");
    ran(&["resise"]).fails(1, &["`resise`", "did you mean `resize`?"]);
    ran(&["hello", "--args", "{name: 1}"]).fails(1, &["--args is not JSON"]);
    ran(&["hello", "--args", "@/no/such/file"]).fails(1, &["cannot read the args from /no/such/file"]);
    ran(&["hello", "--input", "/no/such/file"]).fails(1, &["cannot read the input from /no/such/file"]);
    ran(&["../etc"]).fails(2, &["a-z, 0-9"]);
    ran(&["hello", "--in", "300000000000s"])
        .fails(2, &["'--in <DURATION>'", "the longest duration is 2900000d"]);
    ran(&["hello", "--in", "1h", "--expires-in", "1m"])
        .fails(1, &["use a larger `--expires-in`, or a smaller `--in`"]);
    ran(&["hello", "--at", "9999-12-31T23:59:59Z"]).fails(2, &["to 9999-12-30T22:00:00.000Z"]);
    ran(&["hello", "--max-attempts", "1001"]).fails(2, &["use a whole number from 1 to 1000"]);
    ran(&["hello", "--tag", &"x".repeat(65)]).fails(2, &["is not a tag, since it has 65 bytes: use 1 to 64"]);
    let no_number = run(server.midge(&["sweeps", "cancel", "x"]), b"");
    no_number.fails(2, &["use a number such as 7"]);
    ran(&["hello", "--args", r#"["\ud800"]"#]).fails(1, &["at byte 2", "half of a pair"]);
    assert_eq!(jobs(&server), 0);
    let mut nowhere = midge(&["enqueue", "hello"]);
    nowhere.env("MIDGE_SERVER", format!("http://127.0.0.1:{}", free_port()));
    run(nowhere, b"").fails(1, &["no midge server answers", "midge serve"]);
}

#[test]
fn args_and_input_over_the_limit_are_refused_and_at_the_limit_are_not() {
    let server = Server::start(&Modules::examples());
    let text = |bytes: usize| Value::String("x".repeat(bytes - 2));
    let over = serde_json::to_string(&request("plain", text(limits::ARGS_BYTES_MAX + 1))).unwrap();
    refused(&enqueue(&server, &over), 413, "too_large", &["args is 65537 bytes", "65536", "input"]);
    let over =
        serde_json::to_string(&request("plain", Value::Null).input(vec![0; limits::INPUT_BYTES_MAX + 1]));
    refused(&enqueue(&server, &over.unwrap()), 413, "too_large", &["input is 16777217 bytes", "16777216"]);
    let body = format!(r#"{{"module": "plain", "input": "{}"}}"#, "A".repeat(limits::ENQUEUE_BODY_BYTES_MAX));
    refused(&enqueue(&server, &body), 413, "too_large", &["send less at once"]);
    assert_eq!(jobs(&server), 0);

    let args = text(limits::ARGS_BYTES_MAX);
    let largest = request("plain", args.clone()).input(vec![0; limits::INPUT_BYTES_MAX]);
    let result: Value = serde_json::from_slice(&server.result(server.send(&largest))).unwrap();
    assert_eq!(result, json!({"module": "plain", "args": args, "input_bytes": limits::INPUT_BYTES_MAX}));
}

#[test]
fn a_result_over_the_limit_is_a_failure_and_at_the_limit_is_not() {
    // Sixteen writes of a MiB, and then one byte or none.
    let guest = |name: &str, more: u32| {
        let start = format!(
            "(local $i i32) (i32.store (i32.const 4) (i32.const 1048576))
             (loop (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
               (br_if 0 (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 16))))
             (i32.store (i32.const 4) (i32.const {more}))
             (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))"
        );
        let memory = "(memory (export \"memory\") 17)";
        let guest = Guest::new(name, &[("fd_write", FOUR)], memory, &start);
        guest.settings("max_attempts = 1")
    };
    let server = Server::start(&Modules::of_guests("", &[guest("most", 0), guest("more", 1)]));
    assert_eq!(server.result(server.enqueue("most", Value::Null)).len(), limits::RESULT_BYTES_MAX);
    let more = server.ended(server.enqueue("more", Value::Null));
    assert_eq!((more.job.state, more.job.failure.unwrap().cause), (State::Discarded, Cause::OverOutput));
}

#[test]
fn the_same_id_is_the_same_job_or_an_error() {
    let server = Server::start(&Modules::examples());
    let mut hello = request("hello", json!({"name": "one"}));
    let first = block_on(server.client().enqueue(&hello)).unwrap();
    let again = block_on(server.client().enqueue(&hello)).unwrap();
    assert_eq!((first.new, again.new, again.id), (true, false, hello.id));
    hello = hello.args(&json!({"name": "two"})).unwrap();
    let other = enqueue(&server, &serde_json::to_string(&hello).unwrap());
    refused(&other, 409, "conflict", &["make a new id"]);
    assert_eq!(&server.result(first.id)[..], br#"{"greeting":"Hello, one!"}"#);
    assert_eq!(jobs(&server), 1);
}

#[test]
fn of_many_jobs_with_a_bad_one_none_is_enqueued() {
    let server = Server::start(&Modules::examples());
    let good = request("hello", json!({"name": "x"}));
    let bad = request("helo", Value::Null);
    let of_bad = format!("`jobs[1]` ({}): there is no module `helo`: did you mean `hello`?", bad.id);
    let error = block_on(server.client().enqueue_all(vec![good.clone(), bad, good])).unwrap_err();
    assert_eq!((error.code(), error.to_string()), (Some("unknown_module"), of_bad));
    assert_eq!(jobs(&server), 0);
}

#[test]
fn a_full_queue_refuses_and_keeps_what_it_has() {
    let modules = Modules::examples().queue("small", |policy| {
        policy.max_jobs = 3;
        policy.max_machines = 0;
    });
    let server = Server::start(&modules);
    let enqueue = |count: usize| {
        let one = || request("hello", json!({"name": "x"})).queue("small".parse().unwrap());
        block_on(server.client().enqueue_all((0..count).map(|_| one()).collect()))
    };
    enqueue(2).unwrap();
    assert_eq!(enqueue(2).unwrap_err().code(), Some("queue_full"));
    enqueue(1).unwrap();
    let body = r#"{"module": "hello", "queue": "small"}"#;
    let reply = post(&server, "/v1/jobs", &[("Host", "localhost"), JSON], body);
    refused(&reply, 429, "queue_full", &["`small` is full", "3 jobs wait", "max_machines"]);
    assert!(reply.head.to_lowercase().contains("retry-after: "), "{reply:?}");
    let small = run(server.midge(&["enqueue", "hello", "--queue", "small"]), b"");
    small.fails(1, &["`small` is full"]);
    assert_eq!(jobs(&server), 3);
}

#[test]
fn a_web_page_cannot_enqueue_where_there_is_no_token() {
    let server = Server::start(&Modules::examples());
    let body = r#"{"module": "hello", "args": {"name": "x"}}"#;
    let foreign = post(&server, "/v1/jobs", &[("Host", "evil.example"), JSON], body);
    refused(&foreign, 403, "foreign_host", &["localhost", "token"]);
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let form = post(&server, "/v1/jobs", &[("Host", "localhost"), form], body);
    refused(&form, 415, "foreign_content", &["application/json"]);
    let page = http("GET", &format!("{}/", server.url()), &[("Host", "evil.example")], b"");
    assert_eq!(page.status, 403, "{page:?}");
    assert_eq!(jobs(&server), 0);
}

#[test]
fn with_a_token_everything_but_health_needs_it() {
    let server = Server::start_with(&Modules::examples(), &[], &[("MIDGE_TOKEN", "s3cret")]);
    let get =
        |path: &str, headers: &[(&str, &str)]| http("GET", &format!("{}{path}", server.url()), headers, b"");
    let host = ("Host", "midge.example");
    for path in ["/", "/v1/jobs", "/v1/queues", "/v1/machines", "/v1/modules"] {
        assert_eq!(get(path, &[host]).status, 401, "{path}");
        assert_eq!(get(path, &[host, ("Authorization", "Bearer wrong")]).status, 401, "{path}");
        assert_eq!(get(path, &[host, ("Authorization", "Bearer s3cret")]).status, 200, "{path}");
    }
    assert_eq!(get("/healthz", &[host]).status, 200);
    run(server.midge(&["jobs"]), b"").fails(1, &["a token is needed", "MIDGE_TOKEN"]);
    run(server.midge(&["jobs", "--token", "wrong"]), b"").fails(1, &["not this server's"]);
    let hello = ["enqueue", "hello", "--args", r#"{"name": "x"}"#, "--wait", "--token", "s3cret"];
    assert_eq!(run(server.midge(&hello), b"").ok().text(), r#"{"greeting":"Hello, x!"}"#);
}

#[test]
fn a_server_that_a_network_can_reach_needs_a_token() {
    let modules = Modules::examples();
    serve(&modules, &["--listen", "0.0.0.0:0"]).fails(1, &["without a token", "MIDGE_TOKEN"]);
}

#[test]
fn a_token_that_is_empty_or_that_nobody_could_send_is_refused_and_not_shown() {
    let modules = Modules::examples();
    serve(&modules, &["--token", ""]).fails(1, &["the token is empty", "MIDGE_TOKEN"]);
    let ran = serve(&modules, &["--token", "hunter2\nX-Evil: 1"]);
    assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
    ran.fails(1, &["the token in MIDGE_TOKEN or its flag holds a line break"]);
}

#[test]
fn a_port_in_use_is_named() {
    let modules = Modules::examples();
    let first = Server::start(&modules);
    let address = first.url().replace("http://", "");
    let port = address.rsplit_once(':').unwrap().1;
    serve(&modules, &["--listen", &address]).fails(1, &[&format!("port {port} is in use"), "--listen"]);
    let flylet = midge(&["flylet", "--listen", &address, "--token", "x"]);
    run(flylet, b"").fails(1, &[&format!("cannot listen on 127.0.0.1:{port}")]);
}

#[test]
fn a_database_that_is_not_ours_is_left_alone() {
    let modules = Modules::examples();
    let first = Server::start(&modules);
    let database = first.database().display().to_string();
    serve(&modules, &["--db", &database]).fails(1, &["in use by another server", &database]);

    let files = Files::new();
    let photo = files.write("photo.jpg", "not a database, but long enough to be one".repeat(100));
    let text = photo.display().to_string();
    serve(&modules, &["--db", &text]).fails(1, &["is not a midge database", &text]);
    assert_eq!(std::fs::read_to_string(&photo).unwrap().len(), 4_100);
    serve(&modules, &["--db", "/no/such/folder/midge.db"]).fails(1, &["/no/such/folder"]);
    serve(&modules, &["--db", "/dev/null"])
        .fails(1, &["cannot open the database /dev/null: it is a device: name a file"]);
    let folder = files.dir().display().to_string();
    serve(&modules, &["--db", &folder]).fails(1, &["it is a folder: name a file"]);

    let other = files.path("other.db");
    std::fs::hard_link(first.database(), &other).unwrap();
    let other = other.display().to_string();
    serve(&modules, &["--db", &other]).fails(1, &["in use by another server", &other]);
    assert_eq!(first.run("hello", json!({"name": "x"})), json!({"greeting": "Hello, x!"}));
}

#[test]
fn jobs_of_a_module_that_is_no_longer_there_wait_and_go_on_once_it_is_back() {
    let modules = Modules::examples().queue("default", |policy| policy.max_machines = 0);
    let mut server = Server::start(&modules);
    let id = server.send(&request("hello", json!({"name": "x"})));
    server.kill();
    let entry = modules.manifest().modules["hello"].clone();
    modules.change(|manifest| {
        manifest.modules.remove("hello");
        manifest.queues.get_mut("default").unwrap().max_machines = 1;
    });
    server.start_again();
    eventually("it is held", || {
        let modules = block_on(server.client().modules()).unwrap().modules;
        modules.into_iter().find(|module| module.name.as_str() == "hello" && module.held == 1)
    });
    let job = server.job(id);
    assert_eq!((job.state, job.spent, job.attempt.0), (State::Available, 0, 0));
    assert_eq!(job.waits.unwrap().code, "module_not_served");
    assert!(server.machines().is_empty(), "no Machine is made for it");
    let listed = run(server.midge(&["modules"]), b"").ok();
    assert!(listed.text().contains("no, it is not served"), "{}", listed.text());
    server.kill();
    modules.change(move |manifest| {
        manifest.modules.insert("hello".parse().unwrap(), entry);
    });
    server.start_again();
    assert_eq!(server.ended(id).job.state, State::Completed);
}

#[test]
fn a_build_under_a_server_changes_nothing_for_its_jobs_and_is_told_in_its_log() {
    let modules = Modules::examples();
    let mut server = Server::start(&modules);
    // As a build does it: other files under the same names.
    let manifest = modules.dir().join("manifest.json");
    std::fs::copy(&manifest, modules.dir().join("new")).unwrap();
    std::fs::rename(modules.dir().join("new"), &manifest).unwrap();
    modules.change(|manifest| drop(manifest.modules.remove("hello")));
    std::fs::remove_file(modules.dir().join("hello.cwasm")).unwrap();
    assert_eq!(server.run("hello", json!({"name": "x"})), json!({"greeting": "Hello, x!"}));
    server.process().says("that there was a build", |log| log.contains("there was a build").then_some(()));
}

/// A small filesystem in memory, unmounted at the end.
struct SmallDisk {
    files: Files,
}

impl SmallDisk {
    /// Mounts it; nothing where this user may not.
    fn mount(mib: u32) -> Option<SmallDisk> {
        let files = Files::new();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(files.dir());
        (run(mount, b"").code == Some(0)).then_some(SmallDisk { files })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mut umount = Command::new("umount");
        umount.arg("-l").arg(self.files.dir());
        run(umount, b"");
    }
}

#[test]
fn on_a_full_disk_an_enqueue_is_refused_and_nothing_is_lost() {
    let modules = Modules::examples();
    let limited = SmallDisk::mount(6);
    // Who may not mount limits the size of files instead, which fails in the same place: at the write.
    let (files, prefix) = match &limited {
        Some(disk) => (&disk.files, ""),
        None => (&Files::new(), "ulimit -S -f 4096; "),
    };
    let database = files.path("midge.db").display().to_string();
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let serve = midge(&["serve", "--listen", &listen, "--db", &database]);
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg(format!("{prefix}exec \"$@\""))
        .arg("sh")
        .arg(serve.get_program())
        .args(serve.get_args());
    shell.arg("--modules").arg(modules.dir());
    shell.arg("--host-program").arg(host_program());
    let mut process = Process::start("midge serve", shell);
    let url = format!("http://{listen}");
    process.says("where it listens", |output| output.contains(&url).then_some(()));
    let client = midge_client::Client::new(&url).unwrap();

    let mut kept: Vec<JobId> = Vec::new();
    let error = loop {
        // Due in an hour: nothing but enqueues writes.
        let job =
            request("plain", json!(1)).input(vec![1; 200_000]).delay(std::time::Duration::from_secs(3600));
        match block_on(client.enqueue(&job)) {
            Ok(enqueued) => kept.push(enqueued.id),
            Err(error) => break error,
        }
        assert!(kept.len() < 1_000, "the disk never got full");
    };
    assert_eq!(error.code(), Some("store_full"), "{error:?}");
    assert!(error.to_string().contains("make room"), "{error}");
    assert!(kept.len() > 3);

    if let Some(disk) = &limited {
        let mut grow = Command::new("mount");
        grow.args(["-o", "remount,size=64m"]).arg(disk.files.dir());
        run(grow, b"").ok();
    } else {
        let mut grow = Command::new("prlimit");
        grow.arg(format!("--pid={}", process.pid())).arg("--fsize=unlimited");
        run(grow, b"").ok();
    }
    let after = block_on(client.enqueue(&request("hello", json!({"name": "room"})))).unwrap().id;
    assert_eq!(block_on(client.wait(after, None)).unwrap().state, State::Completed);
    for &id in &kept {
        assert_eq!(block_on(client.job(id)).unwrap().job.state, State::Scheduled);
        block_on(client.retry(id)).unwrap();
    }
    for id in kept {
        assert_eq!(block_on(client.wait(id, None)).unwrap().state, State::Completed);
    }
}
