//! One random history is played to all stores, and each answer and each row is compared.
//!
//! `MIDGE_SEEDS=FROM..TO` plays other histories than the usual ones. Rows that cannot be read are left out: only text can be
//! spoilt.

mod asks;
mod author;
mod writes;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use midge_core::Phase;
use midge_protocol::{AttemptNumber, JobId, JobKey, Timestamp};
use midge_store::conformance::fixtures::{at, queue};
use midge_store::{MemoryStore, Rows, SqliteStore, Store, StoreError, read, write};
use tempfile::TempDir;

use self::author::{Author, CONTENTS, FAR, JOBS, KEYS, QUEUES, Step, job_id};

/// The stores that are compared. Another one is one more line.
fn stores() -> Vec<(&'static str, Kept)> {
    vec![
        ("memory", Kept { store: Box::new(MemoryStore::new()), _folder: None }),
        (
            "SQLite",
            Kept::in_a_folder(|folder| Box::new(SqliteStore::open(&folder.path().join("midge.db")).unwrap())),
        ),
    ]
}

/// A store, and what has to live as long.
struct Kept {
    store: Box<dyn Store>,
    _folder: Option<TempDir>,
}

impl Kept {
    fn in_a_folder(open: impl Fn(&TempDir) -> Box<dyn Store>) -> Kept {
        let folder = TempDir::new().unwrap();
        Kept { store: open(&folder), _folder: Some(folder) }
    }
}

const SEEDS: Range<u64> = 0..12;
const TRANSACTIONS: usize = 250;

/// What is done with a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Reads,
    Writes,
    /// Writes, and then fails: nothing of it is left.
    Fails,
}

/// What the histories had, all together.
#[derive(Default)]
struct Seen {
    methods: BTreeSet<String>,
    phases: BTreeSet<Phase>,
}

fn play(seed: u64, seen: &mut Seen) {
    let stores = stores();
    let mut author = Author::new(seed);
    let mut before = String::new();
    for number in 0..TRANSACTIONS {
        let way = author.pick(&[Way::Reads, Way::Writes, Way::Writes, Way::Writes, Way::Writes, Way::Fails]);
        let steps = (0..1 + author.below(6)).map(|_| match way {
            Way::Reads => author.asks(),
            _ if author.below(3) == 0 => author.asks(),
            _ => author.writes(),
        });
        let steps = Arc::new(steps.collect::<Vec<_>>());
        let methods = steps.iter().flat_map(|step| step.methods.split(' '));
        seen.methods.extend(methods.map(str::to_owned));
        let place = format!("seed {seed}, transaction {number} ({way:?})");
        let answers: Vec<_> = stores.iter().map(|(_, kept)| transact(&*kept.store, &steps, way)).collect();
        for ((name, _), others) in stores.iter().zip(&answers).skip(1) {
            for (index, step) in steps.iter().enumerate() {
                let (one, other) = (&answers[0][index], &others[index]);
                assert_eq!(
                    one, other,
                    "{place}, step {index}: {} and {name} differ in {}",
                    stores[0].0, step.methods
                );
            }
        }
        let rows: Vec<_> =
            stores.iter().map(|(_, kept)| wait(read(&*kept.store, everything)).unwrap()).collect();
        for ((name, _), others) in stores.iter().zip(&rows).skip(1) {
            let differing = rows[0].lines().zip(others.lines()).find(|(one, other)| one != other);
            let steps: Vec<_> = steps.iter().map(|step| step.methods).collect();
            assert_eq!(differing, None, "after {place}, {steps:?}, {} and {name} differ", stores[0].0);
        }
        assert!(way == Way::Writes || number == 0 || rows[0] == before, "{place} has left something");
        before = rows[0].clone();
        let ids: Vec<JobId> = (0..JOBS).map(job_id).collect();
        let jobs = wait(read(&*stores[0].1.store, move |rows| rows.jobs(&ids))).unwrap();
        seen.phases.extend(jobs.iter().flatten().map(|job| job.phase()));
    }
}

