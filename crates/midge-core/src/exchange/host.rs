//! The host's side of the exchange: what to say to the server next, and what to do about its answer.
//!
//! Two requests may be under way. One is *parked*: it says nothing new and waits for the server to. One *speaks*: it
//! carries what ended, and is answered at once. A request that was answered has been heard, so what it carried is
//! forgotten; one that failed is not, so it is said again.
//!
//! What a Machine lacks is not its jobs' fault: a host that lacks something gives back what it cannot run, takes nothing
//! more, finishes what runs and leaves, so that another Machine tries. Where only guests of one module are to be given what
//! is lacking, the host goes on with others, and the server holds that module's jobs.

mod lost;
mod still;
mod told;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use midge_protocol::exchange::{Answer, AttemptRef, Finished, Grant, Outcome, Request, Running, Saved};
use midge_protocol::job::{Progress, Usage};
use midge_protocol::manifest::Wait;
use midge_protocol::{BootId, Timestamp, limits};

pub(crate) use self::lost::GONE_AFTER;
use self::still::Stillness;
use self::told::Left;

/// Log and progress are told at most this often.
const NEWS_EVERY: Duration = Duration::from_secs(1);
/// The same while somebody follows: often enough to look at, and five exchanges a second at most.
const FOLLOWED_NEWS_EVERY: Duration = Duration::from_millis(200);
/// The first wait after a failed exchange, doubled up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// How much longer than it may be parked a request may take, with the largest bodies on a slow network.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a host whose places are all taken, other than the server thinks, asks for nothing more.
const NO_ROOM: Duration = Duration::from_secs(1);
/// How soon a host that may not leave asks again.
const LEAVE_AGAIN: Duration = Duration::from_secs(1);
/// Bytes of results, jobs, logs and progress in one request, so that it stays below the bound of a body with names and numbers.
pub(super) const CARRIED_BYTES_MAX: usize = limits::EXCHANGE_BODY_BYTES_MAX - (4 << 20);
/// The log that one request carries of one attempt that still runs.
const LOG_CHUNK_BYTES_MAX: usize = 64 * 1024;
/// Attempts that are remembered after they ended, for a grant that was on its way meanwhile.
const RECENT_MAX: usize = 4 * limits::PLACES_MAX as usize;

/// The host's side of the exchange. Its times are of any clock that never runs backwards.
#[derive(Debug)]
pub struct HostSide {
    boot: BootId,
    wait: Wait,
    seq: u64,
    attempts: BTreeMap<AttemptRef, Entry>,
    /// Attempts whose ends were heard, each with the last request before that. Who answers a later one knows the end: what it
    /// grants under the same name is of another job, enqueued under the id of one that was deleted.
    recent: VecDeque<(AttemptRef, u64)>,
    flights: Vec<Flight>,
    failures: u32,
    retry_at: Option<Timestamp>,
    heard_at: Option<Timestamp>,
    begun_at: Timestamp,
    /// The time from which nothing runs here: leaving is asked for once the wait has passed since.
    idle_since: Timestamp,
    leave_not_before: Timestamp,
    news_at: Option<Timestamp>,
    has_news: bool,
    /// Whether somebody follows what runs here, by the last answer to a request that spoke.
    followed: bool,
    draining: bool,
    /// What the Machine lacks, in words; nothing where it lacks nothing.
    lacks: Option<String>,
    /// No more jobs before this: it could not begin one that it had asked for.
    no_room_until: Option<Timestamp>,
    stop: Option<StopPlan>,
    still: Stillness,
    left: bool,
}

/// One attempt that the server believes is here.
#[derive(Debug)]
struct Entry {
    /// The report on the attempt, once it has ended.
    finished: Option<Finished>,
    /// How many bytes of its log the server has.
    log_told: u64,
    progress: Option<Progress>,
    /// What the guest saves, until the server has it: the guest waits for that.
    saving: Option<Bytes>,
}

/// A request under way.
#[derive(Debug)]
struct Flight {
    seq: u64,
    kind: Kind,
    ended: Vec<AttemptRef>,
    log: Vec<(AttemptRef, u64)>,
    progress: Vec<(AttemptRef, Progress)>,
    saved: Vec<AttemptRef>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Parked,
    Speaks,
    Leaves,
}

#[derive(Debug, Clone, Copy)]
struct StopPlan {
    asked_at: Timestamp,
    hand_back_at: Timestamp,
    /// Whether what still ran has been stopped.
    is_over: bool,
}

