//! The life of Machines: started for work, limited, lost, drained, and gone when there is no work.

use std::collections::BTreeSet;

use midge_protocol::api::{JobDetail, MachineView};
use midge_protocol::job::{Cause, State};
use midge_protocol::manifest::{Idle, Wait};
use midge_protocol::{JobId, limits};
use midge_tests::support::{Flylet, Guest, Modules, Server, block_on, descendants, eventually, request, run};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Guests that sleep: `nap` for a second, `long` for an hour. Machines wait a second for more work.
fn sleepers(settings: &str) -> Modules {
    let queue = format!("[queues.default]\nwait = 1\n{settings}");
    let long = Guest::nap("long", 3_600_000).settings("time_limit = \"2h\"");
    Modules::of_guests(&queue, &[Guest::nap("nap", 1_000), long, Guest::nap("quick", 1)])
}

/// Gives hosts that are told to stop so many seconds to finish what they run.
fn grace(modules: Modules, seconds: u32) -> Modules {
    modules.change(|manifest| drop(manifest.env.insert("MIDGE_GRACE".to_owned(), seconds.to_string())));
    modules
}

/// Returns the one host among the descendants of a process.
fn the_host(pid: u32) -> u32 {
    eventually("there is one host", || match descendants(pid, "midge-host")[..] {
        [host] => Some(host),
        _ => None,
    })
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).expect("a process's id is not 0"), signal).unwrap();
}

/// Waits until a job runs under a later attempt than the first, and returns it.
fn runs_again(server: &Server, id: JobId) -> JobDetail {
    eventually("the job runs again", || {
        let job = server.detail(id);
        (job.job.state == State::Running && job.job.attempt.0 == 2).then_some(job)
    })
}

#[test]
fn machines_come_with_the_work_and_go_after_it() {
    let (modules, flylet) = (sleepers(""), Flylet::start());
    let server = Server::on_flylet(&modules, &flylet, "v1");
    assert_eq!((server.machines().len(), flylet.machines()), (0, 0));
    let id = server.enqueue("nap", Value::Null);
    server.running(id);
    assert_eq!((server.live_machines().len(), flylet.machines()), (1, 1));
    assert_eq!(&server.result(id)[..], b"done");
    eventually("all Machines go", || server.live_machines().is_empty().then_some(()));
    eventually("flylet has none either", || (flylet.machines() == 0).then_some(()));
    let machines = eventually("the server has heard that they are gone", || {
        let machines = server.machines();
        machines.iter().all(|machine| machine.is_gone()).then_some(machines)
    });
    assert_eq!((machines.len(), machines[0].attempts), (1, 1));
    assert_eq!(descendants(flylet.pid(), "midge-host"), [0; 0]);
}

#[test]
fn one_warm_machine_is_one_machine_with_and_without_work() {
    let modules = sleepers("").queue("default", |policy| policy.warm_machines = 1);
    let server = Server::start(&modules);
    let warm = eventually("a Machine is up before there is work", || {
        let machines = server.live_machines();
        assert!(machines.len() <= 1, "{machines:?}");
        machines.into_iter().find(|machine| machine.state == "up")
    });
    for _ in 0..5 {
        server.result(server.enqueue("quick", Value::Null));
    }
    // It asks to leave again and again, as its wait is over, and may not.
    let heard_at = server.live_machines()[0].heard_at.unwrap();
    eventually("the Machine has waited for longer than its wait", || {
        let machines = server.live_machines();
        assert_eq!(machines.len(), 1, "{machines:?}");
        assert_eq!(machines[0].name, warm.name);
        (machines[0].heard_at.unwrap().since(heard_at).as_millis() > 2_500).then_some(())
    });
}

#[test]
fn ready_machines_are_made_ahead_and_started_for_work() {
    let modules = sleepers("").queue("default", |policy| policy.ready_machines = 1);
    let server = Server::start(&modules);
    let ready = eventually("a Machine is made ahead", || {
        server.machines().into_iter().find(|machine| machine.state == "ready")
    });
    assert!(server.live_machines().is_empty());
    let id = server.enqueue("quick", Value::Null);
    server.result(id);
    assert_eq!(server.detail(id).attempts[0].machine, ready.name);
    eventually("it is ready again, or another one in its place", || {
        let machines = server.machines();
        let count = |state: &str| machines.iter().filter(|machine| machine.state == state).count();
        (count("ready") == 1 && server.live_machines().is_empty()).then_some(())
    });
}

