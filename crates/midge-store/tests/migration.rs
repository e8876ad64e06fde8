//! A database that an older midge wrote is opened by this one, with everything that is in it.
//!
//! `data/schema-1.sql` is a dump of what the last midge of schema 1 wrote with the `write_everything` of this file, and
//! `data/schema-5.sql` of what the last one of schema 5 wrote with `write_what_is_rare`, and `data/schema-7.sql` of what the last
//! one of schema 7 wrote with `write_what_costs`.

use std::path::{Path, PathBuf};

use midge_core::{
    Batch, CostBook, Job, JobEvent, Links, Machine, MachineEnd, MachineEvent, MachineState, QueueRow,
    StateFilter, Stretch, UniqueHold, UniqueKey,
};
use midge_protocol::api::{Pause, UniqueState, UniqueStates};
use midge_protocol::exchange::Outcome;
use midge_protocol::job::{AttemptView, Backoff, Cause, Failure, Progress, State, Usage};
use midge_protocol::{
    AttemptNumber, BatchId, BootId, Day, JobId, JobKey, Labels, Lease, MachineId, Tag, Timestamp,
};
use midge_store::conformance::fixtures::{
    self, after, at, cancelled, completed, discarded, failed, finished, id, job, job_of, machine_name,
    module, put, queue, running,
};
use midge_store::{Content, JobSearch, MemoryStore, Rows, SqliteStore, Store, StoreError, read, write};
use rusqlite::Connection;
use tempfile::TempDir;

const SCHEMA_1: &str = include_str!("data/schema-1.sql");
const SCHEMA_5: &str = include_str!("data/schema-5.sql");
const SCHEMA_7: &str = include_str!("data/schema-7.sql");
/// Text that has the names of the fields that schema 2 renamed, and all that JSON has to escape.
const NESTED: &str =
    "{\"attempts_max\":1,\"due_at\":\"\\never\",\"retry\":{\"attempts_max\":2}}\n\u{0}\u{1F99F}/é";
/// The latest time that a row can hold.
const LATEST: Timestamp = Timestamp::from_millis(253_402_207_200_000);

/// Jobs in every state, with the extremes of every field.
fn jobs() -> Vec<Job> {
    let due = |number| job(number, "default", 0);
    let busy = running(&job(7, "other", 5), "m1");
    let lease = Lease { machine: machine_name("m1"), attempt: AttemptNumber(1) };
    let progress = Progress { done: u64::MAX, total: u64::MAX, message: NESTED.to_owned() };
    let busy = after(&busy, JobEvent::Progressed { lease, progress }, at(6));
    let lost =
        JobEvent::MachineLost { machine: machine_name("m2"), end: MachineEnd::Own, note: NESTED.to_owned() };
    let mut largest = job_of(8, "other", "resize", LATEST.as_millis() - at(0).as_millis());
    largest.content_hash = u64::MAX;
    largest.retry.max_attempts = u32::MAX;
    largest.retry.backoff = Backoff::Exponential { base_ms: u64::MAX, cap_ms: 3_600_000 };
    (largest.limits.time_ms, largest.limits.memory_bytes) = (u64::MAX, u64::MAX);
    (largest.spent, largest.machine_losses) = (u32::MAX, u32::MAX);
    let mut exit = Failure::new(Cause::Exit, NESTED);
    (exit.exit_code, exit.retry_after_ms) = (Some(i32::MIN), Some(u64::MAX));
    let nested = Job { failure: Some(exit), content_hash: (1 << 53) + 1, ..failed(&due(9), at(0)) };
    let thrice = (0..3).fold(job_of(12, "default", "resize", 0), |job, _| failed(&job, job.due()));
    let jobs = vec![
        due(1),
        failed(&due(2), at(0)),
        running(&due(3), "m1"),
        completed(&due(4), at(10)),
        cancelled(&due(5), at(11)),
        discarded(&due(6), at(12)),
        after(&busy, JobEvent::CancelAsked, at(7)),
        largest,
        nested,
        // An earlier release did not count it.
        Job { in_vain: 0, ..finished(&due(10), Outcome::HANDED_BACK, at(9)) },
        // An earlier release counted it, whoever else was aboard, and not that it was run in vain.
        Job { machine_losses: 1, in_vain: 0, ..after(&running(&due(11), "m2"), lost, at(8)) },
        completed(&thrice, LATEST),
        job_of(13, "other", "resize", 20),
        job_of(14, "other", "resize", 30),
        completed(&job_of(15, "other", "resize", 0), at(40)),
    ];
    // An earlier release did not write down when an attempt failed, and as which others.
    jobs.into_iter().map(|job| Job { failed: None, ..job }).collect()
}