/// What the host is to do next, by [`HostSide`].
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Send this request, within [`ANSWER_TIMEOUT`] beyond the wait that it allows, and tell [`HostSide::answered`] or
    /// [`HostSide::failed`] how it went.
    Send(Box<Request>),
    /// Stop these attempts, to give them back.
    HandBack(Vec<AttemptRef>),
    /// Give up each request that is under way, and the connections too, without a word to [`HostSide`]: this Machine stood
    /// still, and they are likely dead.
    Reconnect,
    /// Nothing, until something happens or this time has come.
    Wait(Option<Timestamp>),
    /// Exit.
    Exit(Departure),
}

/// Whether a host exits in good order, or because it has lost its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// The host left, or was told to stop and gave everything back.
    Left,
    /// The server could not be reached for too long.
    Lost,
}

/// Why a granted attempt could not be begun, each with what is lacked, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotBegun {
    /// Every place was taken. The host asks for no more jobs for a while.
    NoRoom,
    /// The Machine lacks what any job takes. The host leaves.
    Lacks(String),
    /// The Machine lacks what guests of the attempt's module are given, such as a secret. The host goes on with others.
    ModuleLacks(String),
}

/// One thing that a server's answer asks of the host, about one attempt.
#[derive(Debug, PartialEq, Eq)]
pub enum Todo {
    /// Begin this attempt.
    Begin(Box<Grant>),
    /// Stop this attempt: it was cancelled.
    Cancel(AttemptRef),
    /// Forget this attempt: the server knows all about it.
    Forget(AttemptRef),
    /// Let the guest of this attempt go on: the server has what it saved.
    Saved(AttemptRef),
}

impl HostSide {
    /// Makes the side of a host that has just started: nothing runs, and nothing has been said.
    pub fn new(boot: BootId, wait: Wait, now: Timestamp) -> HostSide {
        HostSide {
            boot,
            wait,
            seq: 0,
            attempts: BTreeMap::new(),
            recent: VecDeque::new(),
            flights: Vec::new(),
            failures: 0,
            retry_at: None,
            heard_at: None,
            begun_at: now,
            idle_since: now,
            leave_not_before: now,
            news_at: None,
            has_news: false,
            followed: false,
            draining: false,
            lacks: None,
            no_room_until: None,
            stop: None,
            still: Stillness::default(),
            left: false,
        }
    }

    /// Returns how many attempts run.
    pub fn running(&self) -> usize {
        self.attempts.values().filter(|entry| entry.finished.is_none()).count()
    }

    /// Says what to do next. `room` is how many attempts could begin now, and `log` reads a piece of an attempt's log
    /// by offset and length.
    pub fn next(&mut self, now: Timestamp, room: u32, log: &dyn Fn(AttemptRef, u64, usize) -> Bytes) -> Next {
        if self.still.is_over(now) {
            self.stood_still(now);
        }
        let next = self.next_of_awake(now, room, log);
        self.still.asleep_until(&next);
        next
    }

    fn next_of_awake(
        &mut self,
        now: Timestamp,
        room: u32,
        log: &dyn Fn(AttemptRef, u64, usize) -> Bytes,
    ) -> Next {
        if self.still.is_to_reconnect() {
            return Next::Reconnect;
        }
        if let Some(exit) = self.exit(now) {
            return Next::Exit(exit);
        }
        if let Some(attempts) = self.due_to_hand_back(now) {
            return Next::HandBack(attempts);
        }
        if self.is_under_way(Kind::Speaks) || self.is_under_way(Kind::Leaves) {
            return Next::Wait(self.wake_at(now));
        }
        if [self.retry_at, self.still.ask_at()].into_iter().flatten().any(|at| now < at) {
            return Next::Wait(self.wake_at(now));
        }
        if self.no_room_until.is_some_and(|until| now >= until) {
            // Said at once, since a request that is parked asks for nothing.
            (self.no_room_until, self.has_news, self.news_at) = (None, true, None);
        }
        let room = if self.takes_nothing_more() || self.no_room_until.is_some() { 0 } else { room };
        let kind = if self.has_ended() || self.is_saving() || self.is_news_due(now) {
            Kind::Speaks
        } else if self.is_leaving_due(now) {
            Kind::Leaves
        } else if self.is_under_way(Kind::Parked) {
            return Next::Wait(self.wake_at(now));
        } else {
            Kind::Parked
        };
        Next::Send(Box::new(self.request(kind, room, now, log)))
    }

