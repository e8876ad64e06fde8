//! Who is to blame when a Machine dies: only a job of which Machines die while it runs alone.

use midge_protocol::job::State;
use midge_protocol::{JobId, MachineName, limits};
use midge_tests::support::{
    Guest, Modules, Server, Signal, block_on, eventually, http, request, signal_host,
};
use serde_json::Value;

/// A server whose Machines run two jobs each: `nap` takes long enough to be met, and `long` never ends by itself here.
fn server() -> Server {
    let modules = Modules::of_guests("", &[Guest::nap("nap", 5_000), Guest::nap("long", 600_000)]);
    Server::start(&modules.queue("default", |policy| {
        policy.jobs_per_machine = 2;
        policy.max_machines = 2;
    }))
}

/// Enqueues two jobs at once, so that they share a Machine.
fn enqueue_both(server: &Server, modules: [&str; 2]) -> [JobId; 2] {
    let requests = modules.map(|module| request(module, Value::Null)).to_vec();
    let enqueued = block_on(server.client().enqueue_all(requests)).unwrap();
    [enqueued[0].id, enqueued[1].id]
}

/// Waits until the job runs in a Machine that is none of these.
fn runs_in_another(server: &Server, id: JobId, known: &[MachineName]) -> MachineName {
    eventually("the job runs in another Machine", || {
        let job = server.job(id);
        assert!(!job.state.is_ended(), "{job:?}");
        job.machine.filter(|machine| !known.contains(machine))
    })
}

#[test]
fn jobs_whose_machine_is_killed_run_apart_and_none_is_discarded() {
    let server = server();
    let jobs = enqueue_both(&server, ["nap", "nap"]);
    let mut known = Vec::new();
    for round in 0..3 {
        let mut machines = jobs.map(|id| runs_in_another(&server, id, &known)).to_vec();
        machines.dedup();
        assert_eq!(machines.len(), if round == 0 { 1 } else { 2 }, "round {round}");
        machines.iter().for_each(|machine| signal_host(machine, Signal::KILL));
        known.extend(machines);
    }
    for id in jobs {
        assert_eq!(server.result(id), "done");
        let job = server.job(id);
        assert_eq!((job.spent, job.attempt.0, job.suspicion), (1, 4, None));
    }
}

#[test]
fn a_job_whose_machines_crash_is_discarded_and_its_neighbour_is_not() {
    let server = server();
    let [poison, innocent] = enqueue_both(&server, ["long", "nap"]);
    let mut known = Vec::new();
    for crashes in 0..=limits::MACHINE_LOSSES_MAX {
        let machine = runs_in_another(&server, poison, &known);
        let suspicion = server.job(poison).suspicion;
        assert_eq!(suspicion.map(|suspicion| suspicion.crashes), crashes.checked_sub(1));
        if suspicion.is_some() {
            let shown = server.midge(&["jobs", "show", &poison.to_string()]).output().unwrap();
            let shown = String::from_utf8(shown.stdout).unwrap();
            let page = format!("{}/jobs/{poison}", server.url());
            let page = http("GET", &page, &[("Host", "127.0.0.1")], b"");
            for said in [shown, page.text()] {
                assert!(said.contains("runs alone"), "{said}");
            }
        }
        signal_host(&machine, Signal::ABORT);
        known.push(machine);
    }
    let ended = server.ended(poison);
    assert_eq!((ended.job.state, ended.job.spent), (State::Discarded, 0), "{ended:#?}");
    assert_eq!(server.result(innocent), "done");
    let innocent = server.detail(innocent);
    assert_eq!((innocent.job.spent, innocent.attempts[0].machine == known[0]), (1, true));
    let met_again = innocent.attempts.iter().skip(1).find(|attempt| known.contains(&attempt.machine));
    assert!(met_again.is_none(), "{innocent:#?}");
}
