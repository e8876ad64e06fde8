//! What ends the host from outside: SIGTERM and SIGINT, and the end of its leash.

use std::fs::File;

use anyhow::Context;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to listen. From here on the signals do not end the process by themselves.
    pub fn listen() -> anyhow::Result<Signals> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// A pipe whose other end is held by who started us. It ends with them, even if they are killed.
pub struct Leash(Option<Receiver>);

impl Leash {
    /// Opens the leash, where there is one.
    pub fn open(fd: Option<u32>) -> anyhow::Result<Leash> {
        let Some(fd) = fd else { return Ok(Leash(None)) };
        // By its path, since a bare number is not yet a file that is ours to close.
        let file = File::open(format!("/proc/self/fd/{fd}")).and_then(Receiver::from_file);
        Ok(Leash(Some(file.with_context(|| format!("MIDGE_LEASH_FD: {fd} is not a pipe"))?)))
    }

    /// Waits for its end; for ever, where there is none.
    pub async fn ended(&mut self) {
        let Some(pipe) = &mut self.0 else { return std::future::pending().await };
        let mut ignored = [0; 64];
        // Nothing is ever written to it, but if something is, it is not the end.
        while pipe.read(&mut ignored).await.is_ok_and(|length| length > 0) {}
    }
}
