//! Rules of `exchange` and `dispatcher` that the simulation once found broken, each as short as it can be told.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use midge_core::{Job, Machine, MachineState, Phase};
use midge_protocol::exchange::{AttemptRef, LogChunk, Outcome, Request, Running, Saved};
use midge_protocol::manifest::{QueuePolicy, ServerPolicy};
use midge_protocol::{AttemptNumber, QueueName, Secret, limits};
use midge_server::exchange::{self, Context, Exchanged};
use midge_server::{Catalog, secret_hash};
use midge_store::conformance::fixtures::{self, at, id, machine_name, put, queue, running};
use midge_store::{Content, MemoryStore, StoreError, write};

use crate::stage::{self, BOOT, done, finished, request};

fn machine(name: &str, places: u32, state: MachineState) -> Machine {
    let (generation, secret_hash) = ("g1".to_owned(), secret_hash(&Secret::new("s")));
    let (boot, heard_at) = (Some(BOOT), Some(at(0)));
    Machine { generation, secret_hash, boot, heard_at, places, state, ..fixtures::machine(name) }
}

fn job(number: u128) -> Job {
    fixtures::job(number, "default", 0)
}

fn first_attempt(number: u128) -> AttemptRef {
    AttemptRef::new(id(number), AttemptNumber(1))
}

fn runs(attempt: AttemptRef) -> Running {
    Running { attempt, progress: None }
}

/// A server of this generation, all of whose queues have the default policy.
fn serves(generation: &str) -> Context {
    with_policies(generation, BTreeMap::new())
}

fn with_policies(generation: &str, policies: BTreeMap<QueueName, QueuePolicy>) -> Context {
    let catalog = stage::catalog(policies, ServerPolicy::default());
    Context { catalog: Arc::new(Catalog { generation: generation.to_owned(), ..catalog }), jitter: 0.0 }
}

async fn exchange(store: &MemoryStore, context: Context, machine: &str, request: Request) -> Exchanged {
    let secret_hash = secret_hash(&Secret::new("s"));
    exchange::exchange(store, context, machine_name(machine), secret_hash, request, at(0)).await.unwrap()
}

/// A host never opens again once it has closed. A row that says it is open would keep its queue waiting for ever.
#[tokio::test]
async fn a_host_that_was_told_to_drain_stays_drained_when_its_generation_comes_back() {
    let store = MemoryStore::new();
    write(&store, |rows| rows.put_machine(&machine("m", 2, MachineState::Up))).await.unwrap();
    put(&store, &[job(1)]).await.unwrap();
    let policy = QueuePolicy { warm_machines: 1, ..QueuePolicy::default() };
    let exchange = async |generation, request| {
        let policies = [(queue("default"), policy.clone())].into();
        exchange(&store, with_policies(generation, policies), "m", request).await.answer
    };
    assert!(exchange("g2", request(1, 2)).await.drain);
    let back = exchange("g1", request(2, 2)).await;
    assert!(back.drain && back.jobs.is_empty(), "{back:?}");
    let leaving = Request { leaving: true, ..request(3, 0) };
    assert!(exchange("g1", leaving).await.left, "it keeps nothing warm, so it may go");
}

/// An answer over the bound of a body is dropped by the host, and with it every attempt that it holds, each time.
#[tokio::test]
async fn an_answer_never_outgrows_its_bound_however_much_is_sent_again() {
    const JOBS: u32 = 8;
    let store = MemoryStore::new();
    write(&store, |rows| {
        rows.put_machine(&machine("m", JOBS, MachineState::Up))?;
        for number in 0..JOBS.into() {
            rows.put_jobs(&[job(number)])?;
            rows.put_content(id(number), Content::Input, &vec![0; limits::INPUT_BYTES_MAX])?;
        }
        Ok::<_, StoreError>(())
    })
    .await
    .unwrap();
    let mut running: Vec<Running> = Vec::new();
    for seq in 1.. {
        let ask = async |seq, running| {
            let request = Request { running, ..request(seq, JOBS) };
            exchange(&store, serves("g1"), "m", request).await.answer
        };
        // One answer is lost on its way each time.
        ask(2 * seq, running.clone()).await;
        let answer = ask(2 * seq + 1, running.clone()).await;
        let bytes: usize = answer.jobs.iter().map(|grant| grant.input.as_ref().map_or(0, Bytes::len)).sum();
        assert!(bytes < limits::EXCHANGE_BODY_BYTES_MAX, "{} jobs of {bytes} bytes", answer.jobs.len());
        assert!(!answer.jobs.is_empty(), "{} of {JOBS} were granted", running.len());
        running.extend(answer.jobs.iter().map(|grant| runs(grant.attempt)));
        if running.len() == JOBS as usize {
            break;
        }
    }
}

