//! What comes out of a virtual machine: lines on its console, from which the phases of its start are read.

use std::collections::BTreeMap;
use std::time::Duration;

use midge_engine::start::StartPhase;
use serde::Deserialize;

/// How the kernel's first line begins, after its time stamp.
const KERNEL: &str = "Linux version ";
/// What the kernel writes when its first process has ended, before that one's wait status.
const ENDED: &str = "Attempted to kill init! exitcode=0x";
const PANIC: &str = "Kernel panic - not syncing: ";
const GUEST: &str = "guest ";
const STAMP_DIGITS: usize = 16;
/// Lines that are shown of a console that is not as it should be.
const TAIL_LINES: usize = 3;

/// A line, and when it was whole: since the virtual machine was started, by this computer's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) at: Duration,
    pub(super) text: String,
}

/// A start, read from the console.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// The kernel's version, as it says it.
    pub(super) kernel: String,
    /// From power-on to the kernel's first line.
    pub(super) kernel_at: Duration,
    /// From the start of the kernel's clock to `main`, by that clock.
    pub(super) booted: Duration,
    /// From `main` to the guest's first instruction, where there is one.
    pub(super) guest: Option<Duration>,
    /// From power-on to the result.
    pub(super) result_at: Duration,
    /// The parts of the time from `main` to the guest, in order.
    pub(super) spent: Vec<(&'static str, Duration)>,
}

impl Start {
    /// Returns what is between the kernel's first line and `main`. The kernel's clock does not say it: it begins later.
    pub(super) fn main(&self) -> Duration {
        self.result_at.saturating_sub(self.kernel_at + self.guest.unwrap_or_default())
    }
}

/// The line of a host with `--timings`.
#[derive(Debug, Deserialize)]
struct Timings {
    main_at: u64,
    booted: u64,
    #[serde(default)]
    spent: BTreeMap<String, u64>,
}

/// Returns whether this is the kernel's first line.
pub(super) fn is_kernel(line: &str) -> bool {
    kernel(line).is_some()
}

fn kernel(line: &str) -> Option<&str> {
    line.split_once(KERNEL)?.1.split(' ').next()
}

/// Returns when the guest's first instruction ran, in nanoseconds since the Unix epoch, if this is its line.
pub(super) fn guest_at(line: &str) -> Option<u64> {
    let digits = line.strip_prefix(GUEST).filter(|digits| digits.len() == STAMP_DIGITS)?;
    u64::from_str_radix(digits, 16).ok()
}

/// Reads a console to its end. An error is what it said instead, in a line.
pub(super) fn read(lines: &[Line]) -> Result<Start, String> {
    start(lines).ok_or_else(|| failure(lines))
}

fn start(lines: &[Line]) -> Option<Start> {
    let (kernel_at, kernel) = lines.iter().find_map(|line| Some((line.at, kernel(&line.text)?)))?;
    let status = lines.iter().find_map(|line| line.text.split_once(ENDED))?.1;
    if !status.chars().all(|digit| digit == '0') {
        return None;
    }
    let guest = lines.iter().find_map(|line| Some((line.at, guest_at(&line.text)?)));
    let (timings_at, timings) =
        lines.iter().find_map(|line| Some((line.at, serde_json::from_str::<Timings>(&line.text).ok()?)))?;
    let spent = |phase: StartPhase| {
        let spent = timings.spent.get(phase.as_str())?;
        Some((phase.as_str(), Duration::from_nanos(*spent)))
    };
    Some(Start {
        kernel: kernel.to_owned(),
        kernel_at,
        booted: Duration::from_nanos(timings.booted),
        guest: guest.map(|(_, at)| Duration::from_nanos(at.saturating_sub(timings.main_at))),
        // The guest's line is the result; a floor has only the other one.
        result_at: guest.map_or(timings_at, |(at, _)| at),
        spent: StartPhase::ALL.into_iter().filter_map(spent).collect(),
    })
}

