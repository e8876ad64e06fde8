//! Who is connected: each connection's phase, whose it is, and which one gives way to another.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;

use crate::limits::ConnectionLimits;

/// For so many connections that there may be, one more may be about to close.
const CLOSING_SHARE: usize = 8;

/// Who has shown a right on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// Whoever may use the API.
    Caller,
    /// The host in a Machine, by a text that no other host has.
    Host(Arc<str>),
}

/// There are as many connections of a kind as there may be, and none of them is idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooMany {
    /// All callers together have as many as they may.
    #[error("too many callers are being answered: try again in a second")]
    Callers,
    /// All hosts together have as many as they may.
    #[error("too many hosts are being answered: try again in a second")]
    Hosts,
    /// This one host has as many as one may have.
    #[error(
        "this Machine's host has {0} connections already, as many as one may have, and all are being answered"
    )]
    OfTheHost(usize),
}

/// How many connections there are, and what has become of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Connections that have shown no right so far.
    pub strangers: usize,
    /// Connections of callers.
    pub callers: usize,
    /// Connections of hosts.
    pub hosts: usize,
    /// Connections that were closed because others needed the room.
    pub gave_way: u64,
    /// Connections and requests that were refused because nobody could give way.
    pub refused: u64,
    /// Connections that were closed because they stood still.
    pub stood_still: u64,
}

/// All connections of a listener. Cloning it is cheap and gives another handle to the same.
#[derive(Debug, Clone)]
pub struct Connections {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limits: ConnectionLimits,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// The number of the newest: they rise, so that each map begins with its oldest.
    newest: u64,
    strangers: Kept,
    callers: Kept,
    hosts: Kept,
    /// Those that gave way and whose tasks have not heard of it yet: their descriptors are still open.
    closing: Kept,
    counts: Counts,
}

/// Connections of one kind, the oldest first.
type Kept = BTreeMap<u64, Owned>;

/// A connection's state, and whose it is.
#[derive(Debug, Clone)]
struct Owned {
    entry: Arc<Entry>,
    /// Nobody's that is known, in a stranger's.
    peer: Option<Peer>,
}

impl Connections {
    /// Returns an empty set of connections under these limits.
    pub fn new(limits: ConnectionLimits) -> Connections {
        Connections { shared: Arc::new(Shared { limits, open: Mutex::default() }) }
    }

    /// Returns how many connections there are now.
    pub fn counts(&self) -> Counts {
        let open = self.shared.open();
        let (strangers, callers, hosts) = (open.strangers.len(), open.callers.len(), open.hosts.len());
        Counts { strangers, callers, hosts, ..open.counts }
    }

    pub(crate) fn limits(&self) -> &ConnectionLimits {
        &self.shared.limits
    }

    /// Takes in a new connection, as a stranger's. Another may have to give way; where none can, there is no room.
    pub(crate) fn admit(&self) -> Option<Connection> {
        let limits = &self.shared.limits;
        let mut open = self.shared.open();
        if open.strangers.len() >= limits.strangers {
            open.close_a_stranger();
        }
        if open.len() >= limits.connections && !open.make_room() {
            open.counts.refused += 1;
            return None;
        }
        open.newest += 1;
        let id = open.newest;
        let entry = Arc::new(Entry::new());
        open.strangers.insert(id, Owned { entry: entry.clone(), peer: None });
        Some(Connection { place: Arc::new(Place { id, entry, shared: self.shared.clone() }) })
    }

    /// Returns whether so many that gave way are still open that no more may have to, for now.
    pub(crate) fn are_closing(&self) -> bool {
        self.shared.open().closing.len() >= self.shared.limits.connections.div_ceil(CLOSING_SHARE)
    }

    /// Closes a connection that is idle, if there is one.
    pub(crate) fn make_room(&self) -> bool {
        self.shared.open().make_room()
    }

