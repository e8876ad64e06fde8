//! Machines as processes, and the calls that midge makes, to the letter.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use midge_flylet::{Flylet, FlyletError, FlyletSettings, Latency, Region};
use midge_machines::{FlyMachines, Label, Launch, MachineError, MachineSpec, Machines, SeenState};
use midge_protocol::{MachineId, Secret};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::bed::{Bed, DEADLINE, ENDLESS, ends, spec};

#[tokio::test]
async fn only_its_token_and_its_app_are_let_in() {
    let bed = Bed::new().await;
    for token in ["wrong", "", "FlyV1 wrong"] {
        let (status, body) = bed.call_as(&Secret::new(token), "GET /v1/apps/jobs/machines", "").await;
        assert_eq!((status, &body["error"]), (401, &json!("unauthenticated: invalid token")));
    }
    let (status, body) = bed.call("GET /v1/apps/other/machines", "").await;
    assert_eq!((status, &body["error"]), (404, &json!("not_found: app not found")));

    let settings = bed.flylet.client_settings();
    let denied = [
        FlyMachines::new(midge_machines::FlySettings { token: Secret::new("wrong"), ..settings.clone() }),
        FlyMachines::new(midge_machines::FlySettings { app: "other".to_owned(), ..settings }),
    ];
    for client in denied {
        let error = client.unwrap().get(&MachineId::new("a").unwrap()).await.unwrap_err();
        assert!(matches!(error, MachineError::Denied(_) | MachineError::NoApp(_)), "{error:?}");
    }
}

#[tokio::test]
async fn two_flylets_do_not_share_a_token() {
    let (one, two) = (Bed::new().await, Bed::new().await);
    assert!(one.flylet.token() != two.flylet.token());
    assert!(one.flylet.token().expose().len() >= 32);
}

#[tokio::test]
async fn what_cannot_be_a_machine_is_refused_by_name() {
    let bed = Bed::new().await;
    let config = |change: Value| {
        let mut config = json!({"image": "i", "init": {"exec": ["/bin/true"]}, "restart": {"policy": "no"}});
        config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        json!({ "config": config }).to_string()
    };
    let table = [
        ("{".to_owned(), "EOF"),
        ("{}".to_owned(), "config"),
        (config(json!({"image": ""})), "config.image"),
        (config(json!({"init": {}})), "config.init.exec"),
        (config(json!({"restart": null})), "on-failure"),
        (config(json!({"restart": {"policy": "always"}})), "always"),
        (config(json!({"env": {"A=B": "c"}})), "A=B"),
        (config(json!({"stop_config": {"signal": "SIGSTOP"}})), "SIGSTOP"),
        (config(json!({"stop_config": {"timeout": "10m"}})), "10m"),
        (config(json!({"init": {"exec": ["a\u{0}"]}})), "zero byte"),
        (
            config(json!({"init": {"exec": ["target/host/midge-host"]}})),
            "`target/host/midge-host` is a relative path",
        ),
        (config(json!({"metadata": {"a\nb": "c"}})), "`a\\nb` holds a control character"),
        (config(json!({"metadata": {"a": "b".repeat(65 * 1024)}})), "metadata has over"),
    ];
    for (body, part) in table {
        let (status, answer) = bed.call("POST /v1/apps/jobs/machines", &body).await;
        let error = answer["error"].as_str().unwrap_or_default();
        assert_eq!(status, 400, "{answer}");
        assert!(error.starts_with("invalid_argument: ") && error.contains(part), "{part}: {answer}");
    }
    let (status, answer) = bed.call("POST /v1/apps/jobs/machines", &" ".repeat(700 * 1024)).await;
    assert_eq!((status, &answer["error"]), (413, &json!("invalid_argument: http: request body too large")));
    let (_, list) = bed.call("GET /v1/apps/jobs/machines?include_deleted=true", "").await;
    assert_eq!(list, json!([]));
}

#[tokio::test]
async fn what_flylet_does_not_do_it_says_so() {
    let bed = Bed::new().await;
    let id = bed.launched("m", ENDLESS).await;
    let exec = format!("/v1/apps/jobs/machines/{id}/exec");
    let (status, body) = bed.call(&format!("POST {exec}"), "").await;
    assert_eq!((status, &body["error"]), (501, &json!(format!("unimplemented: flylet has no POST {exec}"))));
    assert_eq!(bed.call("PUT /v1/apps/jobs/machines", "").await.0, 405);
}

