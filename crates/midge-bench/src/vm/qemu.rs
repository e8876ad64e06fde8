//! qemu: starts a virtual machine, takes what it says, and ends it.

use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde::Serialize;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::console::{self, Line, Start};
use super::programs::Program;

const QEMU: &str = "qemu-system-x86_64";
/// More than kernel, host and module hold, and as much as the smallest Machine of Fly has.
pub(super) const MEMORY_MIB: u32 = 256;
/// A console that says more than this is not that of a start, and its virtual machine is ended.
const CONSOLE_BYTES_MAX: u64 = 1 << 20;
/// A line that is longer is cut, and its rest is the next one.
const LINE_BYTES_MAX: usize = 16 << 10;
/// By then a virtual machine has come to its end, or it never will.
const END_TIME_MAX: Duration = Duration::from_secs(60);
/// With KVM the kernel's first line comes within half a second, or not at all.
const KVM_KERNEL_TIME_MAX: Duration = Duration::from_secs(5);

/// How the instructions of a virtual machine are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Accelerator {
    /// By the CPU itself.
    Kvm,
    /// Translated by qemu.
    Emulation,
}

/// A kind of virtual machine, and how it is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) kind: &'static str,
    pub(super) accelerator: Accelerator,
}

/// The ways to run a virtual machine, the best first. In emulation a microvm is hardly faster, and it has no clock for
/// its kernel that is finer than 4 ms.
pub(super) const WAYS: [Way; 3] = [
    Way { kind: "microvm,acpi=off", accelerator: Accelerator::Kvm },
    Way { kind: "q35", accelerator: Accelerator::Kvm },
    Way { kind: "q35", accelerator: Accelerator::Emulation },
];

/// The serial port from the kernel's first line on, with the few lines that are notices or worse: each takes time. No
/// check of the timer, which fails where a busy computer emulates one. When the first process ends the kernel panics,
/// and that resets the virtual machine at once, in the one way that every kind has.
const KERNEL_ARGS: &str = "console=ttyS0 earlyprintk=ttyS0 loglevel=6 no_timer_check panic=-1 reboot=triple";

impl Accelerator {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Accelerator::Kvm => "KVM",
            Accelerator::Emulation => "emulation",
        }
    }

    fn args(self) -> [&'static str; 4] {
        match self {
            Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
            // The first CPU that has all of x86-64-v2, the baseline of modules: what one has beyond it costs time. But
            // for chance, which the kernel would gather for a second while the first to ask for it waits.
            Accelerator::Emulation => ["-accel", "tcg", "-cpu", "Nehalem,+rdrand"],
        }
    }

    fn kernel_args(self) -> &'static str {
        match self {
            Accelerator::Kvm => "",
            // In qemu 7.2 `cmpxchg16b` spoils the flags where an interrupt comes in between, and a kernel that uses it
            // crashes now and then.
            Accelerator::Emulation => " clearcpuid=cx16",
        }
    }

    fn kernel_time_max(self) -> Duration {
        match self {
            Accelerator::Kvm => KVM_KERNEL_TIME_MAX,
            Accelerator::Emulation => END_TIME_MAX,
        }
    }
}

/// Returns the version of qemu, as it says it.
pub(super) fn version() -> Result<String> {
    let output = match Command::new(QEMU).arg("--version").stdin(Stdio::null()).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(
            "{QEMU} is not installed, and it is what runs virtual machines: on Debian, `apt install qemu-system-x86`"
        ),
        output => output.with_context(|| format!("cannot start {QEMU}"))?,
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let first = text.lines().next().unwrap_or_default();
    // Without the package's version in brackets.
    Ok(first.split(" (").next().unwrap_or(first).to_owned())
}

/// Starts a virtual machine whose only program is this, and returns what its console told when it has ended.
pub(super) async fn run(way: Way, kernel: &Path, program: &Program) -> Result<Start> {
    let mut command = command(way, kernel, &program.initramfs, &program.command);
    let began = Instant::now();
    let mut qemu = Qemu::start(&mut command)?;
    let mut lines = qemu.console(began);
    let mut console = Vec::new();
    let whole = async {
        let kernel = take(&mut lines, &mut console, console::is_kernel);
        if tokio::time::timeout(way.accelerator.kernel_time_max(), kernel).await.is_err() {
            return Err(way.accelerator.kernel_time_max());
        }
        take(&mut lines, &mut console, |_| false).await;
        Ok(())
    };
    let ended = tokio::time::timeout(END_TIME_MAX, whole).await.unwrap_or(Err(END_TIME_MAX));
    let said = qemu.end();
    let words = |told: String| match &said {
        Some(said) if console.is_empty() => said.clone(),
        Some(said) => format!("{said}; {told}"),
        None => told,
    };
    // How qemu ended says nothing: it closes the console before it has.
    match (ended, console::read(&console)) {
        (Ok(()), start) => start.map_err(|told| anyhow!(words(told))),
        (Err(limit), start) => {
            let told = start.err().unwrap_or_else(|| "it has run its program".to_owned());
            bail!("not at its end after {} s: {}", limit.as_secs(), words(told))
        }
    }
}

