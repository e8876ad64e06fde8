//! The programs that are started: the floor, midge's host, and what else is installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use midge_protocol::manifest;

use super::program::{Program, Stamp, said};
use super::{floor, hello, rails};
use crate::{Bench, modules};

/// The programs that can be measured on this computer, and those that cannot.
pub(super) struct Programs {
    /// Those whose first instruction and exit are measured.
    pub(super) there: Vec<Program>,
    /// Those whose runs also tell where the time went. They are measured beside the others, since to tell takes time
    /// before the exit.
    pub(super) telling: Vec<Program>,
    /// A line for each that is missing, which says why.
    pub(super) missing: Vec<String>,
}

impl Programs {
    /// Finds the programs that are installed, makes the floor, and tries each.
    pub(super) async fn find(bench: &Bench, hello: Result<hello::Hello>) -> Programs {
        let folder = bench.folder.path();
        let mut programs = Programs { there: Vec::new(), telling: Vec::new(), missing: Vec::new() };
        programs.add("the floor", floor_program(folder)).await;
        for module in [modules::STAMP, modules::STAMP_LARGE] {
            programs.add("midge-host", Ok(host(bench, &bench.modules, module, Stamp::Bytes))).await;
            programs.tell(host(bench, &bench.modules, module, Stamp::BytesAndTimings)).await;
        }
        match &hello {
            Ok(built) => {
                let host =
                    |stamp| host(bench, &built.modules, hello::NAME, stamp).args(["--args", hello::ARGS]);
                programs.add(hello::NAME, Ok(host(Stamp::None))).await;
                programs.tell(host(Stamp::Timings)).await;
            }
            Err(error) => programs.missing.push(format!("{} is not measured: {error:#}", hello::NAME)),
        }
        match Wasmtime::find() {
            Ok(wasmtime) => {
                let stamp = modules::wasm_path(folder, modules::STAMP);
                let ahead = wasmtime.precompiled(folder, &stamp, modules::STAMP, Stamp::Bytes);
                programs.add("wasmtime", ahead).await;
                programs.add("wasmtime, compiling", Ok(wasmtime.on_the_spot(&stamp, modules::STAMP))).await;
                if let Ok(built) = &hello {
                    let ahead = wasmtime.precompiled(folder, &built.wasm, hello::NAME, Stamp::None);
                    programs.add("wasmtime with hello", ahead).await;
                }
            }
            Err(error) => programs.missing.push(format!("wasmtime is not compared: {error:#}")),
        }
        for (name, script) in [("python3", python()), ("node", node()), ("ruby", ruby())] {
            programs.add(name, script).await;
        }
        programs.add("rails", rails::runner(folder)).await;
        programs
    }

    async fn add(&mut self, name: &str, program: Result<Program>) {
        match program.and_then(tried) {
            Ok(program) => self.there.push(program),
            Err(error) => self.missing.push(format!("{name} is not compared: {error:#}")),
        }
        // Here a Ctrl-C is heard.
        tokio::task::yield_now().await;
    }

    async fn tell(&mut self, program: Program) {
        let name = program.name.clone();
        match tried(program) {
            Ok(program) => self.telling.push(program),
            Err(error) => self.missing.push(format!("no phases of {name}: {error:#}")),
        }
        tokio::task::yield_now().await;
    }
}

/// Runs a program to see that it does and how long it takes. Twice, since the first run fills caches.
fn tried(mut program: Program) -> Result<Program> {
    program.run()?;
    program.tried = program.run()?.exit;
    Ok(program)
}

fn floor_program(folder: &Path) -> Result<Program> {
    let path = floor::compile(folder)?;
    let mut program = Program::new(floor::NAME, &path, Stamp::Bytes);
    program.files = vec![path];
    Ok(program)
}

