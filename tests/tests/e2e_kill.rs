//! Everything is killed, again and again, and every job still completes once: none of them is to blame.
//!
//! `MIDGE_SEED=N cargo test -p midge-tests --test e2e_kill` repeats the victims and waits of an earlier run.

// The seed and what came of it belong to the report of a failed run.
#![allow(clippy::print_stdout)]

use std::collections::BTreeSet;
use std::time::Duration;

use midge_client::{Client, EnqueueRequest};
use midge_core::tick_job;
use midge_protocol::api::{
    BatchCounts, BatchEvent, BatchRequest, BatchState, JobDetail, JobFilter, PAGE_JOBS_MAX, PauseRequest,
    Unique, UniqueState, UniqueStates,
};
use midge_protocol::job::{Cause, State};
use midge_protocol::manifest::{Rate, ScheduleEntry, Wait};
use midge_protocol::{BatchId, JobId, JobKey, QueueName, ScheduleName, Timestamp, limits};
use midge_tests::support::{
    Chaos, DEADLINE, Flylet, Guest, Modules, Server, block_on, eventually, eventually_within, hosts_of,
    request,
};
use serde_json::{Value, json};

const JOBS: usize = 2_000;
/// Jobs in one enqueue, and how many enqueues may be ahead of the jobs' ends: killers shall find both under way.
const BULK_JOBS: usize = 25;
const BULKS_AHEAD: usize = 6;
/// One of so many enqueues is a batch.
const BATCH_EVERY: usize = 4;
/// Peace comes after so many strikes at the latest.
const STRIKES_MAX: u32 = 45;
/// An enqueue and a wait outlive any absence of their server.
const TRIES: u32 = 60;

/// The queue of what follows the batches.
const CALLBACKS: &str = "callbacks";

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

/// A job: of one of three tenants, and of those whose number divides by seven the only one of its number.
fn requested(number: usize) -> EnqueueRequest {
    let request = work_of(number).key(JobKey::new(format!("tenant-{}", number % 3)).unwrap());
    if !number.is_multiple_of(7) {
        return request;
    }
    let states = UniqueStates([UniqueState::Waiting, UniqueState::Running, UniqueState::Completed].into());
    request.unique(Unique { text: Some(number.to_string()), states: Some(states), ..Unique::default() })
}

fn work_of(number: usize) -> EnqueueRequest {
    match Kind::of(number) {
        Kind::Nap => request("nap", Value::Null),
        Kind::Flaky { failures } => request("flaky", json!({"failures": failures, "retry_after_ms": 50})),
        Kind::Hello => request("hello", json!({"name": number.to_string()})),
    }
}

/// Returns the numbers of the jobs that a job is to run after: one of ten runs after two before it.
fn runs_after(number: usize) -> Option<[usize; 2]> {
    (number % 10 == 9).then(|| [number - 9, number - 5])
}

/// A batch, and what follows it.
fn requested_batch(number: usize) -> BatchRequest {
    let queue = QueueName::new(CALLBACKS).unwrap();
    let callback = || request("hello", json!({"name": "all"})).queue(queue.clone());
    let batch = BatchRequest::new(number.to_string());
    BatchEvent::ALL.into_iter().fold(batch, |batch, when| batch.on(when, callback()))
}

/// Enqueues all jobs, a few ahead of those that have ended. Returns them, and the batches of some.
fn enqueue_all(client: &Client) -> (Vec<Asked>, Vec<BatchId>) {
    let (mut asked, mut batches): (Vec<Asked>, Vec<BatchId>) = (Vec::new(), Vec::new());
    while asked.len() < JOBS {
        let numbers: Vec<usize> = (asked.len()..JOBS).take(BULK_JOBS).collect();
        let bulk = asked.len() / BULK_JOBS;
        let batch = bulk.is_multiple_of(BATCH_EVERY).then(|| requested_batch(bulk));
        let batch = batch.map(|request| block_on(client.make_batch(&request)).unwrap().id);
        let mut requests: Vec<EnqueueRequest> = Vec::new();
        for &number in &numbers {
            let id = |other: usize| {
                other.checked_sub(asked.len()).map_or_else(|| asked[other].id, |index| requests[index].id)
            };
            let request = runs_after(number)
                .into_iter()
                .flatten()
                .fold(requested(number), |request, other| request.after(id(other)));
            requests.push(batch.map_or(request.clone(), |batch| request.batch(batch)));
        }
        let enqueued =
            block_on(client.enqueue_all(requests)).unwrap().into_iter().map(|enqueued| enqueued.id);
        let new: Vec<Asked> = enqueued.zip(numbers).map(|(id, number)| Asked { id, number }).collect();
        if let Some(batch) = batch {
            block_on(client.close_batch(batch)).unwrap();
            batches.push(batch);
        }
        for unique in new.iter().filter(|asked| asked.number.is_multiple_of(7)) {
            let other = block_on(client.enqueue(&requested(unique.number))).unwrap();
            assert_eq!((other.id, other.new), (unique.id, false), "{} is there twice", unique.number);
        }
        asked.extend(new);
        if let Some(before) = asked.len().checked_sub(BULKS_AHEAD * BULK_JOBS) {
            block_on(client.wait(asked[before].id, None)).unwrap();
        }
    }
    (asked, batches)
}

