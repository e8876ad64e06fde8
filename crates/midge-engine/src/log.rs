//! What an attempt wrote to stderr: kept up to a bound, then cut and marked.

use bytes::{Bytes, BytesMut};
use midge_protocol::limits::{LOG_BYTES_MAX, MESSAGE_BYTES_MAX};

/// What replaces the rest of a log that is too long.
const LOG_CUT: &str = "\n[the log was cut here: no more of it is kept]\n";

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
}