/// A host that runs a module once.
fn host(bench: &Bench, modules: &Path, module: &str, stamp: Stamp) -> Program {
    let compiled = modules::compiled_path(modules, module);
    let mut program = Program::new(format!("midge-host run {module}"), &bench.host, stamp)
        .args(["run", module, "--modules"])
        .args([modules]);
    if matches!(stamp, Stamp::BytesAndTimings | Stamp::Timings) {
        program = program.args(["--timings"]);
    }
    program.module_bytes = std::fs::metadata(&compiled).map(|data| data.len()).ok();
    program.files = vec![bench.host.clone(), modules.join(manifest::FILE_NAME), compiled];
    program
}

/// wasmtime's own command.
struct Wasmtime {
    /// Where it is. Found once, so that its start does not include looking for it.
    path: PathBuf,
    version: String,
}

impl Wasmtime {
    fn find() -> Result<Wasmtime> {
        let version = said(Command::new("wasmtime").arg("--version"))?;
        let path = said(Command::new("sh").args(["-c", "command -v wasmtime"]))?;
        // Such as `wasmtime 48.0.8 (5d6ae48 2026-11-05)`.
        let version = version.split_whitespace().nth(1).unwrap_or_default().to_owned();
        Ok(Wasmtime { path: path.trim().into(), version })
    }

    /// With a module that was compiled ahead of time by this very command.
    fn precompiled(&self, folder: &Path, wasm: &Path, module: &str, stamp: Stamp) -> Result<Program> {
        let compiled = folder.join(format!("wasmtime-{module}.cwasm"));
        said(Command::new(&self.path).arg("compile").arg("-o").arg(&compiled).arg(wasm))?;
        let mut program = self.run(&format!("{module}, precompiled"), stamp);
        program = program.args(["--allow-precompiled"]).args(guest(&compiled, module));
        program.module_bytes = std::fs::metadata(&compiled).map(|data| data.len()).ok();
        program.files = vec![self.path.clone(), compiled];
        Ok(program)
    }

    fn on_the_spot(&self, wasm: &Path, module: &str) -> Program {
        let program = self.run(&format!("{module}, compiling"), Stamp::Bytes);
        program.args(["-C", "cache=n"]).args(guest(wasm, module))
    }

    /// Jobs may import what only midge has; a call of it would trap.
    fn run(&self, what: &str, stamp: Stamp) -> Program {
        let name = format!("wasmtime {} run {what}", self.version);
        Program::new(name, &self.path, stamp).args(["run", "-W", "unknown-imports-trap=y"])
    }
}

/// What comes last on wasmtime's command line: the file, and the argv that midge would give.
fn guest(file: &Path, module: &str) -> [std::ffi::OsString; 4] {
    let args = if module == hello::NAME { hello::ARGS } else { "null" };
    ["--argv0".into(), module.into(), file.into(), args.into()]
}

fn python() -> Result<Program> {
    script("python3", "-c", "import sys; print(sys.executable)", "import time; print(time.time_ns())")
}

/// `Date.now()` has whole milliseconds only.
fn node() -> Result<Program> {
    let stamp = "console.log(String(BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e6))))";
    script("node", "-e", "console.log(process.execPath)", stamp)
}

fn ruby() -> Result<Program> {
    script("ruby", "-e", RUBY_PATH, RUBY_STAMP)
}

/// A line of Ruby that writes the path of its own program.
pub(super) const RUBY_PATH: &str = "puts RbConfig.ruby";
/// A line of Ruby that writes the time in nanoseconds since the Unix epoch.
pub(super) const RUBY_STAMP: &str = "puts Process.clock_gettime(Process::CLOCK_REALTIME, :nanosecond)";

/// A language's command with one line of a script, started directly: what the PATH names may be a script that looks
/// for it first.
fn script(name: &str, flag: &str, where_it_is: &str, line: &str) -> Result<Program> {
    let program = said(Command::new(name).arg(flag).arg(where_it_is))?;
    Ok(Program::new(format!("{name} {flag}, one line"), program.trim(), Stamp::Text).args([flag, line]))
}
