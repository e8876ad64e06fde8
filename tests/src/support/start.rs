//! What a host does from exec to its guest's first instruction, counted from outside and never timed.
//!
//! Invariant: what is counted is the main thread, on which the guest runs.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::built::{checkout, host_program};
use super::files::Files;
use super::guests::{FOUR, Guest};
use super::modules::Modules;
use super::process::{Process, run};
use super::usage::main_thread_page_faults;

/// The guest's first call asks for so many random bytes: an odd number, which nobody else asks for.
const MARK_BYTES: u32 = 13;
/// What a guest that is told to stay writes to its log.
const HERE: &str = "the guest is here";
/// Starts of which the one with the fewest page faults counts: where stack and heap lie is chance, and a first start may
/// find the files unread. Both only add.
const STARTS: usize = 9;
/// Functions of a large guest, about as many as in a program of [`LARGE_BYTES_MIN`].
const LARGE_FUNCTIONS: u32 = 5_000;
/// Steps of each; together they make up the size.
const LARGE_STEPS: u32 = 40;
/// The least that a large guest must have, compiled.
const LARGE_BYTES_MIN: u64 = 2_000_000;

/// How much is in a guest beside what is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ballast {
    /// Nothing.
    None,
    /// Functions that are never called, two megabytes of them when compiled.
    Large,
}

impl Guest {
    /// Makes a guest whose first instruction is seen from outside: it asks for [`MARK_BYTES`] random bytes.
    ///
    /// Then it returns; with an argument of its own, it writes [`HERE`] to its log and stays.
    pub fn seen_to_start(name: &str, ballast: Ballast) -> Guest {
        let two = "(param i32 i32) (result i32)";
        let imports = [("random_get", two), ("args_sizes_get", two), ("fd_write", FOUR)];
        // Behind the module's name and the args.
        let start = format!(
            "(drop (call $random_get (i32.const 64) (i32.const {MARK_BYTES})))
             (drop (call $args_sizes_get (i32.const 0) (i32.const 4)))
             (if (i32.gt_u (i32.load (i32.const 0)) (i32.const 2)) (then
                 (i32.store (i32.const 8) (i32.const 300)) (i32.store (i32.const 12) (i32.const {length}))
                 (drop (call $fd_write (i32.const 2) (i32.const 8) (i32.const 1) (i32.const 16)))
                 (loop $stay (br $stay))))",
            length = HERE.len()
        );
        let parts = format!("(data (i32.const 300) \"{HERE}\") {}", ballast.functions());
        Guest::new(name, &imports, &parts, &start)
    }
}

impl Ballast {
    fn functions(self) -> String {
        let mut text = String::new();
        if self == Ballast::None {
            return text;
        }
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
        text
    }
}

/// The start of a host for one guest, which is as it is by [`Guest::seen_to_start`].
#[derive(Clone, Copy)]
pub struct Start<'a> {
    modules: &'a Modules,
    guest: &'a str,
}

impl<'a> Start<'a> {
    /// Takes a guest of a folder of modules.
    pub fn new(modules: &'a Modules, guest: &'a str, ballast: Ballast) -> Start<'a> {
        let size = modules.manifest().modules[guest].size;
        assert!(ballast == Ballast::None || size >= LARGE_BYTES_MIN, "{guest} has {size} bytes compiled");
        Start { modules, guest }
    }

    /// Returns the system calls that the host makes until its guest's first instruction.
    pub fn calls(self) -> Calls {
        let files = Files::new();
        let out = files.path("calls");
        let mut strace = self.in_folder(&program("strace").expect("strace is installed"));
        // Bytes are not shown (paths are): randomness could look like anything.
        strace.args(["-s", "0", "-a", "1", "-o"]).arg(&out).arg(host_program()).args(self.arguments());
        run(strace, b"").ok();
        let trace = fs::read_to_string(&out).unwrap();
        Calls::until_mark(&trace)
            .unwrap_or_else(|| panic!("the first instruction of {} was not seen:\n{trace}", self.guest))
    }

    /// Returns the page faults until its guest stays where it is, just behind its first instruction.
    pub fn page_faults(self) -> u64 {
        let starts = (0..STARTS).map(|_| {
            let mut host = self.in_folder(host_program());
            host.args(self.arguments()).args(["--", "stay"]);
            let mut host = Process::start("midge-host run", host);
            host.says(HERE, |output| output.contains(HERE).then_some(()));
            main_thread_page_faults(host.pid())
        });
        starts.min().expect("there is more than one start")
    }

    /// Returns how many instructions are executed from exec to exit.
    pub fn instructions(self) -> u64 {
        let files = Files::new();
        let mut strace = self.in_folder(&program("strace").expect("strace is installed"));
        // Valgrind has no vDSO, and says so in the auxiliary vector that a program finds on its stack. One that asks the
        // kernel instead is told of a vDSO that is not there: it must not get an answer.
        strace.args(["-f", "-e", "trace=prctl", "-e", "inject=prctl:error=EINVAL", "-o", "/dev/null"]);
        strace.arg(program("valgrind").expect("valgrind is installed"));
        strace.args(["--tool=callgrind", "--vgdb=no", "--separate-threads=yes"]);
        strace.arg(format!("--callgrind-out-file={}", files.path("out").display()));
        strace.arg(host_program()).args(self.arguments());
        let ran = run(strace, b"").ok();
        let main_thread = fs::read_to_string(files.path("out-01")).unwrap_or_else(|error| {
            panic!("callgrind wrote nothing about the main thread: {error}\n{}", ran.stderr)
        });
        instructions(&main_thread).unwrap_or_else(|| panic!("callgrind wrote no total:\n{main_thread}"))
    }

    /// A program that sees the same wherever the checkout is, and whoever runs it.
    fn in_folder(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(self.modules.dir());
        command
    }

    fn arguments(&self) -> [&'a str; 4] {
        ["run", self.guest, "--modules", "."]
    }
}

