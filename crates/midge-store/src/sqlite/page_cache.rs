//! SQLite's own page cache, without the search of all of it that nearly each commit made.
//!
//! A commit drops the pages behind the end of the file. SQLite's cache goes by the highest number that a page has ever
//! had. Where a tree is put in order, a page has for a moment the number of the lock byte's page, which is behind the end
//! of most files: so the next commit looked at every page, and found none. That was a fifth of the writer's time. Here the
//! highest number of the pages that are there is known, and a commit with nothing to drop does not ask for it.
//!
//! The methods: <https://sqlite.org/c3ref/pcache_methods2.html>.
//!
//! Invariant: no page that SQLite's cache has is above [`Known::highest`], but for the one at [`Known::parked`].
#![allow(unsafe_code)]

use std::ffi::{c_int, c_uint};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::{Once, OnceLock};

use rusqlite::ffi::{
    SQLITE_CONFIG_GETPCACHE2, SQLITE_CONFIG_PCACHE2, SQLITE_OK, sqlite3_config, sqlite3_pcache,
    sqlite3_pcache_methods2, sqlite3_pcache_page,
};

/// SQLite's own methods.
static OWN: OnceLock<Methods> = OnceLock::new();
static INSTALL: Once = Once::new();

/// A page cache as SQLite holds it: behind its `*mut sqlite3_pcache` is one of these.
struct Cache {
    inner: *mut sqlite3_pcache,
    methods: &'static Methods,
    known: Known,
}

/// What is known of the numbers of pages that a cache has.
#[derive(Debug, Clone, Default)]
struct Known {
    /// No page has a higher number, but for the one that is parked.
    highest: c_uint,
    /// The number above `highest` that a page was moved to, until it is moved on.
    parked: Option<c_uint>,
}

/// What SQLite's own cache does.
struct Methods {
    create: unsafe extern "C" fn(c_int, c_int, c_int) -> *mut sqlite3_pcache,
    cache_size: unsafe extern "C" fn(*mut sqlite3_pcache, c_int),
    page_count: unsafe extern "C" fn(*mut sqlite3_pcache) -> c_int,
    fetch: unsafe extern "C" fn(*mut sqlite3_pcache, c_uint, c_int) -> *mut sqlite3_pcache_page,
    unpin: unsafe extern "C" fn(*mut sqlite3_pcache, *mut sqlite3_pcache_page, c_int),
    rekey: unsafe extern "C" fn(*mut sqlite3_pcache, *mut sqlite3_pcache_page, c_uint, c_uint),
    truncate: unsafe extern "C" fn(*mut sqlite3_pcache, c_uint),
    destroy: unsafe extern "C" fn(*mut sqlite3_pcache),
    shrink: unsafe extern "C" fn(*mut sqlite3_pcache),
}

impl Methods {
    fn of(methods: &sqlite3_pcache_methods2) -> Option<Methods> {
        Some(Methods {
            create: methods.xCreate?,
            cache_size: methods.xCachesize?,
            page_count: methods.xPagecount?,
            fetch: methods.xFetch?,
            unpin: methods.xUnpin?,
            rekey: methods.xRekey?,
            truncate: methods.xTruncate?,
            destroy: methods.xDestroy?,
            shrink: methods.xShrink?,
        })
    }
}

/// Puts these methods before SQLite's own for all connections that this process opens from now on. Where it has used SQLite
/// before, SQLite refuses that, and its own methods go on alone: they are as right, and take longer.
pub(super) fn install() {
    INSTALL.call_once(|| {
        let mut own = MaybeUninit::<sqlite3_pcache_methods2>::uninit();
        // SAFETY: this option takes a pointer to room for the methods, and fills it where it answers that all is well.
        let own = unsafe {
            if sqlite3_config(SQLITE_CONFIG_GETPCACHE2, own.as_mut_ptr()) != SQLITE_OK {
                return;
            }
            own.assume_init()
        };
        let Some(methods) = Methods::of(&own) else { return };
        // Before SQLite may call `create`.
        OWN.get_or_init(|| methods);
        let these = sqlite3_pcache_methods2 {
            xCreate: Some(create),
            xCachesize: Some(cache_size),
            xPagecount: Some(page_count),
            xFetch: Some(fetch),
            xUnpin: Some(unpin),
            xRekey: Some(rekey),
            xTruncate: Some(truncate),
            xDestroy: Some(destroy),
            xShrink: Some(shrink),
            ..own
        };
        // SAFETY: this option takes a pointer to methods, and copies them. It is refused where there are caches already.
        unsafe { sqlite3_config(SQLITE_CONFIG_PCACHE2, ptr::from_ref(&these)) };
    });
}