#[tokio::test]
async fn a_taken_name_is_refused_in_fly_s_words() {
    let bed = Bed::new().await;
    let id = bed.launched("m", ENDLESS).await;
    let again = json!({"name": "m", "config": {
        "image": "i", "init": {"exec": ["/bin/true"]}, "restart": {"policy": "no"}}});
    let (status, body) = bed.call("POST /v1/apps/jobs/machines", &again.to_string()).await;
    let words = format!(
        "already_exists: unique machine name violation, machine ID {id} already exists with name \"m\""
    );
    assert_eq!((status, body), (409, json!({"error": words, "status": "name_taken"})));
}

#[tokio::test]
async fn a_start_is_refused_while_the_machine_is_being_prepared() {
    let hour = Duration::from_secs(3600);
    let bed = Bed::with(FlyletSettings {
        latency: Latency::Fixed { create: hour, start: Duration::ZERO, resume: Duration::ZERO },
        ..FlyletSettings::new("jobs")
    })
    .await;
    let id = bed.machines.create(&spec("m", ENDLESS), Launch::Later).await.unwrap();
    let (status, body) = bed.call(&format!("POST /v1/apps/jobs/machines/{id}/start"), "").await;
    let words = "failed_precondition: unable to start machine from current state: 'created'";
    assert_eq!((status, &body["error"]), (412, &json!(words)));
    assert!(matches!(bed.machines.start(&id).await, Err(MachineError::NotReady(_))));
    // It can be given up all the same.
    bed.machines.destroy(&id).await.unwrap();
    bed.reaches(&id, SeenState::Destroyed).await;
}

#[tokio::test]
async fn a_start_can_be_called_off_before_there_is_a_program() {
    let hour = Duration::from_secs(3600);
    let bed = Bed::with(FlyletSettings {
        latency: Latency::Fixed { create: Duration::ZERO, start: hour, resume: Duration::ZERO },
        ..FlyletSettings::new("jobs")
    })
    .await;
    let id = bed.machines.create(&spec("m", ENDLESS), Launch::Now).await.unwrap();
    bed.machines.wait(&id, SeenState::Started, Duration::from_millis(1)).await.unwrap_err();
    bed.machines.stop(&id).await.unwrap();
    bed.reaches(&id, SeenState::Stopped).await;
    bed.machines.start(&id).await.unwrap();
    bed.machines.destroy(&id).await.unwrap();
    bed.reaches(&id, SeenState::Destroyed).await;
}

#[tokio::test]
async fn a_running_machine_is_deleted_by_force_only() {
    let bed = Bed::new().await;
    let id = bed.launched("m", ENDLESS).await;
    let path = format!("/v1/apps/jobs/machines/{id}");
    assert_eq!(bed.call(&format!("DELETE {path}"), "").await.0, 412);
    assert_eq!(bed.call(&format!("DELETE {path}?force=true"), "").await, (200, json!({"ok": true})));
    bed.reaches(&id, SeenState::Destroyed).await;
    let (status, body) = bed.call(&format!("GET {path}"), "").await;
    assert_eq!((status, &body["state"]), (200, &json!("destroyed")));
    assert_eq!(bed.call("GET /v1/apps/jobs/machines/00000000000000", "").await.0, 404);
    assert_eq!(bed.call("GET /v1/apps/jobs/machines/not-an-id", "").await.0, 400);
}

#[tokio::test]
async fn a_wait_ends_in_fly_s_words_and_takes_several_states() {
    let bed = Bed::new().await;
    let id = bed.launched("m", ENDLESS).await;
    let wait = format!("GET /v1/apps/jobs/machines/{id}/wait");
    let (status, body) = bed.call(&format!("{wait}?state=stopped&timeout=1"), "").await;
    let words = "deadline_exceeded: machine failed to reach desired state, stopped, currently started";
    assert_eq!((status, &body["error"]), (408, &json!(words)));
    for query in ["", "?state=stopped,started", "?state=stopped&state=started", "?state=settled"] {
        let (status, body) = bed.call(&format!("{wait}{query}"), "").await;
        assert_eq!((status, &body["ok"], &body["state"]), (200, &json!(true), &json!("started")), "{query}");
    }
    for query in ["?state=starting", "?timeout=0", "?timeout=61", "?version=other"] {
        assert_eq!(bed.call(&format!("{wait}{query}"), "").await.0, 400, "{query}");
    }
}

