//! A connection to a server on which requests are made: HTTP/1.1, one at a time, or HTTP/2, several side by side.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use midge_protocol::limits::{HTTP_HEAD_BYTES_MAX, OPEN_REQUESTS_MAX};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;

use crate::outgoing::Sent;

/// What is read from a connection and not yet taken, at most: a head of the largest size fits.
const READ_BYTES_MAX: usize = HTTP_HEAD_BYTES_MAX + 16 * 1024;
/// Requests on one connection of HTTP/2: those of one attempt. Another connection has others.
const STREAMS_MAX: usize = OPEN_REQUESTS_MAX;
/// What a server may send of one answer before it is taken: 25 MB a second where it is 10 ms away.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// The same for a connection: whoever does not take an answer keeps nobody else from theirs.
const CONNECTION_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * STREAMS_MAX as u32;
/// The head of an answer on HTTP/2, whose own count adds 32 bytes for each header. More than heads may have, so that one that
/// is too large is told as such: the error for what is beyond this has no name.
const HEADER_LIST_BYTES_MAX: u32 = 2 * HTTP_HEAD_BYTES_MAX as u32;
/// What of a request waits to be sent, in each stream.
const SEND_BYTES_MAX: usize = 64 * 1024;
/// After how long without a word a server that owes an answer on HTTP/2 is asked whether it is there. Else all that come to
/// share its connection would wait for their own limits.
const ASK_AFTER: Duration = Duration::from_secs(20);
/// How long it may take to say so.
const ASKED_WITHIN: Duration = Duration::from_secs(20);

/// What may come of a connection before the head of an answer is there, with that head and what is read ahead behind it: a server
/// that goes on with informational answers (1xx) would else keep this thread from all others.
const BEFORE_HEAD_BYTES_MAX: usize = 4 * READ_BYTES_MAX;
const NO_BOUND: usize = usize::MAX;

/// A connection. It ends with its last clone.
pub(crate) enum Link {
    /// HTTP/1.1.
    Alone {
        /// Where its requests go in.
        sender: http1::SendRequest<Sent>,
        /// What may come before the head of an answer.
        before: Arc<AtomicUsize>,
        /// What runs it.
        _run: Run,
    },
    /// HTTP/2.
    Shared {
        /// Where its requests go in.
        sender: http2::SendRequest<Sent>,
        /// What runs it. Each request on it, and the pool, has a share.
        run: Arc<Run>,
    },
}

/// A stream that ends with an error where more comes than may.
struct Bounded<S> {
    stream: S,
    left: Arc<AtomicUsize>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = room.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, room))?;
        let left = self.left.load(Ordering::Relaxed);
        if left == NO_BOUND {
            return Poll::Ready(Ok(()));
        }
        match left.checked_sub(room.filled().len() - before) {
            Some(left) => {
                self.left.store(left, Ordering::Relaxed);
                Poll::Ready(Ok(()))
            }
            None => Poll::Ready(Err(io::Error::other("more came before the head of an answer than may"))),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A task that ends with this.
pub(crate) struct Run(JoinHandle<()>);

impl Drop for Run {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Link {
    /// Begins HTTP/1.1 on a stream.
    pub(crate) async fn alone(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> hyper::Result<Link> {
        let before = Arc::new(AtomicUsize::new(NO_BOUND));
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(READ_BYTES_MAX)
            .max_header_size(HTTP_HEAD_BYTES_MAX)
            .handshake(TokioIo::new(Bounded { stream, left: Arc::clone(&before) }))
            .await?;
        // What it ends with is told to the request that is on it.
        let run = tokio::spawn(async { drop(connection.await) });
        Ok(Link::Alone { sender, before, _run: Run(run) })
    }

    /// Begins HTTP/2 on a stream.
    pub(crate) async fn shared(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> hyper::Result<Link> {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(HEADER_LIST_BYTES_MAX)
            .max_send_buf_size(SEND_BYTES_MAX)
            .keep_alive_interval(ASK_AFTER)
            .keep_alive_timeout(ASKED_WITHIN)
            .handshake(TokioIo::new(stream))
            .await?;
        let run = tokio::spawn(async { drop(connection.await) });
        Ok(Link::Shared { sender, run: Arc::new(Run(run)) })
    }

    /// Returns whether it speaks HTTP/2.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self, Link::Shared { .. })
    }

    /// Returns whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        match self {
            Link::Alone { sender, .. } => sender.is_closed(),
            Link::Shared { sender, .. } => sender.is_closed(),
        }
    }

    /// Returns whether a request can be made on it now.
    pub(crate) fn is_ready(&self) -> bool {
        match self {
            Link::Alone { sender, .. } => sender.is_ready(),
            Link::Shared { sender, .. } => sender.is_ready() && self.requests() < STREAMS_MAX,
        }
    }

    /// Returns how many requests are on it, where the pool has a share of it.
    pub(crate) fn requests(&self) -> usize {
        match self {
            Link::Alone { .. } => 0,
            Link::Shared { run, .. } => Arc::strong_count(run) - 1,
        }
    }

    /// Returns another share of it, where it can be shared.
    pub(crate) fn share(&self) -> Option<Link> {
        match self {
            Link::Alone { .. } => None,
            Link::Shared { sender, run } => {
                Some(Link::Shared { sender: sender.clone(), run: Arc::clone(run) })
            }
        }
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn send(
        &mut self,
        request: Request<Sent>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Sent>>> {
        match self {
            Link::Alone { sender, before, .. } => {
                before.store(BEFORE_HEAD_BYTES_MAX, Ordering::Relaxed);
                let answer = sender.try_send_request(request).await;
                before.store(NO_BOUND, Ordering::Relaxed);
                answer
            }
            Link::Shared { sender, .. } => sender.try_send_request(request).await,
        }
    }
}
