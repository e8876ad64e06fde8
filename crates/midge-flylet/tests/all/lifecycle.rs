//! Leases, metadata, versions, updates, waits and the rest of what may be done to a Machine, in Fly's words.

use midge_flylet::{FlyletSettings, Region};
use midge_machines::{Launch, MachineError, MachineSpec, Machines as _, SeenState};
use midge_protocol::MachineId;
use serde_json::{Value, json};

use super::bed::{Bed, ENDLESS, spec};

async fn machine(bed: &Bed, id: &MachineId) -> Value {
    bed.call(&format!("GET {}", Bed::path(id)), "").await.1
}

fn config(script: &str) -> Value {
    json!({"image": "registry.example/app:v2", "init": {"exec": ["/bin/sh", "-c", script]},
        "restart": {"policy": "no"}, "metadata": {"a": "1"},
        "services": [{"protocol": "tcp", "internal_port": 80}], "misspelt": true})
}

#[tokio::test]
async fn a_lease_keeps_everybody_else_from_changing_the_machine() {
    let bed = Bed::new().await;
    let id = bed.launched("m", ENDLESS).await;
    let path = Bed::path(&id);
    assert_eq!(bed.call(&format!("GET {path}/lease"), "").await.0, 404);
    let ask = json!({"description": "deploy", "ttl": 60}).to_string();
    let (status, body) = bed.call(&format!("POST {path}/lease"), &ask).await;
    assert_eq!(
        (status, &body["status"], &body["data"]["description"]),
        (201, &json!("success"), &json!("deploy"))
    );
    let nonce = body["data"]["nonce"].as_str().unwrap().to_owned();

    for call in ["stop", "start", "suspend", "restart", "cordon", "uncordon", "lease"] {
        let (status, body) = bed.call(&format!("POST {path}/{call}"), "").await;
        let error = body["error"].as_str().unwrap();
        assert_eq!(status, 409, "{call}");
        assert!(
            error.starts_with(&format!("aborted: machine ID {id} lease currently held by jobs, expires at ")),
            "{error}"
        );
    }
    assert_eq!(bed.call(&format!("DELETE {path}?force=true"), "").await.0, 409);
    assert_eq!(bed.call(&format!("DELETE {path}/lease"), "").await.0, 409);
    let stopped = bed.machines.stop(&id).await;
    assert!(matches!(stopped, Err(MachineError::Conflict(_))), "{stopped:?}");
    // It guards no metadata.
    assert_eq!(bed.call(&format!("POST {path}/metadata/k"), r#"{"value":"v"}"#).await.0, 204);

    let (status, longer) = bed.call_holding(&nonce, &format!("POST {path}/lease?ttl=600"), "").await;
    assert_eq!((status, longer["data"]["nonce"].as_str()), (201, Some(nonce.as_str())));
    assert!(longer["data"]["expires_at"].as_i64() > body["data"]["expires_at"].as_i64());
    let (_, shown) = bed.call(&format!("GET {path}/lease"), "").await;
    assert_eq!((&shown["data"]["owner"], &shown["data"]["nonce"]), (&json!("jobs"), &Value::Null));
    let (_, list) = bed.call("GET /v1/apps/jobs/machines?include_leases=true", "").await;
    assert_eq!(list[0]["lease"]["owner"], "jobs");

    assert_eq!(bed.call_holding(&nonce, &format!("POST {path}/stop"), "").await.0, 200);
    assert_eq!(bed.call_holding(&nonce, &format!("DELETE {path}/lease"), "").await.0, 200);
    bed.machines.destroy(&id).await.unwrap();
    for ttl in ["0.5", "-1", "86401"] {
        assert_eq!(bed.call(&format!("POST {path}/lease?ttl={ttl}"), "").await.0, 400, "{ttl}");
    }
}

#[tokio::test]
async fn an_id_in_another_writing_is_refused_by_every_call() {
    let bed = Bed::new().await;
    let id = bed.launched("m", ENDLESS).await;
    let path = Bed::path(&id);
    assert_eq!(bed.call(&format!("POST {path}/lease"), "").await.0, 201);
    let first = id.as_str().as_bytes()[0];
    let written = format!("/v1/apps/jobs/machines/%{first:02x}{}", &id.as_str()[1..]);
    for call in ["POST {}/stop", "DELETE {}?force=true", "POST {}/lease", "GET {}", "GET {}/wait"] {
        let (status, body) = bed.call(&call.replace("{}", &written), "").await;
        let error = body["error"].as_str().unwrap();
        assert!(status == 400 && error.starts_with("invalid_argument: invalid machine ID"), "{call}: {body}");
    }
    assert_eq!(bed.machines.get(&id).await.unwrap().state, SeenState::Started);
}

#[tokio::test]
async fn a_machine_can_be_made_under_a_lease() {
    let bed = Bed::new().await;
    let body = json!({"config": config(ENDLESS), "skip_launch": true, "lease_ttl": 60});
    let (_, made) = bed.call("POST /v1/apps/jobs/machines", &body.to_string()).await;
    let path = format!("/v1/apps/jobs/machines/{}", made["id"].as_str().unwrap());
    assert_eq!(bed.call(&format!("DELETE {path}"), "").await.0, 409);
    let nonce = made["nonce"].as_str().unwrap();
    assert_eq!(bed.call_holding(nonce, &format!("DELETE {path}"), "").await.0, 200);
    let bad = json!({"config": config(ENDLESS), "lease_ttl": -5}).to_string();
    assert_eq!(bed.call("POST /v1/apps/jobs/machines", &bad).await.0, 400);
    assert_eq!(bed.call("GET /v1/apps/jobs/machines", "").await.1.as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn metadata_changes_without_a_new_version() {
    let bed = Bed::new().await;
    let id = bed.machines.create(&spec("m", ENDLESS), Launch::Later).await.unwrap();
    let path = format!("{}/metadata", Bed::path(&id));
    let version = machine(&bed, &id).await["instance_id"].clone();
    let change = json!({"metadata": {"a": "1", "midge_app": null, "b": ""}, "machine_version": version});
    assert_eq!(bed.call(&format!("PATCH {path}"), &change.to_string()).await, (204, Value::Null));
    assert_eq!(bed.call(&format!("POST {path}/c"), r#"{"value":"3"}"#).await.0, 204);
    assert_eq!(bed.call(&format!("GET {path}"), "").await, (200, json!({"a": "1", "c": "3"})));
    assert_eq!(bed.call(&format!("GET {path}/c"), "").await, (200, json!({"value": "3"})));
    assert_eq!(bed.call(&format!("DELETE {path}/c"), "").await.0, 204);
    assert_eq!(bed.call(&format!("GET {path}/c"), "").await.0, 404);
    let stale = json!({"metadata": {"a": "2"}, "machine_version": "other"}).to_string();
    assert_eq!(bed.call(&format!("PATCH {path}"), &stale).await.0, 412);
    let many = "v".repeat(40 * 1024);
    for (key, answer) in [("%0a", 400), ("x", 204), ("y", 400)] {
        let value = if key == "%0a" { "v" } else { many.as_str() };
        let body = json!({ "value": value }).to_string();
        assert_eq!(bed.call(&format!("POST {path}/{key}"), &body).await.0, answer, "{key}");
    }
    let control = json!({"metadata": {"a\u{7f}": "1"}}).to_string();
    assert_eq!(bed.call(&format!("PATCH {path}"), &control).await.0, 400);
    assert_eq!(bed.call(&format!("PUT {path}"), r#"{"metadata":{"z":"9"}}"#).await.0, 204);
    assert_eq!(bed.call(&format!("GET {path}"), "").await.1, json!({"z": "9"}));
    assert_eq!(machine(&bed, &id).await["instance_id"], version);
    let (_, list) = bed.call("GET /v1/apps/jobs/machines?metadata.z=9", "").await;
    assert_eq!(list[0]["id"].as_str(), Some(id.as_str()));
}

#[tokio::test]
async fn an_update_restarts_what_runs_under_a_new_version() {
    let bed = Bed::new().await;
    let id = bed.launched("m", "echo one; exec sleep 86400").await;
    let before = machine(&bed, &id).await;
    let path = Bed::path(&id);
    let body =
        json!({"config": config("echo two; exec sleep 86400"), "current_version": "other"}).to_string();
    let (status, answer) = bed.call(&format!("POST {path}"), &body).await;
    assert_eq!(status, 409);
    assert!(answer["error"].as_str().unwrap().starts_with("aborted: current_version `other`"), "{answer}");

    let body =
        json!({"config": config("echo two; exec sleep 86400"), "current_version": before["instance_id"]});
    let (status, answer) = bed.call(&format!("POST {path}"), &body.to_string()).await;
    assert_eq!(status, 200, "{answer}");
    assert!(
        answer["instance_id"] != before["instance_id"]
            && answer["config"]["image"] == "registry.example/app:v2"
    );
    assert_eq!(
        (&answer["config"]["services"][0]["internal_port"], &answer["config"]["misspelt"]),
        (&json!(80), &Value::Null),
        "what Fly knows is kept and what it does not is dropped without a word"
    );
    bed.wrote(&id, "two").await;
    bed.reaches(&id, SeenState::Started).await;

    let (_, versions) = bed.call(&format!("GET {path}/versions"), "").await;
    assert_eq!(versions.as_array().unwrap().len(), 2);
    assert_eq!(versions[0]["version"], answer["instance_id"]);
    let old = before["instance_id"].as_str().unwrap();
    let (_, shown) = bed.call(&format!("GET {path}?version={old}"), "").await;
    assert_eq!(
        (&shown["state"], &shown["config"]["image"]),
        (&json!("replaced"), &before["config"]["image"])
    );
    let (status, waited) = bed.call(&format!("GET {path}/wait?version={old}&state=stopped"), "").await;
    assert_eq!(status, 408);
    assert!(waited["error"].as_str().unwrap().ends_with("currently replaced"), "{waited}");

    bed.machines.stop(&id).await.unwrap();
    bed.reaches(&id, SeenState::Stopped).await;
    let rests = json!({"config": config("exit 3"), "skip_launch": true}).to_string();
    assert_eq!(bed.call(&format!("POST {path}"), &rests).await.1["state"], "stopped");
    bed.machines.start(&id).await.unwrap();
    bed.reaches(&id, SeenState::Stopped).await;
}

#[tokio::test]
async fn a_restart_runs_the_program_anew_and_a_signal_reaches_it() {
    let bed = Bed::new().await;
    let id = bed.launched("m", "trap 'echo heard' USR1; echo pid $$; while :; do sleep 0.01; done").await;
    let path = Bed::path(&id);
    let first = bed.wrote(&id, "pid").await;
    assert_eq!(bed.call(&format!("POST {path}/signal"), r#"{"signal":"SIGUSR1"}"#).await.0, 200);
    bed.wrote(&id, "heard").await;
    assert_eq!(bed.call(&format!("POST {path}/signal"), r#"{"signal":"SIGSTOP"}"#).await.0, 400);
    let newest = machine(&bed, &id).await["events"][0]["id"].clone();
    let after = newest.as_str().unwrap();
    assert_eq!(
        bed.call(&format!("POST {path}/restart?timeout=5s&signal=SIGTERM&force_stop=true"), "").await.0,
        200
    );
    let (status, waited) =
        bed.call(&format!("GET {path}/wait?state=started&from_event_id={after}"), "").await;
    assert_eq!((status, &waited["state"]), (200, &json!("started")), "{waited}");
    let exit = machine(&bed, &id).await["events"]
        .as_array()
        .unwrap()
        .iter()
        .find_map(|event| (event["type"] == "exit").then(|| event["request"]["exit_event"].clone()))
        .unwrap();
    assert_eq!((&exit["restarting"], &exit["requested_stop"]), (&json!(true), &json!(true)));
    assert_eq!(first.iter().filter(|line| line.starts_with("pid")).count(), 1);
    bed.machines.stop(&id).await.unwrap();
    bed.reaches(&id, SeenState::Stopped).await;
    assert_eq!(bed.call(&format!("POST {path}/signal"), r#"{"signal":"SIGUSR1"}"#).await.0, 412);
    assert_eq!(bed.call(&format!("POST {path}/restart"), "").await.0, 200);
    bed.reaches(&id, SeenState::Started).await;
}

#[tokio::test]
async fn a_machine_is_cordoned_and_its_events_are_counted() {
    let bed = Bed::new().await;
    let id = bed.launched("m", ENDLESS).await;
    let path = Bed::path(&id);
    assert_eq!(bed.call(&format!("POST {path}/cordon"), "").await.0, 200);
    assert_eq!(machine(&bed, &id).await["cordoned"], true);
    assert_eq!(bed.call(&format!("POST {path}/uncordon"), "").await.0, 200);
    assert_eq!(machine(&bed, &id).await["cordoned"], Value::Null);
    let (_, events) = bed.call(&format!("GET {path}/events?limit=2"), "").await;
    assert_eq!(events.as_array().unwrap().len(), 2);
    assert_eq!(events[0]["status"], "started");
    assert_eq!(bed.call(&format!("GET {path}/events?limit=51"), "").await.0, 400);
}

#[tokio::test]
async fn a_create_goes_to_the_first_region_with_room() {
    let regions = ["iad=1", "lhr=/512", "ord"].map(|text| text.parse::<Region>().unwrap()).to_vec();
    let bed = Bed::with(FlyletSettings { regions, ..FlyletSettings::new("jobs") }).await;
    let create = |name: &'static str, region: &'static str| {
        let mut spec = spec(name, ENDLESS);
        spec.region = Some(region.to_owned());
        let bed = &bed;
        async move { bed.machines.create(&spec, Launch::Now).await }
    };
    let first = create("a", "iad").await.unwrap();
    assert_eq!(bed.machines.get(&first).await.unwrap().region, "iad");
    let full = create("b", "iad").await;
    assert!(
        matches!(&full, Err(MachineError::NoCapacity(why)) if why.contains("candidate host")),
        "{full:?}"
    );
    let second = create("b", "iad,eu,any").await.unwrap();
    assert_eq!(bed.machines.get(&second).await.unwrap().region, "lhr");
    let quota = create("c", "iad,lhr").await;
    let words = "organization jobs is using 512 MB of memory in lhr which is over the allowed quota";
    assert!(matches!(&quota, Err(MachineError::NoCapacity(why)) if why.contains(words)), "{quota:?}");
    let third = create("c", "iad,lhr,any").await.unwrap();
    assert_eq!(bed.machines.get(&third).await.unwrap().region, "ord");
    let unknown = create("d", "mars").await;
    assert!(matches!(&unknown, Err(MachineError::Invalid(why)) if why.contains("`mars`")), "{unknown:?}");

    // One that is stopped gives its room to others, and may find none when it starts.
    bed.reaches(&first, SeenState::Started).await;
    bed.machines.stop(&first).await.unwrap();
    bed.reaches(&first, SeenState::Stopped).await;
    create("e", "iad").await.unwrap();
    let full = bed.machines.start(&first).await;
    assert!(
        matches!(&full, Err(MachineError::NoCapacity(why)) if why.contains("could not reserve")),
        "{full:?}"
    );

    let (_, body) = bed.call("GET /v1/platform/regions", "").await;
    assert_eq!((&body["nearest"], &body["regions"][2]["code"]), (&json!("iad"), &json!("ord")));
}

#[tokio::test]
async fn whatever_starts_or_grows_asks_its_region_for_room() {
    let regions = ["iad=1", "lhr=/1024"].map(|text| text.parse::<Region>().unwrap()).to_vec();
    let bed = Bed::with(FlyletSettings { regions, ..FlyletSettings::new("jobs") }).await;
    let create = |name: &'static str, region: &'static str| {
        let spec = MachineSpec { region: Some(region.to_owned()), ..spec(name, ENDLESS) };
        let bed = &bed;
        async move {
            let id = bed.machines.create(&spec, Launch::Now).await.unwrap();
            bed.reaches(&id, SeenState::Started).await;
            id
        }
    };
    let sized = |memory_mb: u32, skip_launch: bool| {
        let mut config = config(ENDLESS);
        config["guest"] = json!({"cpu_kind": "shared", "cpus": 1, "memory_mb": memory_mb});
        json!({"config": config, "skip_launch": skip_launch}).to_string()
    };
    let answered = |line: String, body: String| {
        let bed = &bed;
        async move {
            let (status, body) = bed.call(&line, &body).await;
            (status, body["error"].as_str().unwrap_or_default().to_owned())
        }
    };
    for (region, names, status, words) in [
        ("iad", &["a", "b"][..], 409, "could not reserve"),
        ("lhr", &["c", "d", "e"], 403, "over the allowed quota"),
    ] {
        let stopped = create(names[0], region).await;
        bed.machines.stop(&stopped).await.unwrap();
        bed.reaches(&stopped, SeenState::Stopped).await;
        let mut others = Vec::new();
        for name in &names[1..] {
            others.push(create(name, region).await);
        }
        let path = Bed::path(&stopped);
        for (call, body) in [("/restart", String::new()), ("/start", String::new()), ("", sized(256, false))]
        {
            let (answer, error) = answered(format!("POST {path}{call}"), body).await;
            assert!(answer == status && error.contains(words), "{region} {call}: {answer} {error}");
        }
        // What goes on resting needs none.
        assert_eq!(answered(format!("POST {path}"), sized(256, true)).await.0, 200);
        assert_eq!(bed.machines.get(&stopped).await.unwrap().state, SeenState::Stopped);

        // What runs grows by as much as there is.
        let path = Bed::path(&others[0]);
        let (answer, error) = answered(format!("POST {path}"), sized(1024, false)).await;
        let expected = if region == "lhr" { 403 } else { 200 };
        assert_eq!(answer, expected, "{error}");
    }
}

#[tokio::test]
async fn the_app_can_be_deleted_with_its_machines_and_made_again() {
    let bed = Bed::new().await;
    let id = bed.launched("m", ENDLESS).await;
    assert_eq!(bed.call("GET /v1/apps/jobs", "").await.1["machine_count"], 1);
    assert_eq!(bed.call("GET /v1/apps", "").await.1["total_apps"], 1);
    let name = |name: &str| json!({"name": name, "org_slug": "personal"}).to_string();
    assert_eq!(bed.call("POST /v1/apps", &name("jobs")).await.0, 422);
    assert_eq!(bed.call("POST /v1/apps", &name("other")).await.0, 422);
    assert_eq!(bed.call("DELETE /v1/apps/jobs", "").await.0, 202);
    let lost = bed.machines.get(&id).await;
    assert!(matches!(lost, Err(MachineError::NoApp(_))), "{lost:?}");
    assert_eq!(bed.call("GET /v1/apps", "").await.1["total_apps"], 0);
    assert_eq!(bed.call("POST /v1/apps", &name("jobs")).await.0, 201);
    bed.reaches(&id, SeenState::Destroyed).await;
    assert_eq!(bed.call("GET /v1/tokens/current", "").await.1["tokens"][0]["apps"], json!(["jobs"]));
}

#[tokio::test]
async fn a_size_that_fly_does_not_sell_and_a_volume_are_refused() {
    let bed = Bed::new().await;
    let made = |change: Value| {
        let mut config = config(ENDLESS);
        config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        json!({ "config": config }).to_string()
    };
    for (change, status, words) in [
        (json!({"guest": {"cpu_kind": "shared", "cpus": 3, "memory_mb": 1024}}), 422, "unsupported guest"),
        (json!({"mounts": [{"volume": "v", "path": "/data"}]}), 400, "no volumes"),
    ] {
        let (answered, body) = bed.call("POST /v1/apps/jobs/machines", &made(change)).await;
        assert_eq!(answered, status, "{body}");
        assert!(body["error"].as_str().unwrap().contains(words), "{body}");
    }
}
