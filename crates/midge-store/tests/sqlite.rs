//! The SQLite store keeps every rule of a store, and those that are rules of files.

use std::path::Path;

use midge_store::conformance::fixtures::{all, at, completed, id, job, put, queue};
use midge_store::{Content, SqliteSettings, SqliteStore, Store, StoreError, read, write};
use rusqlite::Connection;
use tempfile::TempDir;

fn open() -> (SqliteStore, TempDir) {
    let folder = TempDir::new().unwrap();
    (SqliteStore::open(&folder.path().join("midge.db")).unwrap(), folder)
}

midge_store::conformance!(open);

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn refusal(path: &Path) -> StoreError {
    SqliteStore::open(path).expect_err("it is refused")
}

#[test]
fn reopening_keeps_everything() {
    let (store, folder) = open();
    let path = folder.path().join("midge.db");
    let jobs = [job(1, "default", 10), completed(&job(2, "other", 0), at(5))];
    run(async {
        put(&store, &jobs).await.unwrap();
        write(&store, |rows| {
            rows.put_content(id(1), Content::Args, b"{}")?;
            rows.put_setting("key", "value")
        })
        .await
        .unwrap();
    });
    let look = |store: &SqliteStore| {
        run(read(store, |rows| -> Result<_, StoreError> {
            let kept = (rows.content(id(1), Content::Args)?, rows.setting("key")?);
            Ok((rows.jobs(&[id(1), id(2)])?, rows.job_counts(at(0))?, kept))
        }))
        .unwrap()
    };
    let before = look(&store);
    drop(store);
    assert!(!path.with_extension("db-wal").exists(), "a store that was closed is one file");
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(look(&store), before);
}

#[test]
fn a_database_has_one_store_whatever_it_is_called() {
    let (store, folder) = open();
    let path = folder.path().join("midge.db");
    let other = folder.path().join("other.db");
    std::os::unix::fs::symlink(&path, &other).unwrap();
    let roundabout = folder.path().join("..").join(folder.path().file_name().unwrap()).join("midge.db");
    for path in [&path, &other, &roundabout] {
        let error = refusal(path);
        assert!(matches!(error, StoreError::InUse { .. }), "{error}");
        assert!(error.to_string().contains("midge.db"), "{error}");
    }
    run(put(&store, &[job(1, "default", 0)])).unwrap();
    drop(store);
    SqliteStore::open(&other).unwrap();
}

#[test]
fn a_file_that_is_not_ours_is_refused_and_left_as_it_was() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(
        &path,
        "not a database, but long enough to be taken for one by its size alone. ".repeat(20),
    )
    .unwrap();
    let foreign = folder.path().join("app.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE users (name TEXT)").unwrap();
    for (path, why) in [(&path, "not an SQLite database"), (&foreign, "belongs to another program")] {
        let before = std::fs::read(path).unwrap();
        let error = refusal(path);
        assert!(matches!(error, StoreError::NotOurs { .. }), "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(std::fs::read(path).unwrap(), before);
    }
}

#[test]
fn a_newer_schema_is_refused_with_what_to_do() {
    let (store, folder) = open();
    let path = folder.path().join("midge.db");
    drop(store);
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = refusal(&path);
    assert!(matches!(error, StoreError::Newer { .. }), "{error}");
    let error = error.to_string();
    assert!(error.contains("schema 99") && error.contains("newer midge"), "{error}");
    assert!(!error.contains("not a midge database"), "{error}");
}

#[test]
fn a_path_that_cannot_be_is_refused_with_what_to_do() {
    let folder = TempDir::new().unwrap();
    let error = refusal(&folder.path().join("missing/midge.db")).to_string();
    assert!(error.contains("missing") && error.contains("make the folder first"), "{error}");
    let error = refusal(folder.path()).to_string();
    assert!(error.contains("it is a folder"), "{error}");
}

/// Fills a database from many callers at once. Returns the numbers of the jobs that were answered.
async fn fill(store: &dyn Store) -> Vec<u128> {
    let caller = |caller: u128| async move {
        let mut answered = Vec::new();
        for number in (caller * 1_000).. {
            let wrote = write(store, move |rows| {
                rows.put_jobs(&[completed(&job(number, "default", 0), at(0))])?;
                rows.put_content(id(number), Content::Result, &[7; 20_000])
            });
            match wrote.await {
                Ok(()) => answered.push(number),
                Err(StoreError::Full) => return answered,
                Err(error) => panic!("full is not {error}"),
            }
        }
        answered
    };
    let callers = (0..8)
        .map(|number| -> std::pin::Pin<Box<dyn Future<Output = Vec<u128>>>> { Box::pin(caller(number)) });
    all(callers.collect()).await.concat()
}

#[test]
fn a_full_database_keeps_what_was_answered_and_goes_on_when_there_is_room() {
    let folder = TempDir::new().unwrap();
    let settings = SqliteSettings { bytes_max: Some(4 * 1024 * 1024), ..SqliteSettings::default() };
    let store = SqliteStore::open_with(&folder.path().join("midge.db"), &settings).unwrap();
    run(async {
        let answered = fill(&store).await;
        assert!(answered.len() > 50, "{}", answered.len());
        let ids = answered.iter().copied().map(id).collect::<Vec<_>>();
        let (jobs, counts) = read(&store, move |rows| -> Result<_, StoreError> {
            Ok((rows.jobs(&ids)?, rows.job_counts(at(0))?))
        })
        .await
        .unwrap();
        assert!(jobs.iter().all(Option::is_some));
        let completed = midge_core::Phase::Completed;
        assert_eq!(
            counts[&queue("default")].phase(completed),
            answered.len() as u64,
            "and nothing else is there"
        );
        let delete = write(&store, move |rows| rows.delete_ended(&queue("default"), completed, at(1), 1_000));
        assert_eq!(delete.await.unwrap(), answered.len());
        assert!(fill(&store).await.len() > 50);
    });
}

#[test]
fn work_cannot_hide_that_a_write_failed() {
    let folder = TempDir::new().unwrap();
    let settings = SqliteSettings { bytes_max: Some(1024 * 1024), ..SqliteSettings::default() };
    let store = SqliteStore::open_with(&folder.path().join("midge.db"), &settings).unwrap();
    let hidden = run(write(&store, |rows| {
        rows.put_jobs(&[job(1, "default", 0)])?;
        let _ = rows.put_content(id(1), Content::Args, &[0; 2 * 1024 * 1024]);
        Ok(())
    }));
    assert!(matches!(hidden, Err(StoreError::Full)), "{hidden:?}");
    assert_eq!(run(read(&store, |rows| rows.jobs(&[id(1)]))).unwrap(), [None]);
    run(put(&store, &[job(1, "default", 0)])).unwrap();
}
