//! What of WASI's files and sleeping is midge's own: how many files may be open, what may be opened, and how a folder is
//! listed. The rest of each call is `wasmtime-wasi`'s.
//!
//! Calls run on the guest's own thread, so none may wait for something that may never come: what is neither a file nor a
//! folder is not opened, and a sleep is one that can be dropped.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use midge_protocol::limits::OPEN_FILES_MAX;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;
use wasmtime_wasi::WasiView;
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p1::wasi_snapshot_preview1 as wasi;
use wiggle::GuestMemory;

use super::slice;
use crate::guest::{DeniedGrowth, Guest};
use crate::lacks;

/// The longest path that Linux takes. `wasmtime-wasi` would copy a longer one first.
pub(super) const PATH_BYTES_MAX: u32 = 4096;
/// What a guest can wait for in one call. Each is kept in the host meanwhile.
const SUBSCRIPTIONS_MAX: u32 = 1024;

/// Numbers of WASI's errors.
pub(super) mod errno {
    pub(in super::super) const SUCCESS: i32 = 0;
    pub(in super::super) const ACCES: i32 = 2;
    pub(in super::super) const BADF: i32 = 8;
    pub(in super::super) const DQUOT: i32 = 19;
    pub(in super::super) const FAULT: i32 = 21;
    pub(in super::super) const INVAL: i32 = 28;
    pub(in super::super) const IO: i32 = 29;
    pub(in super::super) const MFILE: i32 = 33;
    pub(in super::super) const NAMETOOLONG: i32 = 37;
    pub(in super::super) const NFILE: i32 = 41;
    pub(in super::super) const NOENT: i32 = 44;
    pub(in super::super) const NOMEM: i32 = 48;
    pub(in super::super) const NOSPC: i32 = 51;
    pub(in super::super) const NOTSUP: i32 = 58;
    pub(in super::super) const PERM: i32 = 63;
}

/// Numbers of WASI's types of files.
mod kind {
    pub(super) const UNKNOWN: u8 = 0;
    pub(super) const BLOCK_DEVICE: u8 = 1;
    pub(super) const CHARACTER_DEVICE: u8 = 2;
    pub(super) const DIRECTORY: u8 = 3;
    pub(super) const REGULAR_FILE: u8 = 4;
    pub(super) const SYMBOLIC_LINK: u8 = 7;
}

/// What is kept of one guest's files.
#[derive(Default)]
pub(crate) struct Files {
    /// How many the guest has opened and not closed.
    open: usize,
    /// Listings under way, by the number of their folder.
    listings: BTreeMap<i32, Listing>,
    /// How many listings have begun at their beginning.
    #[cfg(test)]
    begun: usize,
}

/// What a guest asks to open.
pub(super) struct Open {
    pub(super) fd: i32,
    pub(super) flags: i32,
    pub(super) path: i32,
    pub(super) length: i32,
    pub(super) open_flags: i32,
    pub(super) rights: i64,
    pub(super) inherited: i64,
    pub(super) fd_flags: i32,
    pub(super) opened: i32,
}

/// Opens a file or a folder, if that is what it is and the guest may have another.
pub(super) async fn path_open(memory: &mut [u8], guest: &mut Guest, open: Open) -> wasmtime::Result<i32> {
    if !guest.may_open() {
        return Ok(errno::MFILE);
    }
    if let Some(path) = slice(open.path, open.length).and_then(|range| memory.get(range)) {
        let kind = kind_at(guest, open.fd, open.flags, path).await?;
        // A pipe without a writer would be waited for. A device is none of a job's business.
        if kind
            .is_some_and(|kind| ![kind::DIRECTORY, kind::REGULAR_FILE, kind::SYMBOLIC_LINK].contains(&kind))
        {
            return Ok(errno::NOTSUP);
        }
    }
    let Open { fd, flags, path, length, open_flags, rights, inherited, fd_flags, opened } = open;
    let mut memory = GuestMemory::Unshared(memory);
    let error = wasi::path_open(
        &mut guest.wasi,
        &mut memory,
        fd,
        flags,
        path,
        length,
        open_flags,
        rights,
        inherited,
        fd_flags,
        opened,
    )
    .await?;
    if error == errno::SUCCESS {
        guest.files.open += 1;
    }
    Ok(guest.told(error))
}