fn attempts(job: JobId) -> Vec<AttemptView> {
    let view = |attempt, failure, usage| AttemptView {
        attempt: AttemptNumber(attempt),
        machine: machine_name("m1"),
        scheduled_at: at(0),
        started_at: at(1),
        ended_at: LATEST,
        spent: attempt != 2,
        failure,
        usage,
        cost: None,
    };
    let most = Usage { ran_us: u64::MAX, cpu_us: u64::MAX, memory_peak_bytes: u64::MAX, share_us: 0 };
    match job {
        job if job == id(2) => vec![view(1, Some(Failure::new(Cause::OverTime, NESTED)), Some(most))],
        job if job == id(4) => vec![view(1, None, None)],
        job if job == id(12) => vec![
            view(1, Some(Failure::new(Cause::Trap, "one")), None),
            view(2, Some(Failure::new(Cause::Snoozed, "two")), Some(Usage::default())),
            view(u32::MAX, None, Some(most)),
        ],
        _ => Vec::new(),
    }
}

/// A Machine as an earlier release wrote it, which did not write down when it was made.
fn machine(name: &str) -> Machine {
    Machine { made_at: None, ..fixtures::machine(name) }
}

/// What the older midge wrote.
fn write_everything(rows: &mut dyn Rows) -> Result<(), StoreError> {
    rows.put_jobs(&jobs())?;
    for job in jobs().iter().map(|job| job.id) {
        attempts(job).iter().try_for_each(|attempt| rows.put_attempt(job, attempt))?;
    }
    rows.put_content(id(1), Content::Args, NESTED.as_bytes())?;
    rows.put_content(id(1), Content::Input, b"")?;
    rows.put_content(id(4), Content::Result, &(0..=255).collect::<Vec<u8>>())?;
    for (number, piece) in ["{\"attempts_max\":7}\n", "due_at\n", "\u{1F99F}"].iter().enumerate() {
        let offset = [0, 19, 26][number];
        rows.append_log(id(12), AttemptNumber(1), offset, piece.as_bytes())?;
    }
    rows.append_log(id(12), AttemptNumber(2), 0, &[0, 255])?;
    let mut up = machine("m1");
    up.id = MachineId::new("148ed21fe74e89").ok();
    (up.boot, up.seq, up.heard_at) = (Some(BootId(u64::MAX)), u64::MAX, Some(at(3)));
    (up.attempts, up.note) = (u64::MAX, Some(NESTED.to_owned()));
    let mut gone = machine("m2");
    (gone.state, gone.boot_failed) = (MachineState::Gone, true);
    rows.put_machine(&up)?;
    rows.put_machine(&gone)?;
    rows.put_setting("id", "7d5c0190b3e47c3a")?;
    rows.put_setting("note", &NESTED.replace('\0', ""))
}

/// Jobs that have what most lack, which were written before anything became of them.
fn rare_jobs() -> Vec<Job> {
    let key = |name| JobKey::new(name).ok();
    let unique = |number: u8| {
        let states = UniqueStates([UniqueState::Waiting, UniqueState::Running].into());
        Some(UniqueHold { key: UniqueKey([number; 16]), states, until: None })
    };
    let tags = |names: &[&str]| {
        let tags = names.iter().map(|name| Tag::new(*name).unwrap()).collect();
        Labels { tags, ..Labels::default() }
    };
    let of_batch = Links { batch: Some(BatchId::from_bytes([7; 16])), ..Links::default() };
    (1..=16)
        .map(|number| {
            // What is held was due before.
            let due = if number == 10 { -10 } else { number as i64 };
            let job = job(number, ["default", "other"][number as usize % 2], due);
            match number {
                1 | 2 => Job { expires_at: Some(at(100 * number as i64)), ..job },
                3 | 4 => Job { key: key("acme"), priority: 3, ..job },
                5 | 6 => Job { key: key("other"), labels: tags(&["blue", "red"]), ..job },
                7 | 8 => Job { priority: -5, unique: unique(number as u8), ..job },
                9 | 10 => Job { labels: tags(&["blue"]), expires_at: Some(at(300)), ..job },
                11 | 12 => Job { links: of_batch.clone(), key: key("acme"), ..job },
                13 => job.with_dependents(),
                14 => job.pending(),
                _ => Job {
                    links: of_batch.clone(),
                    labels: tags(&["red"]),
                    unique: unique(number as u8),
                    ..job
                },
            }
        })
        .collect()
}

