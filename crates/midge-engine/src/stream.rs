//! Where a guest's stdout and stderr go: a result that traps over its budget, and a log that is cut and marked.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use midge_protocol::limits::{LOG_BYTES_MAX, MESSAGE_BYTES_MAX, RESULT_BYTES_MAX};
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::ending::Over;
use crate::shared::Shared;

/// What replaces the rest of a log that is too long.
const LOG_CUT: &str = "\n[the log was cut here: no more of it is kept]\n";
/// How much WASI may hand over in one write. It comes in 4 KiB pieces anyway.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// Takes what a guest writes.
pub(crate) trait Sink: Send + Sync + 'static {
    fn take(&self, bytes: &[u8]) -> Result<(), Over>;
}

/// A guest's stdout, in memory.
#[derive(Default)]
pub(crate) struct ResultSink(Mutex<BytesMut>);

impl ResultSink {
    pub(crate) fn drain(&self) -> Bytes {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).freeze()
    }
}

impl Sink for ResultSink {
    fn take(&self, bytes: &[u8]) -> Result<(), Over> {
        let mut result = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes.len() > RESULT_BYTES_MAX - result.len() {
            return Err(Over::Output);
        }
        result.extend_from_slice(bytes);
        Ok(())
    }
}

impl Sink for Shared {
    fn take(&self, bytes: &[u8]) -> Result<(), Over> {
        self.go_on()?;
        self.write_log(bytes);
        Ok(())
    }
}

/// A log: the first [`LOG_BYTES_MAX`] bytes that a guest wrote, and its last words.
#[derive(Default)]
pub(crate) struct Log {
    kept: BytesMut,
    cut: bool,
    /// The newest bytes of a log that was cut: the last words are a failure's message.
    tail: Vec<u8>,
}

impl Log {
    /// Adds bytes, and returns whether any were kept.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> bool {
        if self.cut {
            self.write_tail(bytes);
            return false;
        }
        let room = LOG_BYTES_MAX - LOG_CUT.len() - self.kept.len();
        if bytes.len() <= room {
            self.kept.extend_from_slice(bytes);
            return true;
        }
        let before = self.kept.len().saturating_sub(MESSAGE_BYTES_MAX);
        self.tail = self.kept[before..].to_vec();
        self.write_tail(bytes);
        self.kept.extend_from_slice(&bytes[..room]);
        self.kept.extend_from_slice(LOG_CUT.as_bytes());
        self.cut = true;
        true
    }

    fn write_tail(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(MESSAGE_BYTES_MAX)..];
        // Twice the bound, so that bytes move once in a while and not with every write.
        if self.tail.len() + bytes.len() > 2 * MESSAGE_BYTES_MAX {
            let old = self.tail.len().saturating_sub(MESSAGE_BYTES_MAX);
            self.tail.drain(..old);
        }
        self.tail.extend_from_slice(bytes);
    }

    pub(crate) fn len(&self) -> u64 {
        self.kept.len() as u64
    }

    pub(crate) fn bytes_from(&self, offset: u64, bytes_max: usize) -> Bytes {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.kept.len());
        let end = self.kept.len().min(start.saturating_add(bytes_max));
        Bytes::copy_from_slice(&self.kept[start..end])
    }

    /// Returns the newest bytes, at most about [`MESSAGE_BYTES_MAX`].
    pub(crate) fn last(&self) -> &[u8] {
        let newest = if self.cut { &self.tail[..] } else { &self.kept[..] };
        &newest[newest.len().saturating_sub(MESSAGE_BYTES_MAX)..]
    }
}

/// One of a guest's output streams, as WASI wants it.
pub(crate) struct Output<S>(pub(crate) Arc<S>);

impl<S: Sink> Output<S> {
    fn again(&self) -> Output<S> {
        Output(Arc::clone(&self.0))
    }
}

impl<S> IsTerminal for Output<S> {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl<S: Sink> StdoutStream for Output<S> {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.again())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.again())
    }
}

#[async_trait::async_trait]
impl<S: Sink> Pollable for Output<S> {
    async fn ready(&mut self) {}
}

impl<S: Sink> OutputStream for Output<S> {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        // A trap, not an error that the guest may ignore and flood on.
        self.0.take(&bytes).map_err(|over| StreamError::Trap(over.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl<S: Sink> AsyncWrite for Output<S> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Ready(self.0.take(bytes).map(|()| bytes.len()).map_err(std::io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_too_long_is_cut_marked_and_keeps_its_last_words() {
        let mut log = Log::default();
        assert!(log.write(b"first\n"));
        for _ in 0..LOG_BYTES_MAX / 1000 + 10 {
            log.write(&[b'.'; 1000]);
        }
        assert!(!log.write(b"\nlast words"));
        assert_eq!(log.len() as usize, LOG_BYTES_MAX);
        assert!(log.bytes_from(0, 6).starts_with(b"first\n"));
        assert!(log.bytes_from(0, usize::MAX).ends_with(LOG_CUT.as_bytes()));
        assert!(log.last().ends_with(b"\nlast words"));
        assert!(log.tail.len() <= 2 * MESSAGE_BYTES_MAX);
    }

    #[test]
    fn a_log_is_read_in_pieces_by_offset() {
        let mut log = Log::default();
        log.write(b"hello world");
        assert_eq!(&log.bytes_from(0, 5)[..], b"hello");
        assert_eq!(&log.bytes_from(5, 100)[..], b" world");
        assert_eq!(&log.bytes_from(100, 100)[..], b"");
    }

    #[test]
    fn a_result_takes_its_budget_and_not_a_byte_more() {
        let result = ResultSink::default();
        let half = vec![0; RESULT_BYTES_MAX / 2];
        assert!(result.take(&half).is_ok() && result.take(&half).is_ok());
        assert!(matches!(result.take(b"x"), Err(Over::Output)));
        assert_eq!(result.drain().len(), RESULT_BYTES_MAX);
    }
}
