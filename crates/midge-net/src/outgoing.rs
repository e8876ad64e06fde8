//! The body of a request on its way from a guest to a server: read from a line, and sent as it comes, or kept whole where
//! it is small, so that it can be sent again.

use std::future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};
use midge_protocol::line::{Failed, Why};
use tokio::sync::{mpsc, oneshot};

use crate::failure::failed;

/// A body of so many bytes at most is kept, and sent again where a redirect or a broken connection asks for it.
const KEPT_BYTES_MAX: u64 = 64 * 1024;
/// Pieces that were read from a line and not yet sent: one is sent while the next is read.
const PIECES_MAX: usize = 2;

/// Makes the two ends of a body: `length` is what it has in bytes, where that is known.
pub(crate) fn body(length: Option<u64>) -> (Given, Outgoing) {
    let (give, pieces) = mpsc::channel(PIECES_MAX);
    let (tell, wrong) = oneshot::channel();
    let given = Given { pieces: Some(give), left: length, wrong: Some(tell) };
    (given, Outgoing { source: Source { pieces, length }, wrong: Wrong(wrong) })
}

/// The end at which a body comes from its line.
pub(crate) struct Given {
    /// Nothing where it is no longer wanted: what comes is then forgotten.
    pieces: Option<mpsc::Sender<Piece>>,
    left: Option<u64>,
    wrong: Option<oneshot::Sender<Failed>>,
}

/// What comes of a body.
pub(crate) enum Piece {
    Bytes(Bytes),
    /// All has come. A body that ends without it was given up.
    End,
}

impl Given {
    /// Hands a piece on, once there is room for it.
    pub(crate) async fn piece(&mut self, bytes: Bytes) {
        if let Some(left) = &mut self.left {
            match left.checked_sub(bytes.len() as u64) {
                Some(rest) => *left = rest,
                None => return self.is_wrong("more bytes than its `content-length` says"),
            }
        }
        if !bytes.is_empty() {
            self.pass_on(Piece::Bytes(bytes)).await;
        }
    }

    /// Says that all has come.
    pub(crate) async fn end(&mut self) {
        match self.left {
            Some(1..) => self.is_wrong("fewer bytes than its `content-length` says"),
            _ => self.pass_on(Piece::End).await,
        }
    }

    async fn pass_on(&mut self, piece: Piece) {
        if let Some(pieces) = &self.pieces
            && pieces.send(piece).await.is_err()
        {
            self.pieces = None;
        }
    }

    fn is_wrong(&mut self, how: &str) {
        self.pieces = None;
        if let Some(wrong) = self.wrong.take() {
            // Nobody asks any more where the answer is there already.
            let _ = wrong.send(failed(Why::Invalid, format!("the body of the request has {how}")));
        }
    }
}

/// The end at which a body goes to a server.
pub(crate) struct Outgoing {
    pub(crate) source: Source,
    pub(crate) wrong: Wrong,
}

/// What is wrong with a body, should it turn out so.
pub(crate) struct Wrong(oneshot::Receiver<Failed>);

impl Wrong {
    /// Returns what is wrong with it; not at all where nothing is.
    pub(crate) async fn told(self) -> Failed {
        match self.0.await {
            Ok(failed) => failed,
            Err(_) => future::pending().await,
        }
    }
}

/// A body that has not been looked at.
pub(crate) struct Source {
    pieces: mpsc::Receiver<Piece>,
    length: Option<u64>,
}