#[tokio::test]
async fn events_tell_the_story_newest_first() {
    let bed = Bed::new().await;
    let id = bed.machines.create(&spec("m", "exit 3"), Launch::Now).await.unwrap();
    bed.reaches(&id, SeenState::Stopped).await;
    let (_, machine) = bed.call(&format!("GET /v1/apps/jobs/machines/{id}"), "").await;
    let story: Vec<_> =
        machine["events"].as_array().unwrap().iter().map(|e| [&e["type"], &e["status"]]).collect();
    assert_eq!(
        json!(story),
        json!([["exit", "stopped"], ["start", "started"], ["start", "starting"], ["launch", "created"]])
    );
    let exit = &machine["events"][0]["request"]["exit_event"];
    assert_eq!(
        (&exit["exit_code"], &exit["guest_signal"], &exit["oom_killed"]),
        (&json!(3), &json!(-1), &json!(false))
    );
    assert_eq!(machine["instance_id"].as_str().unwrap().len(), 26);
    assert_eq!(machine["id"].as_str().unwrap().len(), 14);
    assert_eq!(machine["host_status"], "ok");
    assert_eq!(machine["image_ref"]["repository"], "app");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let bed = Bed::new().await;
    for (program, why) in [
        ("/no/such/host", "cannot run `/no/such/host`: program not found"),
        ("no-such-host", "cannot run `no-such-host`: program not found"),
        ("/etc/passwd", "cannot run `/etc/passwd`: "),
    ] {
        let name = program.replace('/', "x").trim_start_matches('x').to_owned();
        let spec = MachineSpec { exec: vec![program.to_owned()], ..spec(&name, "") };
        let id = bed.machines.create(&spec, Launch::Now).await.unwrap();
        bed.reaches(&id, SeenState::Failed).await;
        let exit = bed.machines.get(&id).await.unwrap().exit.unwrap();
        let error = exit.error.unwrap();
        assert!(error.starts_with(why), "{error}");
        assert!([Some(126), Some(127)].contains(&exit.code), "{:?}", exit.code);
    }
    let missing = FlyletSettings { work_dir: "/no/such/folder".into(), ..FlyletSettings::new("jobs") };
    let bed = Bed::with(missing).await;
    let id = bed.machines.create(&spec("m", "exit 0"), Launch::Now).await.unwrap();
    bed.reaches(&id, SeenState::Failed).await;
    let error = bed.machines.get(&id).await.unwrap().exit.unwrap().error.unwrap();
    assert_eq!(error, "cannot run `/bin/sh`: its folder /no/such/folder does not exist");
}

