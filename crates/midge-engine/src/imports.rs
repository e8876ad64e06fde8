//! What a guest can import: WASI preview 1, and the module `midge`. `docs/abi.md` tells it to people.

mod enqueue;
mod files;
mod http;
mod wasi;

use std::sync::Arc;

use bytes::Bytes;
use midge_protocol::job::Progress;
use midge_protocol::limits::{MESSAGE_BYTES_MAX, PUT_OFF_MAX, RANDOM_BYTES_MAX, SAVED_BYTES_MAX};
use midge_protocol::shown;
use wasmtime::{Caller, Engine, Extern, ExternType, InstancePre, Linker, Module, Store};
use wasmtime_wasi::I32Exit;

use crate::config::config;
use crate::guest::Guest;
use crate::over::Over;

use files::errno;

pub(crate) use enqueue::FollowUps;
pub(crate) use files::Files;

/// The name under which midge's own imports are declared.
const MIDGE: &str = "midge";
const MIDGE_NAMES: &[&str] =
    &["progress", "error", "retry_after", "snooze", "save", "saved", "enqueue", "enqueue_error"];
/// Functions of WASI that are midge's own.
const WASI_NAMES: &[&str] = &["random_get", "proc_exit"];
/// Randomness is made in pieces of this size, so that a stop is seen between them.
const RANDOM_CHUNK: usize = 64 * 1024;

/// A function that a guest can import.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    /// The module part of its name, such as `wasi_snapshot_preview1`.
    pub module: String,
    /// The function part of its name, such as `fd_write`.
    pub name: String,
    /// Its type in WebAssembly's text format, such as `(func (param i32 i32) (result i32))`.
    pub ty: String,
}

/// Returns everything that a guest can import, sorted, from the very functions that attempts use.
pub fn imports() -> Vec<Import> {
    let engine = Engine::new(&config()).expect("the one configuration makes an engine");
    let linker = whole_linker(&engine).expect("no import is defined twice");
    let mut store = Store::new(&engine, Guest::detached());
    let mut imports: Vec<Import> = linker
        .iter(&mut store)
        .map(|(module, name, _)| (module.to_owned(), name.to_owned()))
        .collect::<Vec<_>>()
        .into_iter()
        .map(|(module, name)| {
            let ty = linker.get(&mut store, &module, &name).map(|item| item.ty(&store));
            Import { module, name, ty: ty.map(|ty| type_text(&ty)).unwrap_or_default() }
        })
        .collect();
    imports.sort();
    imports
}

/// Links a module to the functions that it imports. Only those are made.
pub(crate) fn link(module: &Module) -> Result<InstancePre<Guest>, NotLinked> {
    check_start(module)?;
    let mut linker = Linker::new(module.engine());
    // A module may import a function more than once.
    linker.allow_shadowing(true);
    for import in module.imports() {
        define(&mut linker, import.module(), import.name())?;
    }
    linker.instantiate_pre(module).or_else(|error| {
        check_imports(&whole_linker(module.engine())?, module)?;
        Err(error.into())
    })
}

/// Why a module cannot be linked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotLinked {
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// For a reason that only wasmtime knows.
    #[error("{0:#}")]
    Refused(#[from] wasmtime::Error),
}

/// Makes a linker that has every function.
pub(crate) fn whole_linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    let wasi = wasi::NAMES.iter().chain(WASI_NAMES).map(|name| (wasi::MODULE, *name));
    let midge = midge_names().map(|name| (MIDGE, name));
    for (module, name) in wasi.chain(midge) {
        define(&mut linker, module, name)?;
    }
    Ok(linker)
}

/// Returns the names of all functions that are midge's own.
fn midge_names() -> impl Iterator<Item = &'static str> {
    MIDGE_NAMES.iter().chain(http::NAMES).copied()
}