/// What the midge of schema 5 wrote.
fn write_what_is_rare(rows: &mut dyn Rows) -> Result<(), StoreError> {
    rows.put_batch(&Batch::new(BatchId::from_bytes([7; 16]), 1, "seven".to_owned(), 7, at(0)))?;
    let jobs = rare_jobs();
    rows.put_jobs(&jobs)?;
    rows.put_dependencies(id(14), &[id(13)])?;
    rows.put_jobs(&[
        running(&jobs[1], "m1"),
        running(&jobs[3], "m1"),
        failed(&jobs[4], at(50)),
        discarded(&jobs[5], at(60)),
        completed(&jobs[7], at(70)),
        failed(&jobs[8], at(80)),
        after(&jobs[9], JobEvent::Held, at(85)),
        failed(&jobs[10], at(90)),
        cancelled(&jobs[11], at(95)),
        completed(&jobs[12], at(99)),
        failed(&failed(&jobs[14], at(60)), at(100)),
    ])
}

/// All that one may ask about what most jobs lack, as text.
fn read_what_is_rare(rows: &mut dyn Rows) -> Result<Vec<String>, StoreError> {
    let mut all = read_everything(rows)?;
    let key = |name| JobKey::new(name).unwrap();
    let jobs = rows.jobs(&(1..=16).map(id).collect::<Vec<_>>())?;
    let failures = jobs.into_iter().flatten().filter_map(|job| job.fingerprint());
    let mut searches: Vec<JobSearch> =
        failures.map(|failure| JobSearch { failure: Some(failure), by_failure: true, ..search() }).collect();
    searches.extend(["acme", "other"].map(|name| JobSearch { key: Some(key(name)), ..search() }));
    searches.extend(["blue", "red"].map(|name| JobSearch { tag: Tag::new(name).ok(), ..search() }));
    searches.extend([
        JobSearch { batch: Some(BatchId::from_bytes([7; 16])), ..search() },
        JobSearch { parent: Some(id(7)), ..search() },
        JobSearch { cause: Some(Cause::Refused), by_failure: true, ..search() },
        JobSearch { by_failure: true, ..search() },
    ]);
    for search in searches {
        all.push(format!("count of {search:?}: {:?}", rows.jobs_counted(&search, at(0))?));
        all.push(format!("{search:?}: {:?}", rows.jobs_found(&search, 100)?));
    }
    for (name, key) in [("default", key("acme")), ("other", key("acme")), ("other", key("other"))] {
        let name = queue(name);
        all.push(format!("due of {name} {key}: {:?}", rows.jobs_due(&name, Some(&key), LATEST, 100)?));
        all.push(format!("next of {name} {key}: {:?}", rows.first_due(&name, Some(&key), Some(at(0)))?));
        all.push(format!("lane of {name} {key}: {:?}", rows.lane(&name, &key)?));
    }
    all.push(format!("expired: {:?} {:?}", rows.jobs_expired(LATEST, 100)?, rows.next_expiry()?));
    all.push(format!("held: {:?} {:?}", rows.modules_held()?, rows.jobs_held(&module("hello"), 100)?));
    all.push(format!("batches: {:?}", rows.batches_listed(None, 10)?));
    all.push(format!("of a batch: {:?}", rows.jobs_of_batch(BatchId::from_bytes([7; 16]), None, 100)?));
    let untold = rows.next_untold_end()?;
    all.push(format!("untold: {:?}", untold.as_ref().map(|untold| (untold.job, untold.end))));
    if let Some(untold) = untold {
        all.push(format!("dependents: {:?}", rows.dependents(&untold, 10)?));
    }
    Ok(all)
}

/// What the midge of schema 7 wrote: attempts, Machines in every way to cost something, and a queue.
fn write_what_costs(rows: &mut dyn Rows) -> Result<(), StoreError> {
    write_everything(rows)?;
    let states =
        [("m3", MachineState::Creating), ("m4", MachineState::Ready), ("m5", MachineState::Destroying)];
    for (name, state) in states {
        let id = MachineId::new(format!("e-{name}")).ok().filter(|_| state != MachineState::Creating);
        rows.put_machine(&Machine { state, id, ..machine(name) })?;
    }
    let (reason, by) = (NESTED.to_owned(), "ops".to_owned());
    let pause = Pause { since: at(0), until: Some(at(9)), reason, by };
    rows.put_queue(&queue("default"), &QueueRow { pause: Some(pause), ..QueueRow::default() })
}

/// All that is known about what costs, as text.
fn read_what_costs(rows: &mut dyn Rows) -> Result<Vec<String>, StoreError> {
    let mut all = read_everything(rows)?;
    all.push(format!("{:?}", rows.queues()?));
    rows.costs(Day::of(at(0))..=Day::of(LATEST), &mut |key, sums| all.push(format!("{key:?} {sums:?}")))?;
    Ok(all)
}

