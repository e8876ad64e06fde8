//! A connection's bytes, watched: in which phase it is, whether it moves, and whose answer it is that goes out.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::answers;
use crate::connections::{Entry, Phase};

/// How many bytes are thrown away of what a refused client still sends: the largest body, and room to spare.
const LINGER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How many of them at once.
const LINGER_PIECE_BYTES: usize = 16 * 1024;

/// A stream of bytes that says in its entry what becomes of them.
pub(crate) struct Watched {
    stream: TcpStream,
    entry: Arc<Entry>,
    /// What is sent in place of hyper's own answer.
    own: Option<Own>,
    lingered: usize,
}

struct Own {
    answer: Vec<u8>,
    sent: usize,
}

impl Watched {
    pub(crate) fn new(stream: TcpStream, entry: Arc<Entry>) -> Watched {
        Watched { stream, entry, own: None, lingered: 0 }
    }

    /// Takes an answer that is hyper's own: it could not read a request. Between two requests nobody else has anything
    /// to say. What is sent in its place has the form of every other error.
    fn takes_hypers_own(&mut self, bytes: &[u8]) -> bool {
        if !matches!(self.entry.phase(), Phase::Idle | Phase::Head) {
            return false;
        }
        if self.own.is_none() {
            self.own = Some(Own { answer: answers::instead_of(bytes), sent: 0 });
            // Whoever sent it may not have sent all of it.
            self.entry.leave_unread();
        }
        true
    }

    fn poll_send_own(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(own) = &mut self.own
            && own.sent < own.answer.len()
        {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &own.answer[own.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                wrote => own.sent += wrote,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Throws away what a client still sends that was answered before it had sent all. Else the system would tell it
    /// that the connection is broken, and it could not read why it was refused.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.entry.phase() != Phase::Lingering {
            self.entry.enter(Phase::Lingering);
        }
        let mut piece = [0; LINGER_PIECE_BYTES];
        while self.lingered < LINGER_BYTES_MAX {
            let mut buffer = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            match buffer.filled().len() {
                0 => break,
                read => self.lingered += read,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before && self.entry.phase() == Phase::Idle {
            self.entry.enter(Phase::Head);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.takes_hypers_own(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let wrote = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.entry.sends(wrote.is_ready());
        wrote
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.takes_hypers_own(pieces.first().map_or(&[], |first| first)) {
            return Poll::Ready(Ok(pieces.iter().map(|piece| piece.len()).sum()));
        }
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.entry.sends(wrote.is_ready());
        wrote
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Comes when everything that was to be sent has been given to the system.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send_own(cx))?;
        if self.entry.phase() == Phase::Sending {
            self.entry.enter(Phase::Idle);
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send_own(cx))?;
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        if self.entry.is_unread() { self.poll_linger(cx) } else { Poll::Ready(Ok(())) }
    }
}
