//! Bad modules, from `midge.toml` to the host that is to load them: each is refused, named, and nothing of it runs.

use std::fs;
use std::process::Command;

use midge_protocol::manifest::{FILE_NAME, ModuleEntry};
use midge_protocol::{ModuleName, manifest};
use midge_tests::support::{Files, Modules, Ran, host_program, midge, run, serve};
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_64;

const GOOD: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

/// Writes `midge.toml` and modules, and builds them.
fn build(config: &str, modules: &[(&str, &[u8])]) -> Ran {
    let project = Files::new();
    project.write("midge.toml", config);
    modules.iter().for_each(|(file, bytes)| drop(project.write(file, bytes)));
    let mut command = midge(&["build"]);
    command.arg(project.dir());
    let ran = run(command, b"");
    assert!(ran.code == Some(0) || !project.path("target/midge").join(FILE_NAME).exists(), "{}", ran.stderr);
    ran
}

/// Builds one module from its text.
fn build_wat(wat: &str) -> Ran {
    build("[modules.odd]\nwasm = \"odd.wasm\"", &[("odd.wasm", &wat::parse_str(wat).unwrap())])
}

#[test]
fn a_malformed_midge_toml_is_refused_with_its_line_and_the_nearest_key() {
    let wasm = "[modules.a]\nwasm = \"a.wasm\"\n";
    let cases = [
        ("[modules", "midge.toml:1: this is not TOML"),
        ("[module.a]\nwasm = \"a\"", "midge.toml:1: unknown key `module`: did you mean `modules`?"),
        (
            &format!("{wasm}timelimit = \"1s\""),
            "midge.toml:3: unknown key `timelimit` in [modules.a]: did you mean `time_limit`?",
        ),
        (&format!("{wasm}time_limit = \"soon\""), "midge.toml:3: `time_limit`"),
        (
            &format!("{wasm}[queues.a]\nmax_machines = 0"),
            "midge.toml:4: `max_machines` must be a whole number from 1",
        ),
        ("[modules.a]\n", "midge.toml:1: "),
        ("", "midge.toml:1: it names no module"),
    ];
    for (config, says) in cases {
        build(config, &[]).fails(1, &[says]);
    }
    let mut nowhere = midge(&["build"]);
    let empty = Files::new();
    nowhere.current_dir(empty.dir());
    run(nowhere, b"").fails(1, &["there is no midge.toml", "midge new"]);
}

#[test]
fn a_module_that_is_no_command_is_refused() {
    build_wat(GOOD).ok();
    build_wat("(module (memory (export \"memory\") 1))").fails(1, &["`odd`", "`_start`", "wasm32-wasip1"]);
    let library = "(module (memory (export \"memory\") 1) (func (export \"_initialize\")))";
    build_wat(library).fails(1, &["it is a library"]);
    build_wat("(module (func (export \"_start\")))").fails(1, &["no memory named `memory`"]);
    let parameter = "(module (memory (export \"memory\") 1) (func (export \"_start\") (param i32)))";
    build_wat(parameter).fails(1, &["its `_start` is something else"]);
    build_wat("(component)").fails(1, &["component", "not wasm32-wasip2"]);
    let huge = "(module (memory (export \"memory\") 5000) (func (export \"_start\")))";
    build_wat(huge).fails(1, &["320000KiB of memory", "memory_limit"]);

    let config = "[modules.odd]\nwasm = \"odd.wasm\"";
    build(config, &[("odd.wasm", b"hello")]).fails(1, &["not WebAssembly at all"]);
    build(config, &[("odd.wasm", b"")]).fails(1, &["it is empty"]);
    build(config, &[("odd.wasm", GOOD.as_bytes())]).fails(1, &["WebAssembly text"]);
    build(config, &[]).fails(1, &["`odd`", "odd.wasm"]);
    let whole = wat::parse_str(GOOD).unwrap();
    build(config, &[("odd.wasm", &whole[..whole.len() - 3])]).fails(1, &["not valid WebAssembly"]);
}

