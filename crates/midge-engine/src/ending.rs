//! Tells how an attempt ended from what wasmtime, the limits and the guest itself say. The cause is exact.

use midge_protocol::exchange::Outcome;
use midge_protocol::job::{AttemptLimits, Cause, Failure};
use midge_protocol::limits::{
    MESSAGE_BYTES_MAX, OPEN_FILES_MAX, OPEN_REQUESTS_MAX, RECEIVED_BYTES_MAX, REQUESTS_MAX, SENT_BYTES_MAX,
    TABLE_ELEMENTS_MAX,
};
use midge_protocol::shown;
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::guest::{DeniedGrowth, Guest};
use crate::lacks;
use crate::over::Over;
use crate::stop::Stop;
use crate::stream::ResultSink;

/// EX_DATAERR of sysexits.h: the guest asks not to be retried.
const EXIT_REFUSED: i32 = 65;
/// Functions named in a trap's message.
const FRAMES_NAMED: usize = 3;

/// Says how an attempt ended. `ended` is wasmtime's answer; nothing where the guest was dropped while it slept.
pub(crate) fn outcome(
    ended: Option<wasmtime::Result<()>>,
    stop: Option<Stop>,
    limits: AttemptLimits,
    guest: &mut Guest,
    result: &ResultSink,
) -> Outcome {
    let mut outcome = match ended {
        Some(Ok(())) => completed(result),
        Some(Err(error)) => broken(&error, stop, limits, guest, result),
        None => stopped(stop.unwrap_or(Stop::Cancelled), limits.time_ms),
    };
    if let Outcome::Failed(failure) = &mut outcome {
        failure.retry_after_ms = guest.retry_after_ms;
    }
    outcome
}

fn completed(result: &ResultSink) -> Outcome {
    Outcome::Completed { result: result.drain() }
}

fn broken(
    error: &wasmtime::Error,
    stop: Option<Stop>,
    limits: AttemptLimits,
    guest: &mut Guest,
    result: &ResultSink,
) -> Outcome {
    if let Some(over) = error.downcast_ref::<Over>() {
        return match over {
            Over::Output => failed(Cause::OverOutput, over.to_string()),
            Over::Random { .. } => failed(Cause::OverRandom, over.to_string()),
            Over::Stopped => stopped(stop.unwrap_or(Stop::Cancelled), limits.time_ms),
        };
    }
    if let Some(I32Exit(code)) = error.downcast_ref::<I32Exit>() {
        return exited(*code, limits.memory_bytes, guest, result);
    }
    // No host call hands on an error of the system, so that this is wasmtime's own want: of memory, or of a stack.
    if let Some(what) = lacks::of(error.as_ref()) {
        return Outcome::HandedBack { lacks: Some(what) };
    }
    if let Some(what) = guest.lacked.take() {
        return Outcome::HandedBack { lacks: Some(what) };
    }
    Outcome::Failed(match guest.denied {
        Some(denied) => over_limit(denied, limits.memory_bytes),
        None => trapped(error, guest),
    })
}

/// Says how an attempt ended that was stopped from outside.
pub(crate) fn stopped(stop: Stop, time_limit_ms: u64) -> Outcome {
    match stop {
        Stop::OverTime => {
            let seconds = time_limit_ms as f64 / 1000.0;
            failed(Cause::OverTime, format!("ran past its time limit of {seconds} s"))
        }
        Stop::Cancelled => Outcome::Cancelled,
        Stop::HandedBack => Outcome::HANDED_BACK,
    }
}

pub(crate) fn failed(cause: Cause, message: impl Into<String>) -> Outcome {
    Outcome::Failed(Failure::new(cause, message))
}

fn exited(code: i32, memory_limit_bytes: u64, guest: &mut Guest, result: &ResultSink) -> Outcome {
    if code == 0 {
        return completed(result);
    }
    if let Some(after_ms) = guest.snooze_ms {
        return Outcome::Snoozed { after_ms };
    }
    // Whatever it makes of it, the refusal of a job too: with what the Machine lacks it may have ended otherwise.
    if let Some(what) = guest.lacked.take() {
        return Outcome::HandedBack { lacks: Some(what) };
    }
    let words = guest.error.take().or_else(|| last_words(guest.shared.log().last()));
    let said = words.unwrap_or_else(|| format!("exited with code {code}"));
    let mut failure = match (code, guest.denied) {
        (EXIT_REFUSED, _) => Failure::new(Cause::Refused, said),
        // It was told that there is no more memory, and gave up.
        (_, Some(denied)) => over_limit(denied, memory_limit_bytes),
        (_, None) => Failure::new(Cause::Exit, said),
    };
    failure.exit_code = Some(code);
    Outcome::Failed(failure)
}