/// A suspect that is first in line empties one Machine; the others go on, and what came behind it is told when it is gone.
#[tokio::test]
async fn a_suspect_gets_an_empty_machine_and_jobs_behind_it_go_on_elsewhere() {
    let store = MemoryStore::new();
    write(&store, |rows| {
        rows.put_machine(&machine("m1", 3, MachineState::Up))?;
        rows.put_machine(&machine("m2", 3, MachineState::Up))?;
        rows.put_jobs(&[running(&job(8), "m1"), running(&job(9), "m2")])?;
        rows.put_jobs(&[Job { suspect: true, ..job(1) }, job(2), job(3)])
    })
    .await
    .unwrap();
    let exchange = async |machine: &str, seq, running: &[u128], ended: &[u128]| {
        let request = Request {
            running: running.iter().map(|job| runs(first_attempt(*job))).collect(),
            finished: ended.iter().map(|job| finished(first_attempt(*job), done(""))).collect(),
            ..request(seq, 3 - running.len() as u32)
        };
        let told = exchange(&store, serves("g1"), machine, request).await;
        (told.answer.jobs.iter().map(|grant| grant.attempt.job).collect::<Vec<_>>(), told.unblocked)
    };
    assert_eq!(exchange("m1", 1, &[8], &[]).await, (vec![], false), "it is to be emptied");
    assert_eq!(exchange("m2", 1, &[9], &[]).await, (vec![id(2), id(3)], false), "the other goes on");
    assert_eq!(exchange("m1", 2, &[], &[8]).await, (vec![id(1)], true), "it is empty");
    put(&store, &[job(4)]).await.unwrap();
    assert_eq!(exchange("m1", 3, &[1], &[]).await, (vec![], false), "nothing runs beside a suspect");
    assert_eq!(exchange("m1", 4, &[], &[1]).await, (vec![id(4)], false));
}

/// A report is repeated until an answer to it arrives. Meanwhile its job can be deleted and another enqueued under its id, which
/// the same Machine begins as the same attempt.
#[tokio::test]
async fn a_late_report_of_a_deleted_job_is_about_no_other_under_its_id() {
    let store = MemoryStore::new();
    write(&store, |rows| rows.put_machine(&machine("m", 1, MachineState::Up))).await.unwrap();
    put(&store, &[job(1)]).await.unwrap();
    let exchange = async |request| exchange(&store, serves("g1"), "m", request).await.answer;
    let deleted = exchange(request(1, 1)).await.jobs[0].attempt;
    let ended = || finished(deleted, done("of the one that was deleted"));
    exchange(Request { finished: vec![ended()], ..request(2, 0) }).await;
    write(&store, |rows| rows.delete_job(id(1))).await.unwrap();
    put(&store, &[Job { enqueued_at: at(-1), ..job(1) }]).await.unwrap();
    let granted = exchange(Request { finished: vec![ended()], ..request(3, 1) }).await.jobs;
    let [another] = &granted[..] else { panic!("{granted:?}") };
    let (log, state) = (b"late".to_vec(), b"late".to_vec());
    let late = Request {
        finished: vec![ended()],
        running: vec![runs(deleted)],
        log: vec![LogChunk { attempt: deleted, offset: 0, bytes: log.into() }],
        saved: vec![Saved { attempt: deleted, state: state.into() }],
        ..request(4, 0)
    };
    let answer = exchange(late).await;
    assert_eq!(
        (&answer.jobs, &answer.cancel),
        (&granted, &vec![deleted]),
        "it does not have what it was granted"
    );
    let kept = async || {
        let read = midge_store::read(&store, |rows| {
            let job = rows.jobs(&[id(1)])?.pop().flatten().unwrap();
            let contents = (rows.content(id(1), Content::Saved)?, rows.content(id(1), Content::Result)?);
            Ok::<_, StoreError>((job.phase(), contents, rows.log(id(1), AttemptNumber(1))?))
        });
        read.await.unwrap()
    };
    assert_eq!(kept().await, (Phase::Running, (None, None), Bytes::new()));
    exchange(Request { finished: vec![finished(another.attempt, done("its own"))], ..request(5, 0) }).await;
    assert_eq!(kept().await, (Phase::Completed, (None, Some("its own".into())), Bytes::new()));
}

/// A host that lacks something takes nothing more. A row that says it does would keep its queue waiting for it.
#[tokio::test]
async fn a_machine_whose_host_lacks_something_drains() {
    let store = MemoryStore::new();
    write(&store, |rows| rows.put_machine(&machine("m", 2, MachineState::Up))).await.unwrap();
    put(&store, &[running(&job(1), "m")]).await.unwrap();
    let outcome = Outcome::HandedBack { lacks: Some("threads".to_owned()) };
    let request = Request { finished: vec![finished(first_attempt(1), outcome)], ..request(1, 0) };
    let told = exchange(&store, serves("g1"), "m", request).await;
    assert!(told.answer.drain && told.answer.jobs.is_empty(), "{told:?}");
    let row = write(&store, |rows| rows.machine(&machine_name("m"))).await.unwrap().unwrap();
    assert_eq!((row.state, row.lacks), (MachineState::Draining, true));
}
