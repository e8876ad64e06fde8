//! What holds for the file of a database: who may read it, who else has it, and what is said of a file that is none.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use midge_store::conformance::fixtures::{id, job};
use midge_store::{Content, SqliteSettings, SqliteStore, StoreError, read, write};
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn refusal(path: &Path) -> StoreError {
    SqliteStore::open(path).expect_err("it is refused")
}

fn folder() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("midge.db");
    (folder, path)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).mode() & 0o777
}

fn enqueue(store: &SqliteStore, number: u128) -> Result<(), StoreError> {
    run(write(store, move |rows| {
        rows.put_jobs(&[job(number, "default", 0)])?;
        rows.put_content(id(number), Content::Args, b"{\"name\": \"somebody\"}")
    }))
}

fn has(store: &SqliteStore, number: u128) -> Result<bool, StoreError> {
    Ok(run(read(store, move |rows| rows.jobs(&[id(number)])))?[0].is_some())
}

/// Waits for something that another thread does.
fn eventually<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        if let Some(found) = found() {
            return found;
        }
        std::thread::yield_now();
    }
    panic!("it did not come to pass: {what}");
}

#[test]
fn a_store_that_is_closed_is_free_at_once_whatever_is_started_meanwhile() {
    let (_folder, path) = folder();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    std::process::Command::new("true").status().unwrap();
                }
            });
        }
        let opened = (0..300).try_for_each(|_| SqliteStore::open(&path).map(drop));
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        opened.unwrap();
    });
}

#[test]
fn only_its_owner_may_read_a_database_and_what_is_beside_it() {
    let (folder, path) = folder();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let store = SqliteStore::open(&path).unwrap();
    enqueue(&store, 1).unwrap();
    for suffix in ["", "-wal", "-lock"] {
        assert_eq!(mode(&beside(&path, suffix)), 0o600, "{suffix}");
    }
    assert_eq!(mode(folder.path()), 0o755, "the folder is its owner's business");
}

#[test]
fn a_database_that_others_could_read_is_theirs_no_more() {
    let (_folder, path) = folder();
    drop(SqliteStore::open(&path).unwrap());
    for suffix in ["", "-wal", "-lock"] {
        let path = beside(&path, suffix);
        fs::OpenOptions::new().append(true).create(true).open(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
    }
    let store = SqliteStore::open(&path).unwrap();
    enqueue(&store, 1).unwrap();
    for suffix in ["", "-wal", "-lock"] {
        assert_eq!(mode(&beside(&path, suffix)), 0o600, "{suffix}");
    }
}

#[test]
fn a_hard_link_is_no_way_to_a_second_store() {
    let (_folder, path) = folder();
    let elsewhere = TempDir::new_in(path.parent().unwrap()).unwrap();
    let other = elsewhere.path().join("other.db");
    let store = SqliteStore::open(&path).unwrap();
    enqueue(&store, 1).unwrap();
    fs::hard_link(&path, &other).unwrap();
    let error = refusal(&other);
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    enqueue(&store, 2).unwrap();
    assert!(has(&store, 1).unwrap() && has(&store, 2).unwrap());
    drop(store);
    // What a killed server left in `midge.db-wal` would not be found beside `other.db`.
    for path in [&path, &other] {
        let error = refusal(path).to_string();
        assert!(error.contains("2 names") && error.contains("find -samefile"), "{error}");
    }
    fs::remove_file(&other).unwrap();
    assert!(has(&SqliteStore::open(&path).unwrap(), 2).unwrap());
}

#[test]
fn a_link_to_a_database_that_is_still_to_be_made_is_that_database() {
    let (folder, path) = folder();
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink("midge.db", &link).unwrap();
    let store = SqliteStore::open(&link).unwrap();
    assert!(matches!(refusal(&path), StoreError::InUse { .. }));
    drop(store);
    SqliteStore::open(&path).unwrap();
    let endless = folder.path().join("endless.db");
    std::os::unix::fs::symlink("endless.db", &endless).unwrap();
    assert!(refusal(&endless).to_string().contains("endless.db"));
}

#[test]
fn the_number_of_a_deleted_file_is_free_for_the_next() {
    // A file system gives the number of a file away as soon as the last descriptor of it is closed.
    let folder = TempDir::new().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let folder = folder.path();
            scope.spawn(move || {
                for turn in 0..50 {
                    let path = folder.join(format!("{thread}-{turn}.db"));
                    let store = SqliteStore::open(&path).expect("nobody has the file");
                    std::fs::remove_file(&path).unwrap();
                    drop(store);
                }
            });
        }
    });
}

