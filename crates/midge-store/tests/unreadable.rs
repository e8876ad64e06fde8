//! A row that cannot be read hides no other: it is shown for what it is, waits for nobody, and can be deleted.

use midge_core::{DependencyEnd, Phase};
use midge_protocol::api::Cursor;
use midge_protocol::job::AttemptView;
use midge_protocol::job::State;
use midge_protocol::{AttemptNumber, JobId};
use midge_store::conformance::fixtures::{
    Database, at, completed, id, job, machine, machine_name, put, queue, running,
};
use midge_store::{Content, JobSearch, SqliteStore, StoreError, read, write};

/// What stands in rows that cannot be read: no JSON, other JSON, and a time that an earlier release wrote.
const GARBAGE: [&str; 3] = ["\u{0}garbage", "{\"id\":1}", "\"9223372036854775807 ms after 1970\""];

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Returns what a listing shows: ids, and whether each could be read.
fn listed(store: &SqliteStore) -> Vec<(JobId, bool)> {
    let jobs = run(read(store, |rows| rows.jobs_listed(&JobSearch::default(), 100))).unwrap();
    jobs.into_iter().map(|job| job.map_or_else(|job| (job.id, false), |job| (job.id, true))).collect()
}

#[test]
fn an_unreadable_job_is_listed_for_what_it_is_and_every_other_as_it_was() {
    for garbage in GARBAGE {
        let database = Database::fresh();
        let store = database.open();
        run(put(
            &store,
            &[job(1, "default", 0), completed(&job(2, "default", 0), at(5)), job(3, "other", 7)],
        ))
        .unwrap();
        drop(store);
        database.garble(id(2), garbage);
        let store = database.open();
        assert_eq!(listed(&store), [(id(3), true), (id(2), false), (id(1), true)]);
        let found = run(read(&store, |rows| rows.jobs(&[id(1), id(3)]))).unwrap();
        assert!(found.iter().all(Option::is_some));
        let error = run(read(&store, |rows| rows.jobs(&[id(2)]))).unwrap_err();
        let StoreError::Unreadable(known) = error else { panic!("{error}") };
        assert_eq!((known.id, known.phase, known.ended_at), (id(2), Phase::Completed, Some(at(5))));
        assert!(!known.why.is_empty() && known.why.len() <= 800);
    }
}

#[test]
fn an_unreadable_job_among_many_is_listed_in_every_search_that_it_fits() {
    let database = Database::fresh();
    let store = database.open();
    let many: Vec<_> = (1..3_000).map(|number| job(number, "default", 0)).collect();
    run(put(&store, &many)).unwrap();
    drop(store);
    database.garble(id(5), GARBAGE[0]);
    let store = database.open();
    let search = JobSearch {
        before: Some(Cursor::Id(id(2_900))),
        queue: Some(queue("default")),
        ..JobSearch::default()
    };
    let jobs = run(read(&store, move |rows| rows.jobs_listed(&search, 10_000))).unwrap();
    assert_eq!(jobs.len(), 2_899);
    assert_eq!(
        jobs.iter().filter_map(|job| job.as_ref().err()).map(|job| job.id).collect::<Vec<_>>(),
        [id(5)]
    );
}

#[test]
fn an_unreadable_job_is_not_claimed_keeps_no_other_waiting_and_ends_discarded() {
    let database = Database::fresh();
    let store = database.open();
    run(put(&store, &[job(1, "default", 0), job(2, "default", 1), job(3, "default", 2)])).unwrap();
    drop(store);
    database.garble(id(1), GARBAGE[0]);
    database.garble(id(2), GARBAGE[1]);
    let store = database.open();
    let due = |rows: &mut dyn midge_store::Rows| rows.jobs_due(&queue("default"), None, at(10), 1);
    // Who only reads leaves it alone.
    for _ in 0..2 {
        assert_eq!(run(read(&store, due)).unwrap().iter().map(|job| job.id).collect::<Vec<_>>(), [id(3)]);
        assert_eq!(
            run(read(&store, |rows| rows.job_counts(at(10)))).unwrap()[&queue("default")]
                .in_state(State::Available),
            3
        );
    }
    assert_eq!(run(write(&store, due)).unwrap().iter().map(|job| job.id).collect::<Vec<_>>(), [id(3)]);
    let counts = run(read(&store, |rows| rows.job_counts(at(10)))).unwrap()[&queue("default")].clone();
    assert_eq!(
        (counts.in_state(State::Available), counts.phase(Phase::Discarded)),
        (1, 2),
        "nobody starts a Machine for them"
    );
    assert_eq!(listed(&store), [(id(3), true), (id(2), false), (id(1), false)]);
    // They are kept for as long as any other, and the numbers are right over a restart.
    drop(store);
    let store = database.open();
    let deleted =
        run(write(&store, |rows| rows.delete_ended(&queue("default"), Phase::Discarded, at(11), 10)))
            .unwrap();
    assert_eq!((deleted, listed(&store)), (2, vec![(id(3), true)]));
}

