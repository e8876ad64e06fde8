//! Everything is killed, again and again, and every job still completes once: none of them is to blame.
//!
//! `MIDGE_SEED=N cargo test -p midge-tests --test e2e_kill` repeats the victims and waits of an earlier run.

// The seed and what came of it belong to the report of a failed run.
#![allow(clippy::print_stdout)]

use std::collections::BTreeSet;

use midge_client::{Client, EnqueueRequest};
use midge_protocol::api::{JobDetail, JobFilter, PAGE_JOBS_MAX};
use midge_protocol::job::{Cause, State};
use midge_protocol::manifest::Wait;
use midge_protocol::{JobId, limits};
use midge_tests::support::{
    Chaos, DEADLINE, Flylet, Guest, Modules, Server, block_on, eventually, eventually_within, hosts_of,
    request,
};
use serde_json::{Value, json};

const JOBS: usize = 2_000;
/// Jobs in one enqueue, and how many enqueues may be ahead of the jobs' ends: killers shall find both under way.
const BATCH_JOBS: usize = 25;
const BATCHES_AHEAD: usize = 6;
/// Peace comes after so many strikes at the latest.
const STRIKES_MAX: u32 = 45;
/// An enqueue and a wait outlive any absence of their server.
const TRIES: u32 = 60;

/// A job as it was asked for: its number decides which.
struct Asked {
    id: JobId,
    number: usize,
}

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Sleeps for a while: most likely to be hit.
    Nap,
    /// Fails at its first attempts.
    Flaky {
        failures: u32,
    },
    Hello,
}

impl Kind {
    fn of(number: usize) -> Kind {
        match number % 10 {
            0..4 => Kind::Nap,
            4 => Kind::Flaky { failures: 1 + (number / 10 % 2) as u32 },
            _ => Kind::Hello,
        }
    }
}

fn requested(number: usize) -> EnqueueRequest {
    match Kind::of(number) {
        Kind::Nap => request("nap", Value::Null),
        Kind::Flaky { failures } => request("flaky", json!({"failures": failures, "retry_after_ms": 50})),
        Kind::Hello => request("hello", json!({"name": number.to_string()})),
    }
}

/// Enqueues all jobs, a few ahead of those that have ended.
fn enqueue_all(client: &Client) -> Vec<Asked> {
    let mut asked: Vec<Asked> = Vec::new();
    while asked.len() < JOBS {
        let numbers: Vec<usize> = (asked.len()..JOBS).take(BATCH_JOBS).collect();
        let enqueued =
            block_on(client.enqueue_all(numbers.iter().map(|&number| requested(number)).collect()));
        let enqueued = enqueued.unwrap().into_iter().map(|enqueued| enqueued.id);
        asked.extend(enqueued.zip(numbers).map(|(id, number)| Asked { id, number }));
        if let Some(before) = asked.len().checked_sub(BATCHES_AHEAD * BATCH_JOBS) {
            block_on(client.wait(asked[before].id, None)).unwrap();
        }
    }
    asked
}

/// Returns every job that a server lists.
fn listed(client: &Client) -> Vec<JobId> {
    let mut all = Vec::new();
    let mut filter = JobFilter { limit: Some(PAGE_JOBS_MAX), ..JobFilter::default() };
    loop {
        let page = block_on(client.jobs(&filter)).unwrap();
        all.extend(page.jobs.iter().map(|job| job.id));
        filter.before = page.next;
        if filter.before.is_none() {
            return all;
        }
    }
}

fn open_jobs(client: &Client) -> u64 {
    let queues = block_on(client.queues()).unwrap().queues;
    let open = |(state, count): (&State, &u64)| if state.is_ended() { 0 } else { *count };
    queues.iter().flat_map(|queue| queue.jobs.iter().map(open)).sum()
}

