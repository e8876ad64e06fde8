//! What midge costs while there is nothing to do.

// The measurements are of interest where they are good, too.
#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use midge_protocol::manifest::Wait;
use midge_tests::support::{Modules, Server, cpu_time, descendants, eventually, resident_bytes};
use serde_json::json;

const MIB: u64 = 1024 * 1024;
/// How long processes are watched: long enough for a tick of `/proc`, 10 ms, to be a tenth of a percent of it.
const WATCHED: Duration = Duration::from_secs(10);

/// Returns which share of one core each of the processes uses while it is watched. The wait is the measurement.
fn cpu_shares(pids: &[u32]) -> Vec<f64> {
    let used = || pids.iter().map(|&pid| cpu_time(pid)).collect::<Vec<_>>();
    let (began, before) = (Instant::now(), used());
    eventually("the measurement is over", || (began.elapsed() >= WATCHED).then_some(()));
    let watched = began.elapsed().as_secs_f64();
    used().iter().zip(before).map(|(after, before)| (*after - before).as_secs_f64() / watched).collect()
}

#[test]
fn an_idle_server_takes_little_memory_and_hardly_any_time() {
    let server = Server::start(&Modules::examples());
    // Not one that has only just begun, but one that has worked and has nothing left to do.
    server.run("hello", json!({"name": "x"}));
    eventually("all Machines go", || server.live_machines().is_empty().then_some(()));
    let share = cpu_shares(&[server.pid()])[0];
    let resident = resident_bytes(server.pid());
    println!("an idle server: {share:.4} of a core, {} KiB", resident / 1024);
    assert!(share < 0.005, "an idle server uses {share:.4} of a core");
    assert!(resident < 40 * MIB, "an idle server has {} KiB resident", resident / 1024);
}

#[test]
fn a_waiting_host_takes_little_memory_and_neither_it_nor_its_server_much_time() {
    let modules = Modules::examples().queue("default", |policy| policy.wait = Wait::Forever);
    let server = Server::start(&modules);
    server.run("hello", json!({"name": "x"}));
    let [host] = descendants(server.pid(), "midge-host")[..] else { panic!("there is not one host") };
    let shares = cpu_shares(&[host, server.pid()]);
    let resident = resident_bytes(host);
    println!(
        "a waiting host: {:.4} of a core, {} KiB; its server: {:.4}",
        shares[0],
        resident / 1024,
        shares[1]
    );
    assert!(shares[0] < 0.005, "a waiting host uses {:.4} of a core", shares[0]);
    // It asks about its Machine every second.
    assert!(shares[1] < 0.02, "a server with one waiting host uses {:.4} of a core", shares[1]);
    assert!(resident < 12 * MIB, "a waiting host has {} KiB resident", resident / 1024);
}