/// Makes a function, if there is one of that name.
fn define(linker: &mut Linker<Guest>, module: &str, name: &str) -> wasmtime::Result<()> {
    match (module, name) {
        // WASI's own makes all of it in the host first, and does not say what was wrong.
        (wasi::MODULE, "random_get") => linker.func_wrap(module, name, random_get)?,
        // WASI's own knows no exit codes above 125.
        (wasi::MODULE, "proc_exit") => {
            linker
                .func_wrap(module, name, |code: i32| -> wasmtime::Result<()> { Err(I32Exit(code).into()) })?
        }
        (wasi::MODULE, _) => return wasi::define(linker, name).map(drop),
        (MIDGE, "progress") => linker.func_wrap(module, name, progress)?,
        (MIDGE, "error") => linker.func_wrap(module, name, error)?,
        (MIDGE, "retry_after") => {
            linker.func_wrap(module, name, |mut caller: Caller<'_, Guest>, ms: i64| {
                caller.data_mut().retry_after_ms = Some(bounded_ms(ms));
            })?
        }
        (MIDGE, "snooze") => linker.func_wrap(module, name, |mut caller: Caller<'_, Guest>, ms: i64| {
            caller.data_mut().snooze_ms = Some(bounded_ms(ms));
        })?,
        (MIDGE, "save") => linker.func_wrap_async(module, name, |caller, (ptr, len): (i32, i32)| {
            Box::new(save(caller, ptr, len))
        })?,
        (MIDGE, name) if http::NAMES.contains(&name) => return http::define(linker, name),
        (MIDGE, "saved") => linker.func_wrap(module, name, saved)?,
        (MIDGE, "enqueue") => linker.func_wrap(module, name, enqueue::enqueue)?,
        (MIDGE, "enqueue_error") => linker.func_wrap(module, name, enqueue::enqueue_error)?,
        _ => return Ok(()),
    };
    Ok(())
}

fn bounded_ms(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or(0).min(PUT_OFF_MAX.as_millis() as u64)
}

fn progress(
    mut caller: Caller<'_, Guest>,
    done: i64,
    total: i64,
    ptr: i32,
    len: i32,
) -> wasmtime::Result<()> {
    let message = read_text(&mut caller, ptr, len)?;
    let count = |n: i64| u64::try_from(n).unwrap_or(0);
    let progress = Progress { done: count(done), total: count(total), message };
    caller.data().shared.set_progress(progress);
    Ok(())
}

fn error(mut caller: Caller<'_, Guest>, ptr: i32, len: i32) -> wasmtime::Result<()> {
    let message = read_text(&mut caller, ptr, len)?;
    caller.data_mut().error = Some(message);
    Ok(())
}

fn random_get(mut caller: Caller<'_, Guest>, ptr: i32, len: i32) -> wasmtime::Result<i32> {
    if u64::from(len as u32) > RANDOM_BYTES_MAX {
        return Err(Over::Random { bytes: len as u32 }.into());
    }
    let (memory, guest) = memory(&mut caller)?;
    let Some(bytes) = slice(ptr, len).and_then(|range| memory.get_mut(range)) else {
        return Ok(errno::FAULT);
    };
    for chunk in bytes.chunks_mut(RANDOM_CHUNK) {
        guest.shared.go_on()?;
        if let Some(world) = &guest.world {
            world.fill_random(chunk);
            continue;
        }
        if let Err(error) = getrandom::fill(chunk) {
            guest.lacked.get_or_insert_with(|| format!("randomness ({error})"));
            return Ok(errno::IO);
        }
    }
    Ok(errno::SUCCESS)
}

/// Returns 0 once the state is safe, and 1 where it is too large to be.
async fn save(mut caller: Caller<'_, Guest>, ptr: i32, len: i32) -> wasmtime::Result<i32> {
    let state = read(&mut caller, "a state", ptr, len)?;
    if state.len() > SAVED_BYTES_MAX {
        return Ok(1);
    }
    let state = Bytes::copy_from_slice(state);
    let shared = Arc::clone(&caller.data().shared);
    shared.go_on()?;
    shared.save(state.clone()).await;
    caller.data_mut().saved = Some(state);
    Ok(0)
}

/// Copies as much as there is room for, and returns the length of all; -1 where nothing was saved.
fn saved(mut caller: Caller<'_, Guest>, ptr: i32, room: i32) -> wasmtime::Result<i32> {
    let (memory, guest) = memory(&mut caller)?;
    copy(guest.saved.as_deref(), "the room for a state", memory, ptr, room)
}

/// Copies as much as there is room for, and returns the length of all; -1 where there is nothing.
fn copy(from: Option<&[u8]>, what: &str, memory: &mut [u8], ptr: i32, room: i32) -> wasmtime::Result<i32> {
    let Some(from) = from else { return Ok(-1) };
    let to = bytes_at(memory, what, ptr, room)?;
    let copied = from.len().min(to.len());
    to[..copied].copy_from_slice(&from[..copied]);
    Ok(i32::try_from(from.len()).expect("what is copied has its bound"))
}