/// Does all steps in one transaction, and returns the answers.
fn transact(store: &dyn Store, steps: &Arc<Vec<Step>>, way: Way) -> Vec<String> {
    let answers = Arc::new(Mutex::new(Vec::new()));
    let (steps, told) = (steps.clone(), answers.clone());
    let work = move |rows: &mut dyn Rows| {
        for step in steps.iter() {
            let answer = (step.act)(rows)?;
            told.lock().unwrap().push(answer);
        }
        if way == Way::Fails { Err(StoreError::Failed("changed our mind".to_owned())) } else { Ok(()) }
    };
    let ended = match way {
        Way::Reads => wait(read(store, work)),
        Way::Writes | Way::Fails => wait(write(store, work)),
    };
    assert_eq!(ended.is_ok(), way != Way::Fails, "{ended:?}");
    std::mem::take(&mut *answers.lock().unwrap())
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Everything that is kept, as text with a line each.
fn everything(rows: &mut dyn Rows) -> Result<String, StoreError> {
    let mut all = String::new();
    let mut line = |text: String| writeln!(all, "{text}").expect("a string takes everything");
    for number in 0..JOBS {
        let id = job_id(number);
        line(format!("{number}: {:?} {:?}", rows.jobs(&[id])?, rows.attempts(id)?));
        line(format!("{number} waits for {:?}", rows.dependencies(id, usize::MAX)?));
        for content in CONTENTS {
            line(format!("{number} {content:?}: {:?}", rows.content(id, content)?));
        }
        for attempt in 0..5 {
            line(format!("{number} log {attempt}: {:?}", rows.log(id, AttemptNumber(attempt))?));
        }
    }
    for of in QUEUES.map(queue) {
        line(format!("{of}: {:?} {} waiting", rows.queue(&of)?, rows.jobs_waiting(&of)?));
        line(format!("{of} in turn: {:?}", rows.lanes_come(&of, at(2 * FAR), 100)?));
        line(format!("{of} by key: {:?}", rows.lanes_after(&of, None, 100)?));
        for key in KEYS.map(|key| JobKey::new(key).unwrap()) {
            line(format!("{of} {key}: {:?}", rows.lane(&of, &key)?));
        }
    }
    line(format!("{:?}", rows.machines()?));
    line(format!("{:?} {:?}", rows.modules()?, rows.schedules()?));
    line(format!("{:?} {:?} {:?}", rows.setting("id")?, rows.setting("é")?, rows.modules_held()?));
    line(format!("{:?}", rows.batches_listed(None, usize::MAX)?));
    line(format!("{:?} {:?}", rows.failure_groups(None, None, usize::MAX)?, rows.sweeps()?));
    line(next_end(rows, usize::MAX)?);
    line(counts(rows, at(0))?);
    Ok(all)
}

/// Counts as they are compared: a phase without jobs may be missing.
fn counts(rows: &mut dyn Rows, now: Timestamp) -> Result<String, StoreError> {
    let mut counts = rows.job_counts(now)?;
    counts.values_mut().for_each(|counts| counts.phases.retain(|_, jobs| *jobs > 0));
    Ok(format!("{counts:?}"))
}

/// The end that is told next, and those that are still to be told, as they are compared: each store has numbers of its own.
fn next_end(rows: &mut dyn Rows, limit: usize) -> Result<String, StoreError> {
    let Some(next) = rows.next_untold_end()? else { return Ok("all are told".to_owned()) };
    let dependents = rows.dependents(&next, limit)?;
    let dependents: Vec<_> = dependents.iter().map(|found| (&found.job, found.waits_for_others)).collect();
    Ok(format!("{} {:?}: {dependents:?}", next.job, next.end))
}

fn seeds() -> Range<u64> {
    let Ok(range) = std::env::var("MIDGE_SEEDS") else { return SEEDS };
    let (from, to) = range.split_once("..").expect("MIDGE_SEEDS is a range such as 0..1000");
    from.parse().expect("a number")..to.parse().expect("a number")
}

#[test]
fn all_stores_give_the_same_answers_and_keep_the_same_rows() {
    let mut seen = Seen::default();
    let seeds = seeds();
    seeds.clone().for_each(|seed| play(seed, &mut seen));
    if seeds.end - seeds.start < SEEDS.end {
        return;
    }
    // What nobody calls is compared by nobody.
    for method in methods() {
        assert!(seen.methods.contains(method), "no history has {method}");
    }
    assert_eq!(seen.phases.len(), Phase::ALL.len(), "{:?}", seen.phases);
}

/// The files that have the traits of rows.
const FILES: [&str; 5] = [
    include_str!("../../src/rows.rs"),
    include_str!("../../src/rows/failures.rs"),
    include_str!("../../src/batch_rows.rs"),
    include_str!("../../src/dependency_rows.rs"),
    include_str!("../../src/cost_rows.rs"),
];

/// Returns the names of all methods of rows, as their traits have them.
fn methods() -> Vec<&'static str> {
    let traits = FILES.iter().flat_map(|file| file.split("\npub trait ").skip(1));
    let of_rows =
        traits.filter(|text| !text.starts_with("Store:")).filter_map(|text| text.split("\n}\n").next());
    let methods = of_rows.flat_map(|text| text.split("\n    fn ").skip(1));
    methods.filter_map(|text| text.split(['(', '<']).next()).collect()
}

#[test]
fn every_trait_of_rows_is_known_and_every_method_is_in_a_history() {
    let rows = FILES[0].split("\npub trait Rows:").nth(1).and_then(|text| text.split('{').next()).unwrap();
    for name in rows.split('+').map(str::trim) {
        let is_there = FILES.iter().any(|file| file.contains(&format!("\npub trait {name} {{")));
        assert!(is_there, "add the file with `{name}` to `FILES`");
    }
    let sources = [include_str!("asks.rs"), include_str!("writes.rs"), include_str!("main.rs")];
    for method in methods() {
        let called = format!("rows.{method}(");
        assert!(
            sources.iter().any(|source| source.contains(&called)),
            "add `{method}` to `asks` or `writes`"
        );
    }
}
