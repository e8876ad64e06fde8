//! WASI preview 1, one function at a time. `wasmtime-wasi` provides each; its own linking makes all 46 of them, and
//! code that is made for nothing is code that has to be read from the disk: that was a tenth of the way to the guest.
//!
//! Invariant: no function is made here that `wasmtime-wasi` does not have under the same name and type; a test holds
//! this list against its own.

use wasmtime::{AsContextMut, Caller, Linker};
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as wasi, WasiSnapshotPreview1 as _};
use wiggle::GuestMemory;

use super::files::{self, errno};
use crate::guest::Guest;

/// The name under which WASI's functions are declared.
pub(super) const MODULE: &str = "wasi_snapshot_preview1";

/// Lists the functions: those that midge has a part in, those that are given paths (behind the arrow stand their lengths),
/// others that are asynchronous, and those that are not.
macro_rules! functions {
    (
        ours { $($own:ident($($own_arg:ident: $own_ty:ty),*) = $call:expr;)* }
        with_paths { $($path:ident($($path_arg:ident: $path_ty:ty),*) => $($length:ident),+;)* }
        may_wait { $($waiting:ident($($wait_arg:ident: $wait_ty:ty),*);)* }
        at_once { $($plain:ident($($arg:ident: $ty:ty),*);)* }
    ) => {
        /// Every function that [`define`] knows.
        pub(super) const NAMES: &[&str] = &[
            $(stringify!($own),)* $(stringify!($path),)* $(stringify!($waiting),)* $(stringify!($plain),)*
        ];

        /// Makes the function of that name. Returns whether there is one.
        pub(super) fn define(linker: &mut Linker<Guest>, name: &str) -> wasmtime::Result<bool> {
            match name {
                $(stringify!($own) => linker.func_wrap_async(
                    MODULE,
                    name,
                    |mut caller: Caller<'_, Guest>, ($($own_arg,)*): ($($own_ty,)*)| {
                        Box::new(async move {
                            let (memory, guest) = memory(&mut caller)?;
                            $call(memory, guest, $($own_arg),*).await
                        })
                    },
                )?,)*
                $(stringify!($path) => linker.func_wrap_async(
                    MODULE,
                    name,
                    |mut caller: Caller<'_, Guest>, ($($path_arg,)*): ($($path_ty,)*)| {
                        Box::new(async move {
                            if [$($length as u32),+].into_iter().any(|length| length > files::PATH_BYTES_MAX) {
                                return Ok(errno::NAMETOOLONG);
                            }
                            let (memory, guest) = memory(&mut caller)?;
                            let mut memory = GuestMemory::Unshared(memory);
                            let error = wasi::$path(&mut guest.wasi, &mut memory, $($path_arg),*).await?;
                            Ok(guest.told(error))
                        })
                    },
                )?,)*
                $(stringify!($waiting) => linker.func_wrap_async(
                    MODULE,
                    name,
                    |mut caller: Caller<'_, Guest>, ($($wait_arg,)*): ($($wait_ty,)*)| {
                        Box::new(async move {
                            let (memory, guest) = memory(&mut caller)?;
                            let mut memory = GuestMemory::Unshared(memory);
                            let error = wasi::$waiting(&mut guest.wasi, &mut memory, $($wait_arg),*).await?;
                            Ok(guest.told(error))
                        })
                    },
                )?,)*
                $(stringify!($plain) => linker.func_wrap(
                    MODULE,
                    name,
                    |mut caller: Caller<'_, Guest>, $($arg: $ty),*| {
                        let (memory, guest) = memory(&mut caller)?;
                            let mut memory = GuestMemory::Unshared(memory);
                        wasi::$plain(&mut guest.wasi, &mut memory, $($arg),*)
                    },
                )?,)*
                _ => return Ok(false),
            };
            Ok(true)
        }
    };
}

