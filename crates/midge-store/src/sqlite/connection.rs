//! Opens connections: whose file it is, which schema it has, and how SQLite is to treat it.

use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::SqliteSettings;
use super::counts::Counts;
use super::file::{DatabaseFile, LOG_BYTES_KEPT, WHO_MAY_WRITE};
use super::page_cache;
use crate::StoreError;

/// `midg`: says in the file's header whose it is.
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"midg");
/// Each leads from one schema to the next, the first from an empty file.
const SCHEMAS: &[&str] = &[
    include_str!("schema.sql"),
    include_str!("schema-2.sql"),
    include_str!("schema-3.sql"),
    include_str!("schema-4.sql"),
    include_str!("schema-5.sql"),
    include_str!("schema-6.sql"),
    include_str!("schema-7.sql"),
    include_str!("schema-8.sql"),
];
/// The first schema whose numbers say where among all ids the jobs in line are.
const WITH_SPANS: usize = 6;
const PAGE_BYTES: u32 = 4096;
/// SQLite's way to a file that this process has alone: the index of the log is in its memory, where nobody can cut, delete
/// or overwrite it, and no other program opens the database meanwhile.
const ALONE: &str = "unix-excl";
/// A person with the `sqlite3` command or a backup may have the file when it is opened.
const BUSY: Duration = Duration::from_secs(10);
/// How many pages the log has before they are moved to the file: a page is then moved once for many transactions.
const CHECKPOINT_PAGES: u32 = 4_000;
/// Holds the inner pages of all indexes and what is being worked on. 16 MiB were no faster, with a million jobs.
const WRITER_CACHE_KIB: u32 = 6 * 1024;
/// Readers serve people, who can wait for the disk.
const READER_CACHE_KIB: u32 = 2 * 1024;
/// Where SQLite keeps what it sorts, and what it needs to undo a statement. Both are little.
const TEMP_STORE: &str = "memory";
/// The same while a migration runs, whose statements change every row: in memory, a million jobs took 450 MiB.
const MIGRATION_TEMP_STORE: &str = "file";
/// How many prepared statements a connection keeps: more than there are different ones.
const STATEMENTS_MAX: usize = 128;

thread_local! {
    /// What SQLite last said of damage on this thread. Work makes its own errors of ours, and may even drop them, so that
    /// whoever runs work cannot tell by what it returns.
    static DAMAGE_MET: Cell<Option<String>> = const { Cell::new(None) };
}

/// Returns what SQLite has said of damage on this thread since it was last asked.
pub(super) fn damage_met() -> Option<String> {
    DAMAGE_MET.take()
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreError::Full,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                DAMAGE_MET.set(Some(error.to_string()));
                StoreError::Damaged { why: error.to_string() }
            }
            Some(ErrorCode::SystemIoFailure) if has_no_room(&error) => StoreError::Full,
            Some(ErrorCode::SystemIoFailure) => StoreError::Failed(format!(
                "the disk failed to read or to write the database ({error}): see what the system's log says of it"
            )),
            Some(ErrorCode::ReadOnly) => StoreError::Failed(format!(
                "the database cannot be written any more ({error}): its file system may have become read-only after an \
                 error; see what the system's log says of it"
            )),
            _ => StoreError::Failed(error.to_string()),
        }
    }
}

/// Returns whether a write failed for want of room. SQLite says so itself where the disk is full, and not where a limit
/// on the size of files (`ulimit -f`) or a quota is reached: of those the system has told this thread just now.
fn has_no_room(error: &rusqlite::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded};
    let failed = error.sqlite_error().map(|error| error.extended_code);
    let said = std::io::Error::last_os_error().kind();
    failed == Some(rusqlite::ffi::SQLITE_IOERR_WRITE) && matches!(said, FileTooLarge | QuotaExceeded)
}

/// Opens the connection that writes. An empty file becomes a database.
pub(super) fn open_writer(file: &DatabaseFile, settings: &SqliteSettings) -> Result<Connection, StoreError> {
    let path = file.path();
    let explained = |error| explain(path, error);
    let mut connection = open(path).map_err(explained)?;
    // Nothing is written before it is known whose file it is.
    let version = schema_of(&connection, path)?;
    // SQLite gives its log the rights that the database has.
    file.make_private();
    connection.pragma_update(None, "page_size", PAGE_BYTES).map_err(explained)?;
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
        .map_err(explained)?;
    if mode != "wal" {
        let why =
            format!("SQLite cannot keep a log beside it (its journal mode stays {mode}): name another file");
        return Err(StoreError::CannotOpen { path: path.display().to_string(), why });
    }
    configure(&connection, WRITER_CACHE_KIB).map_err(explained)?;
    // An enqueue that was answered is on disk, also after a power cut.
    connection.pragma_update(None, "synchronous", "full").map_err(explained)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES).map_err(explained)?;
    connection
        .pragma_update_and_check(None, "journal_size_limit", LOG_BYTES_KEPT, |_| Ok(()))
        .map_err(explained)?;
    if let Some(bytes) = settings.bytes_max {
        let pages = i64::try_from(bytes / u64::from(PAGE_BYTES)).unwrap_or(i64::MAX).max(1);
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).map_err(explained)?;
    }
    migrate(&mut connection, version, path)?;
    // The first thing that is read opens the log, which has to be there from now on.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(explained)?;
    Ok(connection)
}