#[test]
fn a_machine_that_has_nothing_to_do_is_suspended_and_its_host_goes_on_for_the_next_job() {
    let modules = sleepers("").queue("default", |policy| {
        (policy.ready_machines, policy.max_machines, policy.idle) = (1, 1, Idle::Suspend);
    });
    let flylet = Flylet::start();
    let server = Server::on_flylet(&modules, &flylet, "v1");
    server.result(server.enqueue("quick", Value::Null));
    let suspended = || {
        eventually("one Machine is suspended, and there is no other", || match &server.machines()[..] {
            machines if machines.iter().filter(|machine| !machine.is_gone()).count() != 1 => None,
            machines => {
                machines.iter().find(|machine| machine.state == "ready" && machine.suspended).cloned()
            }
        })
    };
    let (machine, host) = (suspended(), the_host(flylet.pid()));
    for _ in 0..2 {
        let id = server.enqueue("quick", Value::Null);
        server.result(id);
        assert_eq!(server.detail(id).attempts[0].machine, machine.name);
        assert_eq!(suspended().name, machine.name);
        assert_eq!(the_host(flylet.pid()), host, "it was not started anew");
    }
}

#[test]
fn no_more_machines_run_than_a_queue_may_have_and_no_more_jobs_than_places() {
    let modules = sleepers("").queue("default", |policy| {
        policy.max_machines = 2;
        policy.jobs_per_machine = 3;
    });
    let server = Server::start(&modules);
    let requests = (0..18).map(|_| request("nap", Value::Null)).collect();
    let jobs = block_on(server.client().enqueue_all(requests)).unwrap();
    let mut most = 0;
    eventually("all jobs have ended", || {
        let machines = server.live_machines();
        assert!(machines.len() <= 2, "{machines:?}");
        assert!(machines.iter().all(|machine| machine.running <= 3), "{machines:?}");
        most = most.max(machines.iter().map(|machine| machine.running).sum());
        jobs.iter().all(|job| server.job(job.id).state == State::Completed).then_some(())
    });
    assert_eq!(most, 6, "all places of all Machines were used");
}

#[test]
fn a_machine_for_single_use_runs_one_job() {
    let modules = sleepers("").queue("default", |policy| policy.single_use = true);
    let server = Server::start(&modules);
    let jobs: Vec<_> = (0..8).map(|_| server.enqueue("quick", Value::Null)).collect();
    let machines: BTreeSet<_> = jobs.iter().map(|&id| server.ended(id).attempts[0].machine.clone()).collect();
    assert_eq!(machines.len(), jobs.len());
    eventually("all Machines go", || server.live_machines().is_empty().then_some(()));
    assert!(server.machines().iter().all(|machine| machine.attempts <= 1));
}

#[test]
fn a_machine_for_single_use_goes_as_soon_as_its_job_has_ended_and_makes_room_for_the_next() {
    let modules = sleepers("").queue("default", |policy| {
        (policy.single_use, policy.max_machines, policy.wait) = (true, 1, Wait::Forever);
    });
    let server = Server::start(&modules);
    let jobs: Vec<_> = (0..3).map(|_| server.enqueue("quick", Value::Null)).collect();
    let machines: BTreeSet<_> = jobs.iter().map(|&id| server.ended(id).attempts[0].machine.clone()).collect();
    assert_eq!(machines.len(), jobs.len());
}

#[test]
fn a_killed_host_gives_its_jobs_back_unspent() {
    let server = Server::start(&sleepers("max_machines = 1"));
    let id = server.enqueue("long", Value::Null);
    let first = server.running(id).machine.unwrap();
    signal(the_host(server.pid()), Signal::KILL);
    let job = runs_again(&server, id);
    let lost = &job.attempts[0];
    assert_eq!((lost.attempt.0, lost.spent, &lost.machine), (1, false, &first));
    assert_eq!(lost.failure.as_ref().unwrap().cause, Cause::MachineLost);
    assert_ne!(job.job.machine, Some(first));
    assert_eq!(job.job.spent, 0);
}

