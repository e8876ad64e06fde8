//! Looks into a `.wasm` file before it is compiled: is it a WASI command, and can every import be satisfied?

use std::collections::{BTreeMap, BTreeSet};

use midge_engine::Import;
use midge_protocol::{nearest, shown};
use wasmparser::types::{EntityType, TypesRef};
use wasmparser::{FuncType, Parser, Validator};

use crate::toolchain::GUEST_TARGET;

/// Of what is wrong with a module that is no valid WebAssembly, what is shown.
const INVALID_BYTES_MAX: usize = 500;
/// What is named at most of many missing imports.
const MISSING_SHOWN_MAX: usize = 8;
const MIDGE: &str = "midge";
const WASI: &str = "wasi_snapshot_preview1";
const PAGE_BYTES: u64 = 64 * 1024;

/// Why a `.wasm` file is not a module that midge can run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WasmError {
    /// It is something else, such as text or native code; the text says what.
    #[error("it is {0}")]
    NotWasm(&'static str),
    /// It is a component of WebAssembly, and no module.
    #[error(
        "it is a WebAssembly component, and midge runs modules: build it for {GUEST_TARGET} (not wasm32-wasip2)"
    )]
    Component,
    /// It breaks a rule of WebAssembly, or uses a part of it that jobs cannot; the text says which.
    #[error("it is not valid WebAssembly: {0}")]
    Invalid(String),
    /// It exports no function `_start` without parameters, so it is no command; the text says what to do.
    #[error("it exports no function `_start` without parameters: {0}")]
    NoStart(&'static str),
    /// It exports no memory, from which host calls would read.
    #[error("it exports no memory named `memory`, which WASI needs: link it as a WASI command")]
    NoMemory,
    /// Its memory is larger than its limit from the beginning, so it could never start.
    #[error(
        "it begins with {} of memory, more than its limit of {}: raise `memory_limit`", size(*.begins), size(*.limit)
    )]
    MemoryOverLimit {
        /// The size that its memory begins with, in bytes.
        begins: u64,
        /// The limit of its memory, in bytes.
        limit: u64,
    },
    /// It imports what no guest can import.
    #[error("nothing offers what it imports: {}", list(.0))]
    Imports(Vec<MissingImport>),
}

/// An import that no guest can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingImport {
    /// The module and the name of the import, as `MODULE.NAME`.
    pub name: String,
    /// What may be behind it and what to do, where there is a guess.
    pub hint: Option<String>,
}

/// Says a size exactly, in the largest unit that does, as `memory_limit` may be written.
fn size(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let fits = |(unit, _): &(u64, &str)| bytes > 0 && bytes.is_multiple_of(*unit);
    match units.into_iter().find(fits) {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes} bytes"),
    }
}

fn list(missing: &[MissingImport]) -> String {
    let mut text: Vec<String> =
        missing.iter().take(MISSING_SHOWN_MAX).map(|import| format!("`{}`", import.name)).collect();
    if missing.len() > MISSING_SHOWN_MAX {
        text.push(format!("and {} more", missing.len() - MISSING_SHOWN_MAX));
    }
    let mut hints: Vec<&str> = missing.iter().filter_map(|import| import.hint.as_deref()).collect();
    hints.dedup();
    let hints = hints.iter().take(MISSING_SHOWN_MAX).map(|hint| format!("; {hint}")).collect::<String>();
    format!("{}{hints}", text.join(", "))
}

/// What guests can import, to check modules against.
pub(crate) struct Checks {
    /// The type of each import, by module and name.
    offered: BTreeMap<(String, String), String>,
}

impl Checks {
    pub(crate) fn new(offered: Vec<Import>) -> Checks {
        Checks { offered: offered.into_iter().map(|i| ((i.module, i.name), i.ty)).collect() }
    }

    /// Checks a file's bytes, and returns the names of midge's own functions that it imports.
    pub(crate) fn check(&self, wasm: &[u8], memory_limit: u64) -> Result<BTreeSet<String>, WasmError> {
        what_it_is(wasm)?;
        let invalid = |error: wasmparser::BinaryReaderError| {
            let mut message = error.to_string();
            // It may hold a name of the module's, however long.
            message.truncate(message.floor_char_boundary(INVALID_BYTES_MAX));
            WasmError::Invalid(message)
        };
        let types = Validator::new().validate_all(wasm).map_err(invalid)?;
        let types = types.as_ref();
        self.imports(types)?;
        exports(types)?;
        let begins = (0..types.memory_count()).map(|index| types.memory_at(index).initial).sum::<u64>();
        let begins = begins.saturating_mul(PAGE_BYTES);
        if begins > memory_limit {
            return Err(WasmError::MemoryOverLimit { begins, limit: memory_limit });
        }
        let imports = types.core_imports().into_iter().flatten();
        Ok(imports.filter(|(module, ..)| *module == MIDGE).map(|(_, name, _)| name.to_owned()).collect())
    }