#[test]
fn an_import_that_nobody_offers_is_named() {
    let importing = |import: &str| {
        let wat =
            format!("(module (import {import}) (memory (export \"memory\") 1) (func (export \"_start\")))");
        build_wat(&wat)
    };
    let near = "\"wasi_snapshot_preview1\" \"fd_wriet\" (func (param i32 i32 i32 i32) (result i32))";
    importing(near)
        .fails(1, &["`wasi_snapshot_preview1.fd_wriet`", "did you mean `wasi_snapshot_preview1.fd_write`?"]);
    importing("\"env\" \"malloc\" (func)").fails(1, &["`env.malloc`"]);
    importing("\"wbg\" \"__wbg_log\" (func)").fails(1, &["`wbg.__wbg_log`", "browser"]);
    importing("\"midge\" \"snooze\" (func (param i32))").fails(1, &["`midge.snooze`", "(param i64)"]);
}

#[test]
fn without_a_toolchain_the_error_says_how_to_get_one() {
    let project = Files::new();
    project.write("midge.toml", "[modules.a]\npackage = \"a\"");
    project.write(
        "a/Cargo.toml",
        "[package]\nname = \"a\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n",
    );
    project.write("a/src/main.rs", "fn main() {}");
    let programs = project.path("bin");
    let build = || {
        let mut command = midge(&["build"]);
        command.arg(project.dir()).env_clear().env("PATH", &programs).env("HOME", project.path("home"));
        run(command, b"")
    };
    build().fails(1, &["`rustc` does not run", "install Rust"]);

    // A Rust without the guest target, on a machine with neither rustup nor apt.
    fs::create_dir(&programs).unwrap();
    let answer = "#!/bin/sh\necho /no/such/sysroot\necho /no/such/libraries\n";
    midge_build::write_program(&programs.join("rustc"), answer).unwrap();
    let says = [
        "no Rust toolchain for wasm32-wasip1",
        "there is no rustup",
        "is not installed",
        "rustup target add",
    ];
    build().fails(1, &says);

    let mut explicit = midge(&["build", "--rustc", "/no/such/rustc"]);
    explicit.arg(project.dir());
    run(explicit, b"").fails(1, &["`/no/such/rustc` cannot build guests"]);
}

#[test]
fn code_that_does_not_compile_is_shown_as_the_compiler_shows_it() {
    let project = Files::new();
    project.write("midge.toml", "[modules.broken]\npackage = \"broken\"");
    let manifest = "[package]\nname = \"broken\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n";
    project.write("broken/Cargo.toml", manifest);
    project.write("broken/src/main.rs", "fn main() { let moon: u32 = \"full\"; }");
    let mut command = midge(&["build"]);
    command.arg(project.dir());
    run(command, b"").fails(1, &["mismatched types", "src/main.rs:1", "\"full\""]);
}

