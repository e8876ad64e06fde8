//! The imports that a host gives to a guest, made safe. The only unsafe code of the crate.
//!
//! On other targets than WebAssembly there is no host, and what it would be told is written to stderr.
#![cfg_attr(target_family = "wasm", allow(unsafe_code))]

use std::time::Duration;

/// See [`crate::progress`].
pub(crate) fn progress(done: u64, total: u64, message: &str) {
    imports::progress(clamp(done.into()), clamp(total.into()), message);
}

/// Asks for a wait before the next attempt, should this one fail.
pub(crate) fn retry_after(wait: Duration) {
    imports::retry_after(clamp(wait.as_millis()));
}

/// Asks for another attempt after a wait, and for this one not to be spent.
pub(crate) fn snooze(wait: Duration) {
    imports::snooze(clamp(wait.as_millis()));
}

/// Tells why this attempt fails, in a line. The host cuts it to its bound.
pub(crate) fn error(message: &str) {
    imports::error(message);
}

/// Saves a state, and waits until it is safe. Returns whether it was small enough.
pub(crate) fn save(state: &[u8]) -> bool {
    imports::save(state)
}

/// Returns what was saved last.
pub(crate) fn saved() -> Option<Vec<u8>> {
    whole(imports::saved)
}

/// Why a call about a request failed: the host's number for it, which is below 0, and its words for people.
#[derive(Debug)]
pub(crate) struct HttpFailure {
    pub(crate) number: i32,
    pub(crate) message: String,
}

/// Begins a request and returns its number. The head is its method and URL, and a line for each header. Without a timeout it
/// may take as long as the attempt.
pub(crate) fn http_open(head: &[u8], redirects: u32, timeout: Option<Duration>) -> Result<i32, HttpFailure> {
    // 0 is none at all; a part of a millisecond is one.
    let timeout_ms = timeout.map_or(0, |timeout| clamp(timeout.as_nanos().div_ceil(1_000_000)).max(1));
    let redirects = i32::try_from(redirects).unwrap_or(i32::MAX);
    let request = imports::http_open(head, redirects, timeout_ms);
    length(request).map(|_| request)
}

/// Sends a piece of a request's body.
pub(crate) fn http_write(request: i32, piece: &[u8]) -> Result<(), HttpFailure> {
    length(imports::http_write(request, piece)).map(|_| ())
}

/// Ends a request's body, waits for the head of the answer and returns it: the status and the URL that answered, and a
/// line for each header.
pub(crate) fn http_send(request: i32) -> Result<Vec<u8>, HttpFailure> {
    let mut head = vec![0; length(imports::http_send(request))?];
    let copied = length(imports::http_head(request, &mut head))?;
    head.truncate(copied);
    Ok(head)
}

/// Reads the next piece of an answer's body, and returns how long it is: 0 at the end.
pub(crate) fn http_read(request: i32, room: &mut [u8]) -> Result<usize, HttpFailure> {
    // A host that says more than there is room for is not to make readers panic.
    length(imports::http_read(request, room)).map(|copied| copied.min(room.len()))
}

/// Gives a request up, or what is left of its answer.
pub(crate) fn http_close(request: i32) {
    imports::http_close(request);
}

/// Takes what a call about a request returned for a length, or else for a failure.
fn length(returned: i32) -> Result<usize, HttpFailure> {
    usize::try_from(returned).map_err(|_| {
        let message = whole(imports::http_error).unwrap_or_default();
        HttpFailure { number: returned, message: String::from_utf8_lossy(&message).into_owned() }
    })
}

/// Returns all of what an import copies as far as there is room, given how long it says that it is.
fn whole(copy: impl Fn(&mut [u8]) -> i32) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let length = usize::try_from(copy(&mut bytes)).ok()?;
        if length <= bytes.len() {
            bytes.truncate(length);
            return Some(bytes);
        }
        bytes.resize(length, 0);
    }
}

/// Enqueues a job, should this attempt complete. Returns its id, or why it is refused.
/// Why a job is not enqueued.
pub(crate) struct NotEnqueued {
    /// The number by which hosts tell it.
    pub(crate) number: i32,
    /// The same in words.
    pub(crate) why: String,
}

impl NotEnqueued {
    /// There would be more than an attempt may enqueue.
    pub(crate) const TOO_MANY: i32 = 3;
}

pub(crate) fn enqueue(request: &str, input: &[u8]) -> Result<String, NotEnqueued> {
    imports::enqueue(request, input)
}