    /// Takes the server's answer to a request.
    pub fn answered(&mut self, seq: u64, answer: Answer, now: Timestamp) -> Vec<Todo> {
        let mut todos = Vec::new();
        if self.still.gave_up(seq) {
            return todos;
        }
        self.failures = 0;
        self.retry_at = None;
        self.heard_at = Some(now);
        let kind = self.land(seq).map(|flight| self.heard(flight, &mut todos));
        if kind == Some(Kind::Speaks) {
            // Not by one that was parked, which is about what ran long ago.
            self.followed = answer.followed;
        }
        self.draining |= answer.drain;
        self.left |= answer.left;
        let must_go = self.must_go();
        for grant in answer.jobs {
            let attempt = grant.attempt;
            let was_here = self.recent.iter().any(|(ended, last)| *ended == attempt && seq <= *last);
            if was_here || self.attempts.contains_key(&attempt) {
                continue;
            }
            let finished = must_go.then(|| handed_back(attempt, self.lacks.clone()));
            self.attempts.insert(attempt, Entry { finished, log_told: 0, progress: None, saving: None });
            if !must_go {
                todos.push(Todo::Begin(Box::new(grant)));
            }
        }
        let running =
            |attempt: &AttemptRef| self.attempts.get(attempt).is_some_and(|entry| entry.finished.is_none());
        // What a guest saved that has no right to it any more may not have been written.
        todos.retain(|todo| !matches!(todo, Todo::Saved(attempt) if answer.cancel.contains(attempt)));
        todos.extend(answer.cancel.into_iter().filter(running).map(Todo::Cancel));
        let rests = answer.rest && !must_go;
        if kind == Some(Kind::Leaves) {
            self.still.rests(rests, now);
        }
        if kind == Some(Kind::Leaves) && !rests && !self.left && self.attempts.is_empty() {
            // A warm Machine, or one that a job is meant for. One that must go has nothing to stay for.
            self.left = must_go;
            self.idle_since = now;
            self.leave_not_before = now.after(LEAVE_AGAIN);
        }
        todos
    }

    /// Takes note that a request got no answer. `at_once`: it is worth to try again without a wait.
    pub fn failed(&mut self, seq: u64, at_once: bool, now: Timestamp) {
        if self.still.gave_up(seq) {
            return;
        }
        let flight = self.land(seq);
        if let Some(flight) = &flight {
            self.has_news |= !flight.log.is_empty() || !flight.progress.is_empty();
        }
        if at_once && self.failures == 0 {
            self.failures = 1;
            return;
        }
        // A parked one may have failed because it was parked: a goodbye is still worth a try.
        if flight.is_some_and(|flight| flight.kind != Kind::Parked) {
            self.left |= self.has_only_to_go();
        }
        let doubled = RETRY_FIRST.saturating_mul(1 << self.failures.min(10));
        self.retry_at = Some(now.after(doubled.min(RETRY_MAX)));
        self.failures += 1;
    }

    /// Takes the end of an attempt. One that was given back for what the Machine lacks means that the host is to leave.
    pub fn ended(&mut self, finished: Finished, now: Timestamp) {
        if let Outcome::HandedBack { lacks: Some(lacks) } = &finished.outcome {
            self.lacks(lacks.clone());
        }
        if let Some(entry) = self.attempts.get_mut(&finished.attempt) {
            // Who was stopped while it saved does not hear of it.
            (entry.finished, entry.saving) = (Some(finished), None);
        }
        self.idle_since = now;
    }

    /// Takes note that a granted attempt could not be begun, and is to be given back.
    pub fn could_not_begin(&mut self, attempt: AttemptRef, why: NotBegun, now: Timestamp) {
        let finished = match why {
            NotBegun::NoRoom => {
                self.no_room_until = Some(now.after(NO_ROOM));
                handed_back(attempt, None)
            }
            NotBegun::Lacks(what) => {
                self.lacks(what.clone());
                handed_back(attempt, Some(what))
            }
            NotBegun::ModuleLacks(what) => {
                Finished::new(attempt, Outcome::ModuleLacks { what }, Usage::default())
            }
        };
        if let Some(entry) = self.attempts.get_mut(&attempt) {
            entry.finished = Some(finished);
        }
    }

    /// Takes note that the Machine lacks something, in words. From now on the host takes nothing more, finishes what runs,
    /// and leaves, whatever the server says. Returns whether that is new.
    pub fn lacks(&mut self, what: String) -> bool {
        if self.lacks.is_some() {
            return false;
        }
        self.lacks = Some(what);
        // At once, so that the server leases nothing more to us.
        self.has_news = true;
        self.news_at = None;
        true
    }