/// Returns every job of a queue that a server lists.
fn listed(client: &Client, queue: &str) -> Vec<JobId> {
    let mut all = Vec::new();
    let queue = Some(QueueName::new(queue).unwrap());
    let mut filter = JobFilter { queue, limit: Some(PAGE_JOBS_MAX), ..JobFilter::default() };
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

/// Checks that a job began only when those that it is to run after had completed.
fn began_after_others(client: &Client, asked: &[Asked], number: usize) {
    let attempts = |number: usize| block_on(client.job(asked[number].id)).unwrap().attempts;
    let first = attempts(number).swap_remove(0);
    for other in runs_after(number).into_iter().flatten() {
        let last = attempts(other).pop().unwrap();
        assert!(first.started_at >= last.ended_at, "{number} did not wait for {other}: {first:?}, {last:?}");
    }
}

/// Checks that a batch ended with all of its jobs, and what follows it ran once, and then.
fn ended_once(client: &Client, batch: BatchId) {
    let view = block_on(client.batch(batch)).unwrap();
    let counts = BatchCounts { completed: BULK_JOBS as u64, ..BatchCounts::default() };
    assert_eq!((view.state, view.jobs), (BatchState::Ended, counts), "{view:?}");
    for (when, callback) in &view.callbacks {
        let detail = block_on(client.job(*callback)).unwrap();
        let results = detail.attempts.iter().filter(|attempt| attempt.failure.is_none()).count();
        let right = match when {
            BatchEvent::Failure => detail.job.state == State::Cancelled && detail.attempts.is_empty(),
            BatchEvent::Completed | BatchEvent::Ended => {
                let first = detail.attempts.first().map(|attempt| attempt.started_at);
                detail.job.state == State::Completed && results == 1 && first >= view.ended_at
            }
        };
        assert!(right, "{when:?} of {view:?}: {detail:#?}");
    }
}

/// A schedule that ticks each second, in a queue of its own.
fn each_second() -> ScheduleEntry {
    let entry = json!({"module": "hello", "args": {"name": "tick"}, "queue": "ticks", "cron": "* * * * * *"});
    serde_json::from_value(entry).unwrap()
}

/// Checks that each second from the first tick to the last has its one job, which completed.
fn ticked_once_each_second(client: &Client) -> usize {
    let jobs = listed(client, "ticks");
    let name = ScheduleName::new("ticks").unwrap();
    let of = |id: &JobId| block_on(client.job(*id)).unwrap().job;
    // A tick's id begins with its time. When its job is due again is another matter.
    let tick = |id: &JobId| {
        let millis = id.as_bytes()[..6].iter().fold(0, |time, byte| time << 8 | i64::from(*byte));
        Timestamp::from_millis(millis)
    };
    let mut ticks: Vec<Timestamp> = jobs.iter().map(tick).collect();
    ticks.sort();
    let (first, last) = (ticks[0], ticks[ticks.len() - 1]);
    let seconds = last.since(first).as_secs() as usize + 1;
    let expected: BTreeSet<JobId> =
        (0..seconds as u64).map(|second| tick_job(&name, first.after(Duration::from_secs(second)))).collect();
    assert_eq!((jobs.len(), jobs.iter().copied().collect()), (seconds, expected));
    assert!(jobs.iter().all(|id| of(id).state == State::Completed));
    seconds
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
        policy.max_running = Some(18);
        policy.max_running_per_key = Some(8);
        policy.rate = Some(Rate { jobs: 400, per_ms: 1_000, burst: 100 });
        policy.rate_per_key = Some(Rate { jobs: 200, per_ms: 1_000, burst: 50 });
    });
    let modules = modules.queue("ticks", |policy| policy.max_machines = 1);
    let modules = modules.queue(CALLBACKS, |policy| policy.max_machines = 1);
    let schedule = ScheduleName::new("ticks").unwrap();
    modules.change(|manifest| manifest.schedules = [(schedule.clone(), each_second())].into());
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
    let (asked, batches) = enqueuing.join().unwrap();
    block_on(client.pause_schedule(&schedule, &PauseRequest::default())).unwrap();
    eventually("all jobs have ended", || (open_jobs(&client) == 0).then_some(()));

    let ids: BTreeSet<JobId> = asked.iter().map(|asked| asked.id).collect();
    let in_default = listed(&client, "default");
    assert_eq!((in_default.len(), in_default.into_iter().collect()), (JOBS, ids), "seed {seed}");
    let lost: u32 = asked.iter().map(|asked| completed_once(&client, asked)).sum();
    println!("{JOBS} jobs completed, {lost} attempts were lost, {} ticks", ticked_once_each_second(&client));
    assert!(lost > 0, "seed {seed}");
    (0..JOBS).for_each(|number| began_after_others(&client, &asked, number));
    batches.iter().for_each(|batch| ended_once(&client, *batch));
    assert_eq!(listed(&client, CALLBACKS).len(), batches.len() * BatchEvent::ALL.len());

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
