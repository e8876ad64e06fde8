//! Lines to the program that has the network, kept between requests: `midge_protocol::line` tells what is said on them.
//!
//! Invariant: nothing is opened before the first request of a host, and nobody waits here but the guest's own thread.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use midge_protocol::exchange;
use midge_protocol::line::{self, HEAD_FRAME_BYTES_MAX, Kind, PREFIX_BYTES};
use rustix::net::{RecvFlags, recv};
use serde::de::DeserializeOwned;

/// What is read from a line at once: a piece of a body with what stands before it.
const BUFFER_BYTES: usize = line::BODY_FRAME_BYTES_MAX + PREFIX_BYTES;
/// Lines that are kept: more requests at once than this are rare, and each is two descriptors.
const IDLE_MAX: usize = 32;

/// Makes a line.
type Open = dyn Fn() -> io::Result<UnixStream> + Send + Sync;

/// The lines of a host, by which all its guests make their requests.
pub struct Lines {
    open: Box<Open>,
    /// How many lines are kept while nothing is under way on them.
    idle_max: usize,
    idle: Mutex<Vec<Line>>,
}

impl Lines {
    /// Takes a function that makes a line whenever one more is needed. What is at its other end answers as
    /// `midge_protocol::line` has it.
    pub fn new(open: impl Fn() -> io::Result<UnixStream> + Send + Sync + 'static) -> Lines {
        Lines { open: Box::new(open), idle_max: IDLE_MAX, idle: Mutex::default() }
    }

    /// Takes a function that makes a line for each request, in the order of the requests: none is used twice.
    pub(crate) fn for_one_request_each(
        open: impl Fn() -> io::Result<UnixStream> + Send + Sync + 'static,
    ) -> Lines {
        Lines { idle_max: 0, ..Lines::new(open) }
    }

    /// Returns a line on which nothing is under way, that waits no longer than this for whoever is at its other end.
    pub(crate) fn take(&self, wait: Duration) -> io::Result<Line> {
        let line = match self.take_idle() {
            Some(line) => line,
            None => Line(BufReader::with_capacity(BUFFER_BYTES, Socket(Arc::new((self.open)()?)))),
        };
        let Socket(socket) = line.0.get_ref();
        // No time at all would be for ever.
        let wait = Some(wait.max(Duration::from_millis(1)));
        socket.set_read_timeout(wait)?;
        socket.set_write_timeout(wait)?;
        Ok(line)
    }

    /// Takes back a line whose request and answer have both ended.
    pub(crate) fn keep(&self, line: Line) {
        let mut idle = self.idle();
        if idle.len() < self.idle_max {
            idle.push(line);
        }
    }

    fn take_idle(&self) -> Option<Line> {
        loop {
            let line = self.idle().pop()?;
            // Whoever was at its other end may be gone: a request that then fails may have been made.
            if line.is_silent() {
                return Some(line);
            }
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Line>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line.
pub(crate) struct Line(BufReader<Socket>);

/// Ends what is under way on a line, from another thread.
#[derive(Clone)]
pub(crate) struct Hangup(Arc<UnixStream>);

struct Socket(Arc<UnixStream>);

impl Line {
    /// Returns what ends it from another thread.
    pub(crate) fn hangup(&self) -> Hangup {
        let Socket(socket) = self.0.get_ref();
        Hangup(Arc::clone(socket))
    }

    /// Writes what is made of frames.
    pub(crate) fn write(&self, frames: &[u8]) -> io::Result<()> {
        let Socket(socket) = self.0.get_ref();
        (&**socket).write_all(frames)
    }

    /// Reads of which kind the next frame is, and how many bytes it has.
    pub(crate) fn next(&mut self) -> io::Result<(Kind, usize)> {
        let mut prefix = [0; PREFIX_BYTES];
        self.0.read_exact(&mut prefix)?;
        Kind::of_prefix(prefix).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Reads the bytes of a frame that is a message.
    pub(crate) fn message<T: DeserializeOwned>(&mut self, length: usize) -> io::Result<T> {
        let mut bytes = vec![0; length.min(HEAD_FRAME_BYTES_MAX)];
        self.0.read_exact(&mut bytes)?;
        exchange::decode(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Reads some bytes of a frame.
    pub(crate) fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.0.read(room)
    }

    /// Passes by what is left of an answer, where all of that is here already and little. Returns whether the answer has ended.
    /// It does not wait. `unread` is how much of the frame that was begun is unread.
    pub(crate) fn skip_rest(&mut self, unread: usize) -> bool {
        if self.0.buffer().len() <= unread {
            let Socket(socket) = self.0.get_ref();
            let more = recv(&**socket, &mut [0_u8; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
            let is_here = matches!(more, Ok((_, 1)));
            // Only an empty buffer is filled, and then as far as there is something.
            if !self.0.buffer().is_empty() || !is_here || self.0.fill_buf().is_err() {
                return false;
            }
        }
        let Some(mut next) = self.0.buffer().get(unread..) else { return false };
        while let Some((prefix, behind)) = next.split_first_chunk() {
            match Kind::of_prefix(*prefix) {
                Ok((Kind::End, _)) if behind.is_empty() => {
                    let all = self.0.buffer().len();
                    self.0.consume(all);
                    return true;
                }
                Ok((Kind::Body, length)) if length <= behind.len() => next = &behind[length..],
                _ => return false,
            }
        }
        false
    }

    fn is_silent(&self) -> bool {
        let Socket(socket) = self.0.get_ref();
        let came = recv(&**socket, &mut [0_u8; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        self.0.buffer().is_empty() && matches!(came, Err(rustix::io::Errno::AGAIN))
    }
}

impl Hangup {
    /// Ends it: whoever reads or writes there is told at once, at both ends.
    pub(crate) fn hang_up(&self) {
        // It may have ended already.
        let _ = self.0.shutdown(Shutdown::Both);
    }

    /// Returns whether it ends this very line.
    pub(crate) fn is_of(&self, line: &Line) -> bool {
        let Socket(socket) = line.0.get_ref();
        Arc::ptr_eq(&self.0, socket)
    }
}

impl Read for Socket {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            match (&*self.0).read(room) {
                // A signal, which is not about this.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

/// Adds a frame to what is written.
pub(crate) fn put_frame(frames: &mut Vec<u8>, kind: Kind, bytes: &[u8]) {
    frames.extend_from_slice(&kind.prefix(bytes.len()));
    frames.extend_from_slice(bytes);
}

/// Writes a message as the bytes of a frame; nothing where it is larger than a frame may be.
pub(crate) fn encode<T: serde::Serialize>(message: &T) -> Option<Bytes> {
    Some(exchange::encode(message)).filter(|bytes| bytes.len() <= HEAD_FRAME_BYTES_MAX)
}
