//! Child processes whose output is kept for when a test fails, and which do not outlive it.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::wait::{DEADLINE, eventually, eventually_within};

/// A program that is run to its end may build a small guest first.
const RUN_DEADLINE: Duration = Duration::from_secs(300);
/// A build from nothing may fetch a toolchain first, on whatever network there is.
pub(super) const BUILD_DEADLINE: Duration = Duration::from_secs(30 * 60);

/// A running program.
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Mutex<Vec<u8>>>,
    readers: [JoinHandle<()>; 2],
}

impl Process {
    /// Starts a program. What it writes to stdout and stderr is kept.
    pub fn start(name: &str, mut command: Command) -> Process {
        let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let output = Arc::new(Mutex::new(Vec::new()));
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let readers = [
            keep(stdout.expect("stdout is piped"), Arc::clone(&output)),
            keep(stderr.expect("stderr is piped"), Arc::clone(&output)),
        ];
        Process { name: name.to_owned(), child, output, readers }
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns what it wrote so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    /// Waits until its output is as wanted, and returns what was found in it.
    pub fn says<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        eventually(what, || {
            let found = find(&self.output());
            if found.is_none()
                && let Some(status) = self.child.try_wait().unwrap()
            {
                panic!("{} ended ({status}) before it said {what}:\n{}", self.name, self.output());
            }
            found
        })
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid() as i32).expect("a child's id is not 0");
        kill_process(pid, signal).unwrap();
    }

    /// Kills it, and returns when it is dead.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Waits until it ends by itself. Then its output is all that it wrote.
    pub fn ended(&mut self) -> ExitStatus {
        self.ended_within(DEADLINE)
    }

    /// Waits as [`Process::ended`] does, at most for so long.
    pub fn ended_within(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        let status = eventually_within(deadline, &what, || self.child.try_wait().unwrap());
        // What it wrote at its end is read beside it.
        let read = || self.readers.iter().all(JoinHandle::is_finished).then_some(());
        eventually_within(deadline, &format!("the output of {} ends", self.name), read);
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- what {} wrote:\n{}", self.name, self.output());
        }
    }
}

/// Moves all that a stream gives into the kept output, until it ends with its process.
fn keep(mut stream: impl Read + Send + 'static, output: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut piece = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = stream.read(&mut piece) {
            output.lock().unwrap().extend_from_slice(&piece[..length]);
        }
    })
}

/// A program that ended.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; nothing where a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Ran {
    /// Returns stdout as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("stdout is text")
    }

    /// Returns itself where the program succeeded.
    #[track_caller]
    pub fn ok(self) -> Ran {
        assert_eq!(self.code, Some(0), "{}\n{}", String::from_utf8_lossy(&self.stdout), self.stderr);
        self
    }

    /// Checks that the program failed with a code, and that stderr holds every one of the texts.
    #[track_caller]
    pub fn fails(self, code: i32, texts: &[&str]) -> Ran {
        assert_eq!(self.code, Some(code), "{}\n{}", String::from_utf8_lossy(&self.stdout), self.stderr);
        for text in texts {
            assert!(self.stderr.contains(text), "`{text}` is not in:\n{}", self.stderr);
        }
        self
    }
}

/// Runs a program to its end with bytes on its stdin.
pub fn run(command: Command, stdin: &[u8]) -> Ran {
    run_within(RUN_DEADLINE, command, stdin)
}

/// Runs a program to its end of whose stdout nobody reads anything: its other end is closed before it begins.
pub fn run_unread(mut command: Command) -> Ran {
    let name = format!("{command:?}");
    let (reader, writer) = std::io::pipe().expect("there is a pipe");
    drop(reader);
    command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
    let stderr = Arc::new(Mutex::new(Vec::new()));
    let read = child.stderr.take().expect("stderr is piped");
    let readers = [keep(read, Arc::clone(&stderr)), keep(std::io::empty(), Arc::clone(&stderr))];
    let mut process = Process { name, child, output: Arc::clone(&stderr), readers };
    let status = process.ended_within(RUN_DEADLINE);
    Ran { code: status.code(), stdout: Vec::new(), stderr: process.output() }
}

/// Runs a program to its end, at most for so long, with bytes on its stdin.
pub(super) fn run_within(deadline: Duration, mut command: Command, stdin: &[u8]) -> Ran {
    let name = format!("{command:?}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
    let (stdout, stderr) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let readers = [
        keep(child.stdout.take().expect("stdout is piped"), Arc::clone(&stdout)),
        keep(child.stderr.take().expect("stderr is piped"), Arc::clone(&stderr)),
    ];
    let mut input = child.stdin.take().expect("stdin is piped");
    let bytes = stdin.to_owned();
    // It need not read all of it.
    let writing = std::thread::spawn(move || drop(input.write_all(&bytes)));
    let mut process = Process { name, child, output: Arc::clone(&stderr), readers };
    let status = process.ended_within(deadline);
    writing.join().unwrap();
    let stdout = std::mem::take(&mut *stdout.lock().unwrap());
    Ran { code: status.code(), stdout, stderr: process.output() }
}