/// Returns the type of what is at a path, as `path_filestat_get` says it; nothing where that fails.
async fn kind_at(guest: &mut Guest, fd: i32, flags: i32, path: &[u8]) -> wasmtime::Result<Option<u8>> {
    // In a memory of our own: a `filestat`, and the path behind it.
    let mut memory = vec![0; FILESTAT_BYTES];
    memory.extend_from_slice(path);
    let (at, length) = (FILESTAT_BYTES as i32, path.len() as i32);
    let error = {
        let mut memory = GuestMemory::Unshared(&mut memory);
        wasi::path_filestat_get(&mut guest.wasi, &mut memory, fd, flags, at, length, 0).await?
    };
    Ok((error == errno::SUCCESS).then(|| memory[FILESTAT_KIND]))
}

const FILESTAT_BYTES: usize = 64;
const FILESTAT_INO: usize = 8;
const FILESTAT_KIND: usize = 16;

/// Closes a file or a folder.
pub(super) async fn fd_close(memory: &mut [u8], guest: &mut Guest, fd: i32) -> wasmtime::Result<i32> {
    let error = wasi::fd_close(&mut guest.wasi, &mut GuestMemory::Unshared(memory), fd).await?;
    if error == errno::SUCCESS {
        guest.files.closed(fd);
    }
    Ok(error)
}

/// Gives a file or a folder the number of another, which is closed.
pub(super) async fn fd_renumber(
    memory: &mut [u8],
    guest: &mut Guest,
    from: i32,
    to: i32,
) -> wasmtime::Result<i32> {
    let error = wasi::fd_renumber(&mut guest.wasi, &mut GuestMemory::Unshared(memory), from, to).await?;
    if error == errno::SUCCESS && from != to {
        guest.files.closed(to);
        guest.files.listings.remove(&from);
    }
    Ok(error)
}

impl Guest {
    /// Takes note of what the Machine lacks, where that is why a call failed, and returns the error as a guest is told it.
    #[inline]
    pub(super) fn told(&mut self, error: i32) -> i32 {
        if error == errno::SUCCESS { error } else { self.told_of(error) }
    }

    #[cold]
    fn told_of(&mut self, error: i32) -> i32 {
        let errno = match error {
            errno::NOSPC => Errno::NOSPC,
            errno::DQUOT => Errno::DQUOT,
            errno::NOMEM => Errno::NOMEM,
            // So WASI calls what it has no word for, too: no descriptors, and a file system that is read-only, which is as
            // somebody declared it.
            errno::IO => match lacks::descriptors() {
                Some(errno) => errno,
                None if self.has_read_only_folder() => return error,
                None => Errno::IO,
            },
            _ => return error,
        };
        if self.lacked.is_none() {
            self.lacked = lacks::of_errno(errno);
        }
        match errno {
            Errno::MFILE => errno::MFILE,
            Errno::NFILE => errno::NFILE,
            _ => error,
        }
    }

    /// Returns whether a folder that it has open is on a file system that is read-only.
    fn has_read_only_folder(&mut self) -> bool {
        self.wasi.ctx().table.iter_mut().any(|entry| {
            let Some(Descriptor::Dir(dir)) = entry.downcast_ref::<Descriptor>() else { return false };
            let stat = rustix::fs::fstatvfs(&*dir.dir);
            stat.is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY))
        })
    }

    /// Returns whether another file may be opened, and remembers where not.
    fn may_open(&mut self) -> bool {
        // A listing takes a descriptor too.
        let may = self.files.open + self.files.listings.len() < OPEN_FILES_MAX;
        if !may {
            self.denied.get_or_insert(DeniedGrowth::Files);
        }
        may
    }
}

impl Files {
    fn closed(&mut self, fd: i32) {
        self.open = self.open.saturating_sub(1);
        self.listings.remove(&fd);
    }
}