/// Takes lines until one of a kind has come, or the last.
async fn take(lines: &mut UnboundedReceiver<Line>, console: &mut Vec<Line>, last: impl Fn(&str) -> bool) {
    while let Some(line) = lines.recv().await {
        let is_last = last(&line.text);
        console.push(line);
        if is_last {
            return;
        }
    }
}

/// A qemu that runs; it ends with this.
struct Qemu {
    child: Child,
    /// Takes what it says of itself.
    said: Option<JoinHandle<String>>,
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // What it said no longer matters.
        let _ = self.end();
    }
}

impl Qemu {
    fn start(command: &mut Command) -> Result<Qemu> {
        let mut child = command.spawn().with_context(|| format!("cannot start {QEMU}"))?;
        let stderr = child.stderr.take().expect("it is piped");
        let said = std::thread::spawn(move || {
            let mut said = String::new();
            // What is not text is of no use either.
            let _ = stderr.take(CONSOLE_BYTES_MAX).read_to_string(&mut said);
            said
        });
        Ok(Qemu { child, said: Some(said) })
    }

    /// Returns the lines of its console, as they come.
    fn console(&mut self, began: Instant) -> UnboundedReceiver<Line> {
        let stdout = self.child.stdout.take().expect("it is piped");
        let (lines, received) = unbounded_channel();
        std::thread::spawn(move || pass_on(stdout.take(CONSOLE_BYTES_MAX), began, &lines));
        received
    }

    /// Ends it, and returns the first thing that it said of itself.
    fn end(&mut self) -> Option<String> {
        // It may have ended by itself, which is just as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let said = self.said.take()?.join().ok()?;
        let first = said.lines().map(str::trim).find(|line| !line.is_empty())?;
        Some(first.to_owned())
    }
}

/// Passes lines on, each when it is whole.
fn pass_on(console: impl Read, began: Instant, lines: &UnboundedSender<Line>) {
    let mut line = Vec::new();
    for byte in BufReader::new(console).bytes().map_while(Result::ok) {
        if byte != b'\n' && line.len() < LINE_BYTES_MAX {
            line.push(byte);
            continue;
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        if lines.send(Line { at: began.elapsed(), text }).is_err() {
            return;
        }
    }
}

fn command(way: Way, kernel: &Path, initramfs: &Path, program: &[String]) -> Command {
    let (init, args) = program.split_first().expect("a program has a name");
    let args = if args.is_empty() { String::new() } else { format!(" -- {}", args.join(" ")) };
    let mut command = Command::new(QEMU);
    command.args(["-M", way.kind]).args(way.accelerator.args());
    command.args(["-smp", "1", "-m", &format!("{MEMORY_MIB}M")]);
    command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"]);
    command.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs);
    let for_accelerator = way.accelerator.kernel_args();
    command.arg("-append").arg(format!("{KERNEL_ARGS}{for_accelerator} rdinit={init}{args}"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(way: Way, program: &[&str]) -> Vec<String> {
        let program: Vec<String> = program.iter().map(|&word| word.to_owned()).collect();
        let command = command(way, Path::new("/vmlinuz"), Path::new("/a.cpio"), &program);
        command.get_args().map(|word| word.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_program_is_the_first_process_and_has_its_arguments() {
        let append = |program: &[&str]| words(WAYS[2], program).last().unwrap().clone();
        let host = append(&["/midge-host", "run", "a", "--timings"]);
        assert!(host.ends_with(" rdinit=/midge-host -- run a --timings"), "{host}");
        assert!(append(&["/floor"]).ends_with(" rdinit=/floor"));
    }

    #[test]
    fn a_virtual_machine_has_nothing_but_a_serial_port_and_ends_instead_of_starting_again() {
        let words = words(WAYS[2], &["/floor"]);
        for word in ["-nodefaults", "-no-user-config", "-no-reboot"] {
            assert!(words.iter().any(|other| other == word), "{word} is not in {words:?}");
        }
        let pairs = [["-serial", "stdio"], ["-display", "none"], ["-accel", "tcg"], ["-initrd", "/a.cpio"]];
        for pair in pairs {
            assert!(words.windows(2).any(|other| other == pair), "{pair:?} is not in {words:?}");
        }
    }

    #[test]
    fn kvm_goes_before_emulation() {
        let is_emulated = WAYS.map(|way| way.accelerator == Accelerator::Emulation);
        assert_eq!(is_emulated, [false, false, true]);
    }

    #[test]
    fn a_line_is_passed_on_when_it_is_whole() {
        let (lines, mut received) = unbounded_channel();
        pass_on(&b"one\r\n\r\ntw\xffo\r\nhalf"[..], Instant::now(), &lines);
        let mut texts = Vec::new();
        while let Ok(line) = received.try_recv() {
            texts.push(line.text);
        }
        assert_eq!(texts, ["one", "", "tw\u{fffd}o"]);
    }
}
