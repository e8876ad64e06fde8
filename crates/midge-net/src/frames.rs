//! Frames of a line, as they are read and written: see [`midge_protocol::line`].

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use midge_protocol::line::{BODY_FRAME_BYTES_MAX, Kind, PREFIX_BYTES};
use tokio::net::UnixStream;

/// What is read at once where it is not known how much comes: most requests.
const READ_BYTES: usize = 4 * 1024;

/// Reads frames. What it waits for may be dropped at any time: nothing that came is lost.
pub(crate) struct Reader<'a> {
    line: &'a UnixStream,
    buffer: BytesMut,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(line: &'a UnixStream) -> Reader<'a> {
        Reader { line, buffer: BytesMut::new() }
    }

    /// Returns the next frame; nothing where the line has ended.
    pub(crate) async fn next(&mut self) -> io::Result<Option<(Kind, Bytes)>> {
        loop {
            let missing = match self.buffer.first_chunk::<PREFIX_BYTES>() {
                None => READ_BYTES,
                Some(prefix) => {
                    let (kind, length) = Kind::of_prefix(*prefix).map_err(io::Error::other)?;
                    let have = self.buffer.len() - PREFIX_BYTES;
                    if have >= length {
                        self.buffer.advance(PREFIX_BYTES);
                        return Ok(Some((kind, self.buffer.split_to(length).freeze())));
                    }
                    // What comes behind it most often follows at once: the frame that says that all has come.
                    length - have + PREFIX_BYTES
                }
            };
            if !self.read(missing).await? {
                return Ok(None);
            }
        }
    }

    /// Reads and forgets whatever comes, to the end of the line.
    pub(crate) async fn discard(&mut self) -> io::Result<()> {
        while self.read(READ_BYTES).await? {
            self.buffer.clear();
        }
        Ok(())
    }

    /// Frees what a large frame took, between two requests.
    pub(crate) fn rest(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    async fn read(&mut self, room: usize) -> io::Result<bool> {
        loop {
            self.line.readable().await?;
            self.buffer.reserve(room);
            match self.line.try_read_buf(&mut self.buffer) {
                Ok(read) => return Ok(read > 0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Writes frames. They are gathered until they are flushed, and what waits for that may be dropped at any time.
pub(crate) struct Writer<'a> {
    line: &'a UnixStream,
    buffer: BytesMut,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(line: &'a UnixStream) -> Writer<'a> {
        Writer { line, buffer: BytesMut::new() }
    }

    pub(crate) fn put(&mut self, kind: Kind, bytes: &[u8]) {
        self.buffer.extend_from_slice(&kind.prefix(bytes.len()));
        self.buffer.extend_from_slice(bytes);
    }

    /// Puts a piece of a body, in as many frames as it takes.
    pub(crate) fn put_body(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(BODY_FRAME_BYTES_MAX) {
            self.put(Kind::Body, piece);
        }
    }

    /// Returns how many bytes were put and not yet taken.
    pub(crate) fn waiting(&self) -> usize {
        self.buffer.len()
    }

    /// Writes what was put.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        while !self.buffer.is_empty() {
            self.line.writable().await?;
            match self.line.try_write(&self.buffer) {
                Ok(written) => self.buffer.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Frees what a large frame took, between two requests.
    pub(crate) fn rest(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }
}
