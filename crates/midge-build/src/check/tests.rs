use super::*;

const MIB: u64 = 1 << 20;

fn check(wat: &str) -> Result<(), WasmError> {
    let checks = Checks::new(midge_engine::imports());
    checks.check(&wat::parse_str(wat).unwrap(), 16 * MIB).map(drop)
}

fn problem(wat: &str) -> String {
    check(wat).unwrap_err().to_string()
}

fn command(import: &str) -> String {
    format!(r#"(module {import} (memory (export "memory") 1) (func (export "_start")))"#)
}

#[test]
fn a_command_with_known_imports_passes() {
    let wasi = r#"(import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))"#;
    let midge = r#"(import "midge" "progress" (func (param i64 i64 i32 i32)))"#;
    assert_eq!(check(&command(&format!("{wasi} {midge}"))), Ok(()));
}

#[test]
fn every_missing_import_is_named() {
    let imports = r#"(import "env" "foo" (func)) (import "a" "b" (global i32))"#;
    let WasmError::Imports(missing) = check(&command(imports)).unwrap_err() else { panic!("another error") };
    let names: Vec<&str> = missing.iter().map(|import| import.name.as_str()).collect();
    assert_eq!(names, ["env.foo", "a.b"]);
}

#[test]
fn a_missing_import_comes_with_what_may_be_behind_it() {
    let cases = [
        (r#"(import "__wbindgen_placeholder__" "__wbindgen_throw" (func))"#, "wasm-bindgen"),
        (
            r#"(import "wasi_snapshot_preview1" "fd_wrlte" (func))"#,
            "did you mean `wasi_snapshot_preview1.fd_write`?",
        ),
        (r#"(import "midge" "progres" (func))"#, "did you mean `midge.progress`?"),
        (r#"(import "wasi_unstable" "fd_write" (func))"#, "old preview"),
        (r#"(import "wasi" "thread-spawn" (func))"#, "one thread"),
        (r#"(import "env" "memory" (memory 1))"#, "`env.memory`"),
    ];
    for (import, expected) in cases {
        let wat = match import.contains("(memory") {
            true => format!(r#"(module {import} (export "memory" (memory 0)) (func (export "_start")))"#),
            false => command(import),
        };
        assert!(problem(&wat).contains(expected), "{import}: {}", problem(&wat));
    }
}

#[test]
fn a_known_import_of_another_type_is_missing_too() {
    let wat = command(r#"(import "wasi_snapshot_preview1" "fd_write" (func (param i64)))"#);
    let expected = "`fd_write` is imported as `(func (param i64))`, but it is \
        `(func (param i32 i32 i32 i32) (result i32))`";
    assert!(problem(&wat).contains(expected), "{}", problem(&wat));
}

#[test]
fn a_library_is_no_job() {
    let wat = r#"(module (memory (export "memory") 1) (func (export "_initialize")))"#;
    assert!(problem(wat).contains("it is a library"), "{}", problem(wat));
    let wat = r#"(module (memory (export "memory") 1) (func (export "_start") (param i32)))"#;
    assert!(problem(wat).contains("its `_start` is something else"), "{}", problem(wat));
    assert_eq!(check(r#"(module (func (export "_start")))"#), Err(WasmError::NoMemory));
}

#[test]
fn a_module_that_could_never_start_is_refused() {
    let wat = r#"(module (memory (export "memory") 512) (func (export "_start")))"#;
    assert_eq!(check(wat), Err(WasmError::MemoryOverLimit { begins: 32 << 20, limit: 16 << 20 }));
    for (limit, told) in [(64 << 10, "64KiB"), (1 << 30, "1GiB"), (1_000_000, "1000000 bytes")] {
        let over = WasmError::MemoryOverLimit { begins: 1 << 20, limit };
        let says =
            format!("it begins with 1MiB of memory, more than its limit of {told}: raise `memory_limit`");
        assert_eq!(over.to_string(), says);
    }
}

#[test]
fn what_is_not_a_module_is_told_apart() {
    let checks = Checks::new(Vec::new());
    let cases: [(&[u8], &str); 6] = [
        (b"", "empty"),
        (b"\x7fELF\x02\x01", "compiled already"),
        (b" (module)", "WebAssembly text"),
        (b"#!/bin/sh", "not WebAssembly at all"),
        (b"\0asm\x0d\0\x01\0", "component"),
        (b"\0asm\x01\0\0\0\xff", "not valid WebAssembly"),
    ];
    for (bytes, expected) in cases {
        let problem = checks.check(bytes, MIB).unwrap_err().to_string();
        assert!(problem.contains(expected), "{bytes:?}: {problem}");
    }
}
