//! Faults by name and by chance, limits of calls, and latencies.

use std::collections::BTreeMap;
use std::time::Duration;

use midge_flylet::{Fault, Faults, FlyletSettings, Latency};
use midge_machines::{Label, Launch, MachineError, Machines as _, SeenState};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::bed::{Bed, ENDLESS, ends, spec};

/// A speed at which everything of Fly's takes no time that a test would notice.
const FAST: f64 = 1e5;

fn fast() -> FlyletSettings {
    FlyletSettings { speed: FAST, ..FlyletSettings::new("jobs") }
}

fn body(name: &str) -> String {
    json!({"name": name, "config": {"image": "i", "restart": {"policy": "no"},
        "init": {"exec": ["/bin/sh", "-c", "echo pid $$; exec sleep 86400"]}}})
    .to_string()
}

#[test]
fn the_document_has_a_line_for_every_fault_and_no_other() {
    let document = include_str!("../../../../docs/flylet.md");
    let table = document.split("## Faults").nth(1).unwrap().split("\nTo see").next().unwrap();
    let lines = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    assert_eq!(lines.collect::<Vec<_>>(), Fault::ALL.map(Fault::as_str));
}

#[tokio::test]
async fn a_fault_by_name_is_answered_in_fly_s_words_and_nothing_is_done() {
    let bed = Bed::new().await;
    let id = bed.launched("m", ENDLESS).await;
    let machine = Bed::path(&id);
    let create = "POST /v1/apps/jobs/machines".to_owned();
    let start = format!("POST {machine}/start");
    let stop = format!("POST {machine}/stop");
    for (fault, line, status, words) in [
        (Fault::RateLimited, &stop, 429, "resource_exhausted: rate limit exceeded"),
        (Fault::Deadline, &stop, 408, "deadline_exceeded"),
        (Fault::Unavailable, &stop, 503, "unavailable"),
        (Fault::Denied, &stop, 403, "permission_denied"),
        (Fault::LeaseHeld, &stop, 409, "lease currently held by"),
        (Fault::ConcurrentUpdate, &stop, 409, "concurrent update"),
        (Fault::HostFull, &start, 409, "could not reserve resource"),
        (Fault::StartBlocked, &start, 409, "governor policy blocked start"),
        (Fault::BeingReplaced, &start, 412, "machine getting replaced"),
        (Fault::DeploysDisabled, &create, 409, "deploys to this host"),
        (Fault::NoCapacity, &create, 409, "no capacity"),
        (Fault::NoHost, &create, 422, "could not find a candidate host"),
        (Fault::MachineLimit, &create, 422, "has reached its machine limit"),
        (Fault::RegionQuota, &create, 403, "over the allowed quota"),
        (Fault::GoneName, &create, 409, "unique machine name violation"),
    ] {
        let (answered, answer) = bed.call_with(fault, line, &body("n")).await;
        assert_eq!(answered, status, "{fault}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains(words), "{fault}: {answer}");
    }
    let (status, answer) = bed.call_with(Fault::BadGateway, &stop, "").await;
    assert_eq!((status, answer), (502, Value::Null));
    let (_, list) = bed.call("GET /v1/apps/jobs/machines", "").await;
    assert_eq!((list.as_array().unwrap().len(), &list[0]["state"]), (1, &json!("started")));

    let (status, answer) = bed.call_with(Fault::LaggingList, &stop, "").await;
    assert_eq!(status, 400);
    assert!(answer["error"].as_str().unwrap().contains("cannot meet the fault `lagging-list`"), "{answer}");
}

#[tokio::test]
async fn a_lost_or_late_answer_is_of_a_call_that_was_done() {
    let bed = Bed::with(fast()).await;
    let create = "POST /v1/apps/jobs/machines";
    assert_eq!(bed.call_with(Fault::LostAnswer, create, &body("lost")).await.0, 0);
    assert_eq!(bed.call_with(Fault::LateAnswer, create, &body("late")).await.0, 200);
    let (_, list) = bed.call("GET /v1/apps/jobs/machines", "").await;
    assert_eq!(list.as_array().unwrap().len(), 2);

    let id = bed.launched("m", ENDLESS).await;
    bed.machines.stop(&id).await.unwrap();
    bed.reaches(&id, SeenState::Stopped).await;
    let start = format!("POST {}/start", Bed::path(&id));
    let (status, body) = bed.call_with(Fault::StillStarting, &start, "").await;
    assert_eq!((status, &body["error"]), (409, &json!("aborted: machine still attempting to start")));
    bed.reaches(&id, SeenState::Started).await;
}

#[tokio::test]
async fn stuck_machines_can_be_destroyed_and_go_on_after_their_time() {
    let bed = Bed::new().await;
    let create = "POST /v1/apps/jobs/machines";
    for (fault, state) in [(Fault::StuckCreated, "created"), (Fault::StuckStarting, "starting")] {
        let (_, made) = bed.call_with(fault, create, &body(state)).await;
        let path = format!("/v1/apps/jobs/machines/{}", made["id"].as_str().unwrap());
        let (status, waited) = bed.call(&format!("GET {path}/wait?timeout=1"), "").await;
        assert_eq!(status, 408);
        assert!(waited["error"].as_str().unwrap().ends_with(&format!("currently {state}")), "{waited}");
        assert_eq!(bed.call(&format!("DELETE {path}?force=true"), "").await.0, 200);
        assert_eq!(bed.call(&format!("GET {path}/wait?state=destroyed"), "").await.0, 200);
    }
    let id = bed.launched("m", ENDLESS).await;
    let path = Bed::path(&id);
    assert_eq!(bed.call_with(Fault::StuckStopping, &format!("POST {path}/stop"), "").await.0, 200);
    let (status, waited) = bed.call(&format!("GET {path}/wait?state=stopped&timeout=1"), "").await;
    assert_eq!((status, waited["error"].as_str().unwrap().ends_with("currently stopping")), (408, true));
    bed.machines.destroy(&id).await.unwrap();
    bed.reaches(&id, SeenState::Destroyed).await;

    // In scaled time they go on.
    let bed = Bed::with(fast()).await;
    for (fault, name) in [(Fault::StuckCreated, "a"), (Fault::StuckStarting, "b")] {
        let (_, made) = bed.call_with(fault, create, &body(name)).await;
        let path = format!("/v1/apps/jobs/machines/{}", made["id"].as_str().unwrap());
        assert_eq!(bed.call(&format!("GET {path}/wait"), "").await.0, 200, "{fault}");
        assert_eq!(bed.call_with(Fault::StuckStopping, &format!("POST {path}/stop"), "").await.0, 200);
        assert_eq!(bed.call(&format!("GET {path}/wait?state=stopped"), "").await.0, 200, "{fault}");
        assert_eq!(bed.call_with(Fault::StuckDestroying, &format!("DELETE {path}"), "").await.0, 200);
        assert_eq!(bed.call(&format!("GET {path}/wait?state=destroyed"), "").await.0, 200, "{fault}");
    }
}

#[tokio::test]
async fn a_machine_dies_by_itself_and_says_whether_it_was_of_memory() {
    let bed = Bed::with(fast()).await;
    for (fault, oom_killed) in [(Fault::Dies, false), (Fault::OutOfMemory, true)] {
        let (_, made) = bed.call_with(fault, "POST /v1/apps/jobs/machines", &body(fault.as_str())).await;
        let id = midge_protocol::MachineId::new(made["id"].as_str().unwrap()).unwrap();
        bed.reaches(&id, SeenState::Stopped).await;
        let exit = bed.machines.get(&id).await.unwrap().exit.unwrap();
        let expected = (Some(137), Some(9), false, oom_killed);
        assert_eq!((exit.code, exit.signal, exit.requested_stop, exit.oom_killed), expected, "{fault}");

        // At once, where the call is a signal.
        bed.machines.start(&id).await.unwrap();
        bed.reaches(&id, SeenState::Started).await;
        let signal = format!("POST {}/signal", Bed::path(&id));
        assert_eq!(bed.call_with(fault, &signal, r#"{"signal":"SIGKILL"}"#).await.0, 200);
        bed.reaches(&id, SeenState::Stopped).await;
        assert_eq!(bed.machines.get(&id).await.unwrap().exit.unwrap().oom_killed, oom_killed);
    }
    let (_, made) = bed.call_with(Fault::LaunchFails, "POST /v1/apps/jobs/machines", &body("f")).await;
    let id = midge_protocol::MachineId::new(made["id"].as_str().unwrap()).unwrap();
    bed.reaches(&id, SeenState::Destroyed).await;
    let (_, shown) = bed.call(&format!("GET {}/events", Bed::path(&id)), "").await;
    assert!(shown.as_array().unwrap().iter().any(|event| event["status"] == "launch_failed"), "{shown}");
}

#[tokio::test]
async fn a_dark_host_is_seen_unreachable_and_an_end_is_kept_for_later() {
    let faults = Faults { dark_for: Duration::from_secs(2000), ..Faults::default() };
    let bed = Bed::with(FlyletSettings { faults, speed: 1e3, ..FlyletSettings::new("jobs") }).await;
    let id = bed.launched("m", "echo pid $$; exec sleep 86400").await;
    let pid = bed.wrote(&id, "pid").await[0].strip_prefix("pid ").unwrap().to_owned();
    let path = Bed::path(&id);
    assert_eq!(bed.call_with(Fault::DarkHost, &format!("POST {path}/stop"), "").await.0, 408);
    let seen = bed.machines.get(&id).await.unwrap();
    assert_eq!((seen.state, seen.reachable, seen.metadata.len()), (SeenState::Started, false, 0));
    let list = bed.machines.list(&Label::new("midge_app", "test")).await.unwrap();
    assert!(!list[0].reachable);
    let stopped = bed.machines.stop(&id).await;
    assert!(matches!(stopped, Err(MachineError::Unavailable(_))), "{stopped:?}");
    bed.machines.destroy(&id).await.unwrap();
    assert_eq!(bed.machines.get(&id).await.unwrap().state, SeenState::Started);
    ends(&pid).await;
}

#[tokio::test]
async fn a_lagging_list_lacks_the_newest_and_a_gone_name_leads_nowhere() {
    let bed = Bed::new().await;
    let id = bed.launched("m", ENDLESS).await;
    let list = "GET /v1/apps/jobs/machines";
    assert_eq!(bed.call_with(Fault::LaggingList, list, "").await, (200, json!([])));
    assert_eq!(bed.call(list, "").await.1.as_array().unwrap().len(), 1);
    bed.machines.destroy(&id).await.unwrap();
    bed.reaches(&id, SeenState::Destroyed).await;
    let (_, answer) = bed.call_with(Fault::GoneName, "POST /v1/apps/jobs/machines", &body("m")).await;
    assert!(answer["error"].as_str().unwrap().contains(id.as_str()), "{answer}");

    let rates = BTreeMap::from([(Fault::GoneName, 1.0)]);
    let faults = Faults { rates, ..Faults::default() };
    let bed = Bed::with(FlyletSettings { faults, ..FlyletSettings::new("jobs") }).await;
    let error = bed.machines.create(&spec("m", ENDLESS), Launch::Now).await.unwrap_err();
    assert!(matches!(&error, MachineError::Conflict(why) if why.contains("gone or going")), "{error:?}");
}

#[tokio::test]
async fn chance_repeats_under_a_seed() {
    let mut fates = Vec::new();
    for seed in [1, 1, 2] {
        let rates = BTreeMap::from([(Fault::Unavailable, 0.4), (Fault::LeaseHeld, 0.3)]);
        let faults = Faults { rates, ..Faults::default() };
        let bed = Bed::with(FlyletSettings { faults, seed, ..FlyletSettings::new("jobs") }).await;
        let id = loop {
            if let Ok(id) = bed.machines.create(&spec("m", ENDLESS), Launch::Later).await {
                break id;
            }
        };
        let mut fate = Vec::new();
        for _ in 0..20 {
            fate.push(bed.call(&format!("POST {}/stop", Bed::path(&id)), "").await.0);
        }
        fates.push(fate);
    }
    assert_eq!(fates[0], fates[1]);
    assert!(fates[0] != fates[2]);
    for status in [200, 503, 409] {
        assert!(fates[0].contains(&status), "{:?}", fates[0]);
    }
}

#[tokio::test]
async fn calls_beyond_the_limits_are_refused_where_that_is_asked_for_and_the_client_keeps_to_them() {
    let bed = Bed::with(FlyletSettings { limits_calls: true, ..FlyletSettings::new("jobs") }).await;
    let id = bed.machines.create(&spec("m", ENDLESS), Launch::Later).await.unwrap();
    let stop = format!("POST {}/stop", Bed::path(&id));
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(bed.call(&stop, "").await);
    }
    assert_eq!(statuses.iter().map(|(status, _)| *status).collect::<Vec<_>>(), [200, 200, 200, 429]);
    assert_eq!(statuses[3].1["error"], "resource_exhausted: rate limit exceeded");

    // At twenty times Fly's speed, which the client hears from the first answer.
    let quick = FlyletSettings { limits_calls: true, speed: 20.0, ..FlyletSettings::new("jobs") };
    let bed = Bed::with(quick).await;
    let began = Instant::now();
    for number in 0..20 {
        bed.machines.create(&spec(&format!("m-{number}"), ENDLESS), Launch::Later).await.unwrap();
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(700) && took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn latencies_are_fly_s_where_that_is_asked_for() {
    let latency = FlyletSettings { latency: Latency::Fly, speed: 10.0, ..FlyletSettings::new("jobs") };
    let bed = Bed::with(latency).await;
    let began = Instant::now();
    let id = bed.launched("m", ENDLESS).await;
    assert!(began.elapsed() >= Duration::from_millis(170), "{:?}", began.elapsed());
    bed.machines.suspend(&id).await.unwrap();
    bed.reaches(&id, SeenState::Suspended).await;
    let began = Instant::now();
    bed.machines.start(&id).await.unwrap();
    bed.reaches(&id, SeenState::Started).await;
    assert!(began.elapsed() >= Duration::from_millis(20), "{:?}", began.elapsed());
}