unsafe extern "C" fn create(page: c_int, extra: c_int, purgeable: c_int) -> *mut sqlite3_pcache {
    let Some(methods) = OWN.get() else { return ptr::null_mut() };
    // SAFETY: SQLite's own arguments, for SQLite's own method.
    let inner = unsafe { (methods.create)(page, extra, purgeable) };
    if inner.is_null() {
        return inner;
    }
    Box::into_raw(Box::new(Cache { inner, methods, known: Known::default() })).cast()
}

/// Returns the cache behind SQLite's pointer.
///
/// # Safety
/// The pointer is one that [`create`] returned and that was not destroyed, and no other call about it goes on: SQLite has
/// one thread at a time use a cache.
unsafe fn cache<'a>(cache: *mut sqlite3_pcache) -> &'a mut Cache {
    // SAFETY: as above.
    unsafe { &mut *cache.cast::<Cache>() }
}

unsafe extern "C" fn cache_size(this: *mut sqlite3_pcache, pages: c_int) {
    // SAFETY: SQLite's contract; see `cache`.
    unsafe {
        let this = cache(this);
        (this.methods.cache_size)(this.inner, pages);
    }
}

unsafe extern "C" fn page_count(this: *mut sqlite3_pcache) -> c_int {
    // SAFETY: SQLite's contract; see `cache`.
    unsafe {
        let this = cache(this);
        (this.methods.page_count)(this.inner)
    }
}

unsafe extern "C" fn fetch(this: *mut sqlite3_pcache, key: c_uint, make: c_int) -> *mut sqlite3_pcache_page {
    // SAFETY: SQLite's contract; see `cache`.
    unsafe {
        let this = cache(this);
        let page = (this.methods.fetch)(this.inner, key, make);
        if !page.is_null() {
            this.known.fetched(key);
        }
        page
    }
}

unsafe extern "C" fn unpin(this: *mut sqlite3_pcache, page: *mut sqlite3_pcache_page, discard: c_int) {
    // SAFETY: SQLite's contract; see `cache`.
    unsafe {
        let this = cache(this);
        (this.methods.unpin)(this.inner, page, discard);
    }
}

unsafe extern "C" fn rekey(
    this: *mut sqlite3_pcache,
    page: *mut sqlite3_pcache_page,
    old: c_uint,
    new: c_uint,
) {
    // SAFETY: SQLite's contract; see `cache`.
    unsafe {
        let this = cache(this);
        (this.methods.rekey)(this.inner, page, old, new);
        this.known.moved(old, new);
    }
}

unsafe extern "C" fn truncate(this: *mut sqlite3_pcache, limit: c_uint) {
    // SAFETY: SQLite's contract; see `cache`.
    unsafe {
        let this = cache(this);
        if this.known.truncated(limit) {
            (this.methods.truncate)(this.inner, limit);
        }
    }
}

unsafe extern "C" fn destroy(this: *mut sqlite3_pcache) {
    // SAFETY: SQLite's contract, see `cache`; it does not use a cache again that it has destroyed.
    unsafe {
        let this = Box::from_raw(this.cast::<Cache>());
        (this.methods.destroy)(this.inner);
    }
}

unsafe extern "C" fn shrink(this: *mut sqlite3_pcache) {
    // SAFETY: SQLite's contract; see `cache`.
    unsafe {
        let this = cache(this);
        (this.methods.shrink)(this.inner);
    }
}

impl Known {
    /// Notes that there is a page of this number.
    fn fetched(&mut self, key: c_uint) {
        self.highest = self.highest.max(key);
    }