fn clamp(value: u128) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(target_family = "wasm")]
mod imports {
    mod midge {
        #[link(wasm_import_module = "midge")]
        unsafe extern "C" {
            pub(super) fn progress(done: i64, total: i64, message: *const u8, length: usize);
            pub(in super::super) safe fn retry_after(ms: i64);
            pub(in super::super) safe fn snooze(ms: i64);
            pub(super) fn error(message: *const u8, length: usize);
            pub(super) fn save(state: *const u8, length: usize) -> i32;
            pub(super) fn saved(room: *mut u8, length: usize) -> i32;
            pub(super) fn enqueue(
                request: *const u8,
                request_length: usize,
                input: *const u8,
                input_length: usize,
                id: *mut u8,
            ) -> i32;
            pub(super) fn enqueue_error(room: *mut u8, length: usize) -> i32;
            pub(super) fn http_open(head: *const u8, length: usize, redirects: i32, timeout_ms: i64) -> i32;
            pub(super) fn http_write(request: i32, piece: *const u8, length: usize) -> i32;
            pub(in super::super) safe fn http_send(request: i32) -> i32;
            pub(super) fn http_head(request: i32, room: *mut u8, length: usize) -> i32;
            pub(super) fn http_read(request: i32, room: *mut u8, length: usize) -> i32;
            pub(in super::super) safe fn http_close(request: i32);
            pub(super) fn http_error(room: *mut u8, length: usize) -> i32;
        }
    }

    /// The bytes of an id as text.
    const ID_BYTES: usize = 36;

    pub(super) use midge::{http_close, http_send, retry_after, snooze};

    pub(super) fn progress(done: i64, total: i64, message: &str) {
        // SAFETY: address and length are of one live string, which the host only reads, during the call.
        unsafe { midge::progress(done, total, message.as_ptr(), message.len()) }
    }

    pub(super) fn error(message: &str) {
        // SAFETY: as in `progress`.
        unsafe { midge::error(message.as_ptr(), message.len()) }
    }

    pub(super) fn save(state: &[u8]) -> bool {
        // SAFETY: as in `progress`, of bytes.
        unsafe { midge::save(state.as_ptr(), state.len()) == 0 }
    }

    pub(super) fn saved(room: &mut [u8]) -> i32 {
        // SAFETY: address and length are of bytes that nothing else has, which the host writes during the call.
        unsafe { midge::saved(room.as_mut_ptr(), room.len()) }
    }

    pub(super) fn enqueue(request: &str, input: &[u8]) -> Result<String, super::NotEnqueued> {
        let mut id = [0; ID_BYTES];
        let (text, bytes) = ((request.as_ptr(), request.len()), (input.as_ptr(), input.len()));
        // SAFETY: as in `progress`, of a text and of bytes; and the id has room for as much as the host writes.
        let number = unsafe { midge::enqueue(text.0, text.1, bytes.0, bytes.1, id.as_mut_ptr()) };
        if number == 0 {
            return Ok(String::from_utf8_lossy(&id).into_owned());
        }
        // SAFETY: as in `saved`.
        let why = super::whole(|room| unsafe { midge::enqueue_error(room.as_mut_ptr(), room.len()) });
        let why = String::from_utf8_lossy(&why.unwrap_or_default()).into_owned();
        Err(super::NotEnqueued { number, why })
    }

    pub(super) fn http_open(head: &[u8], redirects: i32, timeout_ms: i64) -> i32 {
        // SAFETY: as in `save`.
        unsafe { midge::http_open(head.as_ptr(), head.len(), redirects, timeout_ms) }
    }

    pub(super) fn http_write(request: i32, piece: &[u8]) -> i32 {
        // SAFETY: as in `save`.
        unsafe { midge::http_write(request, piece.as_ptr(), piece.len()) }
    }

    pub(super) fn http_head(request: i32, room: &mut [u8]) -> i32 {
        // SAFETY: as in `saved`.
        unsafe { midge::http_head(request, room.as_mut_ptr(), room.len()) }
    }

    pub(super) fn http_read(request: i32, room: &mut [u8]) -> i32 {
        // SAFETY: as in `saved`.
        unsafe { midge::http_read(request, room.as_mut_ptr(), room.len()) }
    }

    pub(super) fn http_error(room: &mut [u8]) -> i32 {
        // SAFETY: as in `saved`.
        unsafe { midge::http_error(room.as_mut_ptr(), room.len()) }
    }
}

#[cfg(not(target_family = "wasm"))]
mod imports {
    pub(super) use crate::testing::http::imports::{
        http_close, http_error, http_head, http_open, http_read, http_send, http_write,
    };
    pub(super) use crate::testing::{enqueue, save, saved};

    pub(super) fn progress(done: i64, total: i64, message: &str) {
        eprintln!("midge: progress {done} of {total}: {message}");
    }

    pub(super) fn retry_after(ms: i64) {
        eprintln!("midge: retry after {ms} ms");
    }

    pub(super) fn snooze(ms: i64) {
        eprintln!("midge: snooze for {ms} ms");
    }

    pub(super) fn error(message: &str) {
        eprintln!("midge: failed: {message}");
    }
}
