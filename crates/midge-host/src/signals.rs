//! What ends the host from outside: SIGTERM and SIGINT, and the end of its leash. And what does not: a limit of files.

use std::fs::File;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context;
use midge_engine::{Control, Stop};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The attempt that SIGALRM interrupts.
static INTERRUPTED: OnceLock<Control> = OnceLock::new();
/// How often a guest is interrupted that has not ended yet.
const INTERRUPT_AGAIN: Duration = Duration::from_millis(5);

/// Interrupts an attempt at its deadline, and again until the process has ended. For one attempt of a process only.
pub fn interrupt_after(time_limit: Duration, control: Control) {
    extern "C" fn interrupt(_signal: libc::c_int) {
        // Set before the timer; and neither this nor that locks or allocates.
        if let Some(control) = INTERRUPTED.get() {
            control.interrupt(Stop::OverTime);
        }
    }
    let _ = INTERRUPTED.set(control);
    let timeval = |duration: Duration| libc::timeval {
        tv_sec: libc::time_t::try_from(duration.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_usec: duration.subsec_micros().into(),
    };
    // Not 0, which would be never.
    let timer = libc::itimerval {
        it_value: timeval(time_limit.max(Duration::from_micros(1))),
        it_interval: timeval(INTERRUPT_AGAIN),
    };
    #[allow(unsafe_code)]
    // SAFETY: the handler only does what may be done in one, and both structures are whole.
    unsafe {
        libc::signal(libc::SIGALRM, interrupt as extern "C" fn(libc::c_int) as libc::sighandler_t);
        libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut());
    }
}

/// SIGTERM and SIGINT.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to listen. From here on the signals do not end the process by themselves.
    pub fn listen() -> anyhow::Result<Signals> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        // A guest may reach the limit on the size of files (`ulimit -f`). Then its write fails, and the host goes on.
        drop(listen(SignalKind::from_raw(libc::SIGXFSZ))?);
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
