use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{CWD, mknodat};
use tempfile::TempDir;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use super::*;

/// The number of the folder that a guest of these tests has.
const FOLDER: i32 = 3;
/// Where in its memory a guest writes a path, another, is given numbers, and has a buffer.
const PATH: i32 = 0;
const OTHER: i32 = 512;
const ANSWER: i32 = 1024;
const BUFFER: i32 = 2048;
const READ: i64 = 1 << 1;
const WRITE: i64 = 1 << 6;
const CREATE: i32 = 1;
const TRUNCATE: i32 = 8;
const FOLLOW: i32 = 1;

/// A guest without code: what it would call is called by the test.
struct Caller {
    guest: Guest,
    memory: Vec<u8>,
    folder: TempDir,
}

/// What a guest is told of a file in a listing.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    next: u64,
    number: u64,
    kind: u8,
    name: String,
}

impl Caller {
    fn new(perms: FsPerms) -> Caller {
        let folder = tempfile::tempdir().unwrap();
        let mut wasi = WasiCtxBuilder::new();
        wasi.allow_blocking_current_thread(true).preopened_dir(folder.path(), "/data", perms).unwrap();
        let mut guest = Guest::detached();
        guest.wasi = wasi.build_p1();
        wasi::WasiSnapshotPreview1::set_hostcall_fuel(&mut guest.wasi, 1 << 20);
        Caller { guest, memory: vec![0; 1 << 17], folder }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn write(&mut self, at: i32, text: &str) -> i32 {
        self.memory[at as usize..][..text.len()].copy_from_slice(text.as_bytes());
        text.len() as i32
    }

    fn answer(&self) -> i32 {
        i32::from_le_bytes(self.memory[ANSWER as usize..][..4].try_into().unwrap())
    }

    /// Opens, and returns the number or the error.
    fn open(&mut self, name: &str, open_flags: i32, rights: i64) -> Result<i32, i32> {
        let length = self.write(PATH, name);
        let open = Open {
            fd: FOLDER,
            flags: FOLLOW,
            path: PATH,
            length,
            open_flags,
            rights,
            inherited: 0,
            fd_flags: 0,
            opened: ANSWER,
        };
        match block_on(path_open(&mut self.memory, &mut self.guest, open)).unwrap() {
            errno::SUCCESS => Ok(self.answer()),
            error => Err(error),
        }
    }

    fn close(&mut self, fd: i32) -> i32 {
        block_on(fd_close(&mut self.memory, &mut self.guest, fd)).unwrap()
    }

    /// Reads a piece of a listing, of the length that the C library for guests uses.
    fn list(&mut self, cookie: u64) -> Vec<Entry> {
        const LENGTH: i32 = 4096;
        let (memory, guest) = (&mut self.memory, &mut self.guest);
        let error =
            block_on(fd_readdir(memory, guest, FOLDER, BUFFER, LENGTH, cookie as i64, ANSWER)).unwrap();
        assert_eq!(error, errno::SUCCESS);
        let mut rest = &self.memory[BUFFER as usize..][..self.answer() as usize];
        let mut entries = Vec::new();
        while rest.len() >= 24 {
            let number = |at: usize| u64::from_le_bytes(rest[at..at + 8].try_into().unwrap());
            let length = u32::from_le_bytes(rest[16..20].try_into().unwrap()) as usize;
            let Some(name) = rest.get(24..24 + length) else { break };
            let name = String::from_utf8(name.to_vec()).unwrap();
            entries.push(Entry { next: number(0), number: number(8), kind: rest[20], name });
            rest = &rest[24 + length..];
        }
        entries
    }

    /// Lists the folder as a guest does, with something done about each file that it is told of.
    fn list_whole(&mut self, mut each: impl FnMut(&Path)) -> Vec<Entry> {
        let mut all: Vec<Entry> = Vec::new();
        loop {
            let entries = self.list(all.last().map_or(0, |entry| entry.next));
            if entries.is_empty() {
                return all;
            }
            entries
                .iter()
                .filter(|entry| !entry.name.starts_with('.'))
                .for_each(|e| each(&self.path(&e.name)));
            all.extend(entries);
        }
    }
}

/// No call of these is one that waits.
fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

#[test]
fn a_folder_is_read_once_however_many_pieces_a_guest_reads_it_in() {
    let mut caller = Caller::new(FsPerms::ReadWrite);
    let names: BTreeSet<String> = (0..3_000).map(|n| format!("file-{n}")).collect();
    for name in &names {
        std::fs::write(caller.path(name), "").unwrap();
    }
    let listed = caller.list_whole(|_| {});
    assert_eq!(caller.guest.files.begun, 1);
    assert_eq!(listed.iter().map(|entry| entry.next).collect::<Vec<_>>(), (1..=3_002).collect::<Vec<_>>());
    assert_eq!(listed[0].name, ".");
    assert_eq!(listed[1].name, "..");
    assert_eq!(listed[2..].iter().map(|entry| entry.name.clone()).collect::<BTreeSet<_>>(), names);
    // A guest may go back, and begin anew.
    let again = caller.list(100);
    assert_eq!(caller.guest.files.begun, 2);
    assert_eq!(again[..], listed[100..100 + again.len()]);
}

#[test]
fn a_guest_that_deletes_what_it_is_told_of_is_told_of_every_file() {
    let mut caller = Caller::new(FsPerms::ReadWrite);
    for n in 0..1_000 {
        std::fs::write(caller.path(&format!("file-{n}")), "").unwrap();
    }
    let listed = caller.list_whole(|path| std::fs::remove_file(path).unwrap());
    assert_eq!(listed.len(), 1_002);
    assert_eq!(std::fs::read_dir(caller.folder.path()).unwrap().count(), 0);
}

#[test]
fn a_file_whose_name_is_no_utf_8_is_left_out_of_a_listing_and_hides_no_other() {
    let mut caller = Caller::new(FsPerms::ReadWrite);
    for name in [&b"caf\xff"[..], b"\xc3", b"caf\xc3\xa9", b"plain"] {
        std::fs::write(caller.folder.path().join(OsStr::from_bytes(name)), "").unwrap();
    }
    let listed = caller.list_whole(|_| {});
    let names: BTreeSet<&str> = listed.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, BTreeSet::from([".", "..", "café", "plain"]));
    assert_eq!(listed.last().unwrap().next, 4);
}

