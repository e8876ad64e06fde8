//! What was answered is on disk, whatever happens to the process or the disk. These tests need a process of their
//! own, so this program is also that process: `disasters child WHAT FILE`.

// A child says to its parent what happened.
#![allow(clippy::print_stdout)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::{Arguments, Failed, Trial};
use midge_store::conformance::fixtures::{at, id, job, put, queue};
use midge_store::{Content, SqliteStore, StoreError, read, write};
use rusqlite::Connection;
use tempfile::TempDir;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, child, what, file] = &args[..]
        && child == "child"
    {
        return match what.as_str() {
            "write" => write_for_ever(Path::new(file)),
            "open" => drop(SqliteStore::open(Path::new(file)).unwrap()),
            "look" => look(Path::new(file)),
            "refused" => println!("{}", SqliteStore::open(Path::new(file)).expect_err("it is refused")),
            "fail" => write_until_it_fails(Path::new(file)),
            _ => fill_and_free(Path::new(file)),
        };
    }
    let arguments = Arguments::from_args();
    let trials = vec![
        Trial::test("what_was_answered_survives_a_kill", what_was_answered_survives_a_kill),
        Trial::test(
            "a_kill_leaves_the_old_schema_or_the_new_one",
            a_kill_leaves_the_old_schema_or_the_new_one,
        ),
        Trial::test("a_full_disk_loses_nothing", a_full_disk_loses_nothing).with_ignored_flag(!can_mount()),
        Trial::test("a_refused_store_leaves_the_locks_of_the_first", a_refused_store_leaves_the_locks),
        Trial::test("a_limit_of_files_is_a_full_disk", a_limit_of_files_is_a_full_disk),
        Trial::test("on_a_full_disk_the_file_that_cannot_be_opened_is_named", a_full_disk_names_the_file)
            .with_ignored_flag(!can_mount()),
        Trial::test("with_a_limit_of_files_the_file_that_cannot_be_opened_is_named", a_limit_names_the_file),
        Trial::test("a_read_only_file_system_is_refused_with_what_to_do", a_read_only_file_system_is_refused)
            .with_ignored_flag(!can_mount()),
        Trial::test("a_mount_of_a_file_is_no_way_to_a_second_store", a_mount_is_no_way_to_a_second_store)
            .with_ignored_flag(!can_mount()),
    ];
    if !arguments.list && !can_mount() {
        eprintln!("tests with mounts are ignored: no mount namespace can be made here (unshare)");
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn child() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

/// Says the number of each job when it is answered.
fn write_for_ever(path: &Path) {
    let store = SqliteStore::open(path).unwrap();
    let mut said = std::io::stdout();
    for number in 0.. {
        // Jobs in threes, so that half of a transaction would be seen.
        let jobs: Vec<_> = (0..3).map(|part| job(number * 3 + part, "default", 0)).collect();
        run(put(&store, &jobs)).unwrap();
        writeln!(said, "{number}").unwrap();
        said.flush().unwrap();
    }
}

fn what_was_answered_survives_a_kill() -> Result<(), Failed> {
    let folder = TempDir::new()?;
    let path = folder.path().join("midge.db");
    for kill_after in [1, 2, 50, 333] {
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
        }
        let mut process = child().arg("child").arg("write").arg(&path).stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(process.stdout.take().ok_or("no stdout")?).lines();
        let mut last = lines.by_ref().take(kill_after).last().ok_or("the child said nothing")??;
        process.kill()?;
        // What it still said before it died was answered, too. A line is one write: there is no half of one.
        while let Some(Ok(line)) = lines.next() {
            last = line;
        }
        process.wait()?;
        let last: u128 = last.parse()?;
        let store = SqliteStore::open(&path)?;
        let ids: Vec<_> = (0..(last + 1) * 3).map(id).collect();
        let (jobs, counts) = run(read(&store, move |rows| -> Result<_, StoreError> {
            Ok((rows.jobs(&ids)?, rows.job_counts(at(0))?))
        }))?;
        assert!(jobs.iter().all(Option::is_some), "all that was answered is there");
        let waiting = counts[&queue("default")].waiting();
        assert_eq!(waiting % 3, 0, "no half of a transaction is there");
        assert!(waiting >= jobs.len() as u64);
        // One that was written may not have been answered.
        assert!(waiting <= jobs.len() as u64 + 3, "{waiting} of {}", jobs.len());
    }
    Ok(())
}

/// Adds many jobs to a database of schema 1.
const MANY_JOBS: &str = "BEGIN;
    WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 30000)
    INSERT INTO jobs (id, queue, module, phase, due, body)
        SELECT CAST(printf('%016d', n) AS BLOB), queue, module, phase, due, body FROM numbers, jobs WHERE row = 1;
    UPDATE counts SET fresh = fresh + 30000 WHERE queue = 'default' AND module = 'hello';
    COMMIT";