    /// Has every connection end as soon as it is not being answered.
    pub(crate) fn stop(&self) {
        let open = self.shared.open();
        for owned in open.strangers.values().chain(open.callers.values()).chain(open.hosts.values()) {
            owned.entry.stopping.store(true, Ordering::Release);
            owned.entry.waker.wake();
        }
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().expect("nobody panics with the connections in hand")
    }
}

impl Open {
    fn len(&self) -> usize {
        self.strangers.len() + self.callers.len() + self.hosts.len()
    }

    /// Closes a connection that nobody misses much: a stranger's, else a kept one that is idle.
    fn make_room(&mut self) -> bool {
        self.close_a_stranger()
            || self.close(|open| &mut open.callers, Owned::is_idle)
            || self.close(|open| &mut open.hosts, Owned::is_idle)
    }

    fn close_a_stranger(&mut self) -> bool {
        self.close(|open| &mut open.strangers, |owned| !owned.entry.is_answered())
    }

    /// Makes room for a connection of a peer's, which is none of its kind yet. An idle one of that kind may have to give
    /// way.
    fn make_room_for(&mut self, peer: &Peer, limits: &ConnectionLimits) -> Result<(), TooMany> {
        match peer {
            Peer::Caller => self
                .make_room_among(|open| &mut open.callers, limits.callers, |_| true)
                .then_some(())
                .ok_or(TooMany::Callers),
            Peer::Host(_) => {
                let is_its = |owned: &Owned| owned.peer.as_ref() == Some(peer);
                if !self.make_room_among(|open| &mut open.hosts, limits.of_a_host, is_its) {
                    return Err(TooMany::OfTheHost(limits.of_a_host));
                }
                let any = |_: &Owned| true;
                let has_room = self.make_room_among(|open| &mut open.hosts, limits.hosts, any);
                has_room.then_some(()).ok_or(TooMany::Hosts)
            }
        }
    }

    /// Sees to it that fewer than `max` connections are such. Returns whether that is so.
    fn make_room_among(
        &mut self,
        of: impl Fn(&mut Open) -> &mut Kept,
        max: usize,
        such: impl Fn(&Owned) -> bool,
    ) -> bool {
        let count = of(self).values().filter(|owned| such(owned)).count();
        count < max || self.close(of, |owned| such(owned) && owned.is_idle())
    }

    /// Closes the oldest of some connections of which `may` holds. It counts no more from here on.
    fn close(&mut self, of: impl Fn(&mut Open) -> &mut Kept, may: impl Fn(&Owned) -> bool) -> bool {
        let oldest = of(self).iter().find(|(_, owned)| may(owned)).map(|(id, _)| *id);
        let Some((id, owned)) = oldest.and_then(|id| of(self).remove_entry(&id)) else { return false };
        owned.entry.closed.store(true, Ordering::Release);
        owned.entry.waker.wake();
        self.put(id, owned);
        self.counts.gave_way += 1;
        true
    }

    /// Returns the connections of a peer's kind.
    fn of(&self, peer: &Peer) -> &Kept {
        match peer {
            Peer::Caller => &self.callers,
            Peer::Host(_) => &self.hosts,
        }
    }

    /// Takes a connection out, to be put in where it belongs.
    fn take(&mut self, id: u64) -> Option<Owned> {
        let Open { strangers, callers, hosts, closing, .. } = self;
        [strangers, callers, hosts, closing].into_iter().find_map(|kept| kept.remove(&id))
    }

    fn put(&mut self, id: u64, owned: Owned) {
        let kept = match &owned.peer {
            _ if owned.entry.is_closed() => &mut self.closing,
            None => &mut self.strangers,
            Some(Peer::Caller) => &mut self.callers,
            Some(Peer::Host(_)) => &mut self.hosts,
        };
        kept.insert(id, owned);
    }
}

impl Owned {
    fn is_idle(&self) -> bool {
        self.entry.phase() == Phase::Idle
    }
}

/// One connection, as whoever answers a request on it sees it: an extension of the request.
#[derive(Debug, Clone)]
pub struct Connection {
    place: Arc<Place>,
}