#[test]
fn what_is_no_file_is_refused_by_its_kind() {
    let (folder, _) = folder();
    let fifo = folder.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let socket = folder.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let kinds = [
        (Path::new("/dev/null"), "a device"),
        (folder.path(), "a folder"),
        (&fifo, "a FIFO"),
        (&socket, "a socket"),
    ];
    for (path, kind) in kinds {
        let error = refusal(path).to_string();
        assert!(error.contains(&format!("it is {kind}: name a file")), "{error}");
        assert!(!beside(path, "-lock").exists(), "nothing is made beside {}", path.display());
    }
}

#[test]
fn a_database_that_may_not_be_written_is_refused_or_its_owner_may_write_it() {
    let (_folder, path) = folder();
    drop(SqliteStore::open(&path).unwrap());
    fs::set_permissions(&path, Permissions::from_mode(0o444)).unwrap();
    // Its owner may change that, and is who starts servers: as rights that are too wide, it is set right.
    match SqliteStore::open(&path) {
        Ok(store) => {
            enqueue(&store, 1).unwrap();
            assert_eq!(mode(&path), 0o600);
        }
        Err(error) => assert!(error.to_string().contains("read-only"), "{error}"),
    }
}

#[test]
fn an_empty_file_becomes_a_database() {
    let (_folder, path) = folder();
    fs::write(&path, "").unwrap();
    let store = SqliteStore::open(&path).unwrap();
    enqueue(&store, 1).unwrap();
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn a_schema_that_was_never_written_is_damage() {
    let (_folder, path) = folder();
    drop(SqliteStore::open(&path).unwrap());
    for schema in [0, -1] {
        Connection::open(&path).unwrap().pragma_update(None, "user_version", schema).unwrap();
        let error = refusal(&path);
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(&format!("schema {schema}")), "{error}");
    }
}

/// What can happen to the file of a server that runs: its name, how it comes about, and a word of what is said about it.
type Loss = (&'static str, fn(&Path), &'static str);

/// All of them.
const LOSSES: [Loss; 4] = [
    ("deleted", |path| fs::remove_file(path).unwrap(), "was deleted or moved"),
    ("moved", |path| fs::rename(path, beside(path, "-moved")).unwrap(), "was deleted or moved"),
    (
        "replaced",
        |path| {
            fs::write(beside(path, "-new"), "another file").unwrap();
            fs::rename(beside(path, "-new"), path).unwrap();
        },
        "was replaced",
    ),
    ("the log deleted", |path| fs::remove_file(beside(path, "-wal")).unwrap(), "midge.db-wal was deleted"),
];

#[test]
fn nothing_is_answered_once_the_file_is_lost() {
    for (what, lose, why) in LOSSES {
        let (_folder, path) = folder();
        let store = SqliteStore::open(&path).unwrap();
        enqueue(&store, 1).unwrap();
        assert!(has(&store, 1).unwrap());
        lose(&path);
        let errors = [enqueue(&store, 2).unwrap_err(), has(&store, 1).unwrap_err()];
        for error in errors {
            assert!(matches!(error, StoreError::Lost { .. }), "{what}: {error}");
            assert!(error.to_string().contains(why), "{what}: {error}");
        }
        assert!(what != "deleted" || !path.exists(), "no new file is made in its place");
    }
}

#[test]
fn a_transaction_whose_file_was_lost_meanwhile_is_not_answered() {
    let (_folder, path) = folder();
    let store = SqliteStore::open(&path).unwrap();
    let gone = path.clone();
    let outcome = run(write(&store, move |rows| {
        rows.put_jobs(&[job(1, "default", 0)])?;
        fs::remove_file(&gone).unwrap();
        Ok::<(), StoreError>(())
    }));
    assert!(matches!(outcome, Err(StoreError::Lost { .. })), "{outcome:?}");
}