functions! {
    ours {
        fd_close(fd: i32) = files::fd_close;
        path_link(fd: i32, flags: i32, path: i32, length: i32, new_fd: i32, new_path: i32, new_length: i32) = path_link;
        path_rename(fd: i32, path: i32, length: i32, new_fd: i32, new_path: i32, new_length: i32) = path_rename;
        fd_readdir(fd: i32, buffer: i32, length: i32, cookie: i64, used: i32) = files::fd_readdir;
        fd_renumber(from: i32, to: i32) = files::fd_renumber;
        path_open(
            fd: i32, flags: i32, path: i32, length: i32, open_flags: i32, rights: i64, inherited: i64,
            fd_flags: i32, opened: i32
        ) = path_open;
        poll_oneoff(asked: i32, happened: i32, count: i32, happened_count: i32) = files::poll_oneoff;
    }
    with_paths {
        path_create_directory(fd: i32, path: i32, length: i32) => length;
        path_filestat_get(fd: i32, flags: i32, path: i32, length: i32, stat: i32) => length;
        path_filestat_set_times(
            fd: i32, flags: i32, path: i32, length: i32, accessed: i64, modified: i64, which: i32
        ) => length;
        path_readlink(fd: i32, path: i32, length: i32, buffer: i32, buffer_length: i32, used: i32) => length;
        path_remove_directory(fd: i32, path: i32, length: i32) => length;
        path_symlink(target: i32, target_length: i32, fd: i32, path: i32, length: i32) => target_length, length;
        path_unlink_file(fd: i32, path: i32, length: i32) => length;
    }
    may_wait {
        fd_advise(fd: i32, offset: i64, length: i64, advice: i32);
        fd_datasync(fd: i32);
        fd_fdstat_get(fd: i32, stat: i32);
        fd_filestat_get(fd: i32, stat: i32);
        fd_filestat_set_size(fd: i32, size: i64);
        fd_filestat_set_times(fd: i32, accessed: i64, modified: i64, flags: i32);
        fd_pread(fd: i32, pieces: i32, count: i32, offset: i64, read: i32);
        fd_pwrite(fd: i32, pieces: i32, count: i32, offset: i64, written: i32);
        fd_read(fd: i32, pieces: i32, count: i32, read: i32);
        fd_seek(fd: i32, offset: i64, whence: i32, now: i32);
        fd_sync(fd: i32);
        fd_write(fd: i32, pieces: i32, count: i32, written: i32);
    }
    at_once {
        args_get(pointers: i32, bytes: i32);
        args_sizes_get(count: i32, size: i32);
        clock_res_get(clock: i32, resolution: i32);
        clock_time_get(clock: i32, precision: i64, time: i32);
        environ_get(pointers: i32, bytes: i32);
        environ_sizes_get(count: i32, size: i32);
        fd_allocate(fd: i32, offset: i64, length: i64);
        fd_fdstat_set_flags(fd: i32, flags: i32);
        fd_fdstat_set_rights(fd: i32, rights: i64, inherited: i64);
        fd_prestat_dir_name(fd: i32, path: i32, length: i32);
        fd_prestat_get(fd: i32, stat: i32);
        fd_tell(fd: i32, offset: i32);
        proc_raise(signal: i32);
        sched_yield();
        sock_accept(fd: i32, flags: i32, accepted: i32);
        sock_recv(fd: i32, pieces: i32, count: i32, flags: i32, received: i32, received_flags: i32);
        sock_send(fd: i32, pieces: i32, count: i32, flags: i32, sent: i32);
        sock_shutdown(fd: i32, how: i32);
    }
}

/// Opens a file or a folder: nine numbers, by name.
#[allow(clippy::too_many_arguments)]
async fn path_open(
    memory: &mut [u8],
    guest: &mut Guest,
    fd: i32,
    flags: i32,
    path: i32,
    length: i32,
    open_flags: i32,
    rights: i64,
    inherited: i64,
    fd_flags: i32,
    opened: i32,
) -> wasmtime::Result<i32> {
    if length as u32 > files::PATH_BYTES_MAX {
        return Ok(errno::NAMETOOLONG);
    }
    let open = files::Open { fd, flags, path, length, open_flags, rights, inherited, fd_flags, opened };
    files::path_open(memory, guest, open).await
}

