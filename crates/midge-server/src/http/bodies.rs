//! The bodies of requests, read only for those who have shown a right, under a bound on what all of them hold together.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use midge_protocol::limits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::Failed;

/// The largest bodies that there is room for at once: of callers as many as of hosts, so that neither can keep the other
/// out. It is 288 MiB together, where all are as large as they may be.
const LARGEST_AT_ONCE: usize = 4;
/// How long a request waits for room among the bodies.
const ROOM_WITHIN: Duration = Duration::from_secs(5);
/// A body must have come after so long, or as much of it as [`SLOWEST`] says; then it has as long again.
const STILL_MAX: Duration = Duration::from_secs(10);
/// How slowly a body may come, in bytes a second: a slow line is some ten times as fast.
const SLOWEST: u128 = 4 * 1024;
/// Room is taken in such pieces as a body comes, so that one that is slow does not hold what it has not sent.
const PIECE_BYTES: usize = 256 * 1024;
/// The unit of room.
const UNIT_BYTES: usize = 1024;

/// Room for the bodies of all requests.
#[derive(Debug)]
pub(crate) struct Bodies {
    pub(crate) callers: Room,
    pub(crate) hosts: Room,
}

impl Default for Bodies {
    fn default() -> Bodies {
        let room = |max| Room::new(max, LARGEST_AT_ONCE * max, ROOM_WITHIN, STILL_MAX);
        Bodies { callers: room(limits::ENQUEUE_BODY_BYTES_MAX), hosts: room(limits::EXCHANGE_BODY_BYTES_MAX) }
    }
}

/// Room for the bodies of one kind of sender.
#[derive(Debug)]
pub(crate) struct Room {
    /// The most bytes of one body.
    max: usize,
    units: Arc<Semaphore>,
    within: Duration,
    still: Duration,
}

/// A body, and the room that it takes: until this is dropped, so that what is made of the body counts too.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Room {
    fn new(max: usize, all: usize, within: Duration, still: Duration) -> Room {
        Room { max, units: Arc::new(Semaphore::new(all.div_ceil(UNIT_BYTES))), within, still }
    }

    /// Reads a body.
    pub(crate) async fn read(&self, body: Body) -> Result<Held, Failed> {
        let length = body.size_hint().exact();
        if length.is_some_and(|length| length > self.max as u64) {
            return Err(self.too_large());
        }
        let expected = length.map_or(PIECE_BYTES, |length| length as usize);
        let mut room = self.take(expected.min(PIECE_BYTES)).await?;
        let mut pieces = body.into_data_stream();
        let mut whole = BytesMut::new();
        let (mut until, mut moved) = (Instant::now() + self.still, 0);
        loop {
            let piece = match timeout_at(until, pieces.next()).await {
                Ok(Some(Ok(piece))) => piece,
                Ok(Some(Err(error))) => {
                    return Err(Failed::invalid(format!("the body broke off: {error}")));
                }
                Ok(None) => return Ok(Held { bytes: whole.freeze(), _room: room }),
                Err(_) if moved as u128 * 1000 >= SLOWEST * self.still.as_millis() => {
                    (until, moved) = (Instant::now() + self.still, 0);
                    continue;
                }
                Err(_) => return Err(slow()),
            };
            let come = whole.len() + piece.len();
            if come > self.max {
                return Err(self.too_large());
            }
            let taken = room.num_permits() * UNIT_BYTES;
            if come > taken {
                let asked = Instant::now();
                room.merge(self.take((come - taken).max(PIECE_BYTES.min(self.max - taken))).await?);
                until += asked.elapsed();
            }
            if whole.is_empty() && length == Some(come as u64) {
                return Ok(Held { bytes: piece, _room: room });
            }
            moved += piece.len();
            if whole.is_empty() {
                whole.reserve(expected.max(come));
            }
            whole.extend_from_slice(&piece);
        }
    }

    async fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Failed> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES).max(1)).expect("a body is smaller than 4 TiB");
        match timeout(self.within, self.units.clone().acquire_many_owned(units)).await {
            Ok(room) => Ok(room.expect("nobody closes it")),
            Err(_) => Err(Failed::busy("too many large requests at once: try again in a second")),
        }
    }

    fn too_large(&self) -> Failed {
        let error = format!("the body is larger than {} bytes: send less at once", self.max);
        Failed::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", error)
    }
}