    fn imports(&self, types: TypesRef<'_>) -> Result<(), WasmError> {
        let imports = types.core_imports().into_iter().flatten();
        let missing: Vec<MissingImport> = imports
            .filter_map(|(module, name, entity)| {
                let hint = self.problem(types, module, name, entity)?;
                Some(MissingImport { name: format!("{}.{}", shown::cut(module), shown::cut(name)), hint })
            })
            .collect();
        if missing.is_empty() { Ok(()) } else { Err(WasmError::Imports(missing)) }
    }

    /// Returns nothing where the import can be satisfied, else perhaps a hint.
    fn problem(
        &self,
        types: TypesRef<'_>,
        module: &str,
        name: &str,
        entity: EntityType,
    ) -> Option<Option<String>> {
        let wanted = type_text(types, entity);
        match self.offered.get(&(module.to_owned(), name.to_owned())) {
            Some(offered) if *offered == wanted => None,
            Some(offered) => {
                let wanted = shown::cut(&wanted);
                Some(Some(format!("`{name}` is imported as `{wanted}`, but it is `{offered}`")))
            }
            None => Some(self.hint(module, name)),
        }
    }

    fn hint(&self, module: &str, name: &str) -> Option<String> {
        if module.starts_with("__wbindgen") || module == "wbg" {
            return Some(format!(
                "it was compiled for a browser (wasm-bindgen): build it for {GUEST_TARGET}, and without the \
                 `js` features of its dependencies"
            ));
        }
        if module == "wasi_unstable" {
            return Some(
                "it was compiled for an old preview of WASI: build it with a newer toolchain".to_owned(),
            );
        }
        if module == "wasi" && name == "thread-spawn" {
            return Some(format!("jobs have one thread: build it for {GUEST_TARGET} (not -threads)"));
        }
        if module == "env" {
            let name = shown::cut(name);
            return Some(format!(
                "`{name}` is a symbol that no library defined when it was linked, or a function of another host"
            ));
        }
        if module.starts_with("wasi:") {
            return Some(format!("that is WASI 0.2: build it for {GUEST_TARGET} (not wasm32-wasip2)"));
        }
        let names = self.offered.keys().filter(|(m, _)| m == module).map(|(_, name)| name.as_str());
        match nearest(name, names) {
            Some(nearest) => Some(format!("did you mean `{module}.{nearest}`?")),
            None if module == WASI => Some("jobs have no network and no threads".to_owned()),
            None => None,
        }
    }
}

fn what_it_is(bytes: &[u8]) -> Result<(), WasmError> {
    if bytes.is_empty() {
        Err(WasmError::NotWasm("empty"))
    } else if bytes.starts_with(b"\x7fELF") {
        Err(WasmError::NotWasm("native code, or compiled already: name the `.wasm` file"))
    } else if bytes.trim_ascii_start().starts_with(b"(") || bytes.starts_with(b";;") {
        Err(WasmError::NotWasm("WebAssembly text: make a binary of it with `wat2wasm` or `wasm-tools parse`"))
    } else if !bytes.starts_with(b"\0asm") {
        Err(WasmError::NotWasm("not WebAssembly at all: its first bytes are wrong"))
    } else if Parser::is_component(bytes) {
        Err(WasmError::Component)
    } else {
        Ok(())
    }
}

fn exports(types: TypesRef<'_>) -> Result<(), WasmError> {
    let exports: BTreeMap<&str, EntityType> = types.core_exports().into_iter().flatten().collect();
    let start = exports.get("_start");
    if !start.is_some_and(|entity| func(types, *entity).is_some_and(is_plain)) {
        return Err(WasmError::NoStart(match start {
            Some(_) => "its `_start` is something else",
            None if exports.contains_key("_initialize") => "it is a library; build a program with a `main`",
            None => "build a program with a `main` for wasm32-wasip1",
        }));
    }
    match exports.get("memory") {
        Some(EntityType::Memory(_)) => Ok(()),
        _ => Err(WasmError::NoMemory),
    }
}

fn is_plain(func: &FuncType) -> bool {
    func.params().is_empty() && func.results().is_empty()
}

fn func<'a>(types: TypesRef<'a>, entity: EntityType) -> Option<&'a FuncType> {
    match entity {
        EntityType::Func(id) => Some(types.get(id)?.unwrap_func()),
        _ => None,
    }
}

/// Writes a type as `midge_engine::Import::ty` does.
fn type_text(types: TypesRef<'_>, entity: EntityType) -> String {
    let Some(func) = func(types, entity) else {
        return match entity {
            EntityType::Global(_) => "a global",
            EntityType::Table(_) => "a table",
            EntityType::Memory(_) => "a memory",
            _ => "something else",
        }
        .to_owned();
    };
    let list = |word: &str, types: &[wasmparser::ValType]| match types {
        [] => String::new(),
        types => format!(" ({word} {})", types.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")),
    };
    format!("(func{}{})", list("param", func.params()), list("result", func.results()))
}

#[cfg(test)]
mod tests;
