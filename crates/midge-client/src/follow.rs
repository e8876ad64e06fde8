//! Follows a job over server-sent events, and comes back where it was cut.

use std::time::Duration;

use midge_protocol::JobId;
use midge_protocol::limits::FOLLOWER_HEARD_EVERY;
use midge_protocol::news::{JobNews, Position};
use reqwest::Response;
use tokio::time::timeout;

use crate::ClientError;
use crate::transport::{Call, NoAnswer, Transport, backoff, malformed};

/// A server that says nothing for so long is not there any more: it is heard of three times as often.
const SILENCE: Duration = FOLLOWER_HEARD_EVERY.saturating_mul(3);
/// The most of one event. A piece of a log of control characters takes less than half of it.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// A job that is followed: see [`crate::Client::follow`].
#[derive(Debug)]
pub struct Follow {
    transport: Transport,
    id: JobId,
    at: Position,
    connection: Option<Response>,
    events: Events,
    /// Tries in a row that brought no event.
    failed: u32,
    /// Whether a server has answered at all.
    was_there: bool,
    is_over: bool,
}

impl Follow {
    pub(crate) fn new(transport: Transport, id: JobId, from: Position) -> Follow {
        Follow {
            transport,
            id,
            at: from,
            connection: None,
            events: Events::default(),
            failed: 0,
            was_there: false,
            is_over: false,
        }
    }

    /// Returns how far the job was followed: to be given to another [`crate::Client::follow`] that goes on there.
    pub fn position(&self) -> Position {
        self.at
    }

    /// Returns the next piece of news, as soon as there is any; nothing after the last, which is [`JobNews::Ended`] or
    /// [`JobNews::Deleted`]. It may be dropped while it waits, as a timeout does, and asked again.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where the job is not there, or too many follow; [`ClientError::Unreachable`] where no server
    /// is there for as many tries in a row as the client makes.
    pub async fn next(&mut self) -> Result<Option<JobNews>, ClientError> {
        while !self.is_over {
            if let Some(event) = self.events.next() {
                self.failed = 0;
                if let Some(at) = event.id.and_then(|id| id.parse().ok()) {
                    self.at = at;
                }
                let malformed = |error| self.malformed(format!("an event is not understood: {error}"));
                if let Some(news) = JobNews::read(&event.name, &event.data).map_err(malformed)? {
                    self.is_over = news.is_last();
                    return Ok(Some(news));
                }
                continue;
            }
            match self.read().await {
                Ok(()) => {}
                Err(Cut::ForGood(error)) => return Err(error),
                Err(Cut::Again(error)) => {
                    (self.connection, self.events) = (None, Events::default());
                    self.failed += 1;
                    if self.failed >= self.transport.tries() {
                        self.failed = 0;
                        return Err(error);
                    }
                    tokio::time::sleep(backoff(self.failed)).await;
                }
            }
        }
        Ok(None)
    }