#[test]
fn an_unreadable_job_that_ran_is_leased_to_nobody() {
    let database = Database::fresh();
    let store = database.open();
    run(put(&store, &[running(&job(1, "default", 0), "m1"), running(&job(2, "default", 0), "m1")])).unwrap();
    run(write(&store, |rows| rows.put_machine(&machine("m1")))).unwrap();
    drop(store);
    database.garble(id(1), GARBAGE[0]);
    let store = database.open();
    let leased = run(write(&store, |rows| rows.jobs_leased(&machine_name("m1")))).unwrap();
    assert_eq!(leased.iter().map(|job| job.id).collect::<Vec<_>>(), [id(2)]);
    let machines = run(read(&store, |rows| rows.machines())).unwrap();
    assert_eq!(machines[0].1, 1);
}

#[test]
fn an_unreadable_job_can_be_deleted_with_all_that_belongs_to_it() {
    for garbage in GARBAGE {
        let database = Database::fresh();
        let store = database.open();
        run(put(&store, &[job(1, "default", 0), job(2, "default", 0)])).unwrap();
        run(write(&store, |rows| rows.put_content(id(1), Content::Args, b"{}"))).unwrap();
        drop(store);
        database.garble(id(1), garbage);
        let store = database.open();
        assert!(run(write(&store, |rows| rows.delete_job(id(1)))).unwrap());
        assert_eq!(listed(&store), [(id(2), true)]);
        assert_eq!(run(read(&store, |rows| rows.content(id(1), Content::Args))).unwrap(), None);
        let counts = run(read(&store, |rows| rows.job_counts(at(0)))).unwrap();
        assert_eq!(counts[&queue("default")].waiting(), 1);
    }
}

#[test]
fn an_unreadable_attempt_is_known_by_its_number() {
    let view = AttemptView {
        attempt: AttemptNumber(1),
        machine: machine_name("m1"),
        scheduled_at: at(0),
        started_at: at(1),
        ended_at: at(2),
        spent: true,
        failure: None,
        usage: None,
        cost: None,
    };
    let database = Database::fresh();
    let store = database.open();
    let second = AttemptView { attempt: AttemptNumber(2), ..view.clone() };
    let written = view.clone();
    run(write(&store, move |rows| {
        rows.put_attempt(id(1), &written)?;
        rows.put_attempt(id(1), &second)
    }))
    .unwrap();
    drop(store);
    database.sql("UPDATE attempts SET body = '{' WHERE attempt = 2", []);
    let store = database.open();
    let attempts = run(read(&store, |rows| rows.attempts(id(1)))).unwrap();
    assert_eq!(attempts, [Ok(view), Err(AttemptNumber(2))]);
}

#[test]
fn an_unreadable_machine_is_no_machine_and_its_row_can_be_deleted() {
    let database = Database::fresh();
    let store = database.open();
    run(write(&store, |rows| {
        rows.put_machine(&machine("m1"))?;
        rows.put_machine(&machine("m2"))
    }))
    .unwrap();
    drop(store);
    database.sql("UPDATE machines SET body = 'x' WHERE name = 'm1'", []);
    let store = database.open();
    assert_eq!(run(read(&store, |rows| rows.machine(&machine_name("m1")))).unwrap(), None);
    assert_eq!(run(read(&store, |rows| rows.machines())).unwrap().len(), 1);
    let delete = || run(write(&store, |rows| rows.delete_unreadable_machines())).unwrap();
    assert_eq!((delete(), delete()), (vec![machine_name("m1")], vec![]));
}

#[test]
fn an_unreadable_job_keeps_none_waiting_that_is_to_run_after_it() {
    let database = Database::fresh();
    let store = database.open();
    let waits = |number, on| {
        run(write(&store, move |rows| {
            rows.put_jobs(&[job(number, "default", 0).pending()])?;
            rows.put_dependencies(id(number), &[id(on)])
        }))
        .unwrap();
    };
    run(put(&store, &[job(1, "default", 0).with_dependents()])).unwrap();
    for (number, on) in [(2, 1), (3, 2), (4, 1)] {
        waits(number, on);
    }
    drop(store);
    database.garble(id(1), GARBAGE[0]);
    database.garble(id(2), GARBAGE[1]);
    let store = database.open();
    let found = run(write(&store, |rows| rows.jobs_due(&queue("default"), None, at(10), 10))).unwrap();
    assert!(found.is_empty(), "{found:?}");
    let (told, dependents) = run(write(&store, |rows| {
        let told = rows.next_untold_end()?.expect("it was discarded");
        let dependents = rows.dependents(&told, 10)?;
        rows.delete_untold_end(&told)?;
        Ok::<_, StoreError>((told, dependents))
    }))
    .unwrap();
    assert_eq!((told.job, told.end), (id(1), DependencyEnd::Discarded));
    assert_eq!(dependents.iter().map(|dependent| dependent.job.id).collect::<Vec<_>>(), [id(4)]);
    // The other one cannot be read either, so it is discarded in turn.
    let told = run(read(&store, |rows| rows.next_untold_end())).unwrap().unwrap();
    assert_eq!((told.job, told.end), (id(2), DependencyEnd::Discarded));
    assert_eq!(run(read(&store, |rows| rows.dependencies(id(2), 10))).unwrap(), (0, vec![]));
}