#[test]
fn a_file_has_the_same_number_and_type_in_a_listing_as_by_itself() {
    let mut caller = Caller::new(FsPerms::ReadWrite);
    std::fs::write(caller.path("file"), "").unwrap();
    std::fs::create_dir(caller.path("folder")).unwrap();
    std::os::unix::fs::symlink("file", caller.path("link")).unwrap();
    let mut listed = caller.list_whole(|_| {});
    listed.remove(1); // The folder above has the number of the folder itself.
    for entry in listed {
        let length = caller.write(PATH, &entry.name);
        let mut memory = GuestMemory::Unshared(&mut caller.memory);
        let call =
            wasi::path_filestat_get(&mut caller.guest.wasi, &mut memory, FOLDER, 0, PATH, length, BUFFER);
        assert_eq!(block_on(call).unwrap(), errno::SUCCESS);
        let filestat = &caller.memory[BUFFER as usize..][..FILESTAT_BYTES];
        assert_eq!(filestat[FILESTAT_INO..][..8], entry.number.to_le_bytes(), "{entry:?}");
        assert_eq!(filestat[FILESTAT_KIND], entry.kind, "{entry:?}");
    }
}

#[test]
fn what_is_neither_a_file_nor_a_folder_is_listed_and_not_opened() {
    let mut caller = Caller::new(FsPerms::ReadWrite);
    mknodat(CWD, caller.path("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    let _socket = UnixListener::bind(caller.path("socket")).unwrap();
    std::os::unix::fs::symlink("pipe", caller.path("link")).unwrap();
    for name in ["pipe", "socket", "link"] {
        for (flags, rights) in [(0, READ), (0, WRITE), (CREATE, READ | WRITE), (TRUNCATE, WRITE)] {
            assert_eq!(caller.open(name, flags, rights), Err(errno::NOTSUP), "{name}");
        }
    }
    assert_eq!(caller.list_whole(|_| {}).len(), 5);
    std::fs::write(caller.path("plain"), "").unwrap();
    assert!(caller.open("plain", 0, READ).is_ok());
}

#[test]
fn a_guest_has_so_many_files_open_and_one_more_when_it_closes_one() {
    let mut caller = Caller::new(FsPerms::ReadWrite);
    std::fs::write(caller.path("file"), "").unwrap();
    let opened: Vec<i32> = (0..OPEN_FILES_MAX).map(|_| caller.open("file", 0, READ).unwrap()).collect();
    assert_eq!(caller.guest.denied, None);
    assert_eq!(caller.open("file", 0, READ), Err(errno::MFILE));
    assert_eq!(caller.open(".", 0, READ), Err(errno::MFILE), "a folder is one too");
    assert_eq!(caller.guest.denied, Some(DeniedGrowth::Files));
    let listed = block_on(fd_readdir(&mut caller.memory, &mut caller.guest, FOLDER, BUFFER, 4096, 0, ANSWER));
    assert_eq!(listed.unwrap(), errno::MFILE, "a listing is one too");
    assert_eq!(caller.close(opened[7]), errno::SUCCESS);
    assert_eq!(caller.close(opened[7]), errno::BADF, "and only once");
    assert!(caller.open("file", 0, READ).is_ok());
    assert_eq!(caller.open("file", 0, READ), Err(errno::MFILE));
    let (memory, guest) = (&mut caller.memory, &mut caller.guest);
    assert_eq!(block_on(fd_renumber(memory, guest, opened[1], opened[2])).unwrap(), errno::SUCCESS);
    assert!(caller.open("file", 0, READ).is_ok());
    assert_eq!(caller.open("file", 0, READ), Err(errno::MFILE));
}

#[test]
fn nothing_can_be_changed_in_a_folder_that_is_read_only() {
    let mut caller = Caller::new(FsPerms::ReadOnly);
    std::fs::write(caller.path("file"), "as it was").unwrap();
    std::fs::create_dir(caller.path("folder")).unwrap();
    std::os::unix::fs::symlink("file", caller.path("link")).unwrap();
    let before = std::fs::metadata(caller.path("file")).unwrap();
    for (name, flags, rights) in [
        ("file", 0, WRITE),
        ("file", 0, READ | WRITE),
        ("file", TRUNCATE, READ),
        ("link", TRUNCATE, READ),
        ("new", CREATE, READ),
        ("folder/new", CREATE, READ | WRITE),
    ] {
        assert_eq!(caller.open(name, flags, rights), Err(errno::PERM), "{name} {flags} {rights}");
    }
    let fd = caller.open("file", 0, READ).unwrap();
    let folder = caller.open("folder", 0, READ).unwrap();
    let (file, new) = (caller.write(PATH, "file"), caller.write(OTHER, "new"));
    let piece = [BUFFER.to_le_bytes(), 1i32.to_le_bytes()].concat();
    caller.memory[ANSWER as usize + 8..][..8].copy_from_slice(&piece);
    let pieces = ANSWER + 8;
    let wasi = &mut caller.guest.wasi;
    let mut memory = GuestMemory::Unshared(&mut caller.memory);
    let memory = &mut memory;
    // The modification time, and of a file the access time too.
    let (modified, both) = (4, 5);
    let errors = [
        ("write", block_on(wasi::fd_write(wasi, memory, fd, pieces, 1, ANSWER)).unwrap()),
        ("write at", block_on(wasi::fd_pwrite(wasi, memory, fd, pieces, 1, 0, ANSWER)).unwrap()),
        ("set size", block_on(wasi::fd_filestat_set_size(wasi, memory, fd, 0)).unwrap()),
        ("set times", block_on(wasi::fd_filestat_set_times(wasi, memory, fd, 1, 1, both)).unwrap()),
        (
            "set times of a folder",
            block_on(wasi::fd_filestat_set_times(wasi, memory, folder, 1, 1, both)).unwrap(),
        ),
        (
            "set times of it",
            block_on(wasi::fd_filestat_set_times(wasi, memory, FOLDER, 1, 1, modified)).unwrap(),
        ),
        (
            "set times at",
            block_on(wasi::path_filestat_set_times(wasi, memory, FOLDER, 0, PATH, file, 1, 1, both)).unwrap(),
        ),
        ("create", block_on(wasi::path_create_directory(wasi, memory, FOLDER, OTHER, new)).unwrap()),
        ("create below", block_on(wasi::path_create_directory(wasi, memory, folder, OTHER, new)).unwrap()),
        ("delete", block_on(wasi::path_unlink_file(wasi, memory, FOLDER, PATH, file)).unwrap()),
        (
            "rename",
            block_on(wasi::path_rename(wasi, memory, FOLDER, PATH, file, FOLDER, OTHER, new)).unwrap(),
        ),
        (
            "rename into",
            block_on(wasi::path_rename(wasi, memory, FOLDER, PATH, file, folder, OTHER, new)).unwrap(),
        ),
        ("link", block_on(wasi::path_link(wasi, memory, FOLDER, 0, PATH, file, FOLDER, OTHER, new)).unwrap()),
        ("symlink", block_on(wasi::path_symlink(wasi, memory, PATH, file, FOLDER, OTHER, new)).unwrap()),
    ];
    for (what, error) in errors {
        assert!([errno::PERM, errno::BADF].contains(&error), "{what}: {error}");
    }
    let name = caller.write(PATH, "folder");
    let mut memory = GuestMemory::Unshared(&mut caller.memory);
    let removed = wasi::path_remove_directory(&mut caller.guest.wasi, &mut memory, FOLDER, PATH, name);
    assert_eq!(block_on(removed).unwrap(), errno::PERM);
    let after = std::fs::metadata(caller.path("file")).unwrap();
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
    assert_eq!(std::fs::read(caller.path("file")).unwrap(), b"as it was");
    assert_eq!(std::fs::read_dir(caller.folder.path()).unwrap().count(), 3);
    assert_eq!(std::fs::read_dir(caller.path("folder")).unwrap().count(), 0);
    // All can be read.
    assert_eq!(caller.list_whole(|_| {}).len(), 5);
}

#[test]
fn what_the_machine_lacks_is_remembered_and_told_as_any_program_is_told() {
    for (error, word) in [
        (errno::NOSPC, "space on its disk"),
        (errno::DQUOT, "space on its disk"),
        (errno::NOMEM, "memory"),
        (errno::IO, "a disk that can be read and written"),
    ] {
        let mut caller = Caller::new(FsPerms::ReadWrite);
        assert_eq!(caller.guest.told(error), error);
        let lacked = caller.guest.lacked.clone().unwrap();
        assert!(lacked.contains(word) && lacked.contains("os error"), "{lacked}");
        // The first of several is what the others may come of.
        caller.guest.told(errno::NOMEM);
        assert_eq!(caller.guest.lacked, Some(lacked));
    }
    let mut caller = Caller::new(FsPerms::ReadWrite);
    for error in [
        errno::SUCCESS,
        errno::BADF,
        errno::INVAL,
        errno::MFILE,
        errno::NAMETOOLONG,
        errno::PERM,
        errno::NOENT,
    ] {
        assert_eq!(caller.guest.told(error), error);
    }
    assert_eq!(caller.guest.lacked, None, "what is wrong everywhere is no lack of this Machine");
}

#[test]
fn a_folder_that_may_not_be_listed_or_is_gone_is_no_lack_of_this_machine() {
    let mut caller = Caller::new(FsPerms::ReadWrite);
    for (error, number) in
        [(Errno::ACCESS, errno::ACCES), (Errno::PERM, errno::PERM), (Errno::NOENT, errno::NOENT)]
    {
        assert_eq!(caller.guest.told(number_of(error)), number);
    }
    std::fs::remove_dir(caller.folder.path()).unwrap();
    let names = caller.list(0).into_iter().map(|entry| entry.name).collect::<Vec<_>>();
    assert_eq!(names, [".", ".."]);
    assert_eq!(caller.guest.lacked, None);
    caller.guest.told(number_of(Errno::IO));
    assert!(caller.guest.lacked.is_some());
}

#[test]
fn an_absolute_path_and_a_link_out_of_the_folder_lead_nowhere() {
    let mut caller = Caller::new(FsPerms::ReadWrite);
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "not for guests").unwrap();
    let secret = outside.path().join("secret");
    let secret = secret.to_str().unwrap();
    std::os::unix::fs::symlink(secret, caller.path("absolute")).unwrap();
    std::os::unix::fs::symlink(outside.path(), caller.path("folder")).unwrap();
    let up = format!("{}{}", "../".repeat(20), &secret[1..]);
    std::os::unix::fs::symlink(&up, caller.path("relative")).unwrap();
    std::fs::create_dir(caller.path("sub")).unwrap();
    for path in
        [secret, "/etc/passwd", "absolute", "folder/secret", "relative", &up, "..", "../", "sub/../.."]
    {
        for rights in [READ, WRITE] {
            let opened = caller.open(path, 0, rights);
            assert!(opened.is_err(), "{path}: {opened:?}");
        }
    }
    for path in [format!("{secret}-new"), "folder/new".to_owned(), "../new".to_owned()] {
        assert!(caller.open(&path, CREATE, WRITE).is_err(), "{path}");
    }
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(caller.guest.lacked, None);
    // A link that stays inside is one as any other.
    std::fs::write(caller.path("sub/file"), "inside").unwrap();
    std::os::unix::fs::symlink("sub/file", caller.path("inside")).unwrap();
    assert!(caller.open("inside", 0, READ).is_ok());
}
