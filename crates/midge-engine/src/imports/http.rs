//! What a guest calls to make requests. What they are is `crate::http`'s.

use bytes::Bytes;
use wasmtime::{Caller, Linker};

use super::{MIDGE, memory, slice};
use crate::guest::Guest;
use crate::http::{OVER_LIMIT, Requests, Told, Wrong};

pub(super) const NAMES: &[&str] =
    &["http_open", "http_write", "http_send", "http_head", "http_read", "http_close", "http_error"];

/// What a guest is told where the Machine lacks what its request takes.
const LACKS: i32 = -5;

/// Makes a function. Its name is one of [`NAMES`].
pub(super) fn define(linker: &mut Linker<Guest>, name: &str) -> wasmtime::Result<()> {
    match name {
        "http_open" => linker.func_wrap(MIDGE, name, open)?,
        "http_write" => linker.func_wrap(
            MIDGE,
            name,
            |mut caller: Caller<'_, Guest>, request: i32, ptr: i32, len: i32| {
                with_bytes(&mut caller, "a piece of a body", ptr, len, |requests, bytes| {
                    requests.write(request, bytes)
                })
            },
        )?,
        "http_send" => linker.func_wrap(MIDGE, name, |mut caller: Caller<'_, Guest>, request: i32| {
            let sent = caller.data_mut().requests.send(request);
            said(caller.data_mut(), sent)
        })?,
        "http_head" => linker.func_wrap(
            MIDGE,
            name,
            |mut caller: Caller<'_, Guest>, request: i32, ptr: i32, len: i32| match caller
                .data_mut()
                .requests
                .head(request)
            {
                Ok(head) => copy(&mut caller, &head, ptr, len),
                Err(wrong) => said(caller.data_mut(), Err(wrong)),
            },
        )?,
        "http_read" => linker.func_wrap(
            MIDGE,
            name,
            |mut caller: Caller<'_, Guest>, request: i32, ptr: i32, len: i32| {
                with_bytes(&mut caller, "the room for a body", ptr, len, |requests, room| {
                    requests.read(request, room)
                })
            },
        )?,
        "http_close" => linker.func_wrap(MIDGE, name, |mut caller: Caller<'_, Guest>, request: i32| {
            caller.data_mut().requests.close(request);
        })?,
        "http_error" => {
            linker.func_wrap(MIDGE, name, |mut caller: Caller<'_, Guest>, ptr: i32, len: i32| {
                let error = Bytes::copy_from_slice(caller.data().requests.error().as_bytes());
                copy(&mut caller, &error, ptr, len)
            })?
        }
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

/// Calls with bytes of the guest's memory, and returns what the guest is told.
fn with_bytes(
    caller: &mut Caller<'_, Guest>,
    what: &str,
    ptr: i32,
    len: i32,
    call: impl FnOnce(&mut Requests, &mut [u8]) -> Result<i32, Wrong>,
) -> wasmtime::Result<i32> {
    let (memory, guest) = memory(caller)?;
    let bytes = slice(ptr, len)
        .and_then(|range| memory.get_mut(range))
        .ok_or_else(|| wasmtime::Error::msg(format!("{what} reaches beyond the guest's memory")))?;
    let called = call(&mut guest.requests, bytes);
    said(guest, called)
}

/// Copies as much as there is room for, and returns the length of all.
fn copy(caller: &mut Caller<'_, Guest>, text: &[u8], ptr: i32, len: i32) -> wasmtime::Result<i32> {
    let (memory, _) = memory(caller)?;
    let room = slice(ptr, len)
        .and_then(|range| memory.get_mut(range))
        .ok_or_else(|| wasmtime::Error::msg("the room for a text reaches beyond the guest's memory"))?;
    let copied = text.len().min(room.len());
    room[..copied].copy_from_slice(&text[..copied]);
    Ok(i32::try_from(text.len()).unwrap_or(i32::MAX))
}

/// Turns what became of a call into what the guest is told, and keeps what its end is judged by.
fn said(guest: &mut Guest, called: Result<i32, Wrong>) -> wasmtime::Result<i32> {
    let (number, message) = match called {
        Ok(number) => return Ok(number),
        Err(Wrong::Told(Told { number, message })) => (number, message),
        Err(Wrong::Denied(denied, message)) => {
            guest.denied.get_or_insert(denied);
            (OVER_LIMIT, message)
        }
        Err(Wrong::Lacks(what)) => {
            let message = format!("the Machine lacks {what}");
            guest.lacked.get_or_insert(what);
            (LACKS, message)
        }
        Err(Wrong::Stopped(over)) => return Err(over.into()),
    };
    guest.requests.set_error(message);
    Ok(number)
}