/// Checks that a job completed once, and by the rules. Returns how many attempts ended with their Machine.
fn completed_once(client: &Client, asked: &Asked) -> u32 {
    let detail: JobDetail = block_on(client.job(asked.id)).unwrap();
    let (job, attempts) = (&detail.job, &detail.attempts);
    assert!(attempts.iter().map(|attempt| attempt.attempt.0).eq(1..=job.attempt.0), "{detail:#?}");
    let lost = attempts.iter().filter_map(|attempt| attempt.failure.as_ref());
    let lost = lost.filter(|failure| failure.cause == Cause::MachineLost).count() as u32;
    let (last, before) = attempts.split_last().unwrap();
    for attempt in before {
        let failure = attempt.failure.as_ref().unwrap_or_else(|| panic!("two results: {detail:#?}"));
        let (spent, fits) = match (&failure.cause, Kind::of(asked.number)) {
            (Cause::MachineLost, _) => (false, true),
            (Cause::Exit, Kind::Flaky { failures }) => (true, attempt.attempt.0 <= failures),
            _ => (false, false),
        };
        assert!(fits && attempt.spent == spent, "{detail:#?}");
    }
    assert_eq!((job.state, &last.failure), (State::Completed, &None), "{detail:#?}");
    let result = block_on(client.result_bytes(asked.id)).unwrap();
    let expected = match Kind::of(asked.number) {
        Kind::Nap => "done".to_owned(),
        Kind::Flaky { .. } => json!({"attempt": last.attempt.0}).to_string(),
        Kind::Hello => json!({"greeting": format!("Hello, {}!", asked.number)}).to_string(),
    };
    assert_eq!(result, expected, "{detail:#?}");
    lost
}

#[test]
fn whatever_is_killed_every_job_completes_once() {
    let seed = std::env::var("MIDGE_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("MIDGE_SEED={seed}");
    let naps = Modules::of_guests("", &[Guest::nap("nap", 300)]);
    let modules = Modules::examples().and(&naps).queue("default", |policy| {
        policy.max_machines = 4;
        policy.jobs_per_machine = 5;
        policy.ready_machines = 1;
    });
    let mut flylet = Flylet::start();
    let mut server = Server::on_flylet(&modules, &flylet, "v1");
    let client = server.client().clone().tries(TRIES);

    let enqueuing = std::thread::spawn({
        let client = client.clone();
        move || enqueue_all(&client)
    });
    let mut chaos = Chaos::new(seed);
    for _ in 0..STRIKES_MAX {
        chaos.strike(&mut server, &mut flylet);
        if enqueuing.is_finished() {
            break;
        }
    }
    println!("killed {:?}", chaos.kills());
    let asked = enqueuing.join().unwrap();
    eventually("all jobs have ended", || (open_jobs(&client) == 0).then_some(()));

    let ids: BTreeSet<JobId> = asked.iter().map(|asked| asked.id).collect();
    let listed = listed(&client);
    assert_eq!((listed.len(), listed.into_iter().collect()), (JOBS, ids), "seed {seed}");
    let lost: u32 = asked.iter().map(|asked| completed_once(&client, asked)).sum();
    println!("{JOBS} jobs completed, {lost} attempts were lost");
    assert!(lost > 0, "seed {seed}");

    eventually("all Machines go", || server.live_machines().is_empty().then_some(()));
    eventually("flylet has the one that is made ahead", || (flylet.machines() == 1).then_some(()));
    eventually("no host is left behind", || hosts_of(&server.url()).is_empty().then_some(()));
}

/// As long as two leases, after which any server would have given it up.
#[test]
fn a_host_whose_server_is_gone_for_good_leaves() {
    let modules = Modules::examples().queue("default", |policy| policy.wait = Wait::Forever);
    let flylet = Flylet::start();
    let mut server = Server::on_flylet(&modules, &flylet, "v1");
    server.run("hello", json!({"name": "x"}));
    assert_eq!(hosts_of(&server.url()).len(), 1);
    server.kill();
    let deadline = limits::LEASE * 2 + DEADLINE;
    let gone = || hosts_of(&server.url()).is_empty().then_some(());
    eventually_within(deadline, "the host leaves", gone);
}