    /// Notes that a page has another number now.
    fn moved(&mut self, old: c_uint, new: c_uint) {
        self.parked = self.parked.filter(|parked| *parked != old);
        if new > self.highest {
            // Only one is told apart.
            self.highest = self.parked.map_or(self.highest, |parked| self.highest.max(parked));
            self.parked = Some(new).filter(|new| *new > self.highest);
        }
    }

    /// Notes that pages from a number on are dropped. Returns whether there may have been some.
    fn truncated(&mut self, limit: c_uint) -> bool {
        let parked = self.parked.take_if(|parked| *parked >= limit);
        let any = self.highest >= limit || parked.is_some();
        self.highest = self.highest.min(limit.saturating_sub(1));
        any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rusqlite::Connection;

    use super::*;

    /// Numbers without a pattern, the same each time.
    fn numbers(mut seed: u64) -> impl FnMut(c_uint) -> c_uint {
        move |below| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as c_uint % below
        }
    }

    #[test]
    fn no_page_is_left_that_was_to_be_dropped() {
        for seed in 0..200 {
            let mut number = numbers(seed);
            let (mut known, mut pages) = (Known::default(), BTreeSet::new());
            for _ in 0..500 {
                let (page, other) = (1 + number(40), 1 + number(40));
                match number(4) {
                    0 if pages.contains(&page) && !pages.contains(&other) => {
                        pages.remove(&page);
                        pages.insert(other);
                        known.moved(page, other);
                    }
                    1 => {
                        let dropped = pages.split_off(&page);
                        assert!(known.truncated(page) || dropped.is_empty(), "seed {seed}: {dropped:?}");
                    }
                    // SQLite drops pages by itself, and says nothing of it.
                    2 => _ = pages.remove(&page),
                    _ => {
                        pages.insert(page);
                        known.fetched(page);
                    }
                }
            }
        }
    }

    #[test]
    fn a_page_that_is_behind_the_end_for_a_moment_does_not_count() {
        let mut known = Known::default();
        (1..=9).for_each(|page| known.fetched(page));
        known.moved(4, 262_145);
        known.moved(5, 4);
        assert!(known.clone().truncated(10), "it is still there");
        known.moved(262_145, 5);
        assert!(!known.truncated(10));
        assert!(known.truncated(9) && !known.truncated(9));
    }

    #[test]
    fn a_database_is_as_it_would_be_where_statements_are_undone_and_the_file_shrinks() {
        install();
        let folder = tempfile::tempdir().unwrap();
        let mut connection = Connection::open(folder.path().join("a.db")).unwrap();
        connection
            .execute_batch(
                "PRAGMA journal_mode = wal; PRAGMA cache_size = 20; PRAGMA auto_vacuum = full; VACUUM",
            )
            .unwrap();
        connection.execute_batch("CREATE TABLE a (b BLOB PRIMARY KEY, c BLOB) WITHOUT ROWID").unwrap();
        let mut number = numbers(1);
        let mut rows = std::collections::BTreeMap::new();
        for round in 0..300 {
            let transaction = connection.transaction().unwrap();
            let mut after = rows.clone();
            for _ in 0..20 {
                let (key, size) = (number(500), number(3_000));
                if number(5) < 2 {
                    transaction.execute("DELETE FROM a WHERE b = ?1", [key]).unwrap();
                    after.remove(&key);
                } else {
                    let sql = "INSERT OR REPLACE INTO a VALUES (?1, zeroblob(?2))";
                    transaction.execute(sql, (key, size)).unwrap();
                    after.insert(key, size);
                }
            }
            if round % 7 == 3 {
                transaction.execute("DELETE FROM a WHERE b < 400", []).unwrap();
                after.retain(|key, _| *key >= 400);
            }
            if round % 3 == 0 {
                transaction.rollback().unwrap();
            } else {
                transaction.commit().unwrap();
                rows = after;
            }
            let mut statement = connection.prepare_cached("SELECT b, length(c) FROM a ORDER BY b").unwrap();
            let read = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
            assert_eq!(
                read.collect::<Result<Vec<(c_uint, c_uint)>, _>>().unwrap(),
                Vec::from_iter(rows.clone())
            );
        }
        let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
    }
}
