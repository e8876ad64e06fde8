//! What people are told of jobs that do not start: by the command, by the API and on the page.

use midge_tests::support::{Modules, Server, StubServer, eventually, http, run};
use serde_json::json;

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
