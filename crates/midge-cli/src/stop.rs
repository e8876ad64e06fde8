//! Waits for somebody to ask the process to end.

use std::future::Future;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears SIGINT and SIGTERM for as long as it exists.
#[derive(Debug)]
pub struct StopSignal {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignal {
    /// Begins to listen. Until it is dropped, Ctrl-C does not end the process by itself.
    pub fn listen() -> Result<StopSignal> {
        let hear = |kind| signal(kind).context("cannot listen for signals");
        Ok(StopSignal {
            interrupt: hear(SignalKind::interrupt())?,
            terminate: hear(SignalKind::terminate())?,
        })
    }

    /// Waits for the next signal.
    pub async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Waits for work to be done, unless the process is asked to end first; then the work is dropped.
    pub async fn or<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            () = self.asked() => None,
            done = work => Some(done),
        }
    }
}
