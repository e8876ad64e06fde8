//! Answers the requests of a guest from a recording, in their order.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use midge_protocol::limits::RECORDED_BODY_BYTES_MAX;
use midge_protocol::line::{BODY_FRAME_BYTES_MAX, Failed, Head, Kind, PREFIX_BYTES, Request, Why};
use midge_protocol::recording::{Data, RecordedAnswer, RecordedRequest, Recording};
use midge_protocol::{exchange, shown};

use crate::lines::{Lines, put_frame};
use crate::world::World;

/// The world of an attempt that was recorded, once more; or of one that was not, whose requests have no answer.
pub struct Replay {
    recording: Option<Arc<Recording>>,
    judge: Judge,
    state: Mutex<State>,
}

/// Says why a request is refused before it is made; nothing where it is not.
pub type Judge = Arc<dyn Fn(&Request) -> Option<Failed> + Send + Sync>;

#[derive(Default)]
struct State {
    /// How many requests have begun.
    begun: usize,
    differences: Vec<Difference>,
}

/// How a request differs from the one that was recorded in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which request it is, from 1.
    pub number: usize,
    /// What differs, for people: what it is now, and what was recorded.
    pub words: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request {} {}", self.number, self.words)
    }
}

impl Replay {
    /// Takes what was recorded, if anything was, and who judges requests by what their module may reach now.
    pub fn new(recording: Option<Recording>, judge: Judge) -> Arc<Replay> {
        Arc::new(Replay { recording: recording.map(Arc::new), judge, state: Mutex::default() })
    }

    /// Returns where the attempt has its time and its randomness from.
    pub fn world(&self) -> World {
        self.recording.as_ref().map_or(World::Real, |recording| World::Replayed(Arc::clone(recording)))
    }

    /// Returns the lines of one attempt: at their other ends the answers come from the recording, in the order of the requests.
    ///
    /// A request that differs from the one that was recorded has no answer, and neither has one more than were. To the guest
    /// both are what a Machine lacks, so that an attempt that does not survive them is given back. One that its module may
    /// not make now is refused, whatever was recorded; and one that was refused and may be made now has no answer.
    pub fn lines(self: &Arc<Replay>) -> Arc<Lines> {
        let replay = Arc::clone(self);
        Arc::new(Lines::for_one_request_each(move || {
            let (ours, theirs) = UnixStream::pair()?;
            let at = replay.begin();
            let replay = Arc::clone(&replay);
            let thread = thread::Builder::new().name(format!("answer-{}", at + 1));
            // It ends with its line, which the guest's end takes with it.
            thread.spawn(move || drop(replay.answer(at, End(theirs))))?;
            Ok(ours)
        }))
    }

    /// Returns how requests differed from those that were recorded, in their order.
    pub fn differences(&self) -> Vec<Difference> {
        let mut differences = self.state().differences.clone();
        differences.sort_by_key(|difference| difference.number);
        differences
    }

    /// Returns how many requests were made, and how many were recorded.
    pub fn requests(&self) -> (usize, usize) {
        (self.state().begun, self.recorded().len())
    }

    fn recorded(&self) -> &[RecordedRequest] {
        self.recording.as_ref().map_or(&[], |recording| &recording.requests)
    }

    fn begin(&self) -> usize {
        let mut state = self.state();
        state.begun += 1;
        state.begun - 1
    }

    fn answer(&self, at: usize, mut end: End) -> io::Result<()> {
        let (request, body) = end.request()?;
        if let Some(refused) = (self.judge)(&request) {
            return end.fails(&refused);
        }
        let Some(recorded) = self.recorded().get(at) else {
            return end.fails(&self.differs(self.one_more(at, &request)));
        };
        if let Some(difference) = difference(at + 1, recorded, &request, &body) {
            return end.fails(&self.differs(difference));
        }
        if recorded.failed.as_ref().is_some_and(|failed| failed.why == Why::NotAllowed) {
            return end.fails(&self.differs(allowed_now(at + 1, &request)));
        }
        let mut said = Vec::new();
        if let Some(answer) = &recorded.answer {
            let headers = answer.headers.iter().map(|(name, Data(value))| (name.clone(), value.clone()));
            let RecordedAnswer { status, url, .. } = answer;
            let head = Head { status: *status, url: url.clone(), headers: headers.collect() };
            put_frame(&mut said, Kind::Head, &exchange::encode(&head));
            let Data(body) = &answer.body;
            body.chunks(BODY_FRAME_BYTES_MAX).for_each(|piece| put_frame(&mut said, Kind::Body, piece));
        }
        match (&recorded.answer, &recorded.failed) {
            (Some(answer), _) if answer.is_whole() => put_frame(&mut said, Kind::End, &[]),
            (_, Some(failed)) if recorded.answer.as_ref().is_none_or(is_kept) => {
                put_frame(&mut said, Kind::Failed, &exchange::encode(failed));
            }
            (None, None) if recorded.ended_us.is_none() => {
                // It had no answer when its attempt ended, and has none now: until the guest is stopped, or gives it up.
                return end.0.read(&mut [0]).map(drop);
            }
            _ => {
                let failed = Failed { why: Why::Lacks, message: not_recorded(at + 1, recorded) };
                put_frame(&mut said, Kind::Failed, &exchange::encode(&failed));
            }
        }
        end.0.write_all(&said)
    }