fn a_kill_leaves_the_old_schema_or_the_new_one() -> Result<(), Failed> {
    let folder = TempDir::new()?;
    let path = folder.path().join("midge.db");
    let wal_path = folder.path().join("midge.db-wal");
    for wal_bytes in [1, 5_000_000, 10_000_000, 15_000_000] {
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
        }
        let connection = Connection::open(&path)?;
        connection.execute_batch(include_str!("data/schema-1.sql"))?;
        connection.execute_batch(MANY_JOBS)?;
        drop(connection);
        let mut process = child().arg("child").arg("open").arg(&path).spawn()?;
        // It ends by itself where it was faster than the kill.
        while process.try_wait()?.is_none()
            && std::fs::metadata(&wal_path).map_or(0, |wal| wal.len()) < wal_bytes
        {
            std::thread::yield_now();
        }
        process.kill()?;
        process.wait()?;
        let connection = Connection::open(&path)?;
        let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let schema = number("PRAGMA user_version")?;
        let jobs = number("SELECT count(*) FROM jobs")?;
        let old = number("SELECT count(*) FROM jobs WHERE body -> '$.retry.attempts_max' IS NOT NULL")?;
        assert!(schema == 1 && old == jobs || schema == 8 && old == 0, "schema {schema}: {old} of {jobs}");
        drop(connection);
        let store = SqliteStore::open(&path)?;
        let due = run(read(&store, |rows| rows.jobs_due(&queue("default"), None, at(0), 100_000)))?;
        assert_eq!(due.len(), 30_001, "killed with {wal_bytes} bytes of log");
    }
    Ok(())
}

/// On a small disk: fills it, checks what is there, makes room, and writes again.
fn fill_and_free(path: &Path) {
    let ballast = path.with_extension("ballast");
    std::fs::write(&ballast, vec![7; 2 * 1024 * 1024]).unwrap();
    let store = SqliteStore::open(path).unwrap();
    let enqueue = |number| {
        run(write(&store, move |rows| {
            rows.put_jobs(&[job(number, "default", 0)])?;
            rows.put_content(id(number), Content::Input, &[7; 10_000])
        }))
    };
    let mut answered = 0;
    let error = loop {
        match enqueue(answered) {
            Ok(()) => answered += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Full), "{error}");
    assert!(answered > 50, "{answered}");
    let there = || {
        let ids: Vec<_> = (0..answered + 1).map(id).collect();
        let jobs = run(read(&store, move |rows| rows.jobs(&ids))).unwrap();
        (jobs.iter().filter(|job| job.is_some()).count() as u128, jobs.last().unwrap().is_some())
    };
    assert_eq!(there(), (answered, false), "the last one was not answered, so it is not there");
    assert!(matches!(enqueue(answered), Err(StoreError::Full)));
    std::fs::remove_file(ballast).unwrap();
    enqueue(answered).unwrap();
    assert_eq!(there(), (answered + 1, true));
    drop(store);
    let store = SqliteStore::open(path).unwrap();
    let counts = run(read(&store, |rows| rows.job_counts(at(0)))).unwrap();
    assert_eq!(u128::from(counts[&queue("default")].waiting()), answered + 1);
}

/// A mount namespace of its own, which ends with the process and whatever was mounted in it.
fn in_namespace() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-ec"]);
    command
}

fn can_mount() -> bool {
    let mut try_it = in_namespace();
    try_it.arg("mount -t tmpfs tmpfs /mnt").stdout(Stdio::null()).stderr(Stdio::null());
    try_it.status().is_ok_and(|status| status.success())
}