/// Returns what went wrong: what the first process said, else why the kernel panicked, else the last lines.
fn failure(lines: &[Line]) -> String {
    let texts: Vec<&str> =
        lines.iter().map(|line| line.text.trim()).filter(|text| !text.is_empty()).collect();
    let panic = texts.iter().position(|text| text.contains(PANIC));
    let before = texts[..panic.unwrap_or(texts.len())].iter().copied();
    // The kernel's own lines have the time in front.
    let said: Vec<&str> =
        before.skip_while(|text| !is_kernel(text)).filter(|text| !text.starts_with('[')).collect();
    let why = panic.and_then(|at| Some(texts[at].split_once(PANIC)?.1));
    match (why, said.is_empty()) {
        _ if texts.is_empty() => "its console is empty".to_owned(),
        (Some(why), true) => why.to_owned(),
        (Some(why), false) => format!("{why}: {}", last(&said)),
        (None, _) => format!("its console ends with: {}", last(&texts)),
    }
}

fn last(texts: &[&str]) -> String {
    texts[texts.len().saturating_sub(TAIL_LINES)..].join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> Vec<Line> {
        let line = |(at, text): (usize, &&str)| Line {
            at: Duration::from_secs(at as u64),
            text: (*text).to_owned(),
        };
        texts.iter().enumerate().map(line).collect()
    }

    const KERNEL_LINE: &str = "[    0.000000] Linux version 6.12.1-cloud-amd64 (debian-kernel) #1 SMP";
    const TIMINGS_LINE: &str =
        r#"{"booted":2000000000,"main_at":1000000,"spent":{"link":1000,"engine":250000}}"#;
    const ENDED_LINE: &str =
        "[    2.3] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000000";

    #[test]
    fn a_start_is_read_from_the_lines_of_kernel_guest_and_host() {
        let start = read(&lines(&[
            "Probing EDD (edd=off to disable)... ok",
            KERNEL_LINE,
            "[    1.0] Key type asymmetric registered",
            "guest 000000000016e360",
            TIMINGS_LINE,
            ENDED_LINE,
        ]))
        .unwrap();
        assert_eq!(start.kernel, "6.12.1-cloud-amd64");
        assert_eq!(start.kernel_at, Duration::from_secs(1));
        assert_eq!(start.booted, Duration::from_secs(2));
        assert_eq!(start.guest, Some(Duration::from_micros(500)));
        assert_eq!(start.result_at, Duration::from_secs(3));
        assert_eq!(start.kernel_at + start.main() + start.guest.unwrap(), start.result_at);
        let spent = [("engine", 250), ("link", 1)];
        assert_eq!(start.spent, spent.map(|(name, us)| (name, Duration::from_micros(us))));
    }

    #[test]
    fn a_floor_has_no_guest_and_its_own_line_is_its_result() {
        let start = read(&lines(&[KERNEL_LINE, r#"{"main_at":5,"booted":7}"#, ENDED_LINE])).unwrap();
        assert_eq!((start.guest, start.result_at), (None, Duration::from_secs(1)));
    }

    #[test]
    fn what_went_wrong_is_said_in_the_words_of_whoever_saw_it() {
        let failed = ENDED_LINE.replace("0x00000000", "0x00000100");
        let error = read(&lines(&[KERNEL_LINE, "midge-host: no module here", &failed])).unwrap_err();
        assert_eq!(error, "Attempted to kill init! exitcode=0x00000100: midge-host: no module here");
        let error = read(&lines(&[KERNEL_LINE, "[ 2.0] Kernel panic - not syncing: VFS: no root"]));
        assert_eq!(error.unwrap_err(), "VFS: no root");
        assert_eq!(read(&lines(&["a", "b", "c", "d", ""])).unwrap_err(), "its console ends with: b / c / d");
        assert_eq!(read(&[]).unwrap_err(), "its console is empty");
    }

    #[test]
    fn a_guest_line_has_sixteen_digits_and_nothing_else() {
        assert_eq!(guest_at("guest 00000000000000ff"), Some(255));
        assert_eq!(guest_at("guest ff"), None);
        assert_eq!(guest_at("guest 00000000000000fz"), None);
        assert_eq!(guest_at("a guest 00000000000000ff"), None);
    }
}
