//! An answer: its head, and its body as it is read.

use std::fmt;
use std::io::{self, Read, Write};

use ::http::{HeaderMap, HeaderName, StatusCode};
use serde::de::DeserializeOwned;

use super::error::{Error, Kind, said};
use super::head;
use super::open::{Open, PIECE_BYTES};

/// The most that is read of a body at once where nothing is said: a quarter of the memory that a guest has where nothing is
/// said.
pub const WHOLE_BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The most that is read of the body of an answer whose status is an error: what a person or a program is told by it.
const ERROR_BODY_BYTES_MAX: usize = 4 * 1024;

/// The answer to a request: its head is here, and its body is read from it, whole or in pieces (it is a [`Read`]).
///
/// Dropping it gives up what has not been read.
pub struct Response {
    status: StatusCode,
    url: String,
    headers: HeaderMap,
    open: Open,
}

impl Response {
    /// Reads the head of an answer.
    pub(super) fn new(open: Open, text: &[u8]) -> Result<Response, Error> {
        let read = head::read(text).and_then(|(status, url, headers)| {
            Some((StatusCode::from_bytes(status.as_bytes()).ok()?, url.to_owned(), headers))
        });
        match read {
            Some((status, url, headers)) => Ok(Response { status, url, headers, open }),
            None => Err(Error::new(open.about(), Kind::NotHttp, "the head of the answer cannot be read")),
        }
    }

    /// Returns the status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Returns the value of a header, the first where there are several; nothing where it is no text.
    pub fn header(&self, name: impl TryInto<HeaderName>) -> Option<&str> {
        self.headers.get(name.try_into().ok()?)?.to_str().ok()
    }

    /// Returns the URL that answered: after redirects another one than was asked.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes an error of an answer whose status is one: 400 to 599. What the server says of it is read as far as 4 KiB: it is in
    /// the error's [`body`](Error::body), and its beginning in the message.
    ///
    /// # Errors
    /// With [`Kind::Status`]. By `?` it asks for the job to be tried again when the server says, where that says
    /// `retry-after`.
    pub fn error_for_status(self) -> Result<Response, Error> {
        if self.status.is_client_error() || self.status.is_server_error() {
            let body = self.beginning();
            return Err(Error::from_status(self.open.about(), self.status, &self.headers, body));
        }
        Ok(self)
    }

    /// Reads the beginning of the body, as far as it comes: the status is what is wrong, and not this.
    fn beginning(&self) -> Vec<u8> {
        let (mut bytes, mut length) = (vec![0; ERROR_BODY_BYTES_MAX], 0);
        while let Ok(read @ 1..) = self.open.read(&mut bytes[length..]) {
            length += read;
            if length == bytes.len() {
                break;
            }
        }
        bytes.truncate(length);
        bytes
    }

    /// Reads the whole body.
    ///
    /// # Errors
    /// Where it does not come to its end, or is more than 64 MiB: see [`bytes_at_most`](Response::bytes_at_most).
    pub fn bytes(self) -> Result<Vec<u8>, Error> {
        self.bytes_at_most(WHOLE_BODY_BYTES_MAX)
    }

    /// Reads the whole body, as text.
    ///
    /// # Errors
    /// As of [`bytes`](Response::bytes), and where it is not UTF-8.
    pub fn text(self) -> Result<String, Error> {
        let (open, bytes) = self.whole(WHOLE_BODY_BYTES_MAX)?;
        String::from_utf8(bytes).map_err(|error| {
            let kind = Kind::NotText;
            Error::new(open.about(), kind, kind.to_string()).caused_by(error.utf8_error())
        })
    }

    /// Reads the whole body, as JSON of a type.
    ///
    /// # Errors
    /// As of [`bytes`](Response::bytes), and where it is not JSON, or not of that type: the error says where.
    pub fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        let (open, bytes) = self.whole(WHOLE_BODY_BYTES_MAX)?;
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        let wrong = |at: &str, error: &serde_json::Error| {
            // A page for people, say: what it is says more than where it is no JSON.
            let begins = match said(&bytes) {
                said if error.is_syntax() && !said.is_empty() => format!("; it begins with `{said}`"),
                _ => String::new(),
            };
            Error::new(open.about(), Kind::NotJson, format!("{}{at}: {error}{begins}", Kind::NotJson))
        };
        let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let at = match error.path().to_string().as_str() {
                // The root, or something that serde cannot name.
                "." => String::new(),
                path => format!(" at `{path}`"),
            };
            wrong(&at, error.inner())
        })?;
        json.end().map_err(|error| wrong("", &error))?;
        Ok(value)
    }

    /// Reads the whole body, of which there are to be at most so many bytes.
    ///
    /// # Errors
    /// Where it does not come to its end, or is more.
    pub fn bytes_at_most(self, most: usize) -> Result<Vec<u8>, Error> {
        self.whole(most).map(|(_, bytes)| bytes)
    }

    /// Writes the body to somewhere in pieces, and returns how many bytes it had: it need not be in memory at once.
    ///
    /// ```no_run
    /// # fn f() -> midge_job::Result<()> {
    /// let mut answer = midge_job::http::get("https://files.example.com/video.mp4").send()?.error_for_status()?;
    /// answer.copy_to(&mut std::fs::File::create("/data/video.mp4")?)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The writer's, or one that has an [`http::Error`](super::Error) in it, where the body does not come to its end.
    pub fn copy_to(&mut self, writer: &mut (impl Write + ?Sized)) -> io::Result<u64> {
        let mut piece = vec![0; PIECE_BYTES];
        let mut copied = 0;
        loop {
            let length = self.open.read(&mut piece)?;
            if length == 0 {
                return Ok(copied);
            }
            writer.write_all(&piece[..length])?;
            copied += length as u64;
        }
    }

    fn whole(self, most: usize) -> Result<(Open, Vec<u8>), Error> {
        let open = self.open;
        // One byte more, to know that there is one.
        let room_max = most.saturating_add(1);
        let (mut bytes, mut length) = (Vec::new(), 0);
        loop {
            if length > most {
                return Err(Error::new(
                    open.about(),
                    Kind::TooLarge,
                    format!(
                        "the answer's body is more than {most} bytes: read it in pieces, as by `copy_to`, or say by \
                         `bytes_at_most` how large it may be"
                    ),
                ));
            }
            if length == bytes.len() {
                // Twice as much each time: what is read is moved a few times at most.
                let room = (length * 2).max(PIECE_BYTES).min(room_max);
                bytes.resize(room, 0);
            }
            match open.read(&mut bytes[length..])? {
                0 => break,
                read => length += read,
            }
        }
        bytes.truncate(length);
        Ok((open, bytes))
    }
}

impl Read for Response {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if room.is_empty() {
            return Ok(0);
        }
        Ok(self.open.read(room)?)
    }
}

impl fmt::Debug for Response {
    /// Writes status and URL. A header's value may be private.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.url)
    }
}
