//! Runs a program to its end: its output is kept, its lines are passed on, and it can have a time limit.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// How often the caller is called while the program says nothing, and how late a time limit may be noticed.
const TICK: Duration = Duration::from_millis(100);

/// What is known of a program that goes on.
pub(crate) enum Tick<'a> {
    /// It wrote this line to stderr.
    Line(&'a str),
    /// Time passed.
    Idle,
}

/// A program that ended.
pub(crate) struct ProcessOutput {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl ProcessOutput {
    /// Returns what it wrote to stdout, without white space around it.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }
}

/// Runs a program and keeps what it writes.
pub(crate) fn run(command: &mut Command) -> io::Result<ProcessOutput> {
    run_with(command, Duration::MAX, &mut |_| {})
}

/// Runs a program, calls `tick` meanwhile, and stops it where it takes longer than `limit` (`TimedOut`).
pub(crate) fn run_with(
    command: &mut Command,
    limit: Duration,
    tick: &mut dyn FnMut(Tick<'_>),
) -> io::Result<ProcessOutput> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdout = child.stdout.take().expect("stdout was asked to be a pipe");
    let stderr = child.stderr.take().expect("stderr was asked to be a pipe");
    thread::scope(|scope| {
        let stdout = scope.spawn(move || {
            let mut bytes = Vec::new();
            stdout.read_to_end(&mut bytes).map(|_| bytes)
        });
        let (lines, received) = mpsc::channel();
        scope.spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                if lines.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        let followed = follow(&received, limit, tick);
        if followed.is_err() {
            stop(&mut child);
        }
        let status = child.wait()?;
        let stdout = stdout.join().expect("reading a pipe does not panic")?;
        Ok(ProcessOutput { status, stdout, stderr: followed? })
    })
}

/// Writes a program (a script, with its `#!` line) that can be run as soon as this returns.
///
/// A file that anybody has open for writing cannot be run (`ETXTBSY`), and whoever starts a program in another thread
/// has, for a moment, a copy of all that is open here. So the file is never open here: a child writes it, and starts
/// nothing.
pub fn write_program(path: &Path, text: &str) -> io::Result<()> {
    let write = ["-c", "umask 022; cat > \"$0\" && chmod 755 \"$0\""];
    let mut child = Command::new("/bin/sh").args(write).arg(path).stdin(Stdio::piped()).spawn()?;
    let sent = child.stdin.take().expect("stdin was asked to be a pipe").write_all(text.as_bytes());
    let status = child.wait()?;
    sent?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("cannot write {}", path.display()))) }
}

/// Collects lines until stderr is closed, which is when the program has ended.
fn follow(
    received: &mpsc::Receiver<String>,
    limit: Duration,
    tick: &mut dyn FnMut(Tick<'_>),
) -> io::Result<String> {
    let began = Instant::now();
    let mut stderr = String::new();
    loop {
        match received.recv_timeout(TICK) {
            Ok(line) => {
                tick(Tick::Line(&line));
                stderr.push_str(&line);
                stderr.push('\n');
            }
            Err(RecvTimeoutError::Timeout) => tick(Tick::Idle),
            Err(RecvTimeoutError::Disconnected) => return Ok(stderr),
        }
        if began.elapsed() > limit {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("took longer than {} s", limit.as_secs()),
            ));
        }
    }
}

fn stop(child: &mut Child) {
    // It can have ended by itself in between, which is just as well.
    let _ = child.kill();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_exit_status_are_kept() {
        let ended = run(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"])).unwrap();
        assert_eq!((ended.text().as_str(), ended.stderr.as_str()), ("out", "err\n"));
        assert_eq!(ended.status.code(), Some(3));
    }

    #[test]
    fn a_program_that_was_written_runs_whatever_else_is_started_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        thread::scope(|scope| {
            for name in ["a", "b", "c", "d"].map(|name| folder.path().join(name)) {
                scope.spawn(move || {
                    for _ in 0..100 {
                        write_program(&name, "#!/bin/sh\necho ran\n").unwrap();
                        assert_eq!(run(&mut Command::new(&name)).unwrap().text(), "ran");
                    }
                });
            }
        });
        assert!(write_program(&folder.path().join("no/such/folder"), "").is_err());
    }

    #[test]
    fn a_program_over_its_time_limit_is_stopped() {
        let mut endless = Command::new("sleep");
        endless.arg("1000");
        let Err(error) = run_with(&mut endless, Duration::from_millis(1), &mut |_| {}) else {
            panic!("it ran for 1000 seconds");
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
