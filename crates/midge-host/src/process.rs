//! What Rust's own start would do for a process and what a first process needs: by hand, since that start is left out.

// Calls of the C library for which no crate here has a safe form.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};

use midge_protocol::limits::OPEN_FILES_MAX;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that a host has open itself: its streams, connections and whatever wakes its threads.
const OWN_FILES: u64 = 64;
/// Signals that ask a process to end.
const ASKING: [libc::c_int; 2] = [libc::SIGINT, libc::SIGTERM];
/// A shell reports a process that a signal ended with this and the signal's number.
const EXIT_SIGNALLED: i32 = 128;

/// Opens what is closed of stdin, stdout and stderr, so that no other file gets to be one of them by chance.
pub fn keep_standard_streams() {
    let mut streams = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: there are so many of them.
    unsafe { libc::poll(streams.as_mut_ptr(), streams.len() as libc::nfds_t, 0) };
    for _ in streams.iter().filter(|stream| stream.revents & libc::POLLNVAL != 0) {
        // It gets the lowest number that is free. Where there is no such file there is nothing better either.
        // SAFETY: the path ends with a null byte.
        unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
    }
}

/// Lets a write to a pipe without a reader fail, and not end the process.
pub fn ignore_broken_pipes() {
    // SAFETY: there is no handler that could be in use.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Returns the value of a variable of the environment, and overwrites it where `/proc` shows it. From then on it is empty.
///
/// No other thread may read it meanwhile: this is called before any guest runs, and nothing else reads such a variable.
pub fn take_variable(name: &str) -> Option<Vec<u8>> {
    let name = CString::new(name).ok()?;
    // SAFETY: the name ends with a null byte, and what is returned is null or a text of the environment, which nothing
    // changes at this time.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: it is a text that ends with a null byte.
    let bytes = unsafe { CStr::from_ptr(value) }.to_bytes().to_vec();
    // SAFETY: so many bytes are the process's own, and writable: the kernel put them onto its stack.
    unsafe { std::ptr::write_bytes(value, 0, bytes.len()) };
    Some(bytes)
}

/// Raises how many files may be open to what so many attempts may need, as far as the system lets it.
pub fn raise_open_files(places: u32) {
    let limit = getrlimit(Resource::Nofile);
    let needed = OWN_FILES + u64::from(places) * OPEN_FILES_MAX as u64;
    let current = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
    if limit.current.is_some_and(|now| now < current) {
        // Where it may not, a guest that opens more finds out, and the host leaves for want of descriptors.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: limit.maximum });
    }
}

/// Makes the signals that ask a process to end do so where this is the first process of its Machine or container: that one
/// the kernel only ends by what it has a handler for.
pub fn end_when_asked() {
    extern "C" fn end(signal: libc::c_int) {
        // SAFETY: it is one of the few calls that a handler may make.
        unsafe { libc::_exit(EXIT_SIGNALLED + signal) };
    }
    if std::process::id() != 1 {
        return;
    }
    for signal in ASKING {
        // SAFETY: the handler does what a handler may.
        unsafe { libc::signal(signal, end as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    }
}
