//! A Machine's program as a child process: in a group of its own, on a leash, with nothing of flylet's env.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use midge_machines::wire::ExitEvent;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;

use crate::log::{LINE_BYTES_MAX, Lines};
use crate::machine::Machine;

/// How long the last output may take to arrive. Only where something left the group and keeps the pipe.
const OUTPUT_GRACE: Duration = Duration::from_millis(200);

/// The most that is shown of the name of a program that cannot be run.
const SHOWN_NAME_CHARS_MAX: usize = 256;

/// What to run.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) command: Vec<String>,
    pub(crate) env: BTreeMap<String, OsString>,
    pub(crate) work_dir: PathBuf,
}

/// A child process. Dropping it kills it and its group.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// Taken once the process was waited for: from then on the number may be another's.
    pid: Option<Pid>,
    output: JoinHandle<()>,
    /// Never written to. The program reads its end when flylet is no more.
    _leash: Option<ChildStdin>,
}

impl Process {
    /// Starts a program, whose output goes to the Machine's log.
    ///
    /// Pipes are made close-on-exec by the standard library, so that no Machine holds the leash of another.
    pub(crate) fn start(program: &Program, machine: &Arc<Machine>) -> io::Result<Process> {
        let (reader, writer) = io::pipe()?;
        let (name, arguments) = program.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(name);
        command
            .args(arguments)
            .env_clear()
            .envs(&program.env)
            .current_dir(&program.work_dir)
            .stdin(Stdio::piped())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            // A signal from the terminal is for flylet alone, and a Machine ends with its group.
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        // Closes the writers here: the pipe ends with the program.
        drop(command);
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let leash = child.stdin.take();
        let output =
            tokio::spawn(keep_output(pipe::Receiver::from_owned_fd(reader.into())?, Arc::clone(machine)));
        Ok(Process { child, pid, output, _leash: leash })
    }

    /// Returns the program's process id while it runs.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.pid.map(Pid::as_raw_pid)
    }

    /// Waits for the program's end and then ends what it left behind in its group, as the end of a Machine does.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        if let Some(group) = self.pid.take() {
            // The number is not reused while the group has members, and an empty group is no error.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = tokio::time::timeout(OUTPUT_GRACE, &mut self.output).await;
        Ok(status)
    }

    /// Sends a signal to the program, as Fly's init does.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid {
            // It may have ended just now, which is what is wanted.
            let _ = kill_process(pid, signal);
        }
    }

    /// Stops the program and its group where they are, until [`go_on`](Self::go_on). No program can refuse, but it
    /// stands still only once [`stands_still`](Self::stands_still) says so.
    ///
    /// Where flylet dies meanwhile, the group is left without a parent in its session: the kernel sends it SIGHUP and
    /// SIGCONT, so that it finds the end of its leash. It does so only for a group that stands still by then.
    pub(crate) fn stand_still(&self) {
        self.signal_all(Signal::STOP);
    }

    /// Returns whether the program has come to stand still since it was told to.
    pub(crate) fn stands_still(&self) -> bool {
        let Some(pid) = self.pid else { return true };
        let stopped = waitid(WaitId::Pid(pid), WaitIdOptions::STOPPED | WaitIdOptions::NOHANG);
        // It may have ended, which whoever waits for that hears.
        !matches!(stopped, Ok(None))
    }

    /// Lets go on what stands still.
    pub(crate) fn go_on(&self) {
        self.signal_all(Signal::CONT);
    }

    /// Kills the program and its group.
    pub(crate) fn kill(&self) {
        self.signal_all(Signal::KILL);
    }

    /// Sends a signal to the group that the program was started in, and to the program itself, which may have moved to
    /// another group.
    fn signal_all(&self, signal: Signal) {
        if let Some(pid) = self.pid {
            // Either may have ended just now, and the group may have lost its last member.
            let _ = kill_process_group(pid, signal);
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        self.output.abort();
    }
}

async fn keep_output(mut pipe: pipe::Receiver, machine: Arc<Machine>) {
    let keep = |line: String| {
        tracing::debug!(machine.id = %machine.id, line, "Machine wrote");
        machine.log.push(line);
    };
    let mut lines = Lines::default();
    let mut buffer = vec![0; LINE_BYTES_MAX];
    // An error ends the output as its end does: the pipe is of no more use.
    while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
        lines.take(&buffer[..read], keep);
    }
    lines.finish(keep);
}

/// Returns how a program ended, as Fly says it.
pub(crate) fn exit_event(status: ExitStatus, oom_killed: bool) -> ExitEvent {
    let signal = status.signal();
    let code = status.code().or(signal.map(|signal| 128 + signal));
    ExitEvent {
        exit_code: code,
        guest_exit_code: code,
        guest_signal: Some(signal.unwrap_or(-1)),
        signal: Some(-1),
        oom_killed,
        ..ExitEvent::default()
    }
}

/// Returns how a program ended that never ran, with what to look at.
pub(crate) fn not_run(program: &Program, error: &io::Error) -> ExitEvent {
    // Events are kept, fifty of each Machine.
    let name: String =
        program.command.first().map_or("", String::as_str).chars().take(SHOWN_NAME_CHARS_MAX).collect();
    let why = if error.kind() == io::ErrorKind::NotFound && !program.work_dir.is_dir() {
        format!("cannot run `{name}`: its folder {} does not exist", program.work_dir.display())
    } else if error.kind() == io::ErrorKind::NotFound {
        format!("cannot run `{name}`: program not found")
    } else {
        format!("cannot run `{name}`: {error}")
    };
    // The codes that shells use.
    let code = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
    ExitEvent {
        exit_code: Some(code),
        guest_exit_code: Some(code),
        guest_signal: Some(-1),
        signal: Some(-1),
        error: Some(why),
        ..ExitEvent::default()
    }
}