/// Lists a folder from an entry on, as much as fits; the last one may be cut. A guest that asks on where it was told to is
/// told on: `wasmtime-wasi` would read the whole folder again each time, and look at each file.
pub(super) async fn fd_readdir(
    memory: &mut [u8],
    guest: &mut Guest,
    fd: i32,
    buffer: i32,
    length: i32,
    cookie: i64,
    used: i32,
) -> wasmtime::Result<i32> {
    let (Some(buffer), Some(used)) = (slice(buffer, length), slice(used, 4)) else { return Ok(errno::FAULT) };
    if memory.get(buffer.clone()).is_none() || memory.get(used.clone()).is_none() {
        return Ok(errno::FAULT);
    }
    let cookie = cookie as u64;
    let mut listing = match guest.files.listings.remove(&fd) {
        Some(listing) if listing.next == cookie => listing,
        _ => match Listing::begin(guest, fd, cookie).await? {
            Ok(listing) => listing,
            Err(error) => return Ok(guest.told(error)),
        },
    };
    let mut rest = &mut memory[buffer.clone()];
    loop {
        // Not read from the folder again where it did not fit, or only in part.
        let entry = match listing.peek() {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            Err(error) => return Ok(guest.told(error)),
        };
        let fits = entry.len().min(rest.len());
        let (to, behind) = rest.split_at_mut(fits);
        to.copy_from_slice(&entry[..fits]);
        rest = behind;
        if fits < entry.len() {
            break;
        }
        listing.skip();
    }
    let written = (buffer.len() - rest.len()) as u32;
    memory[used].copy_from_slice(&written.to_le_bytes());
    guest.files.listings.insert(fd, listing);
    Ok(errno::SUCCESS)
}

/// A folder that is being listed. It is opened once more for that, and read piece by piece.
struct Listing {
    dir: Dir,
    /// The folder's device and number.
    id: (u64, u64),
    /// The number of the entry that comes next, from 0: what a guest calls a cookie.
    next: u64,
    /// That entry as a guest is told it, once it was read.
    entry: Option<Vec<u8>>,
}

impl Listing {
    /// Begins to list a folder, at the entry of that number; or returns WASI's error.
    async fn begin(guest: &mut Guest, fd: i32, cookie: u64) -> wasmtime::Result<Result<Listing, i32>> {
        #[cfg(test)]
        {
            guest.files.begun += 1;
        }
        let mut filestat = [0; FILESTAT_BYTES];
        let error = {
            let mut memory = GuestMemory::Unshared(&mut filestat);
            wasi::fd_filestat_get(&mut guest.wasi, &mut memory, fd, 0).await?
        };
        if error != errno::SUCCESS {
            return Ok(Err(error));
        }
        if !guest.may_open() {
            return Ok(Err(errno::MFILE));
        }
        let number = u64::from_le_bytes(filestat[FILESTAT_INO..][..8].try_into().expect("it is 8 bytes"));
        if filestat[FILESTAT_KIND] != kind::DIRECTORY {
            return Ok(Err(errno::BADF));
        }
        let mut listing = match open(guest, number) {
            Ok(listing) => listing,
            Err(error) => return Ok(Err(number_of(error))),
        };
        while listing.next < cookie {
            match listing.peek() {
                Ok(Some(_)) => listing.skip(),
                // Nothing is there any more.
                Ok(None) => break,
                Err(error) => return Ok(Err(error)),
            }
        }
        listing.next = cookie;
        Ok(Ok(listing))
    }

    /// Returns the entry that comes next, reading it if it was not; nothing at the end.
    fn peek(&mut self) -> Result<Option<&[u8]>, i32> {
        if self.entry.is_none() {
            self.entry = match self.next {
                0 => Some(self.entry_of(self.id.1, kind::DIRECTORY, b".")),
                // Not the number of the one above: a guest must not learn of it.
                1 => Some(self.entry_of(self.id.1, kind::DIRECTORY, b"..")),
                _ => self.read()?,
            };
        }
        Ok(self.entry.as_deref())
    }

    fn skip(&mut self) {
        self.entry = None;
        self.next += 1;
    }

    fn read(&mut self) -> Result<Option<Vec<u8>>, i32> {
        loop {
            let Some(found) = self.dir.read() else { return Ok(None) };
            let found = found.map_err(number_of)?;
            let name = found.file_name().to_bytes();
            // Names of WASI are UTF-8: a guest could not name what has another one, and all else is there for it.
            if name == b"." || name == b".." || std::str::from_utf8(name).is_err() {
                continue;
            }
            let file_type = match found.file_type() {
                // Some filesystems do not say.
                FileType::Unknown => match rustix::fs::statat(
                    self.dir.fd().map_err(number_of)?,
                    found.file_name(),
                    AtFlags::SYMLINK_NOFOLLOW,
                ) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(Errno::NOENT) => continue,
                    Err(_) => FileType::Unknown,
                },
                known => known,
            };
            return Ok(Some(self.entry_of(found.ino(), kind_of(file_type), name)));
        }
    }

    /// Returns an entry as `fd_readdir` writes it: a `dirent`, and the name behind it.
    fn entry_of(&self, number: u64, kind: u8, name: &[u8]) -> Vec<u8> {
        let mut entry = Vec::with_capacity(24 + name.len());
        entry.extend_from_slice(&(self.next + 1).to_le_bytes());
        entry.extend_from_slice(&shown_number((self.id.0, number)).to_le_bytes());
        entry.extend_from_slice(&(name.len() as u32).to_le_bytes());
        entry.extend_from_slice(&[kind, 0, 0, 0]);
        entry.extend_from_slice(name);
        entry
    }
}