/// Runs `hello` by hand from a folder of modules.
fn run_hello(modules: &Modules) -> Ran {
    let mut command = Command::new(host_program());
    command.args(["run", "hello", "--args", r#"{"name": "x"}"#]).env("MIDGE_MODULES", modules.dir());
    run(command, b"")
}

/// Changes the compiled `hello`, and, if the manifest is to agree, its entry.
fn change_hello(modules: &Modules, agree: bool, change: impl FnOnce(&mut Vec<u8>)) {
    let path = modules.dir().join("hello.cwasm");
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(&path, &bytes).unwrap();
    if agree {
        modules.change(|manifest| {
            let entry: &mut ModuleEntry = manifest.modules.get_mut("hello").unwrap();
            entry.size = bytes.len() as u64;
            entry.xxh3 = format!("{:016x}", xxh3_64(&bytes));
            entry.sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        });
    }
}

fn flip_in_the_middle(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
}

#[test]
fn a_compiled_module_that_is_not_what_was_built_is_refused_by_the_host() {
    let modules = Modules::examples();
    change_hello(&modules, false, |bytes| flip_in_the_middle(bytes));
    run_hello(&modules).fails(1, &["`hello` was altered", "midge build"]);

    let modules = Modules::examples();
    change_hello(&modules, false, |bytes| bytes.truncate(4096));
    run_hello(&modules).fails(1, &["`hello` is truncated, 4096 of", "midge build"]);

    let modules = Modules::examples();
    change_hello(&modules, false, |bytes| bytes.extend(b"more"));
    run_hello(&modules).fails(1, &["`hello` was altered"]);

    let modules = Modules::examples();
    fs::remove_file(modules.dir().join("hello.cwasm")).unwrap();
    run_hello(&modules).fails(1, &["cannot read module `hello`", "midge build"]);

    // A manifest that agrees with a file that no compiler made.
    let modules = Modules::examples();
    change_hello(&modules, true, |bytes| bytes.fill(7));
    run_hello(&modules).fails(1, &["`hello` was refused"]);
}

#[test]
fn a_compiled_module_of_another_version_configuration_or_cpu_is_refused_by_the_host() {
    let changed = |change: fn(&mut manifest::Manifest)| {
        let modules = Modules::examples();
        modules.change(change);
        run_hello(&modules)
    };
    changed(|manifest| manifest.wasmtime = "47.0.1".to_owned())
        .fails(1, &["compiled by wasmtime 47.0.1", "midge build"]);
    changed(|manifest| manifest.config_hash = "0123456789abcdef".to_owned())
        .fails(1, &["another configuration", "midge build"]);
    changed(|manifest| manifest.cpu = "x86-64-v9".to_owned()).fails(1, &["x86-64-v9", "midge build"]);
    changed(|manifest| manifest.format = 99).fails(1, &["format 99"]);

    // The manifest agrees, but the code says itself which wasmtime and configuration it is for.
    let modules = Modules::examples();
    let version = format!("{}+", modules.manifest().wasmtime);
    change_hello(&modules, true, |bytes| {
        let at = bytes.windows(version.len()).position(|text| text == version.as_bytes());
        bytes[at.expect("a compiled module holds its version") + version.len()] ^= 1;
    });
    run_hello(&modules).fails(1, &["`hello` was refused"]);
}

#[test]
fn a_server_does_not_start_on_modules_that_do_not_match_their_manifest() {
    let modules = Modules::examples();
    change_hello(&modules, false, |bytes| flip_in_the_middle(bytes));
    serve(&modules, &[]).fails(1, &["hello.cwasm", "does not match the manifest", "midge build"]);
    change_hello(&modules, false, |bytes| bytes.truncate(100));
    serve(&modules, &[]).fails(1, &["hello.cwasm", "its size differs"]);
    fs::remove_file(modules.dir().join("hello.cwasm")).unwrap();
    serve(&modules, &[]).fails(1, &["hello.cwasm", "cannot be read"]);
    fs::write(modules.dir().join(FILE_NAME), "{}").unwrap();
    serve(&modules, &[]).fails(1, &[FILE_NAME, "is not a module manifest"]);
    fs::remove_file(modules.dir().join(FILE_NAME)).unwrap();
    serve(&modules, &[]).fails(1, &[FILE_NAME, "run `midge build` first"]);
}

#[test]
fn a_server_does_not_start_on_modules_that_its_hosts_would_refuse() {
    let other_wasmtime = Modules::examples();
    other_wasmtime.change(|manifest| manifest.wasmtime = "47.0.1".to_owned());
    serve(&other_wasmtime, &[]).fails(1, &["compiled by wasmtime 47.0.1", "midge build"]);
    let other_configuration = Modules::examples();
    other_configuration.change(|manifest| manifest.config_hash = "0".repeat(16));
    serve(&other_configuration, &[]).fails(1, &["another configuration", "midge build"]);
}

#[test]
fn a_manifest_cannot_point_out_of_its_folder() {
    let modules = Modules::examples();
    modules.change(|manifest| {
        let hello = manifest.modules[&ModuleName::new("hello").unwrap()].clone();
        let entry = ModuleEntry { file: "../../etc/passwd".to_owned(), ..hello };
        manifest.modules.insert(ModuleName::new("other").unwrap(), entry);
    });
    let mut command = Command::new(host_program());
    command.args(["run", "other"]).env("MIDGE_MODULES", modules.dir());
    run(command, b"").fails(1, &["cannot read module `other`", "other.cwasm"]);
}
