//! The programs that are started: a floor, midge's host, and what else is installed.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use midge_protocol::manifest;

use crate::checkout::Checkout;
use crate::commands::bench::{Bench, modules};

/// The name of the program that does nothing.
pub(super) const FLOOR: &str = "floor: static C";

const FLOOR_SOURCE: &str = r#"
#include <time.h>
#include <unistd.h>
int main(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    unsigned long long stamp = now.tv_sec * 1000000000ull + now.tv_nsec;
    return write(1, &stamp, sizeof stamp) != sizeof stamp;
}
"#;

/// A program to be started again and again.
pub(super) struct Program {
    pub(super) name: String,
    program: PathBuf,
    args: Vec<OsString>,
    stamp: Stamp,
    pub(super) module_bytes: Option<u64>,
    /// What it reads from the disk; nothing where that is not known.
    pub(super) files: Vec<PathBuf>,
}

/// How a program says when its first instruction ran.
#[derive(Debug, Clone, Copy)]
enum Stamp {
    /// Nanoseconds since the Unix epoch in eight bytes.
    Bytes,
    /// The same in decimal.
    Text,
    /// Not at all.
    None,
}

/// One run.
pub(super) struct Run {
    pub(super) first: Option<Duration>,
    pub(super) exit: Duration,
}

impl Program {
    /// Starts it, and waits until it has ended.
    pub(super) fn run(&self) -> Result<Run> {
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let started_at = SystemTime::now();
        let began = Instant::now();
        let mut child =
            command.spawn().with_context(|| format!("cannot start {}", self.program.display()))?;
        let mut output = Vec::new();
        child.stdout.take().expect("it is piped").read_to_end(&mut output)?;
        let status = child.wait()?;
        let exit = began.elapsed();
        if !status.success() {
            bail!("{} ended with {status}", self.name);
        }
        let stamp = match self.stamp {
            Stamp::Bytes => modules::stamp(&output),
            Stamp::Text => std::str::from_utf8(&output).ok().and_then(|text| text.trim().parse().ok()),
            Stamp::None => return Ok(Run { first: None, exit }),
        };
        let stamp = stamp.with_context(|| format!("{} wrote no time", self.name))?;
        let started = started_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let first = u64::try_from(stamp.saturating_sub(started)).map(Duration::from_nanos);
        Ok(Run { first: first.ok(), exit })
    }
}

/// What can be compared here, and what cannot.
pub(super) struct Programs {
    pub(super) there: Vec<Program>,
    /// A line for each that is missing.
    pub(super) missing: Vec<String>,
}

impl Programs {
    /// Finds them, makes the floor, and tries each once.
    pub(super) fn find(bench: &Bench) -> Programs {
        let mut programs = Programs { there: Vec::new(), missing: Vec::new() };
        programs.add("floor", floor(bench.folder.path()));
        programs.add("host", Ok(host(bench, &bench.modules, modules::STAMP, Stamp::Bytes)));
        programs.add("host", Ok(host(bench, &bench.modules, modules::STAMP_LARGE, Stamp::Bytes)));
        programs.add("hello", hello(bench));
        programs.add("wasmtime", wasmtime(bench.folder.path()));
        programs.add(
            "python3",
            script(
                "python3",
                "-c",
                "import sys; print(sys.executable)",
                "import time; print(time.time_ns())",
            ),
        );
        programs.add("node", script("node", "-e", "console.log(process.execPath)", NODE_STAMP));
        let ruby = "puts Process.clock_gettime(Process::CLOCK_REALTIME, :nanosecond)";
        programs.add("ruby", script("ruby", "-e", "puts RbConfig.ruby", ruby));
        programs
    }

    fn add(&mut self, name: &str, program: Result<Program>) {
        match program.and_then(|program| program.run().map(|_| program)) {
            Ok(program) => self.there.push(program),
            Err(error) => self.missing.push(format!("{name} is not compared: {error:#}")),
        }
    }
}

/// `Date.now()` has whole milliseconds only.
const NODE_STAMP: &str =
    "console.log(String(BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e6))))";

/// Compiles the program that does nothing.
fn floor(folder: &Path) -> Result<Program> {
    let (source, program) = (folder.join("floor.c"), folder.join("floor"));
    std::fs::write(&source, FLOOR_SOURCE)?;
    let mut cc = Command::new("cc");
    cc.args(["-static", "-O2", "-o"]).arg(&program).arg(&source);
    said(&mut cc)?;
    Ok(Program {
        name: FLOOR.to_owned(),
        files: vec![program.clone()],
        program,
        args: Vec::new(),
        stamp: Stamp::Bytes,
        module_bytes: None,
    })
}

/// A host that runs a module once.
fn host(bench: &Bench, modules: &Path, module: &str, stamp: Stamp) -> Program {
    let compiled = modules::compiled_path(modules, module);
    Program {
        name: format!("midge-host run {module}"),
        program: bench.host.clone(),
        args: ["run".into(), module.into(), "--modules".into(), modules.into()].into(),
        stamp,
        module_bytes: std::fs::metadata(&compiled).map(|data| data.len()).ok(),
        files: vec![bench.host.clone(), modules.join(manifest::FILE_NAME), compiled],
    }
}

/// The example job of that name: a Rust program with JSON in and out. It takes no stamp.
fn hello(bench: &Bench) -> Result<Program> {
    let checkout = Checkout::find().context("midge's source is not here")?;
    let modules = checkout.guest_examples().join("target/midge");
    if !modules::compiled_path(&modules, "hello").is_file() {
        bail!("it is not built: `midge build guest-examples`");
    }
    let mut program = host(bench, &modules, "hello", Stamp::None);
    program.args.extend(["--args".into(), r#"{"name": "bench"}"#.into()]);
    Ok(program)
}

/// wasmtime's own command, with the same module compiled ahead of time.
fn wasmtime(folder: &Path) -> Result<Program> {
    let compiled = folder.join("wasmtime.cwasm");
    let mut compile = Command::new("wasmtime");
    compile.arg("compile").arg("-o").arg(&compiled).arg(modules::wasm_path(folder, modules::STAMP));
    said(&mut compile)?;
    Ok(Program {
        name: "wasmtime run stamp, precompiled".to_owned(),
        program: "wasmtime".into(),
        args: ["run".into(), "--allow-precompiled".into(), compiled.clone().into()].into(),
        stamp: Stamp::Bytes,
        module_bytes: std::fs::metadata(&compiled).map(|data| data.len()).ok(),
        files: Vec::new(),
    })
}

/// A language's command with one line of a script, started directly: what the PATH names may be a script that looks
/// for it first.
fn script(name: &str, flag: &str, where_it_is: &str, line: &str) -> Result<Program> {
    let program = said(Command::new(name).arg(flag).arg(where_it_is))?;
    Ok(Program {
        name: format!("{name} {flag}, one line"),
        program: program.trim().into(),
        args: [flag.into(), line.into()].into(),
        stamp: Stamp::Text,
        module_bytes: None,
        files: Vec::new(),
    })
}

/// Runs a command to its end, and returns what it wrote.
fn said(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output();
    let name = command.get_program().to_string_lossy().into_owned();
    let output = match output {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!("{name} is not installed"),
        output => output.with_context(|| format!("cannot start {name}"))?,
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{name} ended with {}: {}", output.status, said.lines().next().unwrap_or_default());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
