//! A request that the host has open.

use super::error::{About, Error};
use crate::host;

/// The most bytes that are handed over in one call: as much as travels in one piece.
pub(crate) const PIECE_BYTES: usize = 64 * 1024;

/// A request that the host has open. It is closed when this is dropped.
#[derive(Debug)]
pub(crate) struct Open {
    number: i32,
    about: About,
}

impl Open {
    /// Begins a request, with a number that the host gave it.
    pub(crate) fn new(number: i32, about: About) -> Open {
        Open { number, about }
    }

    pub(crate) fn about(&self) -> &About {
        &self.about
    }

    /// Sends more of the body.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), Error> {
        bytes.chunks(PIECE_BYTES).try_for_each(|piece| {
            host::http_write(self.number, piece).map_err(|failure| Error::from_host(&self.about, failure))
        })
    }

    /// Ends the body, and returns the text of the answer's head.
    pub(crate) fn send(&self) -> Result<Vec<u8>, Error> {
        host::http_send(self.number).map_err(|failure| Error::from_host(&self.about, failure))
    }

    /// Reads more of the answer's body: 0 bytes at its end.
    pub(crate) fn read(&self, room: &mut [u8]) -> Result<usize, Error> {
        host::http_read(self.number, room).map_err(|failure| Error::from_host(&self.about, failure))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        host::http_close(self.number);
    }
}
