//! Rules of `exchange` and `dispatcher` that the simulation once found broken, each as short as it can be told.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use midge_core::{Job, JobEvent, Machine, MachineState, NewJob};
use midge_machines::{Label, Launch, MachineError, MachineSpec, Machines, Seen, SeenState};
use midge_protocol::exchange::{Answer, AttemptRef, Finished, Outcome, Request, Running};
use midge_protocol::job::{AttemptLimits, RetryPolicy, Usage};
use midge_protocol::manifest::{self, Manifest, QueuePolicy};
use midge_protocol::{
    AttemptNumber, BootId, JobId, MachineId, MachineName, ModuleName, QueueName, Secret, Timestamp, limits,
};
use midge_server::dispatcher::{self, Act};
use midge_server::{Catalog, Clock, Fork, exchange, secret_hash};
use midge_store::{Content, MemoryStore, StoreError, write};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

struct Now;

impl Clock for Now {
    fn now(&self) -> Timestamp {
        NOW
    }
}

/// A Machines API that has one Machine, whoever asks.
struct OneMachine(MachineName);

#[async_trait]
impl Machines for OneMachine {
    async fn create(&self, _: &MachineSpec, _: Launch) -> Result<MachineId, MachineError> {
        Err(MachineError::Unavailable("nothing is made here".into()))
    }
    async fn start(&self, id: &MachineId) -> Result<(), MachineError> {
        Err(MachineError::Gone(id.clone()))
    }
    async fn stop(&self, id: &MachineId) -> Result<(), MachineError> {
        Err(MachineError::Gone(id.clone()))
    }
    async fn destroy(&self, _: &MachineId) -> Result<(), MachineError> {
        Ok(())
    }
    async fn get(&self, id: &MachineId) -> Result<Seen, MachineError> {
        Err(MachineError::Gone(id.clone()))
    }
    async fn list(&self, label: &Label) -> Result<Vec<Seen>, MachineError> {
        Ok(vec![Seen {
            id: MachineId::new("e1").unwrap(),
            name: self.0.to_string(),
            state: SeenState::Started,
            exit: None,
            metadata: BTreeMap::from([(label.key.clone(), label.value.clone())]),
            reachable: true,
            region: String::new(),
            created_at: None,
            updated_at: None,
        }])
    }
    async fn wait(&self, id: &MachineId, _: SeenState, _: Duration) -> Result<(), MachineError> {
        Err(MachineError::Gone(id.clone()))
    }
}

fn name() -> MachineName {
    MachineName::new("m").unwrap()
}

fn machine(state: MachineState) -> Machine {
    let (queue, policy) = (QueueName::default_queue(), QueuePolicy::default());
    let new = Machine::new(name(), queue, "g1".to_owned(), &policy, state, NOW);
    let secret_hash = secret_hash(&Secret::new("s"));
    Machine { secret_hash, boot: Some(BootId(1)), heard_at: Some(NOW), ..new }
}

fn job() -> Job {
    let new = NewJob {
        id: JobId::from_bytes([1; 16]),
        module: ModuleName::new("hello").unwrap(),
        queue: QueueName::default_queue(),
        content_hash: 0,
        retry: RetryPolicy::default(),
        limits: AttemptLimits::default(),
        due: NOW,
    };
    Job::new(new, NOW)
}

fn job_of(number: u8) -> Job {
    Job { id: JobId::from_bytes([number; 16]), ..job() }
}

fn running(job: Job, machine: &str) -> Job {
    let machine = MachineName::new(machine).unwrap();
    job.apply(JobEvent::Claimed { machine }, NOW).unwrap().job
}

fn round_context() -> dispatcher::Context {
    let manifest = Manifest {
        format: manifest::FORMAT,
        wasmtime: String::new(),
        config_hash: String::new(),
        cpu: String::new(),
        modules: BTreeMap::new(),
        server: Default::default(),
        queues: BTreeMap::new(),
        env: BTreeMap::new(),
    };
    let modules_dir = PathBuf::from("modules");
    dispatcher::Context {
        catalog: Arc::new(Catalog { manifest, generation: "g1".to_owned(), modules_dir }),
        fork: Fork { image: String::new(), region: None, host: Vec::new(), server_url: String::new() },
        owner: "store".to_owned(),
        up_since: NOW,
        seed: 0,
    }
}

