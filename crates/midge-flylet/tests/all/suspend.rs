//! Suspending really stops a Machine's process, and starting it lets it go on.

use std::fs;
use std::time::Duration;

use midge_flylet::{FlyletSettings, Latency};
use midge_machines::{Machines as _, SeenState};
use serde_json::json;

use super::bed::{Bed, DEADLINE, ENDLESS, ends};

/// Returns the letter that the kernel has for what a process does: `T` where it is stopped.
fn state_of(pid: &str) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
}

/// Waits until the kernel has stopped a process, or let it go on: it does so soon after it was told.
async fn stands_still(pid: &str, wanted: bool) {
    let looks = async {
        while (state_of(pid) == 'T') != wanted {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, looks).await.expect("the kernel does as it is told");
}

async fn pids(bed: &Bed, id: &midge_protocol::MachineId) -> [String; 2] {
    let lines = bed.wrote(id, "pid ").await;
    let line = lines.iter().find_map(|line| line.strip_prefix("pid ")).unwrap();
    let (parent, child) = line.split_once(' ').unwrap();
    [parent.to_owned(), child.to_owned()]
}

#[tokio::test]
async fn a_suspended_machine_stands_still_with_all_its_processes_and_a_start_lets_them_go_on() {
    let bed = Bed::new().await;
    let id = bed.launched("m", "sleep 86400 & echo pid $$ $!; read line; wait").await;
    let pids = pids(&bed, &id).await;
    for _ in 0..3 {
        bed.machines.suspend(&id).await.unwrap();
        bed.reaches(&id, SeenState::Suspended).await;
        for pid in &pids {
            stands_still(pid, true).await;
        }
        bed.machines.suspend(&id).await.unwrap();
        bed.machines.start(&id).await.unwrap();
        bed.reaches(&id, SeenState::Started).await;
        for pid in &pids {
            stands_still(pid, false).await;
        }
    }
    let seen = bed.machines.get(&id).await.unwrap();
    assert_eq!((seen.state, seen.exit), (SeenState::Started, None));
    bed.machines.destroy(&id).await.unwrap();
}

#[tokio::test]
async fn stopping_a_suspended_machine_throws_its_memory_away() {
    let bed = Bed::new().await;
    // It would not end by the signal of a stop.
    let id = bed.launched("m", "trap '' TERM; sleep 86400 & echo pid $$ $!; wait; exec sleep 86400").await;
    let pids = pids(&bed, &id).await;
    bed.machines.suspend(&id).await.unwrap();
    bed.reaches(&id, SeenState::Suspended).await;
    bed.machines.stop(&id).await.unwrap();
    bed.reaches(&id, SeenState::Stopped).await;
    for pid in &pids {
        ends(pid).await;
    }
    assert!(bed.machines.get(&id).await.unwrap().exit.unwrap().requested_stop);
    bed.machines.start(&id).await.unwrap();
    bed.reaches(&id, SeenState::Started).await;
    assert!(self::pids(&bed, &id).await != [String::new(), String::new()]);
}

#[tokio::test]
async fn a_suspended_machine_is_deleted_without_force_and_is_killed_from_outside_like_any() {
    let bed = Bed::new().await;
    let id = bed.launched("m", "sleep 86400 & echo pid $$ $!; wait").await;
    let [parent, child] = pids(&bed, &id).await;
    bed.machines.suspend(&id).await.unwrap();
    bed.reaches(&id, SeenState::Suspended).await;
    assert_eq!(bed.call(&format!("DELETE {}", Bed::path(&id)), "").await.0, 200);
    bed.reaches(&id, SeenState::Destroyed).await;
    ends(&parent).await;
    ends(&child).await;

    let id = bed.launched("n", "sleep 86400 & echo pid $$ $!; wait").await;
    let [parent, _] = pids(&bed, &id).await;
    bed.machines.suspend(&id).await.unwrap();
    bed.reaches(&id, SeenState::Suspended).await;
    let pid = rustix::process::Pid::from_raw(parent.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    bed.reaches(&id, SeenState::Stopped).await;
    let exit = bed.machines.get(&id).await.unwrap().exit.unwrap();
    assert_eq!((exit.signal, exit.requested_stop), (Some(9), false));
}

#[tokio::test]
async fn what_does_not_run_or_is_too_large_is_not_suspended_and_says_why() {
    let bed = Bed::new().await;
    let id = bed.launched("m", ENDLESS).await;
    bed.machines.stop(&id).await.unwrap();
    bed.reaches(&id, SeenState::Stopped).await;
    let (status, body) = bed.call(&format!("POST {}/suspend", Bed::path(&id)), "").await;
    let error = "failed_precondition: unable to suspend machine from current state: 'stopped'";
    assert_eq!((status, &body["error"]), (412, &json!(error)));

    let large = json!({"config": {"image": "i", "restart": {"policy": "no"},
        "init": {"exec": ["/bin/sleep", "86400"]},
        "guest": {"cpu_kind": "shared", "cpus": 2, "memory_mb": 4096}}});
    let (_, machine) = bed.call("POST /v1/apps/jobs/machines", &large.to_string()).await;
    let id = midge_protocol::MachineId::new(machine["id"].as_str().unwrap()).unwrap();
    bed.reaches(&id, SeenState::Started).await;
    let (status, body) = bed.call(&format!("POST {}/suspend", Bed::path(&id)), "").await;
    let error =
        "invalid_argument: unable to suspend machine: it has 4096 MB of memory, and 2048 are the most";
    assert_eq!((status, &body["error"]), (400, &json!(error)));
}

#[tokio::test]
async fn a_resume_takes_its_time_and_can_be_called_off() {
    let hour = Duration::from_secs(3600);
    let latency = Latency::Fixed { create: Duration::ZERO, start: Duration::ZERO, resume: hour };
    let bed = Bed::with(FlyletSettings { latency, ..FlyletSettings::new("jobs") }).await;
    let id = bed.launched("m", ENDLESS).await;
    bed.machines.suspend(&id).await.unwrap();
    bed.reaches(&id, SeenState::Suspended).await;
    bed.machines.start(&id).await.unwrap();
    assert_eq!(bed.machines.get(&id).await.unwrap().state, SeenState::Starting);
    bed.machines.stop(&id).await.unwrap();
    bed.reaches(&id, SeenState::Stopped).await;
}
