//! What midge costs while there is nothing to do.

// The measurements are of interest where they are good, too.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use midge_protocol::manifest::Wait;
use midge_tests::support::{Modules, Server, descendants, eventually, resident_bytes, waits};
use serde_json::json;

const MIB: u64 = 1024 * 1024;
/// How often a host that has nothing to do may wake in a second.
const IDLE: f64 = 3.0;
/// How often a server may: it looks after its database every second, and a round of the dispatcher now and then begins a
/// thread that reads.
const IDLE_SERVER: f64 = 6.0;
/// How often a server that asks about one Machine every second may.
const ASKING: f64 = 40.0;
/// How long processes are watched: some rounds of what is done every second.
const WATCHED: Duration = Duration::from_secs(10);

/// Returns how often in a second each of the processes wakes while it is watched. The wait is the measurement.
///
/// Wakes are counted, and not the time that they take: that differs tenfold with the machine, its neighbours and the
/// build, and a process that wakes often is what an idle one must not be.
fn wakes_a_second(pids: &[u32]) -> Vec<f64> {
    let all = || pids.iter().map(|&pid| waits(pid)).collect::<Vec<_>>();
    let (began, before) = (Instant::now(), all());
    eventually("the measurement is over", || (began.elapsed() >= WATCHED).then_some(()));
    let watched = began.elapsed().as_secs_f64();
    let wakes = |(after, before): (BTreeMap<u32, u64>, BTreeMap<u32, u64>)| {
        after.iter().map(|(thread, waits)| waits - before.get(thread).unwrap_or(&0)).sum::<u64>()
    };
    all().into_iter().zip(before).map(|pair| wakes(pair) as f64 / watched).collect()
}

#[test]
fn an_idle_server_takes_little_memory_and_hardly_wakes() {
    let server = Server::start(&Modules::examples());
    // Not one that has only just begun, but one that has worked and has nothing left to do.
    server.run("hello", json!({"name": "x"}));
    eventually("all Machines go", || server.live_machines().is_empty().then_some(()));
    let wakes = wakes_a_second(&[server.pid()])[0];
    let resident = resident_bytes(server.pid());
    println!("an idle server: {wakes:.1} wakes a second, {} KiB", resident / 1024);
    assert!(wakes < IDLE_SERVER, "an idle server wakes {wakes:.1} times a second");
    assert!(resident < 40 * MIB, "an idle server has {} KiB resident", resident / 1024);
}

#[test]
fn a_waiting_host_takes_little_memory_and_neither_it_nor_its_server_wakes_often() {
    let modules = Modules::examples().queue("default", |policy| policy.wait = Wait::Forever);
    let server = Server::start(&modules);
    server.run("hello", json!({"name": "x"}));
    let [host] = descendants(server.pid(), "midge-host")[..] else { panic!("there is not one host") };
    let [host_wakes, server_wakes] = wakes_a_second(&[host, server.pid()])[..] else { unreachable!() };
    let resident = resident_bytes(host);
    println!(
        "a waiting host: {host_wakes:.1} wakes a second, {} KiB; its server: {server_wakes:.1}",
        resident / 1024
    );
    assert!(host_wakes < IDLE, "a waiting host wakes {host_wakes:.1} times a second");
    // It asks about its Machine every second: a request, its answer, and what it finds in the store.
    assert!(server_wakes < ASKING, "a server with one waiting host wakes {server_wakes:.1} times a second");
    assert!(resident < 12 * MIB, "a waiting host has {} KiB resident", resident / 1024);
}
