//! The guests that are measured: written here, so that they do exactly what is to be measured and nothing more.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use midge_build::{PROJECT_FILE, Project};
use midge_cli::build::Builder;
use midge_protocol::ModuleName;

/// The guest that reads the real-time clock with its first instruction, and writes it to stdout.
pub(super) const STAMP: &str = "stamp";
/// The guest that does what [`STAMP`] does, among 5,000 functions that are never called.
pub(super) const STAMP_LARGE: &str = "stamp-large";
/// The guest that returns at once.
pub(super) const NOOP: &str = "noop";
/// The guest that counts down from the number that is its args, and so takes the CPU for as long as that takes.
pub(super) const COUNT: &str = "count";
/// The guest that sleeps for an hour.
pub(super) const SLEEP: &str = "sleep";

/// The guest that makes as many requests as its args say, and writes when it began and when it ended.
pub(super) const FETCH: &str = "fetch";

/// The least size of the large module, compiled, in bytes.
const LARGE_BYTES_MIN: u64 = 2_000_000;
/// Functions in the large module, about as many as in a program of that size.
const LARGE_FUNCTIONS: u32 = 5_000;
/// Steps of each; together they make up the size.
const LARGE_STEPS: u32 = 40;

/// Places of the one host of the queue `warm`. None costs anything before its first attempt.
pub(super) const WARM_PLACES: u32 = 33;

/// The project; `warm` is for who wants a waiting host.
const PROJECT: &str = r#"
[queues.warm]
max_machines = 1
warm_machines = 1
jobs_per_machine = 33

[modules.stamp]
wasm = "stamp.wasm"

[modules.stamp-large]
wasm = "stamp-large.wasm"

[modules.noop]
wasm = "noop.wasm"

[modules.count]
wasm = "count.wasm"

[modules.sleep]
wasm = "sleep.wasm"

[modules.fetch]
wasm = "fetch.wasm"
"#;

/// The clock is the real-time one (0): a guest's monotonic clock begins with its context.
const STAMP_BODY: &str = r#"
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\08\00\00\00")
  (func (export "_start")
    (drop (call $clock (i32.const 0) (i64.const 1) (i32.const 16)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32))))
"#;

const NOOP_TEXT: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

/// argv goes to 0 and its text to 64. What is counted with is stored at the end, so that no compiler leaves it out.
const COUNT_TEXT: &str = r#"(module
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $text i32) (local $digit i32) (local $left i64) (local $x i64)
    (drop (call $args (i32.const 0) (i32.const 64)))
    (local.set $text (i32.load (i32.const 4)))
    (loop $digits
      (local.set $digit (i32.sub (i32.load8_u (local.get $text)) (i32.const 48)))
      (if (i32.lt_u (local.get $digit) (i32.const 10)) (then
        (local.set $left
          (i64.add (i64.mul (local.get $left) (i64.const 10)) (i64.extend_i32_u (local.get $digit))))
        (local.set $text (i32.add (local.get $text) (i32.const 1)))
        (br $digits))))
    (local.set $x (i64.const 88172645463325252))
    (block $done
      (loop $next
        (br_if $done (i64.eqz (local.get $left)))
        (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
        (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
        (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
        (local.set $left (i64.sub (local.get $left) (i64.const 1)))
        (br $next)))
    (i64.store (i32.const 8) (local.get $x))))
"#;

/// One subscription at 0: to the monotonic clock (1 at 16), an hour from now (nanoseconds at 24).
const SLEEP_TEXT: &str = r#"(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const 3600000000000))
    (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))
"#;

