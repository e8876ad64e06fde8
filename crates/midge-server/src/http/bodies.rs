//! The bodies of requests, read only for those who have shown a right, under a bound on what all of them hold together.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use midge_protocol::{MachineName, limits};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::Failed;

/// The largest bodies that there is room for at once: of callers as many as of hosts, so that neither can keep the other
/// out. It is 288 MiB together, where all are as large as they may be.
const LARGEST_AT_ONCE: usize = 4;
/// What the bodies of one host hold at most: one that is as large as it may be, and what is parked beside it.
const OF_A_HOST_BYTES_MAX: usize = limits::EXCHANGE_BODY_BYTES_MAX + 4 * 1024 * 1024;
/// Above so many, hosts that have no body here any more are swept out before another is added.
const SWEEP_LEN: usize = 256;
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
    hosts: Room,
    /// What each host may hold of its room. An entry lives while the host has a body here.
    of_hosts: Mutex<HashMap<MachineName, Weak<Semaphore>>>,
}

impl Default for Bodies {
    fn default() -> Bodies {
        let room = |max| Room::new(max, LARGEST_AT_ONCE * max, ROOM_WITHIN, STILL_MAX);
        Bodies {
            callers: room(limits::ENQUEUE_BODY_BYTES_MAX),
            hosts: room(limits::EXCHANGE_BODY_BYTES_MAX),
            of_hosts: Mutex::default(),
        }
    }
}

impl Bodies {
    /// Reads a body of a Machine's host, whose right has been looked at: other hosts have room whatever it sends. A small
    /// one, as a heartbeat is, waits for no large ones of others.
    pub(crate) async fn read_of_host(&self, name: &MachineName, body: Body) -> Result<Held, Failed> {
        let own = Room { units: self.of_host(name), full: too_much_of_a_host, ..self.hosts.clone() };
        let is_small = body.size_hint().exact().is_some_and(|length| length <= PIECE_BYTES as u64);
        own.read_into(body, (!is_small).then_some(&self.hosts)).await
    }

    fn of_host(&self, name: &MachineName) -> Arc<Semaphore> {
        let mut of_hosts = self.of_hosts.lock().expect("nobody panics with the hosts in hand");
        if let Some(units) = of_hosts.get(name).and_then(Weak::upgrade) {
            return units;
        }
        if of_hosts.len() >= SWEEP_LEN && of_hosts.len() == of_hosts.capacity() {
            of_hosts.retain(|_, units| units.strong_count() > 0);
        }
        let units = Arc::new(Semaphore::new(OF_A_HOST_BYTES_MAX / UNIT_BYTES));
        of_hosts.insert(name.clone(), Arc::downgrade(&units));
        units
    }
}

/// Room for the bodies of one kind of sender, or of one sender.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    /// The most bytes of one body.
    max: usize,
    units: Arc<Semaphore>,
    /// What is answered where there is no room.
    full: fn() -> Failed,
    within: Duration,
    still: Duration,
}

/// A body, and the room that it takes: until this is dropped, so that what is made of the body counts too.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) bytes: Bytes,
    _room: Taken,
}

/// What a body takes of one room, and of another where it is in two.
#[derive(Debug)]
struct Taken(OwnedSemaphorePermit, Option<OwnedSemaphorePermit>);

impl Taken {
    fn bytes(&self) -> usize {
        self.0.num_permits() * UNIT_BYTES
    }

    fn merge(&mut self, more: Taken) {
        self.0.merge(more.0);
        if let (Some(also), Some(more)) = (&mut self.1, more.1) {
            also.merge(more);
        }
    }
}

impl Room {
    fn new(max: usize, all: usize, within: Duration, still: Duration) -> Room {
        let units = Arc::new(Semaphore::new(all.div_ceil(UNIT_BYTES)));
        Room { max, units, full: too_much_at_once, within, still }
    }

    /// Reads a body.
    pub(crate) async fn read(&self, body: Body) -> Result<Held, Failed> {
        self.read_into(body, None).await
    }