fn over_limit(denied: DeniedGrowth, memory_limit_bytes: u64) -> Failure {
    match denied {
        DeniedGrowth::Memory(bytes) => {
            let (wanted, limit) = (mib(bytes), mib(memory_limit_bytes));
            Failure::new(
                Cause::OverMemory,
                format!("wanted {wanted} MiB of memory, its limit is {limit} MiB"),
            )
        }
        DeniedGrowth::Files => Failure::new(
            Cause::OverFiles,
            format!("wanted more than {OPEN_FILES_MAX} files and folders open at once, which is the limit"),
        ),
        DeniedGrowth::OpenRequests => Failure::new(
            Cause::OverOpenRequests,
            format!("wanted more than {OPEN_REQUESTS_MAX} requests open at once, which is the limit"),
        ),
        DeniedGrowth::Requests => Failure::new(
            Cause::OverRequests,
            format!("wanted to make more than {REQUESTS_MAX} requests, which is the limit"),
        ),
        DeniedGrowth::Sent => Failure::new(
            Cause::OverSent,
            format!("wanted to send more than {} MiB, which is the limit", SENT_BYTES_MAX >> 20),
        ),
        DeniedGrowth::Received => Failure::new(
            Cause::OverReceived,
            format!("wanted to receive more than {} MiB, which is the limit", RECEIVED_BYTES_MAX >> 20),
        ),
        DeniedGrowth::Table(elements) => Failure::new(
            Cause::OverTable,
            format!("wanted tables of {elements} elements, the limit is {TABLE_ELEMENTS_MAX}"),
        ),
    }
}

/// Rounds up and keeps one decimal, so that what is just over a limit does not read like the limit.
fn mib(bytes: u64) -> f64 {
    (bytes as f64 / (1 << 20) as f64 * 10.0).ceil() / 10.0
}

fn trapped(error: &wasmtime::Error, guest: &mut Guest) -> Failure {
    let (cause, mut what) = match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => (Cause::OverStack, Trap::StackOverflow.to_string()),
        Some(trap) => (Cause::Trap, trap.to_string()),
        // A host call that could not be served, such as one with an address outside of memory.
        None => (Cause::Trap, error.root_cause().to_string()),
    };
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        let named = backtrace.frames().iter().filter_map(|frame| frame.func_name()).take(FRAMES_NAMED);
        let names: Vec<String> = named.map(shown::cut).collect();
        if !names.is_empty() {
            what = format!("{what} in {}", names.join(", called by "));
        }
    }
    match guest.error.take().or_else(|| last_words(guest.shared.log().last())) {
        Some(words) => Failure::new(cause, format!("{words} ({what})")),
        None => Failure::new(cause, what),
    }
}

/// Returns what a guest said last on stderr: the panic message of a Rust program, else the last line.
fn last_words(log: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(&log[log.len().saturating_sub(MESSAGE_BYTES_MAX)..]);
    let lines: Vec<&str> = text.lines().collect();
    let is_panic = |line: &&str| line.starts_with("thread '") && line.contains("panicked at");
    let words = match lines.iter().rposition(is_panic) {
        Some(start) => {
            let lines =
                lines[start..].iter().filter(|line| !line.starts_with("note: run with `RUST_BACKTRACE"));
            lines.copied().collect::<Vec<&str>>().join(" ")
        }
        None => (*lines.iter().rev().find(|line| !line.trim().is_empty())?).to_owned(),
    };
    let words = words.trim();
    (!words.is_empty()).then(|| words.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_the_last_line_that_says_anything() {
        assert_eq!(last_words(b"one\ntwo\n\n").as_deref(), Some("two"));
        assert_eq!(last_words(b"\x1b[31mred\x1b[0m\n").as_deref(), Some("\x1b[31mred\x1b[0m"));
        assert_eq!(last_words(b"\n  \n"), None);
        assert_eq!(last_words(b""), None);
    }

    #[test]
    fn the_last_words_of_a_rust_program_are_its_panic() {
        let log = b"reading\n\nthread 'main' (1) panicked at src/main.rs:3:5:\nno such width\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n";
        let words = last_words(log).unwrap();
        assert_eq!(words, "thread 'main' (1) panicked at src/main.rs:3:5: no such width");
    }

    #[test]
    fn just_over_a_limit_does_not_read_like_the_limit() {
        assert_eq!(mib(256 << 20), 256.0);
        assert_eq!(mib((256 << 20) + 65_536), 256.1);
    }
}