#[tokio::test]
async fn a_program_s_env_is_what_was_declared_and_what_fly_sets_and_nothing_else() {
    let image_env = BTreeMap::from([
        ("FROM_IMAGE".to_owned(), "image".into()),
        ("MIDGE_QUEUE".to_owned(), "of the image".into()),
        ("FLY_REGION".to_owned(), "of the image".into()),
    ]);
    let bed = Bed::with(FlyletSettings { image_env, ..FlyletSettings::new("jobs") }).await;
    let spec = MachineSpec { exec: vec!["/usr/bin/env".to_owned()], ..spec("m", "") };
    let id = bed.machines.create(&spec, Launch::Now).await.unwrap();
    bed.reaches(&id, SeenState::Stopped).await;
    let (_, machine) = bed.call(&format!("GET /v1/apps/jobs/machines/{id}"), "").await;
    let mut lines = bed.flylet.log(&id);
    lines.sort();
    let mut expected = [
        "FLY_APP_NAME=jobs",
        &format!("FLY_ALLOC_ID={id}"),
        &format!("FLY_MACHINE_ID={id}"),
        &format!("FLY_MACHINE_VERSION={}", machine["instance_id"].as_str().unwrap()),
        "FLY_IMAGE_REF=registry.example/app:v1",
        "FLY_PRIVATE_IP=127.0.0.1",
        "FLY_REGION=local",
        "FLY_VM_MEMORY_MB=512",
        "FROM_IMAGE=image",
        "HOME=/",
        "MIDGE_LEASH_FD=0",
        "MIDGE_QUEUE=default",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ];
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn the_app_s_secrets_reach_a_machine_unless_it_is_made_without() {
    let secrets = BTreeMap::from([("MIDGE_QUEUE".to_owned(), "a secret".into())]);
    let bed = Bed::with(FlyletSettings { secrets, ..FlyletSettings::new("jobs") }).await;
    for (name, has_secrets, line) in
        [("with", true, "MIDGE_QUEUE=a secret"), ("without", false, "MIDGE_QUEUE=default")]
    {
        let spec = MachineSpec { exec: vec!["/usr/bin/env".to_owned()], has_secrets, ..spec(name, "") };
        let id = bed.machines.create(&spec, Launch::Now).await.unwrap();
        bed.reaches(&id, SeenState::Stopped).await;
        assert!(bed.flylet.log(&id).iter().any(|found| found == line), "{name}");
    }
}

#[tokio::test]
async fn a_program_that_ignores_its_signal_is_killed_when_its_time_is_up() {
    let bed = Bed::new().await;
    let id = bed.launched("m", "trap 'echo heard' TERM; echo ready; while :; do sleep 0.01; done").await;
    bed.wrote(&id, "ready").await;
    let stop = json!({"signal": "SIGTERM", "timeout": "100ms"}).to_string();
    let (status, _) = bed.call(&format!("POST /v1/apps/jobs/machines/{id}/stop"), &stop).await;
    assert_eq!(status, 200);
    bed.reaches(&id, SeenState::Stopped).await;
    let exit = bed.machines.get(&id).await.unwrap().exit.unwrap();
    assert_eq!((exit.code, exit.signal, exit.requested_stop), (Some(137), Some(9), true));
    bed.wrote(&id, "heard").await;
}

#[tokio::test]
async fn a_program_that_has_no_time_to_stop_is_killed_at_once() {
    let bed = Bed::new().await;
    let script = "trap '' TERM; echo ready; while :; do sleep 0.01; done";
    for (name, timeout) in [("m", json!("0s")), ("n", json!(0))] {
        let id = bed.launched(name, script).await;
        bed.wrote(&id, "ready").await;
        let stop = json!({"signal": "SIGTERM", "timeout": timeout}).to_string();
        assert_eq!(bed.call(&format!("POST {}/stop", Bed::path(&id)), &stop).await.0, 200, "{timeout}");
        bed.reaches(&id, SeenState::Stopped).await;
        assert_eq!(bed.machines.get(&id).await.unwrap().exit.unwrap().signal, Some(9), "{timeout}");
    }
}

#[tokio::test]
async fn a_stop_sends_the_signal_of_the_config_where_none_is_asked_for() {
    let bed = Bed::new().await;
    // The client's config says SIGTERM; Fly's own default is SIGINT.
    let id = bed
        .launched("m", "trap 'exit 15' TERM; trap 'exit 2' INT; echo ready; while :; do sleep 0.01; done")
        .await;
    bed.wrote(&id, "ready").await;
    assert_eq!(bed.call(&format!("POST /v1/apps/jobs/machines/{id}/stop"), "").await.0, 200);
    bed.reaches(&id, SeenState::Stopped).await;
    assert_eq!(bed.machines.get(&id).await.unwrap().exit.unwrap().code, Some(15));
}

#[tokio::test]
async fn a_machine_takes_all_its_processes_with_it() {
    let bed = Bed::new().await;
    let id = bed.launched("m", "sleep 86400 & echo child $!; wait").await;
    let lines = bed.wrote(&id, "child").await;
    let child = lines[0].strip_prefix("child ").unwrap();
    bed.machines.destroy(&id).await.unwrap();
    ends(child).await;

    // Also where the program itself ends and leaves one behind.
    let id = bed.launched("n", "sleep 86400 & echo child $!").await;
    bed.reaches(&id, SeenState::Stopped).await;
    let lines = bed.wrote(&id, "child").await;
    ends(lines[0].strip_prefix("child ").unwrap()).await;
}

#[tokio::test]
async fn auto_destroy_ends_the_machine_with_its_program_and_keeps_the_reason() {
    let bed = Bed::new().await;
    let body = json!({"config": {"image": "i", "init": {"exec": ["/bin/sh", "-c", "exit 4"]},
        "restart": {"policy": "no"}, "auto_destroy": true}});
    let (_, machine) = bed.call("POST /v1/apps/jobs/machines", &body.to_string()).await;
    assert_eq!(machine["state"], "created");
    let id = MachineId::new(machine["id"].as_str().unwrap()).unwrap();
    bed.reaches(&id, SeenState::Destroyed).await;
    assert_eq!(bed.machines.get(&id).await.unwrap().exit.unwrap().code, Some(4));
}

#[tokio::test]
async fn an_image_has_a_command_of_its_own() {
    let command = ["/bin/echo", "from", "the", "image"].map(str::to_owned).to_vec();
    let bed = Bed::with(FlyletSettings { image_command: command, ..FlyletSettings::new("jobs") }).await;
    for (init, line) in [
        (json!({}), "from the image"),
        (json!({"entrypoint": ["/bin/echo", "a"], "cmd": ["b"]}), "a b"),
        (json!({"exec": ["/bin/echo", "exec"], "cmd": ["b"]}), "exec"),
    ] {
        let body = json!({"config": {"image": "i", "init": init, "restart": {"policy": "no"}}});
        let (_, machine) = bed.call("POST /v1/apps/jobs/machines", &body.to_string()).await;
        let id = MachineId::new(machine["id"].as_str().unwrap()).unwrap();
        bed.reaches(&id, SeenState::Stopped).await;
        assert_eq!(bed.flylet.log(&id), [line]);
    }
}

#[tokio::test]
async fn a_list_is_filtered_and_comes_in_pages() {
    let bed = Bed::new().await;
    // More than the client's page.
    for number in 0..450 {
        let mut spec = spec(&format!("m-{number}"), ENDLESS);
        spec.metadata.insert("half".to_owned(), (number % 2).to_string());
        bed.machines.create(&spec, Launch::Later).await.unwrap();
    }
    assert_eq!(bed.machines.list(&Label::new("midge_app", "test")).await.unwrap().len(), 450);
    assert_eq!(bed.machines.list(&Label::new("half", "1")).await.unwrap().len(), 225);

    let list = |query: &'static str| bed.call(query, "");
    let len = |(status, list): (u16, Value)| {
        assert_eq!(status, 200);
        list.as_array().unwrap().len()
    };
    assert_eq!(len(list("GET /v1/apps/jobs/machines?limit=7").await), 7);
    assert_eq!(len(list("GET /v1/apps/jobs/machines?metadata.half=1&metadata.midge_app=other").await), 0);
    assert_eq!(len(list("GET /v1/apps/jobs/machines?region=iad").await), 0);
    assert_eq!(len(list("GET /v1/apps/jobs/machines?state=started,failed").await), 0);
    assert_eq!(len(list("GET /v1/apps/jobs/machines?state=created,stopped&region=local").await), 450);
    assert_eq!(list("GET /v1/apps/jobs/machines?limit=0").await.0, 400);
    let (_, summary) = list("GET /v1/apps/jobs/machines?limit=1&summary=true").await;
    for left_out in ["config", "events", "host_status"] {
        assert!(summary[0].get(left_out).is_none(), "{left_out}");
    }
}

#[tokio::test]
async fn the_oldest_of_a_thousand_destroyed_machines_are_forgotten() {
    let bed = Bed::new().await;
    let mut ids = Vec::new();
    for number in 0..1001 {
        let id = bed.machines.create(&spec(&format!("m-{number}"), ENDLESS), Launch::Later).await.unwrap();
        bed.machines.destroy(&id).await.unwrap();
        bed.reaches(&id, SeenState::Destroyed).await;
        ids.push(id);
    }
    assert!(matches!(bed.machines.get(&ids[0]).await, Err(MachineError::Gone(_))));
    assert_eq!(bed.machines.get(&ids[1]).await.unwrap().state, SeenState::Destroyed);
}

#[tokio::test]
async fn there_is_a_limit_of_machines_as_organizations_have() {
    let bed = Bed::with(FlyletSettings { machines_max: 1, ..FlyletSettings::new("jobs") }).await;
    let id = bed.launched("m", ENDLESS).await;
    let full = bed.machines.create(&spec("n", ENDLESS), Launch::Now).await;
    assert!(matches!(full, Err(MachineError::LimitReached(_))), "{full:?}");
    bed.machines.destroy(&id).await.unwrap();
    bed.reaches(&id, SeenState::Destroyed).await;
    bed.launched("n", ENDLESS).await;
}

#[tokio::test]
async fn a_shutdown_kills_every_machine_and_frees_the_port() {
    let bed = Bed::new().await;
    let mut pids = Vec::new();
    for name in ["a", "b", "c"] {
        let id = bed.launched(name, "trap '' TERM; echo pid $$; while :; do sleep 0.01; done").await;
        let lines = bed.wrote(&id, "pid").await;
        pids.push(lines[0].strip_prefix("pid ").unwrap().to_owned());
    }
    let waiting = bed.machines.list(&Label::new("midge_app", "test")).await.unwrap();
    assert_eq!(waiting.len(), 3);
    let address = bed.flylet.url().replace("http://", "");
    bed.flylet.shutdown().await;
    for pid in pids {
        // Waited for already: not even a zombie is left.
        assert!(!PathBuf::from("/proc").join(&pid).exists(), "{pid}");
    }
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_those_who_wait() {
    let bed = Bed::new().await;
    let id = bed.launched("m", ENDLESS).await;
    let wait = bed.machines.wait(&id, SeenState::Suspended, DEADLINE);
    let shutdown = async {
        // The wait is on its way before the shutdown is.
        tokio::task::yield_now().await;
        bed.flylet.shutdown().await;
    };
    let (answer, ()) = tokio::join!(wait, shutdown);
    assert!(answer.is_err());
}

#[tokio::test]
async fn dropping_a_flylet_kills_its_machines() {
    let bed = Bed::new().await;
    let id = bed.launched("m", "echo pid $$; exec sleep 86400").await;
    let lines = bed.wrote(&id, "pid").await;
    drop(bed.flylet);
    ends(lines[0].strip_prefix("pid ").unwrap()).await;
}

#[test]
fn dropping_the_runtime_kills_the_machines() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (bed, pid) = runtime.block_on(async {
        let bed = Bed::new().await;
        let id = bed.launched("m", "echo pid $$; exec sleep 86400").await;
        let lines = bed.wrote(&id, "pid").await;
        (bed, lines[0].strip_prefix("pid ").unwrap().to_owned())
    });
    drop(runtime);
    drop(bed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(ends(&pid));
}

#[tokio::test]
async fn it_listens_on_loopback_only_and_says_when_the_port_is_taken() {
    let open = FlyletSettings { listen: "0.0.0.0:0".parse().unwrap(), ..FlyletSettings::new("jobs") };
    assert!(matches!(Flylet::start(open).await, Err(FlyletError::NotLoopback(_))));
    let bed = Bed::new().await;
    let listen = bed.flylet.url().replace("http://", "").parse().unwrap();
    let error = Flylet::start(FlyletSettings { listen, ..FlyletSettings::new("jobs") }).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {listen}: choose another port, or 0 for any"));
}

#[tokio::test]
async fn it_starts_for_no_app_and_no_regions_that_fly_could_not_have() {
    for app in ["", "Jobs", "a/b", "a b", "a_b", &"a".repeat(64)] {
        let error = Flylet::start(FlyletSettings::new(app)).await.unwrap_err();
        assert!(matches!(&error, FlyletError::NoApp(name) if name == app), "{error}");
    }
    let regions = ["iad=5", "lhr", "iad"].map(|text| text.parse::<Region>().unwrap()).to_vec();
    let twice = FlyletSettings { regions, ..FlyletSettings::new("jobs") };
    assert_eq!(Flylet::start(twice).await.unwrap_err().to_string(), "region `iad` is given twice");
}