#[test]
fn a_job_whose_machines_are_killed_again_and_again_is_discarded_in_the_end() {
    let server = Server::start(&sleepers("max_machines = 1"));
    let id = server.enqueue("long", Value::Null);
    // The first loss makes it a suspect; the others are counted.
    let losses = 1 + limits::UNEXPLAINED_LOSSES_MAX as usize;
    for _ in 0..losses {
        let machine = server.running(id).machine.unwrap();
        signal(the_host(server.pid()), Signal::KILL);
        eventually("the Machine is gone", || {
            let machines = server.machines();
            machines.iter().any(|m| m.name == machine && m.is_gone()).then_some(())
        });
    }
    let job = server.ended(id);
    assert_eq!((job.job.state, job.job.spent, job.attempts.len()), (State::Discarded, 0, losses));
    assert_eq!(job.job.failure.unwrap().cause, Cause::MachineLost);
}

#[test]
fn a_host_that_is_told_to_stop_finishes_what_it_can_and_gives_back_the_rest_unspent() {
    let server = Server::start(&grace(sleepers("max_machines = 1"), 3));
    let long = server.enqueue("long", Value::Null);
    let short = server.enqueue("nap", Value::Null);
    let first = server.running(long).machine.unwrap();
    server.running(short);
    signal(the_host(server.pid()), Signal::TERM);
    assert_eq!(&server.result(short)[..], b"done");
    assert_eq!(server.detail(short).attempts.len(), 1, "it ended within the grace");
    let job = runs_again(&server, long);
    let given_back = &job.attempts[0];
    assert_eq!((given_back.spent, &given_back.machine), (false, &first));
    assert_eq!(given_back.failure.as_ref().unwrap().cause, Cause::HandedBack);
    assert_eq!(job.job.spent, 0);
}

#[test]
fn hosts_finish_while_their_server_is_away_and_report_to_the_next_one() {
    let (modules, flylet) = (sleepers(""), Flylet::start());
    let mut server = Server::on_flylet(&modules, &flylet, "v1");
    let id = server.enqueue("nap", Value::Null);
    let long = server.enqueue("long", Value::Null);
    let machine = server.running(id).machine.unwrap();
    server.running(long);
    server.kill();
    server.start_again();
    assert_eq!(&server.result(id)[..], b"done");
    let job = server.detail(id);
    assert_eq!((job.attempts.len(), &job.attempts[0].machine), (1, &machine));
    assert_eq!((server.job(long).state, server.job(long).attempt.0), (State::Running, 1));
    block_on(server.client().cancel(long)).unwrap();
    assert_eq!(server.ended(long).job.state, State::Cancelled);
}

#[test]
fn a_stopped_server_leaves_machines_apart_alone_and_ends_well() {
    let (modules, flylet) = (sleepers(""), Flylet::start());
    let mut server = Server::on_flylet(&modules, &flylet, "v1");
    let id = server.enqueue("nap", Value::Null);
    server.running(id);
    server.process().signal(Signal::TERM);
    assert_eq!(server.process().ended().code(), Some(0));
    assert_eq!(flylet.machines(), 1);
    server.start_again();
    assert_eq!(&server.result(id)[..], b"done");
    assert_eq!(server.detail(id).attempts.len(), 1);
}

#[test]
fn a_stopped_server_with_a_flylet_inside_takes_its_hosts_with_it_and_loses_nothing() {
    let mut server = Server::start(&grace(sleepers(""), 0));
    let id = server.enqueue("long", Value::Null);
    server.running(id);
    let host = the_host(server.pid());
    server.process().signal(Signal::TERM);
    assert_eq!(server.process().ended().code(), Some(0));
    eventually("the host is gone", || (!std::fs::exists(format!("/proc/{host}/exe")).unwrap()).then_some(()));
    server.start_again();
    let job = runs_again(&server, id);
    assert!(!job.attempts[0].spent, "{job:?}");
}

#[test]
fn hosts_go_with_a_killed_flylet_and_their_jobs_run_again_after_it() {
    let (modules, mut flylet) = (sleepers(""), Flylet::start());
    let server = Server::on_flylet(&modules, &flylet, "v1");
    let id = server.enqueue("long", Value::Null);
    server.running(id);
    let host = the_host(flylet.pid());
    flylet.kill();
    eventually("the host is gone", || (!std::fs::exists(format!("/proc/{host}/exe")).unwrap()).then_some(()));
    flylet.start_again();
    let job = runs_again(&server, id);
    assert_eq!(job.attempts[0].failure.as_ref().unwrap().cause, Cause::MachineLost);
    assert!(!job.attempts[0].spent);
}