impl Source {
    /// Waits for all of it where it is small, and returns it as it is to be sent.
    pub(crate) async fn begin(mut self) -> Sending {
        match self.length {
            Some(0) => Sending::Kept(Bytes::new()),
            Some(length @ 1..=KEPT_BYTES_MAX) => {
                let mut kept = BytesMut::new();
                while (kept.len() as u64) < length {
                    match self.pieces.recv().await {
                        Some(Piece::Bytes(piece)) if kept.is_empty() && piece.len() as u64 == length => {
                            return Sending::Kept(piece);
                        }
                        Some(Piece::Bytes(piece)) => kept.extend_from_slice(&piece),
                        // Something is wrong with it, which is told by another way.
                        Some(Piece::End) | None => future::pending().await,
                    }
                }
                Sending::Kept(kept.freeze())
            }
            length => {
                let sent = Arc::new(AtomicBool::new(false));
                Sending::Once { length, pieces: Some(self.pieces), sent }
            }
        }
    }
}

/// A body as it is sent.
pub(crate) enum Sending {
    /// As often as it takes.
    Kept(Bytes),
    /// As it comes.
    Once {
        /// Its length in bytes, where it is known.
        length: Option<u64>,
        /// Nothing where it is under way.
        pieces: Option<mpsc::Receiver<Piece>>,
        /// Whether all of it was taken by a connection.
        sent: Arc<AtomicBool>,
    },
}

impl Sending {
    pub(crate) fn nothing() -> Sending {
        Sending::Kept(Bytes::new())
    }

    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            Sending::Kept(bytes) => Some(bytes.len() as u64),
            Sending::Once { length, .. } => *length,
        }
    }

    /// Returns whether it can be sent again from its beginning.
    pub(crate) fn is_kept(&self) -> bool {
        matches!(self, Sending::Kept(_))
    }

    /// Returns whether a connection has taken all of it.
    pub(crate) fn is_sent(&self) -> bool {
        match self {
            Sending::Kept(_) => true,
            Sending::Once { sent, .. } => sent.load(Ordering::Relaxed),
        }
    }

    /// Returns it for a connection to send.
    pub(crate) fn take(&mut self) -> Sent {
        match self {
            Sending::Kept(bytes) => Sent::Kept(Some(bytes.clone()).filter(|bytes| !bytes.is_empty())),
            Sending::Once { length, pieces, sent } => {
                Sent::Once { left: *length, pieces: pieces.take(), sent: Arc::clone(sent) }
            }
        }
    }

    /// Takes back what a connection has not begun to send.
    pub(crate) fn give_back(&mut self, unsent: Sent) {
        if let (Sending::Once { pieces, .. }, Sent::Once { pieces: unsent, .. }) = (self, unsent) {
            *pieces = unsent;
        }
    }
}

/// A body that a connection sends.
pub(crate) enum Sent {
    Kept(Option<Bytes>),
    Once { left: Option<u64>, pieces: Option<mpsc::Receiver<Piece>>, sent: Arc<AtomicBool> },
}

/// The error of a body whose guest gave its request up.
#[derive(Debug, thiserror::Error)]
#[error("the request was given up")]
pub(crate) struct GivenUp;

impl Body for Sent {
    type Data = Bytes;
    type Error = GivenUp;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, GivenUp>>> {
        match self.get_mut() {
            Sent::Kept(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Sent::Once { left, pieces, sent } => {
                let Some(receiver) = pieces else { return Poll::Ready(None) };
                match ready!(receiver.poll_recv(context)) {
                    Some(Piece::Bytes(bytes)) => {
                        if let Some(left) = left {
                            *left = left.saturating_sub(bytes.len() as u64);
                        }
                        Poll::Ready(Some(Ok(Frame::data(bytes))))
                    }
                    Some(Piece::End) => {
                        *pieces = None;
                        sent.store(true, Ordering::Relaxed);
                        Poll::Ready(None)
                    }
                    // Its end must not look like that of a whole one.
                    None => Poll::Ready(Some(Err(GivenUp))),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Sent::Kept(bytes) => bytes.is_none(),
            Sent::Once { pieces, .. } => pieces.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Sent::Kept(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Sent::Once { left: Some(left), .. } => SizeHint::with_exact(*left),
            Sent::Once { .. } => SizeHint::new(),
        }
    }
}