fn search() -> JobSearch {
    JobSearch::default()
}

/// Everything that can be asked of a store, as text.
fn read_everything(rows: &mut dyn Rows) -> Result<Vec<String>, StoreError> {
    let mut all = Vec::new();
    let ids: Vec<JobId> = (0..20).map(id).collect();
    all.extend(rows.jobs(&ids)?.iter().map(|job| format!("{job:?}")));
    for job in ids {
        all.push(format!("attempts of {job}: {:?}", rows.attempts(job)?));
        for content in [Content::Args, Content::Input, Content::Result] {
            all.push(format!("{content:?} of {job}: {:?}", rows.content(job, content)?));
        }
        for attempt in [AttemptNumber(1), AttemptNumber(2)] {
            all.push(format!("log {attempt} of {job}: {:?}", rows.log(job, attempt)?));
        }
    }
    for now in [at(-1), at(0), at(5), at(20), at(1_000_000_000), LATEST] {
        all.push(format!("counts at {now}: {:?}", rows.job_counts(now)?));
        all.push(format!("next due after {now}: {:?}", rows.next_due(now)?));
        for name in ["default", "other"] {
            all.push(format!("due in {name} at {now}: {:?}", rows.jobs_due(&queue(name), None, now, 100)?));
        }
        for state in State::ALL {
            let everywhere = JobSearch { state: StateFilter::of(state, now), ..JobSearch::default() };
            let somewhere = JobSearch { module: Some(module("resize")), ..everywhere.clone() };
            let failed = JobSearch { by_failure: true, ..everywhere.clone() };
            let exit = JobSearch { cause: Some(Cause::Exit), ..failed.clone() };
            let late = Stretch { since: Some(at(9)), until: None };
            let late = JobSearch { failed: late, ..failed.clone() };
            for search in [everywhere, somewhere, failed, exit, late] {
                all.push(format!("count of {search:?}: {:?}", rows.jobs_counted(&search, now)?));
                all.push(format!("{search:?}: {:?}", rows.jobs_listed(&search, 100)?));
            }
        }
    }
    for name in ["m1", "m2"] {
        all.push(format!("leased to {name}: {:?}", rows.jobs_leased(&machine_name(name))?));
        all.push(format!("{:?}", rows.machine(&machine_name(name))?));
    }
    all.push(format!("{:?} {:?} {:?}", rows.machines()?, rows.setting("id")?, rows.setting("note")?));
    Ok(all)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn everything(store: &dyn Store) -> Vec<String> {
    run(read(store, read_everything)).unwrap()
}

/// Makes the database that an older midge wrote.
fn database(dump: &str) -> (PathBuf, TempDir) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("midge.db");
    Connection::open(&path).unwrap().execute_batch(dump).unwrap();
    (path, folder)
}

fn schema_1() -> (PathBuf, TempDir) {
    database(SCHEMA_1)
}

fn schema_of(path: &Path) -> i64 {
    Connection::open(path).unwrap().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
}

