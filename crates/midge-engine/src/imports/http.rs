//! What a guest calls to make requests. What they are is `crate::http`'s.

use midge_protocol::line::{Failed, Why};
use wasmtime::{Caller, Linker};

use super::{MIDGE, bytes_at, memory};
use crate::guest::Guest;
use crate::http::{OVER_LIMIT, Requests, Wrong, number};

pub(super) const NAMES: &[&str] =
    &["http_open", "http_write", "http_send", "http_head", "http_read", "http_close", "http_error"];

/// Makes a function. Its name is one of [`NAMES`].
pub(super) fn define(linker: &mut Linker<Guest>, name: &str) -> wasmtime::Result<()> {
    match name {
        "http_open" => linker.func_wrap(MIDGE, name, open)?,
        "http_write" => linker.func_wrap(MIDGE, name, write)?,
        "http_send" => linker.func_wrap(MIDGE, name, send)?,
        "http_head" => linker.func_wrap(MIDGE, name, head)?,
        "http_read" => linker.func_wrap(MIDGE, name, read)?,
        "http_close" => linker.func_wrap(MIDGE, name, |mut caller: Caller<'_, Guest>, request: i32| {
            caller.data_mut().requests.close(request);
        })?,
        "http_error" => linker.func_wrap(MIDGE, name, error)?,
        _ => unreachable!("it is called with names of the list"),
    };
    Ok(())
}

fn open(
    mut caller: Caller<'_, Guest>,
    ptr: i32,
    len: i32,
    redirects: i32,
    timeout_ms: i64,
) -> wasmtime::Result<i32> {
    // Less than nothing is nothing.
    let redirects = u32::try_from(redirects).unwrap_or(0);
    let timeout_ms = u64::try_from(timeout_ms).unwrap_or(0);
    with_bytes(&mut caller, "the head of a request", ptr, len, |requests, head| {
        requests.open(head, redirects, timeout_ms)
    })
}

fn write(mut caller: Caller<'_, Guest>, request: i32, ptr: i32, len: i32) -> wasmtime::Result<i32> {
    with_bytes(&mut caller, "a piece of a body", ptr, len, |requests, piece| requests.write(request, piece))
}

fn send(mut caller: Caller<'_, Guest>, request: i32) -> wasmtime::Result<i32> {
    let guest = caller.data_mut();
    let sent = guest.requests.send(request);
    said(guest, sent)
}

fn head(mut caller: Caller<'_, Guest>, request: i32, ptr: i32, len: i32) -> wasmtime::Result<i32> {
    let (memory, guest) = memory(&mut caller)?;
    match guest.requests.head(request) {
        Ok(head) => super::copy(Some(head), "the room for a head", memory, ptr, len),
        Err(wrong) => said(guest, Err(wrong)),
    }
}

fn read(mut caller: Caller<'_, Guest>, request: i32, ptr: i32, len: i32) -> wasmtime::Result<i32> {
    with_bytes(&mut caller, "the room for a body", ptr, len, |requests, room| requests.read(request, room))
}

fn error(mut caller: Caller<'_, Guest>, ptr: i32, len: i32) -> wasmtime::Result<i32> {
    let (memory, guest) = memory(&mut caller)?;
    super::copy(Some(guest.requests.error().as_bytes()), "the room for an error", memory, ptr, len)
}

/// Calls with bytes of the guest's memory, and returns what the guest is told.
fn with_bytes(
    caller: &mut Caller<'_, Guest>,
    what: &str,
    ptr: i32,
    len: i32,
    call: impl FnOnce(&mut Requests, &mut [u8]) -> Result<i32, Wrong>,
) -> wasmtime::Result<i32> {
    let (memory, guest) = memory(caller)?;
    let called = call(&mut guest.requests, bytes_at(memory, what, ptr, len)?);
    said(guest, called)
}

/// Turns what became of a call into what the guest is told, and keeps what its end is judged by.
fn said(guest: &mut Guest, called: Result<i32, Wrong>) -> wasmtime::Result<i32> {
    let (number, message) = match called {
        Ok(number) => return Ok(number),
        Err(Wrong::Failed(Failed { why: Why::Lacks, message: what })) => {
            let message = format!("it cannot be made, for want of {what}");
            guest.lacked.get_or_insert(what);
            (number(Why::Lacks), message)
        }
        Err(Wrong::Failed(Failed { why, message })) => (number(why), message),
        Err(Wrong::Denied(denied, message)) => {
            guest.denied.get_or_insert(denied);
            (OVER_LIMIT, message)
        }
        Err(Wrong::Stopped(over)) => return Err(over.into()),
    };
    guest.requests.set_error(message);
    Ok(number)
}
