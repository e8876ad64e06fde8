//! Where a guest's stdout and stderr go: a result that traps over its budget, and the log.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use midge_protocol::limits::RESULT_BYTES_MAX;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::over::Over;
use crate::shared::Shared;

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

/// One of a guest's output streams, as WASI wants it.
pub(crate) struct GuestStream<S>(pub(crate) Arc<S>);

impl<S: Sink> GuestStream<S> {
    fn again(&self) -> GuestStream<S> {
        GuestStream(Arc::clone(&self.0))
    }
}

impl<S> IsTerminal for GuestStream<S> {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl<S: Sink> StdoutStream for GuestStream<S> {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.again())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.again())
    }
}

#[async_trait::async_trait]
impl<S: Sink> Pollable for GuestStream<S> {
    async fn ready(&mut self) {}
}

impl<S: Sink> OutputStream for GuestStream<S> {
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

impl<S: Sink> AsyncWrite for GuestStream<S> {
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
    fn a_result_takes_its_budget_and_not_a_byte_more() {
        let result = ResultSink::default();
        let half = vec![0; RESULT_BYTES_MAX / 2];
        assert!(result.take(&half).is_ok() && result.take(&half).is_ok());
        assert!(matches!(result.take(b"x"), Err(Over::Output)));
        assert_eq!(result.drain().len(), RESULT_BYTES_MAX);
    }
}