    fn one_more(&self, at: usize, request: &Request) -> Difference {
        let words = match &self.recording {
            None => "is made, and nothing was recorded".to_owned(),
            Some(recording) if recording.cut => {
                "is beyond what was recorded, which went over a bound".to_owned()
            }
            Some(recording) if recording.requests.is_empty() => "is new: there it made none".to_owned(),
            Some(recording) => format!("is new: there it made {}", recording.requests.len()),
        };
        Difference { number: at + 1, words: format!("({}) {words}", line(request)) }
    }

    /// Keeps a difference, and returns what the guest is told of it.
    fn differs(&self, difference: Difference) -> Failed {
        let message = format!("an answer in the recording: {difference}");
        self.state().differences.push(difference);
        Failed { why: Why::Lacks, message }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a request's method and URL, for people.
fn line(request: &Request) -> String {
    shown::cut(&format!("{} {}", request.method, request.url))
}

/// Says what of the answer to a request is not in the recording.
fn not_recorded(number: usize, request: &RecordedRequest) -> String {
    let Some(answer) = &request.answer else {
        return format!("the answer to request {number}: the recording has none");
    };
    let (kept, read) = (answer.body.0.len(), answer.body_bytes);
    match is_kept(answer) {
        true => format!("the rest of the answer to request {number}: there {read} bytes were read of it"),
        false => {
            format!("the rest of the answer to request {number}: the recording has {kept} bytes of {read}")
        }
    }
}

fn allowed_now(number: usize, request: &Request) -> Difference {
    Difference { number, words: format!("({}) was refused there, and is allowed now", line(request)) }
}

/// Returns whether all that was read of a body is kept.
fn is_kept(answer: &RecordedAnswer) -> bool {
    answer.body.0.len() as u64 == answer.body_bytes
}

/// A body of a request: its beginning, and how many bytes it has.
#[derive(Default)]
struct Body {
    first: Vec<u8>,
    bytes: u64,
}

/// Finds how a request differs from one that was recorded.
fn difference(
    number: usize,
    recorded: &RecordedRequest,
    request: &Request,
    body: &Body,
) -> Option<Difference> {
    let differs = |what: &str, recorded: &str, now: &str| {
        let [now, recorded] = [now, recorded].map(shown::cut);
        let words = format!("is not the one that was made there: {what} is `{now}`, and was `{recorded}`");
        Some(Difference { number, words })
    };
    if recorded.method != request.method {
        return differs("its method", &recorded.method, &request.method);
    }
    if recorded.url != request.url {
        return differs("its URL", &recorded.url, &request.url);
    }
    if recorded.redirects != request.redirects {
        let [recorded, now] = [recorded.redirects, request.redirects].map(|number| number.to_string());
        return differs("the number of redirects that it follows", &recorded, &now);
    }
    let now: Vec<String> = request.headers.iter().map(|(name, value)| header(name, value)).collect();
    let then: Vec<String> = recorded.headers.iter().map(|(name, Data(value))| header(name, value)).collect();
    let longest = now.len().max(then.len());
    for at in 0..longest {
        let [then, now] = [&then, &now].map(|headers| headers.get(at).map_or("nothing", String::as_str));
        if then != now {
            return differs("one of its headers", then, now);
        }
    }
    let Data(kept) = &recorded.body;
    let is_same = recorded.body_bytes == body.bytes && body.first.starts_with(kept);
    if is_same { None } else { differs("its body", &text(kept), &text(&body.first)) }
}

fn header(name: &str, value: &[u8]) -> String {
    format!("{name}: {}", text(value))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The other end of a guest's line.
struct End(UnixStream);

impl End {
    /// Reads a request with its body.
    fn request(&mut self) -> io::Result<(Request, Body)> {
        let (Kind::Request, head) = self.frame()? else { return Err(io::ErrorKind::InvalidData.into()) };
        let request = exchange::decode(&head).map_err(io::Error::other)?;
        let mut body = Body::default();
        loop {
            match self.frame()? {
                (Kind::Body, piece) => {
                    body.bytes += piece.len() as u64;
                    let room = RECORDED_BODY_BYTES_MAX - body.first.len();
                    body.first.extend_from_slice(&piece[..piece.len().min(room)]);
                }
                (Kind::End, _) => return Ok((request, body)),
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }

    fn frame(&mut self) -> io::Result<(Kind, Vec<u8>)> {
        let mut prefix = [0; PREFIX_BYTES];
        self.0.read_exact(&mut prefix)?;
        let (kind, length) = Kind::of_prefix(prefix).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes)?;
        Ok((kind, bytes))
    }

    fn fails(&mut self, failed: &Failed) -> io::Result<()> {
        let mut said = Vec::new();
        put_frame(&mut said, Kind::Failed, &exchange::encode(failed));
        self.0.write_all(&said)
    }
}
