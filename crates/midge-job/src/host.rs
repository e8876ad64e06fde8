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
    imports::saved()
}

/// Enqueues a job, should this attempt complete. Returns its id, or why it is refused.
pub(crate) fn enqueue(request: &str, input: &[u8]) -> Result<String, String> {
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
        }
    }

    pub(super) use midge::{retry_after, snooze};

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

    pub(super) fn saved() -> Option<Vec<u8>> {
        // SAFETY: address and length are of bytes that nothing else has, which the host writes during the call.
        whole(|room| unsafe { midge::saved(room.as_mut_ptr(), room.len()) })
    }

    pub(super) fn enqueue(request: &str, input: &[u8]) -> Result<String, String> {
        let mut id = [0; ID_BYTES];
        let (text, bytes) = ((request.as_ptr(), request.len()), (input.as_ptr(), input.len()));
        // SAFETY: as in `progress`, of a text and of bytes; and the id has room for as much as the host writes.
        let code = unsafe { midge::enqueue(text.0, text.1, bytes.0, bytes.1, id.as_mut_ptr()) };
        if code == 0 {
            return Ok(String::from_utf8_lossy(&id).into_owned());
        }
        // SAFETY: as in `saved`.
        let why = whole(|room| unsafe { midge::enqueue_error(room.as_mut_ptr(), room.len()) });
        Err(String::from_utf8_lossy(&why.unwrap_or_default()).into_owned())
    }

    /// The bytes of an id as text.
    const ID_BYTES: usize = 36;

    /// Makes room until all has room that a call copies, which returns how long that is; nothing where it is negative.
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
}

#[cfg(not(target_family = "wasm"))]
mod imports {
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

    pub(super) use crate::testing::{enqueue, save, saved};
}