/// All bodies of a file, which nobody else has open.
fn bodies(path: &Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let sql = "SELECT body FROM jobs UNION ALL SELECT body FROM attempts";
    let mut statement = connection.prepare(sql).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_database_of_schema_1_is_read_to_the_last_row() {
    let (path, _folder) = schema_1();
    let expected = MemoryStore::new();
    run(write(&expected, write_everything)).unwrap();
    let store = SqliteStore::open(&path).unwrap();
    for (found, expected) in everything(&store).iter().zip(&everything(&expected)) {
        assert_eq!(found, expected);
    }
    drop(store);
    assert_eq!(schema_of(&path), 8);
    assert!(
        bodies(&path).iter().all(|body| !body.contains("\"attempts_max\":") && !body.contains("\"due_at\":"))
    );
}

#[test]
fn a_database_of_schema_1_goes_on_after_it_was_opened() {
    let (path, _folder) = schema_1();
    let expected = MemoryStore::new();
    run(write(&expected, write_everything)).unwrap();
    let store = SqliteStore::open(&path).unwrap();
    let claimed = running(&jobs()[12], "m3");
    let retried = after(&jobs()[5], JobEvent::RetryAsked, at(50));
    for store in [&store as &dyn Store, &expected] {
        run(put(store, &[claimed.clone(), retried.clone(), job(16, "default", 60)])).unwrap();
    }
    assert_eq!(everything(&store), everything(&expected));
    drop(store);
    assert_eq!(everything(&SqliteStore::open(&path).unwrap()), everything(&expected));
}

#[test]
fn a_migration_that_fails_leaves_the_database_as_it_was() {
    let (path, _folder) = schema_1();
    let spoil = "INSERT INTO attempts VALUES (x'00', 1, '{')";
    Connection::open(&path).unwrap().execute_batch(spoil).unwrap();
    let before = bodies(&path);
    let error = SqliteStore::open(&path).expect_err("a body is not JSON").to_string();
    assert!(error.contains("malformed JSON"), "{error}");
    assert_eq!(schema_of(&path), 1);
    assert_eq!(bodies(&path), before, "the jobs were written before the attempts were found to be spoilt");
    Connection::open(&path).unwrap().execute_batch("DELETE FROM attempts WHERE job = x'00'").unwrap();
    SqliteStore::open(&path).unwrap();
    assert_eq!(schema_of(&path), 8);
}

#[test]
fn a_database_of_schema_5_is_found_by_all_that_its_jobs_have_and_goes_on() {
    let (path, _folder) = database(SCHEMA_5);
    let expected = MemoryStore::new();
    run(write(&expected, write_what_is_rare)).unwrap();
    let store = SqliteStore::open(&path).unwrap();
    let everything = |store: &dyn Store| run(read(store, read_what_is_rare)).unwrap();
    for (found, expected) in everything(&store).iter().zip(&everything(&expected)) {
        assert_eq!(found, expected);
    }
    // What they were found by, they are not found by any more.
    let jobs = rare_jobs();
    let changed: Vec<Job> = vec![
        running(&jobs[0], "m2"),
        running(&jobs[2], "m2"),
        Job { key: JobKey::new("acme").ok(), ..completed(&jobs[4], at(200)) },
        after(&discarded(&jobs[5], at(60)), JobEvent::RetryAsked, at(210)),
        completed(&jobs[6], at(220)),
        completed(&failed(&jobs[10], at(90)), at(230_000)),
    ];
    let holder = Job { id: id(17), ..jobs[14].clone() };
    let mut child = job(18, "default", 0);
    child.links.parent = Some(id(7));
    for store in [&store as &dyn Store, &expected] {
        let (changed, holder, child) = (changed.clone(), holder.clone(), child.clone());
        let held = run(write(store, move |rows| {
            rows.put_jobs(&changed)?;
            rows.put_jobs(&[child])?;
            rows.delete_job(id(9))?;
            rows.put_unique(&holder)
        }));
        assert_eq!(held.unwrap().map(|job: Job| job.id), Some(id(15)));
    }
    assert_eq!(everything(&store), everything(&expected));
    drop(store);
    assert_eq!(everything(&SqliteStore::open(&path).unwrap()), everything(&expected));
    assert_eq!(schema_of(&path), 8);
}

#[test]
fn a_database_of_schema_7_has_no_sums_and_its_machines_cost_from_then_on() {
    let (path, _folder) = database(SCHEMA_7);
    let expected = MemoryStore::new();
    run(write(&expected, write_what_costs)).unwrap();
    let store = SqliteStore::open(&path).unwrap();
    let everything = |store: &dyn Store| run(read(store, read_what_costs)).unwrap();
    assert_eq!(everything(&store), everything(&expected));
    let heard = || MachineEvent::Heard { boot: BootId(1), seq: 1, generation: "sha256:0".to_owned() };
    let (drained, gone) = (|| MachineEvent::DrainAsked, || MachineEvent::Destroyed);
    for store in [&store as &dyn Store, &expected] {
        let changed = run(write(store, move |rows| -> Result<_, StoreError> {
            let mut book = CostBook::default();
            for (name, event, now) in [
                ("m1", heard(), at(100)),
                ("m4", drained(), at(100)),
                ("m1", gone(), at(200)),
                ("m4", gone(), at(300)),
            ] {
                let before = rows.machine(&machine_name(name))?.expect("it was written");
                let after = before.apply(event, now).expect("it applies").machine;
                book.add_change(&before, &after, now);
                rows.put_machine(&after)?;
            }
            rows.add_costs(&book)?;
            Ok(book)
        }));
        let book = changed.unwrap();
        let sums: Vec<_> = book.iter().map(|(_, sums)| (sums.running_us, sums.resting_us)).collect();
        assert_eq!(sums, [(100_000, 0)], "since when the other was there nobody knows");
    }
    assert_eq!(everything(&store), everything(&expected));
    drop(store);
    assert_eq!(everything(&SqliteStore::open(&path).unwrap()), everything(&expected));
    assert_eq!(schema_of(&path), 8);
}