/// Opens a folder once more that the guest has open, by the number that the guest knows it under.
fn open(guest: &mut Guest, number: u64) -> rustix::io::Result<Listing> {
    for entry in guest.wasi.ctx().table.iter_mut() {
        let Some(Descriptor::Dir(dir)) = entry.downcast_ref::<Descriptor>() else { continue };
        let stat = rustix::fs::fstat(&*dir.dir)?;
        let id = (stat.st_dev, stat.st_ino);
        // Of several that are the same folder, each will do.
        if shown_number(id) == number {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let dir = Dir::new(rustix::fs::openat(&*dir.dir, ".", flags, Mode::empty())?)?;
            return Ok(Listing { dir, id, next: 0, entry: None });
        }
    }
    Err(Errno::NOENT)
}

/// Returns WASI's number of an error that listing a folder ended with. What is wrong on every Machine must not be told as
/// `IO`, which is taken for a lack of this one.
fn number_of(error: Errno) -> i32 {
    match error {
        Errno::ACCESS => errno::ACCES,
        Errno::NOENT => errno::NOENT,
        Errno::NOMEM => errno::NOMEM,
        Errno::PERM => errno::PERM,
        _ => errno::IO,
    }
}

/// Returns the number under which a guest knows a file, from device and number. As `wasmtime-wasi` makes it: a test holds
/// them against each other.
fn shown_number(id: (u64, u64)) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

fn kind_of(file_type: FileType) -> u8 {
    match file_type {
        FileType::RegularFile => kind::REGULAR_FILE,
        FileType::Directory => kind::DIRECTORY,
        FileType::Symlink => kind::SYMBOLIC_LINK,
        FileType::BlockDevice => kind::BLOCK_DEVICE,
        FileType::CharacterDevice => kind::CHARACTER_DEVICE,
        _ => kind::UNKNOWN,
    }
}

/// Waits for one of several things. One clock alone is a sleep, which is midge's own: `wasmtime-wasi` would hold the thread.
pub(super) async fn poll_oneoff(
    memory: &mut [u8],
    guest: &mut Guest,
    asked: i32,
    happened: i32,
    count: i32,
    happened_count: i32,
) -> wasmtime::Result<i32> {
    const SUBSCRIPTION_BYTES: i32 = 48;
    const EVENT_BYTES: usize = 32;
    const CLOCK: u8 = 0;
    const RELATIVE: u16 = 0;
    if count as u32 > SUBSCRIPTIONS_MAX {
        return Ok(errno::INVAL);
    }
    let subscription = match slice(asked, SUBSCRIPTION_BYTES).and_then(|range| memory.get(range)) {
        Some(subscription) => subscription,
        None => return Ok(errno::FAULT),
    };
    let field = |at: usize| u64::from_le_bytes(subscription[at..at + 8].try_into().expect("it is 8 bytes"));
    let (user_data, tag, clock, timeout) = (field(0), subscription[8], field(16) as u32, field(24));
    let flags = field(40) as u16;
    if count != 1 || tag != CLOCK || flags != RELATIVE {
        let mut memory = GuestMemory::Unshared(memory);
        return wasi::poll_oneoff(&mut guest.wasi, &mut memory, asked, happened, count, happened_count).await;
    }
    // The real one and the monotonic one.
    if clock > 1 {
        return Ok(errno::INVAL);
    }
    let (Some(event), Some(event_count)) = (slice(happened, EVENT_BYTES as i32), slice(happened_count, 4))
    else {
        return Ok(errno::FAULT);
    };
    if memory.get(event.clone()).is_none() || memory.get(event_count.clone()).is_none() {
        return Ok(errno::FAULT);
    }
    tokio::time::sleep(Duration::from_nanos(timeout)).await;
    let mut written = [0; EVENT_BYTES];
    written[..8].copy_from_slice(&user_data.to_le_bytes());
    memory[event].copy_from_slice(&written);
    memory[event_count].copy_from_slice(&1u32.to_le_bytes());
    Ok(errno::SUCCESS)
}

#[cfg(test)]
mod tests;