#[test]
fn what_a_lost_file_held_is_saved_beside_it() {
    for (what, lose, _) in LOSSES {
        let (_folder, path) = folder();
        let store = SqliteStore::open(&path).unwrap();
        for number in 1..100 {
            enqueue(&store, number).unwrap();
        }
        lose(&path);
        // Nobody asks for anything: it is looked for every second.
        let saved = beside(&path, "-saved-1");
        eventually(what, || {
            let saved = Connection::open_with_flags(&saved, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
            let jobs = saved.query_row("SELECT count(*) FROM jobs", [], |row| row.get::<_, i64>(0)).ok()?;
            (jobs == 99).then_some(())
        });
        drop(store);
        assert_eq!(mode(&saved), 0o600);
        let store = SqliteStore::open(&saved).unwrap();
        assert!((1..100).all(|number| has(&store, number).unwrap()), "{what}");
    }
}

#[test]
fn a_file_that_is_lost_again_is_saved_again_with_what_came_between() {
    let (_folder, path) = folder();
    let store = SqliteStore::open(&path).unwrap();
    enqueue(&store, 1).unwrap();
    fs::rename(&path, beside(&path, "-away")).unwrap();
    assert!(matches!(enqueue(&store, 2), Err(StoreError::Lost { .. })));
    let saved = |number| beside(&path, &format!("-saved-{number}"));
    eventually("the first is saved", || saved(1).exists().then_some(()));
    fs::rename(beside(&path, "-away"), &path).unwrap();
    enqueue(&store, 2).unwrap();
    fs::remove_file(&path).unwrap();
    drop(store);
    let store = SqliteStore::open(&saved(2)).unwrap();
    assert!(has(&store, 1).unwrap() && has(&store, 2).unwrap());
}

#[test]
fn a_file_that_is_back_is_used_again() {
    let (_folder, path) = folder();
    let store = SqliteStore::open(&path).unwrap();
    enqueue(&store, 1).unwrap();
    fs::rename(&path, beside(&path, "-away")).unwrap();
    assert!(matches!(enqueue(&store, 2), Err(StoreError::Lost { .. })));
    fs::rename(beside(&path, "-away"), &path).unwrap();
    enqueue(&store, 2).unwrap();
    drop(store);
    let store = SqliteStore::open(&path).unwrap();
    assert!(has(&store, 1).unwrap() && has(&store, 2).unwrap());
}

#[test]
fn a_file_that_takes_the_name_of_a_lost_one_keeps_what_it_holds() {
    let (folder, path) = folder();
    let store = SqliteStore::open(&path).unwrap();
    enqueue(&store, 1).unwrap();
    // Another database, with jobs that only its log holds, as a server that was killed leaves it.
    let other = folder.path().join("other.db");
    let kept = SqliteStore::open(&other).unwrap();
    enqueue(&kept, 2).unwrap();
    for suffix in ["", "-wal"] {
        fs::copy(beside(&other, suffix), beside(&other, &format!("-copy{suffix}"))).unwrap();
        fs::rename(beside(&other, &format!("-copy{suffix}")), beside(&path, suffix)).unwrap();
    }
    assert!(matches!(enqueue(&store, 3), Err(StoreError::Lost { .. })));
    drop(store);
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!([1, 2, 3].map(|number| has(&store, number).unwrap()), [false, true, false]);
}

#[test]
fn the_log_of_a_lost_file_is_not_taken_for_that_of_the_next() {
    let (_folder, path) = folder();
    let store = SqliteStore::open(&path).unwrap();
    enqueue(&store, 1).unwrap();
    let log = beside(&path, "-wal");
    assert!(fs::metadata(&log).unwrap().len() > 0);
    fs::rename(&path, beside(&path, "-moved")).unwrap();
    eventually("the log is empty", || (fs::metadata(&log).unwrap().len() == 0).then_some(()));
    drop(store);
    // What was in the log is in the file that was moved.
    assert!(has(&SqliteStore::open(&beside(&path, "-moved")).unwrap(), 1).unwrap());
}

#[test]
fn a_file_that_is_cut_short_is_damaged_and_left_as_it_is() {
    for (suffix, part) in [("", 0), ("", 2), ("-wal", 0), ("-wal", 2), ("-wal", 1_000)] {
        let (_folder, path) = folder();
        drop(SqliteStore::open(&path).unwrap());
        let store = SqliteStore::open(&path).unwrap();
        for number in 1..20 {
            enqueue(&store, number).unwrap();
        }
        let cut = fs::OpenOptions::new().write(true).open(beside(&path, suffix)).unwrap();
        let bytes = cut.metadata().unwrap().len().checked_div(part).unwrap_or(0);
        cut.set_len(bytes).unwrap();
        for error in [enqueue(&store, 20).unwrap_err(), has(&store, 1).unwrap_err()] {
            assert!(matches!(error, StoreError::Damaged { .. }), "{suffix} {part}: {error}");
            assert!(error.to_string().contains(&format!("midge.db{suffix} was cut short")), "{error}");
        }
        // Not even a log is moved: what is left is for whoever mends it.
        let left = ["", "-wal"].map(|suffix| fs::read(beside(&path, suffix)).unwrap());
        drop(store);
        let is_as_it_was =
            || assert_eq!(["", "-wal"].map(|suffix| fs::read(beside(&path, suffix)).unwrap()), left);
        is_as_it_was();
        // Nor does the next server begin with what is left as if that were all.
        if bytes == 0 && suffix.is_empty() {
            continue;
        }
        let error = SqliteStore::open(&path).unwrap_err().to_string();
        let mark = beside(&path, "-damaged");
        assert!(error.contains("was cut short") && error.contains(&mark.display().to_string()), "{error}");
        is_as_it_was();
        fs::remove_file(mark).unwrap();
        if suffix == "-wal" {
            drop(SqliteStore::open(&path).unwrap());
        }
    }
}

#[test]
fn a_log_that_begins_anew_is_not_taken_for_one_that_was_cut() {
    let (_folder, path) = folder();
    let store = Arc::new(SqliteStore::open(&path).unwrap());
    let log = || fs::metadata(beside(&path, "-wal")).unwrap().len();
    for round in 0..2 {
        let large = write(&*store, move |rows| {
            (0..3).try_for_each(|n| rows.put_content(id(round * 3 + n), Content::Input, &vec![7; 16 << 20]))
        });
        run(large).unwrap();
        assert!(log() > 40 << 20, "{}", log());
        // It is moved into the file, begins anew, and is cut to what SQLite keeps of it.
        enqueue(&store, round).unwrap();
        assert!(log() <= 33 << 20 && has(&store, round).unwrap(), "{}", log());
    }
}

/// Writes garbage over all of a file but its first bytes.
fn damage(path: &Path, kept: u64) {
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    let bytes = file.metadata().unwrap().len();
    assert!(bytes > kept);
    file.write_all_at(&vec![0xa5; (bytes - kept) as usize], kept).unwrap();
}

#[test]
fn garbage_over_its_pages_is_noticed_at_the_start() {
    let (_folder, path) = folder();
    let store = SqliteStore::open(&path).unwrap();
    for number in 1..100 {
        enqueue(&store, number).unwrap();
    }
    drop(store);
    damage(&path, 4096);
    let error = refusal(&path);
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    let error = error.to_string();
    assert!(error.contains("midge.db") && error.contains(".recover") && error.contains("backup"), "{error}");
}

#[test]
fn a_large_file_is_used_at_once_and_looked_over_meanwhile() {
    let (_folder, path) = folder();
    let store = SqliteStore::open(&path).unwrap();
    for number in 1..=5 {
        let wrote =
            write(&store, move |rows| rows.put_content(id(number), Content::Input, &vec![7; 16 << 20]));
        run(wrote).unwrap();
    }
    drop(store);
    // The first pages tell whose it is and which tables it has; the garbage is behind them.
    damage(&path, 1 << 20);
    let store = SqliteStore::open(&path).unwrap();
    let error = eventually("it is noticed", || run(write(&store, |_| Ok::<(), StoreError>(()))).err());
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

#[test]
fn garbage_over_its_pages_is_noticed_while_nobody_reads_them() {
    let (_folder, path) = folder();
    let settings = SqliteSettings { check_every: Duration::from_millis(1), ..SqliteSettings::default() };
    // Closed once, so that the pages are in the file and not in its log.
    drop(SqliteStore::open(&path).unwrap());
    let store = Arc::new(SqliteStore::open_with(&path, &settings).unwrap());
    damage(&path, 4096);
    let error = eventually("it is noticed", || run(write(&*store, |_| Ok::<(), StoreError>(()))).err());
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(matches!(enqueue(&store, 1), Err(StoreError::Damaged { .. })), "nothing is written any more");
}

#[test]
fn garbage_that_a_work_meets_stops_all_that_write() {
    let (_folder, path) = folder();
    let store = SqliteStore::open(&path).unwrap();
    for number in 1..100 {
        enqueue(&store, number).unwrap();
    }
    drop(store);
    let store = SqliteStore::open(&path).unwrap();
    damage(&path, 4096);
    // The reader has not read the pages before, as the writer has.
    let error = eventually("it is met", || has(&store, 50).err());
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(matches!(enqueue(&store, 100), Err(StoreError::Damaged { .. })), "nothing is written any more");
}

#[test]
fn a_file_that_is_refused_is_left_as_it_was_and_nothing_beside_it() {
    let (_folder, path) = folder();
    fs::write(&path, "my notes").unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o664)).unwrap();
    SqliteStore::open(&path).unwrap_err();
    assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"my notes".to_vec(), 0o664));
    fs::remove_file(&path).unwrap();

    let other = Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE other (one INTEGER); INSERT INTO other VALUES (1)").unwrap();
    drop(other);
    fs::set_permissions(&path, PermissionsExt::from_mode(0o664)).unwrap();
    SqliteStore::open(&path).unwrap_err();
    assert_eq!(mode(&path), 0o664);
    let beside: Vec<_> =
        fs::read_dir(path.parent().unwrap()).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(beside, [path]);
}