/// System calls, in their order, as strace writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calls(Vec<String>);

impl Calls {
    /// Returns those before a guest's mark; nothing where there is no mark.
    fn until_mark(trace: &str) -> Option<Calls> {
        // From a device, or by the call for it.
        let device = format!(", {MARK_BYTES}) = {MARK_BYTES}");
        let call = format!("getrandom(\"\"..., {MARK_BYTES}, ");
        let is_mark =
            |line: &&str| line.starts_with(&call) || line.starts_with("read(") && line.ends_with(&device);
        let mark = trace.lines().position(|line| is_mark(&line))?;
        // Not what strace says about signals: `--- SIGSEGV ... ---`.
        let is_call = |line: &&str| line.starts_with(|first: char| first.is_ascii_lowercase());
        Some(Calls(trace.lines().take(mark).filter(is_call).map(str::to_owned).collect()))
    }

    /// Returns all.
    pub fn all(&self) -> &[String] {
        &self.0
    }

    /// Returns those of a name.
    pub fn named(&self, name: &str) -> Vec<String> {
        let is_named = |line: &&String| line.split('(').next() == Some(name);
        self.0.iter().filter(is_named).cloned().collect()
    }

    /// Returns those that opened a file.
    pub fn opened(&self) -> Vec<String> {
        let opened = ["open", "openat", "openat2"].into_iter().flat_map(|name| self.named(name));
        opened.filter(|line| !line.contains(") = -1 ")).collect()
    }
}

/// Returns the crates of which the host is linked, each with its version.
pub fn crates_linked() -> BTreeSet<String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.current_dir(checkout()).args(["tree", "--locked", "--package", "midge-host"]);
    // What macros are made of runs in the compiler.
    cargo.args(["--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"]);
    let tree = run(cargo, b"").ok();
    // `name v1.2.3 (where it is from)`.
    let name_and_version = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    tree.text().lines().filter(|line| !line.is_empty()).map(name_and_version).collect()
}

/// Returns why system calls cannot be seen here, if they cannot.
pub fn strace_missing() -> Option<String> {
    let Some(strace) = program("strace") else { return Some("strace is not installed".to_owned()) };
    let traced = Command::new(&strace).args(["-o", "/dev/null"]).arg(&strace).arg("-V").output();
    let traced = traced.unwrap_or_else(|error| panic!("cannot start {}: {error}", strace.display()));
    let why = || format!("strace may not trace: {}", String::from_utf8_lossy(&traced.stderr).trim());
    (!traced.status.success()).then(why)
}

/// Returns why instructions cannot be counted here, if they cannot.
pub fn valgrind_missing() -> Option<String> {
    let missing = || program("valgrind").is_none().then(|| "valgrind is not installed".to_owned());
    strace_missing().or_else(missing)
}

/// Looks for a program where a shell would.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}

fn instructions(callgrind: &str) -> Option<u64> {
    let totals = callgrind.lines().find_map(|line| line.strip_prefix("totals: "))?;
    totals.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "execve(\"host\", [...], 0x7f /* 0 vars */) = 0\n\
        openat(AT_FDCWD, \"/lost\", O_RDONLY) = -1 ENOENT (No such file or directory)\n\
        openat(AT_FDCWD, \"m.cwasm\", O_RDONLY|O_CLOEXEC) = 3\n\
        --- SIGSEGV {si_signo=SIGSEGV} ---\n\
        mprotect(0x5ed000, 16384, PROT_READ) = 0\n\
        read(3, \"\"..., 130) = 13\n";

    #[test]
    fn calls_end_before_the_mark_however_randomness_is_made() {
        assert_eq!(Calls::until_mark(TRACE), None);
        for mark in ["getrandom(\"\"..., 13, 0) = 13", "read(4, \"\"..., 13) = 13"] {
            let calls = Calls::until_mark(&format!("{TRACE}{mark}\nmunmap(0x7f, 4096) = 0\n")).unwrap();
            let names: Vec<&str> = calls.all().iter().filter_map(|call| call.split('(').next()).collect();
            assert_eq!(names, ["execve", "openat", "openat", "mprotect", "read"]);
        }
    }

    #[test]
    fn a_file_that_was_not_there_was_not_opened() {
        let calls = Calls::until_mark(&format!("{TRACE}getrandom(\"\"..., 13, 0) = 13\n")).unwrap();
        assert_eq!(calls.opened(), ["openat(AT_FDCWD, \"m.cwasm\", O_RDONLY|O_CLOEXEC) = 3"]);
        assert_eq!(calls.named("mprotect").len(), 1);
        assert!(calls.named("open").is_empty());
    }

    #[test]
    fn callgrinds_total_is_read() {
        assert_eq!(instructions("events: Ir\nfn=(0)\n12 7\ntotals: 762287\n"), Some(762_287));
        assert_eq!(instructions("events: Ir\n"), None);
    }
}