fn slow() -> Failed {
    Failed::new(StatusCode::REQUEST_TIMEOUT, "slow_body", "the body did not come in time: send it again")
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    const NEVER: Duration = Duration::from_secs(3600);
    const SOON: Duration = Duration::from_millis(10);
    const MAX: usize = 2 * PIECE_BYTES;

    fn room() -> Room {
        Room::new(MAX, 2 * MAX, SOON, NEVER)
    }

    /// A body that comes in pieces and does not say how long it is.
    fn chunked(pieces: usize, piece: usize) -> Body {
        let pieces = (0..pieces).map(move |_| Ok::<_, std::io::Error>(vec![b'x'; piece]));
        Body::from_stream(stream::iter(pieces))
    }

    /// A body that begins and then does not move.
    fn stuck() -> Body {
        let piece = stream::once(async { Ok::<_, std::io::Error>(Bytes::from_static(b"x")) });
        Body::from_stream(piece.chain(stream::pending()))
    }

    fn status(read: Result<Held, Failed>) -> u16 {
        read.map_or_else(|failed| failed.status().as_u16(), |_| 200)
    }

    #[tokio::test]
    async fn a_body_is_read_to_the_byte_up_to_its_bound() {
        let room = room();
        for length in [0, 1, UNIT_BYTES + 1, MAX] {
            let held = room.read(Body::from(vec![7; length])).await.unwrap();
            assert_eq!(held.bytes, vec![7; length]);
        }
        assert_eq!(room.read(chunked(4, MAX / 4)).await.unwrap().bytes.len(), MAX);
        assert_eq!(status(room.read(Body::from(vec![7; MAX + 1])).await), 413);
        assert_eq!(status(room.read(chunked(5, MAX / 4)).await), 413);
    }

    #[tokio::test]
    async fn a_body_that_says_that_it_is_too_large_is_not_read() {
        // There is no room to read anything.
        let room = Room::new(MAX, 0, NEVER, NEVER);
        assert_eq!(status(room.read(Body::from(vec![7; MAX + 1])).await), 413);
    }

    #[tokio::test]
    async fn all_bodies_together_hold_no_more_than_their_bound() {
        let room = room();
        let mut held = vec![room.read(chunked(8, MAX / 8)).await.unwrap()];
        held.push(room.read(Body::from(vec![7; MAX])).await.unwrap());
        assert_eq!(room.units.available_permits(), 0);
        assert_eq!(status(room.read(Body::from("x")).await), 503);
        held.pop();
        assert_eq!(status(room.read(Body::from("x")).await), 200);
        held.pop();
        assert_eq!(room.units.available_permits() * UNIT_BYTES, 2 * MAX);
    }

    #[tokio::test]
    async fn a_body_holds_what_has_come_and_a_piece_and_not_what_it_says_that_will() {
        let room = Arc::new(room());
        let reading = tokio::spawn({
            let room = room.clone();
            async move { status(room.read(stuck()).await) }
        });
        while room.units.available_permits() * UNIT_BYTES == 2 * MAX {
            tokio::task::yield_now().await;
        }
        assert_eq!(room.units.available_permits() * UNIT_BYTES, 2 * MAX - PIECE_BYTES);
        reading.abort();
        assert!(reading.await.unwrap_err().is_cancelled());
        assert_eq!(room.units.available_permits() * UNIT_BYTES, 2 * MAX);
    }

    #[tokio::test]
    async fn a_body_that_came_fast_and_then_does_not_move_is_given_up_all_the_same() {
        let room = Room::new(MAX, MAX, NEVER, SOON);
        let piece = stream::once(async { Ok::<_, std::io::Error>(vec![b'x'; MAX - 1]) });
        assert_eq!(status(room.read(Body::from_stream(piece.chain(stream::pending()))).await), 408);
    }

    #[tokio::test]
    async fn a_body_that_does_not_move_is_given_up_and_its_room_given_back() {
        let room = Room::new(MAX, MAX, NEVER, SOON);
        assert_eq!(status(room.read(stuck()).await), 408);
        assert_eq!(room.units.available_permits() * UNIT_BYTES, MAX);
    }
}