/// The call that made it was taken for lost, and the last row of a Machine is gone before it is heard.
#[tokio::test]
async fn a_machine_that_is_made_after_it_was_given_up_is_found_and_destroyed() {
    let store = MemoryStore::new();
    write(&store, |rows| rows.put_machine(&machine(MachineState::Gone))).await.unwrap();
    let decided = dispatcher::decide(&store, &OneMachine(name()), &round_context(), &Now).await.unwrap();
    assert!(matches!(&decided.acts[..], [Act::DestroyStray { id }] if id.as_str() == "e1"), "{decided:?}");
}

/// A host never opens again once it has closed. A row that says it is open would keep its queue waiting for ever.
#[tokio::test]
async fn a_host_that_was_told_to_drain_stays_drained_when_its_generation_comes_back() {
    let store = MemoryStore::new();
    write(&store, |rows| {
        rows.put_machine(&machine(MachineState::Up))?;
        rows.put_jobs(&[job()])
    })
    .await
    .unwrap();
    let policy = QueuePolicy { warm_machines: 1, ..QueuePolicy::default() };
    let exchange = async |seq, generation: &str, leaving| -> Answer {
        let context = exchange::Context {
            generation: generation.to_owned(),
            policies: BTreeMap::from([(QueueName::default_queue(), policy.clone())]),
            jitter: 0.0,
        };
        let request = Request {
            boot: BootId(1),
            seq,
            room: if leaving { 0 } else { 2 },
            wait_ms: 0,
            leaving,
            running: Vec::new(),
            finished: Vec::new(),
            log: Vec::new(),
        };
        let hash = secret_hash(&Secret::new("s"));
        exchange::exchange(&store, context, name(), hash, request, NOW).await.unwrap().answer
    };
    assert!(exchange(1, "g2", false).await.drain);
    let back = exchange(2, "g1", false).await;
    assert!(back.drain && back.jobs.is_empty(), "{back:?}");
    assert!(exchange(3, "g1", true).await.left, "it keeps nothing warm, so it may go");
}

