//! Text of a guest or a caller reaches a terminal, a log line and a page without what they would obey; a program that
//! reads it gets it as it was.

use std::path::Path;
use std::process::Command;

use midge_protocol::job::State;
use midge_protocol::shown;
use midge_tests::support::{
    FOUR, Files, Guest, Modules, Ran, Server, block_on, eventually, host_program, http, run,
};
use serde_json::{Value, json};

/// A window's title, colours, a line written over, text turned around and hidden, C1 and the bell.
/// Where a line is narrow, its beginning is seen.
const EVIL: &str =
    "\u{202e}txt.exe\u{2066}\u{1b}]0;mine\u{7} \u{1b}[35;45mred good\rbad hid\u{200b}den \u{9b}2Jend";
/// What of it must not be in what is shown.
const OBEYED: [&str; 8] =
    ["\u{1b}]", "\u{7}", "\u{1b}[35;45m", "good\rbad", "\u{202e}", "\u{2066}", "\u{200b}", "\u{9b}"];

/// Checks that a text is shown, and nothing of it that is obeyed.
#[track_caller]
fn is_fit(shown: &str) {
    for obeyed in OBEYED {
        assert!(!shown.contains(obeyed), "{obeyed:?} is in {shown:?}");
    }
    assert!(shown.contains("txt.exe"), "it is not shown at all: {shown:?}");
}

/// Makes a guest whose error, progress, log and result are that text.
fn evil(name: &str, end: &str) -> Guest {
    let imports = [
        ("fd_write", FOUR),
        ("poll_oneoff", FOUR),
        ("proc_exit", "(param i32)"),
        ("midge.error", "(param i32 i32)"),
        ("midge.progress", "(param i64 i64 i32 i32)"),
    ];
    let bytes: String = EVIL.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    let length = EVIL.len();
    let start = format!(
        "(i32.store (i32.const 200) (i32.const 1000)) (i32.store (i32.const 204) (i32.const {length}))
         (drop (call $fd_write (i32.const 1) (i32.const 200) (i32.const 1) (i32.const 208)))
         (drop (call $fd_write (i32.const 2) (i32.const 200) (i32.const 1) (i32.const 208)))
         (call $progress (i64.const 1) (i64.const 2) (i32.const 1000) (i32.const {length}))
         (call $error (i32.const 1000) (i32.const {length}))
         {end}"
    );
    Guest::new(name, &imports, &format!("(data (i32.const 1000) \"{bytes}\")"), &start)
}

const FAIL: &str = "(call $proc_exit (i32.const 1))";
/// Sleeps for an hour: a subscription of clock 1 at byte 16, the time at byte 24.
const SLEEP: &str =
    "(i32.store (i32.const 16) (i32.const 1)) (i64.store (i32.const 24) (i64.const 3600000000000))
    (drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))";

fn guests() -> Modules {
    let once = |guest: Guest| guest.settings("max_attempts = 1\ntime_limit = \"1h\"");
    Modules::of_guests(
        "",
        &[once(evil("fails", FAIL)), once(evil("sleeps", SLEEP)), once(evil("completes", ""))],
    )
}

/// Runs a command whose stdout and stderr are a terminal, and returns all that it wrote there.
fn on_a_terminal(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted: Vec<String> =
        words.map(|word| format!("'{}'", word.to_str().unwrap().replace('\'', r"'\''"))).collect();
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &quoted.join(" "), "/dev/null"]);
    script.env("TERM", "xterm-256color").env_remove("NO_COLOR");
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    let ran = run(script, b"");
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

/// Returns what a command writes, to pipes.
fn to_pipes(command: Command) -> Ran {
    run(command, b"")
}

fn all(ran: &Ran) -> String {
    format!("{}{}", String::from_utf8_lossy(&ran.stdout), ran.stderr)
}

fn page(server: &Server, path: &str) -> String {
    let reply = http("GET", &format!("{}{path}", server.url()), &[("Host", "localhost")], b"");
    assert_eq!(reply.status, 200, "{reply:?}");
    String::from_utf8(reply.body).unwrap()
}

/// Checks that an answer of the API, or what `--json` writes, holds the text as it was.
#[track_caller]
fn is_exact(json: &[u8], pointer: &str) {
    let json: Value = serde_json::from_slice(json).unwrap();
    assert_eq!(json.pointer(pointer), Some(&json!(EVIL)), "{json}");
}

#[test]
fn what_a_failed_job_says_is_fit_to_be_shown_and_exact_for_programs() {
    let server = Server::start(&guests());
    let id = server.enqueue("fails", json!({"name": EVIL}));
    let text = id.to_string();
    assert_eq!(server.ended(id).job.state, State::Discarded);

    let people: [&[&str]; 3] = [&["jobs"], &["jobs", "show", &text], &["jobs", "wait", &text]];
    for args in people {
        is_fit(&all(&to_pipes(server.midge(args))));
        is_fit(&on_a_terminal(&server.midge(args)));
    }
    is_fit(&on_a_terminal(&server.midge(&["jobs", "log", &text])));
    is_fit(&page(&server, "/"));
    is_fit(&page(&server, &format!("/jobs/{id}")));

    assert_eq!(to_pipes(server.midge(&["jobs", "log", &text])).ok().stdout, EVIL.as_bytes());
    is_exact(&to_pipes(server.midge(&["jobs", "show", &text, "--json"])).ok().stdout, "/failure/message");
    is_exact(&to_pipes(server.midge(&["jobs", "--json"])).ok().stdout, "/jobs/0/failure/message");
    is_exact(page(&server, &format!("/v1/jobs/{id}")).as_bytes(), "/failure/message");
    // A terminal is no reason to write other JSON.
    let json = on_a_terminal(&server.midge(&["jobs", "show", &text, "--json"]));
    is_exact(json.replace("\r\n", "\n").as_bytes(), "/failure/message");
}