/// Gives a file a second name.
#[allow(clippy::too_many_arguments)]
async fn path_link(
    memory: &mut [u8],
    guest: &mut Guest,
    fd: i32,
    flags: i32,
    path: i32,
    length: i32,
    new_fd: i32,
    new_path: i32,
    new_length: i32,
) -> wasmtime::Result<i32> {
    if are_too_long([length, new_length]) {
        return Ok(errno::NAMETOOLONG);
    }
    let mut memory = GuestMemory::Unshared(memory);
    let wasi = &mut guest.wasi;
    let error =
        wasi::path_link(wasi, &mut memory, fd, flags, path, length, new_fd, new_path, new_length).await?;
    Ok(told_of_two(guest, error))
}

/// Gives a file another name.
#[allow(clippy::too_many_arguments)]
async fn path_rename(
    memory: &mut [u8],
    guest: &mut Guest,
    fd: i32,
    path: i32,
    length: i32,
    new_fd: i32,
    new_path: i32,
    new_length: i32,
) -> wasmtime::Result<i32> {
    if are_too_long([length, new_length]) {
        return Ok(errno::NAMETOOLONG);
    }
    let mut memory = GuestMemory::Unshared(memory);
    let wasi = &mut guest.wasi;
    let error = wasi::path_rename(wasi, &mut memory, fd, path, length, new_fd, new_path, new_length).await?;
    Ok(told_of_two(guest, error))
}

fn are_too_long(lengths: [i32; 2]) -> bool {
    lengths.into_iter().any(|length| length as u32 > files::PATH_BYTES_MAX)
}

/// Returns the error of a call with two files. As `IO` WASI tells of those that are on two file systems, which no other
/// Machine would make one.
fn told_of_two(guest: &mut Guest, error: i32) -> i32 {
    if error == errno::IO { error } else { guest.told(error) }
}

/// Returns the guest's memory and state, with what a call may allocate set anew, as `wasmtime-wasi` does.
fn memory<'a>(caller: &'a mut Caller<'_, Guest>) -> wasmtime::Result<(&'a mut [u8], &'a mut Guest)> {
    let fuel = caller.as_context_mut().hostcall_fuel();
    let (memory, guest) = super::memory(caller)?;
    guest.wasi.set_hostcall_fuel(fuel);
    Ok((memory, guest))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use wasmtime::{Engine, Store};

    use super::*;

    fn types(linker: &Linker<Guest>, store: &mut Store<Guest>) -> BTreeMap<String, String> {
        let names: Vec<(String, String)> =
            linker.iter(&mut *store).map(|(m, n, _)| (m.to_owned(), n.to_owned())).collect();
        let mut ty = |module: &str, name: &str| {
            let item = linker.get(&mut *store, module, name).unwrap();
            crate::imports::type_text(&item.ty(&*store))
        };
        names.into_iter().map(|(m, n)| (format!("{m} {n}"), ty(&m, &n))).collect()
    }

    #[test]
    fn the_list_is_wasis_but_for_the_two_functions_that_are_midges() {
        let engine = Engine::new(&crate::config()).unwrap();
        let mut store = Store::new(&engine, Guest::detached());
        let mut ours = Linker::new(&engine);
        for name in NAMES {
            assert!(define(&mut ours, name).unwrap(), "{name}");
        }
        let mut theirs: Linker<Guest> = Linker::new(&engine);
        wasmtime_wasi::p1::add_to_linker_async(&mut theirs, |guest| &mut guest.wasi).unwrap();
        let ours = types(&ours, &mut store);
        let mut theirs = types(&theirs, &mut store);
        for name in ["proc_exit", "random_get"] {
            theirs.remove(&format!("{MODULE} {name}")).unwrap();
        }
        assert_eq!(ours, theirs);
        assert!(!define(&mut Linker::new(&engine), "fd_open").unwrap());
        let names = NAMES.len() + crate::imports::WASI_NAMES.len() + crate::imports::midge_names().count();
        assert_eq!(crate::imports().len(), names, "every name is one that is made");
    }
}