/// An answer over the bound of a body is dropped by the host, and with it every attempt that it holds, each time.
#[tokio::test]
async fn an_answer_never_outgrows_its_bound_however_much_is_sent_again() {
    const JOBS: u8 = 8;
    let store = MemoryStore::new();
    write(&store, |rows| {
        rows.put_machine(&Machine { places: JOBS.into(), ..machine(MachineState::Up) })?;
        for number in 0..JOBS {
            let job = Job { id: JobId::from_bytes([number; 16]), ..job() };
            rows.put_jobs(std::slice::from_ref(&job))?;
            rows.put_content(job.id, Content::Input, &vec![0; limits::INPUT_BYTES_MAX])?;
        }
        Ok::<_, StoreError>(())
    })
    .await
    .unwrap();
    let mut running: Vec<Running> = Vec::new();
    for seq in 1.. {
        let ask = async |seq, running| {
            let context =
                exchange::Context { generation: "g1".to_owned(), policies: BTreeMap::new(), jitter: 0.0 };
            let request = Request {
                boot: BootId(1),
                seq,
                room: JOBS.into(),
                wait_ms: 0,
                leaving: false,
                running,
                finished: Vec::new(),
                log: Vec::new(),
            };
            let hash = secret_hash(&Secret::new("s"));
            exchange::exchange(&store, context, name(), hash, request, NOW).await.unwrap().answer
        };
        // One answer is lost on its way each time.
        ask(2 * seq, running.clone()).await;
        let answer = ask(2 * seq + 1, running.clone()).await;
        let bytes: usize = answer.jobs.iter().map(|grant| grant.input.as_ref().map_or(0, Bytes::len)).sum();
        assert!(bytes < limits::EXCHANGE_BODY_BYTES_MAX, "{} jobs of {bytes} bytes", answer.jobs.len());
        assert!(!answer.jobs.is_empty(), "{} of {JOBS} were granted", running.len());
        running.extend(answer.jobs.iter().map(|grant| Running { attempt: grant.attempt, progress: None }));
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
        for name in ["m1", "m2"] {
            let name = MachineName::new(name).unwrap();
            rows.put_machine(&Machine { name, places: 3, ..machine(MachineState::Up) })?;
        }
        rows.put_jobs(&[running(job_of(8), "m1"), running(job_of(9), "m2")])?;
        rows.put_jobs(&[Job { suspect: true, ..job() }, job_of(2), job_of(3)])
    })
    .await
    .unwrap();
    let exchange = async |machine: &str, seq, runs: &[u8], finished: &[u8]| {
        let context =
            exchange::Context { generation: "g1".to_owned(), policies: BTreeMap::new(), jitter: 0.0 };
        let attempt = |number: &u8| AttemptRef { job: job_of(*number).id, attempt: AttemptNumber(1) };
        let request = Request {
            boot: BootId(1),
            seq,
            room: 3 - runs.len() as u32,
            wait_ms: 0,
            leaving: false,
            running: runs.iter().map(|job| Running { attempt: attempt(job), progress: None }).collect(),
            finished: finished
                .iter()
                .map(|job| Finished {
                    attempt: attempt(job),
                    outcome: Outcome::Completed { result: Bytes::new() },
                    usage: Usage::default(),
                })
                .collect(),
            log: Vec::new(),
        };
        let (name, hash) = (MachineName::new(machine).unwrap(), secret_hash(&Secret::new("s")));
        let done = exchange::exchange(&store, context, name, hash, request, NOW).await.unwrap();
        let jobs: Vec<u8> = done.answer.jobs.iter().map(|grant| grant.attempt.job.as_bytes()[0]).collect();
        (jobs, done.unblocked)
    };
    assert_eq!(exchange("m1", 1, &[8], &[]).await, (vec![], false), "it is to be emptied");
    assert_eq!(exchange("m2", 1, &[9], &[]).await, (vec![2, 3], false), "the other goes on");
    assert_eq!(exchange("m1", 2, &[], &[8]).await, (vec![1], true), "it is empty");
    write(&store, |rows| rows.put_jobs(&[job_of(4)])).await.unwrap();
    assert_eq!(exchange("m1", 3, &[1], &[]).await, (vec![], false), "nothing runs beside a suspect");
    assert_eq!(exchange("m1", 4, &[], &[1]).await, (vec![4], false));
}

/// A host that lacks something takes nothing more. A row that says it does would keep its queue waiting for it.
#[tokio::test]
async fn a_machine_whose_host_lacks_something_drains() {
    let store = MemoryStore::new();
    write(&store, |rows| {
        rows.put_machine(&machine(MachineState::Up))?;
        rows.put_jobs(&[running(job(), "m")])
    })
    .await
    .unwrap();
    let context = exchange::Context { generation: "g1".to_owned(), policies: BTreeMap::new(), jitter: 0.0 };
    let attempt = AttemptRef { job: job().id, attempt: AttemptNumber(1) };
    let outcome = Outcome::HandedBack { lacks: Some("threads".to_owned()) };
    let request = Request {
        boot: BootId(1),
        seq: 1,
        room: 0,
        wait_ms: 0,
        leaving: false,
        running: Vec::new(),
        finished: vec![Finished { attempt, outcome, usage: Usage::default() }],
        log: Vec::new(),
    };
    let hash = secret_hash(&Secret::new("s"));
    let done = exchange::exchange(&store, context, name(), hash, request, NOW).await.unwrap();
    assert!(done.answer.drain && done.answer.jobs.is_empty(), "{done:?}");
    let row = write(&store, |rows| rows.machine(&name())).await.unwrap().unwrap();
    assert_eq!((row.state, row.lacks), (MachineState::Draining, true));
}
