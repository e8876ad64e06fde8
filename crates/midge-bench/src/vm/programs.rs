//! The programs that a virtual machine starts: the host with its guest, and a floor. Both write text, since a console
//! does not pass on bytes as they are.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use midge_build::{PROJECT_FILE, Project};
use midge_cli::build::Builder;
use midge_cli::words;
use midge_protocol::manifest;

use super::initramfs::Initramfs;
use crate::modules::compiled_path;

/// The guest: `guest ` and 16 hexadecimal digits, the real-time clock in nanoseconds, read by its first instruction.
const GUEST: &str = "stamp-text";

const PROJECT: &str = r#"
[modules.stamp-text]
wasm = "stamp-text.wasm"
"#;

const GUEST_TEXT: &str = r#"
(module
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\17\00\00\00")
  (data (i32.const 16) "guest 0000000000000000\n")
  (func (export "_start") (local $stamp i64) (local $digit i32) (local $at i32)
    (drop (call $clock (i32.const 0) (i64.const 1) (i32.const 48)))
    (local.set $stamp (i64.load (i32.const 48)))
    ;; From the last digit to the first.
    (local.set $at (i32.const 37))
    (loop $next
      (local.set $digit (i32.and (i32.wrap_i64 (local.get $stamp)) (i32.const 15)))
      (i32.store8 (local.get $at)
        (i32.add (local.get $digit)
          (select (i32.const 87) (i32.const 48) (i32.gt_u (local.get $digit) (i32.const 9)))))
      (local.set $stamp (i64.shr_u (local.get $stamp) (i64.const 4)))
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (br_if $next (i32.gt_u (local.get $at) (i32.const 21))))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 40)))))
"#;

/// Says the same of itself as a host with `--timings`, as far as it has it.
const FLOOR_SOURCE: &str = r#"
#include <stdio.h>
#include <time.h>
static unsigned long long now(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000ull + now.tv_nsec;
}
int main(void) {
    unsigned long long main_at = now(CLOCK_REALTIME), booted = now(CLOCK_BOOTTIME);
    return printf("{\"main_at\":%llu,\"booted\":%llu}\n", main_at, booted) < 0;
}
"#;

/// A program for a virtual machine: a filesystem, and what the kernel starts in it.
pub(super) struct Program {
    pub(super) name: String,
    pub(super) initramfs: PathBuf,
    /// The path of the program that the kernel starts, and its arguments.
    pub(super) command: Vec<String>,
    /// All files in the filesystem with their sizes, for people.
    pub(super) files: String,
}

/// Makes the host's filesystem: host, manifest, one module.
pub(super) fn host(folder: &Path, host: &Path) -> Result<Program> {
    let modules = compile(folder)?;
    let (manifest, module) = (modules.join(manifest::FILE_NAME), compiled_path(&modules, GUEST));
    let inside = [
        ("midge-host", host),
        ("modules/manifest.json", manifest.as_path()),
        ("modules/stamp-text.cwasm", module.as_path()),
    ];
    let command = ["/midge-host", "run", GUEST, "--modules", "/modules", "--timings"];
    program(folder, &format!("midge-host run {GUEST}"), &["modules"], &inside, &command)
}

/// Makes the filesystem of a static C program that looks at its clocks and ends.
pub(super) fn floor(folder: &Path) -> Result<Program> {
    let (source, floor) = (folder.join("vm-floor.c"), folder.join("vm-floor"));
    std::fs::write(&source, FLOOR_SOURCE)?;
    let mut cc = Command::new("cc");
    let output = cc.args(["-static", "-O2", "-o"]).arg(&floor).arg(&source).output();
    let output = match output {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!("cc is not installed"),
        output => output.context("cannot start cc")?,
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("cc ended with {}: {}", output.status, said.lines().next().unwrap_or_default());
    }
    program(folder, "floor: static C", &[], &[("floor", floor.as_path())], &["/floor"])
}

fn program(
    folder: &Path,
    name: &str,
    directories: &[&str],
    files: &[(&str, &Path)],
    command: &[&str],
) -> Result<Program> {
    let mut initramfs = Initramfs::new();
    directories.iter().for_each(|directory| initramfs.directory(directory));
    let mut listed = vec!["/dev/console".to_owned()];
    for (inside, path) in files {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        initramfs.file(inside, &bytes);
        listed.push(format!("/{inside} ({})", words::bytes(bytes.len() as u64)));
    }
    let path = folder.join(format!("{}.cpio", command[0].trim_start_matches('/')));
    std::fs::write(&path, initramfs.end()).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Program {
        name: name.to_owned(),
        initramfs: path,
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        files: listed.join(", "),
    })
}

/// Compiles the guest, and returns the folder of it and its manifest. This blocks.
fn compile(folder: &Path) -> Result<PathBuf> {
    let folder = &folder.join("vm");
    std::fs::create_dir_all(folder)?;
    let wasm = wat::parse_str(GUEST_TEXT).with_context(|| format!("{GUEST} is not WebAssembly text"))?;
    std::fs::write(folder.join(format!("{GUEST}.wasm")), wasm)?;
    std::fs::write(folder.join(PROJECT_FILE), PROJECT)?;
    Ok(Builder::new(None)?.build(&Project::read(folder)?)?.out)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{SystemTime, UNIX_EPOCH};

    use midge_engine::{Attempt, Modules, Place};
    use midge_protocol::exchange::{AttemptRef, Outcome};
    use midge_protocol::{AttemptNumber, JobId, ModuleName};

    use super::super::console::guest_at;
    use super::*;

    #[tokio::test]
    async fn the_guest_writes_the_time_as_the_console_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let modules = compile(folder.path()).unwrap();
        let module = Modules::open(&modules).unwrap().load(&ModuleName::new(GUEST).unwrap()).unwrap();
        let attempt = Attempt {
            id: AttemptRef::new(JobId::generate(), AttemptNumber(1)),
            queue: module.entry.queue.clone(),
            args: "null".to_owned(),
            input: None,
            guest_args: Vec::new(),
            saved: None,
            env: Vec::new(),
            dirs: Vec::new(),
            lines: None,
            world: Default::default(),
            limits: module.entry.limits,
            changed: Arc::default(),
            module,
        };
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let before = now();
        let ended = Place::start(0).unwrap().run(attempt).ended().await;
        let Outcome::Completed { result } = ended.outcome else { panic!("{:?}", ended.outcome) };
        let text = String::from_utf8(result.to_vec()).unwrap();
        let at = guest_at(text.strip_suffix('\n').unwrap()).unwrap();
        assert!((before..=now()).contains(&at.into()), "{text}");
    }
}