    /// Reads something more, if only that the server is there.
    async fn read(&mut self) -> Result<(), Cut> {
        let Some(connection) = &mut self.connection else { return self.connect().await };
        let unreachable = |error| Cut::Again(self.transport.unreachable(error));
        let read = timeout(SILENCE, connection.chunk()).await;
        let piece = read.map_err(|_| unreachable(NoAnswer::Silent(SILENCE)))?;
        let Some(piece) = piece.map_err(|error| unreachable(NoAnswer::Http(error)))? else {
            return Err(unreachable(NoAnswer::CutOff));
        };
        if !self.events.take(&piece) {
            let most = EVENT_BYTES_MAX / (1024 * 1024);
            return Err(Cut::ForGood(self.malformed(format!("it sends an event over {most} MiB"))));
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<(), Cut> {
        let id = self.id.to_string();
        let path = ["jobs", &id, "events"];
        let mut call = Call::get(&path);
        if self.at != Position::BEGINNING {
            call.last_event_id = Some(self.at.to_string());
        }
        let opened = self.transport.open(&call).await.map_err(|error| match error {
            // What it says of a moment is no answer to who was there before.
            error @ ClientError::Refused { status: 429 | 500.., .. } if self.was_there => Cut::Again(error),
            error @ ClientError::Unreachable { .. } => Cut::Again(error),
            error => Cut::ForGood(error),
        });
        self.connection = opened?;
        self.was_there = true;
        // Its end was told before.
        self.is_over = self.connection.is_none();
        Ok(())
    }

    fn malformed(&self, why: String) -> ClientError {
        let (id, path) = (self.id.to_string(), ["jobs", "", "events"]);
        let path = [path[0], &id, path[2]];
        malformed(&self.transport.url(&Call::get(&path)), why)
    }
}

/// Why nothing more was read.
enum Cut {
    /// It is worth another try.
    Again(ClientError),
    ForGood(ClientError),
}

/// Server-sent events, out of pieces of text: the format of the HTML standard, as far as data, event and id go.
#[derive(Debug, Default)]
struct Events {
    bytes: Vec<u8>,
    /// Where the line begins that is not looked at yet.
    line: usize,
    event: Event,
}

#[derive(Debug, Default, PartialEq)]
struct Event {
    name: String,
    data: String,
    id: Option<String>,
}

impl Events {
    /// Takes a piece. Returns whether there is room for what is not an event yet.
    fn take(&mut self, piece: &[u8]) -> bool {
        self.bytes.drain(..std::mem::take(&mut self.line));
        self.bytes.extend_from_slice(piece);
        self.bytes.len() + self.event.data.len() <= EVENT_BYTES_MAX + piece.len()
    }

    fn next(&mut self) -> Option<Event> {
        while let Some(length) = self.bytes[self.line..].iter().position(|byte| *byte == b'\n') {
            let line = &self.bytes[self.line..self.line + length];
            self.line += length + 1;
            let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                if !event.data.is_empty() {
                    return Some(event);
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => self.event.name = value.to_owned(),
                "data" if self.event.data.is_empty() => self.event.data = value.to_owned(),
                "data" => self.event.data = format!("{}\n{value}", self.event.data),
                "id" => self.event.id = Some(value.to_owned()),
                // A comment, by which a server is heard of; or what this release does not know.
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Vec<(String, String, Option<String>)> {
        let (mut events, mut all) = (Events::default(), Vec::new());
        for piece in pieces {
            assert!(events.take(piece));
            while let Some(Event { name, data, id }) = events.next() {
                all.push((name, data, id));
            }
        }
        all
    }

    #[test]
    fn events_are_read_however_they_are_cut() {
        let text = ":\n\nid: 1:2\nevent: log\ndata: {\"é\": 1}\n\n: alive\n\nevent:state\r\ndata:a\r\ndata: b\r\n\r\nretry: 5\n\nid: 9";
        let expected = [
            ("log".to_owned(), "{\"é\": 1}".to_owned(), Some("1:2".to_owned())),
            ("state".to_owned(), "a\nb".to_owned(), None),
        ];
        assert_eq!(read(&[text.as_bytes()]), expected);
        for at in 0..text.len() {
            assert_eq!(read(&[&text.as_bytes()[..at], &text.as_bytes()[at..]]), expected, "{at}");
        }
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(read(&bytes), expected);
    }

    #[test]
    fn an_event_that_does_not_end_is_not_kept() {
        let mut events = Events::default();
        let piece = [b'x'; 64 * 1024];
        let taken = (0..100).take_while(|_| events.take(&piece) && events.next().is_none()).count();
        assert!(taken <= EVENT_BYTES_MAX / piece.len() + 1, "{taken}");
        // Nor many lines of one.
        let mut events = Events::default();
        let line = format!("data: {}\n", "x".repeat(64 * 1024));
        let taken = (0..100).take_while(|_| events.take(line.as_bytes()) && events.next().is_none()).count();
        assert!(taken <= EVENT_BYTES_MAX / line.len() + 2, "{taken}");
    }
}