#[test]
fn a_deploy_lets_old_machines_finish_and_starts_new_ones() {
    let (modules, flylet) = (sleepers(""), Flylet::start());
    let modules = modules.queue("default", |policy| policy.wait = Wait::Forever);
    let mut server = Server::on_flylet(&modules, &flylet, "v1");
    let old = server.enqueue("nap", Value::Null);
    let old_machine = server.running(old).machine.unwrap();
    server.deploy("v2");
    let new = server.enqueue("quick", Value::Null);
    assert_eq!((&server.result(old)[..], &server.result(new)[..]), (&b"done"[..], &b"done"[..]));
    assert_eq!(server.detail(old).attempts.len(), 1, "a deploy costs no attempt");
    assert_eq!(server.detail(old).attempts[0].machine, old_machine);
    assert_ne!(server.detail(new).attempts[0].machine, old_machine);
    eventually("the old Machine goes, although it was to wait for ever", || {
        let live = server.live_machines();
        live.iter().all(|machine| machine.generation == "v2").then_some(())
    });
}

#[test]
fn a_module_that_changes_under_a_running_server_is_not_run() {
    let modules = Modules::examples();
    let server = Server::start(&modules);
    let path = modules.dir().join("hello.cwasm");
    let whole = std::fs::read(&path).unwrap();
    let mut altered = whole.clone();
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    for (bytes, message) in [(&altered[..], "was altered"), (&whole[..1000], "is truncated, 1000 of")] {
        std::fs::write(&path, bytes).unwrap();
        let mut hello = request("hello", json!({"name": "x"}));
        hello.max_attempts = Some(1);
        let id = server.send(&hello);
        let job = server.ended(id);
        let failure = job.job.failure.unwrap();
        assert_eq!((job.job.state, &failure.cause), (State::Discarded, &Cause::NotLoadable), "{failure:?}");
        assert!(failure.message.contains(message) && failure.message.contains("midge build"), "{failure:?}");
        assert!(server.log(id).is_empty());
    }
    // Mended, it runs, in the same Machine or another.
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(server.run("hello", json!({"name": "x"})), json!({"greeting": "Hello, x!"}));
}

#[test]
fn a_delayed_job_waits_without_a_machine() {
    let server = Server::start(&sleepers(""));
    let id = server.send(&request("quick", Value::Null).delay(std::time::Duration::from_secs(2)));
    let job = server.job(id);
    assert_eq!(job.state, State::Scheduled);
    assert!(server.live_machines().is_empty());
    server.result(id);
    let attempt = server.detail(id).attempts.remove(0);
    assert!(
        attempt.started_at >= job.scheduled_at && attempt.scheduled_at == job.scheduled_at,
        "{attempt:?}"
    );
    assert_eq!(job.scheduled_at.since(job.enqueued_at).as_millis(), 2_000);
}

#[test]
fn a_machine_is_drained_by_hand_and_a_paused_queue_is_waited_for() {
    let server = Server::start(&sleepers("warm_machines = 1\n"));
    let id = server.enqueue("nap", Value::Null);
    let machine = server.running(id).machine.unwrap().to_string();
    let drained = run(server.midge(&["machines", "drain", &machine, "--wait"]), b"").ok();
    assert!(drained.text().contains("drains: it runs 1 job"), "{}", drained.text());
    assert!(drained.text().contains(&format!("{machine} is gone")), "{}", drained.text());
    assert_eq!((server.job(id).state, server.detail(id).attempts.len()), (State::Completed, 1));
    eventually("another is warm", || {
        let machines = server.machines();
        let other = |view: &&MachineView| view.state == "up" && view.name.as_str() != machine;
        machines.iter().any(|view| other(&view)).then_some(())
    });
    run(server.midge(&["machines", "drain", &machine]), b"").fails(1, &["is gone already"]);
    run(server.midge(&["machines", "drain", "--queue", "default"]), b"").ok();
    run(server.midge(&["machines", "drain", "--queue", "defualt"]), b"")
        .fails(1, &["there is no queue `defualt`: did you mean `default`?"]);

    let id = server.enqueue("nap", Value::Null);
    server.running(id);
    let pause = ["queues", "pause", "default", "--wait"];
    run(server.midge(&[&pause[..], &["--timeout", "1ms"]].concat()), b"")
        .fails(5, &["1 job of default still runs"]);
    run(server.midge(&pause), b"").ok();
    assert_eq!(server.job(id).state, State::Completed);
}