    /// Takes note that an attempt's log grew or its progress changed.
    pub fn has_news(&mut self, progress: impl IntoIterator<Item = (AttemptRef, Progress)>) {
        self.has_news = true;
        for (attempt, progress) in progress {
            if let Some(entry) = self.attempts.get_mut(&attempt) {
                entry.progress = Some(progress);
            }
        }
    }

    /// Takes what the guest of an attempt saves. It waits until [`Todo::Saved`] says that the server has it.
    pub fn save(&mut self, attempt: AttemptRef, state: Bytes) {
        if let Some(entry) = self.attempts.get_mut(&attempt).filter(|entry| entry.finished.is_none()) {
            entry.saving = Some(state);
        }
    }

    /// Takes the platform's word to stop: what runs may go on for the grace, then it is given back.
    pub fn stop(&mut self, grace: Duration, now: Timestamp) {
        self.still.rests(false, now);
        let plan = StopPlan { asked_at: now, hand_back_at: now.after(grace), is_over: false };
        self.stop.get_or_insert(plan);
        // Nobody is there to say goodbye to.
        self.left |= self.failures > 0 && self.has_only_to_go();
        // At once, so that the server leases nothing more to us.
        self.has_news = true;
        self.news_at = None;
        self.retry_at = None;
    }

    /// Returns whether nothing keeps the host but a goodbye: it was told to stop, and has nothing to run or to report.
    fn has_only_to_go(&self) -> bool {
        self.stop.is_some() && self.attempts.is_empty()
    }

    /// Returns whether the host goes as soon as it can, whatever the server says.
    fn must_go(&self) -> bool {
        self.stop.is_some() || self.lacks.is_some()
    }

    fn takes_nothing_more(&self) -> bool {
        self.draining || self.must_go()
    }

    fn due_to_hand_back(&mut self, now: Timestamp) -> Option<Vec<AttemptRef>> {
        if self.stop.is_none() && self.running() > 0 && now >= self.alone_at() {
            self.stop(Duration::ZERO, now);
        }
        let stop = self.stop.as_mut().filter(|stop| !stop.is_over && now >= stop.hand_back_at)?;
        stop.is_over = true;
        let running = self.attempts.iter().filter(|(_, entry)| entry.finished.is_none());
        let running: Vec<AttemptRef> = running.map(|(attempt, _)| *attempt).collect();
        (!running.is_empty()).then_some(running)
    }

    fn is_under_way(&self, kind: Kind) -> bool {
        self.flights.iter().any(|flight| flight.kind == kind)
    }

    fn has_ended(&self) -> bool {
        self.attempts.values().any(|entry| entry.finished.is_some())
    }

    fn is_saving(&self) -> bool {
        self.attempts.values().any(|entry| entry.saving.is_some())
    }

    /// Returns when log and progress may be told next; nothing where at once.
    fn news_after(&self) -> Option<Timestamp> {
        let every = if self.followed { FOLLOWED_NEWS_EVERY } else { NEWS_EVERY };
        self.news_at.map(|at| at.after(every))
    }

    fn is_news_due(&self, now: Timestamp) -> bool {
        self.has_news && self.news_after().is_none_or(|at| now >= at)
    }

    fn is_leaving_due(&self, now: Timestamp) -> bool {
        if !self.attempts.is_empty() {
            return false;
        }
        if self.takes_nothing_more() {
            return now >= self.leave_not_before;
        }
        // Once asked at least: a host with no time to wait takes the job it was started for.
        self.heard_at.is_some() && self.wait_left(now).is_some_and(|left| left.is_zero())
    }

    /// Returns how long the host still waits for a job; nothing where that is for ever.
    fn wait_left(&self, now: Timestamp) -> Option<Duration> {
        let Wait::Millis(wait) = self.wait else { return None };
        let until = self.idle_since.after(Duration::from_millis(wait)).max(self.leave_not_before);
        Some(until.since(now))
    }