/// Runs a script with mounts of its own, and with a folder and this program as its arguments. Returns what it said.
fn with_mounts(script: &str, folder: &Path) -> Result<String, Failed> {
    let this = std::env::current_exe()?;
    let output = in_namespace().args([script, "sh"]).arg(folder).arg(this).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn a_full_disk_loses_nothing() -> Result<(), Failed> {
    let folder = TempDir::new()?;
    let script = r#"mount -t tmpfs -o size=8m tmpfs "$1"; exec "$2" child fill "$1/midge.db""#;
    with_mounts(script, folder.path())?;
    Ok(())
}

/// What is said of a database for which there is no room.
const NO_ROOM: &str = "there is no room to write it: its disk is full";

fn a_full_disk_names_the_file() -> Result<(), Failed> {
    let folder = TempDir::new()?;
    let script = r#"mount -t tmpfs -o size=8m tmpfs "$1"
        dd if=/dev/zero of="$1/ballast" bs=4k 2>"$1/said" || true
        exec "$2" child refused "$1/midge.db""#;
    let said = with_mounts(script, folder.path())?;
    assert!(said.contains("/midge.db: ") && said.contains(NO_ROOM), "{said}");
    Ok(())
}

fn a_limit_names_the_file() -> Result<(), Failed> {
    let folder = TempDir::new()?;
    let path = folder.path().join("midge.db");
    let script = r#"trap '' XFSZ; ulimit -f 4; exec "$1" child refused "$2""#;
    let this = std::env::current_exe()?;
    let output = Command::new("sh").args(["-ec", script, "sh"]).arg(this).arg(&path).output()?;
    let said = String::from_utf8(output.stdout)?;
    assert!(said.contains("/midge.db: ") && said.contains(NO_ROOM), "{said}");
    Ok(())
}

fn a_read_only_file_system_is_refused() -> Result<(), Failed> {
    let folder = TempDir::new()?;
    drop(SqliteStore::open(&folder.path().join("midge.db"))?);
    let script = r#"mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"
        "$2" child refused "$1/midge.db"; rm -f "$1/midge.db-lock" || exec "$2" child refused "$1/new.db""#;
    let said = with_mounts(script, folder.path())?;
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(said.lines().all(|line| line.contains("not read-only, or name another file")), "{said}");
    Ok(())
}

fn a_mount_is_no_way_to_a_second_store() -> Result<(), Failed> {
    let folder = TempDir::new()?;
    let store = SqliteStore::open(&folder.path().join("midge.db"))?;
    run(put(&store, &[job(1, "default", 0)]))?;
    let script = r#"mkdir "$1/other"; touch "$1/other/jobs.db"; mount --bind "$1/midge.db" "$1/other/jobs.db"
        exec "$2" child refused "$1/other/jobs.db""#;
    let said = with_mounts(script, folder.path())?;
    assert!(said.contains("in use by another server"), "{said}");
    run(put(&store, &[job(2, "default", 0)]))?;
    Ok(())
}

/// Looks at a database as the `sqlite3` command does.
fn look(path: &Path) {
    let connection = Connection::open(path).unwrap();
    let jobs = connection.query_row("SELECT count(*) FROM jobs", [], |row| row.get::<_, i64>(0));
    match jobs {
        Ok(jobs) => println!("{jobs}"),
        Err(error) => println!("{error}"),
    }
}

fn a_refused_store_leaves_the_locks() -> Result<(), Failed> {
    let folder = TempDir::new()?;
    let path = folder.path().join("midge.db");
    let store = SqliteStore::open(&path)?;
    run(put(&store, &[job(1, "default", 0)]))?;
    assert!(matches!(SqliteStore::open(&path), Err(StoreError::InUse { .. })));
    // Another program would write past the numbers that the store has, and move the log into the file as the last to
    // close it.
    let looks = || -> Result<String, Failed> {
        let output = child().arg("child").arg("look").arg(&path).output()?;
        assert!(output.status.success(), "{output:?}");
        Ok(String::from_utf8(output.stdout)?)
    };
    assert_eq!(looks()?, "database is locked\n");
    assert!(!folder.path().join("midge.db-shm").exists(), "the log's index is in memory");
    run(put(&store, &[job(2, "default", 0)]))?;
    drop(store);
    assert_eq!(looks()?, "2\n");
    Ok(())
}

/// Writes until a write fails, and says the number of each job that was answered, and then the error.
fn write_until_it_fails(path: &Path) {
    let store = SqliteStore::open(path).unwrap();
    for number in 0.. {
        match run(put(&store, &[job(number, "default", 0)])) {
            Ok(()) => println!("{number}"),
            Err(error) => return println!("{error}"),
        }
    }
}

fn a_limit_of_files_is_a_full_disk() -> Result<(), Failed> {
    let folder = TempDir::new()?;
    let path = folder.path().join("midge.db");
    // Beyond this size a write fails with EFBIG, which is to SQLite as any other but ENOSPC.
    let script = r#"trap '' XFSZ; ulimit -f 1024; exec "$1" child fail "$2""#;
    let this = std::env::current_exe()?;
    let output = Command::new("sh").args(["-ec", script, "sh"]).arg(this).arg(&path).output()?;
    let said = String::from_utf8(output.stdout)?;
    let mut lines: Vec<&str> = said.lines().collect();
    let error = lines.pop().ok_or("the child said nothing")?;
    assert_eq!(error, StoreError::Full.to_string());
    let answered = lines.len() as u128;
    assert!(answered > 10, "{answered}");
    let store = SqliteStore::open(&path)?;
    let jobs = run(read(&store, move |rows| rows.jobs(&(0..answered).map(id).collect::<Vec<_>>())))?;
    assert!(jobs.iter().all(Option::is_some), "all that was answered is there");
    Ok(())
}