/// Opens a connection that cannot write, to a database that [`open_writer`] has opened.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let connection = open(path)?;
    configure(&connection, READER_CACHE_KIB)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    page_cache::install();
    // One thread at a time uses a connection, so SQLite need not lock.
    // Nor does it make the file: where there is none by now, it was deleted.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags_and_vfs(path, flags, ALONE)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // Plans do not depend on the values that are bound: else SQLite would prepare a statement again for other values.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(connection)
}

fn configure(connection: &Connection, cache_kib: u32) -> rusqlite::Result<()> {
    connection.pragma_update(None, "cache_size", -i64::from(cache_kib))?;
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.pragma_update(None, "temp_store", TEMP_STORE)
}

/// Returns the file's schema, 0 for an empty file. Refuses a file that is not ours, and leaves it as it is.
fn schema_of(connection: &Connection, path: &Path) -> Result<usize, StoreError> {
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let look = || Ok((number("PRAGMA application_id")?, number("PRAGMA user_version")?));
    let (application, version) = look().map_err(|error| explain(path, error))?;
    let tables = number("SELECT count(*) FROM sqlite_schema").map_err(|error| explain(path, error))?;
    let not_ours = |why: String| StoreError::NotOurs { path: path.display().to_string(), why };
    let newest = SCHEMAS.len();
    if application == 0 && version == 0 && tables == 0 {
        return Ok(0);
    }
    if application != i64::from(APPLICATION_ID) {
        return Err(not_ours("it belongs to another program: name another file".to_owned()));
    }
    match usize::try_from(version) {
        Ok(version) if (1..=newest).contains(&version) => Ok(version),
        Ok(_) if version > 0 => {
            Err(StoreError::Newer { path: path.display().to_string(), schema: version, known: newest })
        }
        // A schema is written in one transaction with its number.
        _ => Err(StoreError::Damaged {
            why: format!("{}: its header says schema {version}, and there is no such schema", path.display()),
        }),
    }
}

/// Leads a database to the newest schema, in one transaction: whatever ends it half way, the old one is still there.
fn migrate(connection: &mut Connection, version: usize, path: &Path) -> Result<(), StoreError> {
    if version == SCHEMAS.len() {
        return Ok(());
    }
    let explained = |error| explain(path, error);
    connection.pragma_update(None, "temp_store", MIGRATION_TEMP_STORE).map_err(explained)?;
    let transaction = connection.transaction().map_err(explained)?;
    for schema in &SCHEMAS[version..] {
        transaction.execute_batch(schema).map_err(explained)?;
    }
    if version < WITH_SPANS {
        Counts::find_in_line(&transaction).map_err(|error| no_room_for(path, error))?;
    }
    let set = |name: &str, number: i64| transaction.pragma_update(None, name, number).map_err(explained);
    set("application_id", APPLICATION_ID.into())?;
    set("user_version", SCHEMAS.len() as i64)?;
    transaction.commit().map_err(explained)?;
    connection.pragma_update(None, "temp_store", TEMP_STORE).map_err(explained)
}

/// Says of a full disk which file it was to hold, in place of what an open store says.
fn no_room_for(path: &Path, error: StoreError) -> StoreError {
    match error {
        StoreError::Full => StoreError::CannotOpen {
            path: path.display().to_string(),
            why: "there is no room to write it: its disk is full, or a limit of files (`ulimit -f`) or a quota is reached; make \
                  room, or name a file on another disk"
                .to_owned(),
        },
        other => other,
    }
}

/// Says in words for people why a database cannot be opened.
fn explain(path: &Path, error: rusqlite::Error) -> StoreError {
    if error.sqlite_error_code() == Some(ErrorCode::DiskFull) || has_no_room(&error) {
        return no_room_for(path, StoreError::Full);
    }
    let path = path.display().to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => StoreError::NotOurs {
            path,
            why: "it is not an SQLite database, or its first page is damaged: name another file, or restore a backup"
                .to_owned(),
        },
        Some(ErrorCode::DatabaseCorrupt) => StoreError::Damaged { why: format!("{path}: {error}") },
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => StoreError::CannotOpen {
            path,
            why: format!("it cannot be written, or the files beside it, where SQLite keeps its log ({error}): {WHO_MAY_WRITE}"),
        },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::CannotOpen {
            path,
            why: "another program holds a lock on it, such as sqlite3 or a backup: end it and try again; a network file \
                  system has locks of its own, so that a database cannot be there"
                .to_owned(),
        },
        Some(ErrorCode::SystemIoFailure) => StoreError::Failed(format!("{path}: {}", StoreError::from(error))),
        _ => StoreError::CannotOpen { path, why: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn a_disk_that_fails_is_no_full_one() {
        for (code, is_full) in [(ffi::SQLITE_FULL, true), (ffi::SQLITE_IOERR_FSYNC, false)] {
            let error = StoreError::from(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
            assert_eq!(matches!(error, StoreError::Full), is_full, "{error}");
            assert_eq!(
                error.to_string().contains("the disk failed to read or to write"),
                !is_full,
                "{error}"
            );
        }
    }
}
