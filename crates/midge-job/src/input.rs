//! The job's input: the bytes that were enqueued beside its args.

use std::io::{self, BufRead, Read, StdinLock};

/// Returns the job's input, all of it.
///
/// A job that was enqueued without an input reads its args here, as JSON text. The error is the host's, and rare.
pub fn input() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input_reader().read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Returns a reader of the job's input, for inputs that need not be in memory at once.
pub fn input_reader() -> InputReader {
    #[cfg(not(target_family = "wasm"))]
    if let Some(bytes) = crate::testing::input() {
        return InputReader(Source::Given(io::Cursor::new(bytes)));
    }
    InputReader(Source::Stdin(io::stdin().lock()))
}

/// Reads the job's input. Made by [`input_reader`].
#[derive(Debug)]
pub struct InputReader(Source);

#[derive(Debug)]
enum Source {
    Stdin(StdinLock<'static>),
    /// By a test.
    #[cfg(not(target_family = "wasm"))]
    Given(io::Cursor<std::sync::Arc<[u8]>>),
}

impl InputReader {
    fn source(&mut self) -> &mut dyn BufRead {
        match &mut self.0 {
            Source::Stdin(stdin) => stdin,
            #[cfg(not(target_family = "wasm"))]
            Source::Given(bytes) => bytes,
        }
    }
}

impl Read for InputReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.source().read(buffer)
    }

    fn read_to_end(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        self.source().read_to_end(bytes)
    }
}

impl BufRead for InputReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.source().fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.source().consume(count);
    }
}