#[test]
fn what_a_lost_database_held_is_saved_although_the_store_ends_at_once() {
    let (_folder, path) = folder();
    let store = SqliteStore::open(&path).unwrap();
    enqueue(&store, 1).unwrap();
    fs::remove_file(&path).unwrap();
    drop(store);
    let saved = SqliteStore::open(&beside(&path, "-saved-1")).unwrap();
    assert!(has(&saved, 1).unwrap());
}

#[test]
fn no_new_database_is_begun_where_a_lost_one_was_saved() {
    let (folder, path) = folder();
    let store = SqliteStore::open(&path).unwrap();
    enqueue(&store, 1).unwrap();
    fs::remove_file(&path).unwrap();
    drop(store);
    let saved = beside(&path, "-saved-1");
    let name = saved.display().to_string();
    for is_there in [false, true] {
        let _ = fs::remove_file(&path);
        if is_there {
            fs::write(&path, "").unwrap();
        }
        let error = refusal(&path).to_string();
        assert!(error.contains(&format!("`mv {name} {}`", path.display())), "{error}");
        assert!(error.contains("move it away"), "{error}");
        assert_eq!(path.exists(), is_there, "nothing is made");
    }
    // As it says: it is used, or it is out of the way.
    let elsewhere = folder.path().join("kept.db");
    fs::copy(&saved, &elsewhere).unwrap();
    fs::rename(&saved, &path).unwrap();
    assert!(has(&SqliteStore::open(&path).unwrap(), 1).unwrap());
    fs::remove_file(&path).unwrap();
    assert!(!has(&SqliteStore::open(&path).unwrap(), 1).unwrap());
    assert!(has(&SqliteStore::open(&elsewhere).unwrap(), 1).unwrap());
}

#[test]
fn the_log_of_a_database_that_is_gone_is_not_emptied_for_a_new_one() {
    let (_folder, path) = folder();
    for is_there in [false, true] {
        fs::write(beside(&path, "-wal"), "jobs").unwrap();
        if is_there {
            fs::write(&path, "").unwrap();
        }
        let error = SqliteStore::open(&path).unwrap_err();
        assert!(error.to_string().contains("midge.db-wal, of 4 bytes"), "{error}");
        assert_eq!(fs::read(beside(&path, "-wal")).unwrap(), b"jobs");
    }
    fs::remove_file(beside(&path, "-wal")).unwrap();
    SqliteStore::open(&path).unwrap();
}
