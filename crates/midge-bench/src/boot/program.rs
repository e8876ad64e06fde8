//! A program that is started again and again, and what one run of it tells.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use super::phases::{Phases, Timings};
use crate::modules;

/// A program to be started again and again.
pub(super) struct Program {
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) args: Vec<OsString>,
    pub(super) env: Vec<(&'static str, &'static str)>,
    /// The folder that it is started in, if that matters.
    pub(super) folder: Option<PathBuf>,
    pub(super) stamp: Stamp,
    /// The size of the compiled module in bytes, where the program runs one.
    pub(super) module_bytes: Option<u64>,
    /// The files that it reads from the disk; empty where they are not known, and then it is not measured cold.
    pub(super) files: Vec<PathBuf>,
    /// How long it took to its exit when it was tried out.
    pub(super) tried: Duration,
}

/// How a program says when its first instruction ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stamp {
    /// Nanoseconds since the Unix epoch in eight bytes.
    Bytes,
    /// Nanoseconds since the Unix epoch in decimal.
    Text,
    /// It does not say it.
    None,
    /// Nanoseconds in eight bytes, and a line of JSON on stderr that says where the time before went.
    BytesAndTimings,
    /// Only a line of JSON on stderr that says where the time went.
    Timings,
}

/// How long one run of a program took.
pub(super) struct Run {
    /// From the start to the first instruction of its main, script or guest, where the program says it.
    pub(super) first: Option<Duration>,
    /// From the start to the exit, as its parent sees it.
    pub(super) exit: Duration,
    /// What the time before the first instruction was spent on, where the program says it.
    pub(super) phases: Option<Phases>,
}

impl Program {
    /// Makes a program that reads nothing and says nothing but what it writes to stdout.
    pub(super) fn new(name: impl Into<String>, program: impl Into<PathBuf>, stamp: Stamp) -> Program {
        Program {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            folder: None,
            stamp,
            module_bytes: None,
            files: Vec::new(),
            tried: Duration::ZERO,
        }
    }

    /// Adds arguments to the program's command line.
    pub(super) fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Program {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Starts the program, waits until it has ended, and returns what it took. Fails where it does not exit with 0, or
    /// does not say what its [`Stamp`] promises.
    pub(super) fn run(&self) -> Result<Run> {
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(self.env.iter().copied());
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        let stderr = if self.stamp.has_timings() { Stdio::piped() } else { Stdio::null() };
        // In a group of its own, so that a Ctrl-C is for us alone.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).process_group(0);
        let started_at = SystemTime::now();
        let began = Instant::now();
        let mut child =
            command.spawn().with_context(|| format!("cannot start {}", self.program.display()))?;
        let mut output = Vec::new();
        child.stdout.take().expect("it is piped").read_to_end(&mut output)?;
        let mut said = Vec::new();
        if let Some(mut stderr) = child.stderr.take() {
            stderr.read_to_end(&mut said)?;
        }
        let status = child.wait()?;
        let exit = began.elapsed();
        if !status.success() {
            bail!("{} ended with {status}", self.name);
        }
        let started = started_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let stamp = self.stamp.read(&output).with_context(|| format!("{} wrote no time", self.name))?;
        let timings = match self.stamp.has_timings() {
            true => Some(Timings::read(&said).with_context(|| format!("{} tells no timings", self.name))?),
            false => None,
        };
        let phases = timings.map(|timings| timings.phases(started, stamp));
        let first = stamp.map(|stamp| nanos(stamp.saturating_sub(started)));
        Ok(Run { first: first.or(phases.as_ref().map(Phases::to_first)), exit, phases })
    }
}

impl Stamp {
    fn has_timings(self) -> bool {
        matches!(self, Stamp::BytesAndTimings | Stamp::Timings)
    }

    /// Returns the time that stands in a program's output, if it is one that writes it. Fails where it does not.
    fn read(self, output: &[u8]) -> Option<Option<u128>> {
        match self {
            Stamp::Bytes | Stamp::BytesAndTimings => modules::stamp(output).map(Some),
            Stamp::Text => std::str::from_utf8(output).ok()?.trim().parse().ok().map(Some),
            Stamp::None | Stamp::Timings => Some(None),
        }
    }
}

/// Returns a number of nanoseconds as a duration.
pub(super) fn nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Runs a command to its end, and returns what it wrote to stdout. Fails where it is not installed or does not exit
/// with 0.
pub(super) fn said(command: &mut Command) -> Result<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str, stamp: Stamp) -> Program {
        Program::new("shell", "/bin/sh", stamp).args(["-c", line])
    }

    #[test]
    fn a_program_that_writes_no_time_though_it_should_is_an_error() {
        assert!(shell("echo 12", Stamp::Text).run().unwrap().first.is_some());
        assert!(shell("echo", Stamp::None).run().unwrap().first.is_none());
        let error = |line, stamp| format!("{:#}", shell(line, stamp).run().err().unwrap());
        assert!(error("echo soon", Stamp::Text).contains("wrote no time"));
        assert!(error("echo", Stamp::Timings).contains("tells no timings"));
        assert!(error("exit 3", Stamp::None).contains("exit status: 3"));
    }

    #[test]
    fn what_is_not_installed_is_said_so() {
        let error = said(&mut Command::new("midge-has-no-such-program")).unwrap_err();
        assert_eq!(error.to_string(), "midge-has-no-such-program is not installed");
    }
}