/// Reads a message of the guest, cut to its bound and made valid UTF-8.
fn read_text(caller: &mut Caller<'_, Guest>, ptr: i32, len: i32) -> wasmtime::Result<String> {
    let bytes = read(caller, "a message", ptr, len)?;
    let bytes = &bytes[..bytes.len().min(MESSAGE_BYTES_MAX)];
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

fn read<'a>(caller: &'a mut Caller<'_, Guest>, what: &str, ptr: i32, len: i32) -> wasmtime::Result<&'a [u8]> {
    let (memory, _) = memory(caller)?;
    Ok(bytes_at(memory, what, ptr, len)?)
}

/// Returns a part of a guest's memory. `what` it is for stands in the error of one that is beyond it.
fn bytes_at<'a>(memory: &'a mut [u8], what: &str, ptr: i32, len: i32) -> wasmtime::Result<&'a mut [u8]> {
    slice(ptr, len)
        .and_then(|range| memory.get_mut(range))
        .ok_or_else(|| wasmtime::Error::msg(format!("{what} reaches beyond the guest's memory")))
}

fn slice(ptr: i32, len: i32) -> Option<std::ops::Range<usize>> {
    // Addresses are unsigned; wasm just has no such type.
    let start = ptr as u32 as usize;
    Some(start..start.checked_add(len as u32 as usize)?)
}

fn memory<'a>(caller: &'a mut Caller<'_, Guest>) -> wasmtime::Result<(&'a mut [u8], &'a mut Guest)> {
    match caller.get_export("memory") {
        Some(Extern::Memory(memory)) => Ok(memory.data_and_store_mut(caller)),
        _ => Err(wasmtime::Error::msg("the module does not export its memory as `memory`")),
    }
}

/// Why a module is unfit to be a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It exports no function `_start` without parameters and results, so it is no WASI command.
    #[error("it exports no function `_start`: build a program with a main function, not a library")]
    NoStart,
    /// It imports something that no guest can import.
    #[error("it imports `{module}` `{name}`, which a job does not have{}", nearest.as_ref().map(|n| format!(": did you mean `{n}`?")).unwrap_or_default())]
    UnknownImport {
        /// The module part of the import, such as `wasi_snapshot_preview1`.
        module: String,
        /// The name part of the import, such as `fd_write`.
        name: String,
        /// The name of the same module that was probably meant, if one is like it.
        nearest: Option<String>,
    },
    /// It imports something under another type than it has.
    #[error("it imports `{module}` `{name}` as {wanted}, which is {given}")]
    WrongImport {
        /// The module part of the import, such as `wasi_snapshot_preview1`.
        module: String,
        /// The name part of the import, such as `fd_write`.
        name: String,
        /// The type that the module declares, as text.
        wanted: String,
        /// The type that the import has, as text.
        given: String,
    },
}

/// Checks that a module is a command.
fn check_start(module: &Module) -> Result<(), Unfit> {
    let is_start =
        |ty: ExternType| matches!(ty, ExternType::Func(f) if f.params().len() == 0 && f.results().len() == 0);
    if module.get_export("_start").is_some_and(is_start) { Ok(()) } else { Err(Unfit::NoStart) }
}

/// Finds the first import of a module that there is not. wasmtime only tells that there is one.
fn check_imports(linker: &Linker<Guest>, module: &Module) -> Result<(), Unfit> {
    let mut store = Store::new(module.engine(), Guest::detached());
    for import in module.imports() {
        match linker.get(&mut store, import.module(), import.name()) {
            Err(_) => return Err(unknown(linker, &mut store, import.module(), import.name())),
            Ok(given) => {
                let (wanted, given) = (type_text(&import.ty()), type_text(&given.ty(&store)));
                if wanted != given {
                    let (module, name) = (shown::cut(import.module()), shown::cut(import.name()));
                    let (wanted, given) = (shown::cut(&wanted), shown::cut(&given));
                    return Err(Unfit::WrongImport { module, name, wanted, given });
                }
            }
        }
    }
    Ok(())
}

fn unknown(linker: &Linker<Guest>, store: &mut Store<Guest>, module: &str, name: &str) -> Unfit {
    let names: Vec<&str> = linker.iter(store).filter(|(m, ..)| *m == module).map(|(_, n, _)| n).collect();
    let nearest = midge_protocol::nearest(name, names).map(str::to_owned);
    Unfit::UnknownImport { module: shown::cut(module), name: shown::cut(name), nearest }
}

fn type_text(ty: &ExternType) -> String {
    match ty {
        ExternType::Func(f) => {
            let list = |word: &str, types: Vec<String>| match types.is_empty() {
                true => String::new(),
                false => format!(" ({word} {})", types.join(" ")),
            };
            let params = list("param", f.params().map(|t| t.to_string()).collect());
            let results = list("result", f.results().map(|t| t.to_string()).collect());
            format!("(func{params}{results})")
        }
        ExternType::Global(_) => "a global".to_owned(),
        ExternType::Table(_) => "a table".to_owned(),
        ExternType::Memory(_) => "a memory".to_owned(),
        _ => "something else".to_owned(),
    }
}