#[derive(Debug)]
struct Place {
    id: u64,
    entry: Arc<Entry>,
    shared: Arc<Shared>,
}

impl Connection {
    /// Says whose the connection is from now on: whoever sent the request has shown a right. A proxy may send requests of
    /// many over one.
    ///
    /// # Errors
    /// [`TooMany`] where there are as many connections as there may be of such a peer's, and none of them is idle. The
    /// request is to be refused.
    pub fn belongs_to(&self, peer: &Peer) -> Result<(), TooMany> {
        let Place { id, shared, .. } = &*self.place;
        let mut open = shared.open();
        if open.of(peer).get(id).is_some_and(|owned| owned.peer.as_ref() == Some(peer)) {
            return Ok(());
        }
        let Some(owned) = open.take(*id) else { return Ok(()) };
        if let Err(too_many) = open.make_room_for(peer, &shared.limits) {
            open.counts.refused += 1;
            open.put(*id, owned);
            return Err(too_many);
        }
        // One that was to give way just when its request had come has shown that it need not.
        owned.entry.closed.store(false, Ordering::Release);
        owned.entry.is_known.store(true, Ordering::Relaxed);
        open.put(*id, Owned { peer: Some(peer.clone()), ..owned });
        Ok(())
    }

    /// Returns whose the connection is, if that has been said.
    pub fn peer(&self) -> Option<Peer> {
        let Place { id, shared, .. } = &*self.place;
        let open = shared.open();
        let Open { strangers, callers, hosts, closing, .. } = &*open;
        [strangers, callers, hosts, closing].into_iter().find_map(|kept| kept.get(id)?.peer.clone())
    }

    /// Returns whether the listener stops, and waits for what is being answered: an answer without an end of its own ends
    /// now. Whoever makes its body is asked for more when this becomes so.
    pub fn is_stopping(&self) -> bool {
        self.place.entry.is_stopping()
    }

    pub(crate) fn entry(&self) -> &Arc<Entry> {
        &self.place.entry
    }

    pub(crate) fn stood_still(&self) {
        self.place.shared.open().counts.stood_still += 1;
    }

    pub(crate) fn limits(&self) -> &ConnectionLimits {
        &self.place.shared.limits
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.open().take(self.id);
    }
}

/// What a connection does just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Waits for a request, of which nothing has come.
    Idle,
    /// Part of the head of a request has come.
    Head,
    /// A request is with the routes, or its answer is.
    Answering,
    /// The answer has left the routes and not yet the process.
    Sending,
    /// A client that was refused still sends.
    Lingering,
}

impl Phase {
    const ALL: [Phase; 5] = [Phase::Idle, Phase::Head, Phase::Answering, Phase::Sending, Phase::Lingering];
}

/// A connection's state, which its task writes and whoever needs room reads.
#[derive(Debug)]
pub(crate) struct Entry {
    began: Instant,
    /// The phase, in the lowest byte, and above it the millisecond in which the phase began.
    phase: AtomicU64,
    /// The millisecond from which the receiver has not taken what is sent, and 1; 0 where it takes it.
    stuck: AtomicU64,
    /// Whether a request was answered that had not come as a whole.
    unread: AtomicBool,
    /// Whether somebody has shown a right on it.
    is_known: AtomicBool,
    stopping: AtomicBool,
    closed: AtomicBool,
    waker: AtomicWaker,
}

impl Entry {
    fn new() -> Entry {
        Entry {
            began: Instant::now(),
            phase: AtomicU64::new(0),
            stuck: AtomicU64::new(0),
            unread: AtomicBool::new(false),
            is_known: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }
    }