#[test]
fn a_result_is_fit_to_be_shown_and_exact_for_programs() {
    let server = Server::start(&guests());
    let id = server.enqueue("completes", json!(null));
    let text = id.to_string();
    assert_eq!(&server.result(id)[..], EVIL.as_bytes());
    is_fit(&on_a_terminal(&server.midge(&["jobs", "result", &text])));
    is_fit(&on_a_terminal(&server.midge(&["jobs", "wait", &text])));
    is_fit(&page(&server, &format!("/jobs/{id}")));
    assert_eq!(to_pipes(server.midge(&["jobs", "result", &text])).ok().stdout, EVIL.as_bytes());
    assert_eq!(to_pipes(server.midge(&["jobs", "wait", &text])).ok().stdout, EVIL.as_bytes());
}

#[test]
fn progress_is_fit_to_be_shown_and_exact_for_programs() {
    let server = Server::start(&guests());
    let id = server.enqueue("sleeps", json!(null));
    eventually("it says how far it is", || server.job(id).progress);
    let text = id.to_string();
    let people: [&[&str]; 2] = [&["jobs"], &["jobs", "show", &text]];
    for args in people {
        is_fit(&all(&to_pipes(server.midge(args))));
        is_fit(&on_a_terminal(&server.midge(args)));
    }
    is_fit(&on_a_terminal(&server.midge(&["jobs", "wait", &text, "--timeout", "1s"])));
    is_fit(&page(&server, "/"));
    is_exact(&to_pipes(server.midge(&["jobs", "show", &text, "--json"])).ok().stdout, "/progress/message");
    block_on(server.client().cancel(id)).unwrap();
}

/// Returns `midge-host run`, which `midge run` becomes.
fn by_hand(modules: &Path, module: &str) -> Command {
    let mut command = Command::new(host_program());
    command.args(["run", module, "--modules"]).arg(modules);
    command
}

#[test]
fn what_a_guest_says_that_is_run_by_hand_is_fit_to_be_shown_and_exact_for_programs() {
    let modules = guests();
    let failed = to_pipes(by_hand(modules.dir(), "fails"));
    assert_eq!(failed.stderr, format!("{EVIL}midge-host: exit: {}\n", shown::text(EVIL)));
    is_fit(&on_a_terminal(&by_hand(modules.dir(), "fails")));
    assert_eq!(to_pipes(by_hand(modules.dir(), "completes")).ok().stdout, EVIL.as_bytes());
    is_fit(&on_a_terminal(&by_hand(modules.dir(), "completes")));
}

#[test]
fn the_name_of_a_file_is_fit_to_be_shown() {
    let files = Files::new();
    let folder = files.path(&EVIL.replace('/', ""));
    std::fs::create_dir(&folder).unwrap();
    for args in [["build"], ["run"]] {
        let mut command = midge_tests::support::midge(&args);
        if args == ["run"] {
            command.args(["hello", "--project"]);
        }
        command.arg(&folder);
        is_fit(&all(&to_pipes(command)));
    }
    let database = folder.join("no folder").join("midge.db").display().to_string();
    is_fit(&midge_tests::support::serve(&guests(), &["--db", &database]).stderr);
}

#[test]
fn what_is_typed_wrong_is_fit_to_be_shown() {
    let wrong: [&[&str]; 5] = [
        &[EVIL],
        &["enqueue", EVIL],
        &["jobs", "--state", EVIL],
        &["enqueue", "hello", "--time-limit", EVIL],
        &["serve", &format!("--{EVIL}")],
    ];
    for args in wrong {
        let command = || midge_tests::support::midge(args);
        is_fit(&to_pipes(command()).stderr);
        is_fit(&on_a_terminal(&command()));
    }
    // Help says which variables there are, and not what they are set to.
    let mut help = midge_tests::support::midge(&["serve", "--help"]);
    help.env("MIDGE_DB", EVIL).env("FLY_APP_NAME", EVIL);
    let help = String::from_utf8(to_pipes(help).ok().stdout).unwrap();
    assert!(help.contains("[env: MIDGE_DB]") && !help.contains("txt.exe"), "{help}");
}

#[test]
fn an_error_that_a_server_answers_is_fit_to_be_shown() {
    let mut listener = midge_tests::support::midge(&["jobs"]);
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.env("MIDGE_SERVER", format!("http://{}", other.local_addr().unwrap()));
    let answer = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = other.accept().unwrap();
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).unwrap() > 0);
        let body = json!({"code": "invalid", "error": EVIL}).to_string();
        let head = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\n";
        write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    });
    let ran = to_pipes(listener);
    answer.join().unwrap();
    is_fit(&all(&ran));
}