    /// Returns when to look again, if nothing happens before.
    fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        let idle = self.running() == 0;
        let news = self.has_news.then(|| self.news_after().unwrap_or(now));
        let wait_over = self.wait_left(now).filter(|_| idle).map(|left| now.after(left));
        let hand_back = self.stop.filter(|stop| !stop.is_over).map(|stop| stop.hand_back_at);
        let give_up = self.gives_up_at().filter(|_| idle);
        let leave = (self.takes_nothing_more() && idle).then_some(self.leave_not_before);
        let alone = (!idle && self.stop.is_none()).then(|| self.alone_at());
        let lost = idle.then(|| self.lost_at());
        let rest = self.still.ask_at();
        let times = [
            self.retry_at,
            rest,
            self.no_room_until,
            news,
            wait_over,
            hand_back,
            give_up,
            leave,
            alone,
            lost,
        ];
        times.into_iter().flatten().filter(|at| *at > now).min()
    }

    fn request(
        &mut self,
        kind: Kind,
        room: u32,
        now: Timestamp,
        log: &dyn Fn(AttemptRef, u64, usize) -> Bytes,
    ) -> Request {
        self.seq += 1;
        let mut flight = Flight {
            seq: self.seq,
            kind,
            ended: Vec::new(),
            log: Vec::new(),
            progress: Vec::new(),
            saved: Vec::new(),
        };
        let mut request = Request {
            boot: self.boot,
            seq: self.seq,
            room,
            wait_ms: if kind == Kind::Parked { self.park_ms(now) } else { 0 },
            leaving: kind == Kind::Leaves,
            running: Vec::new(),
            finished: Vec::new(),
            log: Vec::new(),
            saved: Vec::new(),
        };
        let mut left = Left::new(CARRIED_BYTES_MAX);
        let speaks = kind == Kind::Speaks;
        for (&attempt, entry) in &self.attempts {
            let told = entry.told(attempt, speaks, &mut left, log);
            flight
                .log
                .extend(told.log.iter().map(|chunk| (attempt, chunk.offset + chunk.bytes.len() as u64)));
            request.log.extend(told.log);
            if let Some(finished) = told.finished {
                request.finished.push(finished);
                flight.ended.push(attempt);
            } else {
                let fits = |progress: &Progress| speaks && left.take(progress.message.len());
                let progress = entry.progress.clone().filter(fits);
                flight.progress.extend(progress.clone().map(|progress| (attempt, progress)));
                request.running.push(Running { attempt, progress });
                let fits = |state: &Bytes| speaks && left.take(state.len());
                if let Some(state) = entry.saving.clone().filter(fits) {
                    request.saved.push(Saved { attempt, state });
                    flight.saved.push(attempt);
                }
            }
        }
        if speaks {
            self.news_at = Some(now);
            // A running attempt's log may be longer than one piece.
            self.has_news =
                left.is_short || request.log.iter().any(|chunk| chunk.bytes.len() == LOG_CHUNK_BYTES_MAX);
        }
        self.flights.push(flight);
        request
    }

    fn park_ms(&self, now: Timestamp) -> u32 {
        let mut longest = limits::HEARTBEAT;
        if self.running() == 0
            && let Some(left) = self.wait_left(now)
        {
            longest = longest.min(left);
        }
        u32::try_from(longest.as_millis()).unwrap_or(u32::MAX)
    }

    fn land(&mut self, seq: u64) -> Option<Flight> {
        let index = self.flights.iter().position(|flight| flight.seq == seq)?;
        Some(self.flights.swap_remove(index))
    }

    /// Forgets what the server has heard.
    fn heard(&mut self, flight: Flight, todos: &mut Vec<Todo>) -> Kind {
        for attempt in flight.ended {
            if self.attempts.remove(&attempt).is_some() {
                todos.push(Todo::Forget(attempt));
                self.recent.push_back((attempt, self.seq));
            }
        }
        self.recent.drain(..self.recent.len().saturating_sub(RECENT_MAX));
        for (attempt, told) in flight.log {
            if let Some(entry) = self.attempts.get_mut(&attempt) {
                entry.log_told = entry.log_told.max(told);
            }
        }
        for (attempt, progress) in flight.progress {
            if let Some(entry) = self.attempts.get_mut(&attempt)
                && entry.progress.as_ref() == Some(&progress)
            {
                entry.progress = None;
            }
        }
        for attempt in flight.saved {
            // One that ended meanwhile waits for nothing.
            if self.attempts.get_mut(&attempt).is_some_and(|entry| entry.saving.take().is_some()) {
                todos.push(Todo::Saved(attempt));
            }
        }
        flight.kind
    }
}

/// What is reported of an attempt that was given back before its guest ran.
fn handed_back(attempt: AttemptRef, lacks: Option<String>) -> Finished {
    Finished::new(attempt, Outcome::HandedBack { lacks }, Usage::default())
}

#[cfg(test)]
mod tests;