/// Its args are a text: how many requests, a space, and the head of each. The times are those of the real-time clock.
const FETCH_TEXT: &str = r#"(module
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "midge" "http_open" (func $open (param i32 i32 i32 i64) (result i32)))
  (import "midge" "http_send" (func $send (param i32) (result i32)))
  (import "midge" "http_read" (func $read (param i32 i32 i32) (result i32)))
  (import "midge" "http_close" (func $close (param i32)))
  (memory (export "memory") 2)
  (data (i32.const 32) "\30\00\00\00\10\00\00\00")
  (func (export "_start") (local $text i32) (local $digit i32) (local $left i32) (local $length i32) (local $request i32)
    (drop (call $args (i32.const 0) (i32.const 64)))
    (local.set $text (i32.add (i32.load (i32.const 4)) (i32.const 1)))
    (block $counted (loop $digits
      (local.set $digit (i32.sub (i32.load8_u (local.get $text)) (i32.const 48)))
      (local.set $text (i32.add (local.get $text) (i32.const 1)))
      (br_if $counted (i32.ge_u (local.get $digit) (i32.const 10)))
      (local.set $left (i32.add (i32.mul (local.get $left) (i32.const 10)) (local.get $digit)))
      (br $digits)))
    (block $ended (loop $letters
      (br_if $ended (i32.eq (i32.load8_u (i32.add (local.get $text) (local.get $length))) (i32.const 34)))
      (local.set $length (i32.add (local.get $length) (i32.const 1)))
      (br $letters)))
    (drop (call $clock (i32.const 0) (i64.const 1) (i32.const 48)))
    (loop $next
      (local.set $request (call $open (local.get $text) (local.get $length) (i32.const 0) (i64.const 0)))
      (if (i32.lt_s (call $send (local.get $request)) (i32.const 0)) (then unreachable))
      (loop $more
        (br_if $more (i32.gt_s (call $read (local.get $request) (i32.const 65536) (i32.const 65536)) (i32.const 0))))
      (call $close (local.get $request))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $next (local.get $left)))
    (drop (call $clock (i32.const 0) (i64.const 1) (i32.const 56)))
    (drop (call $write (i32.const 1) (i32.const 32) (i32.const 1) (i32.const 40)))))
"#;

/// Writes the guests into a folder, compiles them, and returns the folder of the compiled ones. This blocks.
pub(super) fn compile(folder: &Path) -> Result<PathBuf> {
    for (name, text) in [
        (STAMP, format!("(module {STAMP_BODY})")),
        (STAMP_LARGE, large_text()),
        (NOOP, NOOP_TEXT.to_owned()),
        (COUNT, COUNT_TEXT.to_owned()),
        (SLEEP, SLEEP_TEXT.to_owned()),
        (FETCH, FETCH_TEXT.to_owned()),
    ] {
        let wasm = wat::parse_str(text).with_context(|| format!("{name} is not WebAssembly text"))?;
        write(&wasm_path(folder, name), &wasm)?;
    }
    write(&folder.join(PROJECT_FILE), PROJECT.as_bytes())?;
    let built = Builder::new(None)?.build(&Project::read(folder)?)?;
    let large = built.manifest.modules.get(STAMP_LARGE).map_or(0, |module| module.size);
    if large < LARGE_BYTES_MIN {
        bail!("{STAMP_LARGE} has {large} bytes compiled, and is to have {LARGE_BYTES_MIN} at least");
    }
    Ok(built.out)
}

/// Returns the path of a guest's WebAssembly in the folder that [`compile`] was given.
pub(super) fn wasm_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.wasm"))
}

/// Returns the path of a compiled guest in the folder that [`compile`] returned.
pub(super) fn compiled_path(modules: &Path, name: &str) -> PathBuf {
    modules.join(format!("{name}.cwasm"))
}

/// Returns the time that a guest wrote, in nanoseconds since the Unix epoch; nothing where it is not eight bytes.
pub(super) fn stamp(result: &[u8]) -> Option<u128> {
    Some(u64::from_le_bytes(result.try_into().ok()?).into())
}

/// Returns the name of one of the guests here.
pub(super) fn name(name: &str) -> ModuleName {
    ModuleName::new(name).expect("the names here are well formed")
}

fn large_text() -> String {
    let mut text = format!("(module {STAMP_BODY}");
    for function in 0..LARGE_FUNCTIONS {
        text.push_str("(func (param i32) (result i32) local.get 0");
        for step in 0..LARGE_STEPS {
            // No two alike: nothing is to be folded into one.
            let number = function * LARGE_STEPS + step + 1;
            write!(text, " i32.const {number} i32.xor i32.const {} i32.mul", number * 2 + 1)
                .expect("a String takes all that is written");
        }
        text.push(')');
    }
    text.push(')');
    text
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_guest_is_compiled_and_the_large_one_is_large() {
        let folder = tempfile::tempdir().unwrap();
        let modules = compile(folder.path()).unwrap();
        for guest in [STAMP, STAMP_LARGE, NOOP, COUNT, SLEEP, FETCH] {
            assert!(compiled_path(&modules, guest).is_file(), "{guest}");
            assert_eq!(name(guest).as_str(), guest);
        }
    }

    #[test]
    fn the_places_of_the_warm_host_are_those_of_its_queue() {
        assert!(PROJECT.contains(&format!("jobs_per_machine = {WARM_PLACES}\n")));
    }

    #[test]
    fn a_stamp_is_eight_bytes() {
        assert_eq!(stamp(&7u64.to_le_bytes()), Some(7));
        assert_eq!(stamp(b"1234567"), None);
    }
}
