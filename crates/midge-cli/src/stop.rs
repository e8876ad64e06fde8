//! Waits for somebody to ask the process to end.

use std::future::{Future, poll_fn};
use std::task::Poll;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears signals that ask the process to end, for as long as it exists.
#[derive(Debug)]
pub struct StopSignal {
    signals: Vec<Signal>,
}

impl StopSignal {
    /// Begins to listen for SIGINT and SIGTERM. Until it is dropped, Ctrl-C does not end the process by itself.
    pub fn listen() -> Result<StopSignal> {
        StopSignal::of([SignalKind::interrupt(), SignalKind::terminate()])
    }

    /// Begins to listen for SIGHUP and SIGQUIT too, which end a process at once that does not listen: for one with
    /// processes of its own to end. One of the two that is ignored stays so: `nohup` means it.
    pub fn listen_to_all() -> Result<StopSignal> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let more = [SignalKind::hangup(), SignalKind::quit()];
        let heard = more.into_iter().filter(|kind| !is_ignored(&status, *kind));
        StopSignal::of([SignalKind::interrupt(), SignalKind::terminate()].into_iter().chain(heard))
    }

    fn of(kinds: impl IntoIterator<Item = SignalKind>) -> Result<StopSignal> {
        let signals = kinds.into_iter().map(signal).collect::<Result<_, _>>();
        Ok(StopSignal { signals: signals.context("cannot listen for signals")? })
    }

    /// Waits for the next signal.
    pub async fn asked(&mut self) {
        poll_fn(|context| {
            let is_heard = self.signals.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
            if is_heard { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Waits for work to be done, unless the process is asked to end first; then the work is dropped.
    pub async fn or<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            () = self.asked() => None,
            done = work => Some(done),
        }
    }
}

/// Returns whether a process ignores a signal, by its `/proc/PID/status`.
fn is_ignored(status: &str, kind: SignalKind) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (kind.as_raw_value() - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[test]
    fn what_a_process_ignores_is_read() {
        let status =
            "Name:\tmidge\nSigBlk:\t0000000000000004\nSigIgn:\t0000000000000001\nSigCgt:\t0000000000000004\n";
        assert!(is_ignored(status, SignalKind::hangup()));
        assert!(!is_ignored(status, SignalKind::quit()) && !is_ignored("", SignalKind::hangup()));
    }

    #[tokio::test]
    async fn every_signal_is_heard_that_was_not_ignored() {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let mut stop = StopSignal::listen_to_all().unwrap();
        for (kind, signal) in [
            (SignalKind::interrupt(), Signal::INT),
            (SignalKind::terminate(), Signal::TERM),
            (SignalKind::hangup(), Signal::HUP),
            (SignalKind::quit(), Signal::QUIT),
        ] {
            let always = [Signal::INT, Signal::TERM].contains(&signal);
            if always || !is_ignored(&status, kind) {
                kill_process(getpid(), signal).unwrap();
                stop.asked().await;
            }
        }
    }
}