    fn millis(&self) -> u64 {
        // A connection of half a billion years does not come.
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn phase(&self) -> Phase {
        Phase::ALL[(self.phase.load(Ordering::Relaxed) & 0xff) as usize]
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(self.millis() << 8 | phase as u64, Ordering::Relaxed);
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.phase() == Phase::Answering
    }

    /// Notes whether the receiver takes what is sent.
    pub(crate) fn sends(&self, moves: bool) {
        if moves {
            self.stuck.store(0, Ordering::Relaxed);
        } else if self.stuck.load(Ordering::Relaxed) == 0 {
            self.stuck.store(self.millis() + 1, Ordering::Relaxed);
        }
    }

    pub(crate) fn leave_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    /// Returns when the connection has stood still for too long, if nothing changes.
    pub(crate) fn due(&self, limits: &ConnectionLimits) -> Option<Instant> {
        let since = self.phase.load(Ordering::Relaxed) >> 8;
        let after = |millis: u64, limit: Duration| self.began + Duration::from_millis(millis) + limit;
        let phase = match self.phase() {
            Phase::Idle if self.is_known.load(Ordering::Relaxed) => Some(after(since, limits.idle)),
            Phase::Idle | Phase::Head => Some(after(since, limits.head)),
            Phase::Answering | Phase::Sending => None,
            Phase::Lingering => Some(after(since, limits.linger)),
        };
        let stuck = self.stuck.load(Ordering::Relaxed).checked_sub(1).map(|since| after(since, limits.still));
        phase.into_iter().chain(stuck).min()
    }

    pub(crate) fn listens(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections() -> Connections {
        let limits = ConnectionLimits {
            connections: 6,
            callers: 3,
            strangers: 2,
            hosts: 4,
            of_a_host: 2,
            ..ConnectionLimits::of(6)
        };
        Connections::new(limits)
    }

    fn asked(connections: &Connections) -> Connection {
        let connection = connections.admit().unwrap();
        connection.entry().enter(Phase::Answering);
        connection
    }

    fn of(connections: &Connections, peer: &Peer) -> Connection {
        let connection = asked(connections);
        connection.belongs_to(peer).unwrap();
        connection
    }

    fn host(name: &str) -> Peer {
        Peer::Host(name.into())
    }

    #[test]
    fn the_oldest_stranger_gives_way_to_a_new_one() {
        let all = connections();
        let three: Vec<Connection> = (0..3).map(|_| all.admit().unwrap()).collect();
        let closed: Vec<bool> = three.iter().map(|one| one.entry().is_closed()).collect();
        assert_eq!(closed, [true, false, false]);
        assert_eq!((all.counts().strangers, all.counts().gave_way), (2, 1));
        drop(three);
        assert_eq!(all.counts().strangers, 0);
    }

    #[test]
    fn no_further_one_is_accepted_while_those_that_gave_way_still_have_their_descriptors() {
        let all = connections();
        let mut three: Vec<Connection> = (0..3).map(|_| all.admit().unwrap()).collect();
        assert!(all.are_closing());
        three.remove(0);
        assert!(!all.are_closing());
    }

    #[test]
    fn who_shows_a_right_just_when_it_was_to_give_way_keeps_its_connection() {
        let all = connections();
        let three: Vec<Connection> = (0..3).map(|_| all.admit().unwrap()).collect();
        three[0].entry().enter(Phase::Answering);
        three[0].belongs_to(&host("m")).unwrap();
        assert!(!three[0].entry().is_closed() && !all.are_closing());
        assert_eq!((all.counts().strangers, all.counts().hosts), (2, 1));
    }

    #[test]
    fn a_stranger_that_is_being_answered_does_not_give_way() {
        let all = connections();
        let first = all.admit().unwrap();
        first.entry().enter(Phase::Answering);
        let second = all.admit().unwrap();
        let _third = all.admit().unwrap();
        assert_eq!((first.entry().is_closed(), second.entry().is_closed()), (false, true));
    }

    #[test]
    fn callers_cannot_take_what_is_kept_for_hosts() {
        let all = connections();
        let callers: Vec<Connection> = (0..3).map(|_| of(&all, &Peer::Caller)).collect();
        let fourth = all.admit().unwrap();
        assert_eq!(fourth.belongs_to(&Peer::Caller), Err(TooMany::Callers));
        drop(fourth);
        let _hosts: Vec<Connection> = ["m1", "m2", "m3"].map(|name| of(&all, &host(name))).into();
        assert_eq!((all.counts().callers, all.counts().hosts, all.counts().refused), (3, 3, 1));
        // All are being answered: nobody gives way.
        assert!(all.admit().is_none());
        callers[1].entry().enter(Phase::Idle);
        assert!(all.admit().is_some() && callers[1].entry().is_closed());
    }

    #[test]
    fn an_idle_caller_gives_way_to_one_that_asks() {
        let all = connections();
        let callers: Vec<Connection> = (0..3).map(|_| of(&all, &Peer::Caller)).collect();
        callers[2].entry().enter(Phase::Idle);
        let _fourth = of(&all, &Peer::Caller);
        assert!(callers[2].entry().is_closed());
        assert_eq!(all.counts().callers, 3);
    }

    #[test]
    fn one_host_has_no_more_than_its_share_and_its_own_idle_one_gives_way_to_it() {
        let all = connections();
        let two = ["m1", "m1"].map(|name| of(&all, &host(name)));
        let third = asked(&all);
        assert_eq!(third.belongs_to(&host("m1")), Err(TooMany::OfTheHost(2)));
        assert_eq!((all.counts().hosts, all.counts().strangers, third.peer()), (2, 1, None));
        let _other = of(&all, &host("m2"));
        two[1].entry().enter(Phase::Idle);
        third.belongs_to(&host("m1")).unwrap();
        assert_eq!((two[0].entry().is_closed(), two[1].entry().is_closed()), (false, true));
        assert_eq!(all.counts().hosts, 3);
        // Each one that ends makes room for another.
        drop(two);
        let _fourth = of(&all, &host("m1"));
        assert_eq!(asked(&all).belongs_to(&host("m1")), Err(TooMany::OfTheHost(2)));
    }

    #[test]
    fn hosts_cannot_take_what_is_kept_for_callers() {
        let all = connections();
        let hosts = ["m1", "m2", "m3", "m4"].map(|name| of(&all, &host(name)));
        assert_eq!(asked(&all).belongs_to(&host("m5")), Err(TooMany::Hosts));
        let _callers = [(); 2].map(|()| of(&all, &Peer::Caller));
        assert_eq!((all.counts().callers, all.counts().hosts), (2, 4));
        hosts[3].entry().enter(Phase::Idle);
        let _fifth = of(&all, &host("m5"));
        assert!(hosts[3].entry().is_closed());
    }

    #[test]
    fn a_connection_counts_for_whoever_asked_last_on_it() {
        let all = connections();
        let proxy = ["m1", "m1"].map(|name| of(&all, &host(name)));
        proxy[0].belongs_to(&host("m2")).unwrap();
        assert_eq!(proxy[0].peer(), Some(host("m2")));
        let _another = of(&all, &host("m1"));
        assert_eq!(proxy[0].belongs_to(&host("m1")), Err(TooMany::OfTheHost(2)));
        assert_eq!(proxy[0].peer(), Some(host("m2")));
        proxy[1].belongs_to(&Peer::Caller).unwrap();
        assert_eq!((all.counts().callers, all.counts().hosts), (1, 2));
    }

    #[test]
    fn a_request_that_is_being_answered_has_no_time_limit() {
        let all = connections();
        let connection = all.admit().unwrap();
        let entry = connection.entry();
        assert!(entry.due(all.limits()).is_some(), "a stranger says something soon");
        entry.enter(Phase::Answering);
        assert_eq!(entry.due(all.limits()), None);
        entry.sends(false);
        assert!(entry.due(all.limits()).is_some(), "its receiver takes what is sent");
        entry.sends(true);
        assert_eq!(entry.due(all.limits()), None);
    }
}