    /// Reads a body, which takes as much of another room too.
    async fn read_into(&self, body: Body, also: Option<&Room>) -> Result<Held, Failed> {
        let length = body.size_hint().exact();
        if length.is_some_and(|length| length > self.max as u64) {
            return Err(self.too_large());
        }
        let expected = length.map_or(PIECE_BYTES, |length| length as usize);
        let mut room = self.take(expected.min(PIECE_BYTES), also).await?;
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
            let taken = room.bytes();
            if come > taken {
                let asked = Instant::now();
                let more = (come - taken).max(PIECE_BYTES.min(self.max - taken));
                room.merge(self.take(more, also).await?);
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

    /// Takes room here first, so that whoever waits for it holds nothing of the other room.
    async fn take(&self, bytes: usize, also: Option<&Room>) -> Result<Taken, Failed> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES).max(1)).expect("a body is smaller than 4 TiB");
        let here = self.acquire(units).await?;
        let there = match also {
            Some(also) => Some(also.acquire(units).await?),
            None => None,
        };
        Ok(Taken(here, there))
    }

    async fn acquire(&self, units: u32) -> Result<OwnedSemaphorePermit, Failed> {
        // As a rule there is room. Nobody who waits is passed: what becomes free is theirs first.
        if let Ok(room) = self.units.clone().try_acquire_many_owned(units) {
            return Ok(room);
        }
        match timeout(self.within, self.units.clone().acquire_many_owned(units)).await {
            Ok(room) => Ok(room.expect("nobody closes it")),
            Err(_) => Err((self.full)()),
        }
    }

    fn too_large(&self) -> Failed {
        let error = format!("the body is larger than {} bytes: send less at once", self.max);
        Failed::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", error)
    }
}

fn too_much_at_once() -> Failed {
    Failed::busy("too many large requests at once: try again in a second")
}

fn too_much_of_a_host() -> Failed {
    Failed::too_many_exchanges(
        "this Machine's host sends more at once than one may: wait for an answer first",
    )
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

    fn name(text: &str) -> MachineName {
        MachineName::new(text).unwrap()
    }

    #[tokio::test]
    async fn one_host_holds_no_more_than_its_share_of_the_room() {
        let bodies = Bodies { hosts: Room::new(MAX, 8 * MAX, SOON, NEVER), ..Bodies::default() };
        let full = bodies.of_host(&name("m1"));
        let most = u32::try_from(OF_A_HOST_BYTES_MAX / UNIT_BYTES).unwrap();
        let taken = full.acquire_many(most - 1).await.unwrap();
        let two = || chunked(2, UNIT_BYTES);
        assert_eq!(status(bodies.read_of_host(&name("m1"), two()).await), 429);
        assert_eq!(status(bodies.read_of_host(&name("m2"), two()).await), 200);
        assert_eq!(bodies.hosts.units.available_permits() * UNIT_BYTES, 8 * MAX, "all is given back");
        drop(taken);
        let held = bodies.read_of_host(&name("m1"), two()).await.unwrap();
        let left = |room: &Semaphore, of: usize| of - room.available_permits() * UNIT_BYTES;
        assert_eq!(left(&full, OF_A_HOST_BYTES_MAX), PIECE_BYTES);
        assert_eq!(left(&bodies.hosts.units, 8 * MAX), PIECE_BYTES);
        drop(held);
        assert_eq!(left(&full, OF_A_HOST_BYTES_MAX) + left(&bodies.hosts.units, 8 * MAX), 0);
    }

    #[tokio::test]
    async fn bodies_of_callers_and_of_hosts_take_no_room_from_each_other() {
        let bodies = Bodies {
            callers: Room::new(MAX, MAX, SOON, NEVER),
            hosts: Room::new(MAX, MAX, SOON, NEVER),
            ..Bodies::default()
        };
        let largest = || Body::from(vec![7; MAX]);
        let of_caller = bodies.callers.read(largest()).await.unwrap();
        assert_eq!(status(bodies.callers.read(largest()).await), 503);
        let of_host = bodies.read_of_host(&name("m1"), largest()).await.unwrap();
        assert_eq!(status(bodies.read_of_host(&name("m2"), largest()).await), 503);
        drop(of_caller);
        assert_eq!(status(bodies.callers.read(largest()).await), 200, "whatever hosts hold");
        drop(of_host);
    }

    #[tokio::test]
    async fn a_heartbeat_does_not_wait_for_large_bodies_of_other_hosts() {
        let bodies = Bodies { hosts: Room::new(MAX, 0, SOON, NEVER), ..Bodies::default() };
        let body = |bytes| Body::from(vec![7; bytes]);
        assert_eq!(status(bodies.read_of_host(&name("m1"), body(PIECE_BYTES)).await), 200);
        assert_eq!(status(bodies.read_of_host(&name("m1"), body(PIECE_BYTES + 1)).await), 503);
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
