//! What people are told of jobs that do not start: by the command, by the API and on the page. And that what docs/queues.md has
//! them type does its work.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use midge_protocol::manifest::{ModuleEntry, ScheduleEntry};
use midge_protocol::{ModuleName, ScheduleName};
use midge_tests::support::{Files, Modules, Server, StubServer, eventually, http, midge_program, run};
use serde_json::json;

const QUEUES: &str = include_str!("../../docs/queues.md");
/// The modules that the document's lines enqueue.
const ENQUEUED: [&str; 8] = ["digest", "extract", "import", "mail", "news", "reindex", "report", "sync"];
/// A Machine, a job and a group of failures, as the document names them.
const MACHINE: &str = "midge-0190b3e4";
const JOB: &str = "0190b3e4-7d5c-7c3a-9f00-0123456789ab";
const FAILURE: &str = "0c3fa51b22d07e94";

#[test]
fn why_jobs_wait_is_told_by_command_api_and_page() {
    let modules = Modules::examples().queue("default", |policy| policy.max_machines = 0);
    let server = Server::start_with(&modules, &["--max-machines", "7"], &[]);
    let id = server.enqueue("hello", json!({"name": "x"})).to_string();
    let busy = "the queue has its 0 of 0 Machines, all busy";
    let told = |args: &[&str]| run(server.midge(args), b"").ok().text().to_owned();
    assert!(told(&["queues"]).contains(&format!("default waits: {busy}")), "{}", told(&["queues"]));
    assert!(told(&["jobs", "show", &id]).contains(busy), "{}", told(&["jobs", "show", &id]));
    let get = |path: &str| http("GET", &format!("{}{path}", server.url()), &[("Host", "localhost")], b"");
    assert_eq!(get("/v1/jobs?state=available").json()["jobs"][0]["waits"]["code"], "queue_is_busy");
    let queues = get("/v1/queues").json();
    assert_eq!((queues["machines"].as_u64(), queues["max_machines"].as_u64()), (Some(0), Some(7)));
    for page in ["/", &format!("/jobs/{id}")] {
        assert!(get(page).text().contains(busy), "{page}");
    }
}

#[test]
fn settings_are_changed_by_the_command_hold_over_a_restart_and_say_who_changed_them() {
    let modules = Modules::examples().queue("default", |policy| policy.max_machines = 1);
    let mut server = Server::start(&modules);
    let told = |server: &Server, args: &[&str]| run(server.midge(args), b"").ok().text().to_owned();
    let set =
        ["queues", "set", "default", "max_machines=3", "wait=forever", "--by", "Ada", "--reason", "load"];
    assert!(told(&server, &set).contains("default: max_machines is 3, and 1 in midge.toml"));
    let slip = server.midge(&["queues", "set", "default", "max_machine=3"]);
    run(slip, b"").fails(1, &["did you mean `max_machines`?"]);
    server.start_again();
    assert!(told(&server, &["queues"]).contains("default: max_machines is 3, and 1 in midge.toml"));
    let url = server.url();
    let page = http("GET", &url, &[("Host", "localhost")], b"").text().to_owned();
    assert!(page.contains("max_machines 3 (midge.toml: 1)"), "{page}");
    assert!(told(&server, &["queues", "unset", "default"]).contains("default is as midge.toml says"));
    let changes = told(&server, &["queues", "changes", "default"]);
    let first = changes.lines().find(|line| line.contains("Ada")).unwrap();
    assert!(first.contains("max_machines") && first.contains("load"), "{changes}");
    assert!(changes.contains("1 (midge.toml)"), "{changes}");
}

#[test]
fn a_quota_of_the_machines_api_is_why_a_job_waits_and_a_lack_of_rights_names_the_right() {
    for (body, says) in [
        (
            "permission_denied: CPU quota exceeded",
            "no capacity for the Machine: 403: permission_denied: CPU quota",
        ),
        ("permission_denied", "it takes a token that may make, start and destroy Machines"),
    ] {
        let api = StubServer::answering(403, body);
        let env = [
            ("FLY_FLAPS_BASE_URL", api.url.as_str()),
            ("FLY_API_TOKEN", "t"),
            ("FLY_APP_NAME", "midge"),
            ("FLY_IMAGE_REF", "image"),
        ];
        let server = Server::start_with(&Modules::examples(), &[], &env);
        let id = server.enqueue("hello", json!({"name": "x"})).to_string();
        let shown = eventually("the job to say why it waits", || {
            let shown = run(server.midge(&["jobs", "show", &id]), b"").ok().text().to_owned();
            shown.contains("no Machine can be had").then_some(shown)
        });
        assert!(shown.contains(says) && shown.contains("next try in"), "{shown}");
    }
}

/// Returns what a reader types of each block of a document, one line after the other.
fn typed(document: &str) -> Vec<String> {
    let blocks = document.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines = |block: &str| {
        let typed = block.lines().filter_map(|line| line.strip_prefix("$ "));
        typed.map(|line| format!("{line}\n")).collect::<String>()
    };
    blocks.map(lines).collect()
}

/// Types lines into a shell that stops at the first one that fails.
fn types(server: &Server, folder: &Path, lines: &str) {
    let programs = midge_program().parent().expect("a program is in a folder");
    let inherited = env::var_os("PATH").unwrap_or_default();
    let path = [PathBuf::from(programs)].into_iter().chain(env::split_paths(&inherited));
    let mut shell = Command::new("sh");
    shell.args(["-exc", lines]).current_dir(folder);
    shell.env("PATH", env::join_paths(path).unwrap()).env("MIDGE_SERVER", server.url());
    run(shell, b"").ok();
}

#[test]
fn what_the_document_on_queues_has_people_type_does_its_work() {
    let modules = Modules::examples().queue("import", |policy| policy.warm_machines = 1);
    let modules = ["mail", "slow"].into_iter().fold(modules, |modules, queue| modules.queue(queue, |_| {}));
    modules.change(|manifest| {
        // It takes whatever args there are.
        let takes_any = manifest.modules[&ModuleName::new("wordcount").unwrap()].clone();
        for name in ENQUEUED {
            let file = format!("{name}.cwasm");
            fs::copy(modules.dir().join(&takes_any.file), modules.dir().join(&file)).unwrap();
            let entry = ModuleEntry { file, ..takes_any.clone() };
            manifest.modules.insert(ModuleName::new(name).unwrap(), entry);
        }
        let nightly = ScheduleEntry::new(ModuleName::new("report").unwrap(), "@daily");
        manifest.schedules.insert(ScheduleName::new("nightly").unwrap(), nightly);
    });
    let server = Server::start(&modules);
    let job = server.enqueue("report", json!("a word"));
    server.result(job);
    let failed = server.ended(server.enqueue("hello", json!(7))).job.failed.expect("these are no args of it");
    let failure = failed.fingerprint.expect("it is counted").to_string();
    let folder = Files::new();
    folder.write("rows.jsonl", "{\"module\": \"import\"}\n{\"module\": \"import\", \"args\": 2}\n");
    let blocks = typed(QUEUES);
    assert!(blocks.len() > 10, "{blocks:?}");
    for lines in blocks {
        // Its times are far off when it is written, and here for ever.
        let mut lines =
            lines.replace(JOB, &job.to_string()).replace(FAILURE, &failure).replace("2030-", "9030-");
        if lines.contains(MACHINE) {
            let up = eventually("the warm Machine is up", || {
                server.live_machines().into_iter().find(|machine| machine.state == "up")
            });
            lines = lines.replace(MACHINE, up.name.as_str());
        }
        types(&server, folder.dir(), &lines);
    }
}
